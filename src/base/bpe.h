/* Byte pair encoding on bytes (Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword units", ACL 2016; on bytes:
 * Radford et al., "Language models are unsupervised multitask learners", 2019). Tokens 0..255 are the bytes; token 256 + k is merge k, two
 * earlier tokens joined. Token 0, the zero byte, ends a document and is part of no other token.
 *
 * A text is first cut into words, and no merge crosses their ends. The rule is that of GPT-2 and of llama.cpp's pre-tokenizer `gpt-2`, in its order:
 *   1. a zero byte is a word; what follows is cut as if a new text began, and what precedes as if the text ended there
 *   2. 's 't 're 've 'm 'll 'd
 *   3. letters, with one space before them if there is one: general category L of Unicode
 *   4. digits, likewise: category N
 *   5. other characters, likewise: all but letters, digits and white space (property White_Space)
 *   6. white space up to the end of the text; before something else, all of it but the last character, or that one if it is alone
 * Kinds of characters are those of Unicode 15.1; a byte that is not UTF-8 counts as another character.
 *
 * Encoding takes the bytes of a word and joins, as long as two neighbours have a merge, those of the earliest merge, the leftmost first. */
#ifndef QT_BASE_BPE_H
#define QT_BASE_BPE_H
#include "base/err.h"

enum { QT_BPE_BYTES = 256, QT_BPE_MAX_VOCAB = 1 << 20, QT_BPE_MAX_TOKEN = 256 };

typedef struct qt_bpe qt_bpe;

/* The vocabulary of a file that qt_bpe_save wrote. QT_EDATA with the line where it is damaged. */
qt_err  qt_bpe_load(const char *file, qt_bpe **out);
qt_err  qt_bpe_save(const qt_bpe *b, const char *file);
/* The vocabulary of these merges, n of them: left, right, left, right ... `name` stands in messages. */
qt_err  qt_bpe_make(const char *name, int64_t n, const int32_t *merge, qt_bpe **out);
void    qt_bpe_free(qt_bpe *b);
int64_t qt_bpe_vocab(const qt_bpe *b); /* 256 + merges */
/* The two tokens that merge k joins. */
void    qt_bpe_merge(const qt_bpe *b, int64_t k, int32_t *left, int32_t *right);
/* The bytes of a token, n of them. Not a string: a zero byte may be among them, and none follows. */
const uint8_t *qt_bpe_token(const qt_bpe *b, int32_t id, size_t *n);

/* Length of the first word of text[0..n), n > 0. */
size_t  qt_bpe_word(const char *text, size_t n);
/* The tokens of a text; ids has room for n. Any bytes are a text. */
qt_err  qt_bpe_encode(const qt_bpe *b, const char *text, size_t n, int32_t *ids, int64_t *count);
/* The bytes of tokens, with a zero after them (free with qt_free). QT_EDATA for an id that is not in the vocabulary. */
qt_err  qt_bpe_decode(const qt_bpe *b, const int32_t *ids, int64_t count, char **text, size_t *n);

/* An encoder keeps the words that it has seen: for texts that come in pieces, which are cut before a word's first byte. */
typedef struct qt_bpe_encoder qt_bpe_encoder;
qt_err  qt_bpe_encoder_new(const qt_bpe *b, qt_bpe_encoder **out);
void    qt_bpe_encoder_free(qt_bpe_encoder *e);
/* As qt_bpe_encode, for many texts. */
qt_err  qt_bpe_encode_text(qt_bpe_encoder *e, const char *text, size_t n, int32_t *ids, int64_t *count);
/* The tokens of one word; they are the encoder's, until the next call. */
qt_err  qt_bpe_encode_word(qt_bpe_encoder *e, const char *word, size_t n, const int32_t **ids, int64_t *count);

/* ---- bpe_train.c ---------------------------------------------------------------------------------------------------------------------- */

/* The words of texts, counted. */
typedef struct qt_bpe_words qt_bpe_words;
qt_err  qt_bpe_words_new(qt_bpe_words **out);
qt_err  qt_bpe_count(qt_bpe_words *w, const char *text, size_t n);
void    qt_bpe_words_free(qt_bpe_words *w);
/* The vocabulary of that size: again and again, the two neighbours that occur most often become a token; of those that occur equally often,
 * the ones with the lower left token, then with the lower right one. QT_EUSAGE if the words do not support so many tokens. */
qt_err  qt_bpe_train(const qt_bpe_words *w, int64_t vocab, qt_bpe **out);
#endif
