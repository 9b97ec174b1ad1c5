/* isa.h: the tables that kern.c chooses from. */
#ifndef KERN_ISA_H
#define KERN_ISA_H
#include "kern/kern.h"
const struct kern *kern_ref(void);
#if defined(__x86_64__)
const struct kern *kern_avx2(void);
const struct kern *kern_avx512(void);
#endif
#endif
