/* lora_few.h: low-rank products beside linear layers, for few rows of inference. They have no region of their
 * own. In a region of the linear layers each thread first takes chunks of u = scale x A^T while there are
 * any, and adds u B^T to rows of the output that it has just made; until the first of these are made, u is.
 */
#ifndef TENSOR_LORA_FEW_H
#define TENSOR_LORA_FEW_H
#include <stdatomic.h>

#include "kern/kern.h"
#include "tensor/tensor.h"

struct lora_few {
    const struct kern *k;
    struct lora_parts parts, next;
    const float *x; /* [T, in] */
    float **u;      /* [parts] of [T, r] */
    size_t *start;  /* [parts] first chunk of each */
    size_t chunks;
    size_t next_lines;                      /* of memory, of the next operation's A */
    _Alignas(64) atomic_size_t taken, done; /* chunks */
};
/* Takes scratch. */
void lora_few_open(struct lora_few *f, struct ops *o, const float *x, const struct lora_parts *parts,
                   const struct lora_parts *next);
/* Does what chunks others have not taken. */
void lora_few_help(struct lora_few *f);
/* Asks for what rows from .. to of a layer will need, and for a share of the next operation's A: that of
 * pieces first .. last of so many. */
void lora_few_ask(const struct lora_few *f, int linear, int from, int to);
void lora_few_ask_next(const struct lora_few *f, size_t first, size_t last, size_t pieces);
/* Waits for u, then y += u B^T for outputs from .. to of a layer; y is the first row's at `from`. */
void lora_few_add(struct lora_few *f, int linear, float *y, size_t ldy, int from, int to, int out);
#endif
