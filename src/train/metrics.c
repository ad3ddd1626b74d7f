/* metrics.jsonl: one object a line. Numbers have nine digits, which name a float exactly, so the same bits give the same text; only
 * seconds, samples_per_s (tokens_per_s of text) and peak_rss_mb tell of time and place. What is not finite is written as null, for JSON has no word for it. */
#include "base/par.h"
#include "train/train.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct line {
    char   text[1 << 16]; /* a number takes some 40 bytes: there may be hundreds of them */
    size_t n;
} line;

/* What does not fit is cut off, the end of the line does; readers pass over such a line. */
static void put(line *l, const char *fmt, ...) QT_PRINTF(2, 3);
static void put(line *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    l->n = (size_t)qt_min_i64((int64_t)l->n + vsnprintf(l->text + l->n, sizeof l->text - l->n, fmt, ap), sizeof l->text - 4);
    va_end(ap);
}

static void add_text(line *l, const char *key, const char *value)
{
    put(l, "%s\"%s\": \"", l->n ? ", " : "{", key);
    for (const char *s = value; *s && l->n + 8 < sizeof l->text; s++) {
        if (*s == '"' || *s == '\\') l->text[l->n++] = '\\';
        l->text[l->n++] = *s;
    }
    put(l, "\"");
}

static void add_int(line *l, const char *key, int64_t v)
{
    put(l, "%s\"%s\": %lld", l->n ? ", " : "{", key, (long long)v);
}

static void add(line *l, const char *key, const char *fmt, double v)
{
    put(l, "%s\"%s\": ", l->n ? ", " : "{", key);
    if (isfinite(v)) put(l, fmt, v);
    else put(l, "null");
}

static void add_real(line *l, const char *key, double v) { add(l, key, "%.9g", v); }
static void add_time(line *l, const char *key, double v) { add(l, key, "%.3f", v); }

static void begin(line *l, const qt_run *r, const char *event, const char *split)
{
    l->n = 0;
    add_text(l, "event", event);
    add_int(l, "step", r->step);
    add_real(l, "epoch", r->steps_per_epoch ? (double)r->step / (double)r->steps_per_epoch : 0);
    if (split) add_text(l, "split", split);
}

/* Where the time goes, always last. */
static void end(line *l, qt_run *r, double items_per_s)
{
    double now = r->began > 0 ? r->seconds + qt_clock() - r->began : r->seconds;
    if (items_per_s >= 0) {
        add_time(l, "seconds", now), add_time(l, qt_run_is_text(r) ? "tokens_per_s" : "samples_per_s", items_per_s);
        add_time(l, "peak_rss_mb", qt_peak_rss_mb());
    }
    put(l, "}\n");
    if (r->metrics) fputs(l->text, r->metrics), fflush(r->metrics);
    if (r->progress == QT_PROGRESS_JSON) fputs(l->text, stdout), fflush(stdout);
}

double qt_peak_rss_mb(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss / 1024;
}

void qt_metrics_step(qt_run *r, double loss, const double *accuracy, double lr, double items_per_s)
{
    line l;
    begin(&l, r, "step", qt_split_name[QT_TRAIN]);
    add_real(&l, "loss", loss);
    if (accuracy) add_real(&l, "accuracy", *accuracy);
    if (qt_run_is_text(r)) add_real(&l, "perplexity", exp(loss));
    add_real(&l, "lr", lr);
    add_real(&l, "saved_mb", r->saved_mb);
    end(&l, r, items_per_s);
}

void qt_metrics_eval(qt_run *r, const char *event, qt_split split, const qt_result *res, double items_per_s)
{
    const qt_yaml *use = qt_yaml_get(r->data_section, "use");
    const qt_cost  cost = qt_model_cost(r->model);
    line           l;
    begin(&l, r, event, qt_split_name[split]);
    add_real(&l, "loss", res->loss);
    if (res->classes) add_real(&l, "accuracy", res->accuracy);
    if (res->tokens) add_real(&l, "perplexity", exp(res->loss));
    if (r->recipe->metric) add_real(&l, r->recipe->metric->d.name, res->metric);
    add_int(&l, "n", res->n);
    if (!strcmp(event, "final")) {
        add_int(&l, "params", res->params);
        add_real(&l, "bits_per_weight", res->bits_per_weight);
        add_real(&l, "bytes", res->bytes);
        add_real(&l, "macs", cost.macs), add_real(&l, "cost", cost.quadratic);
        add_real(&l, "cost_linear", cost.linear), add_real(&l, "cost_binary", cost.binary);
        if (r->saved.bytes)
            add_int(&l, "saved_bytes", r->saved.bytes), add_int(&l, "saved_bytes_float", r->saved.floats),
                add_int(&l, "saved_bytes_per_op", r->saved.per_op);
        if (use && use->kind == QT_YAML_SCALAR) add_text(&l, "data", use->text);
    }
    end(&l, r, items_per_s);
}

static void begin_quant(line *l, qt_run *r, const qt_site *q, const qt_site_stats *s)
{
    begin(l, r, "quant", NULL);
    add_text(l, "path", q->path);
    add_real(l, "scale", s->scale);
    add_real(l, "clip_frac", s->clip_frac);
    add_real(l, "zero_frac", s->zero_frac);
    add_real(l, "flip_rate", s->flip_rate);
    add_real(l, "sqnr_db", s->sqnr_db);
}

void qt_metrics_quant(qt_run *r, const qt_site *q, const qt_site_stats *s)
{
    line l;
    begin_quant(&l, r, q, s);
    end(&l, r, -1);
}

static void add_ints(line *l, const char *key, const int64_t *v, int n)
{
    put(l, ", \"%s\": [", key);
    for (int i = 0; i < n; i++) put(l, "%s%lld", i ? ", " : "", (long long)v[i]);
    put(l, "]");
}

void qt_metrics_noise(qt_run *r, const qt_site *q, const qt_site_stats *s, const qt_noise *n)
{
    line l;
    begin_quant(&l, r, q, s);
#define QT_X(name) add_real(&l, #name, n->name);
    QT_NOISE_FIELDS(QT_X)
#undef QT_X
    add_ints(&l, "octaves_channel", n->octaves[0], QT_SHIFTQ_GROUPS), add_ints(&l, "octaves_sample", n->octaves[1], QT_SHIFTQ_GROUPS);
    end(&l, r, -1);
}

void qt_metrics_codec(qt_run *r, const char *name, const qt_codec_stats *s)
{
    line l;
    begin(&l, r, "codec", NULL);
    add_text(&l, "path", name);
#define QT_X(field) add_real(&l, #field, s->field);
    QT_CODEC_FIELDS(QT_X)
#undef QT_X
    end(&l, r, -1);
}

void qt_metrics_measure(qt_run *r, const char *path, int n, const char *const *name, const double *v)
{
    line l;
    begin(&l, r, "measure", NULL);
    add_text(&l, "path", path);
    for (int i = 0; i < n; i++) add_real(&l, name[i], v[i]);
    end(&l, r, -1);
}

/* ---- the file -------------------------------------------------------------------------------------------------------------- */

qt_err qt_metrics_open(qt_run *r)
{
    char  file[4096];
    FILE *f;
    snprintf(file, sizeof file, "%s/metrics.jsonl", r->dir);
    f = fopen(file, "ab");
    if (!f || fseek(f, 0, SEEK_END) || ftell(f) < r->metrics_bytes || ftruncate(fileno(f), r->metrics_bytes) || fseek(f, 0, SEEK_END)) {
        bool shorter = f && ftell(f) < r->metrics_bytes;
        if (f) fclose(f);
        if (shorter) QT_FAIL(QT_EDATA, "%s: shorter than the %lld bytes it had at the checkpoint", file, (long long)r->metrics_bytes);
        QT_FAIL(QT_EIO, "%s: cannot write: %s", file, strerror(errno));
    }
    r->metrics = f;
    return QT_OK;
}

qt_err qt_metrics_sync(qt_run *r)
{
    if (!r->metrics) return QT_OK;
    QT_CHECK(!fflush(r->metrics) && !ferror(r->metrics) && !fsync(fileno(r->metrics)), QT_EIO, "%s/metrics.jsonl: cannot write: %s", r->dir,
             strerror(errno));
    r->metrics_bytes = ftell(r->metrics);
    return QT_OK;
}

/* A line of JSON is YAML in flow style, so the YAML reader reads it. */
qt_err qt_metrics_last(qt_arena *a, const char *dir, const char *event, const char *path, const qt_yaml **out)
{
    char        file[4096], head[64], where[512];
    char       *text;
    const char *last = NULL;
    size_t      n;
    qt_yaml    *y;
    *out = NULL;
    snprintf(file, sizeof file, "%s/metrics.jsonl", dir);
    snprintf(head, sizeof head, "{\"event\": \"%s\",", event);
    snprintf(where, sizeof where, "\"path\": \"%s\",", path ? path : "");
    QT_TRY(qt_file_read(a, file, &text, &n));
    for (char *s = text, *next; *s; s = next) {
        char *stop = strchr(s, '\n');
        if (!stop) break; /* a line that was cut short */
        *stop = 0, next = stop + 1;
        if (!strncmp(s, head, strlen(head)) && (!path || strstr(s, where))) last = s;
    }
    if (!last) return QT_OK;
    QT_TRY(qt_yaml_parse(a, last, strlen(last), file, &y));
    *out = y;
    return QT_OK;
}

/* The number behind a key within a line of n bytes. */
static bool number_in(const char *text, size_t n, const char *key, double *v)
{
    const char *at = memmem(text, n, key, strlen(key));
    return at && (*v = strtod(at + strlen(key), NULL), true);
}

/* Lines of `step` events are ours and regular: the numbers are read off without a tree for each. */
static bool step_event(const char *text, double *epoch, double *loss)
{
    static const char head[] = "{\"event\": \"step\",";
    const char       *stop = strchr(text, '\n');
    const size_t      n = stop ? (size_t)(stop - text) : strlen(text);
    return n >= sizeof head && !memcmp(text, head, sizeof head - 1) && number_in(text, n, "\"epoch\": ", epoch) && number_in(text, n, "\"loss\": ", loss);
}

qt_err qt_metrics_train_loss(qt_arena *a, const char *dir, double *mean)
{
    char   file[4096], *text;
    size_t n;
    double last = -1, epoch, loss, sum = 0, count = 0;
    snprintf(file, sizeof file, "%s/metrics.jsonl", dir);
    QT_TRY(qt_file_read(a, file, &text, &n));
    for (int pass = 0; pass < 2; pass++)
        for (const char *s = text; s && *s; s = strchr(s, '\n') ? strchr(s, '\n') + 1 : NULL) {
            if (!step_event(s, &epoch, &loss)) continue;
            if (pass == 0) last = epoch > last ? epoch : last;
            else if (epoch > last - 1 + 1e-9) sum += loss, count++;
        }
    *mean = count ? sum / count : NAN;
    return QT_OK;
}

qt_err qt_metrics_first_loss(qt_arena *a, const char *dir, double *loss)
{
    char   file[4096], *text;
    size_t n;
    double epoch;
    snprintf(file, sizeof file, "%s/metrics.jsonl", dir);
    QT_TRY(qt_file_read(a, file, &text, &n));
    *loss = NAN;
    for (const char *s = text; s && *s; s = strchr(s, '\n') ? strchr(s, '\n') + 1 : NULL)
        if (step_event(s, &epoch, loss)) return QT_OK;
    return QT_OK;
}
