/* Byte pair encoding: the vocabulary and the tokens of an independent program, a plain training beside the fast one, files and their damage. */
#include "base/bpe.h"
#include "base/utf8.h"
#include "data_util.h"
#include "golden/bpe.h"

enum { SAMPLES = sizeof golden_sizes / sizeof *golden_sizes / 2, MERGES = sizeof golden_merges / sizeof *golden_merges / 2 };

static qt_bpe *trained(const char *text, size_t n, int64_t vocab)
{
    qt_bpe_words *w;
    qt_bpe       *b;
    expect_ok(qt_bpe_words_new(&w));
    expect_ok(qt_bpe_count(w, text, n));
    expect_ok(qt_bpe_train(w, vocab, &b));
    qt_bpe_words_free(w);
    return b;
}

static void expect_merges(const qt_bpe *b, const int32_t *want, int64_t n)
{
    assert_int_equal(qt_bpe_vocab(b), QT_BPE_BYTES + n);
    for (int64_t k = 0; k < n; k++) {
        int32_t left, right;
        qt_bpe_merge(b, k, &left, &right);
        if (left != want[2 * k] || right != want[2 * k + 1])
            fail_msg("merge %lld is %d %d, expected %d %d", (long long)k, left, right, want[2 * k], want[2 * k + 1]);
    }
}

/* ---- against the independent program -------------------------------------------------------------------------------------------- */

static qt_bpe *golden(void)
{
    qt_bpe *b;
    expect_ok(qt_bpe_make("golden", MERGES, golden_merges, &b));
    return b;
}

static void test_golden_merges(void **state)
{
    uint8_t *text;
    size_t   n = read_file("recipes/smoke/data/text.txt", &text);
    qt_bpe  *b = trained((char *)text, n, QT_BPE_BYTES + MERGES);
    (void)state;
    expect_merges(b, golden_merges, MERGES);
    qt_bpe_free(b), qt_free(text);
}

static void test_golden_text(void **state)
{
    uint8_t *text;
    size_t   n = read_file("recipes/smoke/data/text.txt", &text);
    qt_bpe  *b = golden();
    int32_t *ids = qt_alloc(n * sizeof *ids);
    int64_t  count;
    uLong    crc = crc32(0, NULL, 0);
    (void)state;
    expect_ok(qt_bpe_encode(b, (char *)text, n, ids, &count));
    assert_int_equal(count, GOLDEN_TOKENS);
    for (int64_t i = 0; i < count; i++) crc = crc32(crc, (uint8_t[]){(uint8_t)ids[i], (uint8_t)(ids[i] >> 8)}, 2);
    assert_int_equal(crc, golden_crc);
    qt_bpe_free(b), qt_free(text), qt_free(ids);
}

static void test_golden_samples(void **state)
{
    qt_bpe        *b = golden();
    const uint8_t *s = golden_bytes;
    const int32_t *want = golden_ids;
    (void)state;
    for (int k = 0; k < SAMPLES; k++) {
        int32_t ids[512];
        int64_t count;
        size_t  n = (size_t)golden_sizes[2 * k], back;
        char   *text;
        expect_ok(qt_bpe_encode(b, (const char *)s, n, ids, &count));
        assert_int_equal(count, golden_sizes[2 * k + 1]);
        assert_memory_equal(ids, want, (size_t)count * sizeof *ids);
        expect_ok(qt_bpe_decode(b, ids, count, &text, &back));
        assert_int_equal(back, n);
        assert_memory_equal(text, s, n);
        qt_free(text);
        s += n, want += count;
    }
    qt_bpe_free(b);
}

/* ---- a plain training, and a plain encoding --------------------------------------------------------------------------------------- */

typedef struct plain {
    int32_t s[4000];
    bool    first[4000]; /* of a word */
    int     n;
} plain;

static void plain_join(plain *p, int32_t left, int32_t right, int32_t id)
{
    int to = 0;
    for (int i = 0; i < p->n; i++, to++) {
        bool here = i + 1 < p->n && p->s[i] == left && p->s[i + 1] == right && !p->first[i + 1];
        p->first[to] = p->first[i], p->s[to] = here ? id : p->s[i];
        i += here;
    }
    p->n = to;
}

static void plain_words(plain *p, const char *text, size_t n)
{
    p->n = 0;
    for (size_t at = 0, len; at < n; at += len) {
        len = qt_bpe_word(text + at, n - at);
        for (size_t i = 0; i < len; i++) p->first[p->n] = i == 0, p->s[p->n++] = (uint8_t)text[at + i];
    }
}

/* The pair that occurs most often, the lower one of two; false if none does twice. */
static bool plain_best(const plain *p, int32_t *left, int32_t *right)
{
    int most = 1;
    for (int i = 0; i + 1 < p->n; i++) {
        int     count = 0;
        int32_t a = p->s[i], b = p->s[i + 1];
        for (int j = 0; j + 1 < p->n; j++) count += p->s[j] == a && p->s[j + 1] == b && !p->first[j + 1];
        bool lower = count == most && most > 1 && (a < *left || (a == *left && b < *right));
        if (!p->first[i + 1] && (count > most || lower)) most = count, *left = a, *right = b;
    }
    return most > 1;
}

static void check_plain(const char *text, size_t n, int64_t vocab)
{
    static plain  p;
    int32_t       merge[128], ids[4000];
    int64_t       k = 0, count;
    qt_bpe       *b;
    qt_bpe_words *w;
    plain_words(&p, text, n);
    for (; k < vocab - QT_BPE_BYTES && plain_best(&p, &merge[2 * k], &merge[2 * k + 1]); k++)
        plain_join(&p, merge[2 * k], merge[2 * k + 1], (int32_t)(QT_BPE_BYTES + k));
    b = trained(text, n, QT_BPE_BYTES + k);
    expect_merges(b, merge, k);
    expect_ok(qt_bpe_encode(b, text, n, ids, &count));
    assert_int_equal(count, p.n);
    assert_memory_equal(ids, p.s, (size_t)count * sizeof *ids);
    qt_bpe_free(b);
    if (QT_BPE_BYTES + k == vocab) return;
    expect_ok(qt_bpe_words_new(&w));
    expect_ok(qt_bpe_count(w, text, n));
    expect(qt_bpe_train(w, vocab, &b), QT_EUSAGE, qt_arena_sprintf(&arena, "supports %lld tokens", (long long)k + QT_BPE_BYTES));
    qt_bpe_words_free(w);
}

static void test_plain(void **state)
{
    char   text[400];
    qt_rng r = qt_rng_named(3, "bpe");
    (void)state;
    for (int t = 0; t < 60; t++) {
        size_t n = 20 + (size_t)qt_rng_below(&r, 380), letters = 1 + (size_t)qt_rng_below(&r, 6);
        for (size_t i = 0; i < n; i++) text[i] = "ab  c\n'\xc3\xa9" "1"[qt_rng_below(&r, letters + 3)];
        check_plain(text, n, QT_BPE_BYTES + 1 + (int64_t)qt_rng_below(&r, 60));
    }
    memset(text, 'a', sizeof text); /* one long word: overlapping pairs */
    check_plain(text, 200, QT_BPE_BYTES + 20);
}

/* ---- words ------------------------------------------------------------------------------------------------------------------------ */

static void test_words(void **state)
{
    static const struct { const char *text; size_t n; const char *cut; } c[] = {
        {"I've  seen\n\n a 3rd\ttime", 23, "I|'ve| | seen|\n\n| a| 3|rd|\t|time|"}, {" 's", 3, " '|s|"}, {"can't", 5, "can|'t|"},
        {"   ", 3, "   |"}, {"a\n\0b", 4, "a|\n|~|b|"}, {"a \n \0", 5, "a| \n |~|"}, {"x=-1;  y", 8, "x|=-|1|;| | y|"},
        {"na\xc3\xafve\xe2\x80\x94\xe2\x80\x9c" "a\xe2\x80\x9d \xc2\xbd\xd9\xa3", 21, "na\xc3\xafve|\xe2\x80\x94\xe2\x80\x9c|a|\xe2\x80\x9d| \xc2\xbd\xd9\xa3|"},
        {"a\xe2\x80\x83\xe2\x80\x83z \xff", 10, "a|\xe2\x80\x83|\xe2\x80\x83|z| \xff|"}};
    (void)state;
    for (size_t k = 0; k < sizeof c / sizeof *c; k++) {
        char   cut[64], *to = cut;
        size_t len;
        for (size_t at = 0; at < c[k].n; at += len) {
            len = qt_bpe_word(c[k].text + at, c[k].n - at);
            assert_in_range(len, 1, c[k].n - at);
            for (size_t i = 0; i < len; i++) *to++ = c[k].text[at + i] ? c[k].text[at + i] : '~';
            *to++ = '|';
        }
        *to = 0;
        assert_string_equal(cut, c[k].cut);
    }
}

/* Words too long for the table of words seen, and one that a slow encoding would never come through. */
static void test_long_words(void **state)
{
    size_t   n = 1 << 20, back;
    char    *text = qt_alloc(n), *again;
    int32_t *ids = qt_alloc(n * sizeof *ids);
    int64_t  count;
    qt_bpe  *b = golden();
    (void)state;
    for (size_t i = 0; i < n; i++) text[i] = "etaoin"[i * i % 7 % 6];
    expect_ok(qt_bpe_encode(b, text, n, ids, &count));
    expect_ok(qt_bpe_decode(b, ids, count, &again, &back));
    assert_int_equal(back, n);
    assert_memory_equal(again, text, n);
    qt_bpe_free(b), qt_free(text), qt_free(ids), qt_free(again);
}

/* ---- files ------------------------------------------------------------------------------------------------------------------------ */

static void test_file(void **state)
{
    char    *file = path_of("a.bpe");
    qt_bpe  *b = golden(), *c;
    uint8_t *one, *two;
    (void)state;
    expect_ok(qt_bpe_save(b, file));
    expect_ok(qt_bpe_load(file, &c));
    expect_merges(c, golden_merges, MERGES);
    expect_ok(qt_bpe_save(c, path_of("b.bpe")));
    size_t n = read_file(file, &one);
    assert_int_equal(n, read_file(path_of("b.bpe"), &two));
    assert_memory_equal(one, two, n);
    qt_bpe_free(b), qt_bpe_free(c), qt_free(one), qt_free(two);
}

static void load_fails(const char *text, const char *message)
{
    qt_bpe *b;
    write_file(path_of("bad.bpe"), text, strlen(text));
    expect(qt_bpe_load(path_of("bad.bpe"), &b), QT_EDATA, message);
    assert_null(b);
}

/* A file of these merges with the right checksum. */
static void merges_fail(int vocab, const char *merges, const char *message)
{
    load_fails(qt_arena_sprintf(&arena, "qtape-bpe 1\nvocab %d\ncrc32 %08lx\n%s", vocab, crc32(0, (const Bytef *)merges, (uInt)strlen(merges)), merges),
               message);
}

static void test_bad_files(void **state)
{
    qt_bpe *b;
    char    ends[4096];
    (void)state;
    expect(qt_bpe_load(path_of("none.bpe"), &b), QT_EIO, "none.bpe");
    load_fails("", "bad.bpe:1: is no vocabulary");
    load_fails("qtape-bpe 2\nvocab 256\n", "bad.bpe:1: is no vocabulary");
    load_fails("qtape-bpe 1\nvocab 12\n", "bad.bpe:2: expected `vocab`");
    load_fails("qtape-bpe 1\nvocab 99999999999999999999\n", "bad.bpe:2: expected `vocab`");
    load_fails("qtape-bpe 1\nvocab 257\ncrc32 zz\n97 98\n", "bad.bpe:3: expected `crc32`");
    load_fails("qtape-bpe 1\nvocab 257\ncrc32 00000000\n97 98\n", "checksum");
    merges_fail(1 << 20, "97 98\n", "too short");
    merges_fail(258, "97 98\n", "bad.bpe:5: expected the two tokens");
    merges_fail(257, "97 98\n98 99\n", "bad.bpe:5: more merges");
    merges_fail(257, "97 256\n", "merge 0 joins 97 and 256, expected two tokens from 1 to 255");
    merges_fail(257, "0 97\n", "expected two tokens from 1");
    merges_fail(257, "97  98\n", "bad.bpe:4: expected the two tokens of merge 0, found '97  98'");
    merges_fail(257, "97 -1\n", "bad.bpe:4");
    merges_fail(258, "97 98\n97 98\n", "as an earlier one");
    for (int k = 0, n = 0; k < 9; k++) n += snprintf(ends + n, sizeof ends - (size_t)n, "%d %d\n", k ? 255 + k : 97, k ? 255 + k : 97);
    merges_fail(265, ends, "more than 256 bytes");
}

/* A file cut anywhere, or with any byte changed, is refused. */
static void test_fuzz(void **state)
{
    qt_bpe  *b = golden();
    char    *file = path_of("f.bpe");
    uint8_t *bytes;
    (void)state;
    expect_ok(qt_bpe_save(b, file));
    qt_bpe_free(b);
    size_t n = read_file(file, &bytes);
    for (size_t k = 0; k < n; k++) {
        write_file(file, bytes, k);
        expect(qt_bpe_load(file, &b), QT_EDATA, "f.bpe");
        bytes[k] ^= 1;
        write_file(file, bytes, n);
        if (qt_bpe_load(file, &b) == QT_OK) fail_msg("byte %zu changed, and nobody sees it", k);
        qt_error_clear();
        bytes[k] ^= 1;
    }
    qt_free(bytes);
}

static void test_bounds(void **state)
{
    qt_bpe_words *w;
    qt_bpe       *b = golden();
    char         *text;
    size_t        n;
    (void)state;
    expect(qt_bpe_decode(b, (int32_t[]){1, 256 + MERGES}, 2, &text, &n), QT_EDATA, "token 1 is 420, expected 0 to 419");
    expect(qt_bpe_decode(b, (int32_t[]){-1}, 1, &text, &n), QT_EDATA, "token 0 is -1");
    qt_bpe_free(b);
    expect_ok(qt_bpe_words_new(&w));
    expect(qt_bpe_train(w, 257, &b), QT_EUSAGE, "the text supports 256 tokens");
    expect(qt_bpe_train(w, 255, &b), QT_EUSAGE, "expected 256 to");
    expect_ok(qt_bpe_train(w, 256, &b));
    assert_memory_equal(qt_bpe_token(b, 65, &n), "A", 1);
    assert_int_equal(n, 1);
    qt_bpe_words_free(w), qt_bpe_free(b);
}

/* Every allocation fails in turn: an error, never a crash. */
static void test_out_of_memory(void **state)
{
    (void)state;
    qt_err e = QT_EMEM;
    for (int64_t at = 1; e != QT_OK; at++) {
        qt_bpe_words *w = NULL;
        qt_bpe       *b = NULL;
        int32_t       ids[32];
        int64_t       count;
        qt_alloc_fail_at(at);
        e = qt_bpe_words_new(&w);
        if (e == QT_OK) e = qt_bpe_count(w, "banana bandana", 14);
        if (e == QT_OK) e = qt_bpe_train(w, 259, &b);
        if (e == QT_OK) e = qt_bpe_encode(b, "banana bandana", 14, ids, &count);
        qt_alloc_fail_at(0);
        if (e != QT_OK) expect(e, QT_EMEM, "out of memory");
        qt_bpe_words_free(w), qt_bpe_free(b);
        assert_true(at < 200);
    }
}

static void test_utf8(void **state)
{
    static const struct { const char *text; size_t bad; } c[] = {
        {"plain", 5}, {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x8e\x89", 9}, {"a\xff", 1}, {"ab\xc3", 2}, {"\xc0\xaf", 0}, {"\xed\xa0\x80", 0},
        {"\xf4\x90\x80\x80", 0}, {"\xe0\x80\x80", 0}, {"x\xe2\x82", 1}, {"\xf0\x8f\xbf\xbf", 0}, {"\xf4\x8f\xbf\xbf", 4}, {"\x80", 0}};
    (void)state;
    for (size_t k = 0; k < sizeof c / sizeof *c; k++) assert_int_equal(qt_utf8_bad(c[k].text, strlen(c[k].text)), c[k].bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_merges), cmocka_unit_test(test_golden_text), cmocka_unit_test(test_golden_samples),
        cmocka_unit_test(test_plain),         cmocka_unit_test(test_words),       cmocka_unit_test(test_long_words),
        cmocka_unit_test(test_file),          cmocka_unit_test(test_bad_files),   cmocka_unit_test(test_fuzz),
        cmocka_unit_test(test_bounds),        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
