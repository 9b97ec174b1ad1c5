/* ops.c: the operations that work on one token at a time: embedding, norm, rotation, activation, sums; each
 * backward beside its forward. Threads take whole rows. */
#include <stdio.h>

#include "tensor/product.h"

_Static_assert((int)CACHE_Q8 == (int)KV_FORM_Q8 && (int)CACHE_F16 == (int)KV_FORM_F16,
               "the door's names for kern's");

enum { SMALL = 1 << 14 }; /* numbers that one thread handles sooner than it wakes another */

plm_status ops_kernels(const struct kern **out, const char *cpu, plm_error *err) {
    char names[100] = "";
    bool any = !cpu || !strcmp(cpu, "auto");
    for (int i = 0; kern_at(i); i++) {
        if (any || !strcmp(cpu, kern_at(i)->name)) {
            *out = kern_at(i);
            return PLM_OK;
        }
        size_t used = strlen(names), left = sizeof names - used;
        snprintf(names + used, left, "%s%s", i ? ", " : "", kern_at(i)->name);
    }
    return fail(err, PLM_ENOTSUP, "no kernels \"%s\" on this processor; it has %s", cpu, names);
}

const char *ops_kernel_name(const struct kern *k) {
    return k->name;
}

bool ops_kernel_exact(const struct kern *k) {
    return k->exact;
}

/* ---- embedding ---- */

struct embed {
    float *y;
    const struct kern *k;
    const struct matrix *w;
    const int32_t *ids;
    float scale;
};

static void embed_rows(void *ctx, size_t from, size_t to, int worker) {
    struct embed *j = ctx;
    (void)worker;
    size_t C = (size_t)j->w->in;
    for (size_t t = from; t < to; t++) {
        const unsigned char *row = (const unsigned char *)j->w->data + (size_t)j->ids[t] * j->w->row_bytes;
        j->k->decode[j->w->type](j->y + t * C, row, C);
        if (j->scale != 1)
            j->k->scale(j->y + t * C, j->scale, C);
    }
}

void op_embed(struct ops *o, float *y, const struct matrix *w, const int32_t *ids, int T, float scale) {
    double began = op_began(o);
    struct embed j = {y, o->kern, w, ids, scale};
    run(o, (size_t)T, 4, T * w->in <= SMALL, embed_rows, &j);
    op_ended(o, OP_EMBED, began, 0);
}

/* ---- rmsnorm ---- */

struct norm {
    const struct kern *k;
    float *y, *inv_rms;
    const float *dy, *x, *gain;
    const float *inv;
    int C;
    float eps;
};

static void norm_rows(void *ctx, size_t from, size_t to, int worker) {
    struct norm *j = ctx;
    (void)worker;
    for (size_t t = from; t < to; t++) {
        size_t at = t * (size_t)j->C;
        float inv = j->k->rmsnorm(j->y + at, j->x + at, j->gain, j->C, j->eps);
        if (j->inv_rms)
            j->inv_rms[t] = inv;
    }
}

void op_rmsnorm(struct ops *o, float *y, float *inv_rms, const float *x, const float *gain, int T, int C,
                float eps) {
    double began = op_began(o);
    struct norm j = {.k = o->kern, .y = y, .inv_rms = inv_rms, .x = x, .gain = gain, .C = C, .eps = eps};
    run(o, (size_t)T, 8, T * C <= SMALL, norm_rows, &j);
    op_ended(o, OP_NORM, began, 0);
}

static void norm_rows_back(void *ctx, size_t from, size_t to, int worker) {
    struct norm *j = ctx;
    (void)worker;
    for (size_t t = from; t < to; t++) {
        size_t at = t * (size_t)j->C;
        j->k->rmsnorm_back(j->y + at, j->dy + at, j->x + at, j->gain, j->inv[t], j->C);
    }
}

void op_rmsnorm_back(struct ops *o, float *dx, const float *dy, const float *x, const float *gain,
                     const float *inv_rms, int T, int C) {
    double began = op_began(o);
    struct norm j = {.k = o->kern, .y = dx, .dy = dy, .x = x, .gain = gain, .inv = inv_rms, .C = C};
    run(o, (size_t)T, 8, T * C <= SMALL, norm_rows_back, &j);
    op_ended(o, OP_NORM_BACK, began, 0);
}

/* ---- rotary positions: the backward turns the other way ---- */

struct rope {
    const struct kern *k;
    float *x, *table; /* table: for each thread a row of cosines and one of sines */
    const int32_t *pos;
    const float *freq;
    int H, D, rotary;
    bool neox, inverse;
};

static void rope_rows(void *ctx, size_t from, size_t to, int worker) {
    struct rope *j = ctx;
    int half = j->rotary / 2;
    float *cosine = j->table + (size_t)worker * (size_t)j->rotary, *sine = cosine + half;
    for (size_t t = from; t < to; t++) {
        j->k->cos_sin(cosine, sine, j->freq, (float)j->pos[t], half);
        if (j->inverse)
            j->k->scale(sine, -1, (size_t)half);
        j->k->rope(j->x + t * (size_t)(j->H * j->D), cosine, sine, j->H, j->D, j->rotary, j->neox);
    }
}

void op_rope(struct ops *o, float *x, const int32_t *pos, int T, int H, int D, int rotary, const float *freq,
             bool neox, bool inverse) {
    double began = op_began(o);
    size_t mark = arena_mark(o->scratch);
    float *table = take(o, (size_t)pool_threads(o->pool) * (size_t)rotary, sizeof *table);
    struct rope j = {o->kern, x, table, pos, freq, H, D, rotary, neox, inverse};
    run(o, (size_t)T, 8, T * H * D <= SMALL, rope_rows, &j);
    arena_reset(o->scratch, mark);
    op_ended(o, OP_ROPE, began, 0);
}

/* ---- the cache's rows ---- */

struct put {
    const struct kern *k;
    const struct kv_view *kv;
    const float *key, *value;
    int at, Hkv, D;
    size_t row, head;
};

size_t cache_row_bytes(enum cache_form form, int D) {
    if (form == CACHE_Q8)
        return D % 32 ? 0 : (size_t)(D / 32) * sizeof(struct kv_block);
    return (size_t)D * (form == CACHE_F16 ? 2 : 4);
}

static void put_rows(void *ctx, size_t from, size_t to, int worker) {
    struct put *j = ctx;
    (void)worker;
    for (size_t t = from; t < to; t++)
        for (int h = 0; h < j->Hkv; h++) {
            size_t in = (t * (size_t)j->Hkv + (size_t)h) * (size_t)j->D;
            size_t out = ((size_t)j->at + t) * j->row + (size_t)h * j->head;
            j->k->kv_put((unsigned char *)j->kv->k + out, j->key + in, j->D, (enum kv_form)j->kv->form);
            j->k->kv_put((unsigned char *)j->kv->v + out, j->value + in, j->D, (enum kv_form)j->kv->form);
        }
}

void op_kv_put(struct ops *o, const struct kv_view *kv, int at, const float *k, const float *v, int T,
               int Hkv, int D) {
    size_t head = kv->row ? kv->head : cache_row_bytes(kv->form, D);
    struct put j = {o->kern, kv, k, v, at, Hkv, D, kv->row ? kv->row : head * (size_t)Hkv, head};
    run(o, (size_t)T, 32, T * Hkv * D <= SMALL, put_rows, &j);
}

/* ---- gated activations: silu(gate) * up, gelu(gate) * up ---- */

enum { GRAIN = 4096 };

struct gated {
    void (*forward)(float *y, const float *gate, const float *up, size_t n);
    void (*back)(float *dgate, float *dup, const float *dy, const float *gate, const float *up, size_t n);
    float *y, *dgate, *dup;
    const float *dy, *gate, *up;
};

static void gated_part(void *ctx, size_t from, size_t to, int worker) {
    struct gated *j = ctx;
    (void)worker;
    j->forward(j->y + from, j->gate + from, j->up + from, to - from);
}

static void gated_part_back(void *ctx, size_t from, size_t to, int worker) {
    struct gated *j = ctx;
    (void)worker;
    j->back(j->dgate + from, j->dup + from, j->dy + from, j->gate + from, j->up + from, to - from);
}

static void gated(struct ops *o, struct gated j, int T, int F) {
    double began = op_began(o);
    run(o, (size_t)T * (size_t)F, GRAIN, T * F <= SMALL, j.back ? gated_part_back : gated_part, &j);
    op_ended(o, j.back ? OP_GATE_BACK : OP_GATE, began, 0);
}

void op_swiglu(struct ops *o, float *y, const float *gate, const float *up, int T, int F) {
    gated(o, (struct gated){.forward = o->kern->swiglu, .y = y, .gate = gate, .up = up}, T, F);
}

void op_geglu(struct ops *o, float *y, const float *gate, const float *up, int T, int F) {
    gated(o, (struct gated){.forward = o->kern->geglu, .y = y, .gate = gate, .up = up}, T, F);
}

void op_swiglu_back(struct ops *o, float *dgate, float *dup, const float *dy, const float *gate,
                    const float *up, int T, int F) {
    struct gated j = {
        .back = o->kern->swiglu_back, .dgate = dgate, .dup = dup, .dy = dy, .gate = gate, .up = up};
    gated(o, j, T, F);
}

void op_geglu_back(struct ops *o, float *dgate, float *dup, const float *dy, const float *gate,
                   const float *up, int T, int F) {
    struct gated j = {
        .back = o->kern->geglu_back, .dgate = dgate, .dup = dup, .dy = dy, .gate = gate, .up = up};
    gated(o, j, T, F);
}

/* ---- sums ---- */

struct sum {
    const struct kern *k;
    float *y;
    const float *x;
};

static void add_part(void *ctx, size_t from, size_t to, int worker) {
    struct sum *j = ctx;
    (void)worker;
    j->k->add(j->y + from, j->x + from, to - from);
}

void op_add(struct ops *o, float *y, const float *x, size_t n) {
    double began = op_began(o);
    struct sum j = {o->kern, y, x};
    run(o, n, GRAIN, n <= SMALL, add_part, &j);
    op_ended(o, OP_SUM, began, 0);
}

/* ---- f16 for activations that wait ---- */

struct halves {
    const struct kern *k;
    float *f32;
    uint16_t *f16; /* NULL: there and back */
};

static void halve(const struct kern *k, uint16_t *y, const float *x, size_t n) {
    enum { PART = 256 };
    const float most = 65504;
    float part[PART];
    for (size_t i = 0; i < n; i += PART) {
        size_t m = n - i < PART ? n - i : PART;
        for (size_t j = 0; j < m; j++)
            part[j] = x[i + j] > most ? most : x[i + j] < -most ? -most : x[i + j];
        k->kv_put(y + i, part, (int)m, KV_FORM_F16);
    }
}

static void halve_part(void *ctx, size_t from, size_t to, int worker) {
    struct halves *j = ctx;
    (void)worker;
    halve(j->k, j->f16 + from, j->f32 + from, to - from);
}

static void widen_part(void *ctx, size_t from, size_t to, int worker) {
    struct halves *j = ctx;
    (void)worker;
    j->k->decode[BLOCK_F16](j->f32 + from, j->f16 + from, to - from);
}

static void round_part(void *ctx, size_t from, size_t to, int worker) {
    struct halves *j = ctx;
    uint16_t there[GRAIN];
    (void)worker;
    halve(j->k, there, j->f32 + from, to - from);
    j->k->decode[BLOCK_F16](j->f32 + from, there, to - from);
}

static void convert(struct ops *o, float *f32, uint16_t *f16, size_t n, pool_fn fn) {
    double began = op_began(o);
    struct halves j = {o->kern, f32, f16};
    pool_for(o->pool, n, GRAIN, fn, &j);
    op_ended(o, OP_KEEP, began, 0);
}

void op_to_f16(struct ops *o, uint16_t *y, const float *x, size_t n) {
    convert(o, (float *)(uintptr_t)x, y, n, halve_part);
}

void op_from_f16(struct ops *o, float *y, const uint16_t *x, size_t n) {
    convert(o, y, (uint16_t *)(uintptr_t)x, n, widen_part);
}

void op_round_f16(struct ops *o, float *x, size_t n) {
    convert(o, x, NULL, n, round_part);
}
