/* backward.c: layer_forward read from its end. Each step turns the gradient of what it produced into that of
 * what it read; frozen weights get none, pairs of the adapter add theirs to grad. docs/maths.md derives each.
 * What is cheap is computed again instead of kept: what was normed, and the gated activation. */
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
    size_t out = c->post_norm ? C : 0, ffn = 4 * F + 2 * C + out, attention = 2 * Q + 2 * K + 2 * C + out;
    if (c->head_norm) // q and k again, their inv_rms, and the gradients before the norm
        attention += 2 * Q + 2 * K + arena_need((size_t)T * (size_t)c->heads, sizeof(float)) +
                     arena_need((size_t)T * (size_t)c->kv_heads, sizeof(float));
    size_t rows = arena_need((size_t)(BATCH_ROWS * T) * (size_t)(c->kv_heads * c->head_width), sizeof(float));
    attention += 4 * rows; // of shared tokens: keys, values and their gradients
    attention += 3 * C;    // of tokens asked for: what was normed, its gradient, and the layer's
    return ffn > attention ? ffn : attention;
}

/* Of y = W x + s B (A x): dx (+)= W' dy + s A' (B' dy), and the pair's gradients. dx NULL: not wanted. */
static void linear_back(const struct pass *p, int l, int linear, float *dx, bool add, const float *dy,
                        const float *x, const struct acts *a, float *grad) {
    int T = p->b->T;
    if (dx)
        op_linear_back(p->ops, dx, dy, &p->m->layer[l].linear[linear], T, add);
    const struct lora *lora = p->part->use->lora;
    const struct lora_pair *pair = &lora->pair[l * LORA_LINEARS + linear];
    if (!pair->A)
        return;
    op_lora_back(p->ops, dx, grad + (pair->A - lora->values), grad + (pair->B - lora->values), dy,
                 a->u[linear], x, pair->A, pair->B, lora_scale(lora, pair, p->part->use->scale), T, pair->in,
                 pair->rank, pair->out);
}

static bool adapts_qkv(const struct pass *p, int l) {
    const struct lora_pair *pair = &p->part->use->lora->pair[l * LORA_LINEARS];
    return pair[LORA_Q].A || pair[LORA_K].A || pair[LORA_V].A;
}

/* Of what a half added to the residual: dx itself, or what its norm passes on. */
static const float *join_back(const struct pass *p, const float *dx, const float *out, const float *gain,
                              const float *inv_rms) {
    int C = p->m->cfg.width;
    if (!gain)
        return dx;
    float *dout = take_zero(p, C);
    op_rmsnorm_back(p->ops, dout, dx, out, gain, inv_rms, p->b->T, C);
    return dout;
}

/* x_out = x_mid + norm(Wdown (gate(Wgate n) * Wup n)), n = norm(x_mid) */
static void ffn_backward(const struct pass *p, int l, float *dx, const struct acts *a, float *grad) {
    const struct config *c = &p->m->cfg;
    const struct layer_weights *w = &p->m->layer[l];
    struct ops *o = p->ops;
    int T = p->b->T, C = c->width, F = c->ffn;
    size_t mark = arena_mark(o->scratch);

    const float *dout = join_back(p, dx, a->ffn_out, w->ffn_out_norm, a->ffn_out_inv_rms);
    float *act = take(p, F), *dact = take(p, F);
    gate_forward(o, c, act, a->gate, a->up, T);
    linear_back(p, l, LORA_DOWN, dact, false, dout, act, a, grad);
    float *dgate = take(p, F), *dup = take(p, F);
    (c->gelu ? op_geglu_back : op_swiglu_back)(o, dgate, dup, dact, a->gate, a->up, T, F);
    float *norm = take(p, C), *dnorm = take(p, C);
    op_rmsnorm(o, norm, NULL, a->x_mid, w->ffn_norm, T, C, c->norm_eps);
    linear_back(p, l, LORA_UP, dnorm, false, dup, norm, a, grad);
    linear_back(p, l, LORA_GATE, dnorm, true, dgate, norm, a, grad);
    op_rmsnorm_back(o, dx, dnorm, a->x_mid, w->ffn_norm, a->ffn_inv_rms, T, C);

    arena_reset(o->scratch, mark);
}

/* The gradient of what a linear gave, from that of its normed heads. */
static float *norm_heads_back(const struct pass *p, const float *dy, const float *raw, const float *gain,
                              const float *inv_rms, int heads) {
    int D = p->m->cfg.head_width;
    float *dx = take_zero(p, heads * D);
    op_rmsnorm_back(p->ops, dx, dy, raw, gain, inv_rms, p->b->T * heads, D);
    return dx;
}

/* y[to[i]] += x[i] for n rows */
static void add_rows(float *y, const int32_t *to, const float *x, int n, int width) {
    for (int i = 0; i < n; i++) {
        float *row = y + (size_t)to[i] * (size_t)width;
        const float *from = x + (size_t)i * (size_t)width;
        for (int j = 0; j < width; j++)
            row[j] += from[j];
    }
}

static void keys_back(const struct pass *p, int l, float *dq, float *dk, float *dv, const float *dy,
                      const float *q, float *k, const struct acts *a) {
    const struct config *c = &p->m->cfg;
    const struct batch *b = p->b;
    const struct pass *s = asked(p);
    struct ops *o = p->ops;
    int H = c->heads, Hkv = c->kv_heads, D = c->head_width, width = Hkv * D;
    const int32_t *first = first_rows(s, l);
    struct kv_view kv = {.k = k, .v = a->v, .n = b->T};
    if (!b->seen) {
        op_attention_back(o, dq, dk, dv, dy, a->y, a->lse, q, &kv, first, s->last, s->b->T, H, Hkv, D);
        return;
    }
    size_t mark = arena_mark(o->scratch), n = (size_t)(b->rows * width);
    kv = (struct kv_view){.k = rows_seen(p, k, width), .v = rows_seen(p, a->v, width), .n = b->rows};
    float *dk_rows = arena_take(o->scratch, n, sizeof *dk_rows),
          *dv_rows = arena_take(o->scratch, n, sizeof *dv_rows);
    assert(dk_rows && dv_rows);
    memset(dk_rows, 0, n * sizeof *dk_rows);
    memset(dv_rows, 0, n * sizeof *dv_rows);
    op_attention_back(o, dq, dk_rows, dv_rows, dy, a->y, a->lse, q, &kv, first, s->last, s->b->T, H, Hkv, D);
    add_rows(dk, b->seen, dk_rows, b->rows, width); // each token gets the sum of what its rows got
    add_rows(dv, b->seen, dv_rows, b->rows, width);
    arena_reset(o->scratch, mark);
}

/* dx of the tokens asked for becomes that of all, where the others have none yet. */
static void spread(const struct pass *p, float *dx, int width) {
    if (!p->asked)
        return;
    float *some = take(p->asked, width);
    memcpy(some, dx, (size_t)p->asked->b->T * (size_t)width * sizeof *some);
    memset(dx, 0, (size_t)p->b->T * (size_t)width * sizeof *dx);
    add_rows(dx, p->asked->row, some, p->asked->b->T, width);
}

static void query_back(const struct pass *p, int l, float *dnorm, const float *dq, const float *norm,
                       const struct acts *a, float *grad) {
    int C = p->m->cfg.width;
    float *some = p->asked && dnorm ? take(p->asked, C) : dnorm;
    linear_back(asked(p), l, LORA_Q, some, some == dnorm, dq, pick(p, norm, C), a, grad);
    if (some != dnorm)
        add_rows(dnorm, p->asked->row, some, p->asked->b->T, C);
}

/* x_mid = x_in + norm(Wo attend(rope Wq n, rope Wk n, Wv n)), n = norm(x_in) */
static void attention_backward(const struct pass *p, int l, float *dx, const float *x_in,
                               const struct acts *a, float *grad, bool lowest) {
    const struct config *c = &p->m->cfg;
    const struct layer_weights *w = &p->m->layer[l];
    const struct batch *b = p->b;
    const struct pass *s = asked(p);
    struct ops *o = p->ops;
    int T = b->T, C = c->width, H = c->heads, Hkv = c->kv_heads, D = c->head_width;
    size_t mark = arena_mark(o->scratch);

    const float *dout = join_back(s, dx, a->attn_out, w->attn_out_norm, a->attn_out_inv_rms);
    if (lowest && !adapts_qkv(p, l)) {
        linear_back(s, l, LORA_O, NULL, false, dout, a->y, a, grad);
        arena_reset(o->scratch, mark);
        return;
    }
    float *q = a->q, *k = a->k, *q_inv_rms = NULL, *k_inv_rms = NULL;
    if (c->head_norm) {
        q = take(s, H * D), k = take(p, Hkv * D), q_inv_rms = take(s, H), k_inv_rms = take(p, Hkv);
        heads_forward(p, l, q, k, q_inv_rms, k_inv_rms, a->q_raw, a->k_raw);
    }
    float *dy = take(s, H * D);
    linear_back(s, l, LORA_O, dy, false, dout, a->y, a, grad);
    float *dq = take(s, H * D), *dk = take_zero(p, Hkv * D), *dv = take_zero(p, Hkv * D);
    keys_back(p, l, dq, dk, dv, dy, q, k, a);
    op_rope(o, dk, b->pos, T, Hkv, D, c->rotary, w->freq, c->neox, true);
    op_rope(o, dq, s->b->pos, s->b->T, H, D, c->rotary, w->freq, c->neox, true);
    if (c->head_norm) {
        dk = norm_heads_back(p, dk, a->k_raw, w->k_norm, k_inv_rms, Hkv);
        dq = norm_heads_back(s, dq, a->q_raw, w->q_norm, q_inv_rms, H);
    }
    float *norm = take(p, C), *dnorm = lowest ? NULL : take(p, C);
    op_rmsnorm(o, norm, NULL, x_in, w->attn_norm, T, C, c->norm_eps);
    linear_back(p, l, LORA_V, dnorm, false, dv, norm, a, grad);
    linear_back(p, l, LORA_K, dnorm, true, dk, norm, a, grad);
    query_back(p, l, dnorm, dq, norm, a, grad);
    if (!lowest) {
        spread(p, dx, C);
        op_rmsnorm_back(o, dx, dnorm, x_in, w->attn_norm, a->attn_inv_rms, T, C);
    }

    arena_reset(o->scratch, mark);
}

void layer_backward(const struct pass *p, int l, float *dx, const float *x_in, const struct acts *a,
                    float *grad, bool lowest) {
    assert(p->n_part == 1 && p->part->n_use == 1 && !p->part->kv);
    ffn_backward(asked(p), l, dx, a, grad);
    attention_backward(p, l, dx, x_in, a, grad, lowest);
}
