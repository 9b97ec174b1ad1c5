/* kern_dotprod.c: the same for those with the dot product of bytes, from 2018 on. */
#include "kern/isa.h"

#if defined(__aarch64__)
#include "kern/formats_neon.h"

#include "kern/kern_body.h"

const struct kern *kern_dotprod(void) {
    static const struct kern table = {.name = "dotprod", .needs = CPU_NEON | CPU_DOTPROD, BODY};
    return &table;
}
#endif
