/* batch.c: which examples a step sees, and how they share passes. A pass holds whole examples side by side;
 * each sees only its own tokens (batch.first) and counts its positions from 0. What several of them begin
 * with, an instruction above all, is computed once: they see the same tokens, which get the sum of their
 * gradients. */
#include "train/trainer.h"
#include <stdlib.h>
#include <string.h>

/* ---- order ---- */

static const struct example **pick(const struct example *ex, size_t n, bool real_only, size_t *count) {
    const struct example **list = mem_alloc(n ? n : 1, sizeof *list);
    *count = 0;
    for (size_t i = 0; list && i < n; i++) {
        if (!ex[i].validation && !(real_only && ex[i].synthetic)) {
            list[(*count)++] = &ex[i];
        }
    }
    return list;
}

plm_status order_open(struct order *o, const struct example *ex, size_t n, uint64_t seed, plm_error *err) {
    *o = (struct order){.seed = seed, .perm_epoch = -1, .limit = SIZE_MAX};
    o->all = pick(ex, n, false, &o->n_all);
    o->real = pick(ex, n, true, &o->n_real);
    o->perm = mem_alloc(n ? n : 1, sizeof *o->perm);
    if (!o->all || !o->real || !o->perm) {
        order_close(o);
        return fail(err, PLM_ENOMEM, "no memory for the order of %zu examples", n);
    }
    return PLM_OK;
}

void order_close(struct order *o) {
    mem_free(o->all);
    mem_free(o->real);
    mem_free(o->perm);
    *o = (struct order){0};
}

static size_t place(struct order *o, bool real, size_t count, int64_t epoch, size_t i) {
    if (o->perm_epoch != epoch || o->perm_real != real) {
        struct rng r;
        rng_seed(&r, o->seed, (uint64_t)epoch * 2 + real);
        for (size_t k = 0; k < count; k++) {
            o->perm[k] = k;
        }
        if (!o->as_given) {
            rng_shuffle(&r, o->perm, count);
        }
        o->perm_epoch = epoch;
        o->perm_real = real;
    }
    return o->perm[i];
}

int order_step(struct order *o, int step, const struct example **out) {
    bool real = step >= o->real_from;
    size_t count = real ? o->n_real : o->n_all;
    size_t batch = (size_t)o->batch < count ? (size_t)o->batch : count;
    size_t begin = (size_t)(real ? step - o->real_from : step) * batch, end = begin + batch;
    if (!real && end > o->limit) {
        end = o->limit;
    }
    for (size_t k = begin; k < end; k++) {
        size_t i = place(o, real, count, (int64_t)(k / count), k % count);
        out[k - begin] = real ? o->real[i] : o->all[i];
    }
    return (int)(end - begin);
}

/* ---- passes ---- */

plm_status packer_open(struct packer *p, int cap, int most, plm_error *err) {
    *p = (struct packer){.cap = cap, .most = most};
    size_t c = (size_t)cap, n = (size_t)most;
    p->key = mem_alloc(n, sizeof *p->key);
    p->pass = mem_alloc(n, sizeof *p->pass);
    p->left = mem_alloc(n, sizeof *p->left);
    p->rows = mem_alloc(n, sizeof *p->rows);
    p->begin = mem_alloc(n, sizeof *p->begin);
    p->ids = mem_alloc(c, sizeof *p->ids);
    p->pos = mem_alloc(c, sizeof *p->pos);
    p->first = mem_alloc(c, sizeof *p->first);
    p->last = mem_alloc(c, sizeof *p->last);
    p->seen = mem_alloc(c, BATCH_ROWS * sizeof *p->seen);
    p->at = mem_alloc(c, sizeof *p->at);
    p->target = mem_alloc(c, sizeof *p->target);
    p->owner = mem_alloc(c, sizeof *p->owner);
    p->of = mem_alloc(c, sizeof *p->of);
    p->below = mem_alloc(c, sizeof *p->below);
    p->rows_of = mem_alloc(n, sizeof *p->rows_of);
    p->weight = mem_alloc(c, sizeof *p->weight);
    p->nll = mem_alloc(c, sizeof *p->nll);
    if (!p->key || !p->pass || !p->left || !p->rows || !p->begin || !p->ids || !p->pos || !p->first ||
        !p->last || !p->seen || !p->at || !p->target || !p->owner || !p->of || !p->below || !p->rows_of ||
        !p->weight || !p->nll) {
        packer_close(p);
        return fail(err, PLM_ENOMEM, "no memory for passes of %d tokens", cap);
    }
    return PLM_OK;
}

void packer_close(struct packer *p) {
    mem_free(p->key);
    mem_free(p->pass);
    mem_free(p->left);
    mem_free(p->rows);
    mem_free(p->begin);
    mem_free(p->ids);
    mem_free(p->pos);
    mem_free(p->first);
    mem_free(p->last);
    mem_free(p->seen);
    mem_free(p->at);
    mem_free(p->target);
    mem_free(p->owner);
    mem_free(p->of);
    mem_free(p->below);
    mem_free(p->rows_of);
    mem_free(p->weight);
    mem_free(p->nll);
    *p = (struct packer){0};
}

uint64_t packer_bytes(int cap, int most) {
    const struct packer *p = NULL;
    size_t token = sizeof *p->ids * (8 + BATCH_ROWS) + sizeof *p->below + sizeof *p->weight + sizeof *p->nll;
    size_t example = sizeof *p->key + sizeof *p->pass + sizeof *p->left + sizeof *p->rows + sizeof *p->begin +
                     sizeof *p->rows_of;
    return (uint64_t)cap * token + (uint64_t)most * example;
}

static int by_key(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int fed(const struct example *e) {
    return e->n - 1;
}

static int nth(const struct packer *p, int k) {
    return (int)(uint32_t)p->key[k];
}

/* Tokens at the beginning of a and b that are the same, and of which neither predicts a target. */
static int common(const struct example *a, const struct example *b) {
    int n = 0;
    while (n < fed(a) && n < fed(b) && a->ids[n] == b->ids[n] && !a->learn[n + 1] && !b->learn[n + 1])
        n++;
    return n;
}

/* Of the examples before the k-th in its pass, the one that begins most like it; -1: none does. */
static int nearest(const struct packer *p, int k, int pass, int *shared) {
    int best = -1;
    *shared = 0;
    for (int before = 0; before < k; before++) {
        int i = nth(p, before), n = p->pass[i] == pass ? common(p->ex[nth(p, k)], p->ex[i]) : 0;
        if (n > *shared) {
            *shared = n;
            best = i;
        }
    }
    return best;
}

/* How many tokens the k-th example takes in a pass; 0: there is no room. */
static int fits(const struct packer *p, int k, int pass, int rows) {
    int need = fed(p->ex[nth(p, k)]), shared = 0;
    if (p->left[pass] == 0 || p->rows[pass] + need > rows)
        return 0;
    nearest(p, k, pass, &shared);
    return need - shared <= p->left[pass] ? need - shared : 0;
}

void packer_plan(struct packer *p, const struct example **ex, int n, int cap) {
    p->ex = ex;
    p->n = n;
    p->passes = 0;
    for (int i = 0; i < n; i++) {
        p->key[i] = (uint64_t)(UINT32_MAX - (uint32_t)fed(ex[i])) << 32 | (uint32_t)i;
    }
    qsort(p->key, (size_t)n, sizeof *p->key, by_key);
    for (int k = 0; k < n; k++) {
        int i = nth(p, k), at = 0, takes = 0;
        while (at < p->passes && !(takes = fits(p, k, at, BATCH_ROWS * cap))) {
            at++;
        }
        if (at == p->passes) {
            p->left[p->passes] = cap;
            p->rows[p->passes++] = 0;
            takes = fed(ex[i]);
        }
        p->left[at] -= takes;
        p->rows[at] += fed(ex[i]);
        p->pass[i] = at;
    }
}

/* The k-th example, from T tokens and `rows` rows of its pass on. */
static void lay_example(struct packer *p, int k, int pass, const float *share, int *T, int *rows, int *n) {
    int i = nth(p, k), shared, start = *rows, like = nearest(p, k, pass, &shared);
    const struct example *e = p->ex[i];
    p->begin[i] = start;
    for (int j = 0; j < fed(e); j++, ++*rows) {
        if (j < shared) {
            p->seen[*rows] = p->seen[p->begin[like] + j];
            continue;
        }
        int t = (*T)++;
        p->seen[*rows] = t;
        p->ids[t] = e->ids[j];
        p->pos[t] = j;
        p->of[t] = i;
        p->first[t] = start;
        p->last[t] = *rows;
        if (e->learn[j + 1]) {
            p->at[*n] = t;
            p->target[*n] = e->ids[j + 1];
            p->owner[*n] = i;
            p->weight[(*n)++] = share ? share[i] / (float)e->targets : 0;
        }
    }
}

void packer_lay(struct packer *p, int pass, const float *share) {
    int T = 0, rows = 0, n = 0;
    for (int k = 0; k < p->n; k++) {
        if (p->pass[nth(p, k)] == pass) {
            lay_example(p, k, pass, share, &T, &rows, &n);
        }
    }
    p->batch = (struct batch){.T = T, .ids = p->ids, .pos = p->pos, .first = p->first};
    if (rows > T) {
        p->batch.seen = p->seen;
        p->batch.last = p->last;
        p->batch.rows = rows;
    }
    p->targets = n;
}
