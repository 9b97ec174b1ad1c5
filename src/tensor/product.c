/* product.c: products with a matrix in any format. A chunk of the matrix is decoded into panels that all
 * threads share (a second-level cache's worth for each), then pieces of panel x token block are multiplied.
 * Nothing of the matrix is kept. How a sum is cut depends on shapes alone: results don't depend on threads,
 * nor on T. */
#include "tensor/product.h"

#include <assert.h>

#include "tensor/product_i16.h"

enum {
    K_STEP = 1536,    /* longest sum kept in registers; whole super-blocks */
    K_PIECE = 256,    /* decoded at a time: the rows of one vector stay in the first-level cache */
    PANELS = 1 << 19, /* numbers in a chunk's panels, about */
    TOKENS = 48,      /* token rows in a piece of work: eight strips of the micro-kernel */
};

struct job {
    const struct kern *k;
    const struct matrix *w;
    const float *x;
    const uint16_t *half; /* x in bf16, NULL in f32 */
    size_t ldx;
    float *y;
    size_t ldy;
    int T;
    bool add;
    unsigned char *panels;
    float *decoded; /* a piece for each thread */
    size_t decoded_each;
    int from, to; /* outputs of this chunk */
    int k0, k1;   /* and its part of the sum */
};

void *take(struct ops *o, size_t n, size_t size) {
    void *p = arena_take(o->scratch, n, size);
    assert(p);
    return p;
}

void run(struct ops *o, size_t n, size_t grain, bool small, pool_fn fn, void *ctx) {
    if (small)
        fn(ctx, 0, n, 0);
    else
        pool_for(o->pool, n, grain, fn, ctx);
}

bool product_half(const struct ops *o) {
    return o->precision == PREC_HALF && (o->kern->mul_bf16 || o->kern->mul_i16);
}

static int even(int n) {
    return n + (n & 1);
}

/* Where panel i begins, and its width: the last one may be narrower by whole vectors. */
static unsigned char *panel_at(const struct job *j, size_t i, int *width) {
    int left = j->to - j->from - (int)i * j->k->width, lanes = j->k->lanes;
    *width = left < j->k->width ? (left + lanes - 1) / lanes * lanes : j->k->width;
    size_t step = j->half ? (size_t)even(j->k1 - j->k0) * 2 : (size_t)(j->k1 - j->k0) * 4;
    return j->panels + i * (size_t)j->k->width * step;
}

static size_t panel_count(const struct job *j) {
    return (size_t)((j->to - j->from + j->k->width - 1) / j->k->width);
}

static const unsigned char *weights_at(const struct matrix *w, int row, int col) {
    const struct dtype_info *t = dtype_of((int)w->type);
    return (const unsigned char *)w->data + (size_t)row * w->row_bytes +
           (size_t)(col / t->block) * (size_t)t->bytes;
}

static void half_rows(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    (void)worker;
    size_t ld = (size_t)even(j->k1 - j->k0);
    for (size_t t = from; t < to; t++)
        j->k->put_bf16((uint16_t *)j->half + t * ld, j->x + t * j->ldx + j->k0, j->k1 - j->k0);
}

/* y = panels x activations, a piece being one panel and TOKENS rows. */
static void multiply(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    (void)worker;
    size_t blocks = (size_t)(j->T + TOKENS - 1) / TOKENS;
    for (size_t i = from; i < to; i++) {
        int width, t = (int)(i % blocks) * TOKENS, m = j->T - t < TOKENS ? j->T - t : TOKENS;
        size_t panel = i / blocks;
        const unsigned char *p = panel_at(j, panel, &width);
        int first = j->from + (int)panel * j->k->width, n = j->to - first < width ? j->to - first : width;
        float *y = j->y + (size_t)t * j->ldy + first;
        if (j->half) {
            size_t ld = (size_t)even(j->k1 - j->k0);
            j->k->mul_bf16(y, j->ldy, j->half + (size_t)t * ld, ld, (const uint16_t *)(const void *)p, width,
                           m, n, j->k1 - j->k0, j->add);
        } else {
            j->k->mul_f32(y, j->ldy, j->x + (size_t)t * j->ldx + j->k0, j->ldx, 1,
                          (const float *)(const void *)p, (size_t)width, m, n, j->k1 - j->k0, j->add);
        }
    }
}

static void multiply_all(struct ops *o, struct job *j) {
    size_t pieces = panel_count(j) * (size_t)((j->T + TOKENS - 1) / TOKENS);
    run(o, pieces, 1, false, multiply, j);
}

/* Panels of W's rows from .. to: outputs are rows, the sum runs along them. */
static void pack_rows(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    int lanes = j->k->lanes;
    float *rows = j->decoded + (size_t)worker * j->decoded_each;
    for (size_t i = from; i < to; i++) {
        int width;
        unsigned char *panel = panel_at(j, i, &width);
        int first = j->from + (int)i * j->k->width;
        for (int l = j->k0; l < j->k1; l += K_PIECE) {
            int n = j->k1 - l < K_PIECE ? j->k1 - l : K_PIECE;
            for (int c = 0; c < width; c += lanes) {
                int left = j->to - first - c, valid = left < lanes ? left < 0 ? 0 : left : lanes;
                for (int r = 0; r < valid; r++)
                    j->k->decode[j->w->type](rows + r * K_PIECE, weights_at(j->w, first + c + r, l),
                                             (size_t)n);
                size_t at = (size_t)(l - j->k0) * (size_t)width;
                if (j->half)
                    j->k->pack_bf16((uint16_t *)(void *)panel + at + 2 * (size_t)c, width, rows, K_PIECE,
                                    valid, n);
                else
                    j->k->pack_f32((float *)(void *)panel + at + c, width, rows, K_PIECE, valid, n);
            }
        }
    }
}

void product_nt(struct ops *o, float *y, size_t ldy, const float *x, size_t ldx, const struct matrix *w,
                int T, bool half, bool add) {
    if (half && !o->kern->mul_bf16) {
        product_i16_nt(o, y, ldy, x, ldx, w, T, add);
        return;
    }
    size_t mark = arena_mark(o->scratch);
    const struct kern *k = o->kern;
    int k_step = w->in < K_STEP ? w->in : K_STEP;
    struct job j = {.k = k, .w = w, .x = x, .ldx = ldx, .y = y, .ldy = ldy, .T = T};
    j.half = half ? take(o, (size_t)T * (size_t)even(k_step), sizeof *j.half) : NULL;
    j.panels = take(o, (size_t)PANELS + (size_t)k->width * (size_t)even(k_step), half ? 2 : 4);
    j.decoded_each = (size_t)k->lanes * K_PIECE;
    j.decoded = take(o, (size_t)pool_threads(o->pool) * j.decoded_each, sizeof *j.decoded);
    int step = PANELS / even(k_step) / k->width * k->width;
    if (step == 0)
        step = k->width;
    for (j.k0 = 0; j.k0 < w->in; j.k0 = j.k1) {
        j.k1 = w->in - j.k0 < K_STEP ? w->in : j.k0 + K_STEP;
        j.add = add || j.k0 > 0;
        if (half)
            run(o, (size_t)T, 8, T < 8, half_rows, &j);
        for (j.from = 0; j.from < w->out; j.from = j.to) {
            j.to = w->out - j.from < step ? w->out : j.from + step;
            double began = op_began(o);
            run(o, panel_count(&j), 1, false, pack_rows, &j);
            op_ended(o, OP_DECODE, began, 0);
            multiply_all(o, &j);
        }
    }
    arena_reset(o->scratch, mark);
}

/* Panels of W's columns from .. to: outputs are columns, the sum runs over rows k0 .. k1. Pieces are pairs of
 * rows. */
static void pack_columns(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    int cols = j->to - j->from;
    float *x0 = j->decoded + (size_t)worker * j->decoded_each, *x1 = x0 + cols;
    for (size_t pair = from; pair < to; pair++) {
        int row = j->k0 + 2 * (int)pair, width;
        bool second = row + 1 < j->k1;
        j->k->decode[j->w->type](x0, weights_at(j->w, row, j->from), (size_t)cols);
        if (second)
            j->k->decode[j->w->type](x1, weights_at(j->w, row + 1, j->from), (size_t)cols);
        for (size_t i = 0; i < panel_count(j); i++) {
            unsigned char *panel = panel_at(j, i, &width);
            size_t at = pair * 2 * (size_t)width, c = i * (size_t)j->k->width;
            int n = cols - (int)c < width ? cols - (int)c : width;
            if (j->half) {
                uint16_t *p = (uint16_t *)(void *)panel + at;
                j->k->pair_bf16(p, x0 + c, second ? x1 + c : NULL, n);
                memset(p + 2 * n, 0, (size_t)(width - n) * 2 * sizeof *p);
            } else {
                float *p = (float *)(void *)panel + at;
                memset(p + n, 0, (size_t)(width - n) * sizeof *p);
                memcpy(p, x0 + c, (size_t)n * sizeof *p);
                if (second) {
                    memset(p + width + n, 0, (size_t)(width - n) * sizeof *p);
                    memcpy(p + width, x1 + c, (size_t)n * sizeof *p);
                }
            }
        }
    }
}

void product_nn(struct ops *o, float *y, size_t ldy, const float *x, size_t ldx, const struct matrix *w,
                int T, bool half, bool add) {
    enum { ROWS = 1024, COLUMNS = 1024 }; // columns: whole super-blocks
    if (half && !o->kern->mul_bf16) {
        product_i16_nn(o, y, ldy, x, ldx, w, T, add);
        return;
    }
    size_t mark = arena_mark(o->scratch);
    const struct kern *k = o->kern;
    int rows = w->out < ROWS ? w->out : ROWS, cols = w->in < COLUMNS ? w->in : COLUMNS;
    struct job j = {.k = k, .w = w, .x = x, .ldx = ldx, .y = y, .ldy = ldy, .T = T};
    j.half = half ? take(o, (size_t)T * (size_t)even(rows), sizeof *j.half) : NULL;
    j.panels = take(o, (size_t)(cols + k->width) * (size_t)even(rows), half ? 2 : 4);
    j.decoded_each = 2 * (size_t)cols;
    j.decoded = take(o, (size_t)pool_threads(o->pool) * j.decoded_each, sizeof *j.decoded);
    for (j.k0 = 0; j.k0 < w->out; j.k0 = j.k1) {
        j.k1 = w->out - j.k0 < ROWS ? w->out : j.k0 + ROWS;
        j.add = add || j.k0 > 0;
        if (half)
            run(o, (size_t)T, 8, T < 8, half_rows, &j);
        for (j.from = 0; j.from < w->in; j.from = j.to) {
            j.to = w->in - j.from < COLUMNS ? w->in : j.from + COLUMNS;
            double began = op_began(o);
            run(o, (size_t)(j.k1 - j.k0 + 1) / 2, 16, false, pack_columns, &j);
            op_ended(o, OP_DECODE, began, 0);
            multiply_all(o, &j);
        }
    }
    arena_reset(o->scratch, mark);
}

struct outer {
    const struct kern *k;
    float *y;
    const float *a, *b;
    int T, m, n;
    bool add;
};

static void outer_columns(void *ctx, size_t from, size_t to, int worker) {
    struct outer *j = ctx;
    (void)worker;
    for (size_t i = from; i < to; i++) {
        int c = (int)i * j->k->width, n = j->n - c < j->k->width ? j->n - c : j->k->width;
        j->k->mul_f32(j->y + c, (size_t)j->n, j->a, 1, (size_t)j->m, j->b + c, (size_t)j->n, j->m, n, j->T,
                      j->add);
    }
}

void product_tn(struct ops *o, float *y, const float *a, const float *b, int T, int m, int n, bool add) {
    struct outer j = {o->kern, y, a, b, T, m, n, add};
    run(o, (size_t)((n + j.k->width - 1) / j.k->width), 1, false, outer_columns, &j);
}
