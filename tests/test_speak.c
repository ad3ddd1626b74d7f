/* qtape generate and qtape verify, the programs, on a run of text that is made here and on its exported file: the same text from both, and
 * log-probabilities against references that are right, shifted, changed or no fit. */
#include "train_util.h"
#include "base/h5.h"
#include "export/engine.h"
#include <math.h>

enum { T = 16, V = 256, WORD = 4096 };

static char program[WORD];

/* ---- a run ------------------------------------------------------------------------------------------------------------------------------- */

static int begin(void **state)
{
    const char *bin = getenv("QTAPE_BIN");
    if (enter_folder(state)) return -1;
    snprintf(program, sizeof program, bin && *bin != '/' ? "%s/%s" : "%.0s%s", home, bin ? bin : "");
    return 0;
}

/* False where there is no program, or it has another precision than this test. */
static bool prepare(void)
{
    static bool made;
    if (!*program || sizeof(R) != sizeof(float)) return false;
    if (made) return true;
    qt_arena   a = {0};
    qt_recipe *rc;
    qt_run    *r;
    qt_result  res;
    char       text[2001];
    for (int i = 0; i < 2000; i++) text[i] = "the cat sat on the mat and "[(i * 5 / 3) % 27];
    text[2000] = 0;
    put_file("text.txt", text);
    put_file("r.yaml", "recipe: 1\nname: m\nmodel: {arch: llama, d_model: 16, n_layer: 1, n_head: 2, d_ff: 24}\n"
                       "quant: [{match: 'blk.*', weights: ternary, activations: {use: int, granularity: token}}]\n"
                       "data: {use: text, path: text.txt, seq_len: 16, batch_size: 4}\ntrain: {steps: 4, eval_every: 2, log_every: 0}\nexport: [{format: h5}]\n");
    assert_ok(qt_recipe_load(&a, "r.yaml", 0, NULL, NULL, &rc));
    assert_ok(qt_run_new(rc, "run", NULL, true, QT_PROGRESS_QUIET, &r));
    assert_ok(qt_run_go(r, &res));
    qt_run_free(r);
    qt_arena_free(&a);
    return made = true;
}

/* Runs the program; its exit code. What it said is in out.txt. */
static int run(const char *fmt, ...)
{
    char    command[3 * WORD], words[WORD];
    va_list ap;
    va_start(ap, fmt), vsnprintf(words, sizeof words, fmt, ap), va_end(ap);
    snprintf(command, sizeof command, "'%s' %s > out.txt 2> err.txt", program, words);
    return system(command) >> 8;
}

static char *slurp(const char *file)
{
    static qt_arena a;
    char           *text;
    size_t          n;
    assert_ok(qt_file_read(&a, file, &text, &n));
    return text;
}

static void says(int code, const char *want, const char *words)
{
    int got = run("%s", words);
    if (got != code || !strstr(slurp("err.txt"), want)) fail_msg("%s: exit code %d, expected %d, and '%s' in: %s", words, got, code, want, slurp("err.txt"));
}

/* ---- generate ---------------------------------------------------------------------------------------------------------------------------- */

static void test_generate(void **state)
{
    (void)state;
    if (!prepare()) skip();
    assert_int_equal(run("generate run --prompt 'the cat' --tokens 30 --seed 5"), 0);
    char *text = slurp("out.txt");
    assert_true(!strncmp(text, "the cat", 7) && text[strlen(text) - 1] == '\n');
    assert_non_null(strstr(slurp("err.txt"), "prompt 7 tokens, "));
    assert_non_null(strstr(slurp("err.txt"), " tokens/s (float)"));
    static const char *const same[] = {"run -p 'the cat' -n 30 -s 5 --quiet --threads 2", "run -p 'the cat' -n 30 -s 5 --engine int", "run/export/m.h5 -p 'the cat' -n 30 -s 5"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run("generate %s", same[i]), 0);
        assert_string_equal(slurp("out.txt"), text);
        if (!i) assert_string_equal(slurp("err.txt"), "");
    }
    assert_int_equal(run("generate run -p '\"a\\' -n 3 -k 2 --top-p 0.9 --temperature 0 --json"), 0);
    qt_arena    a = {0};
    qt_yaml    *y;
    const char *said;
    int64_t     n;
    assert_ok(qt_yaml_load(&a, "out.txt", &y));
    assert_true(qt_yaml_str(qt_yaml_get(y, "text"), &said) && !strncmp(said, "\"a\\", 3));
    assert_true(qt_yaml_int(qt_yaml_get(y, "prompt_tokens"), &n) && n == 3);
    qt_arena_free(&a);
    assert_int_equal(run("generate run --best -p 'a prompt that is longer than the sixteen tokens of the model' -n 2"), 0);
    assert_non_null(strstr(slurp("err.txt"), "qtape: note: the model sees 16 tokens at once; the first "));
    says(2, "option '--prompt' is missing", "generate run");
    says(2, "--temperature hot: expected a number from 0 to 1e+06", "generate run -p a --temperature hot");
    says(2, "--top-p 2: expected a number from 0 to 1", "generate run -p a --top-p 2");
    says(2, "--tokens 0: expected a whole number", "generate run -p a --tokens 0");
    says(2, "--engine integer: expected float or int", "generate run -p a --engine integer");
    says(2, "is a file, which only the engine 'int' runs", "generate run/export/m.h5 -p a --engine float");
    says(2, "is a file; --best chooses among the checkpoints", "generate run/export/m.h5 -p a --best");
    says(2, "is no run directory", "generate nowhere -p a");
}

/* ---- verify ------------------------------------------------------------------------------------------------------------------------------ */

static int32_t ids[T];
static R       logits[T * V];

static void make_reference(void)
{
    qt_engine *e = qt_engine_open("run/export/m.h5");
    assert_non_null(e);
    for (int i = 0; i < T; i++) ids[i] = "the cat sat on the mat"[i];
    assert_ok(qt_engine_tokens(e, 1, T, ids, logits));
    qt_engine_free(e);
}

static void put_h5(const char *file, const R *z, int64_t rows, bool tokens)
{
    qt_h5 *f;
    assert_ok(qt_h5_create(file, 0, &f));
    assert_ok(qt_h5_write(f, "logits", 2, (int64_t[]){rows, V}, z, false));
    if (tokens) assert_ok(qt_h5_write_ids(f, "tokens", 1, (int64_t[]){rows}, ids));
    assert_ok(qt_h5_close(f));
}

static void put_npy(const char *file, const R *z, int rows)
{
    char  head[128];
    FILE *f = fopen(file, "wb");
    int   n = snprintf(head + 10, sizeof head - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }\n", rows, V);
    memcpy(head, "\x93NUMPY\x01\x00", 8), head[8] = (char)n, head[9] = 0;
    assert_true(fwrite(head, 1, (size_t)n + 10, f) == (size_t)n + 10 && fwrite(z, sizeof *z, (size_t)(rows * V), f) == (size_t)(rows * V));
    assert_int_equal(fclose(f), 0);
}

static void put_tokens(const char *file, int first, const char *more)
{
    FILE *f = fopen(file, "w");
    for (int i = 0; i < T; i++) fprintf(f, "%d%s", ids[i], i + 1 == first ? "\n" : " ");
    fprintf(f, "%s\n", more);
    fclose(f);
}

static void test_verify(void **state)
{
    static R other[T * V];
    (void)state;
    if (!prepare()) skip();
    make_reference();
    put_h5("same.h5", logits, T, true);
    assert_int_equal(run("verify run --against same.h5 --tolerance 1e-4"), 0);
    assert_int_equal(run("verify run/export/m.h5 --against same.h5 --tolerance 0"), 0);
    assert_non_null(strstr(slurp("out.txt"), "max |d log p|      0 "));
    for (int i = 0; i < T * V; i++) other[i] = logits[i] + (R)(i / V); /* a constant a row is none for probabilities */
    put_h5("shifted.h5", other, T, true);
    assert_int_equal(run("verify run/export/m.h5 --against shifted.h5 --tolerance 1e-4"), 0);
    memcpy(other, logits, sizeof other);
    other[5 * V + 77] += (R)0.25;
    put_h5("changed.h5", other, T, true);
    says(3, "1 of 16 positions differ by more than 1e-05", "verify run/export/m.h5 --against changed.h5");
    assert_non_null(strstr(slurp("out.txt"), "(position 5, token 77)"));
    assert_int_equal(run("verify run/export/m.h5 --against changed.h5 --share 0.9"), 0);
    assert_int_equal(run("verify run/export/m.h5 --against changed.h5 --tolerance 0.3"), 0);
    other[5 * V + 77] = (R)NAN;
    put_h5("nan.h5", other, T, true);
    says(3, "1 of 16 positions differ", "verify run/export/m.h5 --against nan.h5 --json --tolerance 1e9");
    assert_non_null(strstr(slurp("out.txt"), "\"max\": 1e+308"));
    put_tokens("tokens.txt", 0, "");
    put_npy("same.npy", logits, T);
    assert_int_equal(run("verify run/export/m.h5 --against same.npy --tokens tokens.txt"), 0);
    put_tokens("two.txt", 5, ""); /* two windows: the second has no past */
    says(3, "positions differ by more than 1e-05", "verify run/export/m.h5 --against same.npy --tokens two.txt");
}

static void test_verify_refuses(void **state)
{
    (void)state;
    if (!prepare()) skip();
    make_reference();
    put_h5("bare.h5", logits, T, false), put_h5("same.h5", logits, T, true), put_h5("short.h5", logits, T - 1, false);
    put_npy("same.npy", logits, T);
    put_tokens("tokens.txt", 0, ""), put_tokens("long.txt", 0, "1"), put_file("far.txt", "1 2 300000\n"), put_file("words.txt", "12 cat\n"), put_file("none.txt", " \n");
    says(2, "option '--against' is missing", "verify run");
    says(2, "--tolerance -1: expected a number from 0 on", "verify run --against same.h5 --tolerance -1");
    says(2, "bare.h5 has no data set 'tokens'; give them with --tokens", "verify run --against bare.h5");
    says(2, "same.npy holds no tokens; give them with --tokens", "verify run --against same.npy");
    says(2, "x.npz is an archive", "verify run --against x.npz");
    says(1, "words.txt: expected ids of tokens, found 'cat", "verify run --against same.npy --tokens words.txt");
    says(1, "none.txt: holds no tokens", "verify run --against same.npy --tokens none.txt");
    says(1, "same.npy: 16 rows, but there are 3 tokens", "verify run --against same.npy --tokens far.txt");
    says(1, "short.h5: 15 rows, but there are 16 tokens", "verify run --against short.h5 --tokens tokens.txt");
    says(1, "same.npy: 16 rows, but there are 17 tokens", "verify run --against same.npy --tokens long.txt");
    static R wide[17 * V];
    put_npy("wide.npy", wide, 17), put_npy("three.npy", wide, 3);
    says(2, "a window of 17 tokens; the model was trained with 16", "verify run --against wide.npy --tokens long.txt");
    says(1, "token 300000, but the model has 256", "verify run --against three.npy --tokens far.txt");
    says(1, "nowhere: cannot read: No such file or directory", "verify nowhere --against same.h5");
    qt_h5 *f;
    assert_ok(qt_h5_create("narrow.h5", 0, &f));
    assert_ok(qt_h5_write(f, "logits", 2, (int64_t[]){T, V / 2}, wide, false));
    assert_ok(qt_h5_write_ids(f, "tokens", 1, (int64_t[]){T}, ids));
    assert_ok(qt_h5_close(f));
    says(1, "the reference has 128 tokens a row, and run 256", "verify run --against narrow.h5");
    assert_ok(qt_h5_create("flat.h5", 0, &f));
    assert_ok(qt_h5_write(f, "logits", 1, (int64_t[]){T}, wide, false));
    assert_ok(qt_h5_close(f));
    says(1, "flat.h5: expected an array [n, vocabulary], found one of 1 dimensions", "verify run --against flat.h5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_generate), cmocka_unit_test(test_verify), cmocka_unit_test(test_verify_refuses)};
    return cmocka_run_group_tests_name("speak", tests, begin, leave_folder);
}
