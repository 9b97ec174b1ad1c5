/* ceilings.c: what the processor and its memory reach at best, so that rates can be told as shares of it. */
#include "kern/kern.h"
#include "tensor/tensor.h"

enum { TRIES = 5, READ_BYTES = 128 << 20, READ_PIECE = 1 << 20 };

struct probe {
    double (*peak)(size_t loops);
    size_t loops;
    double (*read)(const void *data, size_t bytes);
    const unsigned char *data;
};

static void peak_piece(void *ctx, size_t from, size_t to, int worker) {
    const struct probe *p = ctx;
    (void)worker;
    for (size_t i = from; i < to; i++)
        p->peak(p->loops);
}

static void read_piece(void *ctx, size_t from, size_t to, int worker) {
    const struct probe *p = ctx;
    (void)worker;
    p->read(p->data + from * READ_PIECE, (to - from) * READ_PIECE);
}

/* The best of a few runs: others on the machine only ever subtract. */
static double best_rate(struct pool *pool, size_t pieces, pool_fn fn, struct probe *p, double amount) {
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        double start = clock_now();
        pool_for(pool, pieces, 1, fn, p);
        double rate = amount / (clock_now() - start);
        if (rate > best)
            best = rate;
    }
    return best;
}

static double peak_rate(struct pool *pool, double (*peak)(size_t loops)) {
    if (!peak)
        return 0;
    struct probe p = {.peak = peak, .loops = 20000};
    size_t pieces = 16 * (size_t)pool_threads(pool);
    return best_rate(pool, pieces, peak_piece, &p, peak(p.loops) * (double)pieces);
}

plm_status ops_ceilings(struct ceilings *out, const struct kern *k, struct pool *pool, plm_error *err) {
    unsigned char *data = mem_alloc(READ_BYTES, 1);
    if (!data)
        return fail(err, PLM_ENOMEM, "out of memory for measuring how fast memory is read");
    memset(data, 1, READ_BYTES);
    struct probe p = {.read = k->read, .data = data};
    out->f32 = peak_rate(pool, k->peak_f32);
    out->bf16 = peak_rate(pool, k->peak_bf16);
    out->int8 = peak_rate(pool, k->peak_q8);
    out->read = best_rate(pool, READ_BYTES / READ_PIECE, read_piece, &p, READ_BYTES);
    mem_free(data);
    return PLM_OK;
}
