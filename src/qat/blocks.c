/* The walk over blocks: see blocks.h. */
#include "qat/blocks.h"

static int64_t row_of(const qt_site *q, int rank, const int64_t *dim)
{
    int64_t n = 1;
    for (int i = rank > q->token_rank ? rank - q->token_rank : 0; i < rank; i++) n *= dim[i];
    return n;
}

qt_err qt_blocks_check(const qt_site *q, int64_t block)
{
    int64_t row = row_of(q, q->rank, q->dim), below = row / block * block;
    if (row % block == 0) return QT_OK;
    if (!below) return qt_site_fail(q, "a row of %lld is shorter than a block of %lld; the nearest width is %lld", (long long)row, (long long)block,
                                    (long long)block);
    return qt_site_fail(q, "a row of %lld is not made of blocks of %lld; the nearest widths are %lld and %lld", (long long)row, (long long)block,
                        (long long)below, (long long)(below + block));
}

qt_err qt_blocks_shape(qt_node *nd)
{
    qt_blocks *b = nd->arg;
    qt_layout  l = {b->block, nd->in[0]->n / b->block};
    int64_t    row = nd->in[0]->n ? nd->in[0]->dim[nd->in[0]->rank - 1] : 0;
    if (nd->in[0]->n % b->block) return qt_node_fail(nd, "a row of %lld is not made of blocks of %lld", (long long)row, (long long)b->block);
    QT_TRY(qt_node_out_like(nd, nd->in[0]));
    qt_pass_shape(nd);
    return qt_bytes_attach(nd, b->role, l, b->qn, b->qp, NULL, &b->bytes);
}

QT_CLONES static void store(R *restrict y, const R *restrict code, int64_t n, R scale)
{
    for (int64_t i = 0; i < n; i++) y[i] = code[i] * scale;
}

QT_CLONES static void store_bytes(uint8_t *restrict q, const R *restrict code, int64_t n, int base)
{
    for (int64_t i = 0; i < n; i++) q[i] = (uint8_t)(qt_bits_of_code(code[i]) - (qt_real_bits)base);
}

static void blocks_run(const qt_blocks *b, const R *x, R *y, int64_t from, int64_t to)
{
    R code[QT_BLOCK_LONGEST]; /* each thread's own */
    for (int64_t at = from; at < to; at += b->block) {
        R scale = b->encode(b, x + at, code);
        store(y + at, code, b->block, scale);
        if (!b->bytes.q) continue;
        store_bytes(b->bytes.q + at, code, b->block, b->bytes.base);
        b->bytes.scale[at / b->block] = scale;
    }
}

void qt_blocks_forward(qt_node *nd)
{
    const R *x = nd->in[0]->data;
    R       *y = nd->out->data;
    if (nd->out->n <= QT_GRAIN) {
        blocks_run(nd->arg, x, y, 0, nd->out->n); /* as when one token is generated: without a team of threads */
        return;
    }
    QT_FOR_CHUNKS(from, to, nd->out->n, QT_GRAIN) blocks_run(nd->arg, x, y, from, to);
}

qt_err qt_blocks_encode(const qt_site *q, const qt_blocks *b, const qt_tensor *x, qt_arena *a, double bits, qt_codes *c)
{
    qt_layout l;
    R        *scale, code[QT_BLOCK_LONGEST];
    QT_TRY(qt_site_layout(q, QT_PER_GROUP, NULL, b->block, x, &l));
    QT_TRY(qt_codes_check(q, x));
    if (!(scale = qt_arena_alloc(a, (size_t)l.count * sizeof *scale))) return QT_EMEM;
    QT_TRY(qt_codes_new(a, x->n, l, scale, bits, c));
    for (int64_t k = 0; k < l.count; k++) {
        scale[k] = b->encode(b, x->data + k * b->block, code);
        QT_CHECK(isfinite(scale[k]), QT_EDATA, "%s: the scale of block %lld is too large for half precision", q->path, (long long)k);
        for (int64_t i = 0; i < b->block; i++) c->code[k * b->block + i] = (int32_t)code[i];
    }
    return QT_OK;
}
