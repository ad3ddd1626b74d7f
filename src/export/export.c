/* What all formats share: the order of things. A file is written under a temporary name, loaded again by whoever reads the format, and its
 * answers to a batch are compared with those of the training graph's evaluation, bit for bit. Only then it gets its name, and export.json,
 * which says what it holds, a place beside it. */
#include "base/sha256.h"
#include "export/export.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names --------------------------------------------------------------------------------------------------------------------------- */

static qt_err default_file(const qt_exporter *x, qt_run *r, const char **file)
{
    const char *folder = qt_arena_sprintf(&r->arena, "%s/export", r->dir);
    if (!folder) return QT_EMEM;
    QT_TRY(qt_folder_make(folder));
    *file = qt_arena_sprintf(&r->arena, "%s/%s.%s", folder, r->recipe->name, x->ext);
    return *file ? QT_OK : QT_EMEM;
}

/* ---- verifying ------------------------------------------------------------------------------------------------------------------------ */

static qt_err verify_answers(const qt_exporter *x, qt_snapshot *s, const char *part, const char *file)
{
    int64_t n = s->samples * s->outputs, differ = 0;
    R      *y = qt_arena_alloc(&s->arena, (size_t)n * sizeof *y);
    if (!y) return QT_EMEM;
    QT_TRY(x->answer(part, s->samples, s->x, y));
    for (int64_t i = 0; i < n; i++) differ += memcmp(&y[i], &s->y[i], sizeof *y) != 0;
    QT_CHECK(!differ, QT_ECLAIM, "%s: %lld of %lld answers of the exported model differ from the training graph's; nothing was exported", file,
             (long long)differ, (long long)n);
    return QT_OK;
}

static qt_err verify(const qt_exporter *x, qt_snapshot *s, const void *cfg, const char *part, const char *file)
{
    return x->compare ? x->compare(s, cfg, part, &s->compared) : verify_answers(x, s, part, file);
}

/* ---- export.json ---------------------------------------------------------------------------------------------------------------------- */

void qt_export_real(FILE *f, double v, bool single)
{
    char text[40];
    for (int digits = 1; digits < 18; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        const double back = strtod(text, NULL);
        if (single ? (float)back == (float)v : back == v) break;
    }
    fputs(text, f);
}

static void json_layers(FILE *f, const qt_snapshot *s)
{
    fprintf(f, " \"layers\": [");
    for (int i = 0; i < s->n; i++) {
        const qt_snap_layer *l = &s->layer[i];
        fprintf(f, "%s\n  {\"path\": ", i ? "," : "");
        qt_export_str(f, l->m->path);
        fprintf(f, ", \"kind\": \"%s\", \"engine\": \"%s\"", l->m->layer->d.name, l->integer ? "int" : "float");
        if (!l->integer) fprintf(f, ", \"why\": "), qt_export_str(f, l->why);
        putc('}', f);
    }
    fprintf(f, "],\n");
}

static const qt_snap_layer *integer_layer(const qt_snapshot *s, const qt_tensor *w)
{
    for (int i = 0; i < s->n; i++)
        if (s->layer[i].m->p[0] == w && s->layer[i].integer && qt_module_owns_weight(s->layer[i].m)) return &s->layer[i];
    return NULL;
}

static void json_tensors(FILE *f, const qt_snapshot *s)
{
    const qt_store *st = s->run->store;
    const char     *sep = "";
    fprintf(f, " \"tensors\": [");
    for (int i = 0; i < st->n; i++) {
        const qt_tensor     *t = &st->p[i]->t;
        const qt_snap_layer *l = integer_layer(s, t);
        if (!l && !qt_snapshot_values(s, st->p[i])) continue;
        fprintf(f, "%s\n  {\"name\": ", sep);
        qt_export_str(f, t->name);
        fprintf(f, ", \"shape\": [");
        for (int k = 0; k < t->rank; k++) fprintf(f, "%s%lld", k ? ", " : "", (long long)t->dim[k]);
        if (l) fprintf(f, "], \"bits\": %d, \"codes\": [%d, %d], \"scales\": %lld}", l->bits, l->lo, l->hi, (long long)l->w->codes->count);
        else fprintf(f, "], \"bits\": %d}", 8 * (int)sizeof(R));
        sep = ",";
    }
    fprintf(f, "],\n");
}

static const char *const rounding[] = {"trn", "rnd", "rnd_conv", "rnd_zero"}, *const overflow[] = {"sat", "wrap"};

/* Words and binary points of what is cast to fixed point, if anything is. */
static void json_casts(FILE *f, const qt_store *st)
{
    const char *sep = " \"casts\": [";
    qt_cast     c;
    for (int i = 0; i < st->n_site; i++) {
        if (!st->site[i]->quant->cast || !st->site[i]->enabled) continue;
        st->site[i]->quant->cast(st->site[i], &c);
        fprintf(f, "%s\n  {\"path\": ", sep);
        qt_export_str(f, st->site[i]->path);
        fprintf(f, ", \"bits\": %d, \"signed\": %s, \"fraction\": [", c.bits, c.is_signed ? "true" : "false");
        for (int64_t k = 0; k < c.count; k++) fprintf(f, "%s%d", k ? ", " : "", qt_cast_point(&c, k));
        fprintf(f, "], \"rounding\": \"%s\", \"overflow\": \"%s\", \"k_hot\": %d}", rounding[c.rounding], overflow[c.overflow], c.k_hot);
        sep = ",";
    }
    if (*sep == ',') fprintf(f, "],\n");
}

static void json_verified(FILE *f, const qt_exporter *x, const qt_snapshot *s)
{
    if (x->compare) fprintf(f, " \"verified\": {\"tensors_equal\": true, \"tensors\": %lld}}\n", (long long)s->compared);
    else fprintf(f, " \"verified\": {\"logits_equal\": true, \"samples\": %lld}}\n", (long long)s->samples);
}

static void json_all(FILE *f, const qt_exporter *x, qt_snapshot *s, const void *cfg, const char *file, const char *sha, long long bytes)
{
    const char *slash = strrchr(file, '/');
    fprintf(f, "{\"file\": ");
    qt_export_str(f, slash ? slash + 1 : file);
    fprintf(f, ", \"format\": \"%s\", \"format_version\": %d, \"qtape\": \"%s\",\n \"sha256\": \"%s\", \"bytes\": %lld,\n \"name\": ", x->d.name,
            x->version, qt_version(), sha, bytes);
    qt_export_str(f, s->run->recipe->name);
    fprintf(f, ", \"step\": %lld, \"averaged_weights\": %s, \"bits_per_weight\": %.6g,\n", (long long)s->run->step, s->averaged ? "true" : "false",
            s->bits_per_weight);
    json_layers(f, s);
    json_casts(f, s->run->store);
    if (x->describe) x->describe(f, s, cfg, file);
    else json_tensors(f, s);
    json_verified(f, x, s);
}

static qt_err write_json(const qt_exporter *x, qt_snapshot *s, const void *cfg, const char *file, const char *sha, long long bytes)
{
    const char *slash = strrchr(file, '/');
    char       *json = qt_arena_sprintf(&s->arena, "%.*sexport.json", slash ? (int)(slash + 1 - file) : 0, file), *text = NULL;
    size_t      n = 0;
    FILE       *f = json ? open_memstream(&text, &n) : NULL;
    if (!f) return qt_fail(QT_EMEM, "out of memory");
    json_all(f, x, s, cfg, file, sha, bytes);
    qt_err e = qt_stream_close(QT_OK, f, &text);
    if (e == QT_OK) e = qt_file_write(json, text, n);
    free(text);
    return e;
}

/* ---- the order of things -------------------------------------------------------------------------------------------------------------- */

static qt_err write_and_verify(const qt_exporter *x, qt_snapshot *s, const void *cfg, const char *file)
{
    char        sha[QT_SHA256_TEXT];
    struct stat st;
    char       *part = qt_arena_sprintf(&s->arena, "%s.part", file);
    if (!part) return QT_EMEM;
    qt_err e = x->write(s, cfg, part);
    if (e == QT_OK) e = verify(x, s, cfg, part, file);
    if (e == QT_OK) e = qt_sha256_file(part, sha);
    if (e == QT_OK && stat(part, &st)) e = qt_fail(QT_EIO, "%s: cannot read", part);
    if (e != QT_OK) return unlink(part), e;
    QT_TRY(qt_file_commit(part, file));
    return write_json(x, s, cfg, file, sha, (long long)st.st_size);
}

qt_err qt_export_run(const qt_exporter *x, qt_run *r, const void *cfg, const char *file, qt_exported *out)
{
    qt_snapshot s = {0};
    QT_CHECK(!r->recipe->lora || x->adapters, QT_EUSAGE,
             "%s: a run of adapters on a frozen base; format %s holds no adapters. Merge them into a checkpoint (phases: {use: merge, checkpoint: "
             "true}), and export a run that begins with it", r->dir, x->d.name);
    if (!file) QT_TRY(default_file(x, r, &file));
    qt_err e = qt_snapshot_take(r, &s);
    if (e == QT_OK) e = write_and_verify(x, &s, cfg, file);
    *out = (qt_exported){file, s.n, s.integers};
    qt_snapshot_free(&s);
    return e;
}
