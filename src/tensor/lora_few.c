/* lora_few.c: the copies of adapters that decoding reads, and their products. What a row gets depends on the
 * row and its parts alone: neither on other rows, nor on how outputs are cut, nor on who does a chunk. */
#include "tensor/lora_few.h"

#include <assert.h>
#include <sched.h>

#include "tensor/product.h"

enum {
    BLOCK = 32,   /* outputs side by side in a copy of B: [blocks][r][BLOCK], the last one narrower */
    ROWS = 4,     /* rows of A in a chunk */
    LOOKS = 1000, /* at u, before the core is given away */
};

enum cache_form lora_copy_form(const struct kern *k) {
    return k->exact ? CACHE_F32 : CACHE_F16;
}

static size_t number_bytes(const struct kern *k) {
    return k->exact ? sizeof(float) : sizeof(uint16_t);
}

void lora_copy_pair(const struct kern *k, void *A, void *B, const float *from_A, const float *from_B, int in,
                    int r, int out) {
    enum kv_form form = (enum kv_form)lora_copy_form(k);
    size_t size = number_bytes(k);
    float row[BLOCK];
    unsigned char *to = B;
    k->kv_put(A, from_A, r * in, form);
    for (int at = 0; at < out; at += BLOCK) {
        int n = out - at < BLOCK ? out - at : BLOCK;
        for (int i = 0; i < r; i++, to += (size_t)n * size) {
            for (int j = 0; j < n; j++)
                row[j] = from_B[(size_t)(at + j) * (size_t)r + (size_t)i];
            k->kv_put(to, row, n, form);
        }
    }
}

static size_t chunks_of(const struct lora_part *p) {
    return (size_t)((p->r + ROWS - 1) / ROWS);
}

size_t ops_lora_scratch(size_t parts, size_t numbers) {
    return arena_need(parts, sizeof(struct lora_part)) + arena_need(parts, sizeof(float *)) +
           arena_need(parts, sizeof(size_t)) + arena_need(numbers, sizeof(float));
}

static size_t lines_of(const struct lora_few *f, int i) {
    return (size_t)f->next.part[i].r * (size_t)f->next.in * number_bytes(f->k) / 64;
}

void lora_few_open(struct lora_few *f, struct ops *o, const float *x, const struct lora_parts *parts,
                   const struct lora_parts *next) {
    size_t n = (size_t)parts->n, all = 0;
    *f = (struct lora_few){.k = o->kern, .x = x, .parts = *parts, .next = *next};
    for (int i = 0; i < next->n; i++)
        f->next_lines += lines_of(f, i);
    if (!n)
        return;
    f->u = take(o, n, sizeof *f->u);
    f->start = take(o, n, sizeof *f->start);
    for (int i = 0; i < parts->n; i++)
        all += (size_t)(parts->part[i].T * parts->part[i].r);
    float *u = take(o, all, sizeof *u);
    for (int i = 0; i < parts->n; i++) {
        const struct lora_part *p = &parts->part[i];
        assert(p->T <= LORA_FEW);
        f->u[i] = u;
        f->start[i] = f->chunks;
        u += p->T * p->r;
        f->chunks += chunks_of(p);
    }
}

static void down(const struct lora_few *f, size_t chunk) {
    int i = 0, in = f->parts.in;
    for (int past = f->parts.n; past - i > 1;) { /* the part that it is of */
        int middle = (i + past) / 2;
        if (f->start[middle] <= chunk)
            i = middle;
        else
            past = middle;
    }
    const struct lora_part *p = &f->parts.part[i];
    int row = (int)(chunk - f->start[i]) * ROWS, rows = p->r - row < ROWS ? p->r - row : ROWS;
    size_t bytes = (size_t)in * number_bytes(f->k);
    float *u = f->u[i] + row;
    const struct kv_rows A = {(const unsigned char *)p->A + (size_t)row * bytes, bytes, rows,
                              (enum kv_form)lora_copy_form(f->k)};
    f->k->scores(u, (size_t)p->r, f->x + (size_t)p->from * (size_t)in, p->T, A, in);
    for (int t = 0; t < p->T; t++, u += p->r)
        for (int j = 0; j < rows; j++)
            u[j] *= p->scale;
}

void lora_few_help(struct lora_few *f) {
    while (f->chunks && atomic_load_explicit(&f->taken, memory_order_relaxed) < f->chunks) {
        size_t chunk = atomic_fetch_add_explicit(&f->taken, 1, memory_order_relaxed);
        if (chunk >= f->chunks)
            return;
        down(f, chunk);
        atomic_fetch_add_explicit(&f->done, 1, memory_order_release);
    }
}

void lora_few_ask(const struct lora_few *f, int linear, int from, int to) {
    for (int i = 0; i < f->parts.n; i++) {
        const struct lora_part *p = &f->parts.part[i];
        size_t row = (size_t)p->r * number_bytes(f->k);
        for (size_t at = (size_t)from * row; p->linear == linear && at < (size_t)to * row; at += 64)
            __builtin_prefetch((const unsigned char *)p->B + at);
    }
}

void lora_few_ask_next(const struct lora_few *f, size_t first, size_t last, size_t pieces) {
    size_t from = f->next_lines * first / pieces, to = f->next_lines * last / pieces;
    for (int i = 0; from < to; i++) {
        size_t lines = lines_of(f, i);
        for (size_t at = from; at < to && at < lines; at++)
            __builtin_prefetch((const unsigned char *)f->next.part[i].A + 64 * at);
        from = from > lines ? from - lines : 0;
        to = to > lines ? to - lines : 0;
    }
}

/* Whoever took a chunk is doing it: this waits no longer than the end of the region would. */
static void wait_u(struct lora_few *f) {
    lora_few_help(f);
    for (int looks = 0; atomic_load_explicit(&f->done, memory_order_acquire) < f->chunks;)
        if (++looks % LOOKS == 0)
            sched_yield();
}

void lora_few_add(struct lora_few *f, int linear, float *y, size_t ldy, int from, int to, int out) {
    bool ready = false;
    for (int i = 0; i < f->parts.n; i++) {
        const struct lora_part *p = &f->parts.part[i];
        if (p->linear != linear)
            continue;
        if (!ready)
            wait_u(f);
        ready = true;
        for (int at = from, next; at < to; at = next) {
            int block = at / BLOCK * BLOCK, width = out - block < BLOCK ? out - block : BLOCK;
            size_t place = (size_t)block * (size_t)p->r + (size_t)(at - block);
            next = block + width < to ? block + width : to;
            f->k->low_rank(y + (size_t)p->from * ldy + (at - from), ldy, f->u[i], (size_t)p->r, p->T,
                           (const unsigned char *)p->B + place * number_bytes(f->k), (size_t)width, p->r,
                           next - at);
        }
    }
}
