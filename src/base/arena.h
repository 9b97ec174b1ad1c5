/* arena.h: bump allocation from one block sized up front. 64-byte aligned, zeroed on first use,
 * nothing is freed one by one. A mark is a size; reset returns to it. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H
#include "base/status.h"

struct arena {
    unsigned char *base;
    size_t size, used, peak;
    void *block; /* what base was cut from */
};

plm_status arena_open(struct arena *a, size_t size, plm_error *err);
void arena_close(struct arena *a);
/* NULL when it does not fit: a planning mistake, so callers assert. */
void *arena_take(struct arena *a, size_t n, size_t size);
static inline size_t arena_mark(const struct arena *a) {
    return a->used;
}
static inline void arena_reset(struct arena *a, size_t mark) {
    a->used = mark;
}
/* What one arena_take of n * size uses: for planning. */
static inline size_t arena_need(size_t n, size_t size) {
    return (n * size + 63) & ~(size_t)63;
}
#endif
