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

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLLED_FOR _Pragma("unroll") for
#else
#define UNROLLED_FOR _Pragma("GCC unroll 16") for
#endif
#endif
