/* YAML: the core schema of 1.2, positions, refusals, changes to trees, printing, and that damaged text never crashes. */
#include "base/rng.h"
#include "base/yaml.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static qt_arena arena;

static int setup(void **state) { return (void)state, qt_error_clear(), 0; }
static int teardown(void **state) { return (void)state, qt_arena_free(&arena), qt_error_clear(), 0; }

static qt_yaml *parse(const char *text)
{
    qt_yaml *y;
    qt_err   e = qt_yaml_parse(&arena, text, strlen(text), "f.yaml", &y);
    if (e) fail_msg("%s\n%s", text, qt_error_text());
    return y;
}

static void refused(const char *text, const char *messages)
{
    qt_yaml *y;
    qt_error_clear();
    assert_int_equal(qt_yaml_parse(&arena, text, strlen(text), "f.yaml", &y), QT_ERECIPE);
    assert_string_equal(qt_error_text(), messages);
}

/* The same tree; whether a string stands in quotes does not count. */
static bool equal(const qt_yaml *a, const qt_yaml *b)
{
    const char *s;
    if (a->kind != b->kind || qt_yaml_str(a, &s) != qt_yaml_str(b, &s) || a->n != b->n || !a->tag != !b->tag || (a->tag && strcmp(a->tag, b->tag)))
        return false;
    if (a->kind == QT_YAML_SCALAR && strcmp(a->text, b->text)) return false;
    for (int i = 0; i < a->n; i++)
        if ((a->kind == QT_YAML_MAP && strcmp(a->key[i], b->key[i])) || !equal(a->item[i], b->item[i])) return false;
    return true;
}

static char *printed(const qt_yaml *y)
{
    char  *text = NULL, *copy;
    size_t n;
    FILE  *f = open_memstream(&text, &n);
    qt_yaml_print(f, y);
    fclose(f);
    copy = qt_arena_strdup(&arena, text);
    free(text);
    return copy;
}

static void prints(const qt_yaml *y, const char *text) { assert_string_equal(printed(y), text); }

/* ---- scalars ----------------------------------------------------------------------------------------------------------------- */

static void core_schema(void **state)
{
    static const char *const null[] = {"null", "Null", "NULL", "~", ""};
    static const char *const yes[] = {"true", "True", "TRUE"}, *const no[] = {"false", "False", "FALSE"};
    static const char *const strings[] = {"no",         "yes",   "on",    "off", "y",    "N",    "tRue",  "nULL",      "0b11",
                                          "1_000",      "1e",    "e3",    ".",   "+",    "--1",  "0x",    "0o8",       "0xG",
                                          "-0x1F",      "1.2.3", "1e3.5", "inf", "nan",  ".iNF", "+.nan", "190:20:30", "12e03x",
                                          "2001-01-01", "=",     "a b",   "1 2", "${x}", "x#y",  "a:b"};
    static const struct {
        const char *text;
        int64_t     v;
    } ints[] = {{"0", 0},
                {"-0", 0},
                {"+12", 12},
                {"-7", -7},
                {"010", 10},
                {"0o17", 15},
                {"0x1F", 31},
                {"0xfF", 255},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN}};
    static const struct {
        const char *text;
        double      v;
    } reals[] = {{"1e-3", 1e-3},
                 {".5", .5},
                 {"1.", 1},
                 {"-.5", -.5},
                 {"+1.5E+2", 150},
                 {"1E3", 1000},
                 {"0.0", 0},
                 {".inf", INFINITY},
                 {"-.Inf", -INFINITY},
                 {"+.INF", INFINITY},
                 {"9223372036854775808", 0x1p63},
                 {"1e400", INFINITY}};
    bool        b;
    int64_t     i;
    double      r;
    const char *s;
    (void)state;
    for (size_t k = 0; k < sizeof null / sizeof *null; k++) assert_int_equal(parse(null[k])->kind, QT_YAML_NULL);
    for (size_t k = 0; k < 3; k++) {
        assert_true(qt_yaml_bool(parse(yes[k]), &b) && b);
        assert_true(qt_yaml_bool(parse(no[k]), &b) && !b);
        assert_false(qt_yaml_str(parse(no[k]), &s));
        assert_string_equal(qt_yaml_kind_name(parse(no[k])), "a boolean");
    }
    for (size_t k = 0; k < sizeof strings / sizeof *strings; k++) {
        const qt_yaml *y = parse(strings[k]);
        if (!qt_yaml_str(y, &s) || qt_yaml_bool(y, &b) || qt_yaml_int(y, &i) || qt_yaml_real(y, &r)) fail_msg("'%s' is no string", strings[k]);
        assert_string_equal(s, strings[k]);
        assert_string_equal(qt_yaml_kind_name(y), "a string");
    }
    for (size_t k = 0; k < sizeof ints / sizeof *ints; k++) {
        assert_true(qt_yaml_int(parse(ints[k].text), &i) && i == ints[k].v);
        assert_true(qt_yaml_real(parse(ints[k].text), &r) && r == (double)ints[k].v);
        assert_false(qt_yaml_str(parse(ints[k].text), &s));
    }
    for (size_t k = 0; k < sizeof reals / sizeof *reals; k++) {
        assert_true(qt_yaml_real(parse(reals[k].text), &r) && r == reals[k].v);
        assert_false(qt_yaml_int(parse(reals[k].text), &i));
        assert_string_equal(qt_yaml_kind_name(parse(reals[k].text)), "a number");
    }
    assert_true(qt_yaml_real(parse(".NaN"), &r) && isnan(r));
    assert_false(qt_yaml_str(NULL, &s) || qt_yaml_int(NULL, &i) || qt_yaml_real(NULL, &r) || qt_yaml_bool(NULL, &b));
}

static void quoted_is_a_string(void **state)
{
    static const char *const texts[] = {"'1'", "\"1\"", "|\n  1\n", ">-\n  1\n", "!!str 1", "! 1"};
    const char *s;
    int64_t     i;
    (void)state;
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        const qt_yaml *y = parse(texts[k]);
        assert_true(qt_yaml_str(y, &s) && y->quoted && !qt_yaml_int(y, &i));
        assert_int_equal(s[0], '1');
    }
    assert_true(qt_yaml_str(parse("''"), &s) && !*s);
    assert_true(qt_yaml_str(parse("\"a\\tb\\u00e4\\x41\\\"\""), &s));
    assert_string_equal(s, "a\tb\xc3\xa4"
                           "A\"");
    assert_true(qt_yaml_str(parse("|\n  a\n   \tb\n"), &s));
    assert_string_equal(s, "a\n \tb\n");
    assert_int_equal(parse("!!int 5")->kind, QT_YAML_SCALAR);
    assert_int_equal(parse("!!map {}")->kind, QT_YAML_MAP);
    assert_int_equal(parse("! [a]")->n, 1);
}

/* ---- positions --------------------------------------------------------------------------------------------------------------- */

static void at(const qt_yaml *y, int line, int col)
{
    assert_non_null(y);
    assert_string_equal(y->pos.file, "f.yaml");
    assert_int_equal(y->pos.line, line);
    assert_int_equal(y->pos.col, col);
}

static void positions(void **state)
{
    const qt_yaml *y = parse("\xef\xbb\xbf# c\nname: x\nlist:\n  - a\n  - {use: \"b\", \xc3\xa4: 1}\nmap:\n    k: |\n      text\nempty:\narm: {a: "
                             "!unset, b: !unset}\nz: [ &q 1, *q ]\n");
    (void)state;
    at(y, 2, 1);
    at(qt_yaml_get(y, "name"), 2, 7);
    at(qt_yaml_get(y, "list"), 4, 3);
    at(qt_yaml_get(y, "list")->item[0], 4, 5);
    at(qt_yaml_get(y, "list")->item[1], 5, 5);
    at(qt_yaml_get(qt_yaml_get(y, "list")->item[1], "use"), 5, 11);
    at(qt_yaml_get(qt_yaml_get(y, "list")->item[1], "\xc3\xa4"), 5, 19); /* columns count characters */
    assert_int_equal(qt_yaml_key_pos(qt_yaml_get(y, "list")->item[1], "\xc3\xa4").col, 16);
    at(qt_yaml_get(y, "map"), 7, 5);
    at(qt_yaml_get(qt_yaml_get(y, "map"), "k"), 7, 8);
    at(qt_yaml_get(y, "empty"), 9, 7);
    assert_int_equal(qt_yaml_key_pos(y, "empty").line, 9);
    assert_int_equal(qt_yaml_key_pos(y, "empty").col, 1);
    at(qt_yaml_get(qt_yaml_get(y, "arm"), "b"), 10, 21); /* a blank is put behind both tags unseen */
    at(qt_yaml_get(y, "z")->item[1], 11, 12);
    assert_null(qt_yaml_get(y, "nothing"));
    assert_null(qt_yaml_get(NULL, "x"));
    assert_null(qt_yaml_get(qt_yaml_get(y, "list"), "x"));
    assert_int_equal(qt_yaml_key_pos(y, "nothing").line, 2);
}

/* ---- recipes' own forms ------------------------------------------------------------------------------------------------------ */

static void brackets_in_words(void **state)
{
    const qt_yaml *y = parse(
        "{d: ${d}, e: \"${d}\", quant[1].weights.num_bits: 4, split: train[:90%], rest: [train[90%:], a[0][1]], deep: {x: !unset}, t: [!unset]}");
    const char    *s;
    (void)state;
    assert_string_equal(qt_yaml_get(y, "d")->text, "${d}");
    assert_string_equal(qt_yaml_get(y, "e")->text, "${d}");
    assert_non_null(qt_yaml_get(y, "quant[1].weights.num_bits"));
    assert_true(qt_yaml_str(qt_yaml_get(y, "split"), &s));
    assert_string_equal(s, "train[:90%]");
    assert_string_equal(qt_yaml_get(y, "rest")->item[0]->text, "train[90%:]");
    assert_string_equal(qt_yaml_get(y, "rest")->item[1]->text, "a[0][1]");
    at(qt_yaml_get(y, "split"), 1, 59);
    assert_string_equal(qt_yaml_get(qt_yaml_get(y, "deep"), "x")->tag, "!unset");
    assert_int_equal(qt_yaml_get(qt_yaml_get(y, "deep"), "x")->kind, QT_YAML_NULL);
    assert_string_equal(qt_yaml_get(y, "t")->item[0]->tag, "!unset");
    assert_string_equal(parse("a: 'x[0] ${y}'")->item[0]->text, "x[0] ${y}");
    assert_int_equal(parse("[1,[2],[3]]")->n, 3);
    assert_string_equal(parse("\xf4\x8f\xbf\xba[0]")->text, "\xf4\x8f\xbf\xba[0]"); /* the private characters as data */
}

static void anchors(void **state)
{
    const qt_yaml *y = parse("a: &x {k: 1, l: [1, 2]}\nb: *x\nc: &y z\n*y : 3\n<<: *x\n");
    (void)state;
    assert_true(equal(qt_yaml_get(y, "a"), qt_yaml_get(y, "b")));
    assert_ptr_not_equal(qt_yaml_get(y, "a"), qt_yaml_get(y, "b"));
    assert_non_null(qt_yaml_get(y, "z"));
    assert_non_null(qt_yaml_get(y, "<<")); /* no merge keys in 1.2 */
    assert_null(qt_yaml_get(y, "k"));
}

/* ---- refusals ---------------------------------------------------------------------------------------------------------------- */

static void refusals(void **state)
{
    (void)state;
    refused("a: 1\nb: {c: 1, c: 2}\na: 3\n? [x]\n: 2\nb: 1",
            "f.yaml:2:11: duplicate key 'c', first at line 2:5\nf.yaml:3:1: duplicate key 'a', first at line 1:1\n"
            "f.yaml:4:3: a key must be a scalar, this is a list\nf.yaml:6:1: duplicate key 'b', first at line 2:1");
    refused("{a: 1, \"a\": 2}", "f.yaml:1:8: duplicate key 'a', first at line 1:2");
    refused("{a: b}: 1", "f.yaml:1:1: a key must be a scalar, this is a map");
    refused("a: 1\n---\nb: 2\n", "f.yaml:2:1: a second document begins here, a file holds one");
    refused("a: *b", "f.yaml:1:4: alias '*b' has no anchor '&b' before it");
    refused("a: &a [1, *a]", "f.yaml:1:11: alias '*a' stands inside its own anchor");
    refused("a: &a {b: {c: *a}}", "f.yaml:1:15: alias '*a' stands inside its own anchor");
    refused("a: !unst", "f.yaml:1:4: unknown tag '!unst', did you mean '!unset'?");
    refused("a: !python/object x", "f.yaml:1:4: unknown tag '!python/object'");
    refused("a: !!int x", "f.yaml:1:4: tag '!!int' does not fit a string");
    refused("a: !!float x", "f.yaml:1:4: tag '!!float' does not fit a string");
    refused("a: !!bool 3", "f.yaml:1:4: tag '!!bool' does not fit a number");
    refused("a: !!null 3", "f.yaml:1:4: tag '!!null' does not fit a number");
    refused("a: !!seq {}", "f.yaml:1:4: tag '!!seq' does not fit a map");
    refused("a: !!map [1]", "f.yaml:1:4: tag '!!map' does not fit a list");
    refused("a: !!set {b: 1}", "f.yaml:1:4: tag '!!set' does not fit a map");
    parse("[!!float 1.5, !!float 2, !!bool true, !!null ~, !!int 3, !!seq [1], !!map {a: 1}, !!str 4]");
    refused("a: \"x\\0y\"", "f.yaml:1:4: a string with a NUL character");
    refused("a: b: c", "f.yaml:1:5: mapping values are not allowed in this context");
    refused("a: {b: 1", "f.yaml:2:1: did not find expected ',' or '}' (while parsing a flow mapping begun in line 1)");
    refused("a: [1,\n  2}\n", "f.yaml:2:4: did not find expected ',' or ']' (while parsing a flow sequence begun in line 1)");
    refused("x: 1\na: \xff", "f.yaml:2:4: invalid leading UTF-8 octet");
    refused("x: 1\na: \xc3(", "f.yaml:2:5: invalid trailing UTF-8 octet");
    refused("a: \x01", "f.yaml:1:4: control characters are not allowed");
}

static void tabs(void **state)
{
    static const char tab[] = "a tab is used as indentation, YAML allows only spaces there";
    char              want[512];
    (void)state;
    (void)snprintf(want, sizeof want, "f.yaml:2:1: %s", tab), refused("optim:\n\tuse: adam\n", want);
    (void)snprintf(want, sizeof want, "f.yaml:3:3: %s", tab), refused("optim:\n  lr: 1\n  \tuse: adam\n", want);
    (void)snprintf(want, sizeof want, "f.yaml:2:1: %s", tab), refused("a: b\n\tc: 1\n", want);
    (void)snprintf(want, sizeof want, "f.yaml:1:3: %s", tab), refused("- \ta: 1\n", want);
    (void)snprintf(want, sizeof want, "f.yaml:3:1: %s", tab), refused("a: |\n  x\n\tb: 2\n", want);
    (void)snprintf(want, sizeof want, "f.yaml:2:1: %s", tab), refused("a: {b: 1,\n\tc: 2}\n", want);
    (void)snprintf(want, sizeof want, "f.yaml:2:2: %s\nf.yaml:4:1: %s", tab, tab), refused("a:\n \tb: 1\nc:\n\td: 1\n", want);
    assert_int_equal(parse("a: \"x\n\ty\"\nb: |\n  x\n  \ty\nc:\t1\nd: 1\t# comment\n")->n, 4); /* not indentation */
}

static void limits(void **state)
{
    char   *text = qt_arena_zalloc(&arena, 200000), *p = text;
    qt_yaml *y;
    (void)state;
    memset(text, '[', 150), memset(text + 150, ']', 150);
    assert_int_equal(parse(text)->kind, QT_YAML_LIST);
    memset(text, '[', 201), memset(text + 201, ']', 201);
    refused(text, "f.yaml:1:201: nested deeper than 200 levels");
    memset(text, 0, 200000);
    p += sprintf(p, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 10; i++)
        p += sprintf(p, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1,
                     i - 1, i - 1, i - 1, i - 1);
    qt_error_clear();
    assert_int_equal(qt_yaml_parse(&arena, text, strlen(text), "f.yaml", &y), QT_ERECIPE);
    assert_non_null(strstr(qt_error_text(), "the document is too large: more than 100000 nodes, aliases counted each time"));
    p = text;
    p += sprintf(p, "a0: &a0 [x]\n");
    for (int i = 1; i < 300; i++) p += sprintf(p, "a%d: &a%d [*a%d]\n", i, i, i - 1); /* grows by one level a line */
    qt_error_clear();
    assert_int_equal(qt_yaml_parse(&arena, text, strlen(text), "f.yaml", &y), QT_ERECIPE);
    assert_string_equal(qt_error_text(), "f.yaml:199:14: nested deeper than 200 levels");
    p = text;
    for (int i = 0; i < 1000; i++) p += sprintf(p, "k%d: 1\n", i);
    assert_int_equal(parse(text)->n, 1000);
    p += sprintf(p, "k1000: 1\n");
    refused(text, "f.yaml:1001:1: a map of more than 1000 keys");
    p = text + sprintf(text, "- &a 1\n");
    for (int i = 1; i < 256; i++) p += sprintf(p, "- &b%d 1\n", i);
    assert_int_equal(parse(text)->n, 256);
    p += sprintf(p, "- &c 1\n");
    refused(text, "f.yaml:257:3: more than 256 anchors");
}

static void files(void **state)
{
    qt_yaml *y;
    (void)state;
    assert_int_equal(qt_yaml_load(&arena, "/nonexistent/x.yaml", &y), QT_EIO);
    assert_string_equal(qt_error_text(), "/nonexistent/x.yaml: cannot open: No such file or directory");
    qt_error_clear();
    assert_int_equal(qt_yaml_load(&arena, "/tmp", &y), QT_EIO);
    assert_string_equal(qt_error_text(), "/tmp: cannot read: Is a directory");
    qt_error_clear();
    assert_int_equal(qt_yaml_load(&arena, "/dev/null", &y), QT_OK);
    assert_int_equal(y->kind, QT_YAML_NULL);
    qt_error_clear();
    assert_int_equal(qt_yaml_load(&arena, "/dev/zero", &y), QT_ERECIPE);
    assert_string_equal(qt_error_text(), "/dev/zero: larger than 16 MiB, this is no recipe");
}

/* ---- changing trees ---------------------------------------------------------------------------------------------------------- */

static const qt_pos cli = {"command line", 0, 0};

static qt_err set(qt_yaml *y, const char *path, const char *value)
{
    qt_yaml *v;
    qt_error_clear();
    assert_int_equal(qt_yaml_parse(&arena, value, strlen(value), "v", &v), QT_OK);
    v->pos = cli;
    return qt_yaml_set(&arena, y, path, v);
}

static void set_and_remove(void **state)
{
    qt_yaml *y = parse("{data: digits, quant: [{weights: {use: lsq, num_bits: 4}}, none], optim: {lr: 1}, nothing: , grid: [[1, 2], [3]]}");
    (void)state;
    assert_int_equal(set(y, "quant[0].weights.num_bits", "2"), QT_OK);
    assert_int_equal(set(y, "optim.lr", "1e-3"), QT_OK);
    assert_int_equal(set(y, "optim.groups.a.b", "new"), QT_OK);
    assert_int_equal(set(y, "data.batch_size", "8"), QT_OK);
    assert_int_equal(set(y, "quant[1].use", "pact"), QT_OK);
    assert_int_equal(set(y, "nothing.x", "{y: 1}"), QT_OK);
    assert_int_equal(set(y, "grid[0][1]", "[5]"), QT_OK);
    prints(y, "data: {use: digits, batch_size: 8}\nquant:\n  - weights: {use: lsq, num_bits: 2}\n  - {use: pact}\noptim:\n  lr: 1e-3\n  groups:\n    "
              "a: {b: new}\n"
              "nothing:\n  x: {y: 1}\ngrid:\n  - - 1\n    - [5]\n  - [3]\n");
    assert_int_equal(qt_yaml_remove(&arena, y, "optim.groups.a", cli), QT_OK);
    assert_int_equal(qt_yaml_remove(&arena, y, "quant[0]", cli), QT_OK);
    assert_int_equal(qt_yaml_remove(&arena, y, "nothing", cli), QT_OK);
    assert_int_equal(set(y, "grid", "!unset"), QT_OK);
    assert_int_equal(set(y, "absent", "!unset"), QT_OK);
    prints(y, "data: {use: digits, batch_size: 8}\nquant:\n  - {use: pact}\noptim: {lr: 1e-3, groups: {}}\n");
}

static void path_errors(void **state)
{
    static const struct { const char *path, *message; } bad[] = {
        {"quant[2].x", "command line: quant[2].x: 'quant' has 1 item, there is no [2]"},
        {"quant.x", "command line: quant.x: 'quant' is a list, it has no key 'x'"},
        {"optim[0]", "command line: optim[0]: 'optim' is a map, not a list"},
        {"optim.lr.x", "command line: optim.lr.x: 'optim.lr' is a number, it has no key 'x'"},
        {"quant[0].b[1]", "command line: quant[0].b[1]: 'quant[0].b' is a boolean, not a list"},
        {"new[0]", "command line: new[0]: 'new' is null, not a list"},
        {"[0]", "command line: [0]: 'the document' is a map, not a list"},
        {"", "command line: '': a key is empty"},
        {"a..b", "command line: a..b: a key is empty"},
        {"optim.", "command line: optim.: a key is empty"},
        {"quant[x]", "command line: quant[x]: expected a number in brackets, as in list[0].key"},
        {"quant[-1]", "command line: quant[-1]: expected a number in brackets, as in list[0].key"},
        {"quant[0", "command line: quant[0: expected a number in brackets, as in list[0].key"},
        {"quant[0]b", "command line: quant[0]b: expected '.' or '[' after ']'"},
        {"quant[99999999999999999999].b", "command line: quant[99999999999999999999].b: 'quant' has 1 item, there is no [9223372036854775807]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(set(parse("{quant: [{b: true}], optim: {lr: 1}}"), bad[i].path, "1"), QT_ERECIPE);
        assert_string_equal(qt_error_text(), bad[i].message);
    }
    qt_error_clear();
    char key[300], want[512];
    memset(key, 'k', sizeof key), key[256] = 0;
    assert_int_equal(set(parse("{a: 1}"), key, "1"), QT_ERECIPE);
    snprintf(want, sizeof want, "command line: %.60s...: a key is longer than 255 bytes", key);
    assert_string_equal(qt_error_text(), want);
    key[255] = 0;
    assert_int_equal(set(parse("{a: 1}"), key, "1"), QT_OK);
    qt_error_clear();
    assert_int_equal(qt_yaml_remove(&arena, parse("{lora: 1}"), "lara", cli), QT_ERECIPE);
    assert_string_equal(qt_error_text(), "command line: lara: there is no key 'lara', did you mean 'lora'?");
    qt_error_clear();
    assert_int_equal(qt_yaml_remove(&arena, parse("{lora: {x: 1}}"), "lora.abcdefg.z", cli), QT_ERECIPE);
    assert_string_equal(qt_error_text(), "command line: lora.abcdefg.z: there is no key 'abcdefg'");
}

static void same(void **state)
{
    static const struct {
        const char *a, *b;
        bool        same;
    } cases[] = {
        {"a: 1\nb: {c: [1, 2], d: x}", "b: {d: x, c: [1, 2]}\na: 1", true},
        {"a: [1, 2]", "a: [2, 1]", false},     {"a: 1", "a: 1\nb: 2", false}, {"a: 1\nb: 2", "a: 1\nc: 2", false},
        {"a: 1", "a: \"1\"", false},           {"a: 1", "a: 1.0", false},     {"a: x", "a: !unset x", false},
        {"a: {b: 1}", "a: {b: 2}", false},     {"a: {}", "a: []", false},     {"a: ~", "a: ~", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const qt_yaml *a = parse(cases[i].a), *b = parse(cases[i].b);
        assert_int_equal(qt_yaml_same(a, b), cases[i].same);
        assert_int_equal(qt_yaml_same(b, a), cases[i].same);
    }
}

static void merge(void **state)
{
    static const char *const cases[][3] = {
        {"{a: 1, b: {c: 1, d: 2}, l: [1, 2]}", "{b: {d: 3, e: 4}, l: [9], f: x}", "{a: 1, b: {c: 1, d: 3, e: 4}, l: [9], f: x}"},
        {"{a: {b: 1}, c: 2}", "{a: !unset}", "{c: 2}"},
        {"{a: {b: 1, c: 2}}", "{a: {b: !unset, d: 1}, z: !unset}", "{a: {c: 2, d: 1}}"},
        {"{}", "{a: {b: !unset, c: {d: !unset}}}", "{a: {c: {}}}"},
        {"{a: digits}", "{a: {use: x}}", "{a: {use: x}}"},
        {"{a: {use: x}}", "{a: ~}", "{a: ~}"},
        {"[1]", "{a: 1}", "{a: 1}"},
        {"{a: 1}", "[1, {b: !unset}]", "[1, {b: !unset}]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const qt_yaml *base = parse(cases[i][0]), *got = qt_yaml_merge(&arena, base, parse(cases[i][1]));
        if (!equal(got, parse(cases[i][2]))) fail_msg("%s + %s gave\n%s", cases[i][0], cases[i][1], printed(got));
        assert_true(equal(base, parse(cases[i][0]))); /* the sources stay as they are */
    }
    assert_int_equal(qt_yaml_key_pos(qt_yaml_merge(&arena, parse("a: 1\nb: 2"), parse("\n\n  b: 3")), "b").line, 3);
}

static void building(void **state)
{
    qt_yaml *map = qt_yaml_map(&arena, cli), *list = qt_yaml_list(&arena, cli);
    char     key[16];
    (void)state;
    for (int i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(qt_yaml_put(&arena, map, key, qt_yaml_scalar(&arena, key + 1, cli)), QT_OK);
        assert_int_equal(qt_yaml_push(&arena, list, qt_yaml_scalar(&arena, key, cli)), QT_OK);
    }
    assert_int_equal(qt_yaml_put(&arena, map, "k7", list), QT_OK);
    assert_int_equal(map->n, 100);
    assert_ptr_equal(qt_yaml_get(map, "k7"), list);
    assert_string_equal(qt_yaml_get(map, "k99")->text, "99");
    assert_string_equal(list->item[42]->text, "k42");
    assert_int_equal(qt_yaml_scalar(&arena, "~", cli)->kind, QT_YAML_NULL);
    assert_int_equal(qt_yaml_find(map, "k100"), -1);
    assert_true(equal(map, qt_yaml_copy(&arena, map)));
}

/* ---- printing ---------------------------------------------------------------------------------------------------------------- */

static void print_style(void **state)
{
    (void)state;
    prints(parse("{a: 1, b: {c: x, d: [1, 2]}, e: [], f: {}, g: }"), "a: 1\nb:\n  c: x\n  d: [1, 2]\ne: []\nf: {}\ng: ~\n");
    prints(parse("- [a, [b]]\n- {x: 1}\n- y"), "- - a\n  - [b]\n- {x: 1}\n- y\n");
    prints(parse("{a: 'true', b: yes, c: \"*\", d: 're:x\\y', e: \"a\\nb\", f: !unset , g: ${v}, h: x y, 'k: l': 0x1F}"),
           "a: \"true\"\nb: yes\nc: \"*\"\nd: \"re:x\\\\y\"\ne: \"a\\nb\"\nf: !unset\ng: ${v}\nh: x y\n\"k: l\": 0x1F\n");
    prints(parse("word"), "word\n");
    prints(parse("[]"), "[]\n");
}

/* A random tree; strings are drawn from a set of awkward ones. */
static qt_yaml *random_tree(qt_rng *r, int depth)
{
    static const char *const plain[] = {"null", "~",    "",          "true", "no",    "12",    "0x1F", "-.inf", "1e-3",
                                        ".nan", "word", "two words", "${v}", "a.b/c", "train", "-1",   "x-y"};
    static const char *const odd[] = {
        "", " ", "true", "12", "~", "a: b", "a #b", "#", "- a", "-", "?", "? x", ":", "[", "]x", "{}", "a,b", "&a", "*a", "!t", "|", ">",
        "%", "@x", "`", "'", "\"", "\\", "a\nb", "\n", "\t", "a\tb", " lead", "trail ", "---", "...", "--- x", "\x01\x1f\x7f",
        "\xc2\x80\xc2\x85\xe2\x80\xa8\xe2\x80\xa9", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xef\xbb\xbf", "x[0]", "${v}", "a${v", "<<",
        "=", "\r\n", "!unset", "0o7", "x\xef\xbf\xbe"
    };
    int      kind = (int)qt_rng_below(r, depth > 4 ? 2 : 4), n = (int)qt_rng_below(r, 5);
    qt_yaml *y;
    char     key[24];
    if (kind == 0) return qt_yaml_scalar(&arena, plain[qt_rng_below(r, sizeof plain / sizeof *plain)], cli);
    if (kind == 1) {
        y = qt_yaml_scalar(&arena, odd[qt_rng_below(r, sizeof odd / sizeof *odd)], cli);
        return y->quoted = true, y->kind = QT_YAML_SCALAR, y;
    }
    y = kind == 2 ? qt_yaml_list(&arena, cli) : qt_yaml_map(&arena, cli);
    for (int i = 0; i < n; i++) {
        qt_yaml *child = random_tree(r, depth + 1);
        if (qt_rng_below(r, 12) == 0) child->tag = "!unset";
        (void)snprintf(key, sizeof key, "%s",
                       qt_rng_below(r, 2) ? odd[qt_rng_below(r, sizeof odd / sizeof *odd)] : plain[qt_rng_below(r, sizeof plain / sizeof *plain)]);
        if (kind == 2) qt_yaml_push(&arena, y, child);
        else qt_yaml_put(&arena, y, key, child);
    }
    return y;
}

static void print_reads_back(void **state)
{
    qt_rng r = qt_rng_named(1, "test/yaml/trees");
    (void)state;
    for (int i = 0; i < 3000; i++) {
        qt_yaml *y = random_tree(&r, 0), *back;
        char    *text = printed(y);
        if (qt_yaml_parse(&arena, text, strlen(text), "f", &back)) fail_msg("%s\n%s", text, qt_error_text());
        if (!equal(y, back)) fail_msg("%s\nreads back as\n%s", text, printed(back));
        qt_arena_reset(&arena);
    }
}

static void print_long(void **state)
{
    char     text[3000];
    qt_yaml *y = qt_yaml_map(&arena, cli), *inner = qt_yaml_map(&arena, cli), *list = qt_yaml_list(&arena, cli);
    (void)state;
    memset(text, 'k', 2000), text[2000] = 0;
    qt_yaml_put(&arena, inner, text, qt_yaml_scalar(&arena, text, cli));
    inner->tag = "!unset"; /* a tag keeps it in flow style */
    qt_yaml_push(&arena, list, inner);
    qt_yaml_put(&arena, y, text, list);
    qt_yaml_put(&arena, y, "z", qt_yaml_scalar(&arena, text, cli));
    assert_true(equal(y, parse(printed(y))));
    inner->tag = NULL;
    assert_true(equal(y, parse(printed(y))));
}

/* ---- damage ------------------------------------------------------------------------------------------------------------------ */

static const char recipe[] =
    "recipe: 1 # schema\n"
    "name: 'a-b'\ntags: [qat, &t \"x\\u00e4\"]\nvars: {d: 256}\n"
    "model:\n  - flatten\n  - {use: linear, out: ${d}, name: fc1}\n  - use: add\n    from: fc1\n"
    "data: {use: fashion-mnist, split: train[:90%]}\n"
    "doc: |\n  several\n   lines\n\nmore: >-\n  folded\n  text\n"
    "quant:\n  - {match: \"*\", weights: none}\n  - match: \"re:blk\\\\..*\"\n    weights: &w {use: ternary}\n    other: *w\n"
    "arms: {fp32: {quant: !unset}, m: {quant[1].weights.measure: absmedian}}\n"
    "? explicit\n: !!str 1\n\xc3\xa4\xe2\x82\xac: *t\n...\n";

static void damaged(void **state)
{
    size_t n = sizeof recipe - 1;
    qt_rng r = qt_rng_named(1, "test/yaml/flips");
    char   text[sizeof recipe];
    int    good = 0;
    (void)state;
    assert_int_equal(parse(recipe)->n, 12);
    for (size_t cut = 0; cut <= n; cut++) {
        qt_yaml *y;
        char    *exact = malloc(cut ? cut : 1); /* so that a sanitizer sees a read beyond the end */
        memcpy(exact, recipe, cut);
        qt_error_clear();
        qt_err e = qt_yaml_parse(&arena, exact, cut, "f.yaml", &y);
        assert_true(e == QT_OK ? y && !qt_error_count() : e == QT_ERECIPE && qt_error_count());
        good += e == QT_OK;
        free(exact);
        qt_arena_reset(&arena);
    }
    assert_true(good > 20 && good < (int)n);
    for (int i = 0; i < 4000; i++) {
        qt_yaml *y;
        int      flips = 1 + (int)qt_rng_below(&r, 4);
        memcpy(text, recipe, sizeof recipe);
        for (int k = 0; k < flips; k++)
            text[qt_rng_below(&r, n)] = (char)(i % 2 ? "[]{}!&*:,-\t\n '\"${}|>#%"[qt_rng_below(&r, 22)] : (char)qt_rng_below(&r, 256));
        qt_error_clear();
        qt_err e = qt_yaml_parse(&arena, text, n, "f.yaml", &y);
        assert_true(e == QT_OK ? y && !qt_error_count() : e == QT_ERECIPE && qt_error_count());
        if (!e) {
            char    *again = printed(y);
            qt_yaml *back;
            if (qt_yaml_parse(&arena, again, strlen(again), "f", &back) || !equal(y, back))
                fail_msg("%.*s\n-- %s\n%s", (int)n, text, again, qt_error_text());
        }
        qt_arena_reset(&arena);
    }
}

static void out_of_memory(void **state)
{
    qt_yaml *y;
    (void)state;
    for (int k = 1;; k++) {
        qt_arena a = {0};
        qt_alloc_fail_at(k);
        qt_err e = qt_yaml_parse(&a, recipe, sizeof recipe - 1, "f.yaml", &y);
        qt_alloc_fail_at(0);
        qt_arena_free(&a);
        if (!e) break;
        assert_int_equal(e, QT_EMEM);
        assert_null(y);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(core_schema), T(quoted_is_a_string), T(positions), T(brackets_in_words), T(anchors), T(refusals), T(tabs), T(limits), T(files),
        T(set_and_remove), T(path_errors), T(same), T(merge), T(building), T(print_style), T(print_reads_back), T(print_long), T(damaged),
        T(out_of_memory),
    };
    return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
