/* mem.c: the only place that calls the C library's allocator. Refuses sizes that overflow; counts, so that a
 * test can make any one allocation fail. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_long made;    /* allocations asked for so far */
static atomic_long fail_on; /* > 0: this one fails; < 0: every one from -fail_on; 0: none */

bool mul_size(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

bool add_size(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

/* The bytes of n * size, at least 1; false: overflow, or a test wants this allocation to fail. */
static bool admit(size_t n, size_t size, size_t *bytes) {
    long number = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) + 1;
    long on = atomic_load_explicit(&fail_on, memory_order_relaxed);
    if (on > 0 ? number == on : on < 0 && number >= -on)
        return false;
    if (!mul_size(n, size, bytes) || *bytes > PTRDIFF_MAX)
        return false;
    if (*bytes == 0)
        *bytes = 1;
    return true;
}

void *mem_alloc(size_t n, size_t size) {
    size_t bytes;
    return admit(n, size, &bytes) ? malloc(bytes) : NULL;
}

void *mem_zero(size_t n, size_t size) {
    size_t bytes;
    return admit(n, size, &bytes) ? calloc(1, bytes) : NULL;
}

void *mem_grow(void *old, size_t n, size_t size) {
    size_t bytes;
    return admit(n, size, &bytes) ? realloc(old, bytes) : NULL;
}

void *mem_aligned(size_t n, size_t size) {
    size_t bytes;
    if (!admit(n, size, &bytes) || !add_size(bytes, 63, &bytes))
        return NULL;
    bytes &= ~(size_t)63;
    void *p = aligned_alloc(64, bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

char *mem_dup(const char *text, size_t len) {
    size_t bytes;
    char *p = add_size(len, 1, &bytes) ? mem_alloc(bytes, 1) : NULL;
    if (!p)
        return NULL;
    if (len)
        memcpy(p, text, len);
    p[len] = 0;
    return p;
}

char *mem_dupz(const char *text) {
    return mem_dup(text, strlen(text));
}

void mem_free(void *p) {
    free(p);
}

void mem_large_pages(void *p, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)p + page - 1) / page * page,
              to = ((uintptr_t)p + bytes) / page * page;
    if (from < to)
        madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)p;
    (void)bytes;
#endif
}

void mem_fail_at(long n, bool forever) {
    long number = n > 0 ? atomic_load(&made) + n : 0;
    atomic_store(&fail_on, forever ? -number : number);
}

long mem_count(void) {
    return atomic_load(&made);
}
