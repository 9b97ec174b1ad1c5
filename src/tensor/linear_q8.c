/* linear_q8.c: y = x W^T with x quantised a block of 32 at a time and W in units (kern/block.h). A matrix
 * that has room for its units keeps them, packed when they are first wanted; another's are packed each time,
 * a piece at a time. Few tokens take the units as they are, many share panels opened from them. How a sum is
 * cut depends on neither, nor on threads. */
#include "tensor/linear_q8.h"

#include <assert.h>

#include "tensor/product.h"

enum {
    PIECE = 1024, /* weights of a row at a time, whole super-blocks: a panel of them stays near */
    GRAIN = 2,    /* units that few tokens go through together */
    FEW = 8,      /* tokens that opening a panel does not pay for */
};

struct job {
    const struct kern *k;
    const struct q8_rows *x;
    float *const *y;
    const int *ldy;
    const struct matrix *const *w;
    const float *const *bias;
    const int *nth;
    struct lora_few *few;
    int n, T, rows; /* matrices; tokens; rows of a piece */
    size_t pieces;
    unsigned char *work; /* a piece for each thread: of a unit, and of a panel */
    size_t work_each;
};

enum { UNIT_ROOM = UNIT * PIECE / QK * (int)sizeof(struct q8_0) };

bool q8_takes(const struct ops *o, const struct matrix *w) {
    return o->precision == PREC_INT8 && o->kern->dot_q8 && o->kern->dot_q8[w->type];
}

struct quantise {
    const struct kern *k;
    const struct q8_rows *to;
    const float *x;
};

static void quantise_rows(void *ctx, size_t from, size_t to, int worker) {
    struct quantise *j = ctx;
    (void)worker;
    for (size_t t = from; t < to; t++)
        j->k->quantise(j->to, (int)t, j->x + t * (size_t)j->to->k);
}

struct q8_rows q8_prepare(struct ops *o, const float *x, int T, int k) {
    size_t rows = (size_t)T, groups = (size_t)k / 32;
    struct q8_rows q = {.k = k};
    q.q = take(o, rows * (size_t)k, 1);
    q.scale = take(o, rows * groups, sizeof(float));
    q.sum = take(o, rows * groups, sizeof(float));
    q.start32 = take(o, rows * groups, sizeof(int32_t));
    q.start16 = take(o, rows * groups * 2, sizeof(int32_t));
    struct quantise j = {o->kern, &q, x};
    double began = op_began(o);
    run(o, rows, 4, T < 8, quantise_rows, &j);
    op_ended(o, OP_QUANTISE, began, 0);
    return q;
}

size_t q8_scratch(int T, int width, int threads) {
    size_t t = (size_t)T, groups = (size_t)width / 32 + 1;
    return arena_need(t, (size_t)width) + 3 * arena_need(t, groups * 4) + arena_need(t, groups * 8) +
           arena_need((size_t)threads, UNIT_ROOM + q8_panel_bytes(4 * UNIT, PIECE) + 64);
}

/* Pieces are numbered through all matrices. Which matrix the first of some is of, and the rows from .. to of
 * those that are of the same; returns how many pieces these are. */
static size_t pieces_rows(const struct job *j, size_t first, size_t last, int *i, int *from, int *to) {
    for (*i = 0;; ++*i) {
        int out = j->w[*i]->out;
        size_t pieces = (size_t)((out + j->rows - 1) / j->rows);
        if (first < pieces) {
            size_t n = (last < pieces ? last : pieces) - first;
            *from = (int)first * j->rows;
            *to = (int)(first + n) * j->rows;
            *to = *to < out ? *to : out;
            return n;
        }
        first -= pieces;
        last -= pieces;
    }
}

static void pack(void *unit, const struct matrix *w, int row, int from, int k) {
    const struct block_fields *f = &block_fields[w->type];
    int rows = w->out - row < UNIT ? w->out - row : UNIT;
    const unsigned char *at =
        (const unsigned char *)w->data + (size_t)row * w->row_bytes + (size_t)(from / f->weights * f->bytes);
    block_pack(unit, at, w->row_bytes, rows, (int)w->type, k / f->weights);
}

/* k weights from `from` on of the unit at `row`: kept, or packed into `room`. */
static const unsigned char *unit_at(const struct matrix *w, int row, int from, int k, unsigned char *room) {
    const struct block_fields *f = &block_fields[w->type];
    if (!w->units) {
        pack(room, w, row, from, k);
        return room;
    }
    unsigned char *unit = w->units->data + (size_t)row * w->row_bytes;
    if (!w->units->ready[row / UNIT]) {
        pack(unit, w, row, 0, w->in);
        w->units->ready[row / UNIT] = 1; // regions take turns, and in one a unit belongs to one thread
        w->units->left--;
    }
    return unit + (size_t)(from / f->weights * f->bytes) * UNIT;
}

static void put_bias(float *y, size_t ldy, const float *bias, int n, int T) {
    for (size_t t = 0; t < (size_t)T; t++)
        memcpy(y + t * ldy, bias, (size_t)n * sizeof *y);
}

/* Rows from .. to of matrix i. */
static void multiply_piece(const struct job *j, int i, int from, int to, unsigned char *room) {
    const struct matrix *w = j->w[i];
    unsigned char *panel = room + UNIT_ROOM;
    float *y = j->y[i] + from;
    size_t ldy = (size_t)j->ldy[i];
    if (j->bias[i])
        put_bias(y, ldy, j->bias[i] + from, to - from, j->T);
    for (int at = 0; at < w->in; at += PIECE) {
        int k = w->in - at < PIECE ? w->in - at : PIECE;
        bool add = at > 0 || j->bias[i];
        if (j->T <= FEW) {
            j->k->dot_q8[w->type](y, ldy, j->x, 0, at, unit_at(w, from, at, k, room), j->T, to - from, k,
                                  add);
            continue;
        }
        for (int row = from; row < to; row += UNIT)
            j->k->open_q8[w->type](panel, row - from, unit_at(w, row, at, k, room), k);
        j->k->mul_q8[w->type](y, ldy, j->x, 0, at, panel, j->T, to - from, k, add);
    }
}

static void multiply(void *ctx, size_t first, size_t last, int worker) {
    struct job *j = ctx;
    unsigned char *room = j->work + (size_t)worker * j->work_each;
    lora_few_help(j->few);
    lora_few_ask_next(j->few, first, last, j->pieces);
    while (first < last) {
        int i, from, to, next;
        first += pieces_rows(j, first, last, &i, &from, &to);
        lora_few_ask(j->few, j->nth[i], from, to);
        for (int at = from; at < to; at = next) {
            next = to - at < j->rows ? to : at + j->rows;
            multiply_piece(j, i, at, next, room);
        }
        lora_few_add(j->few, j->nth[i], j->y[i] + from, (size_t)j->ldy[i], from, to, j->w[i]->out);
    }
}

void q8_linear(struct ops *o, float *const *y, const int *ldy, const struct q8_rows *x,
               const struct matrix *const *w, const float *const *bias, const int *nth, int n, int T,
               struct lora_few *few) {
    assert(n <= MOST);
    size_t mark = arena_mark(o->scratch);
    struct job j = {.k = o->kern, .x = x, .y = y, .ldy = ldy, .w = w, .bias = bias, .nth = nth, .few = few};
    j.n = n;
    j.T = T;
    j.rows = T <= FEW ? UNIT : o->kern->width_q8;
    j.work_each = (UNIT_ROOM + q8_panel_bytes(o->kern->width_q8, PIECE) + 63) / 64 * 64;
    j.work = take(o, (size_t)pool_threads(o->pool), j.work_each);
    for (int i = 0; i < n; i++)
        j.pieces += (size_t)((w[i]->out + j.rows - 1) / j.rows);
    bool packing[MOST];
    for (int i = 0; i < n; i++)
        packing[i] = w[i]->units && w[i]->units->left > 0;
    run(o, j.pieces, T <= FEW ? GRAIN : 1, false, multiply, &j);
    for (int i = 0; i < n; i++)
        if (packing[i] && w[i]->units->mapped && w[i]->units->left == 0)
            map_release(w[i]->data, (size_t)w[i]->out * w[i]->row_bytes);
    arena_reset(o->scratch, mark);
}

static size_t units_of(const struct matrix *w) {
    return block_fields[w->type].bytes ? (size_t)((w->out + UNIT - 1) / UNIT) : 0;
}

size_t units_need(const struct matrix *w) {
    size_t n = units_of(w);
    return n ? arena_need(1, sizeof(struct units)) + arena_need(n, UNIT * w->row_bytes) + arena_need(n, 1)
             : 0;
}

void units_book(struct matrix *w, struct arena *a, bool mapped) {
    size_t n = units_of(w);
    if (n == 0)
        return;
    w->units = arena_take(a, 1, sizeof *w->units);
    assert(w->units);
    w->units->ready = arena_take(a, n, 1);
    assert(w->units->ready);
    w->units->left = (int)n;
    w->units->mapped = mapped;
}

void units_room(struct matrix *w, struct arena *a) {
    if (!w->units)
        return;
    w->units->data = arena_take(a, units_of(w), UNIT * w->row_bytes);
    assert(w->units->data);
}
