/* isa.h: the tables that kern.c chooses from, and what the fast ones are written with. */
#ifndef KERN_ISA_H
#define KERN_ISA_H
#include "kern/kern.h"
const struct kern *kern_ref(void);
#if defined(__x86_64__)
const struct kern *kern_avx2(void);
const struct kern *kern_avx512(void);
#elif defined(__aarch64__)
const struct kern *kern_neon(void);
const struct kern *kern_dotprod(void);
#endif

/* k weights, which may be several rows, taken apart: value = scale * u + offset, a scale and an offset for
 * each group. Up to 7 more of these than there are groups are written. */
typedef void block_unpack(uint8_t *u, float *scale, float *offset, const void *row, int k);
static inline int block_group(int type) { return type == BLOCK_Q6_K ? 16 : 32; }

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLLED_FOR _Pragma("unroll") for
#else
#define UNROLLED_FOR _Pragma("GCC unroll 16") for
#endif
#endif
