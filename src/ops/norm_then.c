/* See norm_then.h. */
#include "ops/norm_then.h"
#include "autograd/codec.h"
#include <string.h>

int qt_then_mask(const qt_node *nd, bool relu, const qt_tensor *skip, bool again)
{
    const bool coded = nd->saver && nd->saver->codec->encode;
    return !relu ? QT_UNMASKED : skip || coded || !again ? QT_BY_Z : QT_BY_X;
}

qt_err qt_then_shape(qt_node *nd, const qt_tensor *skip)
{
    const qt_tensor *x = nd->in[0];
    char             s[96], u[96];
    if (skip && (skip->rank != x->rank || memcmp(skip->dim, x->dim, (size_t)x->rank * sizeof *x->dim)))
        return qt_node_fail(nd, "skip is %s, but x is %s", qt_shape_str(skip, s), qt_shape_str(x, u));
    return QT_OK;
}

QT_CLONES static void runs(R *restrict z, const R *restrict x, const R *restrict skip, bool relu, int64_t N, int64_t step, int64_t S, R m, R k, R b)
{
    for (int64_t from = 0; N > 0; N--, from += step) {
        const int64_t end = from + S;
        if (skip && relu)
            for (int64_t j = from; j < end; j++) z[j] = qt_rectified((x[j] - m) * k + b + skip[j]);
        else if (skip)
            for (int64_t j = from; j < end; j++) z[j] = (x[j] - m) * k + b + skip[j];
        else if (relu)
            for (int64_t j = from; j < end; j++) z[j] = qt_rectified((x[j] - m) * k + b);
        else
            for (int64_t j = from; j < end; j++) z[j] = (x[j] - m) * k + b;
    }
}

void qt_then_runs(R *z, const R *x, const R *skip, bool relu, int64_t N, int64_t step, int64_t S, R m, R k, R b)
{
    runs(z, x, skip, relu, N, step, S, m, k, b);
}

QT_CLONES static void strip(R *restrict z, const R *restrict x, const R *restrict skip, bool relu, int64_t N, int64_t step, int width,
                            const R *restrict m, const R *restrict k, const R *restrict b)
{
    for (int64_t n = 0; n < N; n++, z += step, x += step) {
        for (int c = 0; c < width; c++) z[c] = (x[c] - m[c]) * k[c] + b[c];
        if (skip)
            for (int c = 0; c < width; c++) z[c] += skip[n * step + c];
        if (relu)
            for (int c = 0; c < width; c++) z[c] = qt_rectified(z[c]);
    }
}

void qt_then_strip(R *z, const R *x, const R *skip, bool relu, int64_t N, int64_t step, int width, const R *m, const R *k, const R *b)
{
    strip(z, x, skip, relu, N, step, width, m, k, b);
}

/* dskip = g, or added; n numbers */
QT_CLONES static void pass(bool first, bool relu, R *restrict dskip, const R *restrict dz, const R *restrict z, int64_t n)
{
    if (first && relu)
        for (int64_t j = 0; j < n; j++) dskip[j] = qt_masked(dz[j], z[j]);
    else if (first)
        for (int64_t j = 0; j < n; j++) dskip[j] = dz[j];
    else if (relu)
        for (int64_t j = 0; j < n; j++) dskip[j] += qt_masked(dz[j], z[j]);
    else
        for (int64_t j = 0; j < n; j++) dskip[j] += dz[j];
}

void qt_then_back(const qt_node *nd, qt_tensor *skip, bool relu)
{
    const qt_tensor *z = nd->out;
    if (!skip || !skip->grad) return;
    const bool first = qt_grad_first(skip);
    QT_FOR_CHUNKS(i, e, z->n, QT_GRAIN) pass(first, relu, skip->grad + i, z->grad + i, relu ? z->data + i : z->grad + i, e - i);
}
