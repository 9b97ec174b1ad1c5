/* lora_file.c: adapters as GGUF files, the way llama.cpp reads and writes them, with the base's hash and
 * plm's own words in further keys. It refuses any tensor that is not half of a pair on one of the seven
 * linears: an adapter that is understood in part would silently be another adapter. */
#include "lora/build.h"
#include <stdio.h>
#include <string.h>

static const char base_key[] = "plm.base.sha256";

/* ---- in ---- */

/* "blk.3.attn_q.weight.lora_a" */
static bool parse_name(struct str name, struct lora_place *at) {
    if (!str_starts(name, "blk."))
        return false;
    struct str rest = {name.p + 4, name.n - 4};
    at->layer = layer_number(&rest);
    at->half = str_ends(rest, ".weight.lora_a") ? HALF_A : HALF_B;
    if (at->layer < 0 || (at->half == HALF_B && !str_ends(rest, ".weight.lora_b")))
        return false;
    rest.n -= strlen(".weight.lora_a");
    for (at->linear = 0; at->linear < LORA_LINEARS; at->linear++)
        if (str_eq(rest, lora_gguf_name[at->linear]))
            return true;
    return false;
}

/* llama.cpp passes over norms that stand in an adapter, and so do we. */
static bool passed_over(struct str name) {
    return str_ends(name, "_norm.weight");
}

static plm_status take_tensors(struct lora_build *b, const struct gguf *g, plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; !st && i < gguf_n_tensors(g); i++) {
        const struct tensor *t = gguf_tensor_at(g, i);
        struct lora_place at;
        if (passed_over(t->name))
            continue;
        if (!parse_name(t->name, &at))
            return fail(err, PLM_ENOTSUP,
                        "%s: tensor %.*s: plm adapts the seven linears of a layer and nothing else", b->file,
                        (int)t->name.n, t->name.p);
        if (t->ne[2] != 1 || t->ne[3] != 1)
            return fail(err, PLM_ENOTSUP, "%s: tensor %.*s is not a matrix", b->file, (int)t->name.n,
                        t->name.p);
        st = build_put(b, at, &(struct lora_source){t->data, t->type, t->ne[1], t->ne[0]}, err);
    }
    return st;
}

/* Without a shape the tensors say how many layers there are. */
static int count_layers(const struct gguf *g) {
    int layers = 1;
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        struct lora_place at;
        if (parse_name(gguf_tensor_at(g, i)->name, &at) && at.layer >= layers)
            layers = at.layer + 1;
    }
    return layers;
}

/* A string key as a C string in buf; "" when absent. */
static plm_status short_string(const struct gguf *g, const char *key, char *buf, size_t cap, const char *file,
                               plm_error *err) {
    struct str s = {"", 0};
    bool found;
    plm_status st = gguf_string(g, key, &s, &found, err);
    if (st)
        return fail_in(err, st, file);
    if (s.n >= cap || memchr(s.p, 0, s.n))
        return fail(err, PLM_EFORMAT, "%s: the value of %s makes no sense", file, key);
    memcpy(buf, s.p, s.n);
    buf[s.n] = 0;
    return PLM_OK;
}

static plm_status check_kind(const struct gguf *g, const struct lora_shape *s, char *arch, const char *file,
                             plm_error *err) {
    char general[32], kind[32];
    plm_status st = short_string(g, "general.type", general, sizeof general, file, err);
    if (!st)
        st = short_string(g, "adapter.type", kind, sizeof kind, file, err);
    if (!st)
        st = short_string(g, "general.architecture", arch, sizeof((struct lora *)0)->arch, file, err);
    if (st)
        return st;
    if (strcmp(general, "adapter") != 0)
        return fail(err, PLM_EFORMAT, "%s: this GGUF file is not an adapter", file);
    if (strcmp(kind, "lora") != 0)
        return fail(err, PLM_ENOTSUP, "%s: an adapter of type '%s', not lora", file, kind);
    if (s && strcmp(arch, s->arch) != 0)
        return fail(err, PLM_EFORMAT, "%s: an adapter for the architecture '%s'; the model is %s", file, arch,
                    s->arch);
    struct gguf_array tokens;
    bool found;
    st = gguf_array(g, "adapter.alora.invocation_tokens", &tokens, &found, err);
    if (st || found)
        return fail(err, PLM_ENOTSUP, "%s: an adapter that wakes at certain tokens (aLoRA) is not supported",
                    file);
    return PLM_OK;
}

/* An integer here aborts llama.cpp; here it is an error like any other. */
static plm_status read_alpha(const struct gguf *g, float *alpha, const char *file, plm_error *err) {
    bool found;
    plm_status st = gguf_f32(g, "adapter.lora.alpha", alpha, &found, err);
    return st ? fail_in(err, st, file) : lora_check_alpha((double)*alpha, file, err);
}

static plm_status read_meta(struct lora *l, const struct gguf *g, const char *file, plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; !st && i < gguf_n_kv(g); i++) {
        enum kv_type type;
        const void *raw;
        size_t len;
        struct str key = gguf_key_at(g, i, &type, &raw, &len);
        if (!str_starts(key, "plm.") || type != KV_STRING || str_eq(key, base_key))
            continue;
        struct str text = {(const char *)raw + 8, len - 8};
        if (memchr(text.p, 0, text.n))
            return fail(err, PLM_EFORMAT, "%s: key %.*s holds a NUL byte", file,
                        (int)(key.n < 64 ? key.n : 64), key.p);
        char *k = mem_dup(key.p, key.n), *v = mem_dup(text.p, text.n);
        st = k && v ? lora_meta_set(l, k, v, err) : fail(err, PLM_ENOMEM, "no memory for an adapter's keys");
        mem_free(k);
        mem_free(v);
        if (st)
            return fail_in(err, st, file);
    }
    return st;
}

static plm_status read_words(struct lora *l, const struct gguf *g, const char *file, plm_error *err) {
    plm_status st = short_string(g, base_key, l->base_sha256, sizeof l->base_sha256, file, err);
    if (st)
        return st;
    if (l->base_sha256[0] && !lora_sha256_valid(str_of(l->base_sha256)))
        return fail(err, PLM_EFORMAT, "%s: the value of %s is not a SHA-256", file, base_key);
    struct str name;
    bool found;
    st = gguf_string(g, "general.name", &name, &found, err);
    if (st)
        return fail_in(err, st, file);
    if (found && (memchr(name.p, 0, name.n) || !utf8_valid(name.p, name.n, NULL)))
        return fail(err, PLM_EFORMAT, "%s: general.name is not text", file);
    if (found && !(l->name = mem_dup(name.p, name.n)))
        return fail(err, PLM_ENOMEM, "%s: no memory for its name", file);
    return read_meta(l, g, file, err);
}

static plm_status read_adapter(struct lora **out, const struct lora_shape *s, const struct gguf *g,
                               const char *file, plm_error *err) {
    char arch[sizeof((struct lora *)0)->arch];
    float alpha = 0;
    struct lora *l = NULL;
    struct lora_build b = {0};
    plm_status st = check_kind(g, s, arch, file, err);
    if (!st)
        st = read_alpha(g, &alpha, file, err);
    if (!st)
        st = build_open(&b, s ? s->layers : count_layers(g), file, err);
    if (!st)
        st = take_tensors(&b, g, err);
    if (!st)
        st = build_finish(&l, &b, s, false, err);
    build_close(&b);
    if (st)
        return st;
    l->alpha = alpha;
    memcpy(l->arch, arch, sizeof arch);
    st = read_words(l, g, file, err);
    if (st)
        lora_free(l);
    else
        *out = l;
    return st;
}

plm_status lora_parse_gguf(struct lora **out, const struct lora_shape *s, const void *data, size_t size,
                           const char *name, plm_error *err) {
    struct gguf *g = NULL;
    plm_status st = gguf_parse(&g, data, size, name, err);
    if (!st)
        st = read_adapter(out, s, g, name, err);
    gguf_close(g);
    return st;
}

plm_status lora_load_gguf(struct lora **out, const struct lora_shape *s, const char *path, plm_error *err) {
    struct gguf *g = NULL;
    plm_status st = gguf_open(&g, path, err);
    if (!st)
        st = read_adapter(out, s, g, path, err);
    gguf_close(g);
    return st;
}

plm_status lora_load(struct lora **out, const struct lora_shape *s, const char *path, plm_error *err) {
    return dir_exists(path) ? lora_load_peft(out, s, path, err) : lora_load_gguf(out, s, path, err);
}

/* ---- out ---- */

static void put_keys(struct gguf_writer *w, const struct lora *l) {
    gguf_put_string(w, "general.type", "adapter");
    gguf_put_string(w, "general.architecture", l->arch);
    if (l->name)
        gguf_put_string(w, "general.name", l->name);
    gguf_put_string(w, "adapter.type", "lora");
    gguf_put_f32(w, "adapter.lora.alpha", l->alpha);
    if (l->base_sha256[0])
        gguf_put_string(w, base_key, l->base_sha256);
    for (size_t i = 0; i < l->n_meta; i++)
        gguf_put_string(w, l->meta[i].key, l->meta[i].value);
}

static void declare_pair(struct gguf_writer *w, const struct lora_pair *p, int i) {
    char name[64];
    uint64_t in = (uint64_t)p->in, out = (uint64_t)p->out, rank = (uint64_t)p->rank;
    snprintf(name, sizeof name, "blk.%d.%s.weight.lora_a", i / LORA_LINEARS,
             lora_gguf_name[i % LORA_LINEARS]);
    gguf_put_tensor(w, name, DT_F32, 2, (uint64_t[]){in, rank});
    name[strlen(name) - 1] = 'b';
    gguf_put_tensor(w, name, DT_F32, 2, (uint64_t[]){rank, out});
}

plm_status lora_save_gguf(const struct lora *l, const char *path, plm_error *err) {
    struct gguf_writer *w;
    plm_status st = gguf_writer_open(&w, path, err);
    if (st)
        return st;
    put_keys(w, l);
    int pairs = l->layers * LORA_LINEARS;
    for (int i = 0; i < pairs; i++)
        if (l->pair[i].rank)
            declare_pair(w, &l->pair[i], i);
    for (int i = 0; !st && i < pairs; i++) {
        const struct lora_pair *p = &l->pair[i];
        if (!p->rank)
            continue;
        st = gguf_put_data(w, p->A, (size_t)p->in * (size_t)p->rank * sizeof(float), err);
        if (!st)
            st = gguf_put_data(w, p->B, (size_t)p->out * (size_t)p->rank * sizeof(float), err);
    }
    if (!st)
        return gguf_writer_commit(w, err);
    gguf_writer_abort(w);
    return st;
}
