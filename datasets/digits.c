/* UCI handwritten digits, 1797 grey images of 8 x 8 pixels with values 0..16, inside the program: the set that is always there.
 * Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998 (CC BY 4.0, see
 * DIGITS-LICENCE). Samples are in the order of the file; those whose index is 3 modulo 4 are the test split (449), the rest the training
 * split (1348), so training sample i is sample i + i / 3 and test sample i is sample 4 i + 3. */
#include "digits.h"
#include "dataset.h"

enum { SIDE = 8, CLASSES = 10, TEST = DIGITS / 4 };

typedef struct digits_cfg {
    int normalize;
} digits_cfg;

static const qt_field fields[] = {QT_F_ENUM(digits_cfg, normalize, "none", "none|unit", "none: pixels 0..16; unit: 0..1"), {NULL}};

static qt_err info_of(const void *cfg, qt_data_info *info)
{
    (void)cfg;
    *info = (qt_data_info){.rank = 3, .dim = {1, SIDE, SIDE}, .classes = CLASSES, .known = true};
    return QT_OK;
}

/* The state is the number that pixels are divided by. */
static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    R *scale = *state = qt_alloc(sizeof *scale);
    (void)seed;
    if (!scale) return QT_EMEM;
    *scale = ((const digits_cfg *)cfg)->normalize ? 16 : 1;
    return info_of(cfg, info);
}

static int64_t size(const void *state, qt_split s)
{
    (void)state;
    return s == QT_TRAIN ? DIGITS - TEST : s == QT_TEST ? TEST : 0;
}

static qt_err get(void *state, qt_split s, int64_t i, qt_rng *draw, R *x, int32_t *y, R *t)
{
    const char *text = digits[s == QT_TEST ? 4 * i + 3 : i + i / 3];
    (void)draw, (void)t;
    for (int k = 0; k < DIGIT_PIXELS; k++) x[k] = (R)(text[k] - 'a') / *(const R *)state;
    *y = text[DIGIT_PIXELS] - '0';
    return QT_OK;
}

const qt_dataset qt_dataset_digits = {
    .d     = {"digits", "1,797 grey images of handwritten digits, 8 x 8, values 0..16, 10 classes", "Alpaydin, Kaynak, 1998", fields,
              sizeof(digits_cfg)},
    .info  = info_of,
    .open  = begin,
    .size  = size,
    .get   = get,
    .close = qt_free,
    .where = "inside qtape (UCI, CC BY 4.0)"};
