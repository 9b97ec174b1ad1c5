/* product.h: matrix products over panels, threaded. What linear layers, LoRA and the loss are made of. */
#ifndef TENSOR_PRODUCT_H
#define TENSOR_PRODUCT_H
#include "kern/kern.h"
#include "tensor/tensor.h"

/* Sixteen bits into the products, bf16 or int16 by what the CPU has; else f32. */
bool product_half(const struct ops *o);
/* y [T, ldy] (+)= x [T, ldx] W^T */
void product_nt(struct ops *o, float *y, size_t ldy, const float *x, size_t ldx, const struct matrix *w,
                int T, bool half, bool add);
/* y [T, ldy] (+)= x [T, ldx] W */
void product_nn(struct ops *o, float *y, size_t ldy, const float *x, size_t ldx, const struct matrix *w,
                int T, bool half, bool add);
/* y [m, n] (+)= a^T b for a [T, m], b [T, n] in f32 */
void product_tn(struct ops *o, float *y, const float *a, const float *b, int T, int m, int n, bool add);

/* fn over [0, n), on this thread alone where the whole work is small. */
void run(struct ops *o, size_t n, size_t grain, bool small, pool_fn fn, void *ctx);
/* When an op began, and that it ended. Nothing without a profile. */
static inline double op_began(const struct ops *o) {
    return o->profile ? clock_now() : 0;
}
void op_ended(struct ops *o, enum op_kind kind, double began, double operations);
/* Of n matrices with T tokens, at the first one's place. */
void op_ended_linear(struct ops *o, enum op_kind kind, double began, const struct matrix *const *w, int n,
                     int T);
/* Scratch of o, which ops_scratch promised to hold. */
void *take(struct ops *o, size_t n, size_t size);
#endif
