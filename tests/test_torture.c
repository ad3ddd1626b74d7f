/* A trainer that is killed at any moment, in the middle of writing too, and whose newest checkpoint is then cut or changed: it goes on to the
 * bits of a run that nobody disturbed. Each round takes a fresh run directory and disturbs it several times. 20 rounds; as many as
 * QTAPE_TORTURE says in a long test. */
#include "train_util.h"
#include "base/h5.h"
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

/* Everything that has state: batch norm, dropout, learned steps, running ranges, averaged weights, kept checkpoints. */
static const char recipe[] = "recipe: 1\n"
                             "model: [flatten, {use: linear, out: 48, name: fc1}, batch_norm, relu, {use: dropout, p: 0.1}, {use: linear, out: 10, name: fc2}]\n"
                             "data: {use: digits, batch_size: 32}\n"
                             "quant:\n"
                             "  - {match: fc1, weights: {use: lsq, num_bits: 4}, activations: {use: uniform, num_bits: 8, symmetric: false, observer: ema}}\n"
                             "  - {match: fc2, weights: ternary, activations: {use: int, num_bits: 8, granularity: token}}\n"
                             "optim: {use: adamw, lr: 5e-3, ema: 0.9}\n"
                             "lr_schedule: cosine\n"
                             "train: {steps: 60, eval_every: 15, save_every: 2, keep: 2, log_every: 5, threads: 1}\n";

static const char *program(void)
{
    static char path[4096];
    const char *bin = getenv("QTAPE_BIN");
    if (bin) snprintf(path, sizeof path, *bin == '/' ? "%s" : "%2$s/%1$s", bin, home);
    return bin ? path : NULL;
}

/* qtape COMMAND ARG --run/..., its messages in err.txt. Killed after `us` microseconds unless that is 0. The exit code, -1 if it was killed. */
static int run(int64_t us, const char *const *argv)
{
    const char *full[16] = {program()};
    int         n = 1, status;
    for (; argv[n - 1]; n++) full[n] = argv[n - 1];
    pid_t pid = fork();
    if (!pid) {
        if (!freopen("err.txt", "w", stderr) || !freopen("/dev/null", "w", stdout)) _exit(99);
        execv(full[0], (char *const *)(uintptr_t)full);
        _exit(98);
    }
    if (us) {
        struct timespec t = {us / 1000000, us % 1000000 * 1000};
        nanosleep(&t, NULL);
        kill(pid, SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *whole(const char *file, size_t *n)
{
    FILE *f = fopen(file, "rb");
    *n = 0;
    if (!f) return NULL;
    char *p = malloc(1 << 20);
    *n = fread(p, 1, 1 << 20, f);
    fclose(f);
    return p;
}

static void put_bytes(const char *file, const char *p, size_t n)
{
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Cuts the newest checkpoint or changes a byte of it, as a new file, so that names that share its content keep theirs. */
static void damage(qt_rng *r)
{
    size_t n;
    char  *p = whole("run/ckpt/last.h5", &n);
    if (!p || !n) return free(p);
    unlink("run/ckpt/last.h5");
    if (qt_rng_below(r, 2)) put_bytes("run/ckpt/last.h5", p, qt_rng_below(r, n));
    else p[qt_rng_below(r, n)] ^= (char)(1 + qt_rng_below(r, 255)), put_bytes("run/ckpt/last.h5", p, n);
    free(p);
}

/* metrics.jsonl without what tells of time and place. */
static char *events(const char *dir)
{
    char   file[256];
    size_t n;
    snprintf(file, sizeof file, "%s/metrics.jsonl", dir);
    char *p = whole(file, &n), *to = p;
    assert_non_null(p);
    p[n] = 0;
    for (char *s = p; *s;) {
        char *end = strchr(s, '\n'), *cut = strstr(s, ", \"seconds\": ");
        assert_non_null(end);
        size_t keep = (size_t)((cut && cut < end ? cut : end) - s);
        memmove(to, s, keep), to += keep, *to++ = '\n', s = end + 1;
    }
    *to = 0;
    return p;
}

static qt_err compare_set(void *arg, const char *name, int rank, const int64_t *dim, const char *type)
{
    qt_h5  *f[2];
    int64_t n = 1;
    (void)type;
    memcpy(f, arg, sizeof f);
    for (int i = 0; i < rank; i++) n *= dim[i];
    R *x = malloc((size_t)n * sizeof *x), *y = malloc((size_t)n * sizeof *y);
    assert_ok(qt_h5_read(f[0], name, n, x)), assert_ok(qt_h5_read(f[1], name, n, y));
    assert_memory_equal(x, y, (size_t)n * sizeof *x);
    free(x), free(y);
    return QT_OK;
}

static void same_run(const char *a, const char *b)
{
    char  *x = events(a), *y = events(b), file[2][64];
    qt_h5 *f[2];
    assert_string_equal(x, y);
    free(x), free(y);
    snprintf(file[0], 64, "%s/ckpt/last.h5", a), snprintf(file[1], 64, "%s/ckpt/last.h5", b);
    for (int i = 0; i < 2; i++) assert_ok(qt_ckpt_verify(file[i])), assert_ok(qt_h5_open(file[i], &f[i]));
    assert_ok(qt_h5_each(f[0], "", compare_set, f));
    qt_h5_close(f[0]), qt_h5_close(f[1]);
}

/* How often the run says in its log that it went past a damaged checkpoint. */
static int repairs(void)
{
    size_t n;
    int    count = 0;
    char  *p = whole("run/log.txt", &n);
    if (p) p[n] = 0;
    for (const char *s = p; s && (s = strstr(s, "; using the older run/ckpt/")); s++) count++;
    free(p);
    return count;
}

/* Starts the run, or goes on with it. True when it has come to its end. */
static bool go(int64_t us)
{
    int code = run(us, (const char *[]){"resume", "run", "--quiet", NULL});
    if (code == 2 || (code == 1 && !qt_file_exists("run/ckpt/previous.h5"))) /* killed before it was one, or in its first steps */
        code = run(us, (const char *[]){"train", "r.yaml", "--run", "run", "--quiet", "--force", NULL});
    if (code != 0 && code != -1) {
        size_t n;
        char  *p = whole("err.txt", &n);
        fail_msg("exit code %d: %.*s", code, (int)n, p);
    }
    return code == 0;
}

static int64_t microseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void killed_and_damaged(void **state)
{
    const char *many = getenv("QTAPE_TORTURE");
    int         rounds = many ? atoi(many) : 20, kills = 0, repaired = 0;
    qt_rng      r = qt_rng_named(1, "torture");
    (void)state;
    if (!program()) skip();
    put_file("r.yaml", recipe);
    int64_t began = microseconds();
    assert_int_equal(run(0, (const char *[]){"train", "r.yaml", "--run", "calm", "--quiet", NULL}), 0);
    int64_t took = microseconds() - began;
    for (int i = 0; i < rounds; i++) {
        assert_int_equal(system("rm -rf run"), 0);
        for (int k = 0; k < 6; k++) {
            bool over = go((int64_t)(1 + qt_rng_below(&r, (uint64_t)took)));
            kills += !over;
            if (over) break;
            if (qt_rng_below(&r, 2)) damage(&r);
        }
        assert_true(go(0));
        repaired += repairs();
        same_run("calm", "run");
    }
    printf("%d rounds: killed %d times, went past a damaged checkpoint %d times\n", rounds, kills, repaired);
    assert_true(kills > rounds / 2 && repaired > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed_and_damaged)};
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
