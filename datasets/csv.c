/* Tables of text: one sample a line, numbers in columns, one column is the target. Classes may be numbers 0, 1, ... or names, which are
 * then numbered in the order of their bytes. Lines of `path` are the training split, those of `test_path` the test split; with
 * test_every: k, line k, 2k, ... of `path` are the test split instead. Quotes as in RFC 4180; plain or gzip. Left out: missing values,
 * columns of text other than the target (both are errors that name the place). */
#include "files.h"
#include "table.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 1 << 29, MAX_COLUMNS = 1 << 20, HEADER_AUTO = 0, HEADER_YES = 1 };

typedef struct csv_cfg {
    const char    *path, *test_path, *delimiter;
    const qt_yaml *target;
    int            header;
    int64_t        classes, features, test_every;
    bool           standardize;
} csv_cfg;

static const qt_field fields[] = {
    QT_F_STR(csv_cfg, path, NULL, "file, plain or .gz"),
    QT_F_STR(csv_cfg, test_path, "~", "file with the test split"),
    QT_F_TREE(csv_cfg, target, "~", "column of the target: its name in the header, or its number from 0, negative from the end; default the last"),
    QT_F_STR(csv_cfg, delimiter, ",", "what stands between columns, one letter"),
    QT_F_ENUM(csv_cfg, header, "auto", "auto|true|false", "does the first line name the columns; auto: when one of its features is no number"),
    QT_F_INT(csv_cfg, classes, "-1", -1, 1000000, "number of classes; 0: the target is a number to predict; -1: count the classes"),
    QT_F_INT(csv_cfg, features, "-1", -1, MAX_COLUMNS, "number of columns without the target, so that `check` knows it; -1: count them"),
    QT_F_INT(csv_cfg, test_every, "0", 0, 1000000, "every so manieth line of path is the test split; 0: none"),
    QT_F_BOOL(csv_cfg, standardize, "false", "give each column mean 0 and variance 1 over the training split"),
    {NULL}};

/* One file: x[n,width], and for each line the text of its target and its number. */
typedef struct csv_rows {
    const char *file;
    char       *text, *at;         /* the file, and where reading is */
    const char *line_start;
    int         line, columns, target;
    char      **cell;              /* of the line just read */
    int         n, n_cells, width;
    R          *x;
    char      **label;
    qt_pos     *pos;
    int         cap_cell, cap_x, cap_label, cap_pos;
} csv_rows;

static qt_err info_of(const void *cfg, qt_data_info *info)
{
    const csv_cfg *c = cfg;
    *info = (qt_data_info){.rank = 1, .dim = {c->features}, .classes = c->classes, .target_n = c->classes == 0, .known = c->features > 0};
    if (c->target && c->target->kind == QT_YAML_LIST) return qt_fail_at(QT_ERECIPE, c->target->pos, "data.target: expected a column, found a list");
    if (c->target && c->target->kind == QT_YAML_MAP) return qt_fail_at(QT_ERECIPE, c->target->pos, "data.target: expected a column, found a map");
    QT_CHECK(c->features != 0, QT_ERECIPE, "data.features: 0 columns");
    QT_CHECK(strlen(c->delimiter) == 1 && !strchr("\"\n\r", *c->delimiter), QT_ERECIPE, "data.delimiter: expected one letter, found '%s'",
             c->delimiter);
    QT_CHECK(!c->test_path || !c->test_every, QT_ERECIPE, "data: test_path and test_every exclude each other");
    QT_CHECK(c->test_every != 1, QT_ERECIPE, "data.test_every: 1 leaves nothing to train on");
    return QT_OK;
}

/* ---- lines and cells -------------------------------------------------------------------------------------------------------------- */

static qt_pos place(const csv_rows *f, const char *cell) { return (qt_pos){f->file, f->line, (int)(cell - f->line_start) + 1}; }

/* Unquotes the cell that begins at p in place, ends it with 0, and returns where its delimiter (or the end of the line) stood; NULL if the
 * quotes do not close on the line. */
static char *end_of_cell(char *p, char delimiter, char *stop)
{
    char *to = p;
    if (*p != '"') {
        while (*p && *p != delimiter && *p != '\n') p++;
        *stop = *p, *p = 0;
        return p;
    }
    for (p++; *p && *p != '\n'; p++) {
        if (*p == '"' && *++p != '"') {
            while (*p == ' ' || *p == '\r') p++;
            *stop = *p, *to = 0;
            return *stop == delimiter || *stop == '\n' || !*stop ? p : NULL;
        }
        *to++ = *p;
    }
    return NULL;
}

static void trim(char *s)
{
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1])) s[--n] = 0;
}

/* The cells of the next line that is not blank; n_cells = 0 at the end of the file. */
static qt_err next_line(csv_rows *f, char delimiter)
{
    char stop = delimiter;
    for (f->n_cells = 0, f->line++;; f->at++, f->line++) { /* skip blank lines */
        char *p = f->at + strspn(f->at, " \r");
        if (*p && *p != '\n') break;
        f->at = p;
        if (!*p) return QT_OK;
    }
    f->line_start = f->at;
    while (*f->at && stop == delimiter) {
        char *cell = f->at + strspn(f->at, delimiter == ' ' ? "" : " "), *after = end_of_cell(cell, delimiter, &stop);
        if (!after) return qt_fail_at(QT_EDATA, place(f, cell), "quotes do not close, or text follows them");
        trim(cell);
        if (f->n_cells == MAX_COLUMNS) return qt_fail_at(QT_EDATA, place(f, cell), "more than %d columns", MAX_COLUMNS);
        QT_TRY(qt_grow(&f->cell, &f->cap_cell, f->n_cells + 2, sizeof *f->cell));
        f->cell[f->n_cells++] = cell;
        f->at = after + (stop != 0);
        if (stop == delimiter && !*f->at) f->cell[f->n_cells++] = f->at; /* the file ends behind a delimiter: an empty cell */
    }
    return QT_OK;
}

static bool number(const char *s, double *v)
{
    char *end;
    while (isspace((unsigned char)*s)) s++;
    *v = strtod(s, &end);
    while (isspace((unsigned char)*end)) end++;
    return end != s && !*end && isfinite(*v) && isfinite((float)*v);
}

/* ---- a file ----------------------------------------------------------------------------------------------------------------------- */

static const char *target_text(const csv_cfg *c) { return c->target && c->target->kind == QT_YAML_SCALAR ? c->target->text : NULL; }

/* Column that the target names or numbers (default the last), from the cells of the first line; -1 if there is none. */
static int64_t target_column(const csv_rows *f, const char *target)
{
    char   *end = NULL;
    int64_t k   = -1;
    for (int i = 0; target && i < f->n_cells; i++)
        if (!strcmp(f->cell[i], target)) return i;
    if (target) k = strtoll(target, &end, 10);
    if (target && (*end || end == target)) return -1;
    if (k < 0) k += f->n_cells;
    return k >= 0 && k < f->n_cells ? k : -1;
}

static qt_err no_target(const csv_rows *f, const char *target)
{
    const char *near = qt_near(target, f->n_cells, (const char *const *)f->cell);
    return qt_fail_at(QT_EDATA, place(f, f->cell[0]), "data.target: there is no column '%s' among the %d%s%s%s", target, f->n_cells,
                      near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* A feature that is no number says that the first line is a header; so does the name of the target. */
static bool is_header(const csv_rows *f, const csv_cfg *c)
{
    const char *target = target_text(c);
    double      v;
    if (c->header != HEADER_AUTO) return c->header == HEADER_YES;
    for (int i = 0; i < f->n_cells; i++)
        if (i != f->target ? *f->cell[i] && !number(f->cell[i], &v) : target && !strcmp(f->cell[i], target) && !number(target, &v)) return true;
    return false;
}

static qt_err add_line(csv_rows *f)
{
    double v;
    if (f->n_cells != f->columns)
        return qt_fail_at(QT_EDATA, place(f, f->cell[0]), "expected %d columns as in the first line, found %d", f->columns, f->n_cells);
    if ((f->n + (int64_t)1) * f->width > INT32_MAX / 2) return qt_fail_at(QT_EDATA, place(f, f->cell[0]), "more than a thousand million numbers");
    QT_TRY(qt_grow(&f->x, &f->cap_x, (f->n + 1) * f->width, sizeof *f->x));
    QT_TRY(qt_grow(&f->label, &f->cap_label, f->n + 1, sizeof *f->label));
    QT_TRY(qt_grow(&f->pos, &f->cap_pos, f->n + 1, sizeof *f->pos));
    for (int i = 0, k = f->n * f->width; i < f->columns; i++) {
        if (i == f->target) continue;
        if (!number(f->cell[i], &v)) return qt_fail_at(QT_EDATA, place(f, f->cell[i]), "column %d: expected a number, found '%.40s'", i, f->cell[i]);
        f->x[k++] = (R)v;
    }
    f->label[f->n] = f->cell[f->target], f->pos[f->n++] = place(f, f->cell[f->target]);
    return QT_OK;
}

static qt_err read_rows(const char *file, const csv_cfg *c, csv_rows *f)
{
    size_t n;
    bool   header;
    f->file = file;
    QT_TRY(qt_unpacked_read(file, MAX_FILE, &f->text, &n));
    QT_CHECK(strlen(f->text) == n, QT_EDATA, "%s: holds a zero byte: no text", file);
    f->at = f->text + (strncmp(f->text, "\xef\xbb\xbf", 3) ? 0 : 3);
    QT_TRY(next_line(f, *c->delimiter));
    QT_CHECK(f->n_cells, QT_EDATA, "%s: empty", file);
    f->columns = f->n_cells, f->width = f->n_cells - 1, f->target = (int)target_column(f, target_text(c));
    if (f->target < 0) return no_target(f, target_text(c) ? target_text(c) : "");
    header = is_header(f, c);
    QT_CHECK(f->width > 0, QT_EDATA, "%s: a single column: data.delimiter is '%s'", file, c->delimiter);
    QT_CHECK(c->features < 0 || f->width == c->features, QT_EDATA, "%s: %d columns beside the target, expected %lld (data.features)", file, f->width,
             (long long)c->features);
    for (; f->n_cells; header = false) {
        if (!header) QT_TRY(add_line(f));
        QT_TRY(next_line(f, *c->delimiter));
    }
    QT_CHECK(f->n, QT_EDATA, "%s: a header and no lines", file);
    return QT_OK;
}

static void free_rows(csv_rows *f)
{
    qt_free(f->text), qt_free(f->cell), qt_free(f->x), qt_free(f->label), qt_free(f->pos);
}

/* ---- targets ---------------------------------------------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool whole(const char *s, double *v) { return number(s, v) && *v == floor(*v) && fabs(*v) < 1e9; }

/* The different labels of the training file, sorted; n = 0 when all of them are whole numbers, which are then the classes themselves. */
static qt_err name_classes(const csv_rows *f, char ***name, int *n)
{
    double v;
    int    i = 0, cap = 0;
    while (i < f->n && whole(f->label[i], &v)) i++;
    *name = NULL, *n = 0;
    if (i == f->n) return QT_OK;
    QT_TRY(qt_grow(name, &cap, f->n, sizeof **name));
    memcpy(*name, f->label, sizeof **name * (size_t)f->n);
    qsort(*name, (size_t)f->n, sizeof **name, by_text);
    for (i = 0; i < f->n; i++)
        if (!i || strcmp((*name)[i], (*name)[*n - 1])) (*name)[(*n)++] = (*name)[i];
    return QT_OK;
}

static qt_err read_class(const csv_rows *f, int i, char *const *name, int n, int64_t classes, int32_t *y)
{
    double       v;
    char *const *found = n ? bsearch(&f->label[i], name, (size_t)n, sizeof *name, by_text) : NULL;
    if (n && !found) return qt_fail_at(QT_EDATA, f->pos[i], "class '%.40s' is not among those of the training file", f->label[i]);
    if (!n && !whole(f->label[i], &v)) return qt_fail_at(QT_EDATA, f->pos[i], "expected a class number, found '%.40s'", f->label[i]);
    if (n) v = (double)(found - name);
    if (v < 0 || (classes >= 0 && v >= (double)classes))
        return qt_fail_at(QT_EDATA, f->pos[i], "label %g, expected a class %s%lld", v, classes < 0 ? "of at least " : "0..",
                          (long long)(classes < 0 ? 0 : classes - 1));
    *y = (int32_t)v;
    return QT_OK;
}

/* ---- the set ---------------------------------------------------------------------------------------------------------------------- */

/* Sample `to` of a split from line i of a file. */
static qt_err put(qt_table *b, qt_split s, int64_t to, const csv_rows *f, int i, char *const *name, int n, int64_t classes)
{
    double v;
    memcpy(b->x[s] + to * b->width, f->x + (int64_t)i * f->width, sizeof(R) * (size_t)f->width);
    if (!b->target_n) return read_class(f, i, name, n, classes, &b->y[s][to]);
    if (!number(f->label[i], &v)) return qt_fail_at(QT_EDATA, f->pos[i], "expected a number as the target, found '%.40s'", f->label[i]);
    b->t[s][to] = (R)v;
    return QT_OK;
}

/* f[0] is path, f[1] test_path (n = 0 without one). */
static qt_err fill(qt_table *b, const csv_cfg *c, const csv_rows f[2], char *const *name, int n, int64_t classes)
{
    int64_t held = c->test_every ? f[0].n / c->test_every : f[1].n, at[QT_SPLITS] = {0};
    if (f[1].n && f[1].width != f[0].width)
        QT_FAIL(QT_EDATA, "%s: %d columns beside the target, but %s has %d", f[1].file, f[1].width, f[0].file, f[0].width);
    QT_TRY(qt_table_room(b, QT_TRAIN, f[0].n - (c->test_every ? held : 0), f[0].file));
    QT_TRY(qt_table_room(b, QT_TEST, held, f[0].file));
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < f[k].n; i++) {
            qt_split s = k || (c->test_every && i % c->test_every == c->test_every - 1) ? QT_TEST : QT_TRAIN;
            QT_TRY(put(b, s, at[s]++, &f[k], i, name, n, classes));
        }
    return QT_OK;
}

/* Each column: (x - mean) / standard deviation of the training split; a constant column becomes 0. */
static void standardize(qt_table *b)
{
    for (int64_t k = 0; k < b->width; k++) {
        const R *x    = b->x[QT_TRAIN] + k;
        double   mean = 0, var = 0, n = (double)b->n[QT_TRAIN];
        for (int64_t i = 0; i < b->n[QT_TRAIN]; i++) mean += (double)x[i * b->width] / n;
        for (int64_t i = 0; i < b->n[QT_TRAIN]; i++) var += ((double)x[i * b->width] - mean) * ((double)x[i * b->width] - mean) / n;
        for (int s = 0; s < QT_SPLITS; s++)
            for (int64_t i = 0; i < b->n[s]; i++) {
                R *v = &b->x[s][i * b->width + k];
                *v   = (R)(((double)*v - mean) / (var > 0 ? sqrt(var) : 1));
            }
    }
}

static qt_err load(const csv_cfg *c, csv_rows f[2], char ***name, qt_table *b, qt_data_info *info)
{
    int n = 0;
    QT_TRY(info_of(c, info));
    QT_TRY(read_rows(c->path, c, &f[0]));
    if (c->test_path) QT_TRY(read_rows(c->test_path, c, &f[1]));
    b->width = info->dim[0] = f[0].width, b->target_n = info->target_n;
    if (!b->target_n) QT_TRY(name_classes(&f[0], name, &n));
    QT_TRY(fill(b, c, f, *name, n, info->classes));
    if (!b->target_n) QT_TRY(qt_table_classes(b, (const char *const[]){c->path, c->path, c->test_path ? c->test_path : c->path}, &info->classes));
    if (c->standardize) standardize(b);
    return QT_OK;
}

static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    csv_rows  f[2] = {0};
    char    **name = NULL;
    qt_table *b    = *state = qt_alloc(sizeof *b);
    qt_err    e    = b ? load(cfg, f, &name, b, info) : QT_EMEM;
    (void)seed;
    free_rows(&f[0]), free_rows(&f[1]), qt_free(name);
    if (e == QT_OK) return QT_OK;
    qt_table_close(b);
    *state = NULL;
    return e;
}

const qt_dataset qt_dataset_csv = {
    .d     = {"csv", "your table of numbers as text, one sample a line", NULL, fields, sizeof(csv_cfg)},
    .info  = info_of,
    .open  = begin,
    .size  = qt_table_size,
    .get   = qt_table_get,
    .close = qt_table_close,
    .where = "your file (path)"};
