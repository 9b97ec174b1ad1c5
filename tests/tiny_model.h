/* tiny_model.h: writes a small random GGUF model that is valid in every respect: tests of the model, of
 * training and of the command line run on it in milliseconds. The same spec gives the same bytes. */
#ifndef TESTS_TINY_MODEL_H
#define TESTS_TINY_MODEL_H
#include "tensor/tensor.h"

/* Zeros are the defaults in brackets. */
struct tiny_model {
    /* "llama" (tied head, q and k rotated in pairs), "qwen2" (biases, own head), "qwen3" (normed heads wider
     * than width / heads, own head) or "gemma3" (the same and post norms, GELU, a window of 8 tokens in each
     * second layer, stretched positions in the others, tied head) ["llama"] */
    const char *arch;
    int type; /* of every matrix: a dtype that can be written [DT_F32] */
    uint64_t seed;
    int width, layers, heads, kv_heads, ffn, context; /* [64 2 4 2 96 256] */
    const char *template;                             /* chat template; "" for none [ChatML] */
};

/* The vocabulary has 256 bytes, a few dozen merges ("the", "ing", " and" ...), <|endoftext|>, <|im_start|>
 * and
 * <|im_end|>: tiny_model_vocab tokens. Control ids stand first in llama, last in qwen2. */
int tiny_model_vocab(void);
plm_status tiny_model_write(const char *path, const struct tiny_model *spec, plm_error *err);
#endif
