/* attention.c: softmax(q k^T / sqrt(D)) v over a range of rows for each token, and its backward.
 * Scores exist for a block of keys at a time and the sum is rescaled as the maximum grows, so memory doesn't
 * depend on the context. The backward rebuilds the probabilities from the log-sum-exp of the forward. Pieces
 * of work own what they write and go through it in a fixed order: no atomics, the same bits with any number
 * of threads. */
#include "tensor/attention.h"

#include <assert.h>
#include <math.h>

#include "tensor/product.h"

enum {
    FEW = ATTENTION_FEW, /* tokens up to this go one by one */
    SPAN = 512,       /* keys that one of these meets at a time: from a multiple on, whatever the row sees */
    TOKENS = 32,      /* queries of a piece */
    KEYS = 64,        /* keys of a block */
    CHUNK_KEYS = 256, /* keys of the backward's chunk */
    SMALL = 1 << 15,  /* products that one thread does sooner than it wakes another */
};

struct job {
    const struct kern *k;
    float *y, *lse; /* [T, H, D], [T, H] */
    const float *q; /* [T, H, D] */
    struct kv_view kv;
    size_t row, head;            /* strides of kv */
    const int32_t *first, *last; /* [T] */
    int T, H, Hkv, D;
    float scale;
    float *work; /* a piece for each thread */
    size_t work_each;

    /* backward */
    float *dq, *dk, *dv;
    const float *dy;
    const float *out, *given_lse; /* y and lse of the forward */
    float *p, *ds, *delta;        /* [H, chunk of T, CHUNK_KEYS] twice; [T, H] */
    int t0, t1, j0, j1;           /* the chunk */
};

static void set_view(struct job *j, const struct kv_view *kv) {
    size_t each = cache_row_bytes(kv->form, j->D);
    j->kv = *kv;
    j->head = kv->row ? kv->head : each;
    j->row = kv->row ? kv->row : each * (size_t)j->Hkv;
}

static const unsigned char *row_of(const struct job *j, const void *data, int row, int head) {
    return (const unsigned char *)data + (size_t)row * j->row + (size_t)head * j->head;
}

struct range {
    int from, to;
};

/* A running softmax over blocks: what is summed so far is relative to `top`. */
struct running {
    float top;
    double sum;
};

/* s holds scores of n more keys and becomes their weights; y is rescaled to the new maximum. */
static void soften(const struct kern *k, struct running *r, float *s, int n, float scale, float *y, int D) {
    float top = k->max(s, (size_t)n) * scale;
    if (top < r->top)
        top = r->top;
    float keep = expf(r->top - top);
    r->sum = r->sum * (double)keep + k->exp_sum(s, s, scale, top, (size_t)n);
    r->top = top;
    if (keep != 1)
        k->scale(y, keep, (size_t)D);
}

static void settle(const struct job *j, const struct running *r, int t, int h) {
    size_t at = (size_t)t * (size_t)j->H + (size_t)h;
    if (j->last[t] >= j->first[t])
        j->k->scale(j->y + at * (size_t)j->D, (float)(1 / r->sum), (size_t)j->D);
    if (j->lse)
        j->lse[at] = r->top + (float)log(r->sum);
}

/* ---- forward, a token at a time: decoding ----
 * The keys that a token sees are cut at multiples of SPAN. Each part is summed apart and the parts are put
 * together in order, whether one thread goes through them or several share them: so the sums depend on
 * neither, nor on what else the pass holds. */

/* A token and the head of keys that a group of its heads reads. */
struct few {
    struct job *j;
    const struct attention_lane *lanes;
    int n, group;
    int32_t *lane, *token; /* [n] of the tokens in question */
    int parts;             /* of a token at most */
    struct running *run;   /* [tokens, Hkv, parts, group]; NULL: parts one after the other */
    float *y;              /* the same, of D */
};

static struct kv_rows part_of(const struct job *j, const struct kv_view *kv, const void *data, int from,
                              int to, int head) {
    size_t each = cache_row_bytes(kv->form, j->D), next = kv->row ? kv->head : each;
    struct kv_rows r = {.stride = kv->row ? kv->row : each * (size_t)j->Hkv, .n = to - from};
    r.data = (const unsigned char *)data + (size_t)from * r.stride + (size_t)head * next;
    r.form = (enum kv_form)kv->form;
    return r;
}

/* Keys from .. to of head `head` for the group's queries. run, y [group, D] out; s: a thread's scratch. */
static void attend_part(const struct few *f, struct running *run, float *y, float *s, int i, int head,
                        int from, int to) {
    const struct job *j = f->j;
    const struct kv_view *kv = &f->lanes[f->lane[i]].kv;
    size_t D = (size_t)j->D, group = (size_t)f->group;
    const float *q = j->q + ((size_t)f->token[i] * (size_t)j->H + (size_t)head * group) * D;
    memset(y, 0, group * D * sizeof *y);
    j->k->scores(s, SPAN, q, f->group, part_of(j, kv, kv->k, from, to, head), j->D);
    for (size_t g = 0; g < group; g++) {
        float *p = s + g * SPAN;
        run[g].top = j->k->max(p, (size_t)(to - from)) * j->scale;
        run[g].sum = j->k->exp_sum(p, p, j->scale, run[g].top, (size_t)(to - from));
    }
    j->k->weigh(y, D, s, SPAN, f->group, part_of(j, kv, kv->v, from, to, head), j->D);
}

/* a and what it summed, y, take in a later part. */
static void join_part(struct running *a, float *y, const struct running *b, const float *more, int D) {
    float top = b->top > a->top ? b->top : a->top, keep = expf(a->top - top), take = expf(b->top - top);
    a->sum = a->sum * (double)keep + b->sum * (double)take;
    a->top = top;
    for (int i = 0; i < D; i++)
        y[i] = y[i] * keep + more[i] * take;
}

/* The keys of a token's part. */
static struct range part_range(const struct job *j, int t, int part) {
    int at = (j->first[t] / SPAN + part) * SPAN, from = part ? at : j->first[t];
    return (struct range){from, j->last[t] + 1 < at + SPAN ? j->last[t] + 1 : at + SPAN};
}

static int parts_of(const struct job *j, int t) {
    return j->last[t] < j->first[t] ? 0 : j->last[t] / SPAN - j->first[t] / SPAN + 1;
}

/* A unit: a token and a head of keys. */
static void attend_tokens(void *ctx, size_t from, size_t to, int worker) {
    struct few *f = ctx;
    struct job *j = f->j;
    size_t D = (size_t)j->D, group = (size_t)f->group;
    float *s = j->work + (size_t)worker * j->work_each, *more = s + group * SPAN;
    struct running *run = (struct running *)(void *)(more + group * D), *next = run + group;
    for (size_t unit = from; unit < to; unit++) {
        int i = (int)(unit / (size_t)j->Hkv), head = (int)(unit % (size_t)j->Hkv), t = f->token[i];
        float *y = j->y + ((size_t)t * (size_t)j->H + (size_t)head * group) * D;
        int parts = parts_of(j, t);
        for (int part = 0; part < parts; part++) {
            struct range r = part_range(j, t, part);
            size_t at = (unit * (size_t)f->parts + (size_t)part) * group;
            if (!f->run)
                attend_part(f, part ? next : run, part ? more : y, s, i, head, r.from, r.to);
            else if (!part) {
                memcpy(run, f->run + at, group * sizeof *run);
                memcpy(y, f->y + at * D, group * D * sizeof *y);
            }
            for (size_t g = 0; part && g < group; g++)
                join_part(&run[g], y + g * D, f->run ? &f->run[at + g] : &next[g],
                          f->run ? f->y + (at + g) * D : more + g * D, j->D);
        }
        if (!parts)
            memset(y, 0, group * D * sizeof *y);
        for (size_t g = 0; g < group; g++) {
            if (!parts)
                run[g] = (struct running){-INFINITY, 0};
            settle(j, &run[g], t, head * f->group + (int)g);
        }
    }
}

/* A unit: a part of one. */
static void attend_parts(void *ctx, size_t from, size_t to, int worker) {
    struct few *f = ctx;
    struct job *j = f->j;
    float *s = j->work + (size_t)worker * j->work_each;
    for (size_t unit = from; unit < to; unit++) {
        int part = (int)(unit % (size_t)f->parts);
        size_t whole = unit / (size_t)f->parts;
        int i = (int)(whole / (size_t)j->Hkv), head = (int)(whole % (size_t)j->Hkv);
        if (part >= parts_of(j, f->token[i]))
            continue;
        struct range r = part_range(j, f->token[i], part);
        size_t at = unit * (size_t)f->group;
        attend_part(f, f->run + at, f->y + at * (size_t)j->D, s, i, head, r.from, r.to);
    }
}

/* The lanes of few tokens, `tokens` in all. */
static void attend_few(struct ops *o, struct job *j, const struct attention_lane *lanes, int n, int tokens) {
    struct few f = {.j = j, .lanes = lanes, .group = j->H / j->Hkv};
    size_t mark = arena_mark(o->scratch), D = (size_t)j->D, keys = 0;
    f.lane = take(o, 2 * (size_t)tokens, sizeof *f.lane);
    f.token = f.lane + tokens;
    for (int l = 0; l < n; l++)
        for (int t = lanes[l].from; lanes[l].n <= FEW && t < lanes[l].from + lanes[l].n; t++) {
            int parts = parts_of(j, t);
            f.lane[f.n] = l;
            f.token[f.n++] = t;
            f.parts = parts > f.parts ? parts : f.parts;
            keys += parts ? (size_t)(j->last[t] - j->first[t] + 1) : 0;
        }
    size_t units = (size_t)(f.n * j->Hkv), threads = (size_t)pool_threads(o->pool);
    size_t sums = units * (size_t)(f.parts * f.group);
    bool small = keys * (size_t)j->H * D < SMALL;
    bool share = !small && threads > 1 && units < 4 * threads && f.parts > 1 &&
                 sums * (D * sizeof(float) + sizeof(struct running)) + 256 <= ATTENTION_BYTES;
    if (share) {
        f.run = take(o, sums, sizeof *f.run);
        f.y = take(o, sums * D, sizeof *f.y);
        run(o, units * (size_t)f.parts, 1, false, attend_parts, &f);
    }
    run(o, units, 1, small || share, attend_tokens, &f);
    arena_reset(o->scratch, mark);
}

/* ---- blocks of keys against blocks of queries ---- */

/* Rows of keys that tokens t .. t+n look at, as one range. */
static struct range reach(const struct job *j, int t, int n) {
    struct range all = {INT32_MAX, 0};
    for (int i = t; i < t + n; i++) {
        if (j->last[i] < j->first[i])
            continue;
        if (j->first[i] < all.from)
            all.from = j->first[i];
        if (j->last[i] + 1 > all.to)
            all.to = j->last[i] + 1;
    }
    return all;
}

/* Of the keys at .. at+n those that token t looks at, counted from at. */
static struct range visible(const struct job *j, int t, int at, int n) {
    struct range r = {j->first[t] - at, j->last[t] + 1 - at};
    if (r.from < 0)
        r.from = 0;
    if (r.to > n)
        r.to = n;
    if (r.to < r.from)
        r.to = r.from = 0;
    return r;
}

/* n rows of D as f32 rows. Returns data where they are that already; *ld is set. */
static const float *plain_rows(const struct job *j, const void *data, int at, int head, int n, float *room,
                               size_t *ld) {
    size_t D = (size_t)j->D;
    if (j->kv.form == CACHE_F32) {
        *ld = j->row / sizeof(float);
        return (const float *)(const void *)row_of(j, data, at, head);
    }
    *ld = D;
    for (int i = 0; i < n; i++)
        j->k->kv_get(room + (size_t)i * D, row_of(j, data, at + i, head), j->D, (enum kv_form)j->kv.form);
    return room;
}

/* s [m, KEYS] = a [m rows, lda] . rows^T, for n <= KEYS rows of D */
static void scores_of(const struct job *j, float *s, const float *a, size_t lda, int m, const float *panels,
                      int n) {
    int width = j->k->width;
    for (int c = 0; c < n; c += width) {
        int w = KEYS - c < width ? KEYS - c : width;
        j->k->mul_f32(s + c, KEYS, a, lda, 1, panels + (size_t)c * (size_t)j->D, (size_t)w, m,
                      n - c < w ? n - c : w, j->D, false);
    }
}

/* Panels of n <= KEYS rows of D: KEYS columns in all, zero beyond n. */
static void panels_of(const struct job *j, float *panels, const float *rows, size_t ld, int n) {
    int width = j->k->width, lanes = j->k->lanes;
    for (int c = 0; c < KEYS; c += lanes) {
        int first = c / width * width, w = KEYS - first < width ? KEYS - first : width;
        int valid = n - c < lanes ? n - c < 0 ? 0 : n - c : lanes;
        j->k->pack_f32(panels + (size_t)first * (size_t)j->D + (c - first), w, rows + (size_t)c * ld, ld,
                       valid, j->D);
    }
}

/* y [m, ldy] += a b for b [k, ldb] plain rows of D; a by strides */
static void weighted(const struct job *j, float *y, size_t ldy, const float *a, size_t rs, size_t ks,
                     const float *b, size_t ldb, int m, int k) {
    for (int c = 0; c < j->D; c += j->k->width) {
        int n = j->D - c < j->k->width ? j->D - c : j->k->width;
        j->k->mul_f32(y + c, ldy, a, rs, ks, b + c, ldb, m, n, k, true);
    }
}

static void attend_block(const struct job *j, struct running *run, float *s, int t, int m, int h, int at,
                         int n) {
    size_t ld = (size_t)(j->H * j->D);
    for (int i = 0; i < m; i++, s += KEYS) {
        struct range r = visible(j, t + i, at, n);
        if (r.to > r.from)
            soften(j->k, &run[i], s + r.from, r.to - r.from, j->scale,
                   j->y + (size_t)(t + i) * ld + (size_t)(h * j->D), j->D);
        memset(s, 0, (size_t)r.from * sizeof *s);
        memset(s + r.to, 0, (size_t)(n - r.to) * sizeof *s);
    }
}

/* A piece: TOKENS queries, and the heads that share a head of keys. */
static void attend_blocks(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    int group = j->H / j->Hkv;
    size_t D = (size_t)j->D, ld = (size_t)j->H * D, kd, vd;
    float *s = j->work + (size_t)worker * j->work_each, *panels = s + TOKENS * KEYS,
          *room = panels + KEYS * D;
    struct running *run = (struct running *)(void *)(room + KEYS * D);
    for (size_t i = from; i < to; i++) {
        int t = (int)(i / (size_t)j->Hkv) * TOKENS, head = (int)(i % (size_t)j->Hkv);
        int m = j->T - t < TOKENS ? j->T - t : TOKENS;
        struct range all = reach(j, t, m);
        for (int r = 0; r < group * TOKENS; r++)
            run[r] = (struct running){-INFINITY, 0};
        for (int r = 0; r < m; r++)
            memset(j->y + (size_t)(t + r) * ld + (size_t)(head * group) * D, 0,
                   (size_t)group * D * sizeof(float));
        for (int at = all.from; at < all.to; at += KEYS) {
            int n = all.to - at < KEYS ? all.to - at : KEYS;
            const float *keys = plain_rows(j, j->kv.k, at, head, n, room, &kd);
            panels_of(j, panels, keys, kd, n);
            const float *values = plain_rows(j, j->kv.v, at, head, n, room, &vd);
            for (int g = 0; g < group; g++) {
                int h = head * group + g;
                size_t row = (size_t)t * ld + (size_t)h * D;
                scores_of(j, s, j->q + row, ld, m, panels, n);
                attend_block(j, run + g * TOKENS, s, t, m, h, at, n);
                weighted(j, j->y + row, ld, s, KEYS, 1, values, vd, m, n);
            }
        }
        for (int g = 0; g < group; g++)
            for (int r = 0; r < m; r++)
                settle(j, &run[g * TOKENS + r], t + r, head * group + g);
    }
}

/* Keys that are looked at, by all tokens together. */
static double pairs_of(const int32_t *first, const int32_t *last, int T) {
    double n = 0;
    for (int t = 0; t < T; t++)
        n += last[t] >= first[t] ? last[t] - first[t] + 1 : 0;
    return n;
}

static size_t pieces_of(int T) {
    return (size_t)(T + TOKENS - 1) / TOKENS;
}

/* The job of one lane alone: its tokens are 0 .. T. */
static struct job lane_job(const struct job *all, const struct attention_lane *lane) {
    struct job j = *all;
    size_t at = (size_t)lane->from * (size_t)j.H;
    set_view(&j, &lane->kv);
    j.y += at * (size_t)j.D;
    j.q += at * (size_t)j.D;
    j.lse = j.lse ? j.lse + at : NULL;
    j.first += lane->from;
    j.last += lane->from;
    j.T = lane->n;
    return j;
}

void op_attention_lanes(struct ops *o, float *y, float *lse, const float *q,
                        const struct attention_lane *lanes, int n, const int32_t *first, const int32_t *last,
                        int H, int Hkv, int D) {
    double began = op_began(o), pairs = 0;
    size_t mark = arena_mark(o->scratch);
    struct job j = {.k = o->kern,
                    .y = y,
                    .lse = lse,
                    .q = q,
                    .first = first,
                    .last = last,
                    .H = H,
                    .Hkv = Hkv,
                    .D = D,
                    .scale = 1 / sqrtf((float)D)};
    int few = 0;
    j.work_each = attention_work(H, Hkv, D);
    j.work = take(o, (size_t)pool_threads(o->pool) * j.work_each, sizeof *j.work);
    for (int l = 0; l < n; l++) {
        if (lanes[l].n <= FEW) {
            few += lanes[l].n;
            continue;
        }
        struct job one = lane_job(&j, &lanes[l]);
        run(o, pieces_of(one.T) * (size_t)Hkv, 1, false, attend_blocks, &one);
    }
    if (few)
        attend_few(o, &j, lanes, n, few);
    for (int l = 0; o->profile && l < n; l++)
        pairs += pairs_of(first + lanes[l].from, last + lanes[l].from, lanes[l].n);
    arena_reset(o->scratch, mark);
    op_ended(o, OP_ATTENTION, began, 4.0 * pairs * H * D);
}

void op_attention(struct ops *o, float *y, float *lse, const float *q, const struct kv_view *kv,
                  const int32_t *first, const int32_t *last, int T, int H, int Hkv, int D) {
    const struct attention_lane lane = {*kv, 0, T};
    op_attention_lanes(o, y, lse, q, &lane, 1, first, last, H, Hkv, D);
}

size_t attention_work(int H, int Hkv, int D) {
    size_t group = (size_t)(H / Hkv), d = (size_t)D, state = sizeof(struct running) / sizeof(float);
    size_t blocks = TOKENS * KEYS + 2 * KEYS * d + group * TOKENS * state;
    size_t few = group * (SPAN + d + 2 * state);
    return ((blocks > few ? blocks : few) + 15) / 16 * 16;
}

/* ---- backward ---- */

/* Where the probabilities of query t of head h and the KEYS keys from `at` stand: the next query's come next,
 * so that a tile's lie together in the first-level cache. */
static size_t tile_at(const struct job *j, int h, int t, int at) {
    size_t block = (size_t)h * (CHUNK_KEYS / KEYS) + (size_t)(at - j->j0) / KEYS;
    return (block * (size_t)(j->t1 - j->t0) + (size_t)(t - j->t0)) * KEYS;
}

static bool meets(struct range all, int at, int n) {
    return all.from < at + n && at < all.to;
}

/* One tile: s holds scores, dp the gradient of the probabilities; p and ds are written. */
static void tile_back(const struct job *j, const float *s, const float *dp, int t, int m, int h, int at,
                      int n) {
    for (int i = 0; i < m; i++, s += KEYS, dp += KEYS) {
        size_t row = (size_t)(t + i) * (size_t)j->H + (size_t)h;
        float *p = j->p + tile_at(j, h, t + i, at), *ds = j->ds + tile_at(j, h, t + i, at);
        struct range r = visible(j, t + i, at, n);
        memset(p, 0, (size_t)n * sizeof *p);
        memset(ds, 0, (size_t)n * sizeof *ds);
        if (r.to == r.from)
            continue;
        j->k->exp_sum(p + r.from, s + r.from, j->scale, j->given_lse[row], (size_t)(r.to - r.from));
        for (int c = r.from; c < r.to; c++)
            ds[c] = p[c] * (dp[c] - j->delta[row]) * j->scale;
    }
}

/* First: a piece is TOKENS queries and the heads that share a head of keys. p, ds of the chunk, and dq. */
static void back_queries(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    int group = j->H / j->Hkv;
    size_t D = (size_t)j->D, ld = (size_t)j->H * D, kd;
    float *s = j->work + (size_t)worker * j->work_each, *dp = s + TOKENS * KEYS;
    float *key_panels = dp + TOKENS * KEYS, *value_panels = key_panels + KEYS * D;
    for (size_t i = from; i < to; i++) {
        int t = j->t0 + (int)(i / (size_t)j->Hkv) * TOKENS, head = (int)(i % (size_t)j->Hkv);
        int m = j->t1 - t < TOKENS ? j->t1 - t : TOKENS;
        struct range all = reach(j, t, m);
        for (int at = j->j0; at < j->j1; at += KEYS) {
            int n = j->j1 - at < KEYS ? j->j1 - at : KEYS;
            if (!meets(all, at, n))
                continue;
            const float *keys = plain_rows(j, j->kv.k, at, head, n, NULL, &kd);
            panels_of(j, key_panels, keys, kd, n);
            panels_of(j, value_panels, plain_rows(j, j->kv.v, at, head, n, NULL, &kd), kd, n);
            for (int g = 0; g < group; g++) {
                int h = head * group + g;
                size_t row = (size_t)t * ld + (size_t)h * D;
                scores_of(j, s, j->q + row, ld, m, key_panels, n);
                scores_of(j, dp, j->dy + row, ld, m, value_panels, n);
                tile_back(j, s, dp, t, m, h, at, n);
                weighted(j, j->dq + row, ld, j->ds + tile_at(j, h, t, at), KEYS, 1, keys, kd, m, n);
            }
        }
    }
}

/* Then: a piece is KEYS keys of one head. dk and dv, over the chunk's queries in order. */
static void back_keys(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    (void)worker;
    int group = j->H / j->Hkv;
    size_t D = (size_t)j->D, ld = (size_t)j->H * D, kd = (size_t)j->Hkv * D;
    for (size_t i = from; i < to; i++) {
        int at = j->j0 + (int)(i / (size_t)j->Hkv) * KEYS, head = (int)(i % (size_t)j->Hkv);
        int n = j->j1 - at < KEYS ? j->j1 - at : KEYS;
        size_t key = (size_t)at * kd + (size_t)head * D;
        for (int t = j->t0; t < j->t1; t += TOKENS) {
            int m = j->t1 - t < TOKENS ? j->t1 - t : TOKENS;
            if (!meets(reach(j, t, m), at, n))
                continue;
            for (int h = head * group; h < (head + 1) * group; h++) {
                size_t row = (size_t)t * ld + (size_t)h * D, tile = tile_at(j, h, t, at);
                weighted(j, j->dv + key, kd, j->p + tile, 1, KEYS, j->dy + row, ld, n, m);
                weighted(j, j->dk + key, kd, j->ds + tile, 1, KEYS, j->q + row, ld, n, m);
            }
        }
    }
}

static void back_start(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    (void)worker;
    size_t D = (size_t)j->D;
    memset(j->dq + from * D, 0, (to - from) * D * sizeof(float));
    for (size_t i = from; i < to; i++)
        j->delta[i] = (float)j->k->dot(j->dy + i * D, j->out + i * D, D);
}

int attention_chunk(int T, int H) {
    int most = ATTENTION_BYTES / (H * CHUNK_KEYS * 2 * (int)sizeof(float)) / TOKENS * TOKENS;
    assert(most > 0);
    return T < most ? T : most;
}

void op_attention_back(struct ops *o, float *dq, float *dk, float *dv, const float *dy, const float *y,
                       const float *lse, const float *q, const struct kv_view *kv, const int32_t *first,
                       const int32_t *last, int T, int H, int Hkv, int D) {
    double began = op_began(o);
    assert(kv->form == CACHE_F32);
    size_t mark = arena_mark(o->scratch);
    struct job j = {.k = o->kern,
                    .q = q,
                    .kv = *kv,
                    .first = first,
                    .last = last,
                    .T = T,
                    .H = H,
                    .Hkv = Hkv,
                    .D = D,
                    .scale = 1 / sqrtf((float)D),
                    .dq = dq,
                    .dk = dk,
                    .dv = dv,
                    .dy = dy,
                    .out = y,
                    .given_lse = lse};
    set_view(&j, kv);
    int chunk = attention_chunk(T, H);
    j.work_each = 2 * TOKENS * KEYS + 2 * KEYS * (size_t)D;
    j.work = take(o, (size_t)pool_threads(o->pool) * j.work_each, sizeof *j.work);
    j.p = take(o, (size_t)chunk * (size_t)H * CHUNK_KEYS, sizeof *j.p);
    j.ds = take(o, (size_t)chunk * (size_t)H * CHUNK_KEYS, sizeof *j.ds);
    j.delta = take(o, (size_t)T * (size_t)H, sizeof *j.delta);
    run(o, (size_t)T * (size_t)H, 64, false, back_start, &j);
    for (j.t0 = 0; j.t0 < T; j.t0 = j.t1) {
        j.t1 = T - j.t0 < chunk ? T : j.t0 + chunk;
        struct range all = reach(&j, j.t0, j.t1 - j.t0);
        for (j.j0 = all.from; j.j0 < all.to; j.j0 = j.j1) {
            j.j1 = all.to - j.j0 < CHUNK_KEYS ? all.to : j.j0 + CHUNK_KEYS;
            run(o, pieces_of(j.t1 - j.t0) * (size_t)Hkv, 1, false, back_queries, &j);
            run(o, (size_t)(j.j1 - j.j0 + KEYS - 1) / KEYS * (size_t)Hkv, 1, false, back_keys, &j);
        }
    }
    arena_reset(o->scratch, mark);
    op_ended(o, OP_ATTENTION_BACK, began, 10.0 * pairs_of(first, last, T) * H * D);
}
