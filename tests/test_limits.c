/* Limits of the machine: a disk that is full at any point of a run, rights that are missing, system calls that are interrupted, a hundred thousand
 * lines of metrics, awkward paths, several processes on one run directory, memory that runs out anywhere. Each is a message or no matter at all, and what is
 * left is whole: the run goes on to the bits of one that nothing happened to. */
#include "run_util.h"
#include "export/engine.h"
#include "export/import.h"
#include "report/report.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <sys/time.h>
#include <sys/wait.h>

static const char recipe[] = "recipe: 1\n"
                             "name: m\n"
                             "model: [flatten, {use: linear, out: 24, name: fc1}, batch_norm, relu, {use: linear, out: 10, name: fc2}]\n"
                             "data: {use: digits, batch_size: 32}\n"
                             "quant: [{match: \"*\", weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 8}}]\n"
                             "optim: {use: adam, lr: 1e-2}\n"
                             "train: {steps: 12, eval_every: 6, save_every: 3, log_every: 2}\n";

static int clear(void **state)
{
    (void)state;
    qt_error_clear();
    return 0;
}

static bool exists(const char *dir) { return access(dir, F_OK) == 0; }

static const char *program(void)
{
    static char path[4096];
    const char *bin = getenv("QTAPE_BIN");
    if (bin) snprintf(path, sizeof path, *bin == '/' ? "%s" : "%2$s/%1$s", bin, home);
    return bin ? path : NULL;
}

/* ---- a full disk ----------------------------------------------------------------------------------------------------------------------- */

/* In a mount namespace of its own: a disk of 1 MB of which $room kB are left. Trains, makes room, goes on, and takes the run out. 77: no such
 * namespace may be made here. */
static const char full_disk[] = "mkdir -p small full && mount -t tmpfs -o size=1m none small || exit 77\n"
                                "for room in 0 4 8 12 16 20 24 32 40 48 56 64 80 96 112 128 160 192 256; do\n"
                                "    head -c $(((1024 - room) * 1024)) /dev/zero > small/filler\n"
                                "    \"$1\" train r.yaml --run small/run --quiet > full/$room.err 2>&1; echo $? > full/$room.code\n"
                                "    rm small/filler\n"
                                "    if [ -e small/run/resolved.yaml ]; then \"$1\" resume small/run --quiet\n"
                                "    else \"$1\" train r.yaml --run small/run --quiet; fi > full/$room.more 2>&1; echo $? > full/$room.again\n"
                                "    cp -r small/run full/$room && rm -r small/run\n"
                                "done\n";

/* Trains with so little room; true if it was enough. */
static bool check_room(int room)
{
    char  file[64], *code, *err, *again, *more;
    snprintf(file, sizeof file, "full/%d.code", room), code = slurp(file, NULL);
    snprintf(file, sizeof file, "full/%d.err", room), err = slurp(file, NULL);
    snprintf(file, sizeof file, "full/%d.again", room), again = slurp(file, NULL);
    snprintf(file, sizeof file, "full/%d.more", room), more = slurp(file, NULL);
    const bool enough = !strcmp(code, "0\n");
    if (!enough && (strcmp(code, "1\n") || !strstr(err, strerror(ENOSPC)) || count(err, "\n") != 1)) fail_msg("%d kB: exit code %s, %s", room, code, err);
    if (strcmp(again, "0\n")) fail_msg("%d kB: exit code %s, %s", room, again, more);
    snprintf(file, sizeof file, "full/%d", room);
    assert_same_run("roomy", file);
    free(code), free(err), free(again), free(more);
    return enough;
}

static void test_full_disk(void **state)
{
    static const int rooms[] = {0, 4, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 256};
    enum { ROOMS = sizeof rooms / sizeof *rooms };
    char command[8192];
    int  enough = 0;
    (void)state;
    if (!program()) skip();
    put_file("r.yaml", recipe), put_file("full.sh", full_disk);
    snprintf(command, sizeof command, "unshare -rm sh full.sh '%s' 2>/dev/null", program());
    int status = system(command);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) skip(); /* test_run has a file size limit instead */
    snprintf(command, sizeof command, "'%s' train r.yaml --run roomy --quiet 2>/dev/null", program());
    assert_int_equal(system(command), 0);
    for (int i = 0; i < ROOMS; i++) enough += check_room(rooms[i]);
    assert_true(enough > 0 && enough < ROOMS - 2);
}

/* ---- rights ---------------------------------------------------------------------------------------------------------------------------- */

/* Root may do everything, so it becomes nobody for a while, after OpenMP has started: that of LLVM starts by making a file named after the user. */
static void give_up_rights(void)
{
    if (geteuid()) return;
    assert_true(qt_threads() > 0);
    assert_int_equal(chown(".", 65534, 65534), 0);
    assert_int_equal(system("chown -R 65534:65534 ."), 0);
    assert_int_equal(setresuid(65534, 65534, 0), 0);
}
static void take_rights_back(void)
{
    uid_t real, effective, saved;
    assert_int_equal(getresuid(&real, &effective, &saved), 0);
    if (!saved) assert_int_equal(setresuid(0, 0, 0), 0);
}

static void assert_denied(qt_err e, const char *what)
{
    if (e != QT_EIO || qt_error_count() != 1 || !strstr(qt_error_text(), what) || !strstr(qt_error_text(), strerror(EACCES)))
        fail_msg("error %d: %s", (int)e, qt_error_text());
    qt_error_clear();
}

static void rights(void)
{
    volatile int stop = 1;
    qt_result    res;
    qt_run      *r;
    assert_int_equal(mkdir("closed", 0555), 0);
    assert_denied(try_train(recipe, "closed/run", 0, NULL, NULL, 1, NULL, false, &res), "closed/run");
    train(recipe, "open", 1);
    assert_int_equal(try_train(recipe, "later", 0, NULL, NULL, 1, &stop, false, &res), QT_ESTOPPED);
    qt_error_clear();
    char *before = slurp("later/metrics.jsonl", NULL), *after;
    assert_int_equal(chmod("later", 0555) | chmod("later/ckpt", 0555), 0);
    assert_denied(try_resume("later", NULL, &res), "later/LOCK");
    assert_ok(qt_run_resume("later", QT_PROGRESS_QUIET, &r)); /* to look at it needs no rights to write */
    assert_ok(qt_run_eval(r, QT_TEST, &res, NULL, NULL));
    qt_run_free(r);
    assert_int_equal(chmod("later", 0755), 0);
    assert_denied(try_resume("later", NULL, &res), "later/ckpt/");
    assert_int_equal(chmod("later/ckpt", 0755), 0);
    after = slurp("later/metrics.jsonl", NULL);
    assert_int_equal(strncmp(before, after, strlen(before)), 0);
    assert_ok(try_resume("later", NULL, &res));
    assert_same_run("open", "later");
    free(before), free(after);
    assert_int_equal(chmod("later/ckpt/last.h5", 0), 0); /* as if it were damaged */
    assert_ok(try_resume("later", NULL, &res));
    assert_same_run("open", "later");
}

/* A data directory needs no rights to write; a file that cannot be read is named. */
static void data_rights(void)
{
    static const char *const words[] = {"data={use: csv, path: tables/t.csv, classes: 2, features: 2, test_every: 4}",
                                        "model=[flatten, {use: linear, out: 2, name: fc}]"};
    qt_result                res;
    assert_int_equal(mkdir("tables", 0755), 0);
    FILE *f = fopen("tables/t.csv", "w");
    for (int i = 0; i < 200; i++) fprintf(f, "%d,%d,%d\n", i % 7, i % 5, i % 7 > i % 5);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod("tables/t.csv", 0444) | chmod("tables", 0555), 0);
    assert_ok(try_train(recipe, "of-tables", 2, words, NULL, 1, NULL, false, &res));
    assert_int_equal(chmod("tables/t.csv", 0), 0);
    assert_denied(try_train(recipe, "of-none", 2, words, NULL, 1, NULL, false, &res), "tables/t.csv");
    assert_false(exists("of-none"));
}

static void test_rights(void **state)
{
    (void)state;
    give_up_rights();
    rights();
    data_rights();
    take_rights_back();
}

/* ---- interrupted system calls ------------------------------------------------------------------------------------------------------------ */

static void nothing(int sig) { (void)sig; }

static void test_interrupted_calls(void **state)
{
    struct sigaction  a = {.sa_handler = nothing}, old; /* without SA_RESTART */
    struct itimerval  often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    volatile int      stop = 1;
    qt_result         res;
    (void)state;
    train(recipe, "quiet", 1);
    assert_int_equal(sigaction(SIGALRM, &a, &old), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    qt_err     e = try_train(recipe, "rung", 0, NULL, NULL, 1, &stop, false, &res), last = QT_OK;
    qt_run    *r = NULL;
    qt_engine *engine = NULL;
    if (e == QT_ESTOPPED) qt_error_clear(), last = try_resume("rung", NULL, &res);
    if (last == QT_OK) last = qt_run_resume("rung", QT_PROGRESS_QUIET, &r);
    if (last == QT_OK) last = qt_engine_of_run(r, &engine);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
    assert_int_equal(e, QT_ESTOPPED);
    assert_ok(last);
    qt_engine_free(engine), qt_run_free(r);
    assert_same_run("quiet", "rung");
}

/* ---- long and awkward -------------------------------------------------------------------------------------------------------------------- */

enum { MANY = 100000 };

static void test_many_metrics(void **state)
{
    qt_arena       a = {0};
    const qt_yaml *y;
    double         v;
    (void)state;
    train(recipe, "long", 1);
    char *tail = slurp("long/metrics.jsonl", NULL), *end = strstr(tail, "{\"event\": \"final\"");
    assert_non_null(end);
    FILE *f = fopen("long/metrics.jsonl", "w");
    for (int i = 1; i <= MANY; i++)
        fprintf(f, "{\"event\": \"step\", \"step\": %d, \"epoch\": 1, \"loss\": %.9g, \"lr\": 0.01, \"seconds\": %d}\n", i, i == 1 ? 3 : 1.0 / 3, i);
    fputs(end, f);
    assert_int_equal(fclose(f), 0);
    free(tail);
    assert_ok(qt_metrics_first_loss(&a, "long", &v));
    assert_true(v == 3);
    assert_ok(qt_metrics_train_loss(&a, "long", &v));
    assert_true(fabs(v - 1.0 / 3) < 0.1);
    assert_ok(qt_metrics_last(&a, "long", "final", NULL, &y));
    assert_non_null(y);
    assert_ok(qt_report_write(1, (const char *[]){"long"}, "long.html"));
    struct stat page;
    assert_int_equal(stat("long.html", &page), 0);
    assert_true(page.st_size > 1000 && page.st_size < 4 << 20); /* curves are thinned out */
    qt_arena_free(&a);
}

#define ODD "Läufe für 試験 \"1\" & 'mehr'/ein Lauf; $HOME"

static void test_odd_path(void **state)
{
    volatile int stop = 1;
    qt_result    res;
    qt_run      *r;
    qt_exported  made;
    (void)state;
    train(recipe, "plain", 1);
    assert_int_equal(try_train(recipe, ODD, 0, NULL, NULL, 1, &stop, false, &res), QT_ESTOPPED);
    assert_non_null(strstr(qt_error_text(), ODD));
    qt_error_clear();
    assert_ok(try_resume(ODD, NULL, &res));
    assert_same_run("plain", ODD);
    assert_ok(qt_run_resume(ODD, QT_PROGRESS_QUIET, &r));
    assert_ok(qt_exporter_h5.run(&qt_exporter_h5, r, NULL, NULL, &made));
    qt_engine *e = qt_engine_open(made.file);
    assert_non_null(e);
    assert_non_null(strstr(made.file, ODD));
    qt_engine_free(e), qt_run_free(r);
    assert_ok(qt_report_write(1, (const char *[]){ODD}, "Läufe für 試験 \"1\" & 'mehr'/a page.html"));
    FILE *out = fopen("compared", "w");
    assert_ok(qt_compare("plain", ODD, true, out));
    assert_int_equal(fclose(out), 0);
}

/* ---- several processes ------------------------------------------------------------------------------------------------------------------- */

enum { PROCESSES = 4, RACES = 8 };

static pid_t start(const char *const *argv)
{
    pid_t                      pid;
    posix_spawn_file_actions_t silent;
    assert_int_equal(posix_spawn_file_actions_init(&silent), 0);
    for (int fd = 1; fd <= 2; fd++) assert_int_equal(posix_spawn_file_actions_addopen(&silent, fd, "/dev/null", O_WRONLY, 0), 0);
    assert_int_equal(posix_spawn(&pid, program(), &silent, NULL, (char *const *)(uintptr_t)argv, environ), 0);
    posix_spawn_file_actions_destroy(&silent);
    return pid;
}

/* All begin the same run at once: one does it, the others are told. Then all go on with one that was stopped. */
static void test_race(void **state)
{
    (void)state;
    if (!program()) skip();
    put_file("r.yaml", recipe);
    for (int k = 0; k < RACES; k++) {
        pid_t pid[PROCESSES];
        int   status, won = 0;
        char  dir[16];
        snprintf(dir, sizeof dir, "race%d", k);
        for (int i = 0; i < PROCESSES; i++) pid[i] = start((const char *[]){"qtape", "train", "r.yaml", "--run", dir, "--quiet", NULL});
        for (int i = 0; i < PROCESSES; i++) {
            assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 2);
            won += WEXITSTATUS(status) == 0;
        }
        assert_int_equal(won, 1);
        assert_false(qt_file_exists(in(dir, "LOCK")));
        if (k) assert_same_run("race0", dir);
        unlink(in(dir, "DONE")), unlink(in(dir, "ckpt/last.h5"));
        for (int i = 0; i < PROCESSES; i++) pid[i] = start((const char *[]){"qtape", "resume", dir, "--quiet", NULL});
        for (int i = 0; i < PROCESSES; i++) {
            assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        }
        if (k) assert_same_run("race0", dir);
    }
}

/* ---- memory ------------------------------------------------------------------------------------------------------------------------------ */

/* Does work with each allocation failing once, or with 80 of them if there are more: it says that memory is out, or does not care. */
static void starve(const char *what, qt_err (*work)(void))
{
    int64_t before = qt_alloc_count();
    assert_ok(work());
    const int64_t n = qt_alloc_count() - before;
    assert_true(n > 0);
    for (int64_t k = 1; k <= n; k += n / 80 + 1) {
        qt_alloc_fail_at(k);
        qt_err e = work();
        qt_alloc_fail_at(0);
        if (e != QT_OK && !strstr(qt_error_text(), "out of memory")) fail_msg("%s, allocation %lld: %s", what, (long long)k, qt_error_text());
        qt_error_clear();
    }
    assert_ok(work());
}

static qt_err load_and_eval(void)
{
    qt_run   *r;
    qt_result res;
    QT_TRY(qt_run_resume("hungry", QT_PROGRESS_QUIET, &r));
    qt_err e = qt_run_eval(r, QT_TEST, &res, NULL, NULL);
    qt_run_free(r);
    return e;
}

static qt_err export_as(const char *options, const char *run, const char *file)
{
    qt_arena       a = {0};
    qt_yaml       *y;
    const qt_desc *d;
    void          *cfg;
    qt_exported    made;
    qt_run        *r = NULL;
    qt_err         e = qt_yaml_parse(&a, options, strlen(options), "options", &y);
    if (e == QT_OK) e = qt_desc_read(&a, &qt_exporters, y, "export", NULL, &d, &cfg);
    if (e == QT_OK) e = qt_run_resume(run, QT_PROGRESS_QUIET, &r);
    if (e == QT_OK) e = ((const qt_exporter *)d)->run((const qt_exporter *)d, r, cfg, file, &made);
    qt_run_free(r);
    qt_arena_free(&a);
    return e;
}

static qt_err export_h5(void) { return export_as("{use: h5}", "hungry", "m.h5"); }
static qt_err export_gguf(void) { return export_as("{use: gguf, name: n, type: Q8_0}", "speaker", "m.gguf"); }
static qt_err export_safetensors(void) { return export_as("{use: safetensors}", "speaker", "m.safetensors"); }

static qt_err remove_imported(void) { return system("rm -rf imported") ? QT_EIO : QT_OK; }
static qt_err import_gguf(void)
{
    QT_TRY(remove_imported());
    return qt_import_gguf("m.gguf", "imported", (qt_sets){0});
}
static qt_err import_safetensors(void)
{
    QT_TRY(remove_imported());
    return qt_import_safetensors("m.safetensors", "imported", (qt_sets){0});
}
static qt_err report(void) { return qt_report_write(1, (const char *[]){"hungry"}, "report.html"); }

static void test_memory(void **state)
{
    static const char speaker[] = "recipe: 1\nname: m\nmodel: {arch: llama, d_model: 32, n_layer: 1, n_head: 4, n_kv_head: 2, d_ff: 32, fp16: true}\n"
                                  "quant: [{match: \"blk.*\", weights: {use: ggml, type: Q8_0}, activations: q8_0}]\n"
                                  "data: {use: text, path: text.txt, seq_len: 16, batch_size: 4}\ntrain: {steps: 2, eval_every: 0, log_every: 0}\n";
    char              text[4001] = "";
    (void)state;
    for (int i = 0; i < 4000; i++) text[i] = "the cat sat on the mat, and the rat sat on the cat. "[(i * 7 / 5) % 52];
    put_file("text.txt", text);
    train(recipe, "hungry", 1), train(speaker, "speaker", 1);
    starve("evaluation", load_and_eval);
    starve("export to h5", export_h5);
    starve("export to gguf", export_gguf);
    starve("export to safetensors", export_safetensors);
    starve("import of gguf", import_gguf);
    starve("import of safetensors", import_safetensors);
    starve("report", report);
    assert_false(exists("m.h5.part") || exists("m.gguf.part") || exists("m.safetensors.part") || exists("report.html.part"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, clear)
    const struct CMUnitTest tests[] = {T(test_full_disk), T(test_rights), T(test_interrupted_calls), T(test_many_metrics),
                                       T(test_odd_path),  T(test_race),   T(test_memory)};
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
