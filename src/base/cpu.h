/* cpu.h: what this processor can do, and how many cores there are. */
#ifndef BASE_CPU_H
#define BASE_CPU_H
#include <stdbool.h>
#include <stdint.h>
enum {
    CPU_AVX2 = 1 /* and BMI2 */,
    CPU_F16C = 2,
    CPU_FMA = 4,
    CPU_AVX512 = 8 /* F BW VL DQ */,
    CPU_VNNI = 16,
    CPU_BF16 = 32,
    CPU_VBMI = 64,
    CPU_NEON = 128,
    CPU_DOTPROD = 256,
};
unsigned cpu_features(void);
int cpu_cores(void);        /* cores this process may run on */
const char *cpu_name(void); /* the model's name, static */
uint64_t cpu_memory(void);  /* physical bytes, cgroup limit respected */
#endif
