/* kern.c: which tables this CPU can run. */
#include "kern/kern.h"

#include "base/cpu.h"
#include "kern/isa.h"

const struct kern *kern_at(int i) {
    const struct kern *const tables[] = {
#if defined(__x86_64__)
        kern_avx512(),
        kern_avx2(),
#elif defined(__aarch64__)
        kern_dotprod(),
        kern_neon(),
#endif
        kern_ref(),
    };
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        if ((tables[t]->needs & ~cpu_features()) == 0 && i-- == 0)
            return tables[t];
    return NULL;
}
