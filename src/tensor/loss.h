/* loss.h: what the loss keeps at a time. */
#ifndef TENSOR_LOSS_H
#define TENSOR_LOSS_H
enum { LOSS_BYTES = 32 << 20, LOSS_TOKENS = 16 }; /* of logits; but at least so many tokens */
#endif
