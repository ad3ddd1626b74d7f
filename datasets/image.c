/* Images: see image.h.
 *
 * Resizing is separable with a triangle filter: output pixel o has its centre at c = (o + 1/2) in/out, and input k has the weight
 * max(0, 1 - |k + 1/2 - c| / r), r = max(1, in/out), divided by their sum. For r = 1 this is bilinear interpolation; when an image
 * shrinks, the filter widens so that every input pixel counts. Left out: gamma (values are averaged as they are stored). */
#include "image.h"
#include "base/par.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- bytes to numbers ------------------------------------------------------------------------------------------------------------- */

void qt_image_table(R table[256], double white, double mean, double std)
{
    for (int b = 0; b < 256; b++) table[b] = ((R)b / (R)white - (R)mean) / (R)std;
}

static void look_up(R *restrict y, const uint8_t *restrict x, int64_t n, const R *restrict table)
{
    for (int64_t i = 0; i < n; i++) y[i] = table[x[i]];
}

/* Row h of an image moved by (dy, dx) and perhaps mirrored. */
static void put_row(R *y, const uint8_t *x, int64_t h, int64_t H, int64_t W, int64_t dy, int64_t dx, bool flip, const R *table)
{
    bool inside = h + dy >= 0 && h + dy < H;
    for (int64_t w = 0; w < W; w++) {
        int64_t from = (flip ? W - 1 - w : w) + dx;
        y[w] = table[inside && from >= 0 && from < W ? x[(h + dy) * W + from] : 0];
    }
}

void qt_image_put(R *y, const uint8_t *x, int64_t C, int64_t H, int64_t W, const R (*table)[256], const qt_augment *a, qt_rng *draw)
{
    int64_t dy = 0, dx = 0, side = 2 * a->crop + 1;
    bool    flip = false;
    if (draw && a->crop) dy = (int64_t)qt_rng_below(draw, (uint64_t)side) - a->crop, dx = (int64_t)qt_rng_below(draw, (uint64_t)side) - a->crop;
    if (draw && a->flip) flip = qt_rng_below(draw, 2);
    for (int64_t c = 0; c < C; c++, y += H * W, x += H * W) {
        if (!dy && !dx && !flip) look_up(y, x, H * W, table[c]);
        else
            for (int64_t h = 0; h < H; h++) put_row(y + h * W, x, h, H, W, dy, dx, flip, table[c]);
    }
}

/* ---- resizing --------------------------------------------------------------------------------------------------------------------- */

/* Weights w[0..return) of inputs *begin, *begin + 1, ... for output o; w holds 2 max(1, in/out) + 2. */
static int64_t weigh(int64_t o, int64_t in, int64_t out, int64_t *begin, float *w)
{
    double  scale = (double)in / (double)out, r = scale > 1 ? scale : 1, centre = ((double)o + 0.5) * scale, sum = 0;
    int64_t b = qt_max_i64(0, (int64_t)floor(centre - r + 0.5)), n = qt_min_i64(in, (int64_t)floor(centre + r + 0.5)) - b;
    for (int64_t k = 0; k < n; k++) sum += fmax(0, 1 - fabs((double)(b + k) + 0.5 - centre) / r);
    for (int64_t k = 0; k < n; k++) w[k] = (float)(fmax(0, 1 - fabs((double)(b + k) + 0.5 - centre) / r) / sum);
    *begin = b;
    return n;
}

/* y[C,H,W] from p[h,w,C], by way of rows[C,h,W]. */
static void resize(uint8_t *y, const uint8_t *p, int64_t C, int64_t h, int64_t w, int64_t H, int64_t W, float *rows, float *weight)
{
    int64_t b, n;
    for (int64_t o = 0; o < W; o++) {
        n = weigh(o, w, W, &b, weight);
        for (int64_t i = 0; i < h * C; i++) { /* row i / C, channel i % C */
            const uint8_t *x   = p + (i / C * w + b) * C + i % C;
            float          sum = 0;
            for (int64_t k = 0; k < n; k++) sum += weight[k] * (float)x[k * C];
            rows[(i % C * h + i / C) * W + o] = sum;
        }
    }
    for (int64_t o = 0; o < H; o++) {
        n = weigh(o, h, H, &b, weight);
        for (int64_t i = 0; i < C * W; i++) {
            const float *x   = rows + (i / W * h + b) * W + i % W;
            float        sum = 0;
            for (int64_t k = 0; k < n; k++) sum += weight[k] * x[k * W];
            y[i / W * H * W + o * W + i % W] = (uint8_t)(sum + 0.5f);
        }
    }
}

/* ---- files ------------------------------------------------------------------------------------------------------------------------ */

/* RGBA to C channels, in place, over the background. Luminance is ITU-R 601-2 in 16 bits. */
static void flatten(uint8_t *p, int64_t n, int64_t C, int background)
{
    for (int64_t i = 0; i < n; i++) {
        int v[3], alpha = p[4 * i + 3];
        for (int c = 0; c < 3; c++) v[c] = (p[4 * i + c] * alpha + background * (255 - alpha) + 127) / 255;
        if (C == 1) p[i] = (uint8_t)((v[0] * 19595 + v[1] * 38470 + v[2] * 7471 + 0x8000) >> 16);
        else
            for (int c = 0; c < 3; c++) p[3 * i + c] = (uint8_t)v[c];
    }
}

qt_err qt_image_read(const char *file, int64_t C, int64_t H, int64_t W, int background, uint8_t *x)
{
    int64_t  w, h;
    uint8_t *p;
    float   *work;
    bool     ok;
    QT_TRY(qt_image_decode(file, &w, &h, &p));
    flatten(p, w * h, C, background);
    work = malloc(sizeof *work * (size_t)(C * h * W + 2 * qt_max_i64(w, h) + 4));
    if (work) resize(x, p, C, h, w, H, W, work, work + C * h * W);
    ok = work != NULL;
    free(p);
    free(work);
    return ok ? QT_OK : qt_fail(QT_EMEM, "%s: out of memory for an image of %lld x %lld pixels", file, (long long)h, (long long)w);
}

bool qt_image_name(const char *file)
{
    static const char *const ends[] = {".png", ".jpg", ".jpeg", ".bmp"};
    const char              *end    = strrchr(file, '.');
    for (int i = 0; end && i < 4; i++)
        if (!strcasecmp(end, ends[i])) return true;
    return false;
}
