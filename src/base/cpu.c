/* cpu.c: asks the processor and the kernel what there is to compute with. Limits of the process (affinity,
 * control group) count, not what the machine has. */
#include "base/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static unsigned features;
static char name[64];
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
/* Which register files the system saves: bit 2 ymm, bits 5-7 zmm. */
static unsigned saved_registers(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static void detect_features(void) {
    unsigned a, b, c, d, c1;
    if (!__get_cpuid(1, &a, &b, &c1, &d) || !(c1 & bit_OSXSAVE))
        return;
    unsigned saved = saved_registers();
    if ((saved & 0x06) != 0x06 || !(c1 & bit_AVX) || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return;
    features |= b & bit_AVX2 && b & bit_BMI2 ? CPU_AVX2 : 0;
    features |= c1 & bit_F16C ? CPU_F16C : 0;
    features |= c1 & bit_FMA ? CPU_FMA : 0;
    const unsigned f = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    if ((saved & 0xe0) != 0xe0 || (b & f) != f)
        return;
    features |= CPU_AVX512;
    features |= c & bit_AVX512VNNI ? CPU_VNNI : 0;
    features |= c & bit_AVX512VBMI ? CPU_VBMI : 0;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d))
        features |= a & 1u << 5 ? CPU_BF16 : 0;
}

static void detect_name(void) {
    unsigned r[12] = {0};
    for (unsigned i = 0; i < 3; i++) {
        if (!__get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]))
            return;
    }
    memcpy(name, r, sizeof r);
}
#elif defined(__aarch64__)
static void detect_features(void) {
    unsigned long has = getauxval(AT_HWCAP);
    features |= has & HWCAP_ASIMD ? CPU_NEON : 0;
    features |= has & HWCAP_ASIMDDP ? CPU_DOTPROD : 0;
}

/* The board's: a processor has only numbers. */
static void detect_name(void) {
    FILE *f = fopen("/proc/device-tree/model", "re");
    if (!f)
        return;
    name[fread(name, 1, sizeof name - 1, f)] = 0;
    fclose(f);
}
#else
static void detect_features(void) {}

static void detect_name(void) {}
#endif

static void detect(void) {
    detect_features();
    detect_name();
    size_t from = strspn(name, " "), n = strlen(name + from);
    memmove(name, name + from, n + 1);
    while (n && name[n - 1] == ' ')
        name[--n] = 0;
    if (!n)
        strcpy(name, "unknown processor");
}

unsigned cpu_features(void) {
    pthread_once(&once, detect);
    return features;
}

const char *cpu_name(void) {
    pthread_once(&once, detect);
    return name;
}

/* Reads up to two numbers from a control file; how many there were ("max" is none). */
static int read_limit(const char *path, unsigned long long *a, unsigned long long *b) {
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    int n = fscanf(f, "%llu %llu", a, b);
    fclose(f);
    return n < 0 ? 0 : n;
}

int cpu_cores(void) {
    cpu_set_t set;
    long n;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
    else
        n = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned long long quota, period;
    if (read_limit("/sys/fs/cgroup/cpu.max", &quota, &period) == 2 && period > 0) {
        unsigned long long most = (quota + period - 1) / period;
        if (most > 0 && (unsigned long long)n > most)
            n = (long)most;
    }
    return n < 1 ? 1 : n > 1024 ? 1024 : (int)n;
}

uint64_t cpu_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    static const char *const limits[] = {"/sys/fs/cgroup/memory.max",
                                         "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    for (int i = 0; i < 2; i++) {
        unsigned long long limit, rest;
        if (read_limit(limits[i], &limit, &rest) >= 1 && limit > 0 && limit < bytes)
            bytes = limit;
    }
    return bytes;
}
