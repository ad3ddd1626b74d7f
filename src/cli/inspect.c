/* qtape inspect: what is in a file. A checkpoint of qtape, an exported model, HDF5 from elsewhere, GGUF, safetensors, or a run directory. */
#include "base/h5.h"
#include "cli/command.h"
#include "cli/tensors.h"
#include "export/engine.h"
#include "kernels/reduce.h"
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

static const qt_option options[] = {{"json", 0, NULL, "machine-readable: JSON on standard output, of GGUF and safetensors files"}, {0}};

/* ---- HDF5 ------------------------------------------------------------------------------------------------------------------------ */

static const char *shape_text(char text[static 160], int rank, const int64_t *dim)
{
    size_t n = (size_t)snprintf(text, 160, "[");
    for (int i = 0; i < rank; i++) n += (size_t)snprintf(text + n, 160 - n, "%s%lld", i ? ", " : "", (long long)dim[i]);
    snprintf(text + n, 160 - n, "]");
    return text;
}

static qt_err print_numbers(qt_h5 *f, const char *name, int64_t n)
{
    R  lo, hi;
    R *x = qt_alloc((size_t)n * sizeof *x);
    if (!x) return QT_EMEM;
    qt_err e = qt_h5_read(f, name, n, x);
    if (e == QT_OK && n == 1) printf("%g", (double)x[0]);
    if (e == QT_OK && n > 1) {
        qt_reduce_min_max(x, n, &lo, &hi);
        printf("min %.4g  max %.4g  mean %.4g", (double)lo, (double)hi, qt_reduce_sum(x, n) / (double)n);
    }
    qt_free(x);
    return e;
}

static int64_t size_of(int rank, const int64_t *dim)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dim[i];
    return n;
}

static qt_err print_set(void *file, const char *name, int rank, const int64_t *dim, const char *type)
{
    char text[160];
    printf("  %-36s %-18s %-9s ", name, shape_text(text, rank, dim), type);
    qt_err e = strncmp(type, "string", 6) ? print_numbers(file, name, size_of(rank, dim)) : QT_OK;
    putchar('\n');
    return e;
}

/* A parameter of a checkpoint: `name` is below params/, its kind the first number of manifest/NAME. */
static qt_err print_param(void *file, const char *name, int rank, const int64_t *dim, const char *type)
{
    static const char *const kind[] = {"weight", "bias", "norm", "quant", "buffer"};
    char                     manifest[512], text[160];
    int32_t                  m[2 + QT_MAX_DIM];
    (void)type;
    name += !strncmp(name, "params/", 7) ? 7 : 0;
    snprintf(manifest, sizeof manifest, "manifest/%s", name);
    QT_TRY(qt_h5_read_ids(file, manifest, 2 + rank, m));
    printf("  %-36s %-18s %-7s %-7s ", name, shape_text(text, rank, dim), m[0] >= 0 && m[0] <= QT_BUFFER ? kind[m[0]] : "?", m[1] ? "frozen" : "");
    snprintf(manifest, sizeof manifest, "params/%s", name);
    qt_err e = print_numbers(file, manifest, size_of(rank, dim));
    putchar('\n');
    return e;
}

static qt_err inspect_h5(const char *file, bool own)
{
    qt_h5  *f;
    int64_t step = 0;
    QT_TRY(own ? qt_ckpt_verify(file) : qt_h5_vet(file));
    QT_TRY(qt_h5_open(file, &f));
    qt_err e = own ? qt_h5_get_int(f, "step", &step) : QT_OK;
    if (own) printf("%s: checkpoint of qtape, checksum ok, step %lld\n", file, (long long)step);
    else printf("%s: HDF5\n", file);
    if (e == QT_OK) e = own ? qt_h5_each(f, "params", print_param, f) : qt_h5_each(f, "", print_set, f);
    qt_err closed = qt_h5_close(f);
    return e == QT_OK ? closed : e;
}

/* ---- an exported model ----------------------------------------------------------------------------------------------------------- */

static void print_layer(const qt_module *m)
{
    const qt_tensor *w = m->p[0];
    char             text[160];
    shape_text(text, w->rank, w->dim);
    if (!w->codes) printf("  %-36s %-18s float\n", m->path, text);
    else
        printf("  %-36s %-18s codes %d to %d, %lld scale%s\n", m->path, text, w->codes->lo, w->codes->hi, (long long)w->codes->count,
               w->codes->count == 1 ? "" : "s");
}

static qt_err inspect_model(const char *file)
{
    qt_engine *e;
    QT_TRY(qt_engine_load(file, &e));
    printf("%s: exported model '%s' of qtape, checksum ok, %d of %d layers with weights in integers, %.3g bits a weight\n", file, e->name,
           e->integers, e->layers, e->bits_per_weight);
    for (int i = 0; i < e->model->n; i++)
        if (e->model->m[i].layer->quantizes) print_layer(&e->model->m[i]);
    qt_engine_free(e);
    return QT_OK;
}

/* ---- run directory --------------------------------------------------------------------------------------------------------------- */

static qt_err inspect_run(const char *dir)
{
    qt_arena       a = {0};
    const qt_yaml *event = NULL;
    const char    *checkpoint = qt_arena_sprintf(&a, "%s/ckpt/last.h5", dir), *done = qt_arena_sprintf(&a, "%s/DONE", dir);
    qt_err         e = checkpoint && done ? QT_OK : QT_EMEM;
    if (e == QT_OK && !qt_file_exists(checkpoint)) e = qt_fail(QT_EDATA, "%s: no run directory of qtape: it has no ckpt/last.h5", dir);
    if (e == QT_OK) printf("%s: run directory, %s\n", dir, qt_file_exists(done) ? "finished" : "not finished: `qtape resume` goes on");
    if (e == QT_OK) e = qt_metrics_last(&a, dir, "final", NULL, &event);
    for (int i = 0; e == QT_OK && event && i < event->n; i++) printf("  %-16s %s\n", event->key[i], event->item[i]->text);
    if (e == QT_OK) e = inspect_h5(checkpoint, true);
    qt_arena_free(&a);
    return e;
}

/* The format has no magic number: by the name, or a length of a header and its brace. */
static bool is_safetensors(const char *file, const char *head, size_t n)
{
    const char *dot = strrchr(file, '.');
    uint64_t    length;
    memcpy(&length, head, sizeof length);
    return (dot && !strcmp(dot, ".safetensors")) || (n > 9 && head[8] == '{' && length >= 2 && length <= 100000000);
}

/* ---- the command ----------------------------------------------------------------------------------------------------------------- */

static qt_err run(const qt_args *a)
{
    static const char magic[8] = "\211HDF\r\n\032\n";
    const char       *file = a->word[0], *dot = strrchr(file, '.');
    char              head[QT_H5_USERBLOCK + 8] = {0};
    const bool        json = qt_arg(&qt_command_inspect, a, "json") != NULL;
    struct stat       st;
    if (stat(file, &st)) return qt_fail(QT_EIO, "%s: %s", file, strerror(errno));
    QT_CHECK(!json || !S_ISDIR(st.st_mode), QT_EUSAGE, "%s: only GGUF and safetensors files are listed as JSON", file);
    if (S_ISDIR(st.st_mode)) return inspect_run(file);
    FILE *f = fopen(file, "rb");
    if (!f) return qt_fail(QT_EIO, "%s: cannot read: %s", file, strerror(errno));
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    if (!memcmp(head, "GGUF", 4)) return qt_print_gguf(file, json);
    if (is_safetensors(file, head, n)) return qt_print_safetensors(file, json);
    QT_CHECK(!json, QT_EUSAGE, "%s: only GGUF and safetensors files are listed as JSON", file);
    if (n >= 8 && !memcmp(head, magic, 8)) return inspect_h5(file, false);
    if (!strncmp(head, qt_engine_seal.magic, strlen(qt_engine_seal.magic))) return inspect_model(file);
    if (!memcmp(head + QT_H5_USERBLOCK, magic, 8) || !strncmp(head, "QTAPE-CKPT", 10)) return inspect_h5(file, true);
    if (dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml"))) return qt_fail(QT_EUSAGE, "%s: a recipe; `qtape show %s` shows it", file, file);
    return qt_fail(QT_EDATA, "%s: neither HDF5, GGUF, safetensors nor a run directory", file);
}

const qt_command qt_command_inspect = {
    {"inspect", "look into a checkpoint, an exported model, an HDF5, GGUF or safetensors file, or a run directory"},
    "FILE",
    "A checkpoint of qtape has its checksum verified before it is opened; its parameters are listed with shape,\n"
    "kind, smallest and largest number and mean, quantizer scales among them. Other HDF5 files are first walked in a\n"
    "child process, so that a damaged one is an error message and not a crash. Of an exported model the layers are listed\n"
    "that compute in integers. Of a GGUF file the metadata are listed, long arrays abbreviated, and each tensor with type, shape (the\n"
    "dimension that runs fastest first, as the file has it) and bits a number; likewise a safetensors file, whose shapes are row-major. Both\n"
    "are checked before anything is printed. A run directory is summed up.\n\n"
    "  qtape inspect runs/quickstart/ternary-s1\n"
    "  qtape inspect runs/quickstart/ternary-s1/ckpt/last.h5\n"
    "  qtape inspect model.gguf\n"
    "  qtape inspect model.safetensors --json\n"
    "  qtape inspect data.h5",
    options, 1, 1, run};
