/* The tokenizer of a GGUF file, model "gpt2" of ggml: a vocabulary of strings in which each byte is one character, and merges of them. Bytes that
 * print in Latin-1 are their own character; the others, in order, are those from U+0100 on. The ids are those that the model was trained with:
 *     0                 <|endoftext|>, a control token. The zero byte ends a document and stands for nothing else, so it needs no character
 *     1 .. 255          the bytes
 *     256 ..            the merges of a vocabulary of byte pairs, in their order; its words are those of the pre-tokenizer "gpt-2"
 * and unused tokens up to the rows of the embedding. No row is added, so logits are those of training, for all ids. */
#include "export/lm.h"
#include <string.h>

enum { NORMAL = 1, CONTROL = 3, UNUSED = 5 };

/* The character of a byte, as UTF-8 of one or two bytes. */
static int put_byte(char *s, int b)
{
    const bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    /* 0..32, 127..160 and 173 have no character that prints */
    const int c = plain ? b : b <= 32 ? 256 + b : b <= 160 ? 256 + b - 94 : 256 + 67;
    if (c < 128) return s[0] = (char)c, 1;
    return s[0] = (char)(0xc0 | c >> 6), s[1] = (char)(0x80 | (c & 63)), 2;
}

static const char *spell(qt_arena *a, const uint8_t *p, size_t n)
{
    char *s = qt_arena_alloc(a, 2 * n + 1), *at = s;
    for (size_t i = 0; s && i < n; i++) at += put_byte(at, p[i]);
    return s ? (*at = 0, s) : NULL;
}

static const char *token(qt_arena *a, const qt_bpe *b, int64_t i, int32_t *kind)
{
    const uint8_t byte = (uint8_t)i, *p = &byte;
    size_t        n = 1;
    *kind = i ? NORMAL : CONTROL;
    if (!i) return "<|endoftext|>";
    if (i >= QT_BPE_BYTES && (!b || i >= qt_bpe_vocab(b))) return *kind = UNUSED, qt_arena_sprintf(a, "<unused %lld>", (long long)i);
    if (i >= QT_BPE_BYTES) p = qt_bpe_token(b, (int32_t)i, &n);
    return spell(a, p, n);
}

static qt_err put_tokens(qt_arena *a, const qt_bpe *b, int64_t vocab, qt_gguf_out *o)
{
    const char **text = qt_arena_alloc(a, (size_t)vocab * sizeof *text);
    int32_t     *kind = qt_arena_alloc(a, (size_t)vocab * sizeof *kind);
    if (!text || !kind) return QT_EMEM;
    for (int64_t i = 0; i < vocab; i++)
        if (!(text[i] = token(a, b, i, &kind[i]))) return QT_EMEM;
    qt_gguf_put_strs(o, "tokenizer.ggml.tokens", vocab, text);
    qt_gguf_put_i32s(o, "tokenizer.ggml.token_type", vocab, kind);
    return QT_OK;
}

static const char *merge(qt_arena *a, const qt_bpe *b, int64_t k)
{
    int32_t id[2];
    size_t  n[2];
    qt_bpe_merge(b, k, &id[0], &id[1]);
    const uint8_t *p[2] = {qt_bpe_token(b, id[0], &n[0]), qt_bpe_token(b, id[1], &n[1])};
    const char    *left = spell(a, p[0], n[0]), *right = spell(a, p[1], n[1]);
    return left && right ? qt_arena_sprintf(a, "%s %s", left, right) : NULL;
}

static qt_err put_merges(qt_arena *a, const qt_bpe *b, qt_gguf_out *o)
{
    const int64_t n = b ? qt_bpe_vocab(b) - QT_BPE_BYTES : 0;
    const char  **text = qt_arena_alloc(a, (size_t)(n + 1) * sizeof *text);
    if (!text) return QT_EMEM;
    for (int64_t k = 0; k < n; k++)
        if (!(text[k] = merge(a, b, k))) return QT_EMEM;
    qt_gguf_put_strs(o, "tokenizer.ggml.merges", n, text);
    return QT_OK;
}

static qt_err put_all(qt_arena *a, const qt_bpe *b, int64_t vocab, qt_gguf_out *o)
{
    qt_gguf_put_str(o, "tokenizer.ggml.model", "gpt2");
    qt_gguf_put_str(o, "tokenizer.ggml.pre", "gpt-2");
    QT_TRY(put_tokens(a, b, vocab, o));
    QT_TRY(put_merges(a, b, o));
    qt_gguf_put_u32(o, "tokenizer.ggml.bos_token_id", 0);
    qt_gguf_put_u32(o, "tokenizer.ggml.eos_token_id", 0);
    qt_gguf_put_bool(o, "tokenizer.ggml.add_bos_token", false);
    qt_gguf_put_bool(o, "tokenizer.ggml.add_space_prefix", false);
    return QT_OK;
}

qt_err qt_lm_put_vocab(qt_arena *a, const qt_yaml *data, int64_t vocab, qt_gguf_out *o)
{
    const qt_yaml *tokens = qt_yaml_get(data, "tokens");
    const char    *file = "bytes";
    qt_bpe        *b = NULL;
    if (!tokens) tokens = qt_yaml_get(qt_yaml_get(data, "train"), "tokens");
    if (tokens) qt_yaml_str(tokens, &file);
    if (strcmp(file, "bytes")) QT_TRY(qt_bpe_load(file, &b));
    const int64_t least = b ? qt_bpe_vocab(b) : QT_BPE_BYTES;
    qt_err        e = vocab >= least ? put_all(a, b, vocab, o)
                                     : qt_fail(QT_EUSAGE, "gguf: the model has %lld tokens, and the data have %lld", (long long)vocab, (long long)least);
    qt_bpe_free(b);
    return e;
}
