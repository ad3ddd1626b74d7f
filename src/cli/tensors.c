/* Tables of what is in a file of tensors, as text and as JSON. Long arrays and strings of the metadata are abbreviated. */
#include "cli/tensors.h"
#include "base/gguf.h"
#include "base/json.h"
#include "base/safetensors.h"
#include <math.h>
#include <string.h>

enum { ELEMENTS_SHOWN = 8, CHARACTERS_SHOWN = 100, NAME_WIDTH = 40 };

/* ---- what both share ------------------------------------------------------------------------------------------------------------- */

/* One tensor, as both formats have it. */
typedef struct line {
    const char    *name, *type;
    int            rank;
    const int64_t *dim;
    int64_t        n, bytes;
} line;

typedef struct totals {
    int64_t tensors, numbers, bytes;
} totals;

/* "12.3 M", "1.2 MiB": three digits that count. */
static const char *short_number(char text[static 32], double v, double step, const char *const *unit)
{
    int k = 0;
    while (v >= 999.5 && unit[k + 1]) v /= step, k++;
    snprintf(text, 32, k && v < 99.95 ? "%.3g %s" : "%.0f %s", v, unit[k]);
    return text;
}

static const char *count_text(char text[static 32], int64_t n)
{
    return short_number(text, (double)n, 1000, (const char *const[]){"numbers", "thousand numbers", "million numbers", "billion numbers", NULL});
}

static const char *bytes_text(char text[static 32], int64_t n)
{
    return short_number(text, (double)n, 1024, (const char *const[]){"bytes", "KiB", "MiB", "GiB", NULL});
}

static double bits_of(int64_t bytes, int64_t n) { return n ? 8 * (double)bytes / (double)n : 0; }

static void print_str(const char *s) { qt_json_print(stdout, s, strlen(s)); }

static void print_dims(int rank, const int64_t *dim)
{
    putchar('[');
    for (int d = 0; d < rank; d++) printf("%s%lld", d ? ", " : "", (long long)dim[d]);
    putchar(']');
}

/* Name without control characters, then blanks up to a column. */
static void print_name(const char *s)
{
    int width = 0;
    for (; *s; s++, width += (*s & 0xc0) != 0x80) putchar((unsigned char)*s < 32 || *s == 127 ? '?' : *s);
    printf("%*s ", width < NAME_WIDTH ? NAME_WIDTH - width : 0, "");
}

static void print_tensor(const line *l, bool json, bool first)
{
    char shape[128] = "";
    int  n = 0;
    if (json) {
        printf("%s{\"name\": ", first ? "" : ",\n  ");
        print_str(l->name);
        printf(", \"type\": \"%s\", \"shape\": ", l->type);
        print_dims(l->rank, l->dim);
        printf(", \"bytes\": %lld, \"bits_per_number\": %.6g}", (long long)l->bytes, bits_of(l->bytes, l->n));
        return;
    }
    for (int d = 0; d < l->rank; d++) n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%lld", d ? ", " : "", (long long)l->dim[d]);
    printf("  ");
    print_name(l->name);
    printf("%-7s [%s]%*s %12lld bytes  %.4g bits\n", l->type, shape, n < 16 ? 16 - n : 0, "", (long long)l->bytes, bits_of(l->bytes, l->n));
}

/* ---- GGUF ------------------------------------------------------------------------------------------------------------------------ */

static line line_of(const qt_gguf_tensor *t) { return (line){t->name, t->type->name, t->rank, t->dim, t->n, t->bytes}; }

static uint64_t u64_of(const qt_gguf_key *k, uint64_t i)
{
    uint64_t v;
    memcpy(&v, k->p + i * sizeof v, sizeof v);
    return v;
}

static void print_number(const qt_gguf_key *k, uint64_t i)
{
    const bool real = k->type == QT_GGUF_F32 || k->type == QT_GGUF_F64;
    double     v = real ? qt_gguf_number(k, i) : 0;
    if (k->type == QT_GGUF_BOOL) fputs(qt_gguf_integer(k, i) ? "true" : "false", stdout);
    else if (k->type == QT_GGUF_U64) printf("%llu", (unsigned long long)u64_of(k, i));
    else if (!real) printf("%lld", (long long)qt_gguf_integer(k, i));
    else if (isfinite(v)) printf("%.*g", k->type == QT_GGUF_F32 ? 9 : 17, v);
    else printf("\"%g\"", v); /* JSON has no such numbers */
}

/* The first elements of a value; whole: all characters of a string. */
static void print_elements(const qt_gguf_key *k, bool whole)
{
    const uint8_t *p = k->p;
    size_t         n;
    for (uint64_t i = 0; i < k->n && i < ELEMENTS_SHOWN; i++) {
        if (i) fputs(", ", stdout);
        if (k->type != QT_GGUF_STR) {
            print_number(k, i);
            continue;
        }
        const char *s = qt_gguf_next_str(&p, &n);
        qt_json_print(stdout, s, whole || n < CHARACTERS_SHOWN ? n : CHARACTERS_SHOWN);
        if (!whole && n >= CHARACTERS_SHOWN) printf("... (%zu bytes)", n);
    }
}

static void print_key(const qt_gguf_key *k)
{
    char type[48];
    if (k->array) snprintf(type, sizeof type, "%s[%llu]", qt_gguf_type_name(k->type), (unsigned long long)k->n);
    else snprintf(type, sizeof type, "%s", qt_gguf_type_name(k->type));
    printf("  ");
    print_name(k->name);
    printf("%-14s ", type);
    print_elements(k, false);
    printf("%s\n", k->n > ELEMENTS_SHOWN ? ", ..." : "");
}

static void print_key_json(const qt_gguf_key *k, bool first)
{
    printf("%s{\"name\": ", first ? "" : ",\n  ");
    print_str(k->name);
    printf(", \"type\": \"%s\"", qt_gguf_type_name(k->type));
    if (k->array) printf(", \"elements\": %llu, \"first\": [", (unsigned long long)k->n);
    else printf(", \"value\": ");
    print_elements(k, true);
    fputs(k->array ? "]}" : "}", stdout);
}

static totals totals_of(const qt_gguf *g, const qt_ggml *type)
{
    totals t = {0};
    for (int64_t i = 0; i < g->n_tensors; i++)
        if (!type || g->tensor[i].type == type) t.tensors++, t.numbers += g->tensor[i].n, t.bytes += g->tensor[i].bytes;
    return t;
}

/* One line for each type that is there. */
static void print_types(const qt_gguf *g)
{
    char count[32], bytes[32];
    for (int id = 0; id < QT_GGML_TYPES; id++) {
        const qt_ggml *type = qt_ggml_of(id);
        totals         t = totals_of(g, type);
        if (type && t.tensors)
            printf("  %-7s %lld tensor%s, %s in %s, %.4g bits a number\n", type->name, (long long)t.tensors, t.tensors == 1 ? "" : "s",
                   count_text(count, t.numbers), bytes_text(bytes, t.bytes), bits_of(t.bytes, t.numbers));
    }
}

static void print_gguf_json(const qt_gguf *g)
{
    totals all = totals_of(g, NULL);
    printf("{\"file\": ");
    print_str(g->file);
    printf(", \"format\": \"gguf\", \"version\": %u, \"alignment\": %u, \"numbers\": %lld, \"bytes\": %lld,\n \"keys\": [", g->version, g->alignment,
           (long long)all.numbers, (long long)all.bytes);
    for (int64_t i = 0; i < g->n_keys; i++) print_key_json(&g->key[i], i == 0);
    printf("],\n \"tensors\": [");
    for (int64_t i = 0; i < g->n_tensors; i++) {
        line l = line_of(&g->tensor[i]);
        print_tensor(&l, true, i == 0);
    }
    printf("]}\n");
}

static void print_gguf_text(qt_gguf *g)
{
    totals all = totals_of(g, NULL);
    char   count[32], bytes[32];
    printf("%s: GGUF, version %u, alignment %u: %lld keys; %lld tensors, %s in %s, %.4g bits a number\n", g->file, g->version, g->alignment,
           (long long)g->n_keys, (long long)g->n_tensors, count_text(count, all.numbers), bytes_text(bytes, all.bytes),
           bits_of(all.bytes, all.numbers));
    for (int64_t i = 0; i < g->n_keys; i++) print_key(&g->key[i]);
    for (int64_t i = 0; i < g->n_tensors; i++) {
        line l = line_of(&g->tensor[i]);
        print_tensor(&l, false, i == 0);
    }
    print_types(g);
}

qt_err qt_print_gguf(const char *file, bool json)
{
    qt_gguf *g;
    QT_TRY(qt_gguf_open(file, &g));
    if (json) print_gguf_json(g);
    else print_gguf_text(g);
    qt_gguf_free(g);
    return QT_OK;
}

/* ---- safetensors ----------------------------------------------------------------------------------------------------------------- */

static line safe_line_of(const qt_safe_tensor *t) { return (line){t->name, qt_safe_type_name(t->type), t->rank, t->dim, t->n, (int64_t)(t->end - t->begin)}; }

static void print_safe_json(const qt_safe *s, totals all)
{
    printf("{\"file\": ");
    print_str(s->file);
    printf(", \"format\": \"safetensors\", \"numbers\": %lld, \"bytes\": %lld,\n \"metadata\": {", (long long)all.numbers, (long long)all.bytes);
    for (int64_t i = 0; i < s->n_meta; i++) {
        fputs(i ? ", " : "", stdout), print_str(s->meta[2 * i]);
        fputs(": ", stdout), print_str(s->meta[2 * i + 1]);
    }
    printf("},\n \"tensors\": [");
    for (int64_t i = 0; i < s->n; i++) {
        line l = safe_line_of(&s->tensor[i]);
        print_tensor(&l, true, i == 0);
    }
    printf("]}\n");
}

static void print_safe_text(const qt_safe *s, totals all)
{
    char count[32], bytes[32];
    printf("%s: safetensors: %lld tensors, %s in %s, %.4g bits a number\n", s->file, (long long)s->n, count_text(count, all.numbers),
           bytes_text(bytes, all.bytes), bits_of(all.bytes, all.numbers));
    for (int64_t i = 0; i < s->n_meta; i++) {
        printf("  "), print_name(s->meta[2 * i]);
        print_str(s->meta[2 * i + 1]), putchar('\n');
    }
    for (int64_t i = 0; i < s->n; i++) {
        line l = safe_line_of(&s->tensor[i]);
        print_tensor(&l, false, i == 0);
    }
}

qt_err qt_print_safetensors(const char *file, bool json)
{
    qt_safe *s;
    totals   all = {0};
    QT_TRY(qt_safe_open(file, &s));
    for (int64_t i = 0; i < s->n; i++) all.numbers += s->tensor[i].n, all.bytes += (int64_t)(s->tensor[i].end - s->tensor[i].begin);
    if (json) print_safe_json(s, all);
    else print_safe_text(s, all);
    qt_safe_free(s);
    return QT_OK;
}
