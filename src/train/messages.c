/* The errors of a recipe. It is read several times, once an arm, and by several readers that each know their section; what the user sees
 * is one list, without repetitions, in the order of the file. */
#include "base/scan.h"
#include "train/train.h"
#include <stdlib.h>
#include <string.h>

typedef struct message {
    const char *line, *file;
    size_t      n, file_n;
    int64_t     row, col;
    int         rank, at; /* rank of the file: by first appearance */
} message;

/* The lines of text. NULL when memory is out. */
static message *split(const char *text, int *n)
{
    message *m = NULL;
    int      cap = 0;
    *n = 0;
    for (const char *s = text; *s;) {
        size_t len = strcspn(s, "\n");
        if (qt_grow(&m, &cap, *n + 1, sizeof *m)) return qt_free(m), NULL;
        m[*n] = (message){.line = s, .n = len, .at = *n, .rank = 1 << 30};
        if ((m[*n].file_n = qt_scan_place(s, len, &m[*n].row, &m[*n].col))) m[*n].file = s, m[*n].rank = *n;
        for (int i = 0; i < *n && m[*n].file; i++)
            if (m[i].file && m[i].file_n == m[*n].file_n && !strncmp(m[i].file, m[*n].file, m[i].file_n)) {
                m[*n].rank = m[i].rank;
                break;
            }
        ++*n, s += len + (s[len] == '\n');
    }
    return m;
}

static bool same_line(const message *a, const message *b) { return a->n == b->n && !strncmp(a->line, b->line, a->n); }

/* Has another arm said so already? */
static bool told(const message *old, const message *m)
{
    return old->n > m->n && !strncmp(old->line, m->line, m->n) && !strncmp(old->line + m->n, " (arm '", 7);
}

static bool same_place(const message *a, const message *b)
{
    return a->file && b->file && a->row == b->row && a->col == b->col && a->file_n == b->file_n && !strncmp(a->file, b->file, a->file_n);
}

static void give(const message *m, const char *arm)
{
    if (arm) qt_fail(QT_OK, "%.*s (arm '%s')", (int)m->n, m->line, arm);
    else qt_fail(QT_OK, "%.*s", (int)m->n, m->line);
}

void qt_messages_merge(char *before, bool places, const char *arm)
{
    char    *now = qt_error_take();
    int      n_old = 0, n_new = 0;
    message *old = split(before ? before : "", &n_old), *fresh = split(now ? now : "", &n_new);
    for (int i = 0; i < n_old; i++) give(&old[i], NULL);
    for (int i = 0; i < n_new; i++) {
        bool known = false;
        for (int k = 0; k < n_old; k++) known |= same_line(&old[k], &fresh[i]) || told(&old[k], &fresh[i]) || (places && same_place(&old[k], &fresh[i]));
        if (!known) give(&fresh[i], arm);
    }
    qt_free(old), qt_free(fresh), qt_free(before), qt_free(now);
}

static int by_place(const void *a, const void *b)
{
    const message *x = a, *y = b;
    int            d = x->rank != y->rank ? x->rank - y->rank : x->row != y->row ? (int)(x->row - y->row) : (int)(x->col - y->col);
    return d ? d : x->at - y->at;
}

void qt_messages_sort(void)
{
    char    *text = qt_error_take();
    int      n = 0;
    message *m = split(text ? text : "", &n);
    if (n) qsort(m, (size_t)n, sizeof *m, by_place);
    for (int i = 0; i < n; i++) give(&m[i], NULL);
    qt_free(m), qt_free(text);
}
