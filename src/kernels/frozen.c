/* Frozen weights back to numbers: codes are unpacked, then each run of one scale is a short loop. The numbers have the bits that the
 * quantizer gave. See frozen.h. */
#include "kernels/frozen.h"
#include "base/par.h"

enum { BLOCK = 1 << 16, STEP = 16 };

int64_t qt_frozen_block(int64_t N, int64_t K)
{
    int64_t rows = BLOCK / qt_max_i64(1, K) / STEP * STEP;
    return qt_min_i64(N, qt_max_i64(STEP, rows));
}

QT_CLONES static void affine(R *restrict w, const int8_t *restrict q, int64_t n, R base, R z, R s, R o, bool shift)
{
    if (shift)
        for (int64_t i = 0; i < n; i++) w[i] = ((R)q[i] + base - z) * s + o;
    else
        for (int64_t i = 0; i < n; i++) w[i] = ((R)q[i] + base - z) * s;
}

QT_CLONES static void look_up(R *restrict w, const int8_t *restrict q, int64_t n, const R *table, R s)
{
    R scaled[QT_TABLE];
    for (int i = 0; i < QT_TABLE; i++) scaled[i] = table[i] * s;
    for (int64_t i = 0; i < n; i++) w[i] = scaled[q[i] & (QT_TABLE - 1)];
}

/* Elements [at, at + n) of the matrix, whose codes are q. */
static void run(const qt_frozen *f, int64_t at, int64_t n, const int8_t *q, R *w)
{
    for (int64_t i = 0, len; i < n; i += len) {
        int64_t k = (at + i) / f->inner % f->count;
        R       s = f->scale ? f->scale[k] : qt_scale_value(&f->scale_codes, k);
        len = qt_min_i64(n - i, f->inner - (at + i) % f->inner);
        if (f->has_table) look_up(w + i, q + i, len, f->table, s);
        else affine(w + i, q + i, len, (R)f->base, f->zero ? f->zero[k] : 0, s, f->offset ? f->offset[k] : 0, f->offset != NULL);
    }
}

void qt_frozen_rows(const qt_frozen *f, int64_t n, int64_t rows, R *w)
{
    const int64_t K = f->codes.K;
    qt_packed_unpack(&f->codes, n, rows, f->work_codes);
    QT_FOR_EACH(r, rows, rows * K > QT_GRAIN) { run(f, (n + r) * K, K, f->work_codes + r * K, w + r * K); }
}
