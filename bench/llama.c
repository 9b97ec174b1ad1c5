/* llama.c: llama.cpp behind the line protocol of engine.c: bench/peers compiles it against the library that
 * llama-cpp-python installed.
 *
 *   llama MODEL THREADS CONTEXT FLASH REPACK      FLASH: -1 its choice, 0, 1; REPACK: 1 its default, 0
 *   llama MODEL THREADS first REPACK < ids        one token after these ids, in a process that starts cold
 *
 *   run P N      as engine.c */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "llama.h"

enum { BATCH = 512 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void silent(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR)
        fputs(text, stderr);
}

static llama_token best_of(struct llama_context *ctx, int vocab) {
    const float *p = llama_get_logits(ctx);
    int best = 0;
    for (int i = 1; i < vocab; i++)
        if (p[i] > p[best])
            best = i;
    return best;
}

static bool eat(struct llama_context *ctx, llama_token *ids, int n) {
    for (int i = 0; i < n; i += BATCH)
        if (llama_decode(ctx, llama_batch_get_one(ids + i, n - i < BATCH ? n - i : BATCH)))
            return false;
    return true;
}

static int first_token(struct llama_context *ctx, const struct llama_vocab *vocab) {
    llama_token ids[BATCH];
    char text[64];
    int n = 0;
    while (n < BATCH && scanf("%d", &ids[n]) == 1)
        n++;
    if (!eat(ctx, ids, n))
        return 1;
    int len =
        llama_token_to_piece(vocab, best_of(ctx, llama_vocab_n_tokens(vocab)), text, sizeof text, 0, true);
    fwrite(text, 1, len > 0 ? (size_t)len : 0, stdout);
    fflush(stdout);
    return 0;
}

static void run(struct llama_context *ctx, llama_token *ids, int prompt, int tokens, int vocab) {
    llama_memory_clear(llama_get_memory(ctx), false);
    double start = now();
    long sum = 0;
    bool well = eat(ctx, ids, prompt);
    sum += well ? best_of(ctx, vocab) : 0;
    double middle = now();
    for (int i = 0; well && i < tokens; i++) {
        well = eat(ctx, ids + prompt + i, 1);
        sum += well ? best_of(ctx, vocab) : 0;
    }
    double end = now();
    if (!well)
        exit(1);
    printf("{\"prefill_s\":%.6f,\"decode_s\":%.6f,\"sum\":%ld}\n", middle - start, end - middle, sum);
    fflush(stdout);
}

int main(int argc, char **argv) {
    bool first = argc == 5 && !strcmp(argv[3], "first");
    int prompt, tokens;
    if (argc != 6 && !first)
        return 2;
    int context = first ? BATCH : atoi(argv[3]);
    llama_log_set(silent, NULL);
    llama_backend_init();
    struct llama_model_params mp = llama_model_default_params();
    mp.use_extra_bufts = atoi(argv[argc - 1]) != 0;
    struct llama_model *model = llama_model_load_from_file(argv[1], mp);
    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx = (uint32_t)context;
    cp.n_batch = cp.n_ubatch = BATCH;
    cp.n_threads = cp.n_threads_batch = atoi(argv[2]);
    cp.flash_attn_type = first ? LLAMA_FLASH_ATTN_TYPE_AUTO : (enum llama_flash_attn_type)atoi(argv[4]);
    struct llama_context *ctx = model ? llama_init_from_model(model, cp) : NULL;
    if (!ctx)
        return 1;
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    if (first)
        return first_token(ctx, vocab);
    llama_token *ids = malloc((size_t)context * sizeof *ids);
    for (int i = 0; ids && i < context; i++)
        ids[i] = (llama_token)((long)i * 7919 % 9000 + 100);
    printf("{\"system\":\"%s\"}\n", llama_print_system_info());
    fflush(stdout);
    while (ids && scanf(" run %d %d", &prompt, &tokens) == 2 && prompt + tokens <= context)
        run(ctx, ids, prompt, tokens, llama_vocab_n_tokens(vocab));
    free(ids);
    llama_free(ctx);
    llama_model_free(model);
    return 0;
}
