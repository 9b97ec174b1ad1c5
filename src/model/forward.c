/* forward.c: the forward pass. There is one, layer_forward, for prompt, decode and training; what it keeps is
 * decided by where struct acts points. Below it, the run for an answer: model_forward and what reads its
 * result. */
#include "model/inside.h"
#include <assert.h>
#include <string.h>

enum { MAX_USES = 16 };

/* Whether a sequence's adapters take few_parts. */
static bool is_few(const struct part *s) {
    for (size_t i = 0; i < s->n_use; i++)
        if (!s->use[i].copy)
            return false;
    return s->kv && s->n <= LORA_FEW;
}

/* y += scale B (A x) for each sequence of many tokens and each of its adapters that has a pair there */
static void adapt_many(const struct pass *p, int l, int linear, float *y, const float *x,
                       const struct acts *a) {
    for (int j = 0; j < p->n_part; j++) {
        const struct part *s = &p->part[j];
        size_t from = (size_t)s->from;
        for (size_t i = 0; !is_few(s) && i < s->n_use; i++) {
            const struct lora *lora = s->use[i].lora;
            const struct lora_pair *pair = &lora->pair[l * LORA_LINEARS + linear];
            if (pair->A && s->use[i].scale != 0)
                op_lora(p->ops, y + from * (size_t)pair->out, pair->out,
                        a->u[linear] + from * (size_t)pair->rank, x + from * (size_t)pair->in, pair->A,
                        pair->B, lora_scale(lora, pair, s->use[i].scale), s->n, pair->in, pair->rank,
                        pair->out);
        }
    }
}

/* The same for a sequence of few tokens, as parts of an operation. Returns how many there are. */
static int few_parts(const struct pass *p, const struct part *s, int l, int linear, int nth,
                     struct lora_part *part) {
    size_t size = lora_copy_form(p->m->kern) == CACHE_F16 ? 2 : 4;
    int n = 0;
    for (size_t i = 0; i < s->n_use; i++) {
        const struct use *u = &s->use[i];
        const struct lora_pair *pair = &u->lora->pair[l * LORA_LINEARS + linear];
        if (!pair->A || u->scale == 0)
            continue;
        const unsigned char *copy = u->copy;
        part[n++] = (struct lora_part){.A = copy + (size_t)(pair->A - u->lora->values) * size,
                                       .B = copy + (size_t)(pair->B - u->lora->values) * size,
                                       .scale = lora_scale(u->lora, pair, u->scale),
                                       .r = pair->rank,
                                       .linear = nth,
                                       .from = s->from,
                                       .T = s->n};
    }
    return n;
}

static void *scratch(const struct pass *p, size_t n, size_t size) {
    void *room = arena_take(p->ops->scratch, n, size);
    assert(room);
    return room;
}

/* Of n linears over one x all parts of sequences of few tokens, in scratch. */
static struct lora_parts parts_of(const struct pass *p, int l, int first, int n) {
    size_t uses = 0;
    struct lora_parts all = {.in = linear_in(&p->m->cfg, first)};
    for (int i = 0; i < p->n_part; i++)
        uses += is_few(&p->part[i]) ? p->part[i].n_use : 0;
    struct lora_part *part = scratch(p, (size_t)n * uses, sizeof *part);
    for (int i = 0; uses && i < p->n_part; i++)
        for (int j = 0; is_few(&p->part[i]) && j < n; j++)
            all.n += few_parts(p, &p->part[i], l, first + j, j, part + all.n);
    all.part = part;
    return all;
}

/* ys[i] = W_i x + b_i, and what adapters add, for n linears from the first on */
static void linears(const struct pass *p, int l, int first, int n, float *const *ys, const float *x,
                    const struct acts *a) {
    static const int together[LORA_LINEARS + 1] = {
        [LORA_Q] = 3, [LORA_O] = 1, [LORA_GATE] = 2, [LORA_DOWN] = 1};
    const struct layer_weights *w = &p->m->layer[l];
    const struct matrix *ws[3] = {0};
    const float *bias[3] = {0};
    for (int i = 0; i < n; i++) {
        ws[i] = &w->linear[first + i];
        bias[i] = w->bias[first + i];
    }
    size_t mark = arena_mark(p->ops->scratch);
    struct lora_parts parts = parts_of(p, l, first, n), next = {0};
    if (first + n < LORA_LINEARS)
        next = parts_of(p, l, first + n, together[first + n]);
    else if (l + 1 < p->m->cfg.layers)
        next = parts_of(p, l + 1, LORA_Q, together[LORA_Q]);
    op_linear_lora(p->ops, ys, x, ws, bias, n, p->b->T, &parts, &next);
    arena_reset(p->ops->scratch, mark);
    for (int j = 0; j < n; j++)
        adapt_many(p, l, first + j, ys[j], x, a);
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

const float *pick(const struct pass *p, const float *x, int width) {
    if (!p->asked)
        return x;
    size_t n = (size_t)width;
    float *some = scratch(p, (size_t)p->asked->b->T * n, sizeof *some);
    for (int i = 0; i < p->asked->b->T; i++)
        memcpy(some + (size_t)i * n, x + (size_t)p->asked->row[i] * n, n * sizeof *some);
    return some;
}

/* y = attention of each sequence over its own rows: those of its cache, with this pass's put behind them, or
 * this pass's alone. */
static void attend(const struct pass *p, int l, struct acts *a) {
    const struct config *c = &p->m->cfg;
    int width = c->kv_heads * c->head_width;
    size_t mark = arena_mark(p->ops->scratch);
    struct attention_lane *lane = scratch(p, (size_t)p->n_part, sizeof *lane);
    for (int i = 0; i < p->n_part; i++) {
        const struct part *s = &p->part[i], *want = &asked(p)->part[i];
        size_t at = (size_t)s->from * (size_t)width;
        lane[i] = (struct attention_lane){.from = want->from, .n = want->n};
        if (s->kv) {
            lane[i].kv = kv_layer(s->kv, c, l);
            op_kv_put(p->ops, &lane[i].kv, s->kv->n, a->k + at, a->v + at, s->n, c->kv_heads, c->head_width);
        } else if (p->b->seen) {
            lane[i].kv = (struct kv_view){
                .k = rows_seen(p, a->k, width), .v = rows_seen(p, a->v, width), .n = p->b->rows};
        } else {
            lane[i].kv = (struct kv_view){.k = a->k + at, .v = a->v + at, .n = s->n};
        }
    }
    if (asked(p)->b->T)
        op_attention_lanes(p->ops, a->y, a->lse, a->q, lane, p->n_part, first_rows(asked(p), l),
                           asked(p)->last, c->heads, c->kv_heads, c->head_width);
    arena_reset(p->ops->scratch, mark);
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
    const struct batch *b = p->b, *of_q = asked(p)->b;
    norm_heads(asked(p), q, q_inv_rms, q_raw, w->q_norm, c->heads);
    norm_heads(p, k, k_inv_rms, k_raw, w->k_norm, c->kv_heads);
    op_rope(p->ops, q, of_q->pos, of_q->T, c->heads, c->head_width, c->rotary, w->freq, c->neox, false);
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

void layer_middle(const struct pass *p, int l, const float *x_in, struct acts *a) {
    join(asked(p), a->x_mid, pick(p, x_in, p->m->cfg.width), a->attn_out, p->m->layer[l].attn_out_norm,
         a->attn_out_inv_rms, a);
}

void layer_forward(const struct pass *p, int l, float *x_out, const float *x_in, struct acts *a) {
    const struct config *c = &p->m->cfg;
    const struct layer_weights *w = &p->m->layer[l];
    const struct pass *s = asked(p);
    struct ops *o = p->ops;
    int T = s->b->T, C = c->width;

    // x_mid = x_in + Wo attend(Wq n, Wk n, Wv n), n = norm(x_in)
    op_rmsnorm(o, a->norm, a->attn_inv_rms, x_in, w->attn_norm, p->b->T, C, c->norm_eps);
    if (s == p) {
        linears(p, l, LORA_Q, 3, (float *const[]){a->q_raw, a->k_raw, a->v}, a->norm, a);
    } else {
        linears(p, l, LORA_K, 2, (float *const[]){a->k_raw, a->v}, a->norm, a);
        if (T)
            linears(s, l, LORA_Q, 1, &a->q_raw, pick(p, a->norm, C), a);
    }
    heads_forward(p, l, a->q, a->k, NULL, NULL, a->q_raw, a->k_raw);
    attend(p, l, a);
    if (!T)
        return; // keys and values are all that is wanted
    linears(s, l, LORA_O, 1, &a->attn_out, a->y, a);
    layer_middle(p, l, x_in, a);

    // x_out = x_mid + Wdown (gate(Wgate n) * Wup n), n = norm(x_mid)
    op_rmsnorm(o, a->norm, a->ffn_inv_rms, a->x_mid, w->ffn_norm, T, C, c->norm_eps);
    linears(s, l, LORA_GATE, 2, (float *const[]){a->gate, a->up}, a->norm, a);
    gate_forward(o, c, a->act, a->gate, a->up, T);
    if (!x_out && !w->ffn_out_norm) {
        adapt_many(s, l, LORA_DOWN, a->ffn_out, a->act, a); // for its u; the sum goes nowhere
        return;
    }
    linears(s, l, LORA_DOWN, 1, &a->ffn_out, a->act, a);
    join(s, x_out, a->x_mid, a->ffn_out, w->ffn_out_norm, a->ffn_out_inv_rms, a);
}

/* ---- a run for its answer ---- */

struct runner {
    const plm_model *m;
    int max_tokens;
    struct arena keep, scratch;
    struct ops ops;
    struct acts acts;
    float *x, *x_norm;                            /* [T, C] */
    int32_t *pos, *first, *last, *near;           /* [T] */
    struct wanted {                               /* of the tokens whose output is wanted */
        int32_t *row, *pos, *first, *last, *near; /* [T] */
        struct part part[MAX_LANES];
    } want;
    struct use use[MAX_LANES * MAX_USES];
    struct part part[MAX_LANES];
};

static float *floats(struct arena *a, int T, int width) {
    float *p = arena_take(a, (size_t)T * (size_t)width, sizeof *p);
    assert(p);
    return p;
}

enum { NUMBERS = 9 }; /* arrays of [T] numbers */

/* What runner_carve takes. */
static size_t runner_need(const struct config *c, int T) {
    int q = c->heads * c->head_width, kv = c->kv_heads * c->head_width;
    const int widths[] = {c->width, c->width, c->width, c->width, q,      q,
                          kv,       kv,       c->ffn,   c->ffn,   c->ffn, ADAPTER_MAX_RANK};
    size_t need = NUMBERS * arena_need((size_t)T, sizeof(int32_t));
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
    struct wanted *w = &r->want;
    int32_t **const numbers[NUMBERS] = {&r->pos, &r->first, &r->last, &r->near, &w->row,
                                        &w->pos, &w->first, &w->last, &w->near};
    for (int i = 0; i < NUMBERS; i++) {
        *numbers[i] = arena_take(&r->keep, (size_t)T, sizeof **numbers[i]);
        assert(*numbers[i]);
    }
}

plm_status runner_open(struct runner **out, const plm_model *m, int max_tokens, plm_error *err) {
    assert(max_tokens > 0);
    struct runner *r = mem_zero(1, sizeof *r);
    if (!r)
        return fail(err, PLM_ENOMEM, "no memory for a run");
    r->m = m;
    r->max_tokens = max_tokens;
    plm_status st = arena_open(&r->keep, runner_need(&m->cfg, max_tokens), err);
    size_t lanes = (size_t)(max_tokens < MAX_LANES ? max_tokens : MAX_LANES), few = LORA_FEW * lanes;
    size_t tokens = few < (size_t)max_tokens ? few : (size_t)max_tokens;
    size_t room = ops_scratch(max_tokens, widest(&m->cfg), pool_threads(m->pool));
    room += ops_lora_scratch(2 * 3 * MAX_USES * lanes, 3 * MAX_USES * ADAPTER_MAX_RANK * tokens);
    room += 2 * arena_need((size_t)max_tokens * (size_t)m->cfg.width, sizeof(float)); // what pick copies
    if (!st)
        st = arena_open(&r->scratch, room, err);
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

static plm_status check_ids(const struct runner *r, const int32_t *ids, int T, plm_error *err) {
    for (int t = 0; t < T; t++) {
        if (ids[t] < 0 || ids[t] >= r->m->cfg.vocab)
            return fail(err, PLM_EINVAL, "id %d is not in the vocabulary of %d", ids[t], r->m->cfg.vocab);
    }
    return PLM_OK;
}

static plm_status check_lane(const struct runner *r, const struct lane *s, plm_error *err) {
    const struct kv_cache *kv = s->kv;
    assert(s->n > 0 && s->want >= 0 && s->want <= s->n);
    if (s->n > kv->context - kv->n) {
        return fail(err, PLM_ELIMIT, "%d tokens after %d do not fit into a context of %d", s->n, kv->n,
                    kv->context);
    }
    if (s->n_uses > MAX_USES)
        return fail(err, PLM_ELIMIT, "%zu adapters at once are more than %d", s->n_uses, MAX_USES);
    for (size_t i = 0; i < s->n_uses; i++) {
        if (s->uses[i].adapter->model != r->m)
            return fail(err, PLM_EINVAL, "an adapter was loaded for another model");
    }
    return PLM_OK;
}

/* The lane as a part of the pass, behind the tokens before it. */
static struct part part_of(struct runner *r, const struct lane *s, size_t at_use, int from) {
    struct use *use = r->use + at_use;
    for (size_t i = 0; i < s->n_uses; i++) {
        const plm_adapter *a = s->uses[i].adapter;
        bool fresh = a->copied == a->lora->edits + 1;
        use[i] = (struct use){a->lora, fresh ? a->copy : NULL, s->uses[i].scale};
    }
    for (int t = 0; t < s->n; t++)
        r->last[from + t] = s->kv->n + t;
    return (struct part){s->kv, use, s->n_uses, from, s->n};
}

/* The tokens that the lanes want, as a batch; returns how many. */
static int want_rows(struct runner *r, const struct batch *b, const struct lane *lanes, int n) {
    struct wanted *w = &r->want;
    int T = 0;
    for (int i = 0; i < n; i++) {
        w->part[i] = r->part[i];
        w->part[i].from = T;
        w->part[i].n = lanes[i].want;
        for (int t = r->part[i].from + r->part[i].n - lanes[i].want; t < r->part[i].from + r->part[i].n;
             t++) {
            w->row[T] = t;
            w->pos[T] = b->pos[t];
            w->first[T] = b->first[t];
            w->last[T] = r->last[t];
            w->near[T++] = r->near[t];
        }
    }
    return T;
}

/* From b through all layers to x_norm, of what the lanes want. */
static void run_layers(struct runner *r, const struct batch *b, const struct lane *lanes, int n) {
    const plm_model *m = r->m;
    const struct wanted *w = &r->want;
    int C = m->cfg.width, top = m->cfg.layers - 1;
    window_rows(r->near, &m->cfg, b->first, r->last, b->T);
    const struct batch some = {.T = want_rows(r, b, lanes, n), .pos = w->pos, .first = w->first};
    struct pass p = {
        .ops = &r->ops, .m = m, .b = b, .last = r->last, .near = r->near, .part = r->part, .n_part = n};
    const struct pass asked = {.ops = &r->ops,
                               .m = m,
                               .b = &some,
                               .last = w->last,
                               .near = w->near,
                               .part = w->part,
                               .n_part = n,
                               .row = w->row};
    op_embed(&r->ops, r->x, &m->embed, b->ids, b->T, m->cfg.embed_scale);
    for (int l = 0; l < top; l++)
        layer_forward(&p, l, r->x, r->x, &r->acts);
    p.asked = some.T < b->T ? &asked : NULL;
    size_t mark = arena_mark(&r->scratch);
    layer_forward(&p, top, r->x, r->x, &r->acts);
    arena_reset(&r->scratch, mark);
    for (int i = 0; i < n; i++)
        r->part[i].kv->n += r->part[i].n;
    if (some.T)
        op_rmsnorm(&r->ops, r->x_norm, NULL, r->x, m->out_norm, some.T, C, m->cfg.norm_eps);
}

plm_status model_forward(struct runner *r, const struct batch *b, struct kv_cache *kv, const plm_lora *uses,
                         size_t n_uses, const float **x_out, plm_error *err) {
    const struct lane lane = {kv, uses, n_uses, b->T, b->T};
    assert(b->T > 0 && b->T <= r->max_tokens);
    plm_status st = check_lane(r, &lane, err);
    if (!st)
        st = check_ids(r, b->ids, b->T, err);
    if (st)
        return st;
    r->part[0] = part_of(r, &lane, 0, 0);
    run_layers(r, b, &lane, 1);
    *x_out = r->x_norm;
    return PLM_OK;
}

plm_status model_step(struct runner *r, const struct lane *lanes, int n, const int32_t *ids,
                      const float **x_out, plm_error *err) {
    plm_status st = PLM_OK;
    int T = 0;
    assert(n > 0 && n <= MAX_LANES);
    for (int i = 0; i < n && !st; T += lanes[i++].n)
        st = check_lane(r, &lanes[i], err);
    assert(T <= r->max_tokens);
    if (!st)
        st = check_ids(r, ids, T, err);
    if (st)
        return st;
    T = 0;
    for (int i = 0; i < n; T += lanes[i++].n)
        r->part[i] = part_of(r, &lanes[i], (size_t)i * MAX_USES, T);
    memcpy(r->pos, r->last, (size_t)T * sizeof *r->pos);
    memset(r->first, 0, (size_t)T * sizeof *r->first);
    run_layers(r, &(struct batch){.T = T, .ids = ids, .pos = r->pos, .first = r->first}, lanes, n);
    *x_out = r->x_norm;
    return PLM_OK;
}

void model_logits(struct runner *r, float *logits, const float *x, int n) {
    op_linear(&r->ops, logits, r->m->cfg.vocab, x, &r->m->head, NULL, n);
}

void model_nll(struct runner *r, double *nll, const float *x, const int32_t *target, int n) {
    op_cross_entropy(&r->ops, nll, NULL, x, &r->m->head, target, NULL, n);
}
