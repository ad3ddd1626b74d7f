/* GGUF: round trip, the bytes of a file by hand, one message for each way in which a file can lie, and that nothing else happens to damaged ones. */
#include "base/gguf.h"
#include "files_util.h"
#include <sys/stat.h>

static const float   values[64] = {1, -2, 3};
static const int64_t shape[] = {32, 2};

static void write_sample(void)
{
    qt_gguf_out *o;
    OK(qt_gguf_create(file, &o));
    qt_gguf_put_str(o, "general.architecture", "llama");
    qt_gguf_put_u32(o, "llama.block_count", 4000000000u);
    qt_gguf_put_f32(o, "llama.eps", 1e-5f);
    qt_gguf_put_bool(o, "flag", true);
    qt_gguf_put_strs(o, "tokens", 3, (const char *const[]){"a", "", "\xe2\x96\x81"});
    qt_gguf_put_i32s(o, "kinds", 3, (int32_t[]){1, -2, 3});
    qt_gguf_put_f32s(o, "scores", 2, (float[]){0.5f, -1});
    qt_gguf_add(o, "w", qt_ggml_find("F32"), 2, shape);
    qt_gguf_add(o, "q", qt_ggml_find("Q4_0"), 1, shape);
    qt_gguf_add(o, "one", qt_ggml_find("F32"), 1, (int64_t[]){1});
    qt_gguf_data(o, values, 100); /* in pieces that are no tensors */
    qt_gguf_data(o, values + 25, 156);
    qt_gguf_data(o, (uint8_t[18]){0, 60, 1}, 18);
    qt_gguf_data(o, values + 2, 4);
    OK(qt_gguf_close(o));
}

static void test_round_trip(void **state)
{
    qt_gguf              *g;
    const qt_gguf_key    *k;
    const qt_gguf_tensor *t;
    const char           *s;
    int64_t               i;
    double                d;
    size_t                n;
    (void)state;
    write_sample();
    OK(qt_gguf_open(file, &g));
    assert_true(g->version == 3 && g->alignment == 32 && g->n_keys == 7 && g->n_tensors == 3);
    OK(qt_gguf_str(g, "general.architecture", &s));
    assert_string_equal(s, "llama");
    OK(qt_gguf_int(g, "llama.block_count", &i));
    assert_true(i == 4000000000);
    OK(qt_gguf_real(g, "llama.eps", &d));
    assert_true(d == (double)1e-5f);
    OK(qt_gguf_int(g, "flag", &i));
    assert_true(i == 1);
    k = qt_gguf_find(g, "kinds");
    assert_true(k && k->array && k->n == 3 && k->type == QT_GGUF_I32 && qt_gguf_integer(k, 1) == -2);
    k = qt_gguf_find(g, "scores");
    assert_true(k && qt_gguf_number(k, 0) == 0.5 && qt_gguf_number(k, 1) == -1);
    k = qt_gguf_find(g, "tokens");
    assert_true(k && k->n == 3 && k->type == QT_GGUF_STR);
    const uint8_t *p = k->p;
    s = qt_gguf_next_str(&p, &n);
    assert_true(n == 1 && *s == 'a');
    (void)qt_gguf_next_str(&p, &n);
    assert_true(n == 0);
    s = qt_gguf_next_str(&p, &n);
    assert_true(n == 3 && !memcmp(s, "\xe2\x96\x81", 3));
    t = qt_gguf_find_tensor(g, "w");
    assert_true(t && t->rank == 2 && t->dim[0] == 32 && t->dim[1] == 2 && t->dim[2] == 1 && t->n == 64 && t->bytes == 256);
    assert_memory_equal(t->data, values, 256);
    t = qt_gguf_find_tensor(g, "q");
    assert_true(t && t->type->id == QT_GGML_Q4_0 && t->bytes == 18 && t->data == g->tensor[0].data + 256 && t->data[2] == 1);
    t = qt_gguf_find_tensor(g, "one");
    assert_true(t && t->data == g->tensor[1].data + 32 && !memcmp(t->data, values + 2, 4));
    assert_null(qt_gguf_find(g, "none"));
    assert_null(qt_gguf_find_tensor(g, "none"));
    assert_int_equal(qt_gguf_int(g, "none", &i), QT_EDATA);
    says("has no key 'none'");
    assert_int_equal(qt_gguf_int(g, "kinds", &i), QT_EDATA);
    says("key 'kinds': expected an integer, found an array of i32");
    assert_int_equal(qt_gguf_str(g, "flag", &s), QT_EDATA);
    says("key 'flag': expected a string, found bool");
    assert_int_equal(qt_gguf_real(g, "general.architecture", &d), QT_EDATA);
    says("key 'general.architecture': expected a number, found string");
    qt_gguf_free(g);
}

/* ---- files by hand --------------------------------------------------------------------------------------------------------------- */

static uint8_t bytes[8192];
static size_t  n_bytes;

static void put(const void *p, size_t n) { memcpy(bytes + n_bytes, p, n), n_bytes += n; }
static void u32(uint32_t v) { put(&v, 4); }
static void u64(uint64_t v) { put(&v, 8); }
static void str(const char *s) { u64(strlen(s)), put(s, strlen(s)); }

static void head(uint32_t version, uint64_t tensors, uint64_t keys) { n_bytes = 0, put("GGUF", 4), u32(version), u64(tensors), u64(keys); }
static void pad(void)
{
    while (n_bytes % 32) put("", 1);
}
static void info(const char *name, int rank, const int64_t *dim, uint32_t type, uint64_t offset)
{
    str(name), u32((uint32_t)rank), put(dim, (size_t)rank * 8), u32(type), u64(offset);
}

static void refused(const char *message)
{
    qt_gguf *g;
    put_file(bytes, n_bytes);
    assert_int_equal(qt_gguf_open(file, &g), QT_EDATA);
    assert_null(g);
    says(message);
}

static void accepted(void)
{
    qt_gguf *g;
    put_file(bytes, n_bytes);
    OK(qt_gguf_open(file, &g));
    qt_gguf_free(g);
}

static void test_bytes(void **state)
{
    uint8_t written[8192];
    (void)state;
    head(3, 2, 2);
    str("k"), u32(4), u32(7);
    str("s"), u32(9), u32(8), u64(1), str("xy");
    info("a", 1, (int64_t[]){3}, 0, 0), info("b", 1, (int64_t[]){1}, 0, 32);
    pad(), put((float[]){1, 2, 3}, 12), pad(), put((float[]){4}, 4), pad();
    accepted();
    qt_gguf_out *o;
    OK(qt_gguf_create(file, &o));
    qt_gguf_put_u32(o, "k", 7), qt_gguf_put_strs(o, "s", 1, (const char *const[]){"xy"});
    qt_gguf_add(o, "a", qt_ggml_of(0), 1, (int64_t[]){3}), qt_gguf_add(o, "b", qt_ggml_of(0), 1, (int64_t[]){1});
    qt_gguf_data(o, (float[]){1, 2, 3, 4}, 16);
    OK(qt_gguf_close(o));
    assert_int_equal(get_file(written, sizeof written), n_bytes);
    assert_memory_equal(written, bytes, n_bytes);
    head(2, 0, 0);
    accepted();
}

static void test_lies(void **state)
{
    const int64_t two[] = {2}, huge[] = {1ll << 40, 1ll << 40}, minus[] = {-4}, flat[] = {1, 2, 3, 4, 5};
    (void)state;
    n_bytes = 0, put("GGUG", 4);
    refused("is no GGUF file: its first bytes are not 'GGUF'");
    head(1, 0, 0), refused("version 1 of GGUF, expected 2 or 3");
    head(3u << 24, 0, 0), refused("a big-endian GGUF file, expected little-endian");
    head(3, 0, 1ull << 63), refused("claims 9223372036854775808 keys, which do not fit into its 24 bytes");
    head(3, UINT64_MAX, 0), refused("claims 18446744073709551615 tensors, which do not fit into its 24 bytes");
    head(3, 0, 1), u64(1ull << 63), put(bytes, 16), refused("key 1 of 1: its name has 9223372036854775808 bytes, expected 1 to 65535");
    head(3, 0, 1), str(""), put(bytes, 16), refused("key 1 of 1: its name has 0 bytes, expected 1 to 65535");
    head(3, 0, 1), str("a\033[2J"), put(bytes, 16), refused("key 1 of 1: its name holds the control character 0x1b");
    head(3, 0, 1), str("k"), u32(13), u32(0), refused("key 'k': type 13, expected 0 to 12");
    head(3, 0, 1), str("key"), u32(10), u32(0), refused("the file ends within key 'key'");
    head(3, 0, 1), str("k"), u32(8), u64(1ull << 63), u64(0);
    refused("key 'k': string 0 has 9223372036854775808 bytes, the file has 8 left");
    head(3, 0, 1), str("k"), u32(9), u32(9), u64(0), refused("key 'k': an array of arrays, which readers of GGUF do not know");
    head(3, 0, 1), str("k"), u32(9), u32(77), u64(0), refused("key 'k': type of its elements 77, expected 0 to 12");
    head(3, 0, 1), str("k"), u32(9), u32(5), u64(1ull << 62), u32(0);
    refused("key 'k': an array of 4611686018427387904 elements, the file has 4 bytes left");
    head(3, 0, 1), str("k"), u32(9), u32(8), u64(2), str("a"), u64(9), refused("key 'k': string 1 has 9 bytes, the file has 0 left");
    head(3, 0, 1), str("k"), u32(7), put("\2", 1), refused("key 'k': a bool is 2, expected 0 or 1");
    head(3, 0, 2), str("k"), u32(4), u32(1), str("k"), u32(4), u32(2), refused("key 'k' is there twice");
    head(3, 0, 1), str("general.alignment"), u32(4), u32(48), refused("key 'general.alignment' is 48, expected a power of two");
    head(3, 0, 1), str("general.alignment"), u32(4), u32(0), refused("key 'general.alignment' is 0, expected a power of two");
    head(3, 0, 1), str("general.alignment"), u32(10), u64(32), refused("key 'general.alignment': expected a u32");
    head(3, 1, 0), info("a", 5, flat, 0, 0), refused("tensor 'a': 5 dimensions, expected at most 4");
    head(3, 1, 0), info("a", 2, huge, 0, 0), refused("tensor 'a': dimension 1 is 1099511627776, too large");
    head(3, 1, 0), info("a", 1, minus, 0, 0), refused("tensor 'a': dimension 0 is -4, expected at least 1");
    head(3, 1, 0), info("a", 1, (int64_t[]){INT64_MAX}, 0, 0), refused("tensor 'a': 9223372036854775807 numbers are too many");
    head(3, 1, 0), info("a", 1, two, 4, 0), refused("tensor 'a': type 4 is not known");
    head(3, 1, 0), info("a", 1, two, 1u << 31, 0), refused("tensor 'a': type 2147483648 is not known");
    head(3, 1, 0), info("a", 1, two, 2, 0), refused("tensor 'a': a row of 2 is no multiple of the block of Q4_0, 32");
    head(3, 1, 0), info("a", 1, two, 0, 32), refused("tensor 'a': its data begins at 32, expected 0: data stand in the order of the list, without gaps");
    head(3, 1, 0), info("a", 1, (int64_t[]){1 << 20}, 0, 0), refused("tensor 'a': its data would be 4194304 bytes, the whole file has 57");
    head(3, 1, 0), info("a", 1, two, 0, 0), pad(), refused("tensor 'a': its data is at bytes 64 to 72, the file ends at 64");
    head(3, 2, 0), info("a", 1, two, 0, 0), info("a", 1, two, 0, 32), pad(), put(bytes, 64), refused("tensor 'a' is there twice");
    head(3, 1, 0), info("a123456789012345678901234567890123456789012345678901234567890123", 1, two, 0, 0);
    refused("tensor 1 of 1: its name has 64 bytes, expected 1 to 63");
    qt_gguf *g;
    assert_int_equal(qt_gguf_open("/nonexistent", &g), QT_EIO);
    assert_int_equal(qt_gguf_open("/tmp", &g), QT_EIO);
}

/* A key of each type, as an integer and as a number. */
static void test_types(void **state)
{
    static const struct {
        uint32_t type;
        uint8_t  p[8];
        size_t   n;
        int64_t  integer;
        double   number;
    } keys[] = {
        {0, {255}, 1, 255, 255}, {1, {255}, 1, -1, -1}, {2, {0, 255}, 2, 65280, 65280}, {3, {0, 255}, 2, -256, -256}, {4, {0, 0, 0, 128}, 4, 1ll << 31, 0x1p31},
        {5, {0, 0, 0, 128}, 4, -(1ll << 31), -0x1p31}, {6, {0, 0, 0x80, 0xbf}, 4, 0, -1}, {7, {1}, 1, 1, 1}, {10, {0, 0, 0, 0, 1}, 8, 1ll << 32, 0x1p32},
        {10, {0, 0, 0, 0, 0, 0, 0, 128}, 8, INT64_MAX, 0x1p63}, {11, {0, 255, 255, 255, 255, 255, 255, 255}, 8, -256, -256},
        {12, {0, 0, 0, 0, 0, 0, 0xe0, 0x3f}, 8, 0, 0.5}};
    enum { KEYS = sizeof keys / sizeof *keys };
    qt_gguf *g;
    (void)state;
    head(3, 0, KEYS);
    for (int i = 0; i < KEYS; i++) str((char[]){(char)('a' + i), 0}), u32(keys[i].type), put(keys[i].p, keys[i].n);
    put_file(bytes, n_bytes);
    OK(qt_gguf_open(file, &g));
    for (int i = 0; i < KEYS; i++) {
        const bool real = keys[i].type == 6 || keys[i].type == 12;
        int64_t    v;
        double     d;
        OK(qt_gguf_real(g, (char[]){(char)('a' + i), 0}, &d));
        assert_true(d == keys[i].number);
        assert_int_equal(qt_gguf_int(g, (char[]){(char)('a' + i), 0}, &v), real ? QT_EDATA : QT_OK);
        assert_true(real || v == keys[i].integer);
        qt_error_clear();
    }
    qt_gguf_free(g);
}

static void test_alignment(void **state)
{
    qt_gguf *g;
    (void)state;
    head(3, 1, 1), str("general.alignment"), u32(4), u32(8), info("a", 1, (int64_t[]){1}, 0, 0);
    while (n_bytes % 8) put("", 1);
    put((float[]){5}, 4);
    put_file(bytes, n_bytes);
    OK(qt_gguf_open(file, &g));
    assert_true(g->alignment == 8 && g->tensor->data[3] == 0x40);
    qt_gguf_free(g);
}

/* ---- damage ---------------------------------------------------------------------------------------------------------------------- */

static uint64_t seen; /* so that no walk is left out */

static qt_err look(void)
{
    qt_gguf *g;
    QT_TRY(qt_gguf_open(file, &g));
    for (int64_t i = 0; i < g->n_keys; i++) {
        const qt_gguf_key *k = &g->key[i];
        const uint8_t     *p = k->p;
        assert_ptr_equal(qt_gguf_find(g, k->name), k);
        for (uint64_t e = 0; e < k->n; e++) {
            size_t n = 0;
            if (k->type != QT_GGUF_STR) seen += qt_gguf_number(k, e) > 0;
            else
                for (const char *s = qt_gguf_next_str(&p, &n); n; n--) seen += (uint8_t)*s++;
        }
    }
    for (int64_t i = 0; i < g->n_tensors; i++)
        for (int64_t b = 0; b < g->tensor[i].bytes; b++) seen += g->tensor[i].data[b];
    qt_gguf_free(g);
    return QT_OK;
}

static void test_damage(void **state)
{
    (void)state;
    write_sample();
    n_bytes = get_file(bytes, sizeof bytes);
    int refused_files = damage_all(bytes, n_bytes, look);
    assert_true(refused_files > (int)n_bytes - 32 && refused_files < (int)(9 * n_bytes) && seen > 0);
}

/* ---- writing --------------------------------------------------------------------------------------------------------------------- */

static void test_writing(void **state)
{
    qt_gguf_out *o;
    (void)state;
    unlink(file);
    OK(qt_gguf_create(file, &o));
    qt_gguf_put_u32(o, "k", 1), qt_gguf_put_u32(o, "k", 2);
    assert_int_equal(qt_gguf_close(o), QT_EDATA);
    assert_non_null(strstr(qt_error_text(), "key 'k' is there twice"));
    assert_int_not_equal(access(file, F_OK), 0);
    qt_error_clear();
    OK(qt_gguf_create(file, &o));
    qt_gguf_put_u32(o, "k", 1);
    qt_gguf_abandon(o);
    assert_int_equal(rmdir(dir), 0); /* nothing is left */
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(qt_gguf_create("/nonexistent/a", &o), QT_EIO);
    assert_string_equal(qt_error_text(), "/nonexistent/a: cannot write: No such file or directory");
}

/* No room behind 100 bytes: one message, and neither the file nor a part of it. */
static void test_full(void **state)
{
    (void)state;
    unlink(file);
    file_limit(100);
    qt_gguf_out *o;
    qt_err       e = qt_gguf_create(file, &o);
    if (e == QT_OK) {
        qt_gguf_add(o, "w", qt_ggml_find("F32"), 2, shape);
        qt_gguf_data(o, values, 256);
        e = qt_gguf_close(o);
    }
    file_limit(0);
    assert_int_equal(e, QT_EIO);
    says("cannot write: File too large");
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(mkdir(dir, 0700), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, setup)
        T(test_round_trip), T(test_bytes), T(test_lies), T(test_types), T(test_alignment), T(test_damage), T(test_writing), T(test_full),
    };
    return cmocka_run_group_tests_name("gguf", tests, make_dir, remove_dir);
}
