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
    FEW = 8,          /* tokens below this go row by row */
    TOKENS = 32,      /* queries of a piece */
    KEYS = 64,        /* keys of a block */
    CHUNK_KEYS = 256, /* keys of the backward's chunk */
};

struct job {
    const struct kern *k;
    float *y, *lse; /* [T, H, D], [T, H] */
    const float *q; /* [T, H, D] */
    struct kv_view kv;
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

static const unsigned char *row_of(const struct job *j, const void *data, int row, int head) {
    size_t size = j->kv.f16 ? 2 : 4, D = (size_t)j->D;
    return (const unsigned char *)data + ((size_t)row * (size_t)j->Hkv + (size_t)head) * D * size;
}

static struct kv_rows rows_of(const struct job *j, const void *data, int row, int head, int n) {
    size_t size = j->kv.f16 ? 2 : 4;
    return (struct kv_rows){row_of(j, data, row, head), (size_t)(j->Hkv * j->D) * size, n, j->kv.f16};
}

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

/* ---- forward, a token and head at a time ---- */

static void attend_rows(void *ctx, size_t from, size_t to, int worker) {
    struct job *j = ctx;
    float *s = j->work + (size_t)worker * j->work_each;
    for (size_t i = from; i < to; i++) {
        int t = (int)i / j->H, h = (int)i % j->H, head = h / (j->H / j->Hkv);
        float *y = j->y + i * (size_t)j->D;
        const float *q = j->q + i * (size_t)j->D;
        struct running r = {-INFINITY, 0};
        memset(y, 0, (size_t)j->D * sizeof *y);
        for (int at = j->first[t]; at <= j->last[t]; at += KEYS) {
            int n = j->last[t] - at + 1 < KEYS ? j->last[t] - at + 1 : KEYS;
            j->k->scores(s, q, rows_of(j, j->kv.k, at, head, n), j->D);
            soften(j->k, &r, s, n, j->scale, y, j->D);
            j->k->weigh(y, s, rows_of(j, j->kv.v, at, head, n), j->D);
        }
        settle(j, &r, t, h);
    }
}

/* ---- blocks of keys against blocks of queries ---- */

struct range {
    int from, to;
};

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
    if (!j->kv.f16) {
        *ld = (size_t)j->Hkv * D;
        return (const float *)(const void *)row_of(j, data, at, head);
    }
    *ld = D;
    for (int i = 0; i < n; i++)
        j->k->decode[BLOCK_F16](room + (size_t)i * D, row_of(j, data, at + i, head), D);
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

void op_attention(struct ops *o, float *y, float *lse, const float *q, const struct kv_view *kv,
                  const int32_t *first, const int32_t *last, int T, int H, int Hkv, int D) {
    double began = op_began(o);
    size_t mark = arena_mark(o->scratch);
    struct job j = {.k = o->kern,
                    .y = y,
                    .lse = lse,
                    .q = q,
                    .kv = *kv,
                    .first = first,
                    .last = last,
                    .T = T,
                    .H = H,
                    .Hkv = Hkv,
                    .D = D,
                    .scale = 1 / sqrtf((float)D)};
    j.work_each = attention_work(H, Hkv, D);
    j.work = take(o, (size_t)pool_threads(o->pool) * j.work_each, sizeof *j.work);
    if (T < FEW)
        run(o, (size_t)(T * H), 1, last[T - 1] - first[T - 1] < 64, attend_rows, &j);
    else
        run(o, pieces_of(T) * (size_t)Hkv, 1, false, attend_blocks, &j);
    arena_reset(o->scratch, mark);
    op_ended(o, OP_ATTENTION, began, 4.0 * pairs_of(first, last, T) * H * D);
}

size_t attention_work(int H, int Hkv, int D) {
    size_t state = (size_t)(H / Hkv) * TOKENS * sizeof(struct running) / sizeof(float);
    return (TOKENS * KEYS + 2 * KEYS * (size_t)D + state + 15) / 16 * 16;
}

/* ---- backward ---- */

/* Where the probabilities of query t of head h and the chunk's keys from `at` stand. */
static size_t tile_at(const struct job *j, int h, int t, int at) {
    return ((size_t)h * (size_t)(j->t1 - j->t0) + (size_t)(t - j->t0)) * CHUNK_KEYS + (size_t)(at - j->j0);
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
                weighted(j, j->dq + row, ld, j->ds + tile_at(j, h, t, at), CHUNK_KEYS, 1, keys, kd, m, n);
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
                weighted(j, j->dv + key, kd, j->p + tile, 1, CHUNK_KEYS, j->dy + row, ld, n, m);
                weighted(j, j->dk + key, kd, j->ds + tile, 1, CHUNK_KEYS, j->q + row, ld, n, m);
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
    assert(!kv->f16);
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
