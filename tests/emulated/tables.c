/* tables.c: in place of kern.c, the AVX-512 kernels on any CPU that has AVX2, and the reference. */
#include "base/cpu.h"
#include "kern/isa.h"

const struct kern *kern_at(int i) {
    const unsigned halves = CPU_AVX2 | CPU_F16C | CPU_FMA;
    if ((cpu_features() & halves) == halves && i-- == 0)
        return kern_avx512();
    return i == 0 ? kern_ref() : NULL;
}
