/* Text: windows and splits, files and patterns, vocabularies and the cache of tokens, prompts and completions, and a run on text. */
#include <math.h>
#include "base/sha256.h"
#include "corpus.h"
#include "data_util.h"
#include "textset.h"
#include "train/train.h"

static char text[2001]; /* 2000 letters */

static char *put(const char *name, const char *s)
{
    char *file = path_of(name);
    write_file(file, s, strlen(s));
    return file;
}

static char *whole_text(void)
{
    qt_rng r = qt_rng_named(1, "text");
    for (int i = 0; i < 2000; i++) text[i] = (char)(33 + qt_rng_below(&r, 90));
    return put("text.txt", text);
}

/* Window i of a split holds text[from..from+n), and the next bytes as targets; the rest of seq_len does not count. */
static void expect_window(qt_data *d, qt_split s, int64_t i, int64_t T, const char *from, int64_t n)
{
    int32_t x[512], y[512];
    expect_ok(qt_data_tokens(d, s, i, NULL, x, y));
    for (int64_t j = 0; j < T; j++) {
        assert_int_equal(x[j], j < n ? (uint8_t)from[j] : 0);
        assert_int_equal(y[j], j < n ? (uint8_t)from[j + 1] : QT_IGNORE);
    }
}

/* ---- windows ---------------------------------------------------------------------------------------------------------------------- */

static void test_windows(void **state)
{
    qt_data *d;
    char    *file = whole_text();
    (void)state;
    OPEN(d, "{use: text, path: %s, seq_len: 64, test_fraction: 0.1, val_fraction: 0.05}", file);
    const qt_data_info *f = qt_data_info_of(d);
    assert_true(f->rank == 1 && f->dim[0] == 64 && f->ids == 256 && f->classes == 256 && f->known);
    assert_int_equal(qt_data_size(d, QT_TRAIN), (1700 - 2) / 64 + 1);
    assert_int_equal(qt_data_size(d, QT_VAL), 2);
    assert_int_equal(qt_data_size(d, QT_TEST), 4);
    for (int i = 0; i < 26; i++) expect_window(d, QT_TRAIN, i, 64, text + 64 * i, 64);
    expect_window(d, QT_TRAIN, 26, 64, text + 64 * 26, 1699 - 64 * 26);
    expect_window(d, QT_VAL, 1, 64, text + 1764, 99 - 64);
    expect_window(d, QT_TEST, 0, 64, text + 1800, 64);
    expect_window(d, QT_TEST, 3, 64, text + 1992, 7);
    qt_data_close(d);
}

/* The loader's windows of an epoch are moved by one offset, which the next epoch changes; all are full; a late start gives the same. */
static void test_epochs(void **state)
{
    qt_data        *d;
    qt_loader      *l, *late;
    const qt_batch *b, *c;
    int64_t         offset[6];
    char           *file = whole_text();
    (void)state;
    OPEN(d, "{use: text, path: %s, seq_len: 50, test_fraction: 0, batch_size: 40}", file);
    assert_int_equal(qt_loader_batches_per_epoch(d), 1);
    expect_ok(qt_loader_train(d, 9, 0, &l));
    expect_ok(qt_loader_train(d, 9, 4, &late));
    for (int e = 0; e < 6; e++) {
        int seen[2000] = {0};
        expect_ok(qt_loader_next(l, &b));
        assert_true(b->n == 40 && !b->x && !b->t);
        offset[e] = -1;
        for (int i = 0; i < 40; i++) {
            int at = 0;
            while (at + 51 < 2000 && (text[at] != b->ids[50 * i] || text[at + 1] != b->ids[50 * i + 1] || text[at + 2] != b->ids[50 * i + 2])) at++;
            for (int j = 0; j < 50; j++) {
                assert_int_equal(b->ids[50 * i + j], text[at + j]);
                assert_int_equal(b->y[50 * i + j], text[at + j + 1]);
                seen[at + j]++;
            }
            if (offset[e] < 0 && at + 51 < 2000) offset[e] = at % 50;
            assert_true(at + 51 == 2000 || at % 50 == offset[e]);
        }
        for (int i = (int)offset[e]; i < 1999; i++) assert_in_range(seen[i], 1, 2);
        if (e < 4) continue;
        expect_ok(qt_loader_next(late, &c));
        assert_memory_equal(b->ids, c->ids, 40 * 50 * sizeof *b->ids);
        assert_memory_equal(b->y, c->y, 40 * 50 * sizeof *b->y);
    }
    assert_true(offset[0] != offset[1] || offset[1] != offset[2]);
    qt_loader_free(l), qt_loader_free(late), qt_data_close(d);
}

/* ---- files and splits --------------------------------------------------------------------------------------------------------------- */

static void test_files(void **state)
{
    static const char want[] = "first one\0second one, longer\0third";
    const char       *spec[3];
    qt_data          *d;
    (void)state;
    folder("docs"), folder("docs/b"), folder("docs/.hidden");
    spec[0] = qt_arena_sprintf(&arena, "[%s, %s, %s]", put("docs/a.txt", "first one"), put("docs/b/c.txt", "second one, longer"), put("docs/d.txt", "third"));
    put("docs/.hidden/e.txt", "hidden"), put("docs/.f", "hidden");
    spec[1] = path_of("docs");
    spec[2] = qt_arena_sprintf(&arena, "[\"%s\", \"%s\"]", path_of("docs/[ab]*"), path_of("docs/d.tx?"));
    for (int k = 0; k < 3; k++) {
        OPEN(d, "{use: text, path: %s, seq_len: 20, test_fraction: 0.5}", spec[k]);
        assert_int_equal(qt_data_size(d, QT_TRAIN), 2); /* half is in the second document: the cut is at the third */
        expect_window(d, QT_TRAIN, 0, 20, want, 20);
        expect_window(d, QT_TEST, 0, 20, want + 29, 4);
        qt_data_close(d);
    }
    OPEN(d, "{use: text, path: %s, seq_len: 8, test_path: \"%s\", val_path: %s}", path_of("docs/b"), path_of("docs/[a-d].txt"), path_of("docs/d.txt"));
    expect_window(d, QT_TRAIN, 0, 8, "second one", 8);
    expect_window(d, QT_VAL, 0, 8, "third", 4);
    expect_window(d, QT_TEST, 1, 8, "e\0third", 6);
    assert_int_equal(qt_data_size(d, QT_TEST), 2);
    qt_data_close(d);
}

static void test_bad_files(void **state)
{
    char *file = put("small.txt", "twenty bytes of text");
    (void)state;
    OPEN_FAILS(QT_EIO, "none.txt: no such file or folder", "{use: text, path: %s}", path_of("none.txt"));
    OPEN_FAILS(QT_EIO, "empty-folder: holds no files", "{use: text, path: %s}", folder("empty-folder"));
    OPEN_FAILS(QT_EDATA, "empty.txt: empty", "{use: text, path: %s}", put("empty.txt", ""));
    OPEN_FAILS(QT_EDATA, "19 tokens for the split 'train', but a window takes seq_len + 1", "{use: text, path: %s}", file);
    OPEN_FAILS(QT_EDATA, "20 tokens for the split 'train'", "{use: text, path: %s, seq_len: 20, test_fraction: 0}", file);
    OPEN_FAILS(QT_EDATA, "1 tokens for the split 'test', but it takes two", "{use: text, path: %s, seq_len: 8}", file);
    READ_FAILS("r.yaml:1:19: data.path: expected a file, a folder, a pattern or a list of them, found an empty list", "{use: text, path: []}");
    READ_FAILS("r.yaml:1:23: data.path: expected a file, a folder, a pattern or a list of them, found a list in a list", "{use: text, path: [a, [b]]}");
    READ_FAILS("found a map", "{use: text, path: a, test_path: {b: 1}}");
    READ_FAILS("found an empty string", "{use: text, path: ''}");
    READ_FAILS("data.vocab: 0 tokens", "{use: text, path: a, vocab: 0, tokens: v.bpe}");
    READ_FAILS("data.vocab: 300, but there are 256 bytes", "{use: text, path: a, vocab: 300}");
    READ_FAILS("leave nothing to train on", "{use: text, path: a, test_fraction: 0.5, val_fraction: 0.5}");
    READ_FAILS("data.seq_len", "{use: text, path: a, seq_len: 0}");
    READ_FAILS("data.seqlen: unknown key, did you mean 'seq_len'?", "{use: text, path: a, seqlen: 8}");
    READ_FAILS("data.test: text gives 32 tokens of 256, but data.train gives 16 tokens of 256",
               "{train: {use: text, path: a, seq_len: 16}, test: {use: text, path: a, seq_len: 32}}");
}

/* ---- vocabularies --------------------------------------------------------------------------------------------------------------------- */

static char *make_vocab(const char *name, const char *from, int64_t vocab)
{
    qt_bpe_words *w;
    qt_bpe       *b;
    expect_ok(qt_bpe_words_new(&w));
    expect_ok(qt_bpe_count(w, from, strlen(from)));
    expect_ok(qt_bpe_train(w, vocab, &b));
    expect_ok(qt_bpe_save(b, path_of(name)));
    qt_bpe_words_free(w), qt_bpe_free(b);
    return path_of(name);
}

static const char story[] = "the cat and the hat and the bat sat on the mat; that cat, that hat, that bat. The end of the cat.\n";

static void test_vocab(void **state)
{
    qt_data *d;
    qt_bpe  *b;
    int32_t  ids[256], x[16], y[16];
    int64_t  n;
    char    *file = put("story.txt", story), *vocab = make_vocab("story.bpe", story, 268);
    (void)state;
    expect_ok(qt_bpe_load(vocab, &b));
    expect_ok(qt_bpe_encode(b, story, strlen(story), ids, &n));
    for (int pass = 0; pass < 3; pass++) { /* made; found; damaged, and made anew */
        OPEN(d, "{use: text, path: %s, tokens: %s, seq_len: 16, test_fraction: 0}", file, vocab);
        assert_int_equal(qt_data_info_of(d)->ids, 268);
        assert_int_equal(qt_data_size(d, QT_TRAIN), (n - 2) / 16 + 1);
        for (int64_t i = 0; i + 1 < n; i++) {
            if (i % 16 == 0) expect_ok(qt_data_tokens(d, QT_TRAIN, i / 16, NULL, x, y));
            assert_int_equal(x[i % 16], ids[i]);
            assert_int_equal(y[i % 16], ids[i + 1]);
        }
        qt_data_close(d);
        if (pass == 1) assert_int_equal(system(qt_arena_sprintf(&arena, "cd %s/tokens && for f in *; do printf x | dd of=$f bs=1 seek=100 conv=notrunc "
                                                                        "2> /dev/null; done", scratch)), 0);
    }
    qt_bpe_free(b);
    expect_ok(read_section(&d, "{use: text, path: a, tokens: a.bpe}"));
    assert_true(!qt_data_info_of(d)->known && qt_data_info_of(d)->classes == -1);
    expect_ok(read_section(&d, "{use: text, path: a, tokens: a.bpe, vocab: 268}"));
    assert_true(qt_data_info_of(d)->known && qt_data_info_of(d)->ids == 268);
}

static void test_bad_vocab(void **state)
{
    char *file = put("story.txt", story), *vocab = make_vocab("v.bpe", story, 266);
    (void)state;
    OPEN_FAILS(QT_EIO, "data.tokens: no such file 'byte'", "{use: text, path: %s, tokens: byte}", file);
    OPEN_FAILS(QT_EDATA, "is no vocabulary", "{use: text, path: %s, tokens: %s}", file, file);
    OPEN_FAILS(QT_EDATA, "a vocabulary of 266 tokens, expected 512 (data.vocab)", "{use: text, path: %s, tokens: %s, vocab: 512}", file, vocab);
    OPEN_FAILS(QT_EDATA, "bad.txt: byte 0xff at offset 4 is not UTF-8", "{use: text, path: %s, tokens: %s}", put("bad.txt", "abc \xff\xfe def"), vocab);
}

/* ---- prompts and completions ------------------------------------------------------------------------------------------------------------ */

static void test_jsonl(void **state)
{
    static const char lines[] = "{\"prompt\": \"ask \", \"completion\": \"yes\"}\n\n{\"completion\": \"n\\u00f6\", \"prompt\": \"\"}\r\n"
                                "  {\"prompt\": \"12345678\", \"completion\": \"9ab\"}";
    qt_data *d;
    int32_t  x[10], y[10];
    char    *file = put("i.jsonl", lines);
    (void)state;
    OPEN(d, "{use: jsonl, path: %s, seq_len: 10, too_long: cut, test_fraction: 0.4}", file);
    assert_int_equal(qt_data_size(d, QT_TRAIN), 2);
    assert_int_equal(qt_data_size(d, QT_TEST), 1);
    expect_ok(qt_data_tokens(d, QT_TRAIN, 0, NULL, x, y));
    assert_memory_equal(x, ((int32_t[]){'a', 's', 'k', ' ', 'y', 'e', 's', 0, 0, 0}), sizeof x);
    assert_memory_equal(y, ((int32_t[]){-100, -100, -100, 'y', 'e', 's', 0, -100, -100, -100}), sizeof y);
    expect_ok(qt_data_tokens(d, QT_TRAIN, 1, NULL, x, y));
    assert_memory_equal(y, ((int32_t[]){0xc3, 0xb6, 0, -100, -100, -100, -100, -100, -100, -100}), sizeof y);
    expect_ok(qt_data_tokens(d, QT_TEST, 0, NULL, x, y));
    assert_memory_equal(x, ((int32_t[]){'1', '2', '3', '4', '5', '6', '7', '8', '9', 'a'}), sizeof x);
    assert_memory_equal(y, ((int32_t[]){-100, -100, -100, -100, -100, -100, -100, '9', 'a', 'b'}), sizeof y);
    qt_data_close(d);
    OPEN(d, "{use: jsonl, path: %s, seq_len: 10, too_long: drop, test_path: %s}", file, file);
    assert_int_equal(qt_data_size(d, QT_TRAIN), 2);
    assert_int_equal(qt_data_size(d, QT_TEST), 2);
    qt_data_close(d);
    qt_bpe *b;
    int32_t ids[16];
    int64_t prompt, n;
    char   *vocab = make_vocab("j.bpe", story, 268);
    expect_ok(qt_bpe_load(vocab, &b));
    expect_ok(qt_bpe_encode(b, "the cat", 7, ids, &prompt));
    expect_ok(qt_bpe_encode(b, " and", 4, ids + prompt, &n));
    ids[prompt + n] = 0;
    OPEN(d, "{use: jsonl, path: %s, seq_len: 10, tokens: %s, test_fraction: 0}", put("s.jsonl", "{\"prompt\": \"the cat\", \"completion\": \" and\"}"), vocab);
    expect_ok(qt_data_tokens(d, QT_TRAIN, 0, NULL, x, y));
    for (int j = 0; j < 10; j++) {
        assert_int_equal(x[j], j <= prompt + n ? ids[j] : 0);
        assert_int_equal(y[j], j + 1 >= prompt && j + 1 <= prompt + n ? ids[j + 1] : QT_IGNORE);
    }
    qt_data_close(d), qt_bpe_free(b);
}

static void jsonl_fails(const char *line, const char *message)
{
    OPEN_FAILS(QT_EDATA, message, "{use: jsonl, path: %s, seq_len: 8}", put("bad.jsonl", qt_arena_sprintf(&arena, "\n%s\n", line)));
}

static void test_bad_jsonl(void **state)
{
    char *file = put("long.jsonl", "{\"prompt\": \"123456789\", \"completion\": \"x\"}");
    (void)state;
    jsonl_fails("", "no lines to train on");
    jsonl_fails("{\"prompt\": \"a\"}", "bad.jsonl: line 2, byte 15: 'completion' is missing");
    jsonl_fails("{\"prompt\": \"a\", \"completion\": \"b\", \"more\": 1}", "unknown member 'more'");
    jsonl_fails("{\"prompt\": \"a\", \"completion\": 3}", "line 2, byte 30: expected");
    jsonl_fails("{\"prompt\": \"a\", \"completion\": \"\"}", "the completion is empty");
    jsonl_fails("{\"prompt\": \"a\", \"completion\": \"b\"} x", "line 2");
    jsonl_fails("{\"prompt\": \"a\", \"completion\": \"b\"", "line 2");
    jsonl_fails("[1]", "line 2");
    jsonl_fails("{\"prompt\": \"a\", \"prompt\": \"b\", \"completion\": \"c\"}", "'prompt' stands here twice");
    jsonl_fails("{\"prompt\": \"\xff\", \"completion\": \"b\"}", "line 2");
    jsonl_fails("{\"prompt\": \"12345\", \"completion\": \"6789\"}", "line 2, byte 41: 10 tokens, but a sample takes 9");
    OPEN_FAILS(QT_EDATA, "the prompt alone has 9 tokens", "{use: jsonl, path: %s, seq_len: 8, too_long: cut}", file);
    OPEN_FAILS(QT_EDATA, "no lines to train on", "{use: jsonl, path: %s, seq_len: 8, too_long: drop}", file);
}

/* Cut anywhere, or with any byte changed: lines, or an error that names the file. */
static void test_jsonl_fuzz(void **state)
{
    static const char lines[] = "{\"prompt\": \"a\\u00e9\\n\", \"completion\": \"b\"}\n{\"completion\": \"\\ud83c\\udf89\", \"prompt\": \"\"}\n";
    (void)state;
    for (size_t k = 0; k < 3 * (sizeof lines - 1); k++) {
        char     damaged[sizeof lines];
        size_t   n = sizeof lines - 1, at = k / 3;
        qt_data *d;
        memcpy(damaged, lines, sizeof lines);
        if (k % 3) damaged[at] = (char)(k % 3 == 1 ? damaged[at] ^ 0x10 : 0xff);
        else n = at;
        write_file(path_of("fuzz.jsonl"), damaged, n);
        expect_ok(read_section(&d, "{use: jsonl, path: %s, seq_len: 16, test_fraction: 0.5}", path_of("fuzz.jsonl")));
        if (qt_data_open(d, 1) != QT_OK) assert_non_null(strstr(qt_error_text(), "fuzz.jsonl"));
        qt_error_clear();
        qt_data_close(d);
    }
}

/* ---- corpora ---------------------------------------------------------------------------------------------------------------------------- */

/* A prepared file of that many documents "a0 ", "b1 " ... */
static void put_corpus(const char *name, int documents)
{
    qt_corpus_text t = {0};
    folder(name);
    for (int i = 0; i < documents; i++) {
        char line[16];
        expect_ok(qt_corpus_end(&t));
        expect_ok(qt_corpus_line(&t, line, (size_t)snprintf(line, sizeof line, "%c%d of it  ", 'a' + i % 26, i)));
    }
    write_file(path_of(qt_arena_sprintf(&arena, "%s/%s.txt", name, name)), t.p, (size_t)t.n);
    qt_free(t.p);
}

static int64_t first_token(qt_data *d, qt_split s)
{
    int32_t x[8], y[8];
    expect_ok(qt_data_tokens(d, s, 0, NULL, x, y));
    return x[0];
}

static void test_corpora(void **state)
{
    qt_data *d;
    (void)state;
    OPEN_FAILS(QT_EIO, "data set kjv not found; `qtape data get kjv` brings it", "{use: kjv}");
    put_corpus("kjv", 66), put_corpus("licences", 10), put_corpus("wordnet", 200);
    OPEN(d, "{use: kjv, seq_len: 8, part: old}");
    assert_int_equal(first_token(d, QT_TRAIN), 'a');
    assert_int_equal(first_token(d, QT_TEST), 'a' + 38 % 26); /* the last 5 % hold one whole document */
    qt_data_close(d);
    OPEN(d, "{use: kjv, seq_len: 8, part: new, test_fraction: 0.2}");
    assert_int_equal(first_token(d, QT_TRAIN), 'a' + 39 % 26);
    assert_int_equal(first_token(d, QT_TEST), 'a' + 61 % 26);
    qt_data_close(d);
    OPEN(d, "{use: licences, seq_len: 8}");
    assert_int_equal(first_token(d, QT_TEST), 'a' + 7);
    assert_int_equal(qt_data_size(d, QT_TEST), (3 * 9 - 1 - 2) / 8 + 1);
    qt_data_close(d);
    READ_FAILS("data.test_fraction: unknown key", "{use: licences, test_fraction: 0.1}");
    OPEN(d, "{use: wordnet, seq_len: 8, tokens: %s}", make_vocab("w.bpe", story, 260));
    assert_int_equal(qt_data_info_of(d)->ids, 260);
    qt_data_close(d);
}

static void test_cleaning(void **state)
{
    static const char dirty[] = "tab\tkept \xe2\x82\xac\xff\xe2\x82 \x1b[1mbell\a \xc3\xa9\r";
    qt_corpus_text    t = {0};
    (void)state;
    expect_ok(qt_corpus_end(&t));
    expect_ok(qt_corpus_line(&t, dirty, sizeof dirty - 1));
    expect_ok(qt_corpus_line(&t, "  \t ", 4));
    expect_ok(qt_corpus_end(&t)), expect_ok(qt_corpus_end(&t));
    static const char clean[] = "tab\tkept \xe2\x82\xac [1mbell \xc3\xa9\n\n";
    assert_int_equal(t.n, sizeof clean);
    assert_memory_equal(t.p, clean, sizeof clean);
    qt_free(t.p);
}

/* Files below a folder stand in an order that follows from their names alone, whatever is in front of these. */
static void test_order(void **state)
{
    qt_corpus_text t[2] = {{0}, {0}};
    (void)state;
    for (int k = 0; k < 2; k++) {
        const char *root = k ? "deep/below" : "order";
        if (k) folder("deep");
        folder(root), folder(qt_arena_sprintf(&arena, "%s/skip", root)), folder(qt_arena_sprintf(&arena, "%s/sub", root));
        for (int i = 0; i < 9; i++)
            put(qt_arena_sprintf(&arena, "%s/%s%d.rst", root, i % 2 ? "sub/" : "", k ? 8 - i : i), qt_arena_sprintf(&arena, "%d", k ? 8 - i : i));
        put(qt_arena_sprintf(&arena, "%s/skip/x.rst", root), "skipped"), put(qt_arena_sprintf(&arena, "%s/y.txt", root), "skipped");
        expect_ok(qt_corpus_folder(&t[k], path_of(root), ".rst", "skip"));
    }
    assert_int_equal(t[0].n, 9 * 3 - 1);
    assert_int_equal(t[1].n, t[0].n);
    assert_memory_equal(t[0].p, t[1].p, (size_t)t[0].n);
    bool sorted = true;
    for (int i = 3; i < t[0].n; i += 3) sorted &= t[0].p[i] > t[0].p[i - 3];
    assert_false(sorted);
    qt_free(t[0].p), qt_free(t[1].p);
}

/* Where the packages are installed, the texts are made anew and have their checksums. */
static void test_fetch(void **state)
{
    static const struct { const qt_dataset *set; const char *probe; } c[] = {
        {&qt_dataset_kjv, "/usr/bin/bible"}, {&qt_dataset_wordnet, "/usr/share/wordnet/data.noun"}, {&qt_dataset_licences, "/usr/share/common-licenses/MPL-2.0"}};
    (void)state;
    for (size_t k = 0; k < sizeof c / sizeof *c; k++) {
        if (access(c[k].probe, R_OK)) continue;
        unlink(path_of(qt_arena_sprintf(&arena, "%s/%s.txt", c[k].set->d.name, c[k].set->d.name)));
        assert_null(c[k].set->find(&arena, NULL));
        expect_ok(c[k].set->fetch(NULL));
        assert_string_equal(c[k].set->find(&arena, NULL), path_of(c[k].set->d.name));
    }
}

/* ---- a run ------------------------------------------------------------------------------------------------------------------------------ */

/* The mean loss over the test text, from logits of every token that counts. */
static double loss_of(const R *logits, const R *target, int64_t n, int64_t V)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double total = 0;
        for (int64_t k = 0; k < V; k++) total += exp((double)logits[i * V + k]);
        sum += log(total) - (double)logits[i * V + (int64_t)target[i]];
    }
    return sum / (double)n;
}

static qt_run *begin_run(const char *recipe_text, const char *dir, qt_arena *a)
{
    qt_recipe *rc;
    qt_run    *r;
    char      *file = put("r.yaml", recipe_text);
    expect_ok(qt_recipe_load(a, file, 0, NULL, NULL, &rc));
    expect_ok(qt_run_new(rc, path_of(dir), NULL, true, QT_PROGRESS_QUIET, &r));
    return r;
}

static char *slurp(const char *path)
{
    char  *s = NULL;
    size_t n;
    expect_ok(qt_file_read(&arena, path_of(path), &s, &n));
    return qt_arena_strdup(&arena, s);
}

static const char *recipe_of(int steps, int batch)
{
    return qt_arena_sprintf(&arena,
                            "recipe: 1\nname: t\ndata: {use: text, path: %s, seq_len: 32, batch_size: 4, test_fraction: 0.2}\n"
                            "model: [{use: embedding, num: 256, dim: 16}, {use: linear, out: 256}]\nmetric: top5\n"
                            "optim: {use: adam, lr: 1e-2}\ntrain: {steps: %d, eval_every: 10, log_every: 1, eval_batch_size: %d}\n",
                            whole_text(), steps, batch);
}

static void test_run(void **state)
{
    qt_arena  a = {0};
    qt_run   *r = begin_run(recipe_of(20, 256), "run", &a);
    qt_result res, again, small;
    (void)state;
    expect_ok(qt_run_go(r, &res));
    assert_true(res.tokens && !res.classes);
    assert_int_equal(res.n, 399);
    R *logits = qt_alloc(13 * 32 * 256 * sizeof *logits), *target = qt_alloc(13 * 32 * sizeof *target);
    expect_ok(qt_run_eval(r, QT_TEST, &again, logits, target));
    assert_true(again.loss == res.loss && again.metric == res.metric);
    int top5 = 0;
    for (int i = 0; i < 399; i++) {
        int above = 0;
        assert_int_equal((int)target[i], text[1601 + i]);
        for (int k = 0; k < 256; k++) above += logits[256 * i + k] > logits[256 * i + text[1601 + i]];
        top5 += above < 5;
    }
    assert_true(top5 > 0 && fabs(res.metric - top5 / 399.0) < 1e-12);
    assert_true(fabs(loss_of(logits, target, 399, 256) - res.loss) < 1e-5);
    qt_run_free(r), qt_arena_free(&a);
    r = begin_run(recipe_of(20, 3), "run3", &a); /* the loss a token does not depend on how the split is cut */
    expect_ok(qt_run_go(r, &small));
    assert_true(fabs(small.loss - res.loss) < 1e-5);
    qt_run_free(r), qt_arena_free(&a);
    const char *m = slurp("run/metrics.jsonl"), *final = strstr(m, "\"event\": \"final\"");
    assert_true(strstr(m, "\"perplexity\": ") && strstr(m, "\"tokens_per_s\": ") && !strstr(m, "\"accuracy\"") && !strstr(m, "samples_per_s"));
    assert_non_null(strstr(final, qt_arena_sprintf(&arena, "\"perplexity\": %.9g, ", exp(res.loss))));
    assert_non_null(strstr(final, "\"n\": 399, "));
    qt_free(logits), qt_free(target);
}

/* Claims of text are about what text has. */
static void test_claims(void **state)
{
    static const struct { const char *metric, *message; } c[] = {
        {"", "claims[0].metric: test.accuracy is nothing that text has; test.perplexity and tokens_per_s are"},
        {", metric: samples_per_s", "claims[0].metric: samples_per_s is nothing that text has"}, {", metric: test.perplexity", NULL},
        {", metric: test.top5", NULL}, {", metric: tokens_per_s", NULL}, {", metric: test.perplexty", "did you mean 'test.perplexity'?"}};
    qt_arena   a = {0};
    qt_recipe *rc;
    (void)state;
    for (size_t k = 0; k < sizeof c / sizeof *c; k++) {
        char  *file = put("c.yaml", qt_arena_sprintf(&arena, "%sclaims: [{say: x, arm: base, at_most: 3%s}]\n", recipe_of(5, 9), c[k].metric));
        qt_err e = qt_recipe_load(&a, file, 0, NULL, NULL, &rc);
        if (c[k].message) expect(e, QT_ERECIPE, c[k].message);
        else expect_ok(e);
    }
    qt_arena_free(&a);
}

/* A run in two parts has the checkpoint of a run in one. */
static void test_resume(void **state)
{
    qt_arena     a = {0};
    qt_run      *r = begin_run(recipe_of(30, 256), "one", &a);
    qt_result    res;
    volatile int stop = 1;
    char         whole[QT_SHA256_TEXT], parts[QT_SHA256_TEXT];
    (void)state;
    expect_ok(qt_run_go(r, &res));
    R *values = qt_alloc((size_t)r->store->size * sizeof *values);
    memcpy(values, r->store->value, (size_t)r->store->size * sizeof *values);
    size_t n = (size_t)r->store->size * sizeof *values;
    qt_sha256(values, n, whole), qt_free(values);
    qt_run_free(r), qt_arena_free(&a);
    r = begin_run(recipe_of(30, 256), "two", &a);
    r->stop = &stop;
    expect(qt_run_go(r, &res), QT_ESTOPPED, "stopped at step 1");
    qt_run_free(r), qt_arena_free(&a);
    expect_ok(qt_run_resume(path_of("two"), QT_PROGRESS_QUIET, &r));
    expect_ok(qt_run_go(r, &res));
    qt_sha256(r->store->value, n, parts);
    assert_string_equal(whole, parts);
    qt_run_free(r);
}

/* Every allocation of opening fails in turn: an error, never a crash. */
static void test_out_of_memory(void **state)
{
    char *txt = put("story.txt", story), *vocab = make_vocab("oom.bpe", story, 268);
    char *lines = put("oom.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"c\", \"completion\": \"d\"}\n");
    (void)state;
    for (int k = 0; k < 3; k++) {
        qt_err e = QT_EMEM;
        for (int64_t at = 1; e != QT_OK; at++) {
            qt_data *d;
            assert_int_equal(system(qt_arena_sprintf(&arena, "rm -rf %s/tokens", scratch)), 0);
            expect_ok(k == 0   ? read_section(&d, "{use: text, path: [%s, %s], seq_len: 8}", txt, txt)
                      : k == 1 ? read_section(&d, "{use: text, path: %s, seq_len: 8, tokens: %s}", txt, vocab)
                               : read_section(&d, "{use: jsonl, path: %s, seq_len: 8}", lines));
            qt_alloc_fail_at(at);
            e = qt_data_open(d, 1);
            qt_alloc_fail_at(0);
            if (e != QT_OK) expect(e, QT_EMEM, "out of memory");
            qt_data_close(d);
            assert_true(at < 1000);
        }
    }
}

static int start(void **state)
{
    int failed = make_scratch(state);
    setenv("QTAPE_DATA", scratch, 1);
    return failed;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),   cmocka_unit_test(test_epochs),    cmocka_unit_test(test_files), cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_vocab),     cmocka_unit_test(test_bad_vocab), cmocka_unit_test(test_jsonl), cmocka_unit_test(test_bad_jsonl),
        cmocka_unit_test(test_jsonl_fuzz),
        cmocka_unit_test(test_corpora),   cmocka_unit_test(test_cleaning),  cmocka_unit_test(test_order), cmocka_unit_test(test_fetch),
        cmocka_unit_test(test_claims),    cmocka_unit_test(test_run),       cmocka_unit_test(test_resume),    cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, start, remove_scratch);
}
