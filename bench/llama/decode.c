/* Decoding by an unmodified llama.cpp, one token after the other, with one or more threads: generate.py times it.
 *
 *     decode LIBDIR FILE.gguf THREADS TOKENS
 *
 * Which token comes does not matter for the time; they go round the vocabulary. The libraries are opened as the oracle of the tests opens them. */
#define main oracle
#include "../../tests/oracle/llama.c"
#undef main

static void decode(void *context, int tokens, int vocabulary)
{
    batch b = CALL(batch, library, llama_batch_init, int32_t, int32_t, int32_t)(1, 0, 1);
    b.n_tokens = 1, b.n_seq_id[0] = 1, b.seq_id[0][0] = 0, b.logits[0] = 1;
    for (int i = 0; i < tokens; i++) {
        b.token[0] = 1 + i % (vocabulary - 1), b.pos[0] = i;
        if (CALL(int32_t, library, llama_decode, void *, batch)(context, b)) fail("llama_decode", "failed");
        if (!CALL(float *, library, llama_get_logits_ith, void *, int32_t)(context, 0)) fail("llama_decode", "gave no logits");
    }
    CALL(void, library, llama_batch_free, batch)(b);
}

int main(int argc, char **argv)
{
    if (argc != 5) fail("usage: decode", "LIBDIR FILE.gguf THREADS TOKENS");
    int threads = atoi(argv[3]), tokens = atoi(argv[4]);
    ggml = open_library(argv[1], "libggml.*so*"), library = open_library(argv[1], "libllama.*so*");
    CALL(void, library, llama_log_set, void (*)(int, const char *, void *), void *)(print_errors, NULL);
    load_kernels(argv[1]);
    CALL(void, library, llama_backend_init, void)();
    void *model = load(argv[2]), *context = make_context(model, tokens, 0);
    CALL(void, library, llama_set_n_threads, void *, int32_t, int32_t)(context, threads, threads);
    decode(context, tokens, CALL(int32_t, library, llama_vocab_n_tokens, const void *)(CALL(void *, library, llama_model_get_vocab, void *)(model)));
    return 0;
}
