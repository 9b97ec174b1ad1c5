/* linear_q8.h: linear layers on int8 activations. */
#ifndef TENSOR_LINEAR_Q8_H
#define TENSOR_LINEAR_Q8_H
#include "tensor/lora_few.h"

enum { MOST = 4 }; /* matrices over the same input */

/* Whether o computes w with int8: asked for, and the format is of integers. */
bool q8_takes(const struct ops *o, const struct matrix *w);
/* T rows of x, quantised into scratch. */
struct q8_rows q8_prepare(struct ops *o, const float *x, int T, int k);
/* y[i] = x w[i]^T + bias[i] for n matrices that q8_takes, over the same x; ldy[i] floats from row to row.
 * few adds to them what adapters make of x; to it matrix i is the layer nth[i]. */
void q8_linear(struct ops *o, float *const *y, const int *ldy, const struct q8_rows *x,
               const struct matrix *const *w, const float *const *bias, const int *nth, int n, int T,
               struct lora_few *few);
size_t q8_scratch(int T, int width, int threads);
#endif
