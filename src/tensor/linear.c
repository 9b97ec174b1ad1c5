/* linear.c: layers of frozen quantised weights, and the low-rank pairs trained beside them; each backward
 * beside its forward. Few rows go through dot products, many through panels (product.h), int8 through
 * linear_q8.c. */
#include <assert.h>

#include "tensor/linear_q8.h"
#include "tensor/product.h"

enum { FEW = 8 }; /* rows below this are not worth a panel */

static void put_bias(float *y, size_t ldy, const float *bias, int out, int T) {
    for (size_t t = 0; t < (size_t)T; t++)
        memcpy(y + t * ldy, bias, (size_t)out * sizeof *y);
}

static void linear_float(struct ops *o, float *y, int ldy, const float *x, const struct matrix *w,
                         const float *bias, int T) {
    if (bias)
        put_bias(y, (size_t)ldy, bias, w->out, T);
    product_nt(o, y, (size_t)ldy, x, (size_t)w->in, w, T, product_half(o), bias != NULL);
}

void op_linear(struct ops *o, float *y, int ldy, const float *x, const struct matrix *w, const float *bias,
               int T) {
    double began = op_began(o);
    if (q8_takes(o, w)) {
        struct lora_few none = {0};
        size_t mark = arena_mark(o->scratch);
        struct q8_rows q = q8_prepare(o, x, T, w->in);
        q8_linear(o, &y, &ldy, &q, &w, &bias, &(int){0}, 1, T, &none);
        arena_reset(o->scratch, mark);
    } else {
        linear_float(o, y, ldy, x, w, bias, T);
    }
    op_ended_linear(o, OP_LINEAR, began, &w, 1, T);
}

void op_linear_n(struct ops *o, float *const *y, const float *x, const struct matrix *const *w,
                 const float *const *bias, int n, int T) {
    static const struct lora_parts none;
    op_linear_lora(o, y, x, w, bias, n, T, &none, &none);
}

/* Adapters beside layers that are not of integers. */
struct beside {
    struct lora_few *few;
    float *y;
    int linear, out;
};

static void add_beside(void *ctx, size_t from, size_t to, int worker) {
    const struct beside *b = ctx;
    (void)worker;
    lora_few_add(b->few, b->linear, b->y + from, (size_t)b->out, (int)from, (int)to, b->out);
}

void op_linear_lora(struct ops *o, float *const *y, const float *x, const struct matrix *const *w,
                    const float *const *bias, int n, int T, const struct lora_parts *parts,
                    const struct lora_parts *next) {
    const struct matrix *ints[MOST];
    float *to[MOST];
    const float *add[MOST];
    int ld[MOST], nth[MOST], taken = 0;
    double began = op_began(o);
    size_t mark = arena_mark(o->scratch);
    struct lora_few few;
    lora_few_open(&few, o, x, parts, next);
    assert(n <= MOST);
    for (int i = 0; i < n; i++) {
        const float *b = bias ? bias[i] : NULL;
        if (!q8_takes(o, w[i])) {
            linear_float(o, y[i], w[i]->out, x, w[i], b, T);
            if (few.chunks)
                run(o, (size_t)w[i]->out, 512, false, add_beside, &(struct beside){&few, y[i], i, w[i]->out});
            continue;
        }
        ints[taken] = w[i];
        to[taken] = y[i];
        add[taken] = b;
        nth[taken] = i;
        ld[taken++] = w[i]->out;
    }
    if (taken) {
        struct q8_rows q = q8_prepare(o, x, T, w[0]->in);
        q8_linear(o, to, ld, &q, ints, add, nth, taken, T, &few);
    }
    arena_reset(o->scratch, mark);
    op_ended_linear(o, OP_LINEAR, began, w, n, T);
}

void op_linear_back(struct ops *o, float *dx, const float *dy, const struct matrix *w, int T, bool add) {
    double began = op_began(o);
    product_nn(o, dx, (size_t)w->in, dy, (size_t)w->out, w, T, product_half(o), add);
    op_ended_linear(o, OP_LINEAR_BACK, began, &w, 1, T);
}

/* u = x A^T; y += scale u B^T, a token at a time */
static void lora_rows(const struct kern *k, float *y, int ldy, float *u, const float *x, const float *A,
                      const float *B, float scale, int T, int in, int r, int out) {
    for (int t = 0; t < T; t++, y += ldy, u += r, x += in) {
        k->rows_dot(u, A, (size_t)in, r, x, in, 1, false);
        k->rows_dot(y, B, (size_t)r, out, u, r, scale, true);
    }
}

static void lora_many(struct ops *o, float *y, int ldy, float *u, const float *x, const float *A,
                      const float *B, float scale, int T, int in, int r, int out) {
    size_t mark = arena_mark(o->scratch), n = (size_t)T * (size_t)r;
    struct matrix a = matrix_of(A, DT_F32, r, in), b = matrix_of(B, DT_F32, out, r);
    float *scaled = take(o, n, sizeof *scaled);
    product_nt(o, u, (size_t)r, x, (size_t)in, &a, T, false, false);
    memcpy(scaled, u, n * sizeof *u);
    o->kern->scale(scaled, scale, n);
    product_nt(o, y, (size_t)ldy, scaled, (size_t)r, &b, T, false, true);
    arena_reset(o->scratch, mark);
}

void op_lora(struct ops *o, float *y, int ldy, float *u, const float *x, const float *A, const float *B,
             float scale, int T, int in, int r, int out) {
    double began = op_began(o);
    if (T < FEW)
        lora_rows(o->kern, y, ldy, u, x, A, B, scale, T, in, r, out);
    else
        lora_many(o, y, ldy, u, x, A, B, scale, T, in, r, out);
    op_ended(o, OP_LORA, began, 2.0 * T * r * (in + out));
}

/* du = scale dy B; dA += du^T x; dB += scale dy^T u; dx += du A */
void op_lora_back(struct ops *o, float *dx, float *dA, float *dB, const float *dy, const float *u,
                  const float *x, const float *A, const float *B, float scale, int T, int in, int r,
                  int out) {
    double began = op_began(o);
    size_t mark = arena_mark(o->scratch), n = (size_t)T * (size_t)r;
    struct matrix a = matrix_of(A, DT_F32, r, in), b = matrix_of(B, DT_F32, out, r);
    float *du = take(o, n, sizeof *du), *dBt = take(o, (size_t)r * (size_t)out, sizeof *dBt);
    product_nn(o, du, (size_t)r, dy, (size_t)out, &b, T, false, false);
    o->kern->scale(du, scale, n);
    product_tn(o, dA, du, x, T, r, in, true);
    product_tn(o, dBt, u, dy, T, r, out, false); // dB^T: long rows suit the vectors
    for (size_t j = 0; j < (size_t)out; j++)
        for (size_t i = 0; i < (size_t)r; i++)
            dB[j * (size_t)r + i] += scale * dBt[i * (size_t)out + j];
    if (dx)
        product_nn(o, dx, (size_t)in, du, (size_t)r, &a, T, false, true);
    arena_reset(o->scratch, mark);
    op_ended(o, OP_LORA_BACK, began, T * (double)r * (4.0 * out + (dx ? 4.0 : 2.0) * in));
}
