/* forward.c: the forward pass. There is one, layer_forward, for prompt, decode and training; what it keeps is
 * decided by where struct acts points. Below it, the run for an answer: model_forward and what reads its
 * result. */
#include "model/inside.h"
#include <assert.h>
#include <string.h>

enum { MAX_USES = 16 };

/* y += scale B (A x), for each adapter that has a pair there */
static void adapt(const struct pass *p, int l, int linear, float *y, const float *x, const struct acts *a) {
    for (size_t i = 0; i < p->n_use; i++) {
        const struct lora *lora = p->use[i].lora;
        const struct lora_pair *pair = &lora->pair[l * LORA_LINEARS + linear];
        if (!pair->A || p->use[i].scale == 0)
            continue;
        op_lora(p->ops, y, pair->out, a->u[linear], x, pair->A, pair->B,
                lora_scale(lora, pair, p->use[i].scale), p->b->T, pair->in, pair->rank, pair->out);
    }
}

/* ys[i] = W_i x + b_i, for n linears from the first on */
static void linears(const struct pass *p, int l, int first, int n, float *const *ys, const float *x,
                    const struct acts *a) {
    const struct layer_weights *w = &p->m->layer[l];
    const struct matrix *ws[3] = {0};
    const float *bias[3] = {0};
    for (int i = 0; i < n; i++) {
        ws[i] = &w->linear[first + i];
        bias[i] = w->bias[first + i];
    }
    op_linear_n(p->ops, ys, x, ws, bias, n, p->b->T);
    for (int i = 0; i < n; i++)
        adapt(p, l, first + i, ys[i], x, a);
}

/* y = x + out */
static void residual(struct ops *o, float *y, const float *x, const float *out, size_t n) {
    if (y != x)
        memcpy(y, x, n * sizeof *y);
    op_add(o, y, out, n);
}

float *rows_seen(const struct pass *p, const float *of_tokens, int width) {
    const struct batch *b = p->b;
    size_t n = (size_t)width;
    float *rows = arena_take(p->ops->scratch, (size_t)b->rows * n, sizeof *rows);
    assert(rows);
    for (int i = 0; i < b->rows; i++)
        memcpy(rows + (size_t)i * n, of_tokens + (size_t)b->seen[i] * n, n * sizeof *rows);
    return rows;
}

/* The rows that attention reads: those of the cache, this pass's appended, or this pass's alone. */
static struct kv_view keys_and_values(const struct pass *p, int l, const struct acts *a) {
    const struct config *c = &p->m->cfg;
    struct kv_cache *kv = p->kv;
    int width = c->kv_heads * c->head_width;
    if (!kv && p->b->seen)
        return (struct kv_view){rows_seen(p, a->k, width), rows_seen(p, a->v, width), false, p->b->rows};
    if (!kv)
        return (struct kv_view){.k = a->k, .v = a->v, .n = p->b->T};
    size_t at = (size_t)l * (size_t)kv->context * kv->row_bytes;
    struct kv_view view = {(char *)kv->k + at, (char *)kv->v + at, kv->f16, kv->n + p->b->T};
    op_kv_put(p->ops, &view, kv->n, a->k, a->v, p->b->T, width);
    return view;
}

void window_rows(int32_t *near, const struct config *c, const int32_t *first, const int32_t *last, int T) {
    for (int t = 0; t < T; t++) {
        int32_t begin = c->window ? last[t] - c->window + 1 : 0;
        near[t] = begin > first[t] ? begin : first[t];
    }
}

/* y = x with each of its heads normed, or x itself where there is no gain */
static void norm_heads(const struct pass *p, float *y, float *inv_rms, const float *x, const float *gain,
                       int heads) {
    const struct config *c = &p->m->cfg;
    int rows = p->b->T * heads;
    if (gain)
        op_rmsnorm(p->ops, y, inv_rms, x, gain, rows, c->head_width, c->norm_eps);
    else if (y != x)
        memcpy(y, x, (size_t)rows * (size_t)c->head_width * sizeof *y);
}

void heads_forward(const struct pass *p, int l, float *q, float *k, float *q_inv_rms, float *k_inv_rms,
                   const float *q_raw, const float *k_raw) {
    const struct config *c = &p->m->cfg;
    const struct layer_weights *w = &p->m->layer[l];
    const struct batch *b = p->b;
    norm_heads(p, q, q_inv_rms, q_raw, w->q_norm, c->heads);
    norm_heads(p, k, k_inv_rms, k_raw, w->k_norm, c->kv_heads);
    op_rope(p->ops, q, b->pos, b->T, c->heads, c->head_width, c->rotary, w->freq, c->neox, false);
    op_rope(p->ops, k, b->pos, b->T, c->kv_heads, c->head_width, c->rotary, w->freq, c->neox, false);
}

void gate_forward(struct ops *o, const struct config *c, float *act, const float *gate, const float *up,
                  int T) {
    (c->gelu ? op_geglu : op_swiglu)(o, act, gate, up, T, c->ffn);
}

/* y = x + out, or x + norm(out) where there is a gain; y NULL: only inv_rms is wanted */
static void join(const struct pass *p, float *y, const float *x, const float *out, const float *gain,
                 float *inv_rms, struct acts *a) {
    int T = p->b->T, C = p->m->cfg.width;
    if (gain) {
        op_rmsnorm(p->ops, a->norm, inv_rms, out, gain, T, C, p->m->cfg.norm_eps);
        out = a->norm;
    }
    if (y)
        residual(p->ops, y, x, out, (size_t)T * (size_t)C);
}

void layer_forward(const struct pass *p, int l, float *x_out, const float *x_in, struct acts *a) {
    const struct config *c = &p->m->cfg;
    const struct layer_weights *w = &p->m->layer[l];
    const struct batch *b = p->b;
    struct ops *o = p->ops;
    int T = b->T, C = c->width;

    // x_mid = x_in + Wo attend(Wq n, Wk n, Wv n), n = norm(x_in)
    op_rmsnorm(o, a->norm, a->attn_inv_rms, x_in, w->attn_norm, T, C, c->norm_eps);
    linears(p, l, LORA_Q, 3, (float *const[]){a->q_raw, a->k_raw, a->v}, a->norm, a);
    heads_forward(p, l, a->q, a->k, NULL, NULL, a->q_raw, a->k_raw);
    size_t mark = arena_mark(o->scratch);
    struct kv_view kv = keys_and_values(p, l, a);
    op_attention(o, a->y, a->lse, a->q, &kv, first_rows(p, l), p->last, T, c->heads, c->kv_heads,
                 c->head_width);
    arena_reset(o->scratch, mark);
    linears(p, l, LORA_O, 1, &a->attn_out, a->y, a);
    join(p, a->x_mid, x_in, a->attn_out, w->attn_out_norm, a->attn_out_inv_rms, a);

    // x_out = x_mid + Wdown (gate(Wgate n) * Wup n), n = norm(x_mid)
    op_rmsnorm(o, a->norm, a->ffn_inv_rms, a->x_mid, w->ffn_norm, T, C, c->norm_eps);
    linears(p, l, LORA_GATE, 2, (float *const[]){a->gate, a->up}, a->norm, a);
    gate_forward(o, c, a->act, a->gate, a->up, T);
    if (!x_out && !w->ffn_out_norm) {
        adapt(p, l, LORA_DOWN, a->ffn_out, a->act, a); // for its u; the sum goes nowhere
        return;
    }
    linears(p, l, LORA_DOWN, 1, &a->ffn_out, a->act, a);
    join(p, x_out, a->x_mid, a->ffn_out, w->ffn_out_norm, a->ffn_out_inv_rms, a);
}

/* ---- a run for its answer ---- */

struct runner {
    const plm_model *m;
    int max_tokens;
    struct arena keep, scratch;
    struct ops ops;
    struct acts acts;
    float *x, *x_norm;    /* [T, C] */
    int32_t *last, *near; /* [T] */
};

static float *floats(struct arena *a, int T, int width) {
    float *p = arena_take(a, (size_t)T * (size_t)width, sizeof *p);
    assert(p);
    return p;
}

/* What runner_carve takes. */
static size_t runner_need(const struct config *c, int T) {
    int q = c->heads * c->head_width, kv = c->kv_heads * c->head_width;
    const int widths[] = {c->width, c->width, c->width, c->width, q,      q,
                          kv,       kv,       c->ffn,   c->ffn,   c->ffn, ADAPTER_MAX_RANK};
    size_t need = 2 * arena_need((size_t)T, sizeof(int32_t));
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        need += arena_need((size_t)T * (size_t)widths[i], sizeof(float));
    }
    return need;
}

static void runner_carve(struct runner *r) {
    const struct config *c = &r->m->cfg;
    struct acts *a = &r->acts;
    int T = r->max_tokens, q = c->heads * c->head_width, kv = c->kv_heads * c->head_width;
    r->x = floats(&r->keep, T, c->width);
    r->x_norm = floats(&r->keep, T, c->width);
    a->norm = floats(&r->keep, T, c->width);
    a->attn_out = a->ffn_out = floats(&r->keep, T, c->width);
    a->x_mid = r->x;
    a->q = a->q_raw = floats(&r->keep, T, q);
    a->y = floats(&r->keep, T, q);
    a->k = a->k_raw = floats(&r->keep, T, kv);
    a->v = floats(&r->keep, T, kv);
    a->gate = floats(&r->keep, T, c->ffn);
    a->up = floats(&r->keep, T, c->ffn);
    a->act = floats(&r->keep, T, c->ffn);
    a->u[0] = floats(&r->keep, T, ADAPTER_MAX_RANK);
    for (int i = 1; i < LORA_LINEARS; i++)
        a->u[i] = a->u[0];
    r->last = arena_take(&r->keep, (size_t)T, sizeof *r->last);
    r->near = arena_take(&r->keep, (size_t)T, sizeof *r->near);
    assert(r->last && r->near);
}

plm_status runner_open(struct runner **out, const plm_model *m, int max_tokens, plm_error *err) {
    assert(max_tokens > 0);
    struct runner *r = mem_zero(1, sizeof *r);
    if (!r)
        return fail(err, PLM_ENOMEM, "no memory for a run");
    r->m = m;
    r->max_tokens = max_tokens;
    plm_status st = arena_open(&r->keep, runner_need(&m->cfg, max_tokens), err);
    if (!st)
        st = arena_open(&r->scratch, ops_scratch(max_tokens, widest(&m->cfg), pool_threads(m->pool)), err);
    if (st) {
        runner_close(r);
        return st;
    }
    runner_carve(r);
    r->ops = (struct ops){m->kern, m->pool, &r->scratch, ops_kernel_exact(m->kern) ? PREC_EXACT : PREC_INT8,
                          m->profile};
    *out = r;
    return PLM_OK;
}

void runner_close(struct runner *r) {
    if (!r)
        return;
    arena_close(&r->keep);
    arena_close(&r->scratch);
    mem_free(r);
}

static plm_status check_run(const struct runner *r, const struct batch *b, const struct kv_cache *kv,
                            const plm_lora *uses, size_t n_uses, plm_error *err) {
    assert(b->T > 0 && b->T <= r->max_tokens);
    if (b->T > kv->context - kv->n) {
        return fail(err, PLM_ELIMIT, "%d tokens after %d do not fit into a context of %d", b->T, kv->n,
                    kv->context);
    }
    for (int t = 0; t < b->T; t++) {
        if (b->ids[t] < 0 || b->ids[t] >= r->m->cfg.vocab) {
            return fail(err, PLM_EINVAL, "id %d is not in the vocabulary of %d", b->ids[t], r->m->cfg.vocab);
        }
        assert(b->first[t] >= 0 && b->first[t] <= kv->n + t);
    }
    if (n_uses > MAX_USES)
        return fail(err, PLM_ELIMIT, "%zu adapters at once are more than %d", n_uses, MAX_USES);
    for (size_t i = 0; i < n_uses; i++) {
        if (uses[i].adapter->model != r->m)
            return fail(err, PLM_EINVAL, "an adapter was loaded for another model");
    }
    return PLM_OK;
}

plm_status model_forward(struct runner *r, const struct batch *b, struct kv_cache *kv, const plm_lora *uses,
                         size_t n_uses, const float **x_out, plm_error *err) {
    const plm_model *m = r->m;
    plm_status st = check_run(r, b, kv, uses, n_uses, err);
    if (st)
        return st;
    struct use use[MAX_USES];
    for (size_t i = 0; i < n_uses; i++)
        use[i] = (struct use){uses[i].adapter->lora, uses[i].scale};
    for (int t = 0; t < b->T; t++)
        r->last[t] = kv->n + t;
    window_rows(r->near, &m->cfg, b->first, r->last, b->T);
    struct pass p = {.ops = &r->ops,
                     .m = m,
                     .b = b,
                     .last = r->last,
                     .near = r->near,
                     .use = use,
                     .n_use = n_uses,
                     .kv = kv};
    op_embed(&r->ops, r->x, &m->embed, b->ids, b->T, m->cfg.embed_scale);
    for (int l = 0; l < m->cfg.layers; l++)
        layer_forward(&p, l, r->x, r->x, &r->acts);
    op_rmsnorm(&r->ops, r->x_norm, NULL, r->x, m->out_norm, b->T, m->cfg.width, m->cfg.norm_eps);
    kv->n += b->T;
    *x_out = r->x_norm;
    return PLM_OK;
}

void model_logits(struct runner *r, float *logits, const float *x, int n) {
    op_linear(&r->ops, logits, r->m->cfg.vocab, x, &r->m->head, NULL, n);
}

void model_nll(struct runner *r, double *nll, const float *x, const int32_t *target, int n) {
    op_cross_entropy(&r->ops, nll, NULL, x, &r->m->head, target, NULL, n);
}
