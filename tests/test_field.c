/* Field tables and descriptors: every type and default, and every message verbatim. */
#include "base/desc.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct cfg {
    bool           nesterov;
    int64_t        num_bits, steps;
    double         lr, decay;
    const char    *path, *name;
    int            mode;
    qt_ints        kernel, shape;
    qt_span        after;
    const qt_yaml *groups;
} cfg;

static const qt_field fields[] = {
    QT_F_BOOL(cfg, nesterov, "false", "look ahead"),
    QT_F_INT(cfg, num_bits, "8", 1, 8, "bits of a code"),
    QT_F_INT(cfg, steps, "-1", -1, 9.3e18, "steps"),
    QT_F_REAL(cfg, lr, NULL, 0, 1, "learning rate"),
    QT_F_REAL(cfg, decay, "1e-2", -1e300, 0.5, "weight decay"),
    QT_F_STR(cfg, path, "~", "a file"),
    QT_F_STR(cfg, name, "''", "a name"),
    QT_F_ENUM(cfg, mode, "auto", "auto|127|128|float", "what to do"),
    QT_F_INTS(cfg, kernel, "3", 1, 99, "kernel"),
    QT_F_INTS(cfg, shape, "[2, 3]", 0, 0, "shape"),
    QT_F_SPAN(cfg, after, "~", "when"),
    QT_F_TREE(cfg, groups, "~", "groups"),
    {NULL},
};

static qt_arena arena;
static int      setup(void **state) { return (void)state, qt_error_clear(), 0; }
static int      teardown(void **state) { return (void)state, qt_arena_free(&arena), qt_error_clear(), 0; }

static const qt_yaml *parse(const char *text)
{
    qt_yaml *y;
    assert_int_equal(qt_yaml_parse(&arena, text, strlen(text), "r.yaml", &y), QT_OK);
    return y;
}

static cfg accepted(const char *text)
{
    cfg c;
    memset(&c, 0x55, sizeof c);
    if (qt_fields_read(parse(text), "optim", fields, NULL, &c)) fail_msg("%s", qt_error_text());
    return c;
}

static void refused(const char *text, const char *messages)
{
    cfg c;
    qt_error_clear();
    memset(&c, 0x55, sizeof c);
    assert_int_equal(qt_fields_read(parse(text), "optim", fields, "use|from", &c), QT_ERECIPE);
    assert_string_equal(qt_error_text(), messages);
    assert_int_equal(c.num_bits, 8); /* the rest of the configuration is whole */
    assert_true(c.decay == 1e-2);
    assert_int_equal(c.shape.n, 2);
    assert_true(c.nesterov == false && !c.after.set && !c.groups && !c.path);
}

static void defaults(void **state)
{
    cfg c = accepted("{lr: 0.5}");
    (void)state;
    assert_true(!c.nesterov && c.num_bits == 8 && c.steps == -1 && c.lr == 0.5 && c.decay == 0.01 && !c.path && !*c.name && c.mode == 0);
    assert_true(c.kernel.n == 1 && c.kernel.v[0] == 3 && c.shape.n == 2 && c.shape.v[0] == 2 && c.shape.v[1] == 3);
    assert_true(!c.after.set && !c.groups);
}

static void values(void **state)
{
    cfg c = accepted("{nesterov: True, num_bits: 0x4, steps: 1000000, lr: 1, decay: -.5, path: a/b, name: 'no', mode: 128, kernel: [5, 7], shape: 4, "
                     "after: 0.8, groups: [1]}");
    (void)state;
    assert_true(c.nesterov && c.num_bits == 4 && c.steps == 1000000 && c.lr == 1 && c.decay == -.5 && c.mode == 2);
    assert_string_equal(c.path, "a/b");
    assert_string_equal(c.name, "no");
    assert_true(c.kernel.n == 2 && c.kernel.v[1] == 7 && c.shape.n == 1 && c.shape.v[0] == 4);
    assert_true(c.after.set && c.after.fraction && c.after.v == 0.8);
    assert_int_equal(c.groups->n, 1);
    c = accepted("{lr: 0, after: 200, path: ~, groups: }");
    assert_true(c.after.set && !c.after.fraction && c.after.v == 200 && !c.path && !c.groups);
    assert_true(accepted("{lr: 0, after: 1.0}").after.fraction);
    assert_false(accepted("{lr: 0, after: ~}").after.set);
    assert_int_equal(accepted("{lr: 0, kernel: []}").kernel.n, 0);
}

static void messages(void **state)
{
    (void)state;
    refused("lr: 0.1\nnum_bit: 4\nzzzzzzz: 1\nfrm: a\n",
            "r.yaml:2:1: optim.num_bit: unknown key, did you mean 'num_bits'?\nr.yaml:3:1: optim.zzzzzzz: unknown key\n"
            "r.yaml:4:1: optim.frm: unknown key, did you mean 'from'?");
    refused("\n  num_bits: 8", "r.yaml:2:3: optim.lr: missing, it has no default (learning rate)");
    refused("{lr: [1]}", "r.yaml:1:6: optim.lr: expected a number, found a list");
    refused("{lr: {}}", "r.yaml:1:6: optim.lr: expected a number, found a map");
    refused("{lr: }", "r.yaml:1:6: optim.lr: expected a number, found null");
    refused("{lr: fast}", "r.yaml:1:6: optim.lr: expected a number, found the string 'fast'");
    refused("{lr: '1'}", "r.yaml:1:6: optim.lr: expected a number, found the string '1'");
    refused("{lr: true}", "r.yaml:1:6: optim.lr: expected a number, found a boolean true");
    refused("{lr: 3}", "r.yaml:1:6: optim.lr: 3 is out of bounds, must be 0 to 1");
    refused("{lr: .nan}", "r.yaml:1:6: optim.lr: .nan is out of bounds, must be 0 to 1");
    refused("{lr: 1, decay: 0.51}", "r.yaml:1:16: optim.decay: 0.51 is out of bounds, must be at most 0.5");
    refused("{lr: 1, num_bits: 9}", "r.yaml:1:19: optim.num_bits: 9 is out of bounds, must be 1 to 8");
    refused("{lr: 1, num_bits: 99999999999999999999}", "r.yaml:1:19: optim.num_bits: 99999999999999999999 is out of bounds, must be 1 to 8");
    refused("{lr: 1, steps: -2}", "r.yaml:1:16: optim.steps: -2 is out of bounds, must be at least -1");
    refused("{lr: 1, num_bits: 1e0}", "r.yaml:1:19: optim.num_bits: expected an integer, found a number 1e0");
    refused("{lr: 1, nesterov: yes}", "r.yaml:1:19: optim.nesterov: expected true or false, found the string 'yes'");
    refused("{lr: 1, name: 12}", "r.yaml:1:15: optim.name: expected a string (in quotes if need be), found a number 12");
    refused("{lr: 1, name: ~}", "r.yaml:1:15: optim.name: expected a string (in quotes if need be), found null");
    refused("{lr: 1, mode: flaot}", "r.yaml:1:15: optim.mode: unknown value 'flaot', did you mean 'float'? Must be one of auto, 127, 128, float");
    refused("{lr: 1, mode: somehow}", "r.yaml:1:15: optim.mode: unknown value 'somehow', must be one of auto, 127, 128, float");
    refused("{lr: 1, mode: [a]}", "r.yaml:1:15: optim.mode: expected a word, found a list");
    refused("{lr: 1, kernel: {}}", "r.yaml:1:17: optim.kernel: expected an integer or a list of them, found a map");
    refused("{lr: 1, kernel: [1, 0, x]}",
            "r.yaml:1:21: optim.kernel: 0 is out of bounds, must be 1 to 99\nr.yaml:1:24: optim.kernel: expected an integer, found the string 'x'");
    refused("{lr: 1, kernel: [1, [2]]}", "r.yaml:1:21: optim.kernel: expected an integer, found a list");
    refused("{lr: 1, shape: [1, 2, 3, 4, 5, 6, 7, 8, 9]}", "r.yaml:1:16: optim.shape: expected at most 8 integers, found a list");
    refused("{lr: 1, after: 1.5}", "r.yaml:1:16: optim.after: 1.5 is out of bounds, must be a fraction, 0.0 to 1.0, or an integer number of steps");
    refused("{lr: 1, after: -3}", "r.yaml:1:16: optim.after: -3 is out of bounds, must be at least 0 steps");
    refused("{lr: 1, after: soon}",
            "r.yaml:1:16: optim.after: expected steps (an integer) or a fraction of the run (0.0 to 1.0), found the string 'soon'");
    refused("[lr]", "r.yaml:1:1: optim: expected a map, found a list");
    refused("{lr: 2, num_bits: x, modes: auto}", "r.yaml:1:22: optim.modes: unknown key, did you mean 'mode'?\n"
            "r.yaml:1:19: optim.num_bits: expected an integer, found the string 'x'\nr.yaml:1:6: optim.lr: 2 is out of bounds, must be 0 to 1");
}

static void paths(void **state)
{
    cfg c;
    (void)state;
    assert_int_equal(qt_fields_read(parse("{lr: 1, formt: 1}"), "quant[1].weights", fields, NULL, &c), QT_ERECIPE);
    assert_int_equal(qt_fields_read(parse("{lr: 2}"), "", fields, NULL, &c), QT_ERECIPE);
    assert_int_equal(qt_fields_read(parse("[]"), NULL, fields, NULL, &c), QT_ERECIPE);
    assert_int_equal(qt_fields_read(NULL, "optim", fields, NULL, &c), QT_ERECIPE);
    assert_int_equal(qt_fields_read(parse("~"), "optim", fields, NULL, &c), QT_ERECIPE);
    assert_string_equal(qt_error_text(),
                        "r.yaml:1:9: quant[1].weights.formt: unknown key\nr.yaml:1:6: lr: 2 is out of bounds, must be 0 to 1\nr.yaml:1:1: expected a "
                        "map, found a list\n"
                        "optim.lr: missing, it has no default (learning rate)\nr.yaml:1:1: optim.lr: missing, it has no default (learning rate)");
    assert_int_equal(qt_fields_read(NULL, "x", NULL, NULL, NULL), QT_OK);
}

static void helpers(void **state)
{
    char  *text = NULL;
    size_t n;
    FILE  *f = open_memstream(&text, &n);
    (void)state;
    assert_int_equal(qt_choice("a|bc|d", "bc"), 1);
    assert_int_equal(qt_choice("a|bc|d", "b"), -1);
    assert_int_equal(qt_choice("a|bc|d", "d"), 2);
    assert_int_equal(qt_choice("a|bc|d", "a|bc"), -1);
    assert_int_equal(qt_choice("a", ""), -1);
    assert_int_equal(qt_span_step((qt_span){true, true, 0.29}, 100), 29);
    assert_int_equal(qt_span_step((qt_span){true, false, 250}, 100), 250);
    assert_int_equal(qt_span_step((qt_span){0}, 100), -1);
    qt_fields_print(f, fields, "  ");
    fclose(f);
    assert_non_null(strstr(text, "  num_bits           integer 1 to 8, default 8. bits of a code\n"));
    assert_non_null(strstr(text, "  lr                 number 0 to 1, required. learning rate\n"));
    assert_non_null(strstr(text, "  steps              integer at least -1, default -1. steps\n"));
    assert_non_null(strstr(text, "  mode               auto | 127 | 128 | float, default auto. what to do\n"));
    assert_non_null(strstr(text, "  path               string. a file\n"));
    free(text);
}

/* ---- descriptors ------------------------------------------------------------------------------------------------------------- */

typedef struct lsq_cfg { int64_t num_bits; } lsq_cfg;
static const qt_field       lsq_fields[] = {QT_F_INT(lsq_cfg, num_bits, NULL, 1, 8, "bits"), {NULL}};
static const qt_desc        lsq = {"lsq", "learned steps", NULL, lsq_fields, sizeof(lsq_cfg)}, fashion = {"fashion_mnist", "clothes", NULL, NULL, 0};
static const qt_desc *const all[] = {&lsq, &fashion, NULL};
static const qt_kind        kind = {"quants", "quant", "quantizers", all};

static void find(void **state)
{
    qt_pos pos = {"r.yaml", 3, 4};
    (void)state;
    assert_ptr_equal(qt_desc_find(&kind, "lsq", pos), &lsq);
    assert_ptr_equal(qt_desc_find(&kind, "fashion-mnist", pos), &fashion);
    assert_ptr_equal(qt_desc_find(&kind, "fashion_mnist", pos), &fashion);
    assert_int_equal(qt_error_count(), 0);
    assert_null(qt_desc_find(&kind, "lqs", pos));
    assert_null(qt_desc_find(&kind, "something", (qt_pos){0}));
    assert_null(qt_desc_find(&kind, "fashion-mnis", pos));
    assert_string_equal(qt_error_text(), "r.yaml:3:4: unknown quant 'lqs', did you mean 'lsq'? (`qtape list quants` lists them)\n"
                                         "unknown quant 'something' (`qtape list quants` lists them)\n"
                                         "r.yaml:3:4: unknown quant 'fashion-mnis', did you mean 'fashion_mnist'? (`qtape list quants` lists them)");
}

static void read_descriptor(void **state)
{
    static const struct { const char *text, *message; } bad[] = {
        {"{num_bits: 4}", "r.yaml:1:1: w: missing 'use', the name of a quant (`qtape list quants` lists them)"},
        {"{use: [x]}", "r.yaml:1:7: w: expected 'use' to be the name of a quant, found a list"},
        {"12", "r.yaml:1:1: w: expected the name of a quant or a map with 'use', found a number"},
        {"~", "r.yaml:1:1: w: expected the name of a quant or a map with 'use', found null"},
        {"lqs", "r.yaml:1:1: unknown quant 'lqs', did you mean 'lsq'? (`qtape list quants` lists them)"},
        {"lsq", "r.yaml:1:1: w.num_bits: missing, it has no default (bits)"},
        {"{use: lsq, num_bits: 9}", "r.yaml:1:22: w.num_bits: 9 is out of bounds, must be 1 to 8"},
        {"{use: fashion-mnist, x: 1}", "r.yaml:1:22: w.x: unknown key"},
    };
    const qt_desc *d;
    void          *c;
    (void)state;
    assert_int_equal(qt_desc_read(&arena, &kind, parse("{use: lsq, num_bits: 3, name: a}"), "w", "name|from", &d, &c), QT_OK);
    assert_ptr_equal(d, &lsq);
    assert_int_equal(((lsq_cfg *)c)->num_bits, 3);
    assert_int_equal(qt_desc_read(&arena, &kind, parse("fashion-mnist"), "w", NULL, &d, &c), QT_OK);
    assert_true(d == &fashion && c);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qt_error_clear();
        assert_int_equal(qt_desc_read(&arena, &kind, parse(bad[i].text), "w", "name", &d, &c), QT_ERECIPE);
        assert_string_equal(qt_error_text(), bad[i].message);
    }
    qt_error_clear();
    assert_int_equal(qt_desc_read(&arena, &kind, NULL, "w", NULL, &d, &c), QT_ERECIPE);
    assert_string_equal(qt_error_text(), "w: expected the name of a quant or a map with 'use', found null");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(defaults), T(values), T(messages), T(paths), T(helpers), T(find), T(read_descriptor),
    };
    return cmocka_run_group_tests_name("field", tests, NULL, NULL);
}
