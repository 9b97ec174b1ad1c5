/* kern_avx2.c: the kernels for AVX2, FMA and F16C. No bf16 products: training runs in f32 here. */
#include "kern/isa.h"

#if defined(__x86_64__)
#include "kern/vec_avx2.h"

#include "kern/kern_body.h"

const struct kern *kern_avx2(void) {
    static const struct kern table = {.name = "avx2", .needs = CPU_AVX2 | CPU_F16C | CPU_FMA, BODY};
    return &table;
}
#endif
