/* Splits and windows of a text: see textset.h. A part of n tokens has ceil((n - 1) / T) windows of T, and window i begins at token i T. In
 * training all windows of an epoch are moved by an offset of 0..T-1 that is the epoch's own, and the last ones back by what is missing, so
 * that a model does not see the same cuts in each epoch. In evaluation every token but the first is the target of one window; where the last
 * window is longer than the text, what is beyond does not count. A window sees nothing of the one before it. */
#include "textset.h"
#include "paths.h"
#include <string.h>

qt_err qt_text_check_paths(const qt_text_cfg *c)
{
    QT_TRY(qt_paths_check(c->path, "path"));
    QT_TRY(qt_paths_check(c->val_path, "val_path"));
    return qt_paths_check(c->test_path, "test_path");
}

qt_err qt_text_info(const qt_text_cfg *c, qt_data_info *info)
{
    bool    bytes = !strcmp(c->tokens, "bytes");
    int64_t ids = bytes ? 256 : c->vocab > 0 ? c->vocab : 0;
    *info = (qt_data_info){.rank = 1, .dim = {c->seq_len}, .classes = ids ? ids : -1, .ids = ids, .known = ids > 0};
    QT_CHECK(!bytes || c->vocab < 0 || c->vocab == 256, QT_ERECIPE, "data.vocab: %lld, but there are 256 bytes", (long long)c->vocab);
    QT_CHECK(c->vocab != 0, QT_ERECIPE, "data.vocab: 0 tokens");
    QT_CHECK(c->test_fraction + c->val_fraction < 1, QT_ERECIPE, "data: test_fraction %g and val_fraction %g leave nothing to train on",
             c->test_fraction, c->val_fraction);
    return QT_OK;
}

qt_err qt_text_known(const qt_text_cfg *c, const qt_vocab *v, qt_data_info *info)
{
    QT_TRY(qt_text_info(c, info));
    info->ids = info->classes = v->bpe ? qt_bpe_vocab(v->bpe) : QT_BPE_BYTES;
    QT_CHECK(!v->bpe || c->vocab < 0 || c->vocab == info->ids, QT_EDATA, "%s: a vocabulary of %lld tokens, expected %lld (data.vocab)", v->file,
             (long long)info->ids, (long long)c->vocab);
    return QT_OK;
}

/* ---- splits -------------------------------------------------------------------------------------------------------------------------- */

/* Where the last `tokens` of [begin, end) begin: at the next document, if one begins there. */
static int64_t cut(const qt_tokens *t, int64_t begin, int64_t end, double tokens)
{
    int64_t at = end - (int64_t)tokens;
    int32_t id = 1;
    if (at <= begin || at >= end) return at;
    for (int64_t i = at - 1; i < end - 1; i++) {
        qt_tokens_copy(t, i, 1, &id);
        if (!id) return i + 1;
    }
    return at;
}

static qt_err check_part(const qt_textset *s, qt_split k, const char *name)
{
    static const char *const split[] = {"train", "val", "test"};
    const qt_text_part      *p = &s->part[k];
    int64_t                  least = k == QT_TRAIN ? s->seq_len + 1 : 2;
    QT_CHECK(p->n || !p->tokens, QT_EDATA, "%s: empty", name);
    QT_CHECK(p->n >= least || !p->tokens, QT_EDATA, "%s: %lld tokens for the split '%s', but %s", name, (long long)p->n, split[k],
             k == QT_TRAIN ? "a window takes seq_len + 1; use a smaller data.seq_len or more text" : "it takes two at least");
    return QT_OK;
}

qt_err qt_text_cut(qt_textset *s, const qt_text_cfg *c, const char *name, int64_t begin, int64_t end)
{
    const qt_tokens *t = &s->tokens[QT_TRAIN];
    double           share[] = {0, c->val_fraction, c->test_fraction}, n = (double)(end - begin);
    s->seq_len = c->seq_len;
    QT_CHECK(end > begin, QT_EDATA, "%s: empty", name);
    for (int k = QT_TEST; k > QT_TRAIN; k--) {
        int64_t at = s->tokens[k].p ? end : cut(t, begin, end, share[k] * n);
        if (s->tokens[k].p) s->part[k] = (qt_text_part){&s->tokens[k], 0, s->tokens[k].n};
        else if (share[k] > 0) s->part[k] = (qt_text_part){t, at, end - at}, end = at;
    }
    s->part[QT_TRAIN] = (qt_text_part){t, begin, end - begin};
    for (int k = 0; k < QT_SPLITS; k++) QT_TRY(check_part(s, k, name));
    return QT_OK;
}

/* ---- windows ------------------------------------------------------------------------------------------------------------------------- */

int64_t qt_text_size(const void *state, qt_split k)
{
    const qt_textset *s = state;
    return s->part[k].n > 1 ? (s->part[k].n - 2) / s->seq_len + 1 : 0;
}

qt_err qt_text_tokens(void *state, qt_split k, int64_t i, qt_rng *draw, int32_t *x, int32_t *y)
{
    const qt_textset   *s = state;
    const qt_text_part *p = &s->part[k];
    int64_t             T = s->seq_len, at = i * T, last = p->n - 1 - T, n = T;
    if (draw) at += (int64_t)(qt_rng_u32_at(draw, UINT64_MAX) % (uint64_t)T);
    if (draw && last >= 0) at = at < last ? at : last;
    if (at > last) n = p->n - 1 - at;
    qt_tokens_copy(p->tokens, p->begin + at, n, x);
    qt_tokens_copy(p->tokens, p->begin + at + 1, n, y);
    for (int64_t j = n; j < T; j++) x[j] = 0, y[j] = QT_IGNORE;
    return QT_OK;
}

void qt_text_close(void *state)
{
    qt_textset *s = state;
    for (int k = 0; k < QT_SPLITS; k++) qt_tokens_close(&s->tokens[k]);
    qt_vocab_close(&s->vocab);
    qt_free(s);
}
