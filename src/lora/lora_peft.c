/* lora_peft.c: adapters from PEFT folders: adapter_config.json, adapter_model.safetensors, and plm.json for
 * what PEFT has no word for. The tensors that are there decide what is adapted; the configuration decides the
 * scale. It refuses every option that changes the arithmetic beyond a scaled pair, and says which one it was.
 */
#include "lora/peft.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/json.h"

plm_status peft_path(char **out, const char *dir, const char *name, plm_error *err) {
    struct bytes b;
    bytes_init(&b, 1 << 16);
    bytes_printf(&b, "%s/%s", dir, name);
    plm_status st = bytes_status(&b, dir, err);
    if (!st && !(*out = bytes_take(&b)))
        st = fail(err, PLM_ENOMEM, "%s: no memory for its path", dir);
    bytes_free(&b);
    return st;
}

/* ---- configuration in ---- */

struct peft {
    double alpha;
    double rank;
    bool rslora;
    const json_t *rank_pattern, *alpha_pattern;
    const char *file;
};

static bool is_off(const json_t *v) {
    return !v || json_is_null(v) || json_is_false(v) || (json_is_array(v) && json_array_size(v) == 0) ||
           (json_is_object(v) && json_object_size(v) == 0);
}

/* Options that a scaled pair on each linear cannot express. */
static plm_status check_options(const json_t *c, const char *file, plm_error *err) {
    static const char *const off[] = {
        "use_dora",          "lora_bias",
        "modules_to_save",   "fan_in_fan_out",
        "use_qalora",        "use_bdlora",
        "layer_replication", "trainable_token_indices",
        "target_parameters", "alora_invocation_tokens",
        "arrow_config",      "kasa_config",
        "velora_config",     "monteclora_config",
    };
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        if (!is_off(json_object_get(c, off[i])))
            return fail(err, PLM_ENOTSUP, "%s: %s is set, which plm does not support", file, off[i]);
    const char *type = json_text(c, "peft_type"), *bias = json_text(c, "bias"),
               *init = json_text(c, "init_lora_weights");
    if (!type || strcmp(type, "LORA") != 0)
        return fail(err, PLM_ENOTSUP, "%s: peft_type is not LORA", file);
    if (json_object_get(c, "bias") && (!bias || strcmp(bias, "none") != 0))
        return fail(err, PLM_ENOTSUP, "%s: bias is not none; plm adapts no biases", file);
    /* Other ways to begin change the base's own weights as well. */
    if (init && strcmp(init, "gaussian") != 0 && strcmp(init, "orthogonal") != 0 && strcmp(init, "eva") != 0)
        return fail(err, PLM_ENOTSUP, "%s: init_lora_weights is %.40s, which also changes the base", file,
                    init);
    return PLM_OK;
}

static plm_status read_number(const json_t *c, const char *key, double *out, const char *file,
                              plm_error *err) {
    const json_t *v = json_object_get(c, key);
    if (v && !json_is_number(v))
        return fail(err, PLM_EFORMAT, "%s: %s is not a number", file, key);
    if (v)
        *out = json_number_value(v);
    return PLM_OK;
}

/* Patterns are regular expressions to PEFT; we read those that are plain ends of module names. */
static plm_status check_pattern(const json_t *pattern, const char *what, const char *file, plm_error *err) {
    const char *key;
    json_t *v;
    if (pattern && !json_is_null(pattern) && !json_is_object(pattern))
        return fail(err, PLM_EFORMAT, "%s: %s is not an object", file, what);
    json_object_foreach((json_t *)(uintptr_t)pattern, key, v) {
        if (key[strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")])
            return fail(err, PLM_ENOTSUP, "%s: %s: '%.60s' is no plain module name", file, what, key);
        double x = json_is_number(v) ? json_number_value(v) : -1;
        if (!isfinite(x) || x < 0 || x > 1e6)
            return fail(err, PLM_EFORMAT, "%s: %s: the value of '%.60s' makes no sense", file, what, key);
    }
    return PLM_OK;
}

static plm_status read_config(struct peft *p, const json_t *c, const char *file, plm_error *err) {
    *p = (struct peft){.alpha = 8, .rank = 8, .file = file}; /* PEFT's own defaults */
    if (!json_is_object(c))
        return fail(err, PLM_EFORMAT, "%s: the adapter's configuration is not an object", file);
    plm_status st = check_options(c, file, err);
    if (!st)
        st = read_number(c, "r", &p->rank, file, err);
    if (!st)
        st = read_number(c, "lora_alpha", &p->alpha, file, err);
    if (!st)
        st = lora_check_alpha(p->alpha, file, err);
    if (!st && (p->rank < 1 || p->rank > LORA_MAX_RANK || p->rank != floor(p->rank)))
        st = fail(err, PLM_EFORMAT, "%s: r is not a rank between 1 and %d", file, LORA_MAX_RANK);
    p->rslora = json_is_true(json_object_get(c, "use_rslora"));
    p->rank_pattern = json_object_get(c, "rank_pattern");
    p->alpha_pattern = json_object_get(c, "alpha_pattern");
    if (!st)
        st = check_pattern(p->rank_pattern, "rank_pattern", file, err);
    if (!st)
        st = check_pattern(p->alpha_pattern, "alpha_pattern", file, err);
    return st;
}

/* The value of the first pattern that the end of the module's name matches, else fallback. */
static double pattern_value(const json_t *pattern, const char *module, double fallback) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)pattern, key, v) {
        size_t n = strlen(module), k = strlen(key);
        if (k <= n && strcmp(module + n - k, key) == 0 && (k == n || module[n - k - 1] == '.'))
            return json_number_value(v);
    }
    return fallback;
}

/* GGUF has one alpha and divides by each pair's rank: what is left of PEFT's scale goes into B. */
static plm_status set_factors(struct lora_build *b, const struct peft *p, float *alpha, plm_error *err) {
    double common = p->rslora ? p->alpha * sqrt(p->rank) : p->alpha;
    *alpha = (float)common;
    for (int i = 0; i < b->layers * LORA_LINEARS; i++) {
        char module[96];
        const struct lora_source *a = &b->half[i][HALF_A];
        if (!a->data)
            continue;
        snprintf(module, sizeof module, "model.layers.%d.%s", i / LORA_LINEARS,
                 lora_peft_name[i % LORA_LINEARS]);
        double r = pattern_value(p->rank_pattern, module, p->rank);
        double own = pattern_value(p->alpha_pattern, module, p->alpha);
        if ((double)a->rows != r)
            return fail(err, PLM_EFORMAT, "%s: layer %d %s has rank %llu, the configuration says %g", b->file,
                        i / LORA_LINEARS, lora_gguf_name[i % LORA_LINEARS], (unsigned long long)a->rows, r);
        double wanted = own == 0 ? 1 : p->rslora ? own / sqrt(r) : own / r;
        double given = common == 0 ? 1 : common / r;
        bool plain = own == p->alpha && (!p->rslora || r == p->rank);
        b->factor[i] = plain ? 1 : (float)(wanted / given);
    }
    return PLM_OK;
}

/* ---- tensors in ---- */

/* What a tensor is that is no half of a pair, for the refusal. */
static const char *foreign_kind(struct str name) {
    static const char *const kinds[][2] = {
        {"lora_magnitude_vector", "belongs to DoRA"},
        {"lora_embedding_", "adapts the embeddings"},
        {"lm_head", "adapts the output head"},
        {"modules_to_save", "replaces a whole module"},
        {"bias", "is a bias"},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        if (memmem(name.p, name.n, kinds[k][0], strlen(kinds[k][0])))
            return kinds[k][1];
    return "is no pair on one of the seven linears of a layer";
}

/* "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"; the layers of a text model that is part
 * of one for images too have one of two longer names. */
static bool parse_name(struct str name, struct lora_place *at) {
    static const char *const prefixes[] = {"base_model.model.model.layers.",
                                           "base_model.model.model.language_model.layers.",
                                           "base_model.model.language_model.model.layers."};
    static const char a[] = ".lora_A.weight", b[] = ".lora_B.weight";
    size_t known = 0;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        known = str_starts(name, prefixes[i]) ? strlen(prefixes[i]) : known;
    if (!known)
        return false;
    struct str rest = {name.p + known, name.n - known};
    at->layer = layer_number(&rest);
    at->half = str_ends(rest, a) ? HALF_A : HALF_B;
    if (at->layer < 0 || (at->half == HALF_B && !str_ends(rest, b)))
        return false;
    rest.n -= strlen(a);
    for (at->linear = 0; at->linear < LORA_LINEARS; at->linear++)
        if (str_eq(rest, lora_peft_name[at->linear]))
            return true;
    return false;
}

static int count_layers(const struct safetensors *t) {
    int layers = 1;
    for (size_t i = 0; i < safetensors_count(t); i++) {
        struct lora_place at;
        if (parse_name(str_of(safetensors_at(t, i)->name), &at) && at.layer >= layers)
            layers = at.layer + 1;
    }
    return layers;
}

static plm_status take_tensors(struct lora_build *b, const struct safetensors *t, plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; !st && i < safetensors_count(t); i++) {
        const struct safe_tensor *x = safetensors_at(t, i);
        struct lora_place at;
        if (!parse_name(str_of(x->name), &at))
            return fail(err, PLM_ENOTSUP, "%s: tensor %.100s %s, which plm does not support", b->file,
                        x->name, foreign_kind(str_of(x->name)));
        if (x->n_dims != 2)
            return fail(err, PLM_EFORMAT, "%s: tensor %.100s is not a matrix", b->file, x->name);
        st = build_put(b, at, &(struct lora_source){x->data, x->type, x->shape[0], x->shape[1]}, err);
    }
    return st;
}

static plm_status read_adapter(struct lora **out, const struct lora_shape *s, const json_t *config,
                               const struct safetensors *t, const char *file, plm_error *err) {
    struct peft p;
    struct lora_build b = {0};
    struct lora *l = NULL;
    float alpha = 0;
    plm_status st = read_config(&p, config, file, err);
    if (!st)
        st = build_open(&b, s ? s->layers : count_layers(t), file, err);
    if (!st)
        st = take_tensors(&b, t, err);
    if (!st)
        st = set_factors(&b, &p, &alpha, err);
    if (!st)
        st = build_finish(&l, &b, s, true, err);
    build_close(&b);
    if (st)
        return st;
    l->alpha = alpha;
    if (s)
        snprintf(l->arch, sizeof l->arch, "%s", s->arch);
    *out = l;
    return PLM_OK;
}

plm_status lora_parse_peft(struct lora **out, const struct lora_shape *s, const char *config,
                           size_t config_len, const void *tensors, size_t tensors_len, const char *name,
                           plm_error *err) {
    json_t *c = NULL;
    struct safetensors *t = NULL;
    if (config_len > PEFT_TEXT_MAX)
        return fail(err, PLM_ELIMIT, "%s: %s is longer than %d bytes", name, PEFT_CONFIG, PEFT_TEXT_MAX);
    plm_status st = json_parse(&c, config, config_len, name, err);
    if (!st)
        st = safetensors_parse(&t, tensors, tensors_len, name, err);
    if (!st)
        st = read_adapter(out, s, c, t, name, err);
    json_decref(c);
    safetensors_close(t);
    return st;
}

/* ---- plm's own words in ---- */

static plm_status take_words(struct lora *l, const struct lora_shape *s, const json_t *doc, const char *file,
                             plm_error *err) {
    const char *arch = json_text(doc, "arch"), *base = json_text(doc, "base_sha256"),
               *name = json_text(doc, "name");
    const char *key;
    json_t *v;
    if (!json_is_object(doc) || (arch && strlen(arch) >= sizeof l->arch) ||
        (base && !lora_sha256_valid(str_of(base))))
        return fail(err, PLM_EFORMAT, "%s: not the words that plm keeps beside an adapter", file);
    if (s && arch && strcmp(arch, s->arch) != 0)
        return fail(err, PLM_EFORMAT, "%s: an adapter for the architecture '%s'; the model is %s", file, arch,
                    s->arch);
    if (arch)
        memcpy(l->arch, arch, strlen(arch) + 1);
    if (base)
        memcpy(l->base_sha256, base, sizeof l->base_sha256);
    if (name && !(l->name = mem_dupz(name)))
        return fail(err, PLM_ENOMEM, "%s: no memory for its name", file);
    json_t *meta = json_object_get(doc, "meta");
    json_object_foreach(meta, key, v) {
        const char *text = json_text(meta, key);
        plm_status st =
            text ? lora_meta_set(l, key, text, err) : fail(err, PLM_EFORMAT, "%.60s is no text", key);
        if (st)
            return fail_in(err, st, file);
    }
    return PLM_OK;
}

static plm_status load_words(struct lora *l, const struct lora_shape *s, const char *dir, plm_error *err) {
    char *path;
    struct bytes text;
    json_t *doc = NULL;
    plm_status st = peft_path(&path, dir, PEFT_WORDS, err);
    if (st)
        return st;
    bytes_init(&text, PEFT_TEXT_MAX);
    if (file_exists(path)) {
        st = file_read(path, PEFT_TEXT_MAX, &text, err);
        if (!st)
            st = json_parse(&doc, text.data, text.len, path, err);
        if (!st)
            st = take_words(l, s, doc, path, err);
    }
    json_decref(doc);
    bytes_free(&text);
    mem_free(path);
    return st;
}

plm_status lora_load_peft(struct lora **out, const struct lora_shape *s, const char *dir, plm_error *err) {
    char *config_path = NULL, *tensors_path = NULL;
    struct bytes config;
    struct map map = {0};
    struct lora *l = NULL;
    bytes_init(&config, PEFT_TEXT_MAX);
    plm_status st = peft_path(&config_path, dir, PEFT_CONFIG, err);
    if (!st)
        st = peft_path(&tensors_path, dir, PEFT_TENSORS, err);
    if (!st)
        st = file_read(config_path, PEFT_TEXT_MAX, &config, err);
    if (!st)
        st = map_open(&map, tensors_path, err);
    if (!st) {
        st = lora_parse_peft(&l, s, config.data, config.len, map.data, map.size, dir, err);
        map_close(&map);
    }
    if (!st)
        st = load_words(l, s, dir, err);
    if (st)
        lora_free(l);
    else
        *out = l;
    bytes_free(&config);
    mem_free(config_path);
    mem_free(tensors_path);
    return st;
}
