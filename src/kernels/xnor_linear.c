/* A linear layer of signs with signs: outputs are the lanes of the panels, samples the rows. The scales of a row of x, or of w, hold for all of
 * it; with scales that change along a row the integer product of igemm.c is taken. */
#include "base/par.h"
#include "kernels/xnor.h"
#include <string.h>

enum { LANES = QT_XNOR_LANES, LINE = 64, BLOCK = 32, MANY = 1 << 20 }; /* panels counted at a time; products that are worth a team */

bool qt_xnor_linear_suits(int64_t K, const qt_icodes *x, const qt_icodes *w)
{
    return qt_xnor_suits(x, w) && (x->count == 1 || x->inner % K == 0) && (w->count == 1 || w->inner % K == 0);
}

typedef struct plan {
    int64_t   words;
    uint64_t *x, *w;          /* rows, panels */
    R        *scale, *offset; /* [N] */
    size_t    size;
} plan;

static void *take(char *work, size_t *used, int64_t bytes)
{
    char *p = work ? work + *used : NULL;
    *used += (size_t)((bytes + LINE - 1) / LINE * LINE);
    return p;
}

static plan plan_of(int64_t M, int64_t N, int64_t K, char *work)
{
    plan p = {.words = qt_xnor_words(K)};
    p.x = take(work, &p.size, M * p.words * 8);
    p.w = take(work, &p.size, qt_xnor_panel_words(N, K) * 8);
    p.scale = take(work, &p.size, N * (int64_t)sizeof(R));
    p.offset = take(work, &p.size, N * (int64_t)sizeof(R));
    return p;
}

size_t qt_xnor_linear_work(int64_t M, int64_t N, int64_t K) { return plan_of(M, N, K, NULL).size; }

/* Row n of the weights into its lane of the panels. */
static void pack_weight(const plan *p, const int8_t *q, int64_t K, int64_t n)
{
    uint64_t *to = p->w + n / LANES * LANES * p->words + n % LANES;
    for (int64_t i = 0; i < p->words; i++) to[i * LANES] = qt_xnor_word(q + n * K + i * 64, qt_min_i64(64, K - i * 64), true);
}

static void prepare(const plan *p, int64_t N, int64_t K, const qt_icodes *w, const qt_iend *end)
{
    int64_t whole = N / LANES * LANES * p->words;
    memset(p->w + whole, 0, (size_t)(qt_xnor_panel_words(N, K) - whole) * 8);
    QT_FOR_EACH(n, N, N * K > MANY)
    {
        pack_weight(p, w->q, K, n);
        p->scale[n] = w->scale[n * K / w->inner % w->count], p->offset[n] = qt_iend_offset(end, n);
    }
}

/* s: scale of the row of x. mul: of a batch norm, or NULL. */
QT_CLONES static void store(R *restrict y, const int32_t *restrict ones, int64_t n, int32_t K, R s, const R *scale, const R *mul, const R *offset,
                            bool relu)
{
    const qt_iend e = {.mul = mul, .relu = relu};
    for (int64_t i = 0; i < n; i++) y[i] = qt_iend_store(&e, (R)(K - 2 * ones[i]) * qt_iend_scale(&e, s * scale[i], i), offset[i]);
}

static void row(const plan *p, const qt_xnor_path *path, int64_t m, int64_t N, int64_t K, const qt_icodes *x, const qt_iend *end, R *y)
{
    int64_t   panels = QT_CHUNKS(N, LANES);
    R         s = x->scale[m * K / x->inner % x->count];
    uint64_t *bits = p->x + m * p->words;
    int32_t   ones[BLOCK * LANES];
    for (int64_t i = 0; i < p->words; i++) bits[i] = qt_xnor_word((const uint8_t *)x->q + m * K + i * 64, qt_min_i64(64, K - i * 64), false);
    for (int64_t b = 0; b < panels; b += BLOCK) {
        int64_t count = qt_min_i64(BLOCK, panels - b), n = b * LANES;
        path->count(bits, p->w + n * p->words, p->words, count, ones);
        store(y + m * N + n, ones, qt_min_i64(count * LANES, N - n), (int32_t)K, s, p->scale + n, end->mul ? end->mul + n : NULL, p->offset + n,
              end->relu);
    }
}

void qt_xnor_linear(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y)
{
    const qt_xnor_path *path = qt_xnor_chosen();
    plan                p = plan_of(M, N, K, work);
    prepare(&p, N, K, w, end);
    QT_FOR_EACH(m, M, M * N * K > MANY) row(&p, path, m, N, K, x, end, y);
}
