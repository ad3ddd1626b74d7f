/* Exported models and the deployment engine: trained, exported and loaded again they answer with the bits of the training graph's evaluation,
 * for any batch and any number of threads, without float values of integer weights; files that are damaged, newer or out of range are
 * refused with one message. All on the embedded digits. */
#include "train_util.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "export/bits.h"
#include "export/engine.h"
#include "kernels/packed.h"
#include <hdf5.h>

static int clear(void **state)
{
    (void)state;
    qt_error_clear();
    return 0;
}

/* ---- models and quantizers --------------------------------------------------------------------------------------------------------- */

static const char mlp[] = "model: [flatten, {use: linear, out: 33, name: fc1}, relu, {use: linear, out: 24, name: fc2}, batch_norm, relu, "
                          "{use: linear, out: 10, name: fc3}]\n";
/* Batch norm behind convolutions and a linear layer, a skip connection, a strided and a depthwise convolution. */
static const char resnet[] = "model:\n"
                             "  - {use: conv2d, out: 8, kernel: 3, padding: 1, bias: false, name: stem}\n"
                             "  - batch_norm\n"
                             "  - {use: relu, name: start}\n"
                             "  - {use: conv2d, out: 8, kernel: 3, padding: 1, bias: false, name: conv1}\n"
                             "  - batch_norm\n"
                             "  - relu\n"
                             "  - {use: conv2d, out: 8, kernel: 3, padding: 1, name: conv2}\n"
                             "  - batch_norm\n"
                             "  - {use: add, from: start}\n"
                             "  - relu\n"
                             "  - {use: conv2d, out: 12, kernel: 3, stride: 2, padding: 1, groups: 2, name: down}\n"
                             "  - relu\n"
                             "  - {use: conv2d, out: 12, kernel: 3, padding: 1, groups: 12, name: deep}\n"
                             "  - batch_norm\n"
                             "  - relu\n"
                             "  - global_avg_pool\n"
                             "  - {use: linear, out: 10, name: fc}\n";

typedef struct variant {
    const char *name, *quant;
    int         mlp, resnet; /* layers that compute in integers, of 3 and of 6 */
} variant;

#define LSQ(bits) "weights: {use: lsq, num_bits: " bits "}, activations: {use: lsq, num_bits: " bits ", signed: false}"
static const variant variants[] = {
    {"lsq 4", "[{match: \"*\", " LSQ("4") "}]", 3, 6},
    {"lsq 8", "[{match: \"*\", " LSQ("8") "}]", 3, 6},
    {"lsq 3, per channel", "[{match: \"*\", weights: {use: lsq, num_bits: 3, granularity: channel}, activations: {use: lsq, num_bits: 3}}]", 3, 6},
    {"ternary", "[{match: \"*\", weights: ternary, activations: {use: int, num_bits: 8, granularity: token}}]", 3, 6},
    {"uniform",
     "[{match: \"*\", weights: {use: uniform, num_bits: 8, granularity: channel}, activations: {use: uniform, num_bits: 8, symmetric: false, "
     "observer: ema}}]",
     3, 6},
    {"binary", "[{match: \"*\", weights: {use: binary, granularity: channel}, activations: {use: int, num_bits: 8, granularity: token}}]", 3, 6},
    {"first and last at eight bits", "[{match: \"*\", " LSQ("2") "}, {match: first, " LSQ("8") "}, {match: last, " LSQ("8") "}]", 3, 6},
    {"one of each",
     "[{match: \"*\", " LSQ("4") "}, {match: [fc1, stem], weights: {use: lsq, num_bits: 4}, activations: none}, "
     "{match: [fc2, conv1], weights: none, activations: {use: lsq, num_bits: 8}}, "
     "{match: [fc3, conv2], weights: {use: lsq, num_bits: 12}, activations: {use: lsq, num_bits: 12}}, {match: \"*\"}]",
     0, 3},
    {"zero points",
     "[{match: \"*\", weights: {use: uniform, num_bits: 4, symmetric: false, granularity: channel}, activations: {use: uniform, num_bits: 8}}]", 3, 6},
    {"lsq+", "[{match: \"*\", weights: {use: lsq, num_bits: 4}, activations: {use: lsq_plus, num_bits: 4}}]", -1, -1},
    {"nothing", "[]", 0, 0},
};

/* ---- helpers ----------------------------------------------------------------------------------------------------------------------- */

/* A run of a few steps, open. */
static qt_run *trained(qt_arena *a, const char *model, const char *quant, const char *more)
{
    qt_recipe *rc;
    qt_run    *r;
    qt_result  res;
    char       text[4096];
    snprintf(text, sizeof text,
             "recipe: 1\nname: m\n%squant: %s\ndata: {use: digits, batch_size: 32}\ntrain: {steps: 12, eval_every: 0, log_every: 0}\n%s", model,
             quant, *more ? more : "optim: {use: adam, lr: 1e-2}\n");
    put_file("r.yaml", text);
    assert_ok(qt_recipe_load(a, "r.yaml", 0, NULL, NULL, &rc));
    assert_ok(qt_run_new(rc, "run", NULL, true, QT_PROGRESS_QUIET, &r));
    assert_ok(qt_run_go(r, &res));
    return r;
}

static qt_exported exported(qt_run *r, const char *file)
{
    qt_exported made;
    assert_ok(qt_exporter_h5.run(&qt_exporter_h5, r, NULL, file, &made));
    return made;
}

/* The training graph's answers to n samples as one batch. */
static void graph(qt_run *r, int64_t n, const R *x, R *y)
{
    qt_tensor *in, *out;
    qt_run_swap_average(r);
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, false);
    in = qt_input(r->tape, 4, (int64_t[]){n, r->model->in.dim[0], r->model->in.dim[1], r->model->in.dim[2]});
    memcpy(in->data, x, (size_t)in->n * sizeof *x);
    out = qt_model_forward(r->tape, r->model, in);
    assert_ok(qt_tape_error(r->tape));
    memcpy(y, out->data, (size_t)out->n * sizeof *y);
    qt_run_swap_average(r);
}

static void assert_same_bits(const char *name, const R *a, const R *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a)) fail_msg("%s: answer %zu is %.9g, expected %.9g", name, i, (double)a[i], (double)b[i]);
}

/* ---- the same bits ------------------------------------------------------------------------------------------------------------------- */

static void compare_batches(const char *name, qt_run *r, qt_engine *e)
{
    enum { N = 64 };
    R        x[N * 64], want[N * 10], got[N * 10];
    int32_t  label;
    for (int i = 0; i < N; i++) assert_ok(qt_data_get(r->data, QT_TEST, i, NULL, x + 64 * i, &label, NULL));
    for (int threads = 1; threads <= 2; threads++)
        for (int n = 1; n <= N; n += 21) {
            qt_set_threads(threads);
            graph(r, n, x, want);
            assert_ok(qt_engine_run(e, n, x, got));
            assert_same_bits(name, got, want, (size_t)n * 10);
        }
    qt_set_threads(0);
}

static void compare_splits(const char *name, qt_run *r, qt_engine *e)
{
    enum { N = 449 };
    static R  want[N * 10], got[N * 10];
    qt_result a, b;
    qt_run    view;
    assert_ok(qt_run_eval(r, QT_TEST, &a, want, NULL));
    assert_ok(qt_engine_as_run(e, &view));
    assert_ok(qt_run_eval(&view, QT_TEST, &b, got, NULL));
    assert_same_bits(name, got, want, N * 10);
    assert_true(a.n == N && a.n == b.n && a.loss == b.loss && a.accuracy == b.accuracy);
    assert_true(e->params == a.params && e->bits_per_weight == a.bits_per_weight);
    qt_data_close(view.data);
}

static bool float_weights(const qt_engine *e, const qt_tensor *w)
{
    return w->data >= e->store->value && w->data < e->store->value + e->store->size;
}

/* A warm engine allocates nothing. */
static void check_warm(qt_engine *e)
{
    R x[4 * 64] = {0}, y[4 * 10];
    assert_ok(qt_engine_run(e, 4, x, y));
    int64_t before = qt_alloc_count();
    assert_ok(qt_engine_run(e, 4, x, y));
    assert_int_equal(qt_alloc_count(), before);
}

/* Integer weights have no float values, and the store has no room for any. */
static void check_memory(const qt_engine *e)
{
    int64_t kept = 0;
    for (int i = 0; i < e->store->n; i++) kept += e->store->p[i]->outside ? 0 : (e->store->p[i]->t.n + 15) / 16 * 16;
    assert_int_equal(e->store->size, kept);
    assert_null(e->store->grad);
    for (int i = 0; i < e->model->n; i++) {
        const qt_module *m = &e->model->m[i];
        if (!m->layer->quantizes) continue;
        assert_true(m->integer == (m->p[0]->codes != NULL) && m->integer != float_weights(e, m->p[0]));
        if (!m->integer) continue;
        assert_null(m->p[0]->data);
        assert_true((m->p[0]->codes->packed != NULL) != (m->p[0]->codes->q != NULL));
    }
}

static void check_variant(const variant *v, const char *model, int integers)
{
    qt_arena    a = {0};
    char        name[96];
    qt_engine  *e;
    qt_run     *r = trained(&a, model, v->quant, "");
    qt_exported made = exported(r, "m.h5");
    snprintf(name, sizeof name, "%s, %s", model == mlp ? "mlp" : "resnet", v->name);
    if (integers >= 0 && made.integers != integers) fail_msg("%s: %d layers in integers, expected %d", name, made.integers, integers);
    assert_non_null(e = qt_engine_open("m.h5"));
    assert_true(e->integers == made.integers && e->layers == made.layers);
    assert_true(qt_engine_inputs(e) == 64 && qt_engine_outputs(e) == 10);
    check_memory(e);
    check_warm(e);
    compare_batches(name, r, e);
    compare_splits(name, r, e);
    qt_engine_free(e);
    qt_run_free(r);
    qt_arena_free(&a);
}

static void test_mlp(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) check_variant(&variants[i], mlp, variants[i].mlp);
}

static void test_resnet(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) check_variant(&variants[i], resnet, variants[i].resnet);
}

/* Averaged weights; a recipe that simulates; quantization that has not begun. */
static void test_settings(void **state)
{
    static const struct {
        const char *more;
        int         integers;
    } cases[] = {{"optim: {use: adam, lr: 1e-2, ema: 0.9}\n", 3}, {"engine: float\n", 0}, {"schedule: {fake_quant_after: 100}\n", 0}};
    (void)state;
    for (int i = 0; i < 3; i++) {
        qt_arena    a = {0};
        qt_run     *r = trained(&a, mlp, variants[0].quant, cases[i].more);
        qt_exported made = exported(r, NULL);
        qt_engine  *e = qt_engine_open("run/export/m.h5");
        assert_string_equal(made.file, "run/export/m.h5");
        assert_true(qt_file_exists("run/export/export.json") && !qt_file_exists("run/export/m.h5.part"));
        assert_int_equal(made.integers, cases[i].integers);
        assert_non_null(e);
        compare_batches(cases[i].more, r, e);
        compare_splits(cases[i].more, r, e);
        qt_engine_free(e);
        qt_run_free(r);
        qt_arena_free(&a);
    }
}

static void test_recipe_key(void **state)
{
    qt_arena a = {0};
    (void)state;
    qt_run_free(trained(&a, mlp, variants[0].quant, "export: [{format: h5}]\n"));
    qt_engine *e = qt_engine_open("run/export/m.h5");
    assert_non_null(e);
    assert_int_equal(e->integers, 3);
    qt_engine_free(e);
    qt_arena_free(&a);
}

static qt_err one_bit_off(const char *file, int64_t n, const R *x, R *y)
{
    qt_err e = qt_exporter_h5.answer(file, n, x, y);
    ((uint8_t *)y)[0] ^= 1;
    return e;
}

/* A file that answers with other bits leaves nothing behind. */
static void test_unequal(void **state)
{
    qt_arena    a = {0};
    qt_run     *r = trained(&a, mlp, variants[0].quant, "");
    qt_exporter x = qt_exporter_h5;
    qt_exported made;
    (void)state;
    x.answer = one_bit_off;
    assert_int_equal(x.run(&x, r, NULL, NULL, &made), QT_ECLAIM);
    assert_errors("run/export/m.h5: 1 of 640 answers of the exported model differ from the training graph's; nothing was exported");
    assert_false(qt_file_exists("run/export/m.h5") || qt_file_exists("run/export/m.h5.part") || qt_file_exists("run/export/export.json"));
    qt_run_free(r);
    qt_arena_free(&a);
}

/* ---- files that are not as they should be ------------------------------------------------------------------------------------------- */

static char  *image; /* of ok.h5 */
static size_t size;

static void make_image(qt_arena *a)
{
    qt_run_free(trained(a, "model: [flatten, {use: linear, out: 10, name: fc}]\n", variants[3].quant, "export: [{format: h5}]\n"));
    assert_int_equal(rename("run/export/m.h5", "ok.h5"), 0);
    assert_ok(qt_file_read(a, "ok.h5", &image, &size));
}

static void put_bytes(const char *file, const char *bytes, size_t n)
{
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_true(fwrite(bytes, 1, n, f) == n && !fclose(f));
}

/* NULL and one line that names the file. */
static void assert_refused(const char *file, const char *what)
{
    qt_engine  *e = qt_engine_open(file);
    const char *text = qt_error_text(), *line = strchr(text, '\n');
    if (e || strncmp(text, file, strlen(file)) || (line && line[1]) || !strstr(text, what))
        fail_msg("%s: not refused with '%s': %s", file, what, text);
    qt_error_clear();
}

static void test_truncated(void **state)
{
    qt_arena a = {0};
    (void)state;
    make_image(&a);
    for (size_t n = 0; n < size; n += 64) {
        put_bytes("cut.h5", image, n);
        assert_refused("cut.h5", n < 512 ? "is no qtape exported model" : "damaged exported model");
    }
    assert_refused("run", "is no qtape exported model");
    assert_refused("none.h5", "cannot read");
    put_bytes("garbage.h5", "recipe: 1\n", 10);
    assert_refused("garbage.h5", "is no qtape exported model");
    qt_arena_free(&a);
}

static void test_flipped(void **state)
{
    qt_arena a = {0};
    (void)state;
    make_image(&a);
    for (size_t at = 0; at < size; at += 89) {
        if (at >= 60 && at < 512) continue; /* zeros behind the seal's line mean nothing */
        image[at] ^= (char)(1 << at % 8);
        put_bytes("bad.h5", image, size);
        assert_refused("bad.h5", "");
        image[at] ^= (char)(1 << at % 8);
    }
    qt_arena_free(&a);
}

/* The seal made right again: what the checksum cannot catch must be caught by the checks, or change numbers only. */
static void test_flipped_and_sealed(void **state)
{
    qt_arena a = {0};
    R        x[64] = {0}, y[10];
    (void)state;
    make_image(&a);
    for (size_t at = 512; at < size; at += 67) {
        image[at] ^= (char)(1 << at % 8);
        put_bytes("bad.h5", image, size);
        assert_ok(qt_seal_write(&qt_engine_seal, "bad.h5"));
        qt_engine *e = qt_engine_open("bad.h5");
        if (!e) assert_true(*qt_error_text());
        else assert_ok(qt_engine_run(e, 1, x, y));
        qt_engine_free(e);
        qt_error_clear();
        image[at] ^= (char)(1 << at % 8);
    }
    qt_arena_free(&a);
}

/* Changes a file behind its seal as another program would. */
static void set_attribute(const char *file, const char *name, int64_t v)
{
    hid_t f = H5Fopen(file, H5F_ACC_RDWR, H5P_DEFAULT), attr = H5Aopen(f, name, H5P_DEFAULT);
    assert_true(H5Awrite(attr, H5T_NATIVE_INT64, &v) >= 0);
    H5Aclose(attr), H5Fclose(f);
}

static void set_recipe(const char *file, const char *text)
{
    hid_t f = H5Fopen(file, H5F_ACC_RDWR, H5P_DEFAULT), type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text) + 1);
    H5Adelete(f, "recipe");
    hid_t attr = H5Acreate2(f, "recipe", type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(attr, type, text) >= 0);
    H5Aclose(attr), H5Sclose(space), H5Tclose(type), H5Fclose(f);
}

static void set_numbers(const char *file, const char *name, double v)
{
    double x[2048];
    hid_t  f = H5Fopen(file, H5F_ACC_RDWR, H5P_DEFAULT), set = H5Dopen2(f, name, H5P_DEFAULT);
    for (int i = 0; i < 2048; i++) x[i] = v;
    assert_true(H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    if (H5Aexists(set, "crc32") > 0) H5Adelete(set, "crc32");
    H5Dclose(set), H5Fclose(f);
}

static void test_refused_by_name(void **state)
{
    qt_arena a = {0};
    (void)state;
    make_image(&a);
    for (int sealed = 0; sealed < 2; sealed++) { /* named whether the checksum was made right again or not */
        put_bytes("m.h5", image, size);
        set_attribute("m.h5", "format_version", 2);
        if (sealed) assert_ok(qt_seal_write(&qt_engine_seal, "m.h5"));
        assert_refused("m.h5", "exported for a newer format version, 2; this qtape reads version 1");
        put_bytes("m.h5", image, size);
        set_numbers("m.h5", "layers/fc/codes", 255);
        if (sealed) assert_ok(qt_seal_write(&qt_engine_seal, "m.h5"));
        assert_refused("m.h5", "layer 'fc' has codes outside their range: 2 at [0, 0], expected -1 to 1");
    }
    static const struct {
        const char *attribute;
        int64_t     v;
        const char *what;
    } others[] = {{"format_version", 0, "m.h5: format version 0 is none"},
                  {"real_bits", sizeof(R) == 4 ? 64 : 32, sizeof(R) == 4 ? "exported by the double library, this is the float one" :
                                                                           "exported by the float library, this is the double one"}};
    for (int i = 0; i < 2; i++) {
        put_bytes("m.h5", image, size);
        set_attribute("m.h5", others[i].attribute, others[i].v);
        assert_ok(qt_seal_write(&qt_engine_seal, "m.h5"));
        assert_refused("m.h5", others[i].what);
    }
    image[strlen("QTAPE-MODEL ")] = '3';
    put_bytes("m.h5", image, size);
    assert_refused("m.h5", "exported for a newer format version, 3; this qtape reads version 1");
    qt_arena_free(&a);
}

/* Sealed well, and wrong: what another program may have written. */
static void test_inconsistent(void **state)
{
    static const struct {
        const char *set;
        double      v;
        const char *what;
    } sets[] = {{"layers/fc/grid", 9, "codes of 9 bits"},       {"layers/fc/grid", 3, "codes 3 to 3 in steps of 3"},
                {"layers/fc/scale", 1e300 * 1e300, "finite"},   {"input", 0, "is no shape of a sample"},
                {"input", 1 << 15, "is no shape of a sample"},  {"input", 9, "has not the shape that the model wants"}};
    static const struct {
        const char *recipe, *what;
    } recipes[] = {
        {"model: [flatten, {use: linear, out: 10, name: fc}]\n", "integers only"},
        {"model: [flatten, {use: linear, out: 10, name: fc}]\nquant: [{match: fc, weights: ternary, activations: {use: int, num_bits: 12}}]\n",
         "integers only"},
        {"model: [flatten, {use: linear, out: 10, name: fc}]\nengine: float\nquant: [{match: fc, weights: ternary, activations: int}]\n",
         "integers only"},
        {"model: [flatten, {use: linear, out: 16777216, name: fc}]\nquant: [{match: fc, weights: ternary, activations: int}]\n", "10 classes"},
        {"model: [flatten, {use: linear, out: 16777216}, {use: linear, out: 10, name: fc}]\nquant: [{match: fc, weights: ternary, activations: "
         "int}]\n",
         "has not the shape"},
        {"mdl: []\n", "model: missing"},
        {"{", "m.h5"},
    };
    qt_arena a = {0};
    (void)state;
    make_image(&a);
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        put_bytes("m.h5", image, size);
        set_numbers("m.h5", sets[i].set, sets[i].v);
        assert_ok(qt_seal_write(&qt_engine_seal, "m.h5"));
        assert_refused("m.h5", sets[i].what);
    }
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        put_bytes("m.h5", image, size);
        set_recipe("m.h5", recipes[i].recipe);
        assert_ok(qt_seal_write(&qt_engine_seal, "m.h5"));
        assert_null(qt_engine_open("m.h5"));
        if (!strstr(qt_error_text(), recipes[i].what)) fail_msg("recipe %zu: '%s' not in: %s", i, recipes[i].what, qt_error_text());
        qt_error_clear();
    }
    qt_arena_free(&a);
}

/* A data set of its own, of numbers v that grow after each fifth of it; a large one stays without storage. */
static void put_set(const char *file, const char *name, int rank, const hsize_t *dim, hid_t type, double v)
{
    static double x[4096];
    hid_t         f = H5Fopen(file, H5F_ACC_RDWR, H5P_DEFAULT), space = H5Screate_simple(rank, dim, NULL), links = H5Pcreate(H5P_LINK_CREATE);
    hssize_t      n = H5Sget_simple_extent_npoints(space);
    H5Pset_create_intermediate_group(links, 1);
    if (H5Lexists(f, name, H5P_DEFAULT) > 0) H5Ldelete(f, name, H5P_DEFAULT);
    hid_t set = H5Dcreate2(f, name, type, space, links, H5P_DEFAULT, H5P_DEFAULT);
    for (hssize_t i = 0; i < n && i < 4096; i++) x[i] = v * (double)(1 + 10 * i / n / 2);
    assert_true(n > 4096 || H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    H5Dclose(set), H5Pclose(links), H5Sclose(space), H5Fclose(f);
}

/* Data sets of other shapes than qtape writes, and ones that do not belong there. */
static void test_other_sets(void **state)
{
    static const struct {
        const char *set;
        int         rank;
        hsize_t     dim[3];
        double      v;
        const char *what;
    } sets[] = {
        {"layers/fc/scale", 1, {7}, 1, "'layers/fc/scale' does not share its weight out in equal parts"},
        {"layers/fc/scale", 2, {1, 1}, 1, "'layers/fc/scale' does not share its weight out in equal parts"},
        {"layers/fc/zero", 1, {1}, 256, "'layers/fc/zero' holds zero points that no code of 8 bits can have"},
        {"layers/fc/zero", 1, {1}, -257, "'layers/fc/zero' holds zero points that no code of 8 bits can have"},
        {"layers/fc/zero", 1, {2}, 0, "'layers/fc/zero' has not the shape that the model wants"},
        {"layers/fc/grid", 1, {5}, 1, "'layers/fc/grid' has not the shape that the model wants"},
        {"layers/fc/codes", 2, {10, 15}, 0, "'layers/fc/codes' has not the shape that the model wants"},
        {"params/fc.bias", 2, {10, 1}, 0, "'params/fc.bias' has not the shape that the model wants"},
        {"sites/fc.input", 1, {2}, 1, "sites/fc.input"},
        {"input", 2, {1, 3}, 8, "'input' is no shape of a sample"},
        {"input", 1, {5}, 2, "'input' is no shape of a sample"},
        {"ids", 1, {2}, 8, "'ids' is no number of ids"},
        {"ids", 1, {1}, 0, "'ids' is no number of ids"},
        {"ids", 1, {1}, 8, "'ids' is no number of ids"}, /* beside an input of three dimensions */
    };
    qt_arena a = {0};
    (void)state;
    make_image(&a);
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        const bool whole = !strstr(sets[i].set, "scale") && !strstr(sets[i].set, "params");
        put_bytes("m.h5", image, size);
        put_set("m.h5", sets[i].set, sets[i].rank, sets[i].dim, whole ? H5T_STD_I32LE : sizeof(R) == 4 ? H5T_IEEE_F32LE : H5T_IEEE_F64LE, sets[i].v);
        assert_ok(qt_seal_write(&qt_engine_seal, "m.h5"));
        assert_refused("m.h5", sets[i].what);
    }
    put_bytes("m.h5", image, size);
    set_recipe("m.h5", "model: [flatten, {use: linear, out: 1024, name: big}, {use: linear, out: 10, name: end}]\n");
    put_set("m.h5", "params/big.weight", 2, (hsize_t[]){1024, 64}, H5T_IEEE_F32LE, 0);
    assert_ok(qt_seal_write(&qt_engine_seal, "m.h5"));
    assert_refused("m.h5", "'params/big.weight' is larger than the file");
    qt_arena_free(&a);
}

/* The same numbers shared out in other ways are the same model: scales of two rows or of one, zero points that are all 0 or none. */
static void test_parts(void **state)
{
    static const hsize_t parts[] = {5, 10, 5, 10};
    const hid_t          type = sizeof(R) == 4 ? H5T_IEEE_F32LE : H5T_IEEE_F64LE;
    qt_arena a = {0};
    R        x[64], y[4][10];
    (void)state;
    make_image(&a);
    for (int i = 0; i < 64; i++) x[i] = (R)(i % 7) / 7;
    for (int k = 0; k < 4; k++) {
        put_bytes("m.h5", image, size);
        put_set("m.h5", "layers/fc/scale", 1, &parts[k], type, 0.5);
        if (k > 1) put_set("m.h5", "layers/fc/zero", 1, &parts[k], H5T_STD_I32LE, 0);
        assert_ok(qt_seal_write(&qt_engine_seal, "m.h5"));
        qt_engine *e = qt_engine_open("m.h5");
        assert_non_null(e);
        assert_ok(qt_engine_run(e, 1, x, y[k]));
        qt_engine_free(e);
        assert_same_bits("parts", y[k], y[0], 10);
    }
    qt_arena_free(&a);
}

/* Each allocation of loading fails once. */
static void test_no_memory(void **state)
{
    qt_arena   a = {0};
    qt_engine *e = NULL;
    (void)state;
    make_image(&a);
    for (int64_t n = 1; !e; n++) {
        qt_error_clear();
        qt_alloc_fail_at(n);
        e = qt_engine_open("ok.h5");
        if (!e) assert_true(*qt_error_text());
        qt_alloc_fail_at(0);
        assert_true(n < 10000);
    }
    qt_engine_free(e);
    qt_arena_free(&a);
}

/* ---- calls that cannot be answered ---------------------------------------------------------------------------------------------------- */

static void test_calls(void **state)
{
    qt_arena   a = {0};
    qt_engine *e;
    R          y = 7;
    (void)state;
    make_image(&a);
    assert_non_null(e = qt_engine_open("ok.h5"));
    assert_int_equal(qt_engine_run(e, -1, &y, &y), QT_EUSAGE);
    assert_errors("m: a batch of -1 samples");
    assert_int_equal(qt_engine_tokens(e, 1, 1, (int32_t[]){0}, &y), QT_EUSAGE);
    assert_errors("m: the model's input is numbers, not tokens");
    assert_int_equal(qt_engine_switch(e, 3), QT_EUSAGE);
    assert_errors("m: cannot be switched to 3 bits");
    assert_ok(qt_engine_run(e, 0, NULL, NULL));
    assert_true(y == 7 && qt_engine_vocab(e) == 0);
    qt_engine_free(e);
    qt_engine_free(NULL);
    qt_arena_free(&a);
}

/* A file whose recipe names other data than the model was made for, or none. */
static void test_other_data(void **state)
{
#define MODEL "model: [flatten, {use: linear, out: 10, name: fc}]\nquant: [{match: fc, weights: ternary, activations: {use: int, granularity: token}}]\n"
    static const struct {
        const char *recipe, *what;
    } cases[] = {{MODEL, "m: the exported recipe names no data"},
                 {MODEL "data: {use: regression}\n", "m: the data are not those that it was exported with"},
                 {MODEL "data: {use: digit}\n", "did you mean 'digits'"},
                 {MODEL "data: digits\nloss: cross_entrpy\n", "did you mean 'cross_entropy'"},
                 {MODEL "data: digits\nmetric: acuracy\n", "did you mean 'accuracy'"},
                 {MODEL "data: digits\nmetric: accuracy\ntrain: {eval_batch_size: -3}\n", NULL}};
    qt_arena a = {0};
    (void)state;
    make_image(&a);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qt_engine *e;
        qt_run     view;
        put_bytes("m.h5", image, size);
        set_recipe("m.h5", cases[i].recipe);
        assert_ok(qt_seal_write(&qt_engine_seal, "m.h5"));
        assert_ok(qt_engine_load("m.h5", &e));
        qt_err got = qt_engine_as_run(e, &view);
        if (cases[i].what ? got == QT_OK || !strstr(qt_error_text(), cases[i].what) : got != QT_OK)
            fail_msg("data %zu: '%s' not in: %s", i, cases[i].what ? cases[i].what : "", qt_error_text());
        if (got == QT_OK) assert_true(view.recipe->train.eval_batch_size == 256 && !strcmp(view.recipe->metric->d.name, "accuracy"));
        qt_error_clear();
        qt_data_close(view.data);
        qt_engine_free(e);
    }
    qt_arena_free(&a);
}

/* A run's engine goes by a file; where none can be made it says so. */
static void test_no_folder(void **state)
{
    qt_arena   a = {0};
    qt_engine *e;
    qt_run    *r = trained(&a, "model: [flatten, {use: linear, out: 10, name: fc}]\n", variants[3].quant, "");
    (void)state;
    setenv("TMPDIR", "/no/such", 1);
    assert_int_equal(qt_engine_of_run(r, &e), QT_EIO);
    assert_null(e);
    assert_non_null(strstr(qt_error_text(), ": cannot write: No such file or directory"));
    qt_error_clear();
    unsetenv("TMPDIR");
    assert_ok(qt_engine_of_run(r, &e));
    compare_batches("by a file", r, e);
    qt_engine_free(e);
    qt_run_free(r);
    qt_arena_free(&a);
}

/* ---- small parts --------------------------------------------------------------------------------------------------------------------- */

static void test_bits(void **state)
{
    qt_rng r = qt_rng_named(1, "test");
    (void)state;
    for (int bits = 1; bits <= 8; bits++)
        for (int n = 1; n < 40; n++) {
            uint8_t  row[64] = {0};
            unsigned u[40];
            int64_t  bytes = qt_bits_row(n, bits);
            for (int k = 0; k < n; k++) qt_bits_put(row, k, bits, u[k] = (unsigned)qt_rng_below(&r, (uint64_t)1 << bits));
            for (int k = 0; k < n; k++) assert_int_equal(qt_bits_get(row, k, bits), u[k]);
            for (int64_t i = bytes; i < 64; i++) assert_int_equal(row[i], 0);
            assert_int_equal(bytes, (n * bits + 7) / 8);
        }
}

/* FIPS 180-4's own examples, and the empty file. */
static void test_sha256(void **state)
{
    static const char *const vectors[][2] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"}};
    char text[QT_SHA256_TEXT];
    (void)state;
    for (int i = 0; i < 3; i++) {
        put_file("s", vectors[i][0]);
        assert_ok(qt_sha256_file("s", text));
        assert_string_equal(text, vectors[i][1]);
    }
    assert_int_equal(qt_sha256_file("none", text), QT_EIO);
    assert_errors("none: cannot read: No such file or directory");
    assert_int_equal(qt_sha256_file(".", text), QT_EIO);
    assert_errors(".: cannot read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_mlp, clear),           cmocka_unit_test_setup(test_resnet, clear),
        cmocka_unit_test_setup(test_settings, clear),      cmocka_unit_test_setup(test_recipe_key, clear),
        cmocka_unit_test_setup(test_unequal, clear),
        cmocka_unit_test_setup(test_truncated, clear),     cmocka_unit_test_setup(test_flipped, clear),
        cmocka_unit_test_setup(test_flipped_and_sealed, clear), cmocka_unit_test_setup(test_refused_by_name, clear),
        cmocka_unit_test_setup(test_inconsistent, clear),  cmocka_unit_test_setup(test_other_sets, clear),
        cmocka_unit_test_setup(test_parts, clear),         cmocka_unit_test_setup(test_no_memory, clear),
        cmocka_unit_test_setup(test_calls, clear),         cmocka_unit_test_setup(test_other_data, clear),
        cmocka_unit_test_setup(test_no_folder, clear),
        cmocka_unit_test_setup(test_bits, clear),          cmocka_unit_test_setup(test_sha256, clear),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
