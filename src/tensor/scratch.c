/* scratch.c: how much memory any one operation needs, so that an arena can be sized once. */
#include "tensor/attention.h"
#include "tensor/linear_q8.h"
#include "tensor/loss.h"
#include "tensor/product.h"
#include "tensor/product_i16.h"

/* Of a product over panels, in whichever form: activations, then panels of rows or of columns. */
static size_t product_scratch(int T, int threads) {
    size_t f = sizeof(float), rows = arena_need((1 << 19) + 64 * 1536, f),
           columns = arena_need(1024 + 64, 1024 * f), half = arena_need((size_t)T, 1536 * sizeof(uint16_t));
    size_t floats =
        half + (rows > columns ? rows : columns) + arena_need((size_t)threads, (16 * 256 + 2 * 1024) * f);
    size_t ints = product_i16_scratch(T, threads);
    return floats > ints ? floats : ints;
}

static size_t attention_scratch(int width, int threads) {
    return arena_need((size_t)threads, (4 * 64 * (size_t)width + 64 * 256) * sizeof(float)) + ATTENTION_BYTES;
}

enum { SLACK = 64 << 10 };

size_t ops_layer_scratch(int T, int width, int rank, int heads, int threads) {
    size_t f = sizeof(float), t = (size_t)T, r = (size_t)rank;
    size_t lora = arena_need(t, r * f) + arena_need(r, (size_t)width * f) + product_scratch(T, threads);
    size_t attention = attention_scratch(width, threads) + arena_need(t, (size_t)heads * f);
    return (lora > attention ? lora : attention) + SLACK;
}

size_t ops_loss_scratch(int T, int width, int vocab, int threads) {
    size_t f = sizeof(float), n = loss_tokens(T, vocab);
    return arena_need((size_t)T, sizeof(int32_t)) + arena_need(n, (size_t)width * f) +
           arena_need(n, (size_t)vocab * f) + product_scratch((int)n, threads) + SLACK;
}

size_t ops_scratch(int T, int width, int threads) {
    size_t t = (size_t)T, w = (size_t)width, f = sizeof(float);
    if (w < 256)
        w = 256;
    size_t product = product_scratch(T, threads);
    size_t q8 = q8_scratch(T, width, threads);
    if (product < q8)
        product = q8;
    size_t rows = arena_need(t + 64, 2 * w * f); // prepared activations, their copies, LoRA's products
    return product + rows + attention_scratch((int)w, threads) + LOSS_BYTES + 64 * w * f + SLACK;
}
