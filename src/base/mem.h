/* mem.h: the only malloc. Sizes are checked, and tests can make the n-th allocation fail. */
#ifndef BASE_MEM_H
#define BASE_MEM_H
#include <stdbool.h>
#include <stddef.h>

void *mem_alloc(size_t n, size_t size);           /* n * size bytes, NULL on overflow or no memory */
void *mem_zero(size_t n, size_t size);            /* the same, zeroed */
void *mem_grow(void *old, size_t n, size_t size); /* realloc; old stays valid on NULL */
void *mem_aligned(size_t n, size_t size);         /* 64-byte aligned, zeroed; free with mem_free */
char *mem_dup(const char *text, size_t len);      /* NUL-terminated copy */
char *mem_dupz(const char *text);
void mem_free(void *p);
void mem_large_pages(void *p, size_t bytes); /* a wish: for memory that is read whole, again and again */

bool mul_size(size_t a, size_t b, size_t *out); /* false: overflow */
bool add_size(size_t a, size_t b, size_t *out);

/* Failure injection for tests: allocation number n from now (1 = the next) fails; 0 = never again.
 * forever: every one from n on. Thread-safe. */
void mem_fail_at(long n, bool forever);
long mem_count(void); /* allocations so far */
#endif
