/* attention.h: the scratch that attention takes, for ops_scratch. */
#ifndef TENSOR_ATTENTION_H
#define TENSOR_ATTENTION_H
#include <stddef.h>
enum {
    ATTENTION_BYTES = 8 << 20
}; /* what the backward keeps at a time: probabilities and their gradients;
    * and the forward: sums of parts of long rows */
size_t attention_work(int H, int Hkv, int D); /* floats a thread of the forward */
int attention_chunk(int T, int H);            /* queries of a chunk of the backward */
#endif
