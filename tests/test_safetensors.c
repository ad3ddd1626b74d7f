/* safetensors: round trip, the bytes of the format's reference implementation, one message for each way in which a header can lie, damage. */
#include "base/json.h"
#include "base/safetensors.h"
#include "files_util.h"
#include <sys/stat.h>

static const float   floats[6] = {1, -2, 3, 0.5f, 0, 1e-3f};
static const uint8_t raw[16] = {0x00, 0x3c, 0x00, 0xc0, 0x80, 0x3f, 200};

static qt_safe_tensor tensor(const char *name, qt_safe_type type, int rank, int64_t a, int64_t b, const void *data)
{
    return (qt_safe_tensor){.name = name, .type = type, .rank = rank, .dim = {a, b}, .data = data};
}

/* Given in no order; written by type and name. */
static void write_sample(void)
{
    static const char *const meta[] = {"format", "pt"};
    const qt_safe_tensor     t[] = {tensor("b.half", QT_SAFE_F16, 1, 2, 0, raw),     tensor("z", QT_SAFE_F32, 2, 2, 3, floats),
                                    tensor("a", QT_SAFE_F32, 0, 0, 0, floats + 1),   tensor("byte \"\\\n\xc3\xa4", QT_SAFE_U8, 1, 3, 0, raw + 4),
                                    tensor("brain", QT_SAFE_BF16, 1, 1, 0, raw + 4), tensor("none", QT_SAFE_F64, 2, 0, 3, raw)};
    OK(qt_safe_write(file, 6, t, 1, meta));
}

/* What safetensors 0.8.0 writes for these tensors. */
static const char reference[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"none\":{\"dtype\":\"F64\",\"shape\":[0,3],\"data_offsets\":[0,0]},\"a\":{\"dtype\":\"F32\",\"shape\":[],"
    "\"data_offsets\":[0,4]},\"z\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},\"brain\":{\"dtype\":\"BF16\",\"shape\":[1],"
    "\"data_offsets\":[28,30]},\"b.half\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[30,34]},\"byte \\\"\\\\\\n\xc3\xa4\":{\"dtype\":\"U8\","
    "\"shape\":[3],\"data_offsets\":[34,37]}}";

static void test_round_trip(void **state)
{
    qt_safe *s;
    qt_real  x[6];
    (void)state;
    write_sample();
    OK(qt_safe_open(file, &s));
    assert_true(s->n == 6 && s->n_meta == 1);
    assert_string_equal(s->meta[0], "format");
    assert_string_equal(s->meta[1], "pt");
    const qt_safe_tensor *t = qt_safe_find(s, "z");
    assert_true(t && t->rank == 2 && t->dim[0] == 2 && t->dim[1] == 3 && t->n == 6 && ((uintptr_t)t->data & 3) == 0);
    OK(qt_safe_read(s, t, x));
    for (int i = 0; i < 6; i++) assert_true(x[i] == (qt_real)floats[i]);
    OK(qt_safe_read(s, qt_safe_find(s, "b.half"), x));
    assert_true(x[0] == 1 && x[1] == -2);
    OK(qt_safe_read(s, qt_safe_find(s, "brain"), x));
    assert_true(x[0] == 1);
    OK(qt_safe_read(s, qt_safe_find(s, "byte \"\\\n\xc3\xa4"), x));
    assert_true(x[0] == 128 && x[1] == 63 && x[2] == 200);
    assert_true(qt_safe_find(s, "none")->n == 0 && qt_safe_find(s, "a")->n == 1);
    assert_null(qt_safe_find(s, "b"));
    qt_safe_free(s);
}

static void test_reference(void **state)
{
    uint8_t  bytes[2048];
    uint64_t n;
    (void)state;
    write_sample();
    size_t all = get_file(bytes, sizeof bytes);
    memcpy(&n, bytes, 8);
    assert_true(n % 8 == 0 && n >= sizeof reference - 1 && n < sizeof reference + 7 && all == 8 + n + 37);
    assert_memory_equal(bytes + 8, reference, sizeof reference - 1);
    for (uint64_t i = sizeof reference - 1; i < n; i++) assert_int_equal(bytes[8 + i], ' ');
}

/* ---- headers that lie ------------------------------------------------------------------------------------------------------------ */

static void make(const char *header, size_t data)
{
    uint8_t  bytes[4096] = {0};
    uint64_t n = strlen(header);
    memcpy(bytes, &n, 8), memcpy(bytes + 8, header, n);
    put_file(bytes, 8 + n + data);
}

static void refused(const char *header, size_t data, const char *message)
{
    qt_safe *s;
    make(header, data);
    assert_int_equal(qt_safe_open(file, &s), QT_EDATA);
    assert_null(s);
    says(message);
}

#define F32(name, shape, offsets) "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_lies(void **state)
{
    qt_safe *s;
    (void)state;
    refused("", 4, "header, byte 0: expected '{' as its first byte");
    refused(" {}", 0, "header, byte 0: expected '{' as its first byte");
    refused("{} x", 0, "header, byte 3: expected the end, found 'x'");
    refused("{}", 3, "3 bytes behind the last tensor");
    refused("{\"a\":1}", 0, "header, byte 5: expected '{', found '1'");
    refused("{\"a\":{}}", 0, "header, byte 7: tensor 'a' needs dtype, shape and data_offsets");
    refused("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, "header, byte 28: tensor 'a': 'dtype' is there twice");
    refused("{\"a\":{\"dtype\":\"F33\"}}", 0, "header, byte 19: dtype 'F33' is not known");
    refused("{\"a\":{\"type\":\"F32\"}}", 0, "header, byte 13: tensor 'a': unknown key 'type'");
    refused("{" F32("a", "[1,]", "[0,4]") "}", 4, "header, byte 31: expected a number without sign, found ']'");
    refused("{" F32("a", "[-1]", "[0,4]") "}", 4, "header, byte 29: expected a number without sign, found '-'");
    refused("{" F32("a", "[1.5]", "[0,4]") "}", 4, "header, byte 30: expected a whole number, found '.'");
    refused("{" F32("a", "[01]", "[0,4]") "}", 4, "header, byte 31: a number that begins with 0");
    refused("{" F32("a", "[18446744073709551616]", "[0,4]") "}", 4, "header, byte 48: a number above 2^64 - 1");
    refused("{" F32("a", "[9223372036854775808]", "[0,4]") "}", 4, "header, byte 48: tensor 'a': a dimension of 9223372036854775808");
    refused("{" F32("a", "[4294967296,4294967296]", "[0,4]") "}", 4, "tensor 'a': its shape is too large");
    refused("{" F32("a", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "header, byte 45: tensor 'a' has more than 8 dimensions");
    refused("{" F32("a", "[1]", "[0,8]") "}", 8, "tensor 'a': data_offsets 0 to 8, expected 4 bytes for its shape");
    refused("{" F32("a", "[1]", "[4,0]") "}", 8, "tensor 'a': data_offsets 4 to 0, expected 4 bytes for its shape");
    refused("{" F32("a", "[1]", "[0,4,5]") "}", 8, "header, byte 52: tensor 'a': expected two data_offsets");
    refused("{" F32("a", "[1]", "[0]") "}", 8, "header, byte 50: tensor 'a': expected two data_offsets");
    refused("{" F32("a", "[1]", "[0,4]") "}", 3, "tensor 'a': its data ends at 4, the file has 3 bytes of data");
    refused("{" F32("a", "[1]", "[18446744073709551612,18446744073709551616]") "}", 3, "header, byte 88: a number above 2^64 - 1");
    refused("{" F32("a", "[1]", "[4,8]") "}", 8, "tensor 'a': a hole of 4 bytes before its data");
    refused("{" F32("a", "[1]", "[0,4]") "," F32("b", "[1]", "[2,6]") "}", 6, "tensors 'a' and 'b' overlap");
    refused("{" F32("a", "[1]", "[0,4]") "," F32("a", "[1]", "[4,8]") "}", 8, "tensor 'a' is there twice");
    refused("{" F32("a", "[1]", "[0,4]") F32("b", "[1]", "[4,8]") "}", 8, "header, byte 53: expected ',' or '}', found '\"'");
    refused("{\"__metadata__\":{\"a\":1}}", 0, "header, byte 21: expected '\"', found '1'");
    refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "header, byte 34: '__metadata__' is there twice");
    refused("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, "tensor 'a': 3 numbers of 4 bits are no whole bytes");
    refused("{\"a\xff\":{}}", 0, "header, byte 3: no UTF-8");
    refused("{\"\\ud800\":{}}", 0, "header, byte 8: half of a surrogate pair");
    refused("{\"\\u0000\":{}}", 0, "header, byte 8: a string that holds the character 0");
    refused("{\"a\nb\":{}}", 0, "header, byte 3: expected a string without control characters, found 0x0a");
    refused("{\"a\\x\":{}}", 0, "header, byte 4: expected an escape, found 'x'");
    refused("{\"a", 0, "header, byte 2: a string without end");
    refused("{", 0, "header, byte 1: expected '\"', found the end");
    put_file("\1\2", 2);
    assert_int_equal(qt_safe_open(file, &s), QT_EDATA), says("is no safetensors file: it has 2 bytes");
    put_file((uint64_t[]){100000001}, 8);
    assert_int_equal(qt_safe_open(file, &s), QT_EDATA);
    says("is no safetensors file: a header of 100000001 bytes, expected at most 100000000");
    put_file((uint64_t[]){9, 0}, 16);
    assert_int_equal(qt_safe_open(file, &s), QT_EDATA), says("a header of 9 bytes, the file has 16");
    make("{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
    OK(qt_safe_open(file, &s));
    assert_int_equal(qt_safe_read(s, s->tensor, &(qt_real){0}), QT_EDATA);
    says("tensor 'a': numbers of type F8_E4M3 cannot be read");
    qt_safe_free(s);
}

static void test_strings(void **state)
{
    static const char text[] = " \"\\u00e4\\u20AC\\ud83d\\ude00\\/\\t\" , ";
    qt_arena          a = {0};
    const char       *s;
    qt_json           j = qt_json_of("f", "text", text, sizeof text - 1, &a);
    (void)state;
    OK(qt_json_string(&j, &s));
    assert_string_equal(s, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80/\t");
    assert_int_equal(qt_json_end(&j), QT_EDATA);
    qt_arena_free(&a);
}

/* What is UTF-8 and what is not: shortest forms only, no surrogates, nothing behind U+10FFFF. */
static void test_utf8(void **state)
{
    static const struct {
        const char *s;
        bool        good;
    } cases[] = {{"\x7f", true}, {"\xc2\x80", true}, {"\xdf\xbf", true}, {"\xe0\xa0\x80", true}, {"\xed\x9f\xbf", true}, {"\xee\x80\x80", true},
                 {"\xf0\x90\x80\x80", true}, {"\xf4\x8f\xbf\xbf", true}, {"\x80", false}, {"\xc1\xbf", false}, {"\xc2", false}, {"\xe0\x9f\xbf", false},
                 {"\xed\xa0\x80", false}, {"\xe2\x82", false}, {"\xf0\x8f\xbf\xbf", false}, {"\xf4\x90\x80\x80", false}, {"\xf5\x80\x80\x80", false}, {"\xff", false}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qt_arena    a = {0};
        char        text[16], *printed;
        size_t      n;
        const char *s;
        snprintf(text, sizeof text, "\"%s\"", cases[i].s);
        qt_json j = qt_json_of("f", "text", text, strlen(text), &a);
        assert_int_equal(qt_json_string(&j, &s), cases[i].good ? QT_OK : QT_EDATA);
        if (cases[i].good) assert_string_equal(s, cases[i].s);
        else assert_non_null(strstr(qt_error_text(), "no UTF-8"));
        qt_error_clear();
        FILE *f = open_memstream(&printed, &n);
        qt_json_print(f, cases[i].s, strlen(cases[i].s));
        fclose(f);
        j = qt_json_of("f", "text", printed, n, &a); /* what is printed can be read, always */
        OK(qt_json_string(&j, &s));
        assert_true(cases[i].good ? !strcmp(s, cases[i].s) : strstr(s, "\xef\xbf\xbd") != NULL);
        free(printed);
        qt_arena_free(&a);
    }
    char  *printed;
    size_t n;
    FILE  *f = open_memstream(&printed, &n);
    qt_json_print(f, "a\"\\\n\x01\x7f\0b", 8);
    fclose(f);
    assert_string_equal(printed, "\"a\\\"\\\\\\n\\u0001\\u007f\\u0000b\"");
    free(printed);
}

/* A number of each type that can be read. */
static void test_types(void **state)
{
    static const uint8_t ones[8] = {255, 255, 255, 255, 255, 255, 255, 255}, half[2] = {0, 0xc0}, brain[2] = {0x20, 0xc0};
    static const float   single = -2.5f;
    static const double  twice = -2.5;
    const struct {
        qt_safe_type type;
        const void  *p;
        double       v;
    } cases[] = {{QT_SAFE_BOOL, (uint8_t[]){1}, 1}, {QT_SAFE_U8, ones, 255}, {QT_SAFE_I8, ones, -1}, {QT_SAFE_I16, ones, -1}, {QT_SAFE_U16, ones, 65535},
                 {QT_SAFE_F16, half, -2}, {QT_SAFE_BF16, brain, -2.5}, {QT_SAFE_I32, ones, -1}, {QT_SAFE_U32, ones, 4294967295.0}, {QT_SAFE_F32, &single, -2.5},
                 {QT_SAFE_F64, &twice, -2.5}, {QT_SAFE_I64, ones, -1}, {QT_SAFE_U64, ones, 18446744073709551615.0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const qt_safe_tensor t = tensor("t", cases[i].type, 1, 1, 0, cases[i].p);
        qt_safe             *s;
        qt_real              x;
        OK(qt_safe_write(file, 1, &t, 0, NULL));
        OK(qt_safe_open(file, &s));
        OK(qt_safe_read(s, s->tensor, &x));
        assert_true(x == (qt_real)cases[i].v);
        assert_string_equal(qt_safe_type_name(s->tensor->type), qt_safe_type_name(cases[i].type));
        qt_safe_free(s);
    }
}

/* What cannot be written leaves nothing, and what was there as it was. */
static void test_full(void **state)
{
    const qt_safe_tensor t = tensor("z", QT_SAFE_F32, 2, 2, 3, floats);
    uint8_t              before[64];
    (void)state;
    put_file("before", 6);
    file_limit(64);
    qt_err e = qt_safe_write(file, 1, &t, 0, NULL);
    file_limit(0);
    assert_int_equal(e, QT_EIO);
    says("cannot write: File too large");
    assert_true(get_file(before, sizeof before) == 6 && !memcmp(before, "before", 6));
    unlink(file);
    assert_int_equal(rmdir(dir), 0); /* no part of it */
    assert_int_equal(qt_safe_write(file, 1, &t, 0, NULL), QT_EIO);
    says("cannot write: No such file or directory");
    assert_int_equal(mkdir(dir, 0700), 0);
}

/* ---- damage ---------------------------------------------------------------------------------------------------------------------- */

static qt_err look(void)
{
    qt_safe *s;
    qt_real  x[8];
    QT_TRY(qt_safe_open(file, &s));
    for (int64_t i = 0; i < s->n; i++) {
        assert_ptr_equal(qt_safe_find(s, s->tensor[i].name), &s->tensor[i]);
        assert_true(s->tensor[i].n <= 8);
        if (qt_safe_read(s, &s->tensor[i], x)) qt_error_clear();
    }
    qt_safe_free(s);
    return QT_OK;
}

static void test_damage(void **state)
{
    uint8_t bytes[2048];
    (void)state;
    write_sample();
    size_t n = get_file(bytes, sizeof bytes);
    int    refused_files = damage_all(bytes, n, look);
    assert_true(refused_files >= (int)n && refused_files < (int)(9 * n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, setup)
        T(test_round_trip), T(test_reference), T(test_lies), T(test_strings), T(test_utf8), T(test_types), T(test_full), T(test_damage),
    };
    return cmocka_run_group_tests_name("safetensors", tests, make_dir, remove_dir);
}
