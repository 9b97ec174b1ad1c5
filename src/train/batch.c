/* batch.c: which examples a step sees, and how they share passes. A pass holds whole examples side by side;
 * each sees only its own tokens (batch.first) and counts its positions from 0. */
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
        rng_shuffle(&r, o->perm, count);
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
    p->ids = mem_alloc(c, sizeof *p->ids);
    p->pos = mem_alloc(c, sizeof *p->pos);
    p->first = mem_alloc(c, sizeof *p->first);
    p->at = mem_alloc(c, sizeof *p->at);
    p->target = mem_alloc(c, sizeof *p->target);
    p->owner = mem_alloc(c, sizeof *p->owner);
    p->weight = mem_alloc(c, sizeof *p->weight);
    p->nll = mem_alloc(c, sizeof *p->nll);
    if (!p->key || !p->pass || !p->left || !p->ids || !p->pos || !p->first || !p->at || !p->target ||
        !p->owner || !p->weight || !p->nll) {
        packer_close(p);
        return fail(err, PLM_ENOMEM, "no memory for passes of %d tokens", cap);
    }
    return PLM_OK;
}

void packer_close(struct packer *p) {
    mem_free(p->key);
    mem_free(p->pass);
    mem_free(p->left);
    mem_free(p->ids);
    mem_free(p->pos);
    mem_free(p->first);
    mem_free(p->at);
    mem_free(p->target);
    mem_free(p->owner);
    mem_free(p->weight);
    mem_free(p->nll);
    *p = (struct packer){0};
}

uint64_t packer_bytes(int cap, int most) {
    const struct packer *p = NULL;
    size_t token = sizeof *p->ids * 6 + sizeof *p->weight + sizeof *p->nll;
    size_t example = sizeof *p->key + sizeof *p->pass + sizeof *p->left;
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

void packer_plan(struct packer *p, const struct example **ex, int n, int cap) {
    p->ex = ex;
    p->n = n;
    p->passes = 0;
    for (int i = 0; i < n; i++) {
        p->key[i] = (uint64_t)(UINT32_MAX - (uint32_t)fed(ex[i])) << 32 | (uint32_t)i;
    }
    qsort(p->key, (size_t)n, sizeof *p->key, by_key);
    for (int k = 0; k < n; k++) {
        int i = nth(p, k), need = fed(ex[i]), at = 0;
        while (at < p->passes && p->left[at] < need) {
            at++;
        }
        if (at == p->passes) {
            p->left[p->passes++] = cap;
        }
        p->left[at] -= need;
        p->pass[i] = at;
    }
}

void packer_lay(struct packer *p, int pass, const float *share) {
    int T = 0, n = 0;
    for (int k = 0; k < p->n; k++) {
        int i = nth(p, k);
        if (p->pass[i] != pass) {
            continue;
        }
        const struct example *e = p->ex[i];
        int start = T;
        for (int j = 0; j < fed(e); j++, T++) {
            p->ids[T] = e->ids[j];
            p->pos[T] = j;
            p->first[T] = start;
            if (e->learn[j + 1]) {
                p->at[n] = T;
                p->target[n] = e->ids[j + 1];
                p->owner[n] = i;
                p->weight[n] = share ? share[i] / (float)e->targets : 0;
                n++;
            }
        }
    }
    p->batch = (struct batch){.T = T, .ids = p->ids, .pos = p->pos, .first = p->first};
    p->targets = n;
}
