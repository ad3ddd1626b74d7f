/* The recipe language: includes, variables, arms, overrides, defaults, and every error with its place, all in one pass. */
#include "train_util.h"

/* Lines 1 to 5 of most recipes here. */
#define MODEL \
    "recipe: 1\n" \
    "model:\n" \
    "  - flatten\n" \
    "  - {use: linear, out: 10, name: fc}\n" \
    "data: {use: digits, batch_size: 32}\n"
#define BASE MODEL "train: {steps: 4}\n"

static qt_arena arena;

static int clear(void **state)
{
    (void)state;
    qt_error_clear();
    qt_arena_free(&arena);
    return 0;
}

static qt_recipe *load_ok(const char *file, int n, const char *const *sets, const char *arm)
{
    qt_recipe *r = NULL;
    assert_ok(qt_recipe_load(&arena, file, n, sets, arm, &r));
    assert_string_equal(qt_error_text(), "");
    return r;
}

static void refuses(const char *text, int n, const char *const *sets, const char *arm, const char *want)
{
    qt_recipe *r;
    put_file("r.yaml", text);
    int e = qt_recipe_load(&arena, "r.yaml", n, sets, arm, &r);
    assert_errors(want);
    assert_int_equal(qt_error_exit((qt_err)e), 2);
}

static const char *text_at(const qt_recipe *r, const char *section, const char *key)
{
    const qt_yaml *y = qt_yaml_get(qt_yaml_get(r->tree, section), key);
    return y ? y->text : NULL;
}

#define SETS(...) (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[]){__VA_ARGS__}

/* ---- what a good recipe comes to ------------------------------------------------------------------------------------------- */

static void test_defaults(void **state)
{
    int64_t seeds[64];
    (void)state;
    put_file("my.recipe.yaml", BASE);
    qt_recipe *r = load_ok("my.recipe.yaml", 0, NULL, NULL);
    assert_string_equal(r->name, "my.recipe");
    assert_int_equal(r->seed, 1);
    assert_int_equal(qt_recipe_seeds(r, seeds), 1);
    assert_int_equal(seeds[0], 1);
    assert_int_equal(r->train.steps, 4);
    assert_int_equal(r->train.eval_every, -1);
    assert_int_equal(r->train.save_every, 0);
    assert_int_equal(r->train.threads, 0);
    assert_false(r->by_epochs);
    assert_false(r->engine_float);
    assert_true(qt_recipe_trains(r));
    assert_int_equal(r->n_phases, 1);
    assert_false(r->schedule.fake_quant_after.set);
    assert_null(r->fallback);
    assert_string_equal(r->source, BASE);
    assert_int_equal(r->source_n, strlen(BASE));
}

static void test_include(void **state)
{
    (void)state;
    mkdir("bases", 0777);
    put_file("bases/a.yaml", "include: [b.yaml]\nseed: 5\noptim: {use: adamw, lr: 0.1, weight_decay: 0.5}\ntags: [one, two]\n");
    put_file("bases/b.yaml", "seed: 4\ndoc: from b\ntrain: {steps: 9, log_every: 7}\n");
    put_file("r.yaml", MODEL "include: [bases/a.yaml]\noptim: {lr: 0.2, weight_decay: !unset}\ntrain: {steps: 3}\ntags: [three]\n");
    qt_recipe *r = load_ok("r.yaml", 0, NULL, NULL);
    assert_int_equal(r->seed, 5);              /* a wins over what it includes */
    assert_string_equal(r->doc, "from b");     /* through two levels */
    assert_int_equal(r->train.steps, 3);       /* the file wins */
    assert_int_equal(r->train.log_every, 7);   /* maps are merged */
    assert_string_equal(text_at(r, "optim", "use"), "adamw");
    assert_string_equal(text_at(r, "optim", "lr"), "0.2");
    assert_null(text_at(r, "optim", "weight_decay"));
    assert_int_equal(qt_yaml_get(r->tree, "tags")->n, 1); /* lists are replaced */
    assert_null(qt_yaml_get(r->tree, "include"));

    put_file("one.yaml", "include: bases/b.yaml\n" MODEL); /* a single file needs no list */
    assert_int_equal(load_ok("one.yaml", 0, NULL, NULL)->train.steps, 9);
}

/* Arms merge as all maps do: changes by their paths. An arm of a base keeps its !unset; !unset takes an arm away. */
static void test_include_arms(void **state)
{
    (void)state;
    put_file("base.yaml", BASE "quant: [{match: fc, weights: ternary}]\n"
                               "arms: {a: {quant: !unset}, b: {seed: 7, train: {steps: 5, log_every: 2}}, c: {}}\n");
    put_file("r.yaml", "include: [base.yaml]\narms: {b: {seed: 8, train: {steps: 6}, quant: !unset}, c: !unset, d: {seed: 9}}\n");
    qt_recipe *r = load_ok("r.yaml", 0, NULL, NULL), *b = load_ok("r.yaml", 0, NULL, "b");
    assert_int_equal(r->arms->n, 3);
    assert_non_null(r->quant);
    assert_null(load_ok("r.yaml", 0, NULL, "a")->quant);
    assert_int_equal(b->seed, 8);
    assert_int_equal(b->train.steps, 6);
    assert_int_equal(b->train.log_every, 2);
    assert_null(b->quant);
    assert_int_equal(load_ok("r.yaml", 0, NULL, "d")->seed, 9);
    refuses("include: [base.yaml]\narms: {e: !unset}\n", 0, NULL, NULL, "r.yaml:2:11: e: there is no 'e' to take away");
}

/* ---- sweeps ---------------------------------------------------------------------------------------------------------------- */

#define SWEEP \
    "recipe: 1\nvars: {w: 2}\nmodel: [flatten, {use: linear, out: \"${w}\", name: fc}, {use: linear, out: 10}]\n" \
    "data: {use: digits, batch_size: 32}\ntrain: {steps: 4}\noptim: adam\nquant: [{match: fc, weights: {use: lsq, num_bits: 4}}]\n"

static void test_sweep(void **state)
{
    static const char *const want[] = {"plain",    "w4-float-1e-3", "w4-float-3", "w4-two-1e-3", "w4-two-3",
                                       "w8-float-1e-3", "w8-float-3", "w8-two-1e-3", "w8-two-3"};
    const char *label[QT_MAX_AXES];
    int64_t     v;
    (void)state;
    put_file("r.yaml", SWEEP "arms: {plain: ~}\nsweep:\n  width: {w4: {vars.w: 4}, w8: {vars.w: 8}}\n"
                             "  bits: {float: {quant: !unset}, two: {\"quant[0].weights.num_bits\": 2}}\n  optim.lr: [1e-3, 3]\n"
                             "claims: [{say: a, arm: w8-two-3, at_least: 0}]\n");
    qt_recipe *r = load_ok("r.yaml", 0, NULL, NULL), *one = load_ok("r.yaml", 0, NULL, "w8-two-3");
    assert_int_equal(r->arms->n, 9);
    for (int i = 0; i < 9; i++) assert_string_equal(r->arms->key[i], want[i]);
    assert_true(qt_yaml_int(qt_yaml_get(qt_yaml_get(one->tree, "vars"), "w"), &v) && v == 8);
    assert_true(qt_yaml_int(qt_yaml_get(qt_yaml_get(one->quant->item[0], "weights"), "num_bits"), &v) && v == 2);
    assert_string_equal(text_at(one, "optim", "lr"), "3");
    assert_null(load_ok("r.yaml", 0, NULL, "w4-float-1e-3")->quant);
    assert_true(qt_sweep_point(r->sweep, "w8-float-1e-3", label));
    assert_string_equal(label[0], "w8");
    assert_string_equal(label[1], "float");
    assert_string_equal(label[2], "1e-3");
    assert_false(qt_sweep_point(r->sweep, "plain", label) || qt_sweep_point(r->sweep, "w8-float", label) || qt_sweep_point(NULL, "w8", label));
    put_file("n.yaml", BASE "arms: ~\nsweep: {seed: [3, 4]}\n"); /* no arms are no arms */
    assert_int_equal(load_ok("n.yaml", 0, NULL, "4")->seed, 4);
    /* an including recipe takes labels away, and adds some */
    put_file("s.yaml", "include: [r.yaml]\nclaims: []\nsweep: {width: {w4: !unset, w6: {vars.w: 6}}, bits: !unset, optim.lr: [2]}\n");
    r = load_ok("s.yaml", 0, NULL, NULL);
    assert_int_equal(r->arms->n, 3);
    assert_string_equal(r->arms->key[1], "w8-2");
    assert_string_equal(r->arms->key[2], "w6-2");
    assert_ok(qt_recipe_limit(r, 100, 300));
    assert_int_equal(qt_recipe_limit(r, 101, 300), QT_ERECIPE);
    assert_errors("s.yaml:3:8: 3 arms and 101 seeds are 303 runs, more than 300 (--max-runs 303 allows them)");
}

static void test_sweep_errors(void **state)
{
    (void)state;
    refuses(BASE "sweep: [a]\n", 0, NULL, NULL, "r.yaml:7:8: sweep: expected a map of 1 to 8 axes, found a list");
    refuses(BASE "sweep: {}\n", 0, NULL, NULL, "r.yaml:7:8: sweep: expected a map of 1 to 8 axes, found none");
    refuses(BASE "sweep: {seed: []}\n", 0, NULL, NULL, "r.yaml:7:15: sweep.seed: expected a map of name: changes, or a list of values, found none");
    refuses(BASE "sweep: {seed: 3}\n", 0, NULL, NULL,
            "r.yaml:7:15: sweep.seed: expected a map of name: changes, or a list of values, found a number");
    refuses(BASE "sweep: {seed: [1, 1]}\n", 0, NULL, NULL, "r.yaml:7:19: sweep.seed: 1 stands here twice");
    refuses(BASE "sweep: {quant: [[{match: fc}]]}\n", 0, NULL, NULL,
            "r.yaml:7:17: sweep.quant: a list has no name of its own; write {NAME: {quant: ...}}");
    refuses(BASE "sweep: {a: {b: 3}}\n", 0, NULL, NULL, "r.yaml:7:16: sweep.a.b: expected a map of path: value, found a number");
    refuses(BASE "arms: {a-b: {}}\nsweep: {x: {a: {}}, y: {b: {}}}\n", 0, NULL, NULL, "r.yaml:8:8: sweep: there is another arm 'a-b'");
    /* an error of one label is told once, though it is in many arms */
    refuses(BASE "sweep: {x: {a: {seedd: 3}, b: {}}, y: {c: {}, d: {}, e: {}}}\n", 0, NULL, NULL,
            "r.yaml:7:24: seedd: unknown key, did you mean 'seed'? (arm 'a-c')");
    refuses(BASE "claims: [{say: a, arm: w2-a, at_least: 0}]\nsweep: {x: {w1: {}, w2: {}}, y: {b: {}}}\n", 0, NULL, NULL,
            "r.yaml:7:24: claims[0].arm: unknown arm 'w2-a', did you mean 'w2-b'?");
    char many[4096] = BASE "sweep:\n";
    for (int i = 0; i < 8; i++) snprintf(many + strlen(many), sizeof many - strlen(many), "  a%d: {a: {}, b: {}, c: {}, d: {}, e: {}, f: {}}\n", i);
    refuses(many, 0, NULL, NULL, "r.yaml:11:7: sweep: more than 1024 points");
    refuses(BASE "seeds: [1, 2, 1]\n", 0, NULL, NULL, "r.yaml:7:15: seeds[2]: seed 1 stands here twice");
}

static void test_variables(void **state)
{
    (void)state;
    put_file("r.yaml", "recipe: 1\nvars: {d: 16, twice: \"${d}${d}\", last: ten, n: ${d}, list: [1, 2]}\n"
                       "name: net-${d}-${twice}\ndoc: \"d ${d}\"\nseed: ${n}\nseeds: ${list}\n"
                       "model:\n  - flatten\n  - {use: linear, out: \"${d}\"}\n  - {use: linear, out: 10, name: \"${last}\"}\n"
                       "data: {use: digits, batch_size: ${d}}\ntrain: {steps: ${d}}\n"
                       "arms: {wide: {vars.d: 32}}\n");
    qt_recipe *r = load_ok("r.yaml", 0, NULL, NULL);
    int64_t    seeds[64];
    assert_string_equal(r->name, "net-16-1616");
    assert_string_equal(r->doc, "d 16");
    assert_int_equal(r->seed, 16);
    assert_int_equal(qt_recipe_seeds(r, seeds), 2);
    assert_int_equal(seeds[1], 2);
    assert_int_equal(r->train.steps, 16);
    assert_string_equal(load_ok("r.yaml", SETS("vars.d=8"), NULL)->name, "net-8-88");
    assert_string_equal(load_ok("r.yaml", 0, NULL, "wide")->name, "net-32-3232");
    assert_string_equal(load_ok("r.yaml", SETS("vars.d=8"), "wide")->name, "net-8-88"); /* the command line wins */
}

static void test_overrides(void **state)
{
    (void)state;
    put_file("r.yaml", BASE "quant:\n  - {match: fc, weights: {use: ternary, measure: absmean}}\nloss: {use: cross_entropy, label_smoothing: 0.1}\n");
    qt_recipe *r = load_ok("r.yaml", SETS("optim.lr=1e-3", "optim.use=sgd", "quant[0].weights={use: lsq, num_bits: 4}", "~loss", "data.batch_size=8", "seed=3",
                                          "seeds=[4, 5]", "doc='a b: c'", "tags=[x]"), NULL);
    const qt_yaml *w = qt_yaml_get(r->quant->item[0], "weights");
    assert_string_equal(text_at(r, "optim", "lr"), "1e-3");
    assert_string_equal(qt_yaml_get(w, "use")->text, "lsq");
    assert_null(qt_yaml_get(w, "measure")); /* replaced, not merged */
    assert_null(r->loss);
    assert_int_equal(r->seed, 3);
    assert_string_equal(r->doc, "a b: c");
    r = load_ok("r.yaml", SETS("~train.steps", "train.epochs=0"), NULL);
    assert_true(r->by_epochs);
    assert_int_equal(r->train.epochs, 0);
}

static void test_arms(void **state)
{
    (void)state;
    put_file("r.yaml", BASE "optim: {use: sgd, lr: 0.1, momentum: 0.9}\nquant:\n  - {match: fc, weights: {use: ternary, measure: absmean}}\n"
                            "arms:\n  fp32: {quant: !unset}\n  median: {quant[0].weights.measure: absmedian}\n"
                            "  nested: {optim: {lr: 0.2, momentum: !unset}, train: {steps: 6}}\n  plain:\n");
    assert_null(load_ok("r.yaml", 0, NULL, "fp32")->quant);
    qt_recipe *r = load_ok("r.yaml", 0, NULL, "median");
    assert_string_equal(qt_yaml_get(qt_yaml_get(r->quant->item[0], "weights"), "measure")->text, "absmedian");
    r = load_ok("r.yaml", 0, NULL, "nested");
    assert_string_equal(text_at(r, "optim", "lr"), "0.2");
    assert_string_equal(text_at(r, "optim", "use"), "sgd");
    assert_null(text_at(r, "optim", "momentum"));
    assert_int_equal(r->train.steps, 6);
    assert_int_equal(load_ok("r.yaml", SETS("train.steps=7"), "nested")->train.steps, 7);
    assert_int_equal(load_ok("r.yaml", 0, NULL, "plain")->train.steps, 4);
}

static void test_fallback(void **state)
{
    (void)state;
    put_file("r.yaml", "recipe: 1\nmodel: [flatten, {use: linear, out: 10}]\ndata: {use: fashion-mnist, batch_size: 16, fallback: digits}\ntrain: {epochs: 1}\n");
    qt_recipe *r = load_ok("r.yaml", 0, NULL, NULL);
    assert_null(qt_yaml_get(r->data, "fallback"));
    assert_string_equal(qt_yaml_get(r->fallback, "use")->text, "digits");
    assert_string_equal(qt_yaml_get(r->fallback, "batch_size")->text, "16");
}

/* What resolved.yaml holds reads back as the same recipe, needing no other file. */
static void test_resolved(void **state)
{
    char  *text = NULL;
    size_t n;
    (void)state;
    mkdir("b", 0777);
    put_file("b/base.yaml", "vars: {d: 12}\nseed: 3\narms: {x: {seed: 4}}\n");
    put_file("r.yaml", "include: [b/base.yaml]\n" BASE "optim: {use: adam, lr: 1e-${vars}}\n");
    put_file("r.yaml", "include: [b/base.yaml]\n" BASE "lr_schedule: {use: cosine, warmup_steps: ${d}}\nclaims: [{say: a, arm: x, at_least: 0.1}]\n");
    qt_recipe *r = load_ok("r.yaml", SETS("optim.lr=0.5", "optim.use=sgd"), "x");
    FILE      *f = open_memstream(&text, &n);
    assert_ok(qt_recipe_print(f, r, r->data));
    fclose(f);
    put_file("resolved.yaml", text);
    qt_recipe *again = load_ok("resolved.yaml", 0, NULL, NULL);
    assert_string_equal(again->name, "r");
    assert_int_equal(again->seed, 4);
    assert_null(again->arms);
    assert_null(again->claims);
    assert_string_equal(text_at(again, "lr_schedule", "warmup_steps"), "12");
    assert_string_equal(text_at(again, "optim", "lr"), "0.5");
    free(text);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------------- */

static void test_files(void **state)
{
    qt_recipe *r;
    (void)state;
    assert_int_equal(qt_recipe_load(&arena, "nope.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
    assert_errors("nope.yaml: no such recipe file");
    refuses("", 0, NULL, NULL, "r.yaml:1:1: a recipe is a map of keys, found nothing");
    refuses("- a\n", 0, NULL, NULL, "r.yaml:1:1: a recipe is a map of keys, found a list");
    refuses(BASE "include: [no.yaml, neither.yaml]\n", 0, NULL, NULL,
            "r.yaml:7:11: include: no such file: 'no.yaml'\nr.yaml:7:20: include: no such file: 'neither.yaml'");
    refuses(BASE "include: {a: b}\n", 0, NULL, NULL, "r.yaml:7:10: include: expected a list of files, found a map");
}

static void test_include_cycle(void **state)
{
    qt_recipe *r;
    (void)state;
    put_file("x.yaml", "include: [y.yaml]\n");
    put_file("y.yaml", "seed: 1\ninclude:\n  - z.yaml\n");
    put_file("z.yaml", "include: [y.yaml]\n");
    assert_int_equal(qt_recipe_load(&arena, "x.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
    assert_errors("z.yaml:1:11: include: cycle: y.yaml -> z.yaml -> y.yaml");
    put_file("self.yaml", "include: [./self.yaml]\n");
    assert_int_equal(qt_recipe_load(&arena, "self.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
    assert_errors("self.yaml:1:11: include: cycle: self.yaml -> ./self.yaml");
}

/* An error in an included file has its place there. */
static void test_include_position(void **state)
{
    (void)state;
    put_file("base.yaml", "seed: 2\noptim:\n  use: adam\n  lrr: 3\n");
    refuses("include: [base.yaml]\n" BASE, 0, NULL, NULL, "base.yaml:4:3: optim.lrr: unknown key, did you mean 'lr'?");
}

static void test_top_level(void **state)
{
    (void)state;
    refuses(BASE "modle: 3\nseed: x\nseed: 2\n", 0, NULL, NULL, "r.yaml:7:1: modle: unknown key, did you mean 'model'?\n"
            "r.yaml:8:7: seed: expected an integer, found the string 'x'\n"
            "r.yaml:9:1: duplicate key 'seed', first at line 8:1");
    refuses(BASE "optin: {}\nseed: x\nengine: int\nname: a/b\n", 0, NULL, NULL,
            "r.yaml:7:1: optin: unknown key, did you mean 'optim'?\n"
            "r.yaml:8:7: seed: expected an integer, found the string 'x'\n"
            "r.yaml:9:9: engine: unknown value 'int', must be one of auto, float\n"
            "r.yaml:10:7: name: 'a/b' cannot be the name of a folder");
    refuses("recipe: 2\n" "model: [flatten, {use: linear, out: 10}]\ndata: {use: digits}\ntrain: {steps: 1}\n", 0, NULL, NULL,
            "r.yaml:1:9: recipe: version 2 of the schema is not known; this qtape reads version 1");
    refuses("recipe: 1\nseed: 1\n", 0, NULL, NULL,
            "r.yaml:1:1: train: expected steps or epochs, found neither\n"
            "r.yaml:1:1: model: missing; a recipe needs a list of layers\n"
            "r.yaml:1:1: data: missing; a recipe needs a data set, as data: {use: digits, batch_size: 32}");
    refuses(BASE "export: []\ndistill: {}\n", 0, NULL, NULL, "r.yaml:8:1: distill: not in this version of qtape");
    refuses(BASE "export: [{format: h6}, {format: h5}, {format: h5}, h5, {format: h5, level: 3}]\n", 0, NULL, NULL,
            "r.yaml:7:19: unknown exporter 'h6', did you mean 'h5'? (`qtape list exporters` lists them)\n"
            "r.yaml:7:47: export[2]: format h5 stands here twice\n"
            "r.yaml:7:52: export[3]: expected {format: NAME, ...}, found a string\n"
            "r.yaml:7:65: export[4]: format h5 stands here twice");
}

/* Errors of all sections, in one pass. */
static void test_one_pass(void **state)
{
    (void)state;
    refuses("recipe: 1\n"
            "model:\n"
            "  - flatten\n"
            "  - {use: linaer, out: 10}\n"
            "  - {use: linear, out: 10, biass: true}\n"
            "data: {use: digits, batch_size: 0}\n"
            "quant: [{match: \"*\", weights: {use: lqs}}]\n"
            "optim: {use: adam, lr: fast}\n"
            "lr_schedule: {use: cosin}\n"
            "schedule: {fake_quant_after: 1.5}\n"
            "train: {steps: -1, epoch: 3}\n"
            "phases: [tarin]\n"
            "loss: crossentropy\n",
            0, NULL, NULL,
            "r.yaml:4:11: unknown layer 'linaer', did you mean 'linear'? (`qtape list layers` lists them)\n"
            "r.yaml:5:28: model[2].biass: unknown key, did you mean 'bias'?\n"
            "r.yaml:6:33: data.batch_size: 0 is out of bounds, must be 1 to 1048576\n"
            "r.yaml:7:37: unknown quant 'lqs', did you mean 'lsq'? (`qtape list quants` lists them)\n"
            "r.yaml:8:24: optim.lr: expected a number, found the string 'fast'\n"
            "r.yaml:9:20: unknown schedule 'cosin', did you mean 'cosine'? (`qtape list schedules` lists them)\n"
            "r.yaml:10:30: schedule.fake_quant_after: 1.5 is out of bounds, must be a fraction, 0.0 to 1.0, or an integer number of steps\n"
            "r.yaml:11:16: train.steps: -1 is out of bounds, must be 0 to 1000000000000\n"
            "r.yaml:11:20: train.epoch: unknown key, did you mean 'epochs'?\n"
            "r.yaml:12:10: unknown phase 'tarin', did you mean 'train'? (`qtape list phases` lists them)\n"
            "r.yaml:13:7: unknown loss 'crossentropy', did you mean 'cross_entropy'? (`qtape list losses` lists them)");
}

static void test_train(void **state)
{
    (void)state;
    refuses(MODEL "train: {steps: 4, epochs: 2}\n", 0, NULL, NULL,
            "r.yaml:6:19: train.epochs: train.steps is given too; one of the two says how long to train (~train.steps takes it away)");
    refuses(MODEL "train: {log_every: 4}\n", 0, NULL, NULL, "r.yaml:6:8: train: expected steps or epochs, found neither");
    refuses(BASE "phases: [train, train]\n", 0, NULL, NULL, "r.yaml:7:17: phases[1]: train stands here twice");
    refuses(BASE "phases: []\n", 0, NULL, NULL, "r.yaml:7:9: phases: expected at least one phase, found an empty list");
    refuses(BASE "phases: [{use: calibrate, batches: 0}]\n", 0, NULL, NULL, "r.yaml:7:36: phases[0].batches: 0 is out of bounds, must be 1 to 1000000000");
    refuses(BASE "tags: qat\nseeds: [1, x, -2]\n", 0, NULL, NULL,
            "r.yaml:7:7: tags: expected a list of words, found a string\n"
            "r.yaml:8:12: seeds[1]: expected an integer from 0 on, found x\n"
            "r.yaml:8:15: seeds[2]: expected an integer from 0 on, found -2");
    refuses(BASE "loss: mse\n", 0, NULL, NULL, "r.yaml:7:7: loss: mse wants numbers as targets, and the data set gives classes");
    refuses(BASE "metric: mae\n", 0, NULL, NULL, "r.yaml:7:9: metric: mae wants numbers as targets, and the data set gives classes");
}

static void test_init(void **state)
{
    (void)state;
    refuses(BASE "init: {arm: fp23}\narms: {fp32: {init: !unset}}\n", 0, NULL, NULL, "r.yaml:7:13: init.arm: unknown arm 'fp23', did you mean 'fp32'?");
    refuses(BASE "init: {arm: a, run: b}\n", 0, NULL, NULL, "r.yaml:7:7: init: expected one of arm, run and checkpoint, found 2");
    refuses(BASE "init: {}\n", 0, NULL, NULL, "r.yaml:7:7: init: expected one of arm, run and checkpoint, found 0");
    refuses(BASE "init: {arm: a}\narms: {a: {}}\n", 0, NULL, "a", "r.yaml:7:7: init.arm: arm 'a' cannot begin with itself");
}

static void test_shapes(void **state)
{
    (void)state;
    refuses("recipe: 1\nmodel:\n  - flatten\n  - {use: linear, out: 7}\ndata: {use: digits}\ntrain: {steps: 1}\n", 0, NULL, NULL,
            "r.yaml:4:24: linear1: the last layer gives 7 outputs, but the data have 10 classes");
    refuses("recipe: 1\nmodel:\n  - flatten\n  - {use: linear, out: 2}\ndata: {use: regression}\ntrain: {steps: 1}\n", 0, NULL, NULL,
            "r.yaml:4:5: linear1: the last layer gives 2 numbers, and the data set has targets of 1");
}

/* Data whose shape is known only when they are read: what does not depend on it is checked all the same. */
static void test_unknown_shape(void **state)
{
    (void)state;
    refuses("recipe: 1\nmodel:\n  - {use: linear, out: 7, name: a}\n  - {use: linaer, out: 3}\ndata: {use: csv, path: no.csv, target: y, batch_size: 8}\n"
            "quant: [{match: \"*\", weights: {use: lsq, num_bit: 3}}]\noptim: {use: sgd, lrr: 3}\ntrain: {epochs: 2}\n",
            0, NULL, NULL,
            "r.yaml:4:11: unknown layer 'linaer', did you mean 'linear'? (`qtape list layers` lists them)\n"
            "r.yaml:6:42: quant[0].weights.num_bit: unknown key, did you mean 'num_bits'?\n"
            "r.yaml:7:19: optim.lrr: unknown key, did you mean 'lr'?");
    put_file("csv.yaml", "recipe: 1\nmodel: [{use: linear, out: 7}]\ndata: {use: csv, path: no.csv, target: y}\ntrain: {epochs: 2}\n");
    load_ok("csv.yaml", 0, NULL, NULL);
}

static void test_variable_errors(void **state)
{
    (void)state;
    refuses(BASE "vars: {width: 3, l: [1]}\ndoc: x${widht}\nseed: ${nope}\nname: a${width\npaper: a${l}\n", 0, NULL, NULL,
            "r.yaml:8:6: undefined variable 'widht', did you mean 'width'?\n"
            "r.yaml:9:7: undefined variable 'nope'\n"
            "r.yaml:10:7: '${' without a '}' in 'a${width'\n"
            "r.yaml:11:8: variable 'l' is a list and cannot stand inside a text");
    refuses(BASE "vars: {a: ${b}, b: 1}\n", 0, NULL, NULL, "r.yaml:7:11: undefined variable 'b': no variable is defined here (vars: {name: value})");
    refuses(BASE "vars: 3\n", 0, NULL, NULL, "r.yaml:7:7: vars: expected a map of name: value, found a number");
    refuses(BASE "seed: ${s}\n", 0, NULL, NULL, "r.yaml:7:7: undefined variable 's': no variable is defined here (vars: {name: value})");
}

static void test_override_errors(void **state)
{
    (void)state;
    refuses(BASE, SETS("nonsense"), NULL, "<command line>:1:1: 'nonsense' is neither key=value nor ~key");
    refuses(BASE, SETS("seed=1", "train.log_every=fast"), NULL, "<command line>:2:17: train.log_every: expected an integer, found the string 'fast'");
    refuses(BASE, SETS("seed=1", "trian.steps=3"), NULL, "<command line>:2:13: trian: unknown key, did you mean 'train'?");
    refuses(BASE, SETS("~optimm"), NULL, "<command line>:1:2: optimm: there is no key 'optimm'");
    refuses(BASE, SETS("~trian"), NULL, "<command line>:1:2: trian: there is no key 'trian', did you mean 'train'?");
    refuses(BASE, SETS("model[5].out=3"), NULL, "<command line>:1:14: model[5].out: 'model' has 2 items, there is no [5]");
    refuses(BASE, SETS("data.use=digitz", "train.steps=-1"), NULL,
            "<command line>:1:10: unknown dataset 'digitz', did you mean 'digits'? (`qtape list datasets` lists them)\n"
            "<command line>:2:13: train.steps: -1 is out of bounds, must be 0 to 1000000000000");
}

static void test_arm_errors(void **state)
{
    (void)state;
    refuses(BASE "arms: {fp32: {}, median: {}}\n", 0, NULL, "medain", "r.yaml:7:7: unknown arm 'medain', did you mean 'median'?");
    refuses(BASE "arms: {fp32: {}, median: {}}\n", 0, NULL, "zzzzzzzz", "r.yaml:7:7: unknown arm 'zzzzzzzz'; the recipe has fp32, median");
    refuses(BASE, 0, NULL, "x", "r.yaml:1:1: unknown arm 'x': the recipe has no arms");
    /* every arm is tried, and named */
    refuses(BASE "optim: {use: adam, lr: 0.1}\narms:\n  a: {optim.lrr: 3}\n  b: {optim.lr: 4, quant: !unset}\n  c: {model[1].out: 9}\n  ../d: {}\n", 0, NULL, NULL,
            "r.yaml:9:18: optim.lrr: unknown key, did you mean 'lr'? (arm 'a')\n"
            "r.yaml:10:27: quant: there is no key 'quant' (arm 'b')\n"
            "r.yaml:11:21: fc: the last layer gives 9 outputs, but the data have 10 classes (arm 'c')\n"
            "r.yaml:12:3: arms: '../d' cannot be part of the name of a folder");
    /* an error of the recipe itself is told once */
    refuses(BASE "optim: {use: adam, lrr: 3}\narms: {a: {}, b: {}}\n", 0, NULL, NULL, "r.yaml:7:20: optim.lrr: unknown key, did you mean 'lr'?");
    refuses(BASE "arms: [a]\n", 0, NULL, NULL, "r.yaml:7:7: arms: expected a map of name -> {path: value}, found a list");
}

static void test_claim_errors(void **state)
{
    (void)state;
    refuses(BASE "arms: {fp32: {}, q: {}}\nclaims:\n"
                 "  - {say: a, arm: fp23, at_least: 1}\n"
                 "  - {say: a, arm: q, metric: test.acuracy, at_least: 1}\n"
                 "  - {say: a, arm: q}\n"
                 "  - {say: a, arm: q, at_least: 1, at_most: 2}\n"
                 "  - {say: a, arm: q, at_least: {arm: fp3, minuss: 1}}\n"
                 "  - {say: a, arm: q, at_least: {arm: fp3, metric: quant.fc.weight.scal}}\n"
                 "  - {say: a, arm: q, within: {arm: fp32}}\n"
                 "  - {arm: q, within: 3}\n"
                 "  - {say: a, arm: q, within: 3}\n",
            0, NULL, NULL,
            "r.yaml:9:19: claims[0].arm: unknown arm 'fp23', did you mean 'fp32'?\n"
            "r.yaml:10:30: claims[1].metric: unknown metric 'test.acuracy', did you mean 'test.accuracy'?\n"
            "r.yaml:11:5: claims[2]: expected one of at_least, at_most and within, found 0\n"
            "r.yaml:12:5: claims[3]: expected one of at_least, at_most and within, found 2\n"
            "r.yaml:13:43: claims[4].at_least.minuss: unknown key, did you mean 'minus'?\n"
            "r.yaml:14:38: claims[5].at_least.arm: unknown arm 'fp3', did you mean 'fp32'?\n"
            "r.yaml:14:51: claims[5].at_least.metric: unknown metric 'quant.fc.weight.scal' (test.accuracy, test.loss, bits_per_weight, bytes, seconds, quant.SITE.FIELD ...)\n"
            "r.yaml:15:30: claims[6].within.of: missing, it has no default (largest difference)\n"
            "r.yaml:16:5: claims[7].say: missing, it has no default (the claim in words)\n"
            "r.yaml:17:30: claims[8].within: expected {arm, of}, found a number");
    refuses(BASE "claims: {a: b}\n", 0, NULL, NULL, "r.yaml:7:9: claims: expected a list, found a map");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, clear, clear)
    const struct CMUnitTest tests[] = {
        T(test_defaults), T(test_include), T(test_include_arms), T(test_sweep), T(test_sweep_errors), T(test_variables), T(test_overrides), T(test_arms), T(test_fallback), T(test_resolved),
        T(test_files), T(test_include_cycle), T(test_include_position), T(test_top_level), T(test_one_pass), T(test_train), T(test_init), T(test_shapes), T(test_unknown_shape),
        T(test_variable_errors), T(test_override_errors), T(test_arm_errors), T(test_claim_errors),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
