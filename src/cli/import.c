/* qtape import: a model of another program as a run directory. */
#include "cli/command.h"
#include "export/import.h"
#include <string.h>

static const qt_option options[] = {{"arch", 0, "NAME", "the architecture of a safetensors file, which does not say it: llama"},
                                    {"out", 'o', "DIR", "the run directory to make (default: runs/ and the file's name)"},
                                    QT_OPTION_THREADS,
                                    {0}};

/* runs/model of a/model.gguf */
static char *default_dir(const char *file)
{
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file, *dot = strrchr(name, '.');
    return qt_sprintf("runs/%.*s", dot && dot > name ? (int)(dot - name) : (int)strlen(name), name);
}

static bool is_safetensors(const char *file)
{
    const char *dot = strrchr(file, '.');
    return dot && !strcmp(dot, ".safetensors");
}

static qt_err import_into(const qt_args *a, const char *dir)
{
    const qt_sets sets = {a->n - 1, a->word + 1};
    const char   *file = a->word[0], *arch = qt_arg(&qt_command_import, a, "arch");
    QT_CHECK(!arch || !strcmp(arch, "llama"), QT_EUSAGE, "import: --arch '%s' is not known; llama is", arch);
    if (arch) return qt_import_safetensors(file, dir, sets);
    QT_CHECK(!is_safetensors(file), QT_EUSAGE, "import: %s does not say its architecture; add --arch llama", file);
    return qt_import_gguf(file, dir, sets);
}

static qt_err run(const qt_args *a)
{
    const char *out = qt_arg(&qt_command_import, a, "out");
    char       *dir = out ? qt_strdup(out) : default_dir(a->word[0]);
    if (!dir) return QT_EMEM;
    qt_err e = import_into(a, dir);
    if (e == QT_OK) printf("%s\n", dir);
    qt_free(dir);
    return e;
}

const qt_command qt_command_import = {
    {"import", "make a run directory of a GGUF or safetensors file"},
    "FILE.gguf|FILE.safetensors [--arch llama] [-o DIR] [key=value ...] [~key ...]",
    "GGUF: reads models of the architectures llama and bitnet with weights in F32, F16, BF16, Q8_0, Q4_0, TQ1_0, TQ2_0, Q2_0 or Q1_0, and a tokenizer of bytes\n"
    "or of merges of them. Codes and scales are kept exactly, so that exporting the directory gives the same tensors again. It can be evaluated, generate text,\n"
    "and be the `init` of a recipe, with adapters or without; its recipe.yaml holds the sections `model` and `quant` for that. Further words change this\n"
    "recipe, as in `qtape train`; ~quant keeps all weights as floats. The path is printed.\n\n"
    "safetensors: reads a Llama of Hugging Face's transformers in F32, F16 or BF16, all in one file, with config.json beside it. Without config.json sizes are\n"
    "taken from the tensors, and model.n_head (with model.n_kv_head, model.norm_eps, model.rope_base where they are not the defaults) must be given. The\n"
    "tokenizer is not read: tokens are bytes, or data.tokens=FILE.bpe has the ids.\n\n"
    "  qtape import base.gguf -o runs/base data.path=corpus.txt\n"
    "  qtape import model.safetensors --arch llama -o runs/base\n"
    "  qtape generate runs/base --prompt 'In the beginning'",
    options, 1, -1, run};
