/* Convolution over a batch: choice of the path, the parallel loop over images, the fixed partition of dw's sum. */
#include "kernels/conv.h"
#include "base/par.h"
#include <omp.h>
#include <string.h>

enum { CHUNKS = 16, LEAST_IMAGES = 8, PARALLEL = 1 << 18 };

static const qt_conv_path *forced;

void qt_conv_force(const qt_conv_path *p) { forced = p; }

static const qt_conv_path *choose(const qt_conv *c)
{
    if (forced && forced->suits(c)) return forced;
    if (qt_conv_depthwise.suits(c)) return &qt_conv_depthwise;
    if (qt_conv_winograd.suits(c)) return &qt_conv_winograd;
    return qt_conv_avx2.suits(c) ? &qt_conv_avx2 : &qt_conv_portable;
}

static int64_t round_up(int64_t n) { return (n + 15) / 16 * 16; }

size_t qt_conv_plan(qt_conv *c, bool grad)
{
    c->OH = (c->H + 2 * c->padding - c->dilation * (c->KH - 1) - 1) / c->stride + 1;
    c->OW = (c->W + 2 * c->padding - c->dilation * (c->KW - 1) - 1) / c->stride + 1;
    c->images = qt_max_i64(LEAST_IMAGES, (c->N + CHUNKS - 1) / CHUNKS);
    c->chunks = QT_CHUNKS(c->N, c->images);
    c->threads = c->N * c->O * c->OH * c->OW * (c->C / c->groups) * c->KH * c->KW < PARALLEL ? 1 : qt_threads();
    c->path = choose(c);
    c->path->plan(c);
    c->packed = round_up(c->packed), c->scratch = round_up(c->scratch), c->partial = round_up(c->partial);
    return (size_t)(c->packed + c->threads * c->scratch + (grad ? c->chunks * (c->partial + round_up(c->O)) : 0)) * sizeof(R);
}

static R *scratch(const qt_conv *c, R *work) { return work + c->packed + omp_get_thread_num() * c->scratch; }

void qt_conv_forward(const qt_conv *c, const R *x, const R *w, const R *b, R *work, R *y)
{
    if (c->path->prepare) c->path->prepare(c, QT_CONV_FORWARD, w, work);
#pragma omp parallel for schedule(dynamic) num_threads(c->threads) if (c->threads > 1)
    for (int64_t n = 0; n < c->N; n++)
        c->path->forward(c, x + n * c->C * c->H * c->W, w, b, work, scratch(c, work), y + n * c->O * c->OH * c->OW);
}

static void run_dx(const qt_conv *c, const R *dy, const R *w, R *work, R *dx, bool first)
{
    if (c->path->prepare) c->path->prepare(c, QT_CONV_DX, w, work);
#pragma omp parallel for schedule(dynamic) num_threads(c->threads) if (c->threads > 1)
    for (int64_t n = 0; n < c->N; n++)
        c->path->dx(c, dy + n * c->O * c->OH * c->OW, w, work, scratch(c, work), dx + n * c->C * c->H * c->W, first);
}

void qt_conv_dx(const qt_conv *c, const R *dy, const R *w, R *work, R *dx) { run_dx(c, dy, w, work, dx, false); }
void qt_conv_dx_first(const qt_conv *c, const R *dy, const R *w, R *work, R *dx) { run_dx(c, dy, w, work, dx, true); }

/* db[o] += sum over the plane of dy [O,P] */
QT_CLONES static void add_planes(const R *dy, int64_t O, int64_t P, R *db)
{
    for (int64_t o = 0; o < O; o++, dy += P) {
        double  lane[8] = {0}, sum = 0;
        int64_t p = 0;
        for (; p + 8 <= P; p += 8)
            for (int l = 0; l < 8; l++) lane[l] += dy[p + l];
        for (int l = 0; l < 8; l++) sum += lane[l];
        for (; p < P; p++) sum += dy[p];
        db[o] += (R)sum;
    }
}

/* x[i] += sum over k of part[k*stride + i], in order of k */
QT_CLONES static void add_parts(R *x, const R *part, int64_t n, int64_t stride, int64_t parts)
{
    for (int64_t k = 0; k < parts; k++, part += stride)
        for (int64_t i = 0; i < n; i++) x[i] += part[i];
}

void qt_conv_dw(const qt_conv *c, const R *x, const R *dy, R *work, R *dw, R *db)
{
    int64_t XN = c->C * c->H * c->W, YN = c->O * c->OH * c->OW, BN = round_up(c->O);
    R      *part = work + c->packed + c->threads * c->scratch, *bias = part + c->chunks * c->partial;
    if (dw && c->path->prepare) c->path->prepare(c, QT_CONV_DW, NULL, work);
#pragma omp parallel for schedule(dynamic) num_threads(c->threads) if (c->threads > 1)
    for (int64_t k = 0; k < c->chunks; k++) {
        if (dw) memset(part + k * c->partial, 0, (size_t)c->partial * sizeof(R));
        memset(bias + k * BN, 0, (size_t)BN * sizeof(R));
        for (int64_t n = k * c->images; n < qt_min_i64((k + 1) * c->images, c->N); n++) {
            if (db) add_planes(dy + n * YN, c->O, c->OH * c->OW, bias + k * BN);
            if (dw) c->path->dw(c, x + n * XN, dy + n * YN, work, scratch(c, work), part + k * c->partial);
        }
    }
    if (dw) {
        QT_FOR_CHUNKS(b, e, c->partial, 4096) add_parts(part + b, part + b + c->partial, e - b, c->partial, c->chunks - 1);
        c->path->unpack_dw(c, part, dw);
    }
    if (db) add_parts(db, bias, c->O, BN, c->chunks);
}

void qt_conv_naive(const qt_conv *c, const R *x, const R *w, const R *b, R *y)
{
    int64_t Cg = c->C / c->groups, Og = c->O / c->groups;
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t o = 0; o < c->O; o++)
            for (int64_t oh = 0; oh < c->OH; oh++)
                for (int64_t ow = 0; ow < c->OW; ow++) {
                    double sum = b ? b[o] : 0.0;
                    for (int64_t k = 0; k < Cg * c->KH * c->KW; k++) {
                        int64_t h = oh * c->stride + k / c->KW % c->KH * c->dilation - c->padding;
                        int64_t v = ow * c->stride + k % c->KW * c->dilation - c->padding;
                        int64_t ch = o / Og * Cg + k / (c->KH * c->KW);
                        if (h < 0 || h >= c->H || v < 0 || v >= c->W) continue;
                        sum += (double)w[o * Cg * c->KH * c->KW + k] * x[((n * c->C + ch) * c->H + h) * c->W + v];
                    }
                    *y++ = (R)sum;
                }
}
