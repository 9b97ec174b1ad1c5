/* loss.h: what the loss keeps at a time. */
#ifndef TENSOR_LOSS_H
#define TENSOR_LOSS_H
/* Of logits; but at least so many tokens, and at most so many: more of them gain nothing. */
#include <stddef.h>
enum { LOSS_BYTES = 64 << 20, LOSS_TOKENS = 16, LOSS_MOST = 128 };
size_t loss_tokens(int T, int V); /* of the longest chunk of T */
#endif
