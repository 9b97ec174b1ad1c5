/* scratch.c: how much memory any one operation needs, so that an arena can be sized once. */
#include "tensor/attention.h"
#include "tensor/linear_q8.h"
#include "tensor/loss.h"
#include "tensor/product.h"
#include "tensor/product_i16.h"

size_t ops_scratch(int T, int width, int threads) {
    size_t t = (size_t)T, w = (size_t)width, n = (size_t)threads, f = sizeof(float);
    if (w < 256)
        w = 256;
    size_t product = arena_need(t, 1536 * 2) + arena_need((1 << 19) + 64 * 1536, f) +
                     arena_need(1024 + 64, 1024 * f) + arena_need(n, (16 * 256 + 2 * 1024) * f);
    if (product < product_i16_scratch(T, threads))
        product = product_i16_scratch(T, threads);
    size_t q8 = q8_scratch(T, width, threads);
    if (product < q8)
        product = q8;
    size_t rows = arena_need(t + 64, 2 * w * f); // prepared activations, their copies, LoRA's products
    size_t worker = arena_need(n, (4 * 64 * w + 64 * 256) * f); // panels, attention's tiles
    return product + rows + worker + LOSS_BYTES + 64 * w * f + ATTENTION_BYTES + (64 << 10);
}
