/* adapter.c: the public adapters over lora/: which model they fit, and the facts they show. Refuses an
 * adapter that names another base; one that names none (PEFT, llama.cpp) has to fit by shape. */
#include "model/inside.h"
#include <math.h>
#include <string.h>

enum { RANK_DEFAULT = 8 };
static const uint64_t SMALL_MODEL = 1000000000; /* parameters; below it all linears are adapted by default */

static void describe(plm_adapter *a) {
    const struct lora *l = a->lora;
    a->facts = (plm_adapter_facts){
        .rank = l->rank,
        .layers = l->layers,
        .alpha = l->alpha,
        .targets = l->targets,
        .parameters = l->parameters,
        .arch = l->arch,
        .base_sha256 = l->base_sha256[0] ? l->base_sha256 : NULL,
        .n_meta = l->n_meta,
        .first_layer = lora_first_layer(l),
    };
}

plm_status plm_adapter_new(plm_adapter **out, const plm_model *m, const plm_adapter_options *opt,
                           plm_error *err) {
    static const plm_adapter_options defaults;
    if (!out || !m)
        return fail(err, PLM_EINVAL, "plm_adapter_new needs a place for the adapter and a model");
    if (!opt)
        opt = &defaults;
    int rank = opt->rank ? opt->rank : RANK_DEFAULT;
    float alpha = opt->alpha != 0 ? opt->alpha : 2.0f * (float)rank;
    unsigned targets = opt->targets;
    if (!targets)
        targets = m->facts.parameters < SMALL_MODEL ? PLM_ALL_LINEAR : PLM_Q | PLM_V;
    if (rank < 1 || rank > ADAPTER_MAX_RANK) {
        return fail(err, PLM_EINVAL, "a rank of %d is not from 1 to %d", rank, ADAPTER_MAX_RANK);
    }
    if (!isfinite(alpha) || alpha < 0)
        return fail(err, PLM_EINVAL, "an alpha of %g is impossible", (double)alpha);
    if (targets & ~(unsigned)PLM_ALL_LINEAR)
        return fail(err, PLM_EINVAL, "targets %#x are unknown", targets);
    if (opt->layers < 0 || opt->layers > m->cfg.layers)
        return fail(err, PLM_EINVAL, "%d layers to adapt: the model has %d", opt->layers, m->cfg.layers);
    plm_adapter *a = mem_zero(1, sizeof *a);
    if (!a)
        return fail(err, PLM_ENOMEM, "no memory for an adapter");
    a->model = m;
    plm_status st = lora_new(&a->lora, &m->shape, opt->layers ? m->cfg.layers - opt->layers : 0, rank, alpha,
                             targets, opt->seed, err);
    if (!st)
        st = plm_model_digest(m, a->lora->base_sha256, err);
    if (st) {
        plm_adapter_free(a);
        return st;
    }
    describe(a);
    *out = a;
    return PLM_OK;
}

static plm_status check_base(const plm_adapter *a, const plm_model *m, const char *path, plm_error *err) {
    if (a->lora->rank > ADAPTER_MAX_RANK) {
        return fail(err, PLM_ENOTSUP, "%s: a rank of %d is over %d", path, a->lora->rank, ADAPTER_MAX_RANK);
    }
    if (!a->lora->base_sha256[0])
        return PLM_OK;
    char hex[65];
    plm_status st = plm_model_digest(m, hex, err);
    if (st || !strcmp(hex, a->lora->base_sha256))
        return st;
    return fail(err, PLM_EINVAL, "%s was trained for the model with sha256 %.12s..., not for %s (%.12s...)",
                path, a->lora->base_sha256, m->path, hex);
}

plm_status plm_adapter_load(plm_adapter **out, const plm_model *m, const char *path, plm_error *err) {
    if (!out || !path)
        return fail(err, PLM_EINVAL, "plm_adapter_load needs a place for the adapter and a path");
    plm_adapter *a = mem_zero(1, sizeof *a);
    if (!a)
        return fail(err, PLM_ENOMEM, "no memory for an adapter");
    a->model = m;
    plm_status st = lora_load(&a->lora, m ? &m->shape : NULL, path, err);
    if (!st && m)
        st = check_base(a, m, path, err);
    if (st) {
        plm_adapter_free(a);
        return st;
    }
    describe(a);
    *out = a;
    return PLM_OK;
}

plm_status plm_adapter_save(const plm_adapter *a, const char *path, plm_error *err) {
    if (!a || !path)
        return fail(err, PLM_EINVAL, "plm_adapter_save needs an adapter and a path");
    return lora_save_gguf(a->lora, path, err);
}

plm_status plm_adapter_save_peft(const plm_adapter *a, const char *dir, plm_error *err) {
    if (!a || !dir)
        return fail(err, PLM_EINVAL, "plm_adapter_save_peft needs an adapter and a folder");
    if (!a->model)
        return fail(err, PLM_EINVAL, "an adapter loaded without its model can't be written as PEFT");
    return lora_save_peft(a->lora, &a->model->shape, dir, err);
}

/* ---- the copy that decoding reads ---- */

struct copy {
    const struct kern *k;
    const struct lora *from;
    unsigned char *to;
    size_t size;
};

static void copy_pairs(void *ctx, size_t from, size_t to, int worker) {
    struct copy *c = ctx;
    (void)worker;
    for (size_t i = from; i < to; i++) {
        const struct lora_pair *p = &c->from->pair[i];
        if (p->A)
            lora_copy_pair(c->k, c->to + (size_t)(p->A - c->from->values) * c->size,
                           c->to + (size_t)(p->B - c->from->values) * c->size, p->A, p->B, p->in, p->rank,
                           p->out);
    }
}

/* Each product of a token reads a few pages of it, so the pages had better be large. */
static plm_status room_for_copy(plm_adapter *a, size_t bytes, plm_error *err) {
    enum { LARGE = 2 << 20 };
    if (arena_open(&a->room, bytes + LARGE, NULL))
        return fail(err, PLM_ENOMEM, "no memory for a copy of an adapter");
    size_t skip = LARGE - (uintptr_t)a->room.base % LARGE;
    a->copy = a->room.base + skip;
    mem_large_pages(a->copy, bytes);
    return PLM_OK;
}

plm_status adapter_prepare(const plm_adapter *adapter, plm_error *err) {
    plm_adapter *a = (plm_adapter *)adapter; // the copy is no part of what it says; the lock guards it
    plm_model *m = (plm_model *)a->model;
    pthread_mutex_lock(&m->lock);
    struct copy c = {.k = m->kern, .from = a->lora, .size = lora_copy_form(m->kern) == CACHE_F16 ? 2 : 4};
    plm_status st = PLM_OK;
    if (!a->copy)
        st = room_for_copy(a, a->lora->parameters * c.size, err);
    if (!st && a->copied != a->lora->edits + 1) {
        c.to = a->copy;
        pool_for(m->pool, (size_t)a->lora->layers * LORA_LINEARS, 1, copy_pairs, &c);
        a->copied = a->lora->edits + 1;
    }
    pthread_mutex_unlock(&m->lock);
    return st;
}

void plm_adapter_free(plm_adapter *a) {
    if (!a)
        return;
    arena_close(&a->room);
    lora_free(a->lora);
    mem_free(a);
}

const plm_adapter_facts *plm_adapter_describe(const plm_adapter *a) {
    return &a->facts;
}

plm_status plm_adapter_set(plm_adapter *a, const char *key, const char *value, plm_error *err) {
    if (!a || !key)
        return fail(err, PLM_EINVAL, "plm_adapter_set needs an adapter and a key");
    plm_status st = lora_meta_set(a->lora, key, value, err);
    a->facts.n_meta = a->lora->n_meta;
    return st;
}

const char *plm_adapter_get(const plm_adapter *a, const char *key) {
    return lora_meta_get(a->lora, key);
}

void plm_adapter_meta(const plm_adapter *a, size_t i, const char **key, const char **value) {
    bool there = i < a->lora->n_meta;
    if (key)
        *key = there ? a->lora->meta[i].key : NULL;
    if (value)
        *value = there ? a->lora->meta[i].value : NULL;
}
