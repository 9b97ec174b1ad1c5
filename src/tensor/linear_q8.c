/* linear_q8.c: y = x W^T with x quantised a block of 32 at a time and W as it lies in the file. One token
 * streams the rows of W; many tokens share each panel of rows, taken apart once into a thread's own scratch.
 */
#include "tensor/linear_q8.h"

#include "tensor/product.h"

enum {
    FEW = 8,     /* tokens below this go row by row */
    STREAM = 16, /* rows that they go through together */
};

struct job {
    const struct kern *k;
    const struct q8_rows *x;
    float *const *y;
    const int *ldy;
    const struct matrix *const *w;
    const float *const *bias;
    int n, T, unit;      /* matrices; tokens; rows of a piece */
    unsigned char *work; /* a piece for each thread */
    size_t work_each;
};

bool q8_takes(const struct ops *o, const struct matrix *w) {
    return o->precision == PREC_INT8 && o->kern->unpack && o->kern->unpack[w->type];
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
    struct q8_rows q = {.k = k, .ld = ((size_t)k + 63) / 64 * 64};
    q.q = take(o, rows * q.ld, 1);
    q.scale = take(o, rows * groups, sizeof(float));
    q.sum32 = take(o, rows * groups, sizeof(float));
    q.sum16 = take(o, rows * groups * 2, sizeof(float));
    struct quantise j = {o->kern, &q, x};
    double began = op_began(o);
    run(o, rows, 4, T < FEW, quantise_rows, &j);
    op_ended(o, OP_QUANTISE, began, 0);
    return q;
}

/* Rows of all matrices are numbered through in units; which matrix, and its rows from .. to. */
static int unit_rows(const struct job *j, size_t unit, int *from, int *to) {
    for (int i = 0;; i++) {
        size_t units = (size_t)((j->w[i]->out + j->unit - 1) / j->unit);
        if (unit < units) {
            *from = (int)unit * j->unit;
            *to = j->w[i]->out - *from < j->unit ? j->w[i]->out : *from + j->unit;
            return i;
        }
        unit -= units;
    }
}

static const unsigned char *row_at(const struct matrix *w, int row) {
    return (const unsigned char *)w->data + (size_t)row * w->row_bytes;
}

/* Space for `rows` rows taken apart, cut from a thread's scratch; *end is what follows it. */
static struct q8_weights rows_in(unsigned char *space, int rows, const struct job *j, int type,
                                 unsigned char **end) {
    int group = block_group(type);
    size_t groups = ((size_t)(rows * (j->x->k / group)) + SCALE_ROOM + 15) / 16 * 16,
           levels = ((size_t)rows * (size_t)j->x->k + 127) / 64 * 64;
    struct q8_weights w = {.u = space, .group = group, .wide = block_wide(type)};
    w.scale = (float *)(void *)(space + levels);
    w.offset = w.scale + groups;
    *end = (unsigned char *)(w.offset + groups);
    return w;
}

/* Bytes of rows_in at most. */
static size_t rows_bytes(int rows, int k) {
    return (size_t)rows * (size_t)k + 128 + ((size_t)rows * (size_t)k / 16 + 32) * 2 * sizeof(float);
}

static void stream_rows(void *ctx, size_t first, size_t last, int worker) {
    struct job *j = ctx;
    (void)worker;
    for (size_t unit = first; unit < last; unit++) {
        int from, to, i = unit_rows(j, unit, &from, &to);
        const struct matrix *w = j->w[i];
        for (int t = 0; t < j->T; t++) {
            float *y = j->y[i] + (size_t)t * (size_t)j->ldy[i] + from;
            j->k->dot_q8[w->type](y, row_at(w, from), w->row_bytes, to - from, j->x, t);
            if (j->bias[i])
                j->k->add(y, j->bias[i] + from, (size_t)(to - from));
        }
    }
}

static void multiply_panels(void *ctx, size_t first, size_t last, int worker) {
    struct job *j = ctx;
    const struct kern *k = j->k;
    int width = k->width_q8, lanes = k->lanes, in = j->x->k;
    for (size_t unit = first; unit < last; unit++) {
        int from, to, i = unit_rows(j, unit, &from, &to), type = (int)j->w[i]->type;
        unsigned char *end;
        struct q8_weights rows = rows_in(j->work + (size_t)worker * j->work_each, lanes, j, type, &end);
        struct q8_weights panel = rows_in(end, width, j, type, &end);
        for (int c = 0; c < width; c += lanes) {
            int left = to - from - c, valid = left < lanes ? left < 0 ? 0 : left : lanes;
            k->unpack[type](rows.u, rows.scale, rows.offset, row_at(j->w[i], from + c), valid * in);
            struct q8_weights part = panel;
            part.u += 4 * c;
            part.scale += c;
            part.offset += c;
            k->pack_q8(&part, width, &rows, valid, in);
        }
        float *y = j->y[i] + from;
        k->mul_q8(y, (size_t)j->ldy[i], j->x, 0, &panel, width, j->T, to - from);
        for (int t = 0; j->bias[i] && t < j->T; t++)
            k->add(y + (size_t)t * (size_t)j->ldy[i], j->bias[i] + from, (size_t)(to - from));
    }
}

void q8_linear(struct ops *o, float *const *y, const int *ldy, const struct q8_rows *x,
               const struct matrix *const *w, const float *const *bias, int n, int T) {
    size_t mark = arena_mark(o->scratch), units = 0;
    bool few = T < FEW;
    int width = o->kern->width_q8;
    struct job j = {o->kern, x, y, ldy, w, bias, n, T, few ? STREAM : width, NULL, 0};
    if (!few) {
        j.work_each = (rows_bytes(o->kern->lanes, x->k) + rows_bytes(width, x->k) + 63) / 64 * 64;
        j.work = take(o, (size_t)pool_threads(o->pool), j.work_each);
    }
    for (int i = 0; i < n; i++)
        units += (size_t)((w[i]->out + j.unit - 1) / j.unit);
    run(o, units, few ? 4 : 1, false, few ? stream_rows : multiply_panels, &j);
    arena_reset(o->scratch, mark);
}
