/* kern_neon.c: the kernels for any aarch64. */
#include "kern/isa.h"

#if defined(__aarch64__)
#include "kern/formats_neon.h"

#include "kern/kern_body.h"

const struct kern *kern_neon(void) {
    static const struct kern table = {.name = "neon", .needs = CPU_NEON, BODY};
    return &table;
}
#endif
