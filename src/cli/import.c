/* qtape import: a model of another program as a run directory. */
#include "cli/command.h"
#include "export/import.h"
#include <string.h>

static const qt_option options[] = {{"out", 'o', "DIR", "the run directory to make"}, QT_OPTION_THREADS, {0}};

static qt_err run(const qt_args *a)
{
    const char *dir = qt_arg(&qt_command_import, a, "out");
    QT_CHECK(dir, QT_EUSAGE, "import: option '--out' is missing: the run directory to make");
    QT_TRY(qt_import_gguf(a->word[0], dir, (qt_sets){a->n - 1, a->word + 1}));
    printf("%s\n", dir);
    return QT_OK;
}

const qt_command qt_command_import = {
    {"import", "make a run directory of a GGUF file"},
    "FILE.gguf -o DIR [key=value ...] [~key ...]",
    "Reads models of the architectures llama and bitnet with weights in F32, F16, BF16, Q8_0, Q4_0, TQ1_0, TQ2_0, Q2_0 or Q1_0, and a tokenizer of bytes\n"
    "or of merges of them. Codes and scales are kept exactly, so that exporting the directory gives the same tensors again. It can be evaluated, generate text,\n"
    "and be the `init` of a recipe, with adapters or without; its recipe.yaml holds the sections `model` and `quant` for that. Further words change this\n"
    "recipe, as in `qtape train`; ~quant keeps all weights as floats. The path is printed.\n\n"
    "  qtape import base.gguf -o runs/base data.path=corpus.txt\n"
    "  qtape generate runs/base --prompt 'In the beginning'",
    options, 1, -1, run};
