/* The two ways of running a target. With libFuzzer, LLVMFuzzerTestOneInput. Without it:
 *
 *     mutate_NAME SEEDS COUNT        COUNT inputs, made from the files of the folder SEEDS by changes drawn from a fixed stream
 *
 * Whatever comes in, the reader gives a result, or an error with a message. Reads beyond an end and leaks are the sanitizers' to see; more than a
 * second of CPU is counted here; memory is limited by scripts/fuzz.sh, under libFuzzer. */
#include "fuzz.h"
#include "base/rng.h"
#include "dataset.h"
#include <dirent.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { SECONDS = 1, SEEDS = 256, ROOM = 1 << 20 };

static const char *folder(void)
{
    static char dir[] = "/dev/shm/qtape-fuzz-XXXXXX", other[] = "/tmp/qtape-fuzz-XXXXXX", *made;
    if (!made && !(made = mkdtemp(dir)) && !(made = mkdtemp(other))) abort();
    return made;
}

static const char *spill(const uint8_t *data, size_t n)
{
    static char file[256];
    snprintf(file, sizeof file, "%s/input", folder());
    FILE *f = fopen(file, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
    return file;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    qt_error_clear();
    qt_err e = fuzz_one(spill(data, n), data, n);
    if ((e != QT_OK) != (*qt_error_text() != 0)) {
        fprintf(stderr, "error %d with the message '%s'\n", (int)e, qt_error_text());
        abort();
    }
    qt_error_clear();
    return 0;
}

qt_err fuzz_data(const char *section, const char *file)
{
    qt_arena a = {0};
    qt_yaml *y;
    qt_data *d = NULL;
    char     text[1024];
    snprintf(text, sizeof text, section, file);
    qt_err e = qt_yaml_parse(&a, text, strlen(text), "data", &y);
    if (e == QT_OK) e = qt_data_read(&a, y, &d);
    if (e == QT_OK) e = qt_data_open(d, 1);
    if (e == QT_OK) {
        const qt_data_info *info = qt_data_info_of(d);
        int64_t             width = 1, n = qt_data_size(d, QT_TRAIN);
        for (int i = 0; i < info->rank; i++) width *= info->dim[i];
        R       *x = calloc((size_t)width + 1, sizeof *x), *t = calloc((size_t)info->target_n + 1, sizeof *t);
        int32_t *ids = calloc((size_t)width + 1, sizeof *ids), *y_ids = calloc((size_t)width + 1, sizeof *y_ids);
        for (int64_t i = 0; i < n && e == QT_OK; i += n > 1 ? n - 1 : 1)
            e = info->ids ? qt_data_tokens(d, QT_TRAIN, i, NULL, ids, y_ids) : qt_data_get(d, QT_TRAIN, i, NULL, x, y_ids, t);
        free(x), free(t), free(ids), free(y_ids);
    }
    qt_data_close(d);
    qt_arena_free(&a);
    return e;
}

#ifndef QTAPE_LIBFUZZER

static struct {
    uint8_t *p;
    size_t   n;
} seed[SEEDS];
static int seeds;

static void load(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d) fprintf(stderr, "no folder %s\n", dir), exit(1);
    for (struct dirent *e; seeds < SEEDS && (e = readdir(d));) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        FILE *f = *e->d_name == '.' ? NULL : fopen(path, "rb");
        if (!f) continue;
        seed[seeds].p = malloc(ROOM), seed[seeds].n = fread(seed[seeds].p, 1, ROOM, f), seeds++;
        fclose(f);
    }
    closedir(d);
    if (!seeds) fprintf(stderr, "no seeds in %s\n", dir), exit(1);
}

/* A byte changed, a number put in, a piece cut out, doubled, or taken from another seed, the end cut off: one to four of these. */
static size_t mutate(qt_rng *r, uint8_t *p, size_t n)
{
    static const uint32_t odd[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x10000000, 1u << 20};
    for (uint64_t k = 1 + qt_rng_below(r, 4); k && n; k--) {
        size_t at = qt_rng_below(r, n), size = 1 + qt_rng_below(r, n - at < 64 ? n - at : 64);
        int    from = (int)qt_rng_below(r, (uint64_t)seeds);
        switch (qt_rng_below(r, 6)) {
        case 0: p[at] = (uint8_t)qt_rng_u32(r); break;
        case 1: p[at] ^= (uint8_t)(1 << qt_rng_below(r, 8)); break;
        case 2: memcpy(p + at, &odd[qt_rng_below(r, sizeof odd / sizeof *odd)], n - at < 4 ? n - at : 4); break;
        case 3: memmove(p + at, p + at + size, n - at - size), n -= size; break;
        case 4:
            if (n + size <= ROOM) memmove(p + at + size, p + at, n - at), n += size;
            break;
        default:
            if (qt_rng_below(r, 3) == 0) n = at;
            else memcpy(p + at, seed[from].p, size < seed[from].n ? size : seed[from].n);
        }
    }
    return n;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 3) return fprintf(stderr, "usage: %s SEEDS COUNT\n", argv[0]), 2;
    uint8_t *p = malloc(ROOM);
    long     count = strtol(argv[2], NULL, 10), slow = 0;
    qt_rng   r = qt_rng_named(1, "fuzz");
    load(argv[1]);
    for (long i = 0; i < count; i++) {
        int    k = (int)(i % seeds);
        double began = now();
        memcpy(p, seed[k].p, seed[k].n);
        LLVMFuzzerTestOneInput(p, i < seeds ? seed[k].n : mutate(&r, p, seed[k].n));
        slow += now() - began > SECONDS;
    }
    for (int k = 0; k < seeds; k++) free(seed[k].p);
    free(p);
    printf("%ld inputs from %d seeds, %ld of them took more than %d s\n", count, seeds, slow, SECONDS);
    char clean[300];
    snprintf(clean, sizeof clean, "rm -rf '%s'", folder());
    return system(clean) || slow; /* NOLINT(cert-env33-c): a folder whose name is made here */
}
#endif
