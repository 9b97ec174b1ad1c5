/* backward.c: layer_forward read from its end. Each step turns the gradient of what it produced into that of
 * what it read; frozen weights get none, pairs of the adapter add theirs to grad. docs/maths.md derives each.
 * What is cheap is computed again instead of kept: the normed residuals and silu(gate) * up. */
#include "model/inside.h"
#include <assert.h>
#include <string.h>

static float *take(const struct pass *p, int width) {
    float *f = arena_take(p->ops->scratch, (size_t)p->b->T * (size_t)width, sizeof *f);
    assert(f);
    return f;
}

static float *take_zero(const struct pass *p, int width) {
    float *f = take(p, width);
    memset(f, 0, (size_t)p->b->T * (size_t)width * sizeof *f);
    return f;
}

size_t layer_backward_scratch(const struct config *c, int T) {
    size_t C = arena_need((size_t)T * (size_t)c->width, sizeof(float));
    size_t F = arena_need((size_t)T * (size_t)c->ffn, sizeof(float));
    size_t Q = arena_need((size_t)T * (size_t)(c->heads * c->head_width), sizeof(float));
    size_t K = arena_need((size_t)T * (size_t)(c->kv_heads * c->head_width), sizeof(float));
    size_t ffn = 4 * F + 2 * C, attention = 2 * Q + 2 * K + 2 * C;
    return ffn > attention ? ffn : attention;
}

/* Of y = W x + s B (A x): dx += W' dy + s A' (B' dy), and the pair's gradients. dx NULL: not wanted. */
static void linear_back(const struct pass *p, int l, int linear, float *dx, const float *dy, const float *x,
                        const struct acts *a, float *grad) {
    int T = p->b->T;
    if (dx)
        op_linear_back(p->ops, dx, dy, &p->m->layer[l].linear[linear], T);
    const struct lora *lora = p->use->lora;
    const struct lora_pair *pair = &lora->pair[l * LORA_LINEARS + linear];
    if (!pair->A)
        return;
    op_lora_back(p->ops, dx, grad + (pair->A - lora->values), grad + (pair->B - lora->values), dy,
                 a->u[linear], x, pair->A, pair->B, lora_scale(lora, pair, p->use->scale), T, pair->in,
                 pair->rank, pair->out);
}

static bool adapts_qkv(const struct pass *p, int l) {
    const struct lora_pair *pair = &p->use->lora->pair[l * LORA_LINEARS];
    return pair[LORA_Q].A || pair[LORA_K].A || pair[LORA_V].A;
}

/* x_out = x_mid + Wdown (silu(Wgate n) * Wup n), n = norm(x_mid) */
static void ffn_backward(const struct pass *p, int l, float *dx, const struct acts *a, float *grad) {
    const struct config *c = &p->m->cfg;
    const struct layer_weights *w = &p->m->layer[l];
    struct ops *o = p->ops;
    int T = p->b->T, C = c->width, F = c->ffn;
    size_t mark = arena_mark(o->scratch);

    float *act = take(p, F), *dact = take_zero(p, F);
    op_swiglu(o, act, a->gate, a->up, T, F);
    linear_back(p, l, LORA_DOWN, dact, dx, act, a, grad);
    float *dgate = take(p, F), *dup = take(p, F);
    op_swiglu_back(o, dgate, dup, dact, a->gate, a->up, T, F);
    float *norm = take(p, C), *dnorm = take_zero(p, C);
    op_rmsnorm(o, norm, NULL, a->x_mid, w->ffn_norm, T, C, c->norm_eps);
    linear_back(p, l, LORA_UP, dnorm, dup, norm, a, grad);
    linear_back(p, l, LORA_GATE, dnorm, dgate, norm, a, grad);
    op_rmsnorm_back(o, dx, dnorm, a->x_mid, w->ffn_norm, a->ffn_inv_rms, T, C);

    arena_reset(o->scratch, mark);
}

/* x_mid = x_in + Wo attend(rope Wq n, rope Wk n, Wv n), n = norm(x_in) */
static void attention_backward(const struct pass *p, int l, float *dx, const float *x_in,
                               const struct acts *a, float *grad, bool lowest) {
    const struct config *c = &p->m->cfg;
    const struct layer_weights *w = &p->m->layer[l];
    const struct batch *b = p->b;
    struct ops *o = p->ops;
    int T = b->T, C = c->width, H = c->heads, Hkv = c->kv_heads, D = c->head_width;
    if (lowest && !adapts_qkv(p, l)) {
        linear_back(p, l, LORA_O, NULL, dx, a->y, a, grad);
        return;
    }
    size_t mark = arena_mark(o->scratch);

    float *dy = take_zero(p, H * D);
    linear_back(p, l, LORA_O, dy, dx, a->y, a, grad);
    float *dq = take(p, H * D), *dk = take_zero(p, Hkv * D), *dv = take_zero(p, Hkv * D);
    struct kv_view kv = {.k = a->k, .v = a->v, .n = T};
    op_attention_back(o, dq, dk, dv, dy, a->y, a->lse, a->q, &kv, b->first, p->last, T, H, Hkv, D);
    op_rope(o, dk, b->pos, T, Hkv, D, c->rotary, p->m->freq, c->neox, true);
    op_rope(o, dq, b->pos, T, H, D, c->rotary, p->m->freq, c->neox, true);
    float *norm = take(p, C), *dnorm = lowest ? NULL : take_zero(p, C);
    op_rmsnorm(o, norm, NULL, x_in, w->attn_norm, T, C, c->norm_eps);
    linear_back(p, l, LORA_V, dnorm, dv, norm, a, grad);
    linear_back(p, l, LORA_K, dnorm, dk, norm, a, grad);
    linear_back(p, l, LORA_Q, dnorm, dq, norm, a, grad);
    if (!lowest)
        op_rmsnorm_back(o, dx, dnorm, x_in, w->attn_norm, a->attn_inv_rms, T, C);

    arena_reset(o->scratch, mark);
}

void layer_backward(const struct pass *p, int l, float *dx, const float *x_in, const struct acts *a,
                    float *grad, bool lowest) {
    assert(p->n_use == 1 && !p->kv);
    ffn_backward(p, l, dx, a, grad);
    attention_backward(p, l, dx, x_in, a, grad, lowest);
}
