/* The two ways of running a target. With libFuzzer, LLVMFuzzerTestOneInput. Without it:
 *
 *     mutate_NAME SEEDS COUNT        COUNT inputs, made from the files of the folder SEEDS by changes drawn from a fixed stream
 *
 * Whatever comes in, the reader gives a result, or an error with a message. It takes at most a second of CPU, children included, and at most
 * four times the input and 64 MB of heap: under clang's address sanitizer every allocation is counted, those of foreign libraries too; what
 * files are mapped to and what a child takes is not. Reads beyond an end and leaks are the sanitizers' to see. */
#include "fuzz.h"
#include "base/rng.h"
#include "dataset.h"
#include <dirent.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SECONDS = 1, HEAP = 64 << 20, HEAP_TIMES = 4, SEEDS = 256, ROOM = 1 << 20 };

static atomic_llong live, peak; /* bytes of heap since the input began */
static double       slowest;    /* over all inputs */
static long long    largest;

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/allocator_interface.h>

static void on_malloc(const volatile void *p, size_t n)
{
    long long now = atomic_fetch_add(&live, (long long)n) + (long long)n, before = atomic_load(&peak);
    (void)p;
    while (now > before && !atomic_compare_exchange_weak(&peak, &before, now)) {}
}

static void on_free(const volatile void *p)
{
    if (p) atomic_fetch_sub(&live, (long long)__sanitizer_get_allocated_size((const void *)p));
}

static void count_heap(void) { __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free); }
#endif
#endif
#ifndef SANITIZER_ALLOCATOR_INTERFACE_H
static void count_heap(void) {}
#endif

/* The folder of the input's file, in the environment's TMPDIR or in memory. */
static const char *folder(void)
{
    static char dir[256];
    const char *in = getenv("TMPDIR");
    if (!*dir && snprintf(dir, sizeof dir, "%s/qtape-fuzz-XXXXXX", in ? in : "/dev/shm") > 0 && !mkdtemp(dir)) abort();
    return dir;
}

static const char *spill(const uint8_t *data, size_t n)
{
    static char file[300];
    snprintf(file, sizeof file, "%s/input", folder());
    FILE *f = fopen(file, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
    return file;
}

static double seconds_of(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double now(void) { return seconds_of(RUSAGE_SELF) + seconds_of(RUSAGE_CHILDREN); }

static void finish(void)
{
    char clean[300];
    fprintf(stderr, "heap at most %.1f MB, slowest %.2f s\n", (double)largest / (1 << 20), slowest);
    snprintf(clean, sizeof clean, "rm -rf '%s'", folder());
    if (system(clean)) /* NOLINT(cert-env33-c): a folder whose name is made here */
        fprintf(stderr, "%s stays\n", folder());
}

static void start(void)
{
    static bool started;
    if (started) return;
    started = true;
    count_heap();
    atexit(finish);
}

static void expect_within(double seconds, size_t n)
{
    long long heap = atomic_load(&peak);
    if (seconds > slowest) slowest = seconds;
    if (heap > largest) largest = heap;
    if (seconds > SECONDS) fprintf(stderr, "SUMMARY: %.2f s for %zu bytes\n", seconds, n), abort();
    if (heap > HEAP + HEAP_TIMES * (long long)n) fprintf(stderr, "SUMMARY: %lld bytes of heap for %zu bytes\n", heap, n), abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    start();
    qt_error_clear();
    const char *file = spill(data, n);
    double      began = now();
    atomic_store(&live, 0), atomic_store(&peak, 0);
    qt_err e = fuzz_one(file, data, n);
    expect_within(now() - began, n);
    if ((e != QT_OK) != (*qt_error_text() != 0)) fprintf(stderr, "SUMMARY: error %d with the message '%s'\n", (int)e, qt_error_text()), abort();
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

int main(int argc, char **argv)
{
    if (argc < 3) return fprintf(stderr, "usage: %s SEEDS COUNT\n", argv[0]), 2;
    uint8_t *p = malloc(ROOM);
    long     count = strtol(argv[2], NULL, 10);
    qt_rng   r = qt_rng_named(1, "fuzz");
    load(argv[1]);
    for (long i = 0; i < count; i++) {
        int k = (int)(i % seeds);
        memcpy(p, seed[k].p, seed[k].n);
        LLVMFuzzerTestOneInput(p, i < seeds ? seed[k].n : mutate(&r, p, seed[k].n));
    }
    for (int k = 0; k < seeds; k++) free(seed[k].p);
    free(p);
    printf("%ld inputs from %d seeds\n", count, seeds);
    return 0;
}
#endif
