/* lora.c: an adapter in memory: one block of values, laid out layer by layer in LORA_* order, A before B, so
 * that an optimiser sees a plain vector; and its few words of metadata, kept sorted. */
#include "lora/build.h"
#include <math.h>
#include <string.h>

const char *const lora_gguf_name[LORA_LINEARS] = {
    "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down",
};
const char *const lora_peft_name[LORA_LINEARS] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj",
};

float lora_scale(const struct lora *l, const struct lora_pair *p, float user_scale) {
    return l->alpha == 0 ? user_scale : user_scale * l->alpha / (float)p->rank;
}

plm_status lora_alloc(struct lora **out, int layers, plm_error *err) {
    struct lora *l = mem_zero(1, sizeof *l);
    struct lora_pair *pair = mem_zero((size_t)layers * LORA_LINEARS, sizeof *pair);
    if (!l || !pair) {
        mem_free(l);
        mem_free(pair);
        return fail(err, PLM_ENOMEM, "no memory for an adapter of %d layers", layers);
    }
    l->layers = layers;
    l->pair = pair;
    *out = l;
    return PLM_OK;
}

static size_t pair_values(const struct lora_pair *p) {
    return (size_t)p->rank * ((size_t)p->in + (size_t)p->out);
}

plm_status lora_lay_out(struct lora *l, plm_error *err) {
    size_t pairs = (size_t)l->layers * LORA_LINEARS, at = 0;
    l->parameters = 0;
    for (size_t i = 0; i < pairs; i++)
        l->parameters += pair_values(&l->pair[i]);
    l->values = mem_aligned(l->parameters, sizeof *l->values);
    if (!l->values)
        return fail(err, PLM_ENOMEM, "no memory for an adapter of %zu values", l->parameters);
    for (size_t i = 0; i < pairs; i++) {
        struct lora_pair *p = &l->pair[i];
        if (p->rank == 0)
            continue;
        p->A = l->values + at;
        p->B = p->A + (size_t)p->rank * (size_t)p->in;
        at += pair_values(p);
        l->targets |= 1u << (i % LORA_LINEARS);
        if (p->rank > l->rank)
            l->rank = p->rank;
    }
    return PLM_OK;
}

/* A uniform in +-1/sqrt(in), each matrix from a stream of its own; B stays zero: the adapter begins as
 * nothing. */
static void start_values(struct lora *l, uint64_t seed) {
    for (size_t i = 0; i < (size_t)l->layers * LORA_LINEARS; i++) {
        struct lora_pair *p = &l->pair[i];
        struct rng r;
        rng_seed(&r, seed, i);
        double bound = p->rank ? 1 / sqrt(p->in) : 0;
        for (size_t j = 0; j < (size_t)p->rank * (size_t)p->in; j++)
            p->A[j] = (float)((2 * rng_unit(&r) - 1) * bound);
    }
}

int lora_first_layer(const struct lora *l) {
    int i = 0;
    while (i < l->layers * LORA_LINEARS && !l->pair[i].A)
        i++;
    return i / LORA_LINEARS;
}

plm_status lora_new(struct lora **out, const struct lora_shape *s, int first, int rank, float alpha,
                    unsigned targets, uint64_t seed, plm_error *err) {
    if (rank < 1 || rank > LORA_MAX_NEW_RANK)
        return fail(err, PLM_EINVAL, "rank %d is not between 1 and %d", rank, LORA_MAX_NEW_RANK);
    if (targets == 0 || targets >> LORA_LINEARS)
        return fail(err, PLM_EINVAL, "an adapter needs one or more of the %d linears of a layer",
                    LORA_LINEARS);
    if (s->layers < 1 || s->layers > LORA_MAX_LAYERS || strlen(s->arch) >= sizeof(*out)->arch)
        return fail(err, PLM_EINVAL, "no adapter for a model of %d layers", s->layers);
    if (first < 0 || first >= s->layers)
        return fail(err, PLM_EINVAL, "no layer of %d is adapted from layer %d on", s->layers, first);
    plm_status st = lora_check_alpha((double)alpha, "the new adapter", err);
    struct lora *l = NULL;
    if (!st)
        st = lora_alloc(&l, s->layers, err);
    if (st)
        return st;
    l->alpha = alpha;
    memcpy(l->arch, s->arch, strlen(s->arch) + 1);
    for (int i = 0; i < s->layers * LORA_LINEARS; i++) {
        int k = i % LORA_LINEARS;
        bool adapted = i / LORA_LINEARS >= first && targets >> k & 1;
        l->pair[i] = (struct lora_pair){.rank = adapted ? rank : 0, .in = s->in[k], .out = s->out[k]};
    }
    st = lora_lay_out(l, err);
    if (st) {
        lora_free(l);
        return st;
    }
    start_values(l, seed);
    *out = l;
    return PLM_OK;
}

static plm_status copy_words(struct lora *to, const struct lora *from, plm_error *err) {
    memcpy(to->arch, from->arch, sizeof to->arch);
    memcpy(to->base_sha256, from->base_sha256, sizeof to->base_sha256);
    if (from->name && !(to->name = mem_dupz(from->name)))
        return fail(err, PLM_ENOMEM, "no memory to copy an adapter");
    plm_status st = PLM_OK;
    for (size_t i = 0; !st && i < from->n_meta; i++)
        st = lora_meta_set(to, from->meta[i].key, from->meta[i].value, err);
    return st;
}

plm_status lora_copy(struct lora **out, const struct lora *from, plm_error *err) {
    struct lora *l = NULL;
    plm_status st = lora_alloc(&l, from->layers, err);
    if (st)
        return st;
    l->alpha = from->alpha;
    memcpy(l->pair, from->pair, (size_t)l->layers * LORA_LINEARS * sizeof *l->pair);
    st = lora_lay_out(l, err);
    if (!st)
        st = copy_words(l, from, err);
    if (st) {
        lora_free(l);
        return st;
    }
    memcpy(l->values, from->values, l->parameters * sizeof *l->values);
    *out = l;
    return PLM_OK;
}

void lora_free(struct lora *l) {
    if (!l)
        return;
    for (size_t i = 0; i < l->n_meta; i++) {
        mem_free(l->meta[i].key);
        mem_free(l->meta[i].value);
    }
    mem_free(l->meta);
    mem_free(l->name);
    mem_free(l->values);
    mem_free(l->pair);
    mem_free(l);
}

/* ---- metadata ---- */

/* Where key is, or where it would stand. */
static size_t meta_place(const struct lora *l, const char *key, bool *there) {
    size_t i = 0;
    int c = -1;
    while (i < l->n_meta && (c = strcmp(l->meta[i].key, key)) < 0)
        i++;
    *there = i < l->n_meta && c == 0;
    return i;
}

static void meta_remove(struct lora *l, size_t i, bool there) {
    if (!there)
        return;
    mem_free(l->meta[i].key);
    mem_free(l->meta[i].value);
    l->n_meta--;
    memmove(l->meta + i, l->meta + i + 1, (l->n_meta - i) * sizeof *l->meta);
}

plm_status lora_meta_set(struct lora *l, const char *key, const char *value, plm_error *err) {
    if (!str_starts(str_of(key), "plm.") || strcmp(key, "plm.base.sha256") == 0 || strlen(key) > 200)
        return fail(err, PLM_EINVAL, "an adapter's own keys start with plm., unlike %.60s", key);
    bool there;
    size_t i = meta_place(l, key, &there);
    if (!value) {
        meta_remove(l, i, there);
        return PLM_OK;
    }
    if (strlen(value) > GGUF_MAX_STRING || !utf8_valid(value, strlen(value), NULL) ||
        !utf8_valid(key, strlen(key), NULL))
        return fail(err, PLM_EINVAL, "the value of %s is not text that an adapter can hold", key);
    char *v = mem_dupz(value);
    if (!v)
        return fail(err, PLM_ENOMEM, "no memory for %s", key);
    if (there) {
        mem_free(l->meta[i].value);
        l->meta[i].value = v;
        return PLM_OK;
    }
    char *k = mem_dupz(key);
    struct lora_meta *meta =
        k && l->n_meta < LORA_MAX_META ? mem_grow(l->meta, l->n_meta + 1, sizeof *meta) : NULL;
    if (!meta) {
        mem_free(v);
        mem_free(k);
        return l->n_meta < LORA_MAX_META
                   ? fail(err, PLM_ENOMEM, "no memory for %s", key)
                   : fail(err, PLM_ELIMIT, "an adapter holds at most %d keys of its own", LORA_MAX_META);
    }
    l->meta = meta;
    memmove(meta + i + 1, meta + i, (l->n_meta - i) * sizeof *meta);
    meta[i] = (struct lora_meta){k, v};
    l->n_meta++;
    return PLM_OK;
}

const char *lora_meta_get(const struct lora *l, const char *key) {
    bool there;
    size_t i = meta_place(l, key, &there);
    return there ? l->meta[i].value : NULL;
}
