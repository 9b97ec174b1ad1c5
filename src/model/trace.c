/* trace.c: one pass of training over packed examples, and the memory it works in.
 *
 * Backward needs each layer's input x and its activations (struct acts). All x are kept. The activations of
 * the layer at work are in one set of f32. Of as many layers as the ceiling allows, the lowest, they are then
 * kept in f16; backward computes those of the others again from x, and rounds them as if they had been kept,
 * so that the ceiling changes no number. The residual between a layer's halves is made again of x and what
 * attention added to it. The topmost layer's are still there when backward begins. Layers below the lowest
 * adapted one keep nothing; of the last one only tokens that predict a target go through more than keys and
 * values; what they give for a sequence never changes, and model_below computes it for whoever keeps it. The
 * reference kernels keep f32. */
#include "model/inside.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

struct trace {
    const plm_model *m;
    int max_tokens;
    int lowest;             /* first adapted layer */
    int n_x, n_kept;        /* layers from there on, and of how many the activations are kept */
    bool exact;             /* kept as they are */
    int rank[LORA_LINEARS]; /* the largest of each linear */
    struct arena keep, scratch;
    struct ops ops;
    float **x;            /* [n_x + 1] of [T, C]: inputs of the layers, and the output of the last */
    struct acts work;     /* of the layer at work */
    struct kept *kept;    /* [n_kept] */
    float *dx;            /* [T, C] */
    int32_t *last, *near; /* [T] */
    /* of the tokens that predict a target: [T] each, as in batch and pass */
    int32_t *asked_pos, *asked_first, *asked_last, *asked_near;
};

/* A layer's activations, field after field. */
struct kept {
    float *full;
    uint16_t *half;
};

/* One of them: [T, width]. Kept as it is, or in sixteen bits, or made again. */
enum form { WHOLE, HALF, MADE };
struct field {
    float **at;
    int width;
    enum form form;
};

enum { FIELDS = 16 + LORA_LINEARS };

/* All that one set holds, and how many they are. The residual stream and what is small stay whole. */
static int fields_of(const struct trace *t, struct acts *a, struct field *f) {
    const struct config *c = &t->m->cfg;
    int q = c->heads * c->head_width, kv = c->kv_heads * c->head_width, n = 0;
    enum form half = t->exact ? WHOLE : HALF;
    f[n++] = (struct field){&a->attn_inv_rms, 1, WHOLE};
    f[n++] = (struct field){&a->ffn_inv_rms, 1, WHOLE};
    f[n++] = (struct field){&a->lse, c->heads, WHOLE};
    f[n++] = (struct field){&a->attn_out, c->width, half};
    f[n++] = (struct field){&a->x_mid, c->width, MADE}; // of the layer's input and attn_out
    f[n++] = (struct field){&a->q_raw, q, WHOLE}; // scores multiply large q and k: rounded, they leave lse
    f[n++] = (struct field){&a->k_raw, kv, WHOLE};
    f[n++] = (struct field){&a->v, kv, half};
    f[n++] = (struct field){&a->y, q, half};
    f[n++] = (struct field){&a->gate, c->ffn, half};
    f[n++] = (struct field){&a->up, c->ffn, half};
    if (c->post_norm) {
        f[n++] = (struct field){&a->attn_out_inv_rms, 1, WHOLE};
        f[n++] = (struct field){&a->ffn_out_inv_rms, 1, WHOLE};
        f[n++] = (struct field){&a->ffn_out, c->width, half};
    }
    for (int i = 0; i < LORA_LINEARS; i++)
        if (t->rank[i])
            f[n++] = (struct field){&a->u[i], t->rank[i], WHOLE};
    assert(n <= FIELDS);
    return n;
}

static size_t need(int T, int width) {
    return arena_need((size_t)T * (size_t)width, sizeof(float));
}

/* Numbers a token of a set that stay whole, and that may be halved. */
static void widths_of(const struct trace *t, int *full, int *half) {
    struct acts none;
    struct field f[FIELDS];
    *full = *half = 0;
    for (int i = 0, n = fields_of(t, &none, f); i < n; i++)
        if (f[i].form != MADE)
            *(f[i].form == HALF ? half : full) += f[i].width;
}

static size_t work_need(const struct trace *t) {
    struct acts none;
    struct field f[FIELDS];
    size_t bytes = 0;
    for (int i = 0, n = fields_of(t, &none, f); i < n; i++)
        bytes += need(t->max_tokens, f[i].width);
    return bytes;
}

static size_t kept_need(const struct trace *t) {
    int full, half;
    widths_of(t, &full, &half);
    return need(t->max_tokens, full) + arena_need((size_t)t->max_tokens * (size_t)half, sizeof(uint16_t));
}

static size_t fixed_need(const struct trace *t) {
    return (size_t)(t->n_x + 2) * need(t->max_tokens, t->m->cfg.width) + 6 * need(t->max_tokens, 1);
}

/* The three that use the scratch take turns: a layer forward, a layer backward, and the loss. */
static size_t scratch_need(const struct trace *t) {
    const struct config *c = &t->m->cfg;
    int T = t->max_tokens, threads = pool_threads(t->m->pool), rank = 0;
    for (int i = 0; i < LORA_LINEARS; i++)
        rank = t->rank[i] > rank ? t->rank[i] : rank;
    size_t forward = 4 * need(T, c->width) + need(T, c->ffn), layer = layer_backward_scratch(c, T),
           loss = 2 * need(T, c->width) + need(T, 1);
    if (c->head_norm)
        forward += need(T, c->heads * c->head_width) + need(T, c->kv_heads * c->head_width);
    forward += 2 * need(BATCH_ROWS * T, c->kv_heads * c->head_width); // of shared tokens
    if (t->lowest)
        forward += 3 * need(T, 1) + arena_need(BELOW_MOST, sizeof(struct attention_lane));
    layer = (forward > layer ? forward : layer) + ops_layer_scratch(T, widest(c), rank, c->heads, threads);
    loss += ops_loss_scratch(T, c->width, c->vocab, threads);
    return layer > loss ? layer : loss;
}

static void measure(struct trace *t, const struct lora *l) {
    t->lowest = lora_first_layer(l);
    for (int i = 0; i < l->layers * LORA_LINEARS; i++) {
        if (!l->pair[i].A)
            continue;
        int *rank = &t->rank[i % LORA_LINEARS];
        if (l->pair[i].rank > *rank)
            *rank = l->pair[i].rank;
    }
    t->n_x = l->layers - t->lowest;
}

static float *floats(struct arena *a, int T, int width) {
    if (!width)
        return NULL;
    float *p = arena_take(a, (size_t)T * (size_t)width, sizeof *p);
    assert(p);
    return p;
}

static void carve(struct trace *t) {
    const struct config *c = &t->m->cfg;
    int T = t->max_tokens;
    for (int i = 0; i <= t->n_x; i++)
        t->x[i] = floats(&t->keep, T, c->width);
    t->dx = floats(&t->keep, T, c->width);
    int32_t **const numbers[] = {&t->last,        &t->near,       &t->asked_pos,
                                 &t->asked_first, &t->asked_last, &t->asked_near};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        *numbers[i] = arena_take(&t->keep, (size_t)T, sizeof **numbers[i]);
        assert(*numbers[i]);
    }
    struct field f[FIELDS];
    for (int i = 0, n = fields_of(t, &t->work, f); i < n; i++)
        *f[i].at = floats(&t->keep, T, f[i].width);
    t->work.q = t->work.q_raw;
    t->work.k = t->work.k_raw;
    int full, half;
    widths_of(t, &full, &half);
    for (int i = 0; i < t->n_kept; i++) {
        t->kept[i].full = floats(&t->keep, T, full);
        t->kept[i].half = arena_take(&t->keep, (size_t)T * (size_t)half, sizeof(uint16_t));
        assert(t->kept[i].half);
    }
}

plm_status trace_open(struct trace **out, const plm_model *m, int max_tokens, const struct lora *l,
                      uint64_t memory, plm_error *err) {
    assert(max_tokens > 0 && l->layers == m->cfg.layers);
    struct trace *t = mem_zero(1, sizeof *t);
    if (!t)
        return fail(err, PLM_ENOMEM, "no memory to train in");
    t->m = m;
    t->max_tokens = max_tokens;
    t->exact = ops_kernel_exact(m->kern);
    measure(t, l);
    plm_status st = PLM_OK;
    uint64_t scratch = scratch_need(t), least = fixed_need(t) + scratch + work_need(t);
    if (!t->n_x)
        st = fail(err, PLM_EINVAL, "the adapter has nothing to train");
    else if (least > memory) {
        st = fail(err, PLM_ELIMIT,
                  "training on %d tokens needs at least %" PRIu64 " bytes of memory, not %" PRIu64,
                  max_tokens, least, memory);
    }
    if (st)
        goto out;
    uint64_t more = (memory - least) / kept_need(t);
    t->n_kept = more < (uint64_t)t->n_x - 1 ? (int)more : t->n_x - 1;
    t->x = mem_zero((size_t)t->n_x + 1, sizeof *t->x);
    t->kept = mem_zero((size_t)t->n_kept + 1, sizeof *t->kept);
    if (!t->x || !t->kept)
        st = fail(err, PLM_ENOMEM, "no memory to train in");
    if (!st)
        st = arena_open(&t->keep, fixed_need(t) + work_need(t) + (size_t)t->n_kept * kept_need(t), err);
    if (!st)
        st = arena_open(&t->scratch, (size_t)scratch, err);
    if (st)
        goto out;
    carve(t);
    t->ops = (struct ops){m->kern, m->pool, &t->scratch, ops_kernel_exact(m->kern) ? PREC_EXACT : PREC_HALF,
                          m->profile};
    *out = t;
    return PLM_OK;
out:
    trace_close(t);
    return st;
}

void trace_close(struct trace *t) {
    if (!t)
        return;
    arena_close(&t->keep);
    arena_close(&t->scratch);
    mem_free(t->x);
    mem_free(t->kept);
    mem_free(t);
}

uint64_t trace_bytes(const struct trace *t) {
    return t->keep.size + t->scratch.size;
}

int trace_frozen(const struct trace *t) {
    return t->lowest;
}

int trace_recomputed(const struct trace *t) {
    return t->n_x - 1 - t->n_kept;
}

/* ---- the pass ---- */

/* x_out NULL: layer l's activations are computed again. */
static void trace_layer(struct trace *t, const struct pass *p, int l, float *x_out, const float *x_in) {
    struct acts *a = &t->work;
    const struct config *c = &t->m->cfg;
    size_t mark = arena_mark(&t->scratch);
    a->norm = floats(&t->scratch, p->b->T, c->width);
    a->act = floats(&t->scratch, p->b->T, c->ffn);
    if (!c->post_norm)
        a->ffn_out = floats(&t->scratch, p->b->T, c->width);
    if (c->head_norm) {
        a->q = floats(&t->scratch, p->b->T, c->heads * c->head_width);
        a->k = floats(&t->scratch, p->b->T, c->kv_heads * c->head_width);
    }
    layer_forward(p, l, x_out, x_in, a);
    arena_reset(&t->scratch, mark);
}

enum keeping { SAVE, LOAD, ROUND };

/* The set at work into k, out of it, or as if it had been there. */
static void keep(struct trace *t, const struct kept *k, int T, enum keeping how) {
    struct field f[FIELDS];
    size_t max = (size_t)t->max_tokens, full = 0, half = 0;
    for (int i = 0, n = fields_of(t, &t->work, f); i < n; i++) {
        float *x = *f[i].at;
        size_t size = (size_t)T * (size_t)f[i].width;
        bool to_half = f[i].form == HALF;
        if (f[i].form == MADE)
            continue;
        if (how == ROUND && to_half)
            op_round_f16(&t->ops, x, size);
        else if (how == SAVE && to_half)
            op_to_f16(&t->ops, k->half + half, x, size);
        else if (how == LOAD && to_half)
            op_from_f16(&t->ops, x, k->half + half, size);
        else if (how == SAVE)
            memcpy(k->full + full, x, size * sizeof *x);
        else if (how == LOAD)
            memcpy(x, k->full + full, size * sizeof *x);
        *(to_half ? &half : &full) += max * (size_t)f[i].width;
    }
}

static void make_middle(struct trace *t, const struct pass *p, int l, const float *x_in) {
    size_t mark = arena_mark(&t->scratch);
    t->work.norm = floats(&t->scratch, p->b->T, t->m->cfg.width);
    layer_middle(p, l, x_in, &t->work);
    arena_reset(&t->scratch, mark);
}

/* The input of the lowest adapted layer. */
static void trace_below(struct trace *t, const struct pass *p) {
    op_embed(&t->ops, t->x[0], &t->m->embed, p->b->ids, p->b->T, t->m->cfg.embed_scale);
    for (int l = 0; l < t->lowest; l++)
        trace_layer(t, p, l, t->x[0], t->x[0]);
}

/* p is of all tokens, top of the last layer, where not all are asked for. */
static void trace_forward(struct trace *t, const struct pass *p, const struct pass *top, bool back) {
    size_t C = (size_t)t->m->cfg.width;
    for (int i = 0; p->b->below && i < p->b->T; i++)
        memcpy(t->x[0] + (size_t)i * C, p->b->below[i], C * sizeof(float));
    if (!p->b->below)
        trace_below(t, p);
    for (int i = 0; i < t->n_x; i++) {
        trace_layer(t, i < t->n_x - 1 ? p : top, t->lowest + i, t->x[i + 1], t->x[i]);
        if (back && i < t->n_kept)
            keep(t, &t->kept[i], p->b->T, SAVE);
    }
}

/* -ln p of the targets, and with weights the gradient of the last layer's output in t->dx. Both are of the n
 * rows that predict a target. */
static void trace_loss(struct trace *t, const int32_t *target, const float *weight, int n, double *nll) {
    const struct config *c = &t->m->cfg;
    int C = c->width;
    size_t mark = arena_mark(&t->scratch), row = (size_t)C * sizeof(float);
    float *x = t->x[t->n_x], *norm = floats(&t->scratch, n, C), *inv_rms = floats(&t->scratch, n, 1);
    op_rmsnorm(&t->ops, norm, inv_rms, x, t->m->out_norm, n, C, c->norm_eps);
    float *dnorm = NULL;
    if (weight) {
        dnorm = floats(&t->scratch, n, C);
        memset(dnorm, 0, (size_t)n * row);
    }
    op_cross_entropy(&t->ops, nll, dnorm, norm, &t->m->head, target, weight, n);
    if (weight) {
        memset(t->dx, 0, (size_t)n * row);
        op_rmsnorm_back(&t->ops, t->dx, dnorm, x, t->m->out_norm, inv_rms, n, C);
    }
    arena_reset(&t->scratch, mark);
}

static void trace_backward(struct trace *t, const struct pass *p, const struct pass *top, float *grad) {
    for (int i = t->n_x - 1; i >= 0; i--) {
        if (i < t->n_kept) {
            keep(t, &t->kept[i], p->b->T, LOAD);
        } else if (i < t->n_x - 1) {
            trace_layer(t, p, t->lowest + i, NULL, t->x[i]);
            keep(t, NULL, p->b->T, ROUND);
        }
        if (i < t->n_x - 1)
            make_middle(t, p, t->lowest + i, t->x[i]);
        layer_backward(i < t->n_x - 1 ? p : top, t->lowest + i, t->dx, t->x[i], &t->work, grad, i == 0);
    }
}

static plm_status check_ids(const struct trace *t, const int32_t *ids, int n, plm_error *err) {
    for (int i = 0, vocab = t->m->cfg.vocab; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= vocab)
            return fail(err, PLM_EINVAL, "id %d is not in the vocabulary of %d", ids[i], vocab);
    }
    return PLM_OK;
}

plm_status model_below(struct trace *t, const struct below *s, int n, plm_error *err) {
    struct part part[BELOW_MOST];
    plm_status st = PLM_OK;
    assert(n > 0 && n <= BELOW_MOST && t->lowest);
    size_t mark = arena_mark(&t->scratch), C = (size_t)t->m->cfg.width, max = (size_t)t->max_tokens;
    int32_t *pos = arena_take(&t->scratch, max, sizeof *pos),
            *ids = arena_take(&t->scratch, max, sizeof *ids),
            *first = arena_take(&t->scratch, max, sizeof *first);
    assert(pos && ids && first);
    int T = 0;
    for (int i = 0; i < n && !st; T += s[i++].n) {
        assert(s[i].n > 0 && s[i].n <= t->max_tokens - T);
        st = check_ids(t, s[i].ids, s[i].n, err);
        part[i] = (struct part){.from = T, .n = s[i].n};
        memcpy(ids + T, s[i].ids, (size_t)s[i].n * sizeof *ids);
        for (int j = 0; j < s[i].n; j++) {
            pos[T + j] = t->last[T + j] = j; // rows of a part are counted from its first
            first[T + j] = 0;
        }
    }
    if (!st) {
        const struct batch b = {.T = T, .ids = ids, .pos = pos, .first = first};
        window_rows(t->near, &t->m->cfg, first, t->last, T);
        trace_below(t, &(struct pass){.ops = &t->ops,
                                      .m = t->m,
                                      .b = &b,
                                      .last = t->last,
                                      .near = t->near,
                                      .part = part,
                                      .n_part = n});
        for (int i = 0; i < n; i++)
            memcpy(s[i].x, t->x[0] + (size_t)part[i].from * C, (size_t)s[i].n * C * sizeof(float));
    }
    arena_reset(&t->scratch, mark);
    return st;
}

plm_status model_train(struct trace *t, const struct batch *b, const int32_t *at, const int32_t *target,
                       const float *weight, int n, const struct lora *l, float *grad, double *nll,
                       plm_error *err) {
    assert(b->T > 0 && b->T <= t->max_tokens && n > 0 && n <= b->T);
    assert(!b->seen || b->rows <= BATCH_ROWS * t->max_tokens);
    plm_status st = check_ids(t, b->ids, b->T, err);
    if (!st)
        st = check_ids(t, target, n, err);
    if (st)
        return st;
    for (int i = 0; i < b->T; i++) {
        t->last[i] = b->seen ? b->last[i] : i;
        assert(b->first[i] >= 0 && b->first[i] <= t->last[i]);
    }
    for (int i = 0; i < n; i++)
        assert(at[i] >= 0 && at[i] < b->T);
    const struct use use = {.lora = l, .scale = 1};
    const struct part part = {.use = &use, .n_use = 1, .n = b->T}, some = {.use = &use, .n_use = 1, .n = n};
    window_rows(t->near, &t->m->cfg, b->first, t->last, b->T);
    for (int i = 0; i < n; i++) {
        t->asked_pos[i] = b->pos[at[i]];
        t->asked_first[i] = b->first[at[i]];
        t->asked_last[i] = t->last[at[i]];
        t->asked_near[i] = t->near[at[i]];
    }
    const struct pass p = {
        .ops = &t->ops, .m = t->m, .b = b, .last = t->last, .near = t->near, .part = &part, .n_part = 1};
    const struct batch targets = {.T = n, .pos = t->asked_pos, .first = t->asked_first};
    struct pass asked = p, top = p;
    asked.b = &targets;
    asked.last = t->asked_last;
    asked.near = t->asked_near;
    asked.part = &some;
    asked.row = at;
    top.asked = &asked;
    trace_forward(t, &p, &top, weight != NULL);
    trace_loss(t, target, weight, n, nll);
    if (weight)
        trace_backward(t, &p, &top, grad);
    return PLM_OK;
}
