/* Rows picked by ids: y[k] = table[ids[k]], a row being all but the first axis.
 *
 *     embedding   table [V,D], ids of any shape -> ids' shape and D          gather   x [R,...], ids [K] -> [K,...]
 *
 * Backward adds each dy[k] to row ids[k]. An id may come twice, so threads share out columns, never ids: every number of the table
 * gets its terms in the order of k, whatever the number of threads. */
#include "ops/inner.h"
#include <string.h>

enum { STRIP = 64 };

static qt_err check_ids(const qt_node *nd, const char *what)
{
    const qt_tensor *x = nd->in[0], *ids = nd->in[1];
    for (int64_t k = 0; k < ids->n; k++)
        if (ids->ids[k] < 0 || ids->ids[k] >= x->dim[0]) {
            qt_node_fail(nd, "id %d out of range, the %s has %lld rows (id %lld of %lld)", (int)ids->ids[k], what,
                         (long long)x->dim[0], (long long)k + 1, (long long)ids->n);
            return QT_EDATA;
        }
    return QT_OK;
}

static qt_err embedding_shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *ids = nd->in[1];
    int64_t          dim[QT_MAX_DIM];
    char             s[96];
    if (!(ids->flags & QT_IDS)) return qt_node_fail(nd, "the rows must be chosen by ids, not by numbers");
    if (x->rank != 2) return qt_node_fail(nd, "the table is %s, it must be [V, D]", qt_shape_str(x, s));
    if (ids->rank >= QT_MAX_DIM)
        return qt_node_fail(nd, "ids %s have too many axes, the result would have more than %d", qt_shape_str(ids, s), QT_MAX_DIM);
    QT_TRY(check_ids(nd, "table"));
    memcpy(dim, ids->dim, sizeof dim);
    dim[ids->rank] = x->dim[1];
    return qt_node_out(nd, ids->rank + 1, dim);
}

static qt_err gather_shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *ids = nd->in[1];
    int64_t          dim[QT_MAX_DIM];
    char             s[96];
    if (!(ids->flags & QT_IDS)) return qt_node_fail(nd, "the rows must be chosen by ids, not by numbers");
    if (ids->rank != 1) return qt_node_fail(nd, "ids are %s, they must be a vector", qt_shape_str(ids, s));
    QT_TRY(check_ids(nd, "tensor"));
    memcpy(dim, x->dim, sizeof dim);
    dim[0] = ids->n;
    return qt_node_out(nd, x->rank, dim);
}

static void forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *ids = nd->in[1];
    const int64_t    D = x->n / x->dim[0], grain = qt_row_grain(D);
    QT_FOR_CHUNKS(b, e, ids->n, grain)
    for (int64_t k = b; k < e; k++) memcpy(nd->out->data + k * D, x->data + ids->ids[k] * D, (size_t)D * sizeof(R));
}

QT_CLONES static void add_strip(R *dx, const R *dy, const int32_t *ids, int64_t n, int64_t D, int64_t width)
{
    for (int64_t k = 0; k < n; k++) {
        R *to = dx + ids[k] * D;
        for (int64_t j = 0; j < width; j++) to[j] += dy[k * D + j];
    }
}

static void backward(const qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *ids = nd->in[1];
    const int64_t    D = x->n / x->dim[0];
    if (!x->grad) return;
    QT_FOR_EACH(s, QT_CHUNKS(D, STRIP), nd->out->n > QT_GRAIN)
    add_strip(x->grad + s * STRIP, nd->out->grad + s * STRIP, ids->ids, ids->n, D, qt_min_i64(STRIP, D - s * STRIP));
}

qt_tensor *qt_embedding(qt_tape *t, qt_tensor *table, qt_tensor *ids) { return QT_EMIT(t, &qt_op_embedding, NULL, 0, table, ids); }
qt_tensor *qt_gather(qt_tape *t, qt_tensor *x, qt_tensor *ids) { return QT_EMIT(t, &qt_op_gather, NULL, 0, x, ids); }

static qt_tensor    *build_embedding(qt_tape *t, qt_tensor **in) { return qt_embedding(t, in[0], in[1]); }
static qt_tensor    *build_gather(qt_tape *t, qt_tensor **in) { return qt_gather(t, in[0], in[1]); }
static const qt_case embedding_cases[] = {{"sequence", build_embedding, {{{5, 3}, 'n'}, {{4}, 'i', 5}}},
                                          {"batch, ids that come again", build_embedding, {{{3, 4}, 'n'}, {{2, 5}, 'i', 3}}},
                                          {"wide", build_embedding, {{{3, 70}, 'n'}, {{6}, 'i', 3}}},
                                          {"ids of rank 4", build_embedding, {{{2, 2}, 'n'}, {{2, 1, 2, 1}, 'i', 2}}},
                                          {"one row", build_embedding, {{{1, 1}, 'n'}, {{1}, 'i', 1}}},
                                          {NULL}};
static const qt_case gather_cases[] = {{"rows", build_gather, {{{5, 3}, 'n'}, {{7}, 'i', 5}}},
                                       {"numbers of a vector", build_gather, {{{6}, 'n'}, {{4}, 'i', 6}}},
                                       {"images", build_gather, {{{3, 2, 2, 2}, 'n'}, {{4}, 'i', 3}}},
                                       {"one row", build_gather, {{{1, 2}, 'n'}, {{1}, 'i', 1}}},
                                       {NULL}};
const qt_op qt_op_embedding = {.d = {"embedding", "rows of a table, chosen by ids of any shape"}, .kind = QT_EXACT,
                               .shape = embedding_shape, .forward = forward, .backward = backward, .reads = qt_reads_nothing, .cases = embedding_cases};
const qt_op qt_op_gather = {.d = {"gather", "rows of a tensor, chosen by a vector of ids"}, .kind = QT_EXACT,
                            .shape = gather_shape, .forward = forward, .backward = backward, .reads = qt_reads_nothing, .cases = gather_cases};
