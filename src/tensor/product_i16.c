/* product_i16.c: products in int16, for a CPU that has no bf16 ones. As in product.c a chunk of the matrix is
 * decoded into panels for all threads; here each piece of I16_PIECE numbers along the sum has scales of its
 * own, for a row of activations and for a column of the panel, and its sum goes to f32 before the next. */
#include "tensor/product_i16.h"

#include <assert.h>

#include "tensor/product.h"

enum {
    DEPTH = 1536,     /* numbers of a sum that are prepared at a time; whole pieces */
    PANELS = 1 << 19, /* numbers in a chunk's panels, about */
    TOKENS = 48,      /* token rows in a piece of work: they stay in the second-level cache */
    COLUMNS = 128,    /* of a matrix, decoded at a time where its rows are the sum */
};

struct job {
    const struct kern *k;
    const struct matrix *w;
    const float *x;
    size_t ldx;
    float *y;
    size_t ldy;
    int T;
    bool add;
    int from, to; /* outputs of this chunk */
    int k0, k1;   /* and its part of the sum */
    int16_t *q;   /* [T, depth] x of this part */
    float *by;    /* [T, pieces] its scales */
    int depth, pieces;
    int16_t *panels; /* of width x depth each */
    float *scales;   /* [panels][pieces][width] */
    float *decoded;  /* a piece for each thread */
    size_t decoded_each;
};

static int pieces_of(int n) {
    return (n + I16_PIECE - 1) / I16_PIECE;
}

static int piece_length(const struct job *j, int piece) {
    int left = j->k1 - j->k0 - piece * I16_PIECE;
    return left < I16_PIECE ? left : I16_PIECE;
}

static int panel_count(const struct job *j) {
    return (j->to - j->from + j->k->width - 1) / j->k->width;
}

static int16_t *panel_at(const struct job *j, int panel, int piece) {
    return j->panels + ((size_t)panel * (size_t)j->depth + (size_t)piece * I16_PIECE) * (size_t)j->k->width;
}

static float *scales_at(const struct job *j, int panel, int piece) {
    return j->scales + (size_t)(panel * j->pieces + piece) * (size_t)j->k->width;
}

static const unsigned char *weights_at(const struct matrix *w, int row, int col) {
    const struct dtype_info *t = dtype_of((int)w->type);
    return (const unsigned char *)w->data + (size_t)row * w->row_bytes +
           (size_t)(col / t->block) * (size_t)t->bytes;
}

static bool has_levels(const struct matrix *w) {
    return block_fields[w->type].bytes > 0;
}

static void put_rows(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    (void)worker;
    for (size_t t = from; t < to; t++)
        for (int p = 0; p < j->pieces; p++)
            j->by[t * (size_t)j->pieces + (size_t)p] =
                j->k->put_i16(j->q + t * (size_t)j->depth + p * I16_PIECE,
                              j->x + t * j->ldx + j->k0 + p * I16_PIECE, piece_length(j, p));
}

/* y = panels x activations, a piece being TOKENS rows and one panel: neighbours share their rows. */
static void multiply(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    (void)worker;
    int panels = panel_count(j), width = j->k->width;
    for (size_t i = from; i < to; i++) {
        int panel = (int)i % panels, t = (int)i / panels * TOKENS, m = j->T - t < TOKENS ? j->T - t : TOKENS;
        int first = j->from + panel * width, n = j->to - first < width ? j->to - first : width;
        for (int p = 0; p < j->pieces; p++)
            j->k->mul_i16(j->y + (size_t)t * j->ldy + first, j->ldy,
                          j->q + (size_t)t * (size_t)j->depth + p * I16_PIECE, (size_t)j->depth,
                          j->by + t * j->pieces + p, (size_t)j->pieces, panel_at(j, panel, p),
                          scales_at(j, panel, p), m, n, piece_length(j, p), j->add || p > 0);
    }
}

/* Panels of W's rows: outputs are rows, the sum runs along them. */
static void pack_rows(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    int lanes = j->k->lanes, width = j->k->width;
    float *rows = j->decoded + (size_t)worker * j->decoded_each;
    for (size_t i = from; i < to; i++) {
        int panel = (int)i / j->pieces, p = (int)i % j->pieces, n = piece_length(j, p);
        for (int c = 0; c < width; c += lanes) {
            int first = j->from + panel * width + c, left = j->to - first;
            int valid = left < lanes ? left < 0 ? 0 : left : lanes;
            int16_t *out = panel_at(j, panel, p) + 2 * c;
            float *scales = scales_at(j, panel, p) + c;
            if (has_levels(j->w)) {
                const unsigned char *w = valid ? weights_at(j->w, first, j->k0 + p * I16_PIECE) : NULL;
                j->k->pack_levels(out, scales, width, w, j->w->row_bytes, (int)j->w->type, valid, n);
                continue;
            }
            for (int r = 0; r < valid; r++)
                j->k->decode[j->w->type](rows + r * I16_PIECE,
                                         weights_at(j->w, first + r, j->k0 + p * I16_PIECE), (size_t)n);
            j->k->pack_i16(out, scales, width, rows, I16_PIECE, valid, n);
        }
    }
}

/* Columns decoded at a time: whole panels, and whole blocks of the format. */
static int columns_of(const struct matrix *w) {
    int block = dtype_of((int)w->type)->block;
    return block > COLUMNS ? block : COLUMNS;
}

/* Panels of W's columns: outputs are columns, the sum runs over rows. */
static void pack_columns(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    int width = j->k->width, step = columns_of(j->w);
    float *rows = j->decoded + (size_t)worker * j->decoded_each;
    for (size_t i = from; i < to; i++) {
        int p = (int)i % j->pieces, n = piece_length(j, p), col = j->from + (int)i / j->pieces * step;
        int cols = j->to - col < step ? j->to - col : step, panel = (col - j->from) / width;
        if (has_levels(j->w)) {
            j->k->pair_levels(panel_at(j, panel, p), (size_t)(j->depth * width), scales_at(j, panel, p),
                              (size_t)(j->pieces * width), width, rows,
                              weights_at(j->w, j->k0 + p * I16_PIECE, col), j->w->row_bytes, (int)j->w->type,
                              cols, n);
            continue;
        }
        for (int r = 0; r < n; r++)
            j->k->decode[j->w->type](rows + r * step, weights_at(j->w, j->k0 + p * I16_PIECE + r, col),
                                     (size_t)cols);
        for (int c = 0; c < cols; c += width, panel++)
            j->k->pair_i16(panel_at(j, panel, p), scales_at(j, panel, p), width, rows + c, (size_t)step,
                           cols - c < width ? cols - c : width, n);
    }
}

static int even(int n) {
    return n + (n & 1);
}

/* Of `sum` numbers as many as are prepared at a time, and room for them and a chunk of panels. */
static void prepare(struct ops *o, struct job *j, int sum, size_t decoded) {
    j->depth = even(sum < DEPTH ? sum : DEPTH);
    j->pieces = pieces_of(j->depth);
    size_t panels = PANELS / (size_t)j->depth + 2 * (size_t)j->k->width;
    j->q = take(o, (size_t)j->T * (size_t)j->depth, sizeof *j->q);
    j->by = take(o, (size_t)(j->T * j->pieces), sizeof *j->by);
    j->panels = take(o, panels * (size_t)j->depth, sizeof *j->panels);
    j->scales = take(o, panels * (size_t)j->pieces, sizeof *j->scales);
    j->decoded_each = decoded;
    j->decoded = take(o, (size_t)pool_threads(o->pool) * decoded, sizeof *j->decoded);
}

size_t product_i16_scratch(int T, int threads) {
    size_t panels = arena_need(PANELS + 64 * DEPTH, sizeof(int16_t)) +
                    arena_need((PANELS / I16_PIECE + 64 * DEPTH / I16_PIECE), sizeof(float));
    return arena_need((size_t)T, DEPTH * sizeof(int16_t)) +
           arena_need((size_t)T, DEPTH / I16_PIECE * sizeof(float)) + panels +
           arena_need((size_t)threads, I16_PIECE * 256 * sizeof(float));
}

static void product(struct ops *o, struct job *j, int sum, int outputs, int unit, pool_fn pack) {
    int step = PANELS / j->depth / unit * unit;
    if (step == 0)
        step = unit;
    for (j->k0 = 0; j->k0 < sum; j->k0 = j->k1) {
        j->k1 = sum - j->k0 < DEPTH ? sum : j->k0 + DEPTH;
        j->pieces = pieces_of(j->k1 - j->k0);
        run(o, (size_t)j->T, 4, j->T < 8, put_rows, j);
        for (j->from = 0; j->from < outputs; j->from = j->to) {
            j->to = outputs - j->from < step ? outputs : j->from + step;
            double began = op_began(o);
            run(o, (size_t)(j->pieces * ((j->to - j->from + unit - 1) / unit)), 1, false, pack, j);
            op_ended(o, OP_DECODE, began, 0);
            run(o, (size_t)(panel_count(j) * ((j->T + TOKENS - 1) / TOKENS)), 1, false, multiply, j);
        }
        j->add = true;
    }
}

void product_i16_nt(struct ops *o, float *y, size_t ldy, const float *x, size_t ldx, const struct matrix *w,
                    int T, bool add) {
    size_t mark = arena_mark(o->scratch);
    struct job j = {.k = o->kern, .w = w, .x = x, .ldx = ldx, .y = y, .ldy = ldy, .T = T, .add = add};
    prepare(o, &j, w->in, (size_t)j.k->lanes * I16_PIECE);
    product(o, &j, w->in, w->out, j.k->width, pack_rows);
    arena_reset(o->scratch, mark);
}

void product_i16_nn(struct ops *o, float *y, size_t ldy, const float *x, size_t ldx, const struct matrix *w,
                    int T, bool add) {
    size_t mark = arena_mark(o->scratch);
    struct job j = {.k = o->kern, .w = w, .x = x, .ldx = ldx, .y = y, .ldy = ldy, .T = T, .add = add};
    prepare(o, &j, w->out, (size_t)columns_of(w) * I16_PIECE);
    product(o, &j, w->out, w->in, columns_of(w), pack_columns);
    arena_reset(o->scratch, mark);
}
