/* Data sets of numbers, and the data section of a recipe: what samples hold, and what is said about bad sections and bad files. */
#include "base/h5.h"
#include "data_util.h"
#include "idx.h"
#include <math.h>

/* ---- the table of sets ---- */

static void test_descriptors(void **state)
{
    (void)state;
    for (int i = 0; qt_datasets.all[i]; i++) {
        const qt_dataset *set = (const qt_dataset *)qt_datasets.all[i];
        qt_data          *d;
        bool              own = false;
        assert_non_null(set->d.doc);
        assert_non_null(set->where);
        assert_true(set->info && set->open && set->size && (set->get || set->tokens) && set->close);
        assert_true(!set->fetch || set->find);
        for (const qt_field *f = set->d.fields; f->name; f++) own |= !f->def;
        if (own) {
            expect(read_section(&d, "%s", set->d.name), QT_ERECIPE, "missing, it has no default");
            continue;
        }
        expect_ok(read_section(&d, "%s", set->d.name));
        assert_true(qt_data_info_of(d)->known);
        assert_int_equal(qt_data_batch_size(d), 64);
    }
}

/* ---- digits: sums from an independent reading of the UCI file ---- */

static void check_digits(qt_data *d, qt_split s, double pixels, double weighted, const int count[10])
{
    double  sum = 0, moment = 0;
    int     seen[10] = {0};
    R       x[64];
    int32_t y;
    for (int64_t i = 0; i < qt_data_size(d, s); i++) {
        double one = 0;
        expect_ok(qt_data_get(d, s, i, NULL, x, &y, NULL));
        for (int k = 0; k < 64; k++) one += (double)x[k];
        sum += one, moment += one * (double)i, seen[y]++;
    }
    assert_true(sum == pixels && moment == weighted);
    assert_memory_equal(seen, count, sizeof seen);
}

static void test_digits(void **state)
{
    static const int train[] = {135, 136, 133, 136, 131, 141, 140, 132, 130, 134}, test[] = {43, 46, 44, 47, 50, 41, 41, 47, 44, 46};
    static const R   first[] = {0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0}, last[] = {0, 0, 10, 14, 8, 1, 0, 0, 0, 2, 16, 14, 6, 1, 0, 0};
    qt_data         *d;
    R                x[64];
    int32_t          y;
    (void)state;
    OPEN(d, "digits");
    assert_int_equal(qt_data_info_of(d)->rank, 3);
    assert_int_equal(qt_data_info_of(d)->dim[1], 8);
    assert_int_equal(qt_data_size(d, QT_TRAIN), 1348);
    assert_int_equal(qt_data_size(d, QT_VAL), 0);
    assert_int_equal(qt_data_size(d, QT_TEST), 449);
    check_digits(d, QT_TRAIN, 421489, 282906972, train);
    check_digits(d, QT_TEST, 140229, 31463225, test);
    expect_ok(qt_data_get(d, QT_TRAIN, 0, NULL, x, &y, NULL));
    assert_memory_equal(x, first, sizeof first);
    assert_int_equal(y, 0);
    expect_ok(qt_data_get(d, QT_TRAIN, 1347, NULL, x, &y, NULL));
    assert_memory_equal(x, last, sizeof last);
    assert_int_equal(y, 8);
    qt_data_close(d);
    OPEN(d, "{use: digits, normalize: unit}");
    expect_ok(qt_data_get(d, QT_TRAIN, 0, NULL, x, &y, NULL));
    for (int k = 0; k < 16; k++) assert_true(x[k] == first[k] / 16);
    qt_data_close(d);
}

/* ---- sections ---- */

static void test_sections(void **state)
{
    qt_data *d;
    R        a[64], b[64];
    int32_t  y;
    (void)state;
    OPEN(d, "{use: digits, batch_size: 7, train: 'train[:90%%]', val: 'train[90%%:]'}");
    assert_int_equal(qt_data_batch_size(d), 7);
    assert_int_equal(qt_data_size(d, QT_TRAIN), 1213);
    assert_int_equal(qt_data_size(d, QT_VAL), 135);
    assert_int_equal(qt_data_size(d, QT_TEST), 449);
    qt_data_close(d);
    OPEN(d, "{train: {use: digits, split: 'train[100:200]'}, val: {use: digits, split: 'train[-10%%:]'}, test: {use: digits, split: 'test[-5:]'}}");
    assert_int_equal(qt_data_size(d, QT_TRAIN), 100);
    assert_int_equal(qt_data_size(d, QT_VAL), 134);
    assert_int_equal(qt_data_size(d, QT_TEST), 5);
    expect_ok(qt_data_get(d, QT_TRAIN, 0, NULL, a, &y, NULL));
    qt_data_close(d);
    OPEN(d, "{train: {use: digits, split: 'train[50:]'}, test: digits}");
    expect_ok(qt_data_get(d, QT_TRAIN, 50, NULL, b, &y, NULL));
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(qt_data_size(d, QT_VAL), 0);
    assert_int_equal(qt_data_size(d, QT_TEST), 449);
    expect_ok(qt_data_open(d, 1)); /* again: nothing happens */
    qt_data_close(d);
    assert_int_equal(qt_data_size(d, QT_TRAIN), 0);
}

static void test_bad_sections(void **state)
{
    (void)state;
    READ_FAILS("r.yaml:1:7: unknown dataset 'digit', did you mean 'digits'?", "{use: digit}");
    READ_FAILS("r.yaml:1:15: data.batchsize: unknown key, did you mean 'batch_size'?", "{use: digits, batchsize: 8}");
    READ_FAILS("r.yaml:1:27: data.batch_size: 0 is out of bounds", "{use: digits, batch_size: 0}");
    READ_FAILS("r.yaml:1:26: data.normalize: unknown value 'standart'", "{use: digits, normalize: standart}");
    READ_FAILS("names no data set", "{batch_size: 8}");
    READ_FAILS("data: missing", "~");
    READ_FAILS("expected the name of a dataset", "[digits]");
    READ_FAILS("data.train: missing", "{test: digits}");
    READ_FAILS("data.test: a set of its own beside data.use", "{use: digits, test: {use: digits}}");
    READ_FAILS("data.val.split: expected train, val or test", "{train: digits, val: {use: digits, split: 'train[:90%%'}}");
    READ_FAILS("found 'trian'", "{use: digits, val: trian}");
    READ_FAILS("found 'train[:1.5]'", "{use: digits, val: 'train[:1.5]'}");
    READ_FAILS("found 'train[:200%]'", "{use: digits, val: 'train[:200%%]'}");
    READ_FAILS("found 'train[:nan]'", "{use: digits, val: 'train[:nan]'}");
    READ_FAILS("found 'train[1:2]x'", "{use: digits, val: 'train[1:2]x'}");
    READ_FAILS("data.test: spirals gives samples of [2] with 3 classes, but data.train gives samples of [1, 8, 8] with 10 classes",
               "{train: digits, test: spirals}");
    /* all errors in one pass */
    qt_data *d;
    expect(read_section(&d, "{train: {use: digit}, test: {use: spirals, nois: 1}, batch_size: x}"), QT_ERECIPE, "did you mean 'digits'");
    read_section(&d, "{train: {use: digit}, test: {use: spirals, nois: 1}, batch_size: x}");
    assert_int_equal(qt_error_count(), 3);
    OPEN_FAILS(QT_EDATA, "r.yaml:1:20: data.val: digits has no split 'val'", "{use: digits, val: val}");
    OPEN_FAILS(QT_EDATA, "digits has no split 'val'", "{train: digits, val: digits}");
    OPEN_FAILS(QT_EDATA, "'train[1000:2000]' is samples 1000 to 2000, but digits has 1348 in 'train'", "{use: digits, val: 'train[1000:2000]'}");
    OPEN_FAILS(QT_EDATA, "'train[9:9]' is samples 9 to 9", "{use: digits, val: 'train[9:9]'}");
}

/* ---- IDX ---- */

enum { IDX_TRAIN = 20, IDX_TEST = 8 };

static void put32(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8), p[3] = (uint8_t)v; }

/* IDX bytes of n images or labels of a made-up set; returns their number. */
static size_t make_idx(uint8_t *p, bool images, int n)
{
    size_t head = images ? 16 : 8, body = (size_t)n * (images ? 784 : 1);
    put32(p, images ? 0x803 : 0x801), put32(p + 4, (uint32_t)n);
    if (images) put32(p + 8, 28), put32(p + 12, 28);
    for (size_t i = 0; i < body; i++) p[head + i] = (uint8_t)(images ? i * 7 % 251 : i % 10);
    return head + body;
}

static void write_gz(const char *path, const uint8_t *bytes, size_t n)
{
    gzFile f = gzopen(path, "wb");
    assert_int_equal(gzwrite(f, bytes, (unsigned)n), n);
    assert_int_equal(gzclose(f), Z_OK);
}

static const char *const idx_name[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

static char *write_set(const char *name, bool gz)
{
    static uint8_t bytes[16 + IDX_TRAIN * 784];
    char          *to = folder(name);
    for (int i = 0; i < 4; i++) {
        size_t n = make_idx(bytes, i % 2 == 0, i < 2 ? IDX_TRAIN : IDX_TEST);
        if (gz) write_gz(qt_arena_sprintf(&arena, "%s/%s.gz", to, idx_name[i]), bytes, n);
        else write_file(qt_arena_sprintf(&arena, "%s/%s", to, idx_name[i]), bytes, n);
    }
    return to;
}

static void test_idx(void **state)
{
    (void)state;
    for (int gz = 0; gz < 2; gz++) {
        char    *at = write_set(gz ? "idx-gz" : "idx-plain", gz);
        qt_data *d;
        R        x[784];
        int32_t  y;
        OPEN(d, "{use: mnist, path: %s}", at);
        assert_int_equal(qt_data_size(d, QT_TRAIN), IDX_TRAIN);
        assert_int_equal(qt_data_size(d, QT_TEST), IDX_TEST);
        expect_ok(qt_data_get(d, QT_TRAIN, 3, NULL, x, &y, NULL));
        for (int k = 0; k < 784; k++) assert_true(x[k] == (R)((3 * 784 + k) * 7 % 251) / 255);
        assert_int_equal(y, 3);
        qt_data_close(d);
        OPEN(d, "{use: fashion-mnist, normalize: none, path: %s}", at);
        expect_ok(qt_data_get(d, QT_TEST, 7, NULL, x, &y, NULL));
        for (int k = 0; k < 784; k++) assert_true(x[k] == (R)((7 * 784 + k) * 7 % 251));
        qt_data_close(d);
    }
}

/* Two sets of the same options share one opened state; other options do not, and give other numbers. */
static void test_augmented(void **state)
{
    char    *at = write_set("idx-augment", true);
    qt_data *d;
    R        a[784], b[784];
    int32_t  y;
    int      mirrored = 0, moved = 0;
    (void)state;
    OPEN(d, "{use: mnist, path: %s, flip: true}", at);
    expect_ok(qt_data_get(d, QT_TRAIN, 0, NULL, a, &y, NULL));
    for (uint64_t k = 0; k < 64; k++) {
        qt_rng r = qt_rng_at(1, k);
        bool   same = true, mirror = true;
        expect_ok(qt_data_get(d, QT_TRAIN, 0, &r, b, &y, NULL));
        for (int i = 0; i < 784; i++) same &= b[i] == a[i], mirror &= b[i] == a[i / 28 * 28 + 27 - i % 28];
        assert_true(same || mirror);
        mirrored += mirror;
    }
    assert_in_range(mirrored, 16, 48);
    qt_data_close(d);
    OPEN(d, "{use: mnist, path: %s, crop: 2}", at);
    for (uint64_t k = 0; k < 64; k++) {
        qt_rng r = qt_rng_at(2, k);
        int    fits = 0;
        expect_ok(qt_data_get(d, QT_TRAIN, 0, &r, b, &y, NULL));
        for (int dy = -2; dy <= 2; dy++)
            for (int dx = -2; dx <= 2; dx++) {
                bool same = true;
                for (int h = 0; h < 28; h++)
                    for (int w = 0; w < 28; w++) {
                        bool in = h + dy >= 0 && h + dy < 28 && w + dx >= 0 && w + dx < 28;
                        same &= b[h * 28 + w] == (in ? a[(h + dy) * 28 + w + dx] : 0);
                    }
                fits += same, moved += same && (dy || dx);
            }
        assert_int_equal(fits, 1);
    }
    assert_in_range(moved, 50, 64);
    qt_data_close(d);
}

static void test_bad_idx(void **state)
{
    static uint8_t bytes[16 + IDX_TRAIN * 784];
    char          *at = write_set("idx-bad", false);
    char          *labels = qt_arena_sprintf(&arena, "%s/%s", at, idx_name[1]), *images = qt_arena_sprintf(&arena, "%s/%s", at, idx_name[0]);
    size_t         n = make_idx(bytes, false, IDX_TRAIN);
    (void)state;
    bytes[8 + 13] = 10;
    write_file(labels, bytes, n);
    OPEN_FAILS(QT_EDATA, "train-labels-idx1-ubyte: label 13 is 10, expected a class 0..9", "{use: mnist, path: %s}", at);
    write_file(labels, bytes, make_idx(bytes, false, IDX_TRAIN - 1));
    OPEN_FAILS(QT_EDATA, "19 labels for 20 images", "{use: mnist, path: %s}", at);
    write_file(labels, bytes, make_idx(bytes, true, 1));
    OPEN_FAILS(QT_EDATA, "expected it to begin with 00000801, found 00000803", "{use: mnist, path: %s}", at);
    unlink(labels);
    OPEN_FAILS(QT_EIO, "train-labels-idx1-ubyte(.gz): not found; `qtape data get mnist` installs it", "{use: mnist, path: %s}", at);
    n = make_idx(bytes, true, IDX_TRAIN);
    write_file(images, bytes, n - 5);
    OPEN_FAILS(QT_EDATA, "truncated: expected 15680 more bytes, found 15675", "{use: mnist, path: %s}", at);
    put32(bytes + 4, 2000000000);
    write_file(images, bytes, n);
    OPEN_FAILS(QT_EDATA, "its header promises 1568000000000 bytes", "{use: mnist, path: %s}", at);
    put32(bytes + 4, 10);
    write_file(images, bytes, n);
    OPEN_FAILS(QT_EDATA, "longer than the 7840 bytes that its header promises", "{use: mnist, path: %s}", at);
    put32(bytes + 4, 0);
    write_file(images, bytes, n);
    OPEN_FAILS(QT_EDATA, "dimension 0 of the IDX file is 0", "{use: mnist, path: %s}", at);
    put32(bytes + 4, 10), put32(bytes + 8, 56), put32(bytes + 12, 28);
    write_file(images, bytes, n);
    OPEN_FAILS(QT_EDATA, "images of 56 x 28 pixels, expected 28 x 28", "{use: mnist, path: %s}", at);
    OPEN_FAILS(QT_EIO, "holds no train-images-idx3-ubyte(.gz)", "{use: mnist, path: %s/nowhere}", at);
    setenv("QTAPE_DATA", scratch, 1);
    OPEN_FAILS(QT_EIO, "data set mnist not found; `qtape data get mnist` installs it, or use data.use=digits", "{use: mnist}");
    unsetenv("QTAPE_DATA");
}

/* A damaged gzip file is an error, or gives the same bytes (a flip in a field of its header that means nothing). */
static void test_idx_fuzz(void **state)
{
    static uint8_t good[16 + 784];
    char          *path = path_of("fuzz.gz");
    uint8_t       *bytes;
    qt_idx         x;
    qt_rng         r = qt_rng_named(1, "fuzz");
    size_t         n, size = make_idx(good, true, 1);
    (void)state;
    write_gz(path, good, size);
    n = read_file(path, &bytes);
    for (size_t cut = 0; cut < n; cut++) {
        write_file(path, bytes, cut);
        assert_int_equal(qt_idx_read(path, 3, &x), QT_EDATA);
        assert_null(x.data);
        assert_int_equal(qt_error_count(), 1);
        qt_error_clear();
    }
    for (int k = 0; k < 2000; k++) {
        size_t  at  = qt_rng_below(&r, n);
        uint8_t was = bytes[at];
        bytes[at] ^= (uint8_t)(1 << qt_rng_below(&r, 8));
        write_file(path, bytes, n);
        if (qt_idx_read(path, 3, &x) == QT_OK) assert_memory_equal(x.data, good + 16, 784);
        qt_free(x.data);
        qt_error_clear();
        bytes[at] = was;
    }
    qt_free(bytes);
}

/* The real set, where it is installed. */
static void test_fashion_mnist(void **state)
{
    qt_data *d;
    R        x[784];
    int32_t  y;
    double   sum = 0, squares = 0;
    (void)state;
    if (access("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz", R_OK)) skip();
    OPEN(d, "{use: fashion-mnist, normalize: standard}");
    assert_int_equal(qt_data_size(d, QT_TRAIN), 60000);
    assert_int_equal(qt_data_size(d, QT_TEST), 10000);
    for (int64_t i = 0; i < 60000; i++) {
        expect_ok(qt_data_get(d, QT_TRAIN, i, NULL, x, &y, NULL));
        for (int k = 0; k < 784; k++) sum += (double)x[k], squares += (double)x[k] * (double)x[k];
        if (i == 0) assert_int_equal(y, 9);
    }
    assert_true(fabs(sum / 60000 / 784) < 1e-6 && fabs(squares / 60000 / 784 - 1) < 1e-6);
    qt_data_close(d);
}

/* ---- CSV ---- */

static char *write_text(const char *name, const char *text)
{
    char *path = path_of(name);
    write_file(path, text, strlen(text));
    return path;
}

static void test_csv(void **state)
{
    qt_data *d;
    R        x[2], t;
    int32_t  y;
    char    *path = write_text("a.csv",
                               "\xef\xbb\xbfwidth,\"the \"\"kind\"\"\",height\r\n1.5,pear,-2\r\n\r\n2.5, apple ,3e2\r\n\"3\",\"pear\",4\r\n5,fig,6");
    (void)state;
    OPEN(d, "{use: csv, path: %s, target: 'the \"kind\"', test_every: 2}", path);
    assert_int_equal(qt_data_info_of(d)->classes, 3);
    assert_int_equal(qt_data_info_of(d)->dim[0], 2);
    assert_int_equal(qt_data_size(d, QT_TRAIN), 2);
    assert_int_equal(qt_data_size(d, QT_TEST), 2);
    expect_ok(qt_data_get(d, QT_TRAIN, 0, NULL, x, &y, NULL));
    assert_true(x[0] == (R)1.5 && x[1] == -2 && y == 2);
    expect_ok(qt_data_get(d, QT_TEST, 0, NULL, x, &y, NULL));
    assert_true(x[0] == (R)2.5 && x[1] == 300 && y == 0);
    expect_ok(qt_data_get(d, QT_TEST, 1, NULL, x, &y, NULL));
    assert_true(x[0] == 5 && x[1] == 6 && y == 1);
    qt_data_close(d);
    path = write_text("b.csv", "1;2;0.5\n3;4;-1\n5;9;2\n");
    OPEN(d, "{use: csv, path: %s, delimiter: ';', classes: 0, standardize: true}", path);
    assert_int_equal(qt_data_info_of(d)->classes, 0);
    assert_int_equal(qt_data_info_of(d)->target_n, 1);
    assert_int_equal(qt_data_size(d, QT_TRAIN), 3);
    expect_ok(qt_data_get(d, QT_TRAIN, 0, NULL, x, NULL, &t));
    assert_true(fabs((double)x[0] + sqrt(1.5)) < 1e-6 && t == (R)0.5);
    qt_data_close(d);
    OPEN(d, "{use: csv, path: %s, delimiter: ';', target: 0, features: 2}", path);
    assert_int_equal(qt_data_info_of(d)->classes, 6);
    qt_data_close(d);
    write_gz(path_of("c.csv.gz"), (const uint8_t *)"1,0\n2,1\n", 8);
    OPEN(d, "{use: csv, path: %s, test_path: %s, classes: 2}", path_of("c.csv.gz"), path_of("c.csv.gz"));
    assert_int_equal(qt_data_size(d, QT_TEST), 2);
    qt_data_close(d);
}

static void test_bad_csv(void **state)
{
    static const struct {
        const char *text, *options, *message;
    } cases[] = {
        {"1,2,0\n3,4\n", "", "bad.csv:2:1: expected 3 columns as in the first line, found 2"},
        {"1,2,0\n3,x7,1\n", "", "bad.csv:2:3: column 1: expected a number, found 'x7'"},
        {"1,2,0\n3,,1\n", "", "bad.csv:2:3: column 1: expected a number, found ''"},
        {"1,2,0\n3,nan,1\n", "", "expected a number, found 'nan'"},
        {"1,2,0\n3,1e999,1\n", "", "expected a number, found '1e999'"},
        {"1,2,0\n3,4,-1\n", "", "bad.csv:2:5: label -1, expected a class of at least 0"},
        {"1,2,0\n3,4,7\n", ", classes: 5", "bad.csv:2:5: label 7, expected a class 0..4"},
        {"1,2,0\n3,4,cat\n", ", classes: 0", "bad.csv:2:5: expected a number as the target, found 'cat'"},
        {"1,2,0\n3,\"4,1\n", "", "bad.csv:2:3: quotes do not close"},
        {"a,b,kind\n1,2,3\n", ", target: kin", "there is no column 'kin' among the 3, did you mean 'kind'?"},
        {"1,2,0\n", ", target: 3", "there is no column '3' among the 3"},
        {"1,2,0\n", ", target: -4", "there is no column '-4' among the 3"},
        {"1,2,0\n", ", target: -1099511627776", "there is no column '-1099511627776' among the 3"}, /* -2^40 */
        {"1,2,0\n", ", features: 5", "2 columns beside the target, expected 5"},
        {"1\n2\n", "", "a single column: data.delimiter is ','"},
        {"a,b\n", "", "a header and no lines"},
        {"1,2,0\n3,\"4\"x,1\n", "", "bad.csv:2:3: quotes do not close, or text follows them"},
        {"x,y,z\n1,2,0\n", ", header: false", "bad.csv:1:1: column 0: expected a number, found 'x'"},
        {"1,2,0\n", ", header: true", "a header and no lines"},
        {"\n \n", "", "empty"},
        {"", "", "empty"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        OPEN_FAILS(QT_EDATA, cases[i].message, "{use: csv, path: %s%s}", write_text("bad.csv", cases[i].text), cases[i].options);
    write_file(path_of("zero.csv"), "1,2\0,3\n", 7);
    OPEN_FAILS(QT_EDATA, "holds a zero byte", "{use: csv, path: %s}", path_of("zero.csv"));
    OPEN_FAILS(QT_EIO, "No such file", "{use: csv, path: %s}", path_of("none.csv"));
    OPEN_FAILS(QT_EIO, "is a folder", "{use: csv, path: %s}", scratch);
    OPEN_FAILS(QT_EDATA, "class 'c' is not among those of the training file", "{use: csv, path: %s, test_path: %s}",
               write_text("p.csv", "1,a\n2,b\n"), write_text("q.csv", "1,c\n"));
    OPEN_FAILS(QT_EDATA, "u.csv:1:3: expected a class number, found 'cat'", "{use: csv, path: %s, test_path: %s}", write_text("t.csv", "1,0\n2,1\n"),
               write_text("u.csv", "1,cat\n"));
    char *wide = qt_arena_alloc(&arena, 200002);
    memset(wide, ',', 200000), wide[200000] = '\n', wide[200001] = 0;
    OPEN_FAILS(QT_EDATA, "wide.csv:1:", "{use: csv, path: %s}", write_text("wide.csv", wide));
    READ_FAILS("data.target: expected a column, found a map", "{use: csv, path: a, target: {b: 1}}");
    READ_FAILS("data.features: 0 columns", "{use: csv, path: a, features: 0}");
    READ_FAILS("data.test_every: 1 leaves nothing to train on", "{use: csv, path: a, test_every: 1}");
    READ_FAILS("exclude each other", "{use: csv, path: a, test_path: b, test_every: 2}");
    READ_FAILS("data.target: expected a column, found a list", "{use: csv, path: a, target: [1, 2]}");
    READ_FAILS("data.delimiter: expected one letter", "{use: csv, path: a, delimiter: ', '}");
}

static void test_csv_fuzz(void **state)
{
    static const char good[] = "a,b,\"c\"\n1,2,x\n\"3\",4.5e1,y\n,,\n5,6,\"x\"\n";
    qt_rng            r      = qt_rng_named(1, "csv");
    (void)state;
    for (int k = 0; k < 1500; k++) {
        char     text[sizeof good];
        size_t   n = qt_rng_below(&r, sizeof good);
        qt_data *d;
        memcpy(text, good, sizeof good);
        for (int j = k % 4; j > 0; j--) text[qt_rng_below(&r, sizeof good - 1)] = "\",\n\r ;0"[qt_rng_below(&r, 7)];
        write_file(path_of("fuzz.csv"), text, n);
        expect_ok(read_section(&d, "{use: csv, path: %s}", path_of("fuzz.csv")));
        if (qt_data_open(d, 1) == QT_OK) assert_true(qt_data_size(d, QT_TRAIN) > 0);
        else assert_int_equal(qt_error_count(), 1);
        qt_data_close(d);
    }
}

/* ---- HDF5 ---- */

static const R h5_x[24] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};

static void put_h5(qt_h5 *f, const char *name, int rank, int64_t n0, int64_t n1, int64_t n2, const R *x)
{
    expect_ok(qt_h5_write(f, name, rank, (int64_t[]){n0, n1, n2}, x, true));
}

static char *write_h5(const char *name, const R y[4])
{
    char  *path = path_of(name);
    qt_h5 *f;
    expect_ok(qt_h5_create(path, 0, &f));
    put_h5(f, "train/x", 3, 4, 2, 3, h5_x);
    put_h5(f, "train/y", 1, 4, 0, 0, y);
    put_h5(f, "test/x", 2, 2, 6, 0, h5_x);
    put_h5(f, "test/y", 2, 2, 1, 0, y);
    put_h5(f, "all", 2, 4, 6, 0, h5_x);
    put_h5(f, "pairs", 2, 4, 2, 0, h5_x);
    put_h5(f, "three", 1, 3, 0, 0, y);
    expect_ok(qt_h5_write(f, "one", 0, NULL, y, true));
    expect_ok(qt_h5_write(f, "six", 6, (int64_t[]){1, 1, 1, 1, 1, 4}, h5_x, true));
    expect_ok(qt_h5_write(f, "none", 2, (int64_t[]){0, 6}, h5_x, true));
    expect_ok(qt_h5_close(f));
    return path;
}

static void test_hdf5(void **state)
{
    char    *path = write_h5("a.h5", (R[]){0, 2, 1, 0});
    qt_data *d;
    R        x[6], t[2];
    int32_t  y;
    (void)state;
    OPEN(d, "{use: hdf5, path: %s}", path);
    assert_int_equal(qt_data_info_of(d)->rank, 2);
    assert_int_equal(qt_data_info_of(d)->classes, 3);
    assert_int_equal(qt_data_size(d, QT_TRAIN), 4);
    assert_int_equal(qt_data_size(d, QT_TEST), 2);
    expect_ok(qt_data_get(d, QT_TRAIN, 1, NULL, x, &y, NULL));
    assert_memory_equal(x, h5_x + 6, sizeof x);
    assert_int_equal(y, 2);
    qt_data_close(d);
    OPEN(d, "{use: hdf5, path: %s, x_name: all, y_name: pairs, shape: [1, 2, 3], train: 'train[:75%%]', test: 'train[75%%:]'}", path);
    assert_int_equal(qt_data_info_of(d)->rank, 3);
    assert_int_equal(qt_data_info_of(d)->target_n, 2);
    expect_ok(qt_data_get(d, QT_TEST, 0, NULL, x, NULL, t));
    assert_memory_equal(x, h5_x + 18, sizeof x);
    assert_memory_equal(t, h5_x + 6, sizeof t);
    qt_data_close(d);
}

static void test_bad_hdf5(void **state)
{
    char *path = write_h5("b.h5", (R[]){0, 2, 1, 0}), *half = write_h5("half.h5", (R[]){0, (R)0.5, 1, 0});
    char *nan_ = write_h5("nan.h5", (R[]){0, (R)NAN, 1, 0});
    (void)state;
    OPEN_FAILS(QT_EIO, "no such file", "{use: hdf5, path: %s}", path_of("none.h5"));
    OPEN_FAILS(QT_EDATA, "b.h5: train/y: label 1 is 2, expected a class 0..1", "{use: hdf5, path: %s, classes: 2}", path);
    OPEN_FAILS(QT_EDATA, "is [4, 2, 3], expected N samples of [28, 28]", "{use: hdf5, path: %s, shape: [28, 28]}", path);
    OPEN_FAILS(QT_EDATA, "three is [3], expected [4] or [4, k]", "{use: hdf5, path: %s, x_name: all, y_name: three}", path);
    OPEN_FAILS(QT_EDATA, "pairs is [4, 2], expected 1 number a sample", "{use: hdf5, path: %s, x_name: all, y_name: pairs, classes: 3}", path);
    OPEN_FAILS(QT_EDATA, "train/y[1] is 0.5, expected a class id", "{use: hdf5, path: %s}", half);
    OPEN_FAILS(QT_EDATA, "train/y holds nan at element 1", "{use: hdf5, path: %s, classes: 0}", nan_);
    OPEN_FAILS(QT_EDATA, "nothing", "{use: hdf5, path: %s, x_name: nothing}", path);
    OPEN_FAILS(QT_EDATA, "one is [], expected [N, ...] with 1 to 5 dimensions, N > 0", "{use: hdf5, path: %s, x_name: one, y_name: three}", path);
    OPEN_FAILS(QT_EDATA, "six is [1, 1, 1, 1, 1, 4], expected [N, ...] with 1 to 5 dimensions, N > 0", "{use: hdf5, path: %s, x_name: six, y_name: three}", path);
    OPEN_FAILS(QT_EDATA, "none is [0, 6], expected [N, ...] with 1 to 5 dimensions, N > 0", "{use: hdf5, path: %s, x_name: none, y_name: three}", path);
    READ_FAILS("data.shape: at most 4 dimensions", "{use: hdf5, path: a, shape: [1, 1, 1, 1, 1]}");
    write_text("text.h5", "this is no HDF5 file");
    OPEN_FAILS(QT_EDATA, "text.h5", "{use: hdf5, path: %s}", path_of("text.h5"));
    uint8_t *bytes;
    size_t   n = read_file(path, &bytes);
    for (size_t cut = 1; cut < n; cut += n / 16) {
        qt_data *d;
        write_file(path_of("cut.h5"), bytes, cut);
        expect_ok(read_section(&d, "{use: hdf5, path: %s}", path_of("cut.h5")));
        assert_int_equal(qt_data_open(d, 1), QT_EDATA);
        assert_non_null(strstr(qt_error_text(), "cut.h5"));
        qt_data_close(d);
    }
    qt_free(bytes);
}

/* ---- synthetic sets ---- */

static void test_synthetic(void **state)
{
    static const char *const section[] = {"{use: spirals, n: 30, n_test: 6}", "{use: blobs, n: 30, n_test: 6, features: 3, noise: 0.001}",
                                          "{use: regression, n: 30, n_test: 6, noise: 0}"};
    (void)state;
    for (int k = 0; k < 3; k++) {
        qt_data *d, *again;
        R        x[3], x2[3], t, t2;
        int32_t  y = -1, y2 = -1;
        OPEN(d, "%s", section[k]);
        expect_ok(read_section(&again, "%s", section[k]));
        expect_ok(qt_data_open(again, 99)); /* the samples do not depend on the recipe's seed */
        assert_int_equal(qt_data_size(d, QT_TRAIN), 30);
        assert_int_equal(qt_data_size(d, QT_TEST), 6);
        for (int64_t i = 0; i < 30; i++) {
            expect_ok(qt_data_get(d, QT_TRAIN, i, NULL, x, &y, &t));
            expect_ok(qt_data_get(again, QT_TRAIN, i, NULL, x2, &y2, &t2));
            assert_memory_equal(x, x2, sizeof(R) * (size_t)qt_data_info_of(d)->dim[0]);
            assert_int_equal(y, y2);
            if (k == 0) assert_true(y == i % 3 && hypot((double)x[0], (double)x[1]) < 1.2);
            if (k == 2) assert_true(t == t2 && fabs((double)t - sin(3.14159265358979323846 * (double)x[0])) < 1e-6);
        }
        qt_data_close(d), qt_data_close(again);
    }
    /* points of one class lie together */
    qt_data *d;
    R        a[3], b[3];
    int32_t  y;
    OPEN(d, "%s", section[1]);
    expect_ok(qt_data_get(d, QT_TRAIN, 1, NULL, a, &y, NULL));
    expect_ok(qt_data_get(d, QT_TEST, 5, NULL, b, &y, NULL));
    assert_int_equal(y, 1);
    for (int k = 0; k < 3; k++) assert_true(fabs((double)a[k] - (double)b[k]) < 0.02);
    qt_data_close(d);
}

/* y = w x has the same w for all samples, of training and test: 5 of them give it. And Friedman's function, as it is written. */
static void test_regression(void **state)
{
    qt_data *d;
    R        x[8], y;
    double   m[5][6], w[5];
    (void)state;
    OPEN(d, "{use: regression, function: linear, features: 5, n: 20, n_test: 10, noise: 0, seed: 3}");
    assert_int_equal(qt_data_info_of(d)->dim[0], 5);
    for (int i = 0; i < 5; i++) {
        expect_ok(qt_data_get(d, QT_TRAIN, i, NULL, x, NULL, &y));
        for (int k = 0; k < 5; k++) m[i][k] = (double)x[k];
        m[i][5] = (double)y;
    }
    for (int i = 0; i < 5; i++) /* elimination; normal numbers are never singular here */
        for (int r = 0; r < 5; r++) {
            double f = m[r][i] / m[i][i];
            for (int k = i; k < 6 && r != i; k++) m[r][k] -= f * m[i][k];
        }
    for (int k = 0; k < 5; k++) w[k] = m[k][5] / m[k][k];
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < 10; i++) {
            double want = 0;
            expect_ok(qt_data_get(d, s ? QT_TEST : QT_TRAIN, i, NULL, x, NULL, &y));
            for (int k = 0; k < 5; k++) want += w[k] * (double)x[k];
            assert_true(fabs((double)y - want) < 1e-3);
        }
    qt_data_close(d);
    OPEN(d, "{use: regression, function: friedman, features: 8, n: 20, noise: 0}");
    for (int64_t i = 0; i < 20; i++) {
        expect_ok(qt_data_get(d, QT_TRAIN, i, NULL, x, NULL, &y));
        for (int k = 0; k < 8; k++) assert_true(x[k] >= 0 && x[k] <= 1);
        const double want = 10 * sin(M_PI * (double)x[0] * (double)x[1]) + 20 * pow((double)x[2] - 0.5, 2) + 10 * (double)x[3] + 5 * (double)x[4];
        assert_true(fabs((double)y - want) < 1e-5);
    }
    qt_data_close(d);
}

/* Every allocation fails in turn: an error, never a crash. */
static void test_out_of_memory(void **state)
{
    char *csv = write_text("oom.csv", "1,a\n2,b\n"), *idx = write_set("idx-oom", true);
    (void)state;
    for (int k = 0; k < 4; k++) {
        qt_err e = QT_EMEM;
        for (int64_t at = 1; e != QT_OK; at++) {
            qt_data *d;
            expect_ok(k == 0   ? read_section(&d, "digits")
                      : k == 1 ? read_section(&d, "{use: blobs, n: 10}")
                      : k == 2 ? read_section(&d, "{use: csv, path: %s}", csv)
                               : read_section(&d, "{use: mnist, path: %s}", idx));
            qt_alloc_fail_at(at);
            e = qt_data_open(d, 1);
            qt_alloc_fail_at(0);
            if (e != QT_OK) expect(e, QT_EMEM, "out of memory");
            qt_data_close(d);
            assert_true(at < 1000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptors), cmocka_unit_test(test_digits),   cmocka_unit_test(test_sections), cmocka_unit_test(test_bad_sections),
        cmocka_unit_test(test_idx),         cmocka_unit_test(test_augmented), cmocka_unit_test(test_bad_idx),  cmocka_unit_test(test_idx_fuzz),
        cmocka_unit_test(test_fashion_mnist), cmocka_unit_test(test_csv),    cmocka_unit_test(test_bad_csv),  cmocka_unit_test(test_csv_fuzz),
        cmocka_unit_test(test_hdf5),        cmocka_unit_test(test_bad_hdf5), cmocka_unit_test(test_synthetic), cmocka_unit_test(test_regression),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
