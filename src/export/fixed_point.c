/* The fixed-point interpreter: see fixed_point.h. A number is an integer v with f fraction bits, v 2^-f; f belongs to the tensor (of parameters:
 * to the output channel) and is known before anything runs.
 *
 *     product       v = sum_k w_k x_k                 f = f_w + f_x           exact
 *     sum           v = (a << f - f_a) + (b << f - f_b)   f = max(f_a, f_b)       exact
 *     mean of 2^d   v = sum x                         f = f_x + d             exact
 *     cast          j = fit((v + what rounds) >> f - f')     f = f'
 *
 * Building it walks the model once and finds f and the largest magnitude of each tensor, from that of the words and the weights as they are:
 * where no sum can reach 2^62 nothing can overflow, and where none needs more bits than the significand of R has, the training graph's sums are
 * exact too, in whatever order they are made. Convolutions of floats may go by way of Winograd's transforms, whose numbers are up to 2^8 larger.
 *
 * Dai et al. 2024 (arXiv 2401.17544). Left out: binary points by channel in tensors other than parameters, and K-hot casts of such. */
#include "export/fixed_point.h"
#include "base/par.h"
#include <math.h>
#include <string.h>

enum { SAMPLES = 16, WORD_MAX = 62, WINOGRAD_BITS = 8 };

/* A cast, from `shift` more fraction bits. */
typedef struct word {
    const qt_site *site; /* NULL: none */
    qt_cast        c;
    int            f, shift;
} word;

typedef struct step step;
struct step {
    const qt_module *m;
    void   (*run)(const step *s, const int64_t *const in[2], int64_t *y);
    bool     real;      /* its result is the model's input, not cast yet */
    bool     sums;      /* it adds */
    int64_t  n, at;     /* numbers of its result for a sample, and their place in the work space */
    int      f;         /* fraction bits and largest magnitude of the result */
    double   most;
    int      sum_f;     /* the same before the cast, without the alignment of channels */
    double   sum_most;
    int64_t  rows, *w, *b; /* of parameters: [rows, K] weights; [rows] what is added, or NULL */
    int     *up;        /* [rows] the sums are shifted left by; add: [2] the operands are */
    word     in, out;
    int64_t  in_at;     /* place of the input after its cast */
    int64_t  stride, padding, dilation, groups, kernel;
    bool     circular; /* of a convolution */
};

struct qt_fixed {
    qt_arena        arena;
    const qt_model *model;
    step           *s; /* [model->n] */
    int64_t         work, inputs, outputs;
};

static const char *const TOO_FAR = "binary points are too far apart to be aligned in 64 bits";

static int64_t numbers(const qt_shape *x)
{
    int64_t n = 1;
    for (int i = 0; i < x->rank; i++) n *= x->dim[i];
    return n;
}

static qt_err refuse(const qt_module *m, const char *why) { return qt_fail(QT_EUSAGE, "%s: not in fixed point: %s", m->path, why); }

/* An option of a layer by its name. */
static int64_t option(const qt_module *m, const char *name)
{
    for (const qt_field *f = m->layer->d.fields; f && f->name; f++) {
        const void *at = (const char *)m->cfg + f->at;
        if (!strcmp(f->name, name)) return f->type == QT_INTS ? ((const qt_ints *)at)->v[0] : *(const int64_t *)at;
    }
    return 0;
}

/* ---- casts ---------------------------------------------------------------------------------------------------------------------------- */

/* What rounding adds to the integer below: side is the rest against one half. */
static int64_t rounds_up(qt_rounding how, int side, bool odd, bool negative)
{
    switch (how) {
    case QT_ROUND_DOWN: return 0;
    case QT_ROUND_UP: return side >= 0;
    case QT_ROUND_EVEN: return side > 0 || (side == 0 && odd);
    default: return side > 0 || (side == 0 && negative);
    }
}

static int64_t fit(const qt_cast *c, int64_t i)
{
    const int64_t span = (int64_t)1 << c->bits, lo = c->is_signed ? -span / 2 : 0, hi = lo + span - 1;
    if (c->overflow == QT_SATURATE) return i < lo ? lo : i > hi ? hi : i;
    const int64_t low = i & (span - 1);
    return low > hi ? low - span : low;
}

static int64_t cast_integer(const word *w, int64_t v)
{
    if (w->shift <= 0) return fit(&w->c, v * ((int64_t)1 << -w->shift));
    const int     shift = w->shift < 63 ? w->shift : 63;
    const int64_t down = v >> shift, rest = v & (((int64_t)1 << (shift - 1)) - 1), top = v >> (shift - 1) & 1;
    return fit(&w->c, down + rounds_up(w->c.rounding, top ? rest > 0 : -1, down & 1, v < 0));
}

/* The door: what comes in is a number of the outside. */
static int64_t cast_real(const word *w, R x)
{
    double       u = ldexp((double)x, w->f);
    const double far = ldexp(1, 40);
    if (w->c.overflow == QT_WRAP) u = fmod(u, far);
    u = u > far ? far : u < -far ? -far : u;
    const double down = floor(u), rest = u - down;
    return fit(&w->c, (int64_t)down + rounds_up(w->c.rounding, (rest > 0.5) - (rest < 0.5), fmod(down, 2) != 0, u < 0));
}

/* The cast at a site of a tensor with f fraction bits, or of numbers from outside. */
static qt_err cast_at(const qt_module *m, const qt_site *q, bool real, int f, double most, word *w)
{
    if (!q->enabled || !q->quant->cast) return refuse(m, "a tensor is quantized by something other than `fixed`");
    *w = (word){.site = q};
    q->quant->cast(q, &w->c);
    if (w->c.count != 1) return refuse(m, "a tensor other than parameters has a binary point for each channel");
    if (w->c.k_hot) return refuse(m, "a tensor other than parameters has K-hot words");
    w->f = qt_cast_point(&w->c, 0), w->shift = real ? 0 : f - w->f;
    if (-w->shift >= WORD_MAX || ldexp(most, -w->shift) >= ldexp(1, WORD_MAX)) return refuse(m, "its cast shifts numbers out of 64 bits");
    return QT_OK;
}

static double most_of(const word *w) { return ldexp(1, w->c.bits - w->c.is_signed); }

/* ---- what the layers do to one sample -------------------------------------------------------------------------------------------------- */

static int64_t finish(const step *s, int64_t row, int64_t sum) { return sum * ((int64_t)1 << s->up[row]) + (s->b ? s->b[row] : 0); }

static void run_linear(const step *s, const int64_t *const in[2], int64_t *y)
{
    const int64_t K = s->m->in_shape[0].dim[s->m->in_shape[0].rank - 1];
    for (int64_t i = 0; i < s->n; i++) {
        const int64_t  row = i % s->rows, *x = in[0] + i / s->rows * K, *w = s->w + row * K;
        int64_t        sum = 0;
        for (int64_t k = 0; k < K; k++) sum += w[k] * x[k];
        y[i] = finish(s, row, sum);
    }
}

static int64_t around(int64_t i, int64_t n) { return (i % n + n) % n; }

/* One output of a convolution: output channel o, place (r, c). */
static int64_t tap_sum(const step *s, const int64_t *x, int64_t o, int64_t r, int64_t c)
{
    const qt_shape  *in = &s->m->in_shape[0];
    const qt_tensor *w = s->m->p[0];
    const int64_t    C = w->dim[1], H = in->dim[1], W = in->dim[2], from = o / (s->rows / s->groups) * C, *tap = s->w + o * C * w->dim[2] * w->dim[3];
    int64_t          sum = 0;
    for (int64_t k = 0; k < C; k++)
        for (int64_t i = 0; i < w->dim[2]; i++)
            for (int64_t j = 0; j < w->dim[3]; j++, tap++) {
                int64_t h = r * s->stride - s->padding + i * s->dilation, v = c * s->stride - s->padding + j * s->dilation;
                if (s->circular) h = around(h, H), v = around(v, W);
                if (h >= 0 && h < H && v >= 0 && v < W) sum += *tap * x[((from + k) * H + h) * W + v];
            }
    return sum;
}

static void run_conv2d(const step *s, const int64_t *const in[2], int64_t *y)
{
    const int64_t H = s->m->out_shape.dim[1], W = s->m->out_shape.dim[2];
    for (int64_t i = 0; i < s->n; i++) y[i] = finish(s, i / (H * W), tap_sum(s, in[0], i / (H * W), i / W % H, i % W));
}

static void run_norm(const step *s, const int64_t *const in[2], int64_t *y)
{
    const int64_t S = s->n / s->rows;
    for (int64_t i = 0; i < s->n; i++) y[i] = finish(s, i / S, s->w[i / S] * in[0][i]);
}

static void run_add(const step *s, const int64_t *const in[2], int64_t *y)
{
    for (int64_t i = 0; i < s->n; i++) y[i] = in[0][i] * ((int64_t)1 << s->up[0]) + in[1][i] * ((int64_t)1 << s->up[1]);
}

static void run_relu(const step *s, const int64_t *const in[2], int64_t *y)
{
    for (int64_t i = 0; i < s->n; i++) y[i] = in[0][i] > 0 ? in[0][i] : 0;
}

static void run_max_min(const step *s, const int64_t *const in[2], int64_t *y)
{
    const int64_t P = s->n / s->m->out_shape.dim[0];
    for (int64_t i = 0; i < s->n; i++) {
        const int64_t pair = i / P % 2 ? i - P : i, a = in[0][pair], b = in[0][pair + P];
        y[i] = (a < b) == (pair == i) ? b : a;
    }
}

static void run_copy(const step *s, const int64_t *const in[2], int64_t *y) { memcpy(y, in[0], (size_t)s->n * sizeof *y); }

/* The window of an output: its largest number, or the sum. */
static int64_t window(const step *s, const int64_t *plane, int64_t r, int64_t c, bool largest)
{
    const int64_t H = s->m->in_shape[0].dim[1], W = s->m->in_shape[0].dim[2], h0 = r * s->stride - s->padding, v0 = c * s->stride - s->padding;
    int64_t       sum = 0, most = INT64_MIN;
    for (int64_t h = qt_max_i64(h0, 0); h < qt_min_i64(h0 + s->kernel, H); h++)
        for (int64_t v = qt_max_i64(v0, 0); v < qt_min_i64(v0 + s->kernel, W); v++)
            sum += plane[h * W + v], most = qt_max_i64(most, plane[h * W + v]);
    return largest ? most : sum;
}

static void run_pool(const step *s, const int64_t *const in[2], int64_t *y)
{
    const qt_shape *x = &s->m->in_shape[0], *out = &s->m->out_shape;
    for (int64_t i = 0; i < s->n; i++)
        y[i] = window(s, in[0] + i / (out->dim[1] * out->dim[2]) * x->dim[1] * x->dim[2], i / out->dim[2] % out->dim[1], i % out->dim[2],
                      s->m->layer == &qt_layer_max_pool);
}

static void run_global(const step *s, const int64_t *const in[2], int64_t *y)
{
    const int64_t S = s->m->in_shape[0].dim[1] * s->m->in_shape[0].dim[2];
    memset(y, 0, (size_t)s->n * sizeof *y);
    for (int64_t i = 0; i < s->n * S; i++) y[i / S] += in[0][i];
}

/* ---- building: parameters -------------------------------------------------------------------------------------------------------------- */

typedef struct codes {
    const int32_t *code;
    int64_t        n;
    int           *f; /* [rows] */
} codes;

/* The integers of a parameter, as its site has just been given it. */
static qt_err take(qt_fixed *p, const qt_module *m, qt_site *q, const char *role, int64_t rows, codes *c)
{
    qt_codes all = {0};
    qt_cast  cast;
    if (!q || !q->enabled || !q->quant->cast || !q->last_x)
        return refuse(m, qt_arena_sprintf(&p->arena, "it has a tensor without binary point; a rule with `%s: {use: fixed}` gives it one", role));
    q->quant->cast(q, &cast);
    QT_TRY(q->quant->encode(q, q->last_x, &p->arena, &all));
    if (cast.count != 1 && (cast.count != rows || all.layout.inner != all.n / rows))
        return refuse(m, "binary points go along an axis other than the outputs");
    *c = (codes){all.code, all.n, qt_arena_alloc(&p->arena, (size_t)rows * sizeof(int))};
    if (!c->f) return QT_EMEM;
    for (int64_t r = 0; r < rows; r++) c->f[r] = qt_cast_point(&cast, cast.count > 1 ? r : 0);
    return QT_OK;
}

/* Row r: largest magnitude and fraction bits of its sum, offset included. */
static double row_most(const codes *w, const codes *b, int64_t rows, int64_t r, int f, double most, int *row_f)
{
    const int64_t K = w->n / rows;
    const int     sum_f = f + w->f[r];
    double        sum = 0;
    for (int64_t k = 0; k < K; k++) sum += fabs((double)w->code[r * K + k]) * most;
    *row_f = b && b->f[r] > sum_f ? b->f[r] : sum_f;
    return ldexp(sum, *row_f - sum_f) + (b ? ldexp(fabs((double)b->code[r]), *row_f - b->f[r]) : 0);
}

/* y = w x + b by rows: all sums get the fraction bits of the finest. */
static qt_err affine(qt_fixed *p, step *s, int f, double most, const codes *w, const codes *b)
{
    const int64_t rows = s->rows;
    s->sums = true;
    s->w = qt_arena_alloc(&p->arena, (size_t)w->n * sizeof *s->w), s->up = qt_arena_alloc(&p->arena, (size_t)rows * sizeof *s->up);
    s->b = b ? qt_arena_alloc(&p->arena, (size_t)rows * sizeof *s->b) : NULL;
    if (!s->w || !s->up || (b && !s->b)) return QT_EMEM;
    for (int64_t i = 0; i < w->n; i++) s->w[i] = w->code[i];
    for (int64_t r = 0; r < rows; r++) {
        int row_f;
        s->sum_most = fmax(s->sum_most, row_most(w, b, rows, r, f, most, &row_f));
        if (!r || row_f > s->f) s->f = row_f;
    }
    for (int64_t r = 0; r < rows; r++) {
        int          row_f;
        const double sum = row_most(w, b, rows, r, f, most, &row_f);
        s->most = fmax(s->most, ldexp(sum, s->f - row_f));
        s->up[r] = s->f - f - w->f[r];
        if (s->up[r] >= WORD_MAX || (b && s->f - b->f[r] >= WORD_MAX - 24)) return refuse(s->m, TOO_FAR);
        if (b) s->b[r] = b->code[r] * ((int64_t)1 << (s->f - b->f[r]));
    }
    return QT_OK;
}

static qt_err product(qt_fixed *p, step *s, int f, double most)
{
    const qt_module *m = s->m;
    codes            w, b;
    s->rows = m->p[0]->dim[0];
    QT_TRY(take(p, m, m->weight, "weights", s->rows, &w));
    if (m->p[1]) QT_TRY(take(p, m, m->bias, "bias", s->rows, &b));
    s->stride = option(m, "stride"), s->padding = option(m, "padding"), s->dilation = option(m, "dilation"), s->groups = option(m, "groups");
    qt_walk walk = {0};
    s->run = qt_conv2d_walk(m, &walk) ? run_conv2d : run_linear, s->circular = walk.circular;
    return affine(p, s, f, most, &w, m->p[1] ? &b : NULL);
}

static qt_err norm(qt_fixed *p, step *s, int f, double most)
{
    codes a, b;
    s->rows = s->m->in_shape[0].dim[0], s->run = run_norm;
    QT_TRY(take(p, s->m, s->m->scale, "affine", s->rows, &a));
    QT_TRY(take(p, s->m, s->m->shift, "affine", s->rows, &b));
    return affine(p, s, f, most, &a, &b);
}

/* ---- building: layers without parameters ------------------------------------------------------------------------------------------------- */

static qt_err add(qt_fixed *p, step *s, const step *a, const step *b)
{
    s->f = a->f > b->f ? a->f : b->f, s->run = run_add, s->sums = true;
    s->most = ldexp(a->most, s->f - a->f) + ldexp(b->most, s->f - b->f);
    if (!(s->up = qt_arena_alloc(&p->arena, 2 * sizeof *s->up))) return QT_EMEM;
    s->up[0] = s->f - a->f, s->up[1] = s->f - b->f;
    return s->up[0] < WORD_MAX && s->up[1] < WORD_MAX ? QT_OK : refuse(s->m, TOO_FAR);
}

/* The mean of `of` numbers: their sum, with more fraction bits. */
static qt_err mean(step *s, int64_t of, int f, double most)
{
    if (of & (of - 1)) return refuse(s->m, "it divides by a number that is no power of two");
    s->f = f + 63 - __builtin_clzll((unsigned long long)of), s->most = (double)of * most, s->sums = true;
    return QT_OK;
}

static qt_err layer(qt_fixed *p, step *s, const step *x, const step *other)
{
    const qt_layer *l = s->m->layer;
    const int       f = s->in.site ? s->in.f : x->f;
    const double    most = s->in.site ? most_of(&s->in) : x->most;
    s->f = f, s->most = most, s->run = run_copy;
    s->kernel = option(s->m, "kernel"), s->padding = option(s->m, "padding"), s->stride = option(s->m, "stride");
    if (!s->stride) s->stride = s->kernel;
    if (l == &qt_layer_linear || l == &qt_layer_conv2d) return s->most = 0, product(p, s, f, most);
    if (l == &qt_layer_batch_norm) return s->most = 0, norm(p, s, f, most);
    if (l == &qt_layer_add) return add(p, s, x, other);
    if (l == &qt_layer_relu) return s->run = run_relu, QT_OK;
    if (l == &qt_layer_max_min) return s->run = run_max_min, QT_OK;
    if (l == &qt_layer_max_pool) return s->run = run_pool, QT_OK;
    if (l == &qt_layer_avg_pool) return s->run = run_pool, mean(s, s->kernel * s->kernel, f, most);
    if (l == &qt_layer_global_avg_pool) return s->run = run_global, mean(s, s->m->in_shape[0].dim[1] * s->m->in_shape[0].dim[2], f, most);
    if (l == &qt_layer_flatten || l == &qt_layer_identity || l == &qt_layer_dropout) return QT_OK;
    return refuse(s->m, qt_arena_sprintf(&p->arena, "the interpreter knows no layer `%s`", l->d.name));
}

/* ---- building: the walk ------------------------------------------------------------------------------------------------------------------ */

static const step outside = {.real = true};
static const step *step_of(const qt_fixed *p, int i) { return i < 0 ? &outside : &p->s[i]; }

static qt_err make_step(qt_fixed *p, int i)
{
    step            *s = &p->s[i];
    const qt_module *m = s->m = &p->model->m[i];
    const step      *x = step_of(p, m->in[0]), *other = m->n_in > 1 ? step_of(p, m->in[1]) : x;
    const bool       moves = m->layer == &qt_layer_flatten || m->layer == &qt_layer_identity;
    s->n = numbers(&m->out_shape);
    if (m->act) {
        QT_TRY(cast_at(m, m->act, x->real, x->f, x->most, &s->in));
        s->in_at = p->work, p->work += numbers(&m->in_shape[0]);
    }
    s->real = x->real && !s->in.site;
    if ((s->real && !moves) || other->real != x->real)
        return refuse(m, m->layer->quantizes ? "its input has no binary point; a rule with `activations: {use: fixed}` gives it one"
                                             : "its input has no binary point; `outputs: {use: fixed}` of the layer before it gives it one");
    if (!s->real) QT_TRY(layer(p, s, x, other));
    if (!s->sum_most) s->sum_most = s->most;
    s->sum_f = s->f;
    if (s->most >= ldexp(1, WORD_MAX)) return refuse(m, "its sums do not fit 64 bits");
    if (m->out) {
        QT_TRY(cast_at(m, m->out, s->real, s->f, s->most, &s->out));
        s->real = false, s->f = s->out.f, s->most = most_of(&s->out);
    }
    s->at = p->work, p->work += s->n;
    return QT_OK;
}

/* A sample of zeros, so that each site has seen its parameter, and each layer knows whether it computes in integers. */
static qt_err run_graph(qt_tape *t, qt_model *m)
{
    int64_t dim[QT_MAX_DIM] = {1};
    memcpy(dim + 1, m->in.dim, (size_t)m->in.rank * sizeof *dim);
    qt_tape_reset(t);
    qt_tape_mode(t, false, false);
    const bool thrifty = t->thrifty;
    t->thrifty = false;
    qt_model_forward(t, m, qt_input(t, 1 + m->in.rank, dim));
    t->thrifty = thrifty;
    return qt_tape_error(t);
}

static qt_err build(qt_fixed *p, qt_tape *t, qt_model *m)
{
    p->model = m, p->inputs = numbers(&m->in), p->outputs = numbers(&m->out);
    QT_CHECK(!m->in.ids, QT_EUSAGE, "a model of ids is not in fixed point");
    if (!(p->s = qt_arena_zalloc(&p->arena, (size_t)m->n * sizeof *p->s))) return QT_EMEM;
    QT_TRY(run_graph(t, m));
    for (int i = 0; i < m->n; i++) QT_TRY(make_step(p, i));
    return p->s[m->n - 1].real ? refuse(&m->m[m->n - 1], "it gives what came in") : QT_OK;
}

qt_err qt_fixed_make(qt_tape *t, qt_model *m, qt_fixed **out)
{
    qt_fixed *p = *out = qt_alloc(sizeof *p);
    if (!p) return QT_EMEM;
    qt_err e = build(p, t, m);
    qt_tape_reset(t);
    if (e != QT_OK) qt_fixed_free(p), *out = NULL;
    return e;
}

void qt_fixed_free(qt_fixed *p)
{
    if (!p) return;
    qt_arena_free(&p->arena);
    qt_free(p);
}

/* ---- running ------------------------------------------------------------------------------------------------------------------------------ */

static void cast_all(const word *w, bool real, const R *x, const int64_t *v, int64_t n, int64_t *j)
{
    for (int64_t i = 0; i < n; i++) j[i] = real ? cast_real(w, x[i]) : cast_integer(w, v[i]);
}

/* One sample. */
static void run_sample(const qt_fixed *p, const R *x, int64_t *work, R *y)
{
    for (int i = 0; i < p->model->n; i++) {
        const step    *s = &p->s[i], *a = step_of(p, s->m->in[0]);
        const int64_t *in[2] = {work + a->at, work + (s->m->n_in > 1 ? step_of(p, s->m->in[1])->at : 0)};
        int64_t       *out = work + s->at;
        if (s->in.site) cast_all(&s->in, a->real, x, in[0], numbers(&s->m->in_shape[0]), work + s->in_at), in[0] = work + s->in_at;
        if (s->run) s->run(s, in, out);
        if (s->out.site) cast_all(&s->out, !s->run, x, out, s->n, out);
    }
    const step *last = &p->s[p->model->n - 1];
    for (int64_t k = 0; k < p->outputs; k++) y[k] = (R)ldexp((double)work[last->at + k], -last->f);
}

qt_err qt_fixed_run(const qt_fixed *p, int64_t n, const R *x, R *y)
{
    for (int64_t i = 0; i < n * p->inputs; i++) QT_CHECK(!isnan(x[i]), QT_EDATA, "element %lld of the input is not a number", (long long)i);
    int64_t *work = qt_alloc((size_t)(SAMPLES * p->work) * sizeof *work);
    if (!work) return QT_EMEM;
    for (int64_t from = 0; from < n; from += SAMPLES)
        QT_FOR_EACH(i, qt_min_i64(SAMPLES, n - from), n > 1)
        run_sample(p, x + (from + i) * p->inputs, work + i * p->work, y + (from + i) * p->outputs);
    qt_free(work);
    return QT_OK;
}

static qt_tensor *answer(qt_run *r, qt_tensor *x)
{
    const qt_fixed *p = r->answerer;
    int64_t         dim[QT_MAX_DIM] = {x->dim[0]};
    memcpy(dim + 1, p->model->out.dim, (size_t)p->model->out.rank * sizeof *dim);
    qt_tensor *y = qt_input(r->tape, 1 + p->model->out.rank, dim);
    if (!r->tape->err) qt_tape_fail(r->tape, qt_fixed_run(p, x->dim[0], x->data, y->data));
    return y;
}

void qt_fixed_answers(qt_run *r, qt_fixed *p) { r->answer = p ? answer : NULL, r->answerer = p; }

/* ---- looking at it ------------------------------------------------------------------------------------------------------------------------- */

/* Bits of a signed integer of that magnitude. */
static int width(double most) { return most > 0 ? 2 + (int)floor(log2(most)) : 1; }

int qt_fixed_widest(const qt_fixed *p, const char **where)
{
    int widest = 0;
    for (int i = 0; i < p->model->n; i++)
        if (p->s[i].sums && width(p->s[i].sum_most) > widest) widest = width(p->s[i].sum_most), *where = p->s[i].m->path;
    return widest;
}

qt_err qt_fixed_exact(const qt_fixed *p)
{
    const int has = sizeof(R) == sizeof(float) ? 24 : 53;
    for (int i = 0; i < p->model->n; i++) {
        const step *s = &p->s[i];
        const bool  floats = s->m->layer == &qt_layer_conv2d && !s->m->integer;
        const int   bits = s->sums ? width(s->sum_most) - 1 + (floats ? WINOGRAD_BITS : 0) : 0;
        QT_CHECK(bits <= has, QT_EUSAGE, "%s: its sums may take %d bits, and a %s has %d: evaluation need not be exact there%s", s->m->path, bits,
                 has == 24 ? "float" : "double", has, floats ? " (words of up to 8 bits, and engine: auto, make a convolution one of integers)" : "");
    }
    return QT_OK;
}

static void print_site(FILE *f, const qt_site *q)
{
    static const char *const rounding[] = {"trn", "rnd", "rnd_conv", "rnd_zero"};
    qt_cast                  c;
    if (!q || !q->quant->cast) return;
    q->quant->cast(q, &c);
    int lo = qt_cast_point(&c, 0), hi = lo;
    for (int64_t k = 1; k < c.count; k++) {
        const int point = qt_cast_point(&c, k);
        lo = point < lo ? point : lo, hi = point > hi ? point : hi;
    }
    fprintf(f, "%-24s %5d %8d", q->path, c.bits, lo);
    if (hi > lo) fprintf(f, "..%d", hi);
    fprintf(f, "   %s, %s%s", rounding[c.rounding], c.overflow == QT_WRAP ? "wrap" : "sat", c.is_signed ? "" : ", unsigned");
    if (c.k_hot) fprintf(f, ", %d-hot", c.k_hot);
    fprintf(f, "\n");
}

void qt_fixed_print(FILE *f, const qt_fixed *p)
{
    fprintf(f, "%-24s %5s %8s   %s\n", "tensor", "bits", "fraction", "how");
    for (int i = 0; i < p->model->n; i++) {
        const step *s = &p->s[i];
        qt_site    *site[] = {s->m->act, s->m->weight, s->m->bias, s->m->scale, s->m->shift};
        char        name[256];
        snprintf(name, sizeof name, "%s.sum", s->m->path);
        for (int k = 0; k < 5; k++) print_site(f, site[k]);
        if (s->sums) fprintf(f, "%-24s %5d %8d   exact\n", name, width(s->sum_most), s->sum_f);
        print_site(f, s->m->out);
    }
}

void qt_fixed_points(const qt_model *m, int64_t *points, int64_t *moved)
{
    *points = *moved = 0;
    for (int i = 0; i < m->store->n_site; i++) {
        const qt_site *q = m->store->site[i];
        qt_cast        c;
        if (!q->quant->cast) continue;
        q->quant->cast(q, &c);
        *points += c.count;
        for (int64_t k = 0; k < c.count; k++) *moved += qt_cast_point(&c, k) != (int)c.start[k];
    }
}
