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
        size_t mark = arena_mark(o->scratch);
        struct q8_rows q = q8_prepare(o, x, T, w->in);
        q8_linear(o, &y, &ldy, &q, &w, &bias, 1, T);
        arena_reset(o->scratch, mark);
    } else {
        linear_float(o, y, ldy, x, w, bias, T);
    }
    op_ended_linear(o, OP_LINEAR, began, &w, 1, T);
}

void op_linear_n(struct ops *o, float *const *y, const float *x, const struct matrix *const *w,
                 const float *const *bias, int n, int T) {
    const struct matrix *ints[MOST];
    float *to[MOST];
    const float *add[MOST];
    int ld[MOST], taken = 0;
    double began = op_began(o);
    assert(n <= MOST);
    for (int i = 0; i < n; i++) {
        const float *b = bias ? bias[i] : NULL;
        if (!q8_takes(o, w[i])) {
            linear_float(o, y[i], w[i]->out, x, w[i], b, T);
            continue;
        }
        ints[taken] = w[i];
        to[taken] = y[i];
        add[taken] = b;
        ld[taken++] = w[i]->out;
    }
    if (taken) {
        size_t mark = arena_mark(o->scratch);
        struct q8_rows q = q8_prepare(o, x, T, ints[0]->in);
        q8_linear(o, to, ld, &q, ints, add, taken, T);
        arena_reset(o->scratch, mark);
    }
    op_ended_linear(o, OP_LINEAR, began, w, n, T);
}

void op_linear_back(struct ops *o, float *dx, const float *dy, const struct matrix *w, int T) {
    double began = op_began(o);
    product_nn(o, dx, (size_t)w->in, dy, (size_t)w->out, w, T, product_half(o), true);
    op_ended_linear(o, OP_LINEAR_BACK, began, &w, 1, T);
}

/* ---- few rows of inference ---- */

struct few {
    const struct kern *k;
    const struct lora_sum *sums;
    int n;
    float *u; /* of all parts of all sums, one after the other: [T, r] */
    enum cache_form form;
};

enum { SLICE = 512, SMALL = 3 << 13 }; /* outputs of a piece; numbers of A or B that one thread reads alone */

enum cache_form lora_copy_form(const struct kern *k) {
    return k->exact ? CACHE_F32 : CACHE_F16;
}

void lora_copy_pair(const struct kern *k, void *A, void *Bt, const float *from_A, const float *from_B, int in,
                    int r, int out) {
    enum kv_form form = (enum kv_form)lora_copy_form(k);
    size_t size = form == KV_FORM_F16 ? 2 : 4;
    float column[SLICE];
    k->kv_put(A, from_A, r * in, form);
    for (int i = 0; i < r; i++)
        for (int at = 0; at < out; at += SLICE) {
            int n = out - at < SLICE ? out - at : SLICE;
            for (int j = 0; j < n; j++)
                column[j] = from_B[(size_t)(at + j) * (size_t)r + (size_t)i];
            k->kv_put((unsigned char *)Bt + ((size_t)i * (size_t)out + (size_t)at) * size, column, n, form);
        }
}

static struct kv_rows copied(const struct few *f, const void *data, int at, int width, int r) {
    size_t size = f->form == CACHE_F16 ? 2 : 4;
    return (struct kv_rows){(const unsigned char *)data + (size_t)at * size, (size_t)width * size, r,
                            (enum kv_form)f->form};
}

/* A unit: a part. u = scale x A^T */
static void few_down(void *ctx, size_t from, size_t to, int worker) {
    struct few *f = ctx;
    (void)worker;
    float *u = f->u;
    size_t at = 0;
    for (int i = 0; i < f->n; i++) {
        const struct lora_sum *s = &f->sums[i];
        for (int j = 0; j < s->n; j++, at++) {
            const struct lora_part *part = &s->part[j];
            if (at >= from && at < to) {
                f->k->scores(u, (size_t)part->r, s->x, s->T, copied(f, part->A, 0, s->in, part->r), s->in);
                f->k->scale(u, part->scale, (size_t)(s->T * part->r));
            }
            u += s->T * part->r;
        }
    }
}

/* A unit: SLICE outputs of a sum. y += u B^T */
static void few_up(void *ctx, size_t from, size_t to, int worker) {
    struct few *f = ctx;
    (void)worker;
    const float *u = f->u;
    size_t unit = 0;
    for (int i = 0; i < f->n; i++) {
        const struct lora_sum *s = &f->sums[i];
        for (int at = 0; at < s->out; at += SLICE, unit++) {
            const float *mine = u;
            int n = s->out - at < SLICE ? s->out - at : SLICE;
            for (int j = 0; unit >= from && unit < to && j < s->n; mine += s->T * s->part[j++].r)
                f->k->weigh(s->y + at, (size_t)s->out, mine, (size_t)s->part[j].r, s->T,
                            copied(f, s->part[j].Bt, at, s->out, s->part[j].r), n);
        }
        for (int j = 0; j < s->n; j++)
            u += s->T * s->part[j].r;
    }
}

void op_lora_few(struct ops *o, const struct lora_sum *sums, int n) {
    double began = op_began(o);
    size_t mark = arena_mark(o->scratch), parts = 0, slices = 0, down = 0, up = 0, products = 0, rows = 0;
    for (int i = 0; i < n; i++) {
        const struct lora_sum *s = &sums[i];
        parts += (size_t)s->n;
        slices += (size_t)((s->out + SLICE - 1) / SLICE);
        for (int j = 0; j < s->n; j++) {
            size_t r = (size_t)s->part[j].r, T = (size_t)s->T;
            down += r * (size_t)s->in;
            up += r * (size_t)s->out;
            rows += r * T;
            products += r * T * (size_t)(s->in + s->out);
        }
    }
    struct few f = {o->kern, sums, n, take(o, rows, sizeof(float)), lora_copy_form(o->kern)};
    run(o, parts, 1, down < SMALL, few_down, &f);
    run(o, slices, 1, up < SMALL, few_up, &f);
    arena_reset(o->scratch, mark);
    op_ended(o, OP_LORA, began, 2.0 * (double)products);
}

/* ---- many ---- */

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
