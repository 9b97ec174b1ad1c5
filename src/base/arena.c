/* arena.c: one block, carved from the front. The block comes zeroed from the system page by page, so memory
 * that is planned but never taken is never resident. */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

plm_status arena_open(struct arena *a, size_t size, plm_error *err) {
    size_t bytes;
    memset(a, 0, sizeof *a);
    if (!add_size(size, 63, &bytes) || !(a->block = mem_zero(bytes, 1)))
        return fail(err, PLM_ENOMEM, "out of memory: a block of %zu bytes is not to be had", size);
    a->base = (unsigned char *)(((uintptr_t)a->block + 63) & ~(uintptr_t)63);
    a->size = size;
    return PLM_OK;
}

void arena_close(struct arena *a) {
    mem_free(a->block);
    memset(a, 0, sizeof *a);
}

void *arena_take(struct arena *a, size_t n, size_t size) {
    size_t bytes;
    if (!mul_size(n, size, &bytes) || !add_size(bytes, 63, &bytes))
        return NULL;
    bytes &= ~(size_t)63;
    if (bytes > a->size - a->used)
        return NULL;
    void *p = a->base + a->used;
    a->used += bytes;
    if (a->used > a->peak)
        a->peak = a->used;
    return p;
}
