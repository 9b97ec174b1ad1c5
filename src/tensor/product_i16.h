/* product_i16.h: the products of product.h in int16. */
#ifndef TENSOR_PRODUCT_I16_H
#define TENSOR_PRODUCT_I16_H
#include "kern/kern.h"
#include "tensor/tensor.h"

void product_i16_nt(struct ops *o, float *y, size_t ldy, const float *x, size_t ldx, const struct matrix *w,
                    int T, bool add);
void product_i16_nn(struct ops *o, float *y, size_t ldy, const float *x, size_t ldx, const struct matrix *w,
                    int T, bool add);
size_t product_i16_scratch(int T, int threads);
#endif
