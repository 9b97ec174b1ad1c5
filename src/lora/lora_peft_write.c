/* lora_peft_write.c: adapters as PEFT folders that PEFT itself loads. Rows of q and k go back to PEFT's order
 * where GGUF permutes them; the base's hash and plm's own words stand beside, in plm.json. */
#include "lora/peft.h"
#include <stdio.h>
#include <string.h>

/* B with its rows in PEFT's order. */
static void copy_rows(float *out, const struct lora_pair *p, int heads) {
    size_t r = (size_t)p->rank;
    for (int row = 0; row < p->out; row++) {
        int from = heads ? permuted_row(row, p->out, heads) : row;
        memcpy(out + (size_t)row * r, p->B + (size_t)from * r, r * sizeof *out);
    }
}

struct peft_out {
    struct safe_out *t;
    char (*name)[96];
    size_t n;
    float *rows; /* every B, in PEFT's order */
};

static void out_pair(struct peft_out *o, const struct lora *l, int i, float *rows) {
    const struct lora_pair *p = &l->pair[i];
    for (int half = 0; half < 2; half++) {
        size_t n = o->n++;
        snprintf(o->name[n], sizeof o->name[n], "base_model.model.model.layers.%d.%s.lora_%c.weight",
                 i / LORA_LINEARS, lora_peft_name[i % LORA_LINEARS], "AB"[half]);
        uint64_t r = (uint64_t)p->rank;
        o->t[n] = half == HALF_A ? (struct safe_out){o->name[n], 2, {r, (uint64_t)p->in}, p->A}
                                 : (struct safe_out){o->name[n], 2, {(uint64_t)p->out, r}, rows};
    }
}

static plm_status write_tensors(const struct lora *l, const struct lora_shape *s, const char *path,
                                plm_error *err) {
    size_t pairs = (size_t)l->layers * LORA_LINEARS;
    struct peft_out o = {.t = mem_alloc(2 * pairs, sizeof *o.t),
                         .name = mem_alloc(2 * pairs, sizeof *o.name),
                         .rows = mem_alloc(l->parameters, sizeof *o.rows)};
    plm_status st = PLM_OK;
    if (!o.t || !o.name || !o.rows)
        st = fail(err, PLM_ENOMEM, "%s: no memory to write it", path);
    float *rows = o.rows;
    for (size_t i = 0; !st && i < pairs; i++) {
        const struct lora_pair *p = &l->pair[i];
        if (p->rank == 0)
            continue;
        copy_rows(rows, p, lora_permute_heads(s, (int)(i % LORA_LINEARS)));
        out_pair(&o, l, (int)i, rows);
        rows += (size_t)p->out * (size_t)p->rank;
    }
    if (!st)
        st = safetensors_write(path, o.t, o.n, err);
    mem_free(o.t);
    mem_free(o.name);
    mem_free(o.rows);
    return st;
}

/* How many layers have this linear. */
static int layers_with(const struct lora *l, int linear) {
    int n = 0;
    for (int i = 0; i < l->layers; i++)
        n += l->pair[i * LORA_LINEARS + linear].rank > 0;
    return n;
}

/* A linear of every layer goes by its short name, others by their full ones. */
static void put_targets(struct bytes *b, const struct lora *l) {
    const char *comma = "";
    for (int k = 0; k < LORA_LINEARS; k++) {
        bool all = layers_with(l, k) == l->layers;
        for (int i = 0; i < (all ? 1 : l->layers); i++) {
            if (!l->pair[i * LORA_LINEARS + k].rank)
                continue;
            if (all)
                bytes_printf(b, "%s\n    \"%s\"", comma, strchr(lora_peft_name[k], '.') + 1);
            else
                bytes_printf(b, "%s\n    \"model.layers.%d.%s\"", comma, i, lora_peft_name[k]);
            comma = ",";
        }
    }
}

/* Ranks that differ from r, by full module name. */
static void put_ranks(struct bytes *b, const struct lora *l) {
    const char *comma = "";
    for (int i = 0; i < l->layers * LORA_LINEARS; i++)
        if (l->pair[i].rank && l->pair[i].rank != l->rank) {
            bytes_printf(b, "%s\n    \"model.layers.%d.%s\": %d", comma, i / LORA_LINEARS,
                         lora_peft_name[i % LORA_LINEARS], l->pair[i].rank);
            comma = ",";
        }
}

static plm_status write_config(const struct lora *l, const char *path, plm_error *err) {
    struct bytes b;
    bytes_init(&b, PEFT_TEXT_MAX);
    bytes_puts(&b, "{\n  \"alpha_pattern\": {");
    if (l->alpha == 0) /* no scale: alpha is each pair's rank */
        put_ranks(&b, l);
    bytes_printf(
        &b,
        "},\n  \"base_model_name_or_path\": null,\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n"
        "  \"inference_mode\": true,\n  \"init_lora_weights\": true,\n  \"layers_pattern\": null,\n"
        "  \"layers_to_transform\": null,\n  \"lora_alpha\": %.9g,\n  \"lora_dropout\": 0.0,\n"
        "  \"modules_to_save\": null,\n  \"peft_type\": \"LORA\",\n  \"r\": %d,\n  \"rank_pattern\": {",
        l->alpha == 0 ? (double)l->rank : (double)l->alpha, l->rank);
    put_ranks(&b, l);
    bytes_puts(&b, "},\n  \"revision\": null,\n  \"target_modules\": [");
    put_targets(&b, l);
    bytes_puts(
        &b, "\n  ],\n  \"task_type\": \"CAUSAL_LM\",\n  \"use_dora\": false,\n  \"use_rslora\": false\n}\n");
    plm_status st = bytes_status(&b, path, err);
    if (!st)
        st = file_replace(path, b.data, b.len, err);
    bytes_free(&b);
    return st;
}

static void put_text(struct bytes *b, const char *before, const char *key, const char *value) {
    bytes_puts(b, before);
    bytes_json(b, key, strlen(key));
    bytes_puts(b, ": ");
    bytes_json(b, value, strlen(value));
}

static plm_status write_words(const struct lora *l, const char *path, plm_error *err) {
    struct bytes b;
    bytes_init(&b, PEFT_TEXT_MAX);
    put_text(&b, "{\n  ", "arch", l->arch);
    if (l->base_sha256[0])
        put_text(&b, ",\n  ", "base_sha256", l->base_sha256);
    bytes_puts(&b, ",\n  \"meta\": {");
    for (size_t i = 0; i < l->n_meta; i++)
        put_text(&b, i ? ",\n    " : "\n    ", l->meta[i].key, l->meta[i].value);
    bytes_puts(&b, "}");
    if (l->name)
        put_text(&b, ",\n  ", "name", l->name);
    bytes_puts(&b, "\n}\n");
    plm_status st = bytes_status(&b, path, err);
    if (!st)
        st = file_replace(path, b.data, b.len, err);
    bytes_free(&b);
    return st;
}

/* The configuration is written last: without it the folder is no adapter to anybody. */
plm_status lora_save_peft(const struct lora *l, const struct lora_shape *s, const char *dir, plm_error *err) {
    char *tensors = NULL, *words = NULL, *config = NULL;
    plm_status st = dir_make(dir, err);
    if (!st)
        st = peft_path(&tensors, dir, PEFT_TENSORS, err);
    if (!st)
        st = peft_path(&words, dir, PEFT_WORDS, err);
    if (!st)
        st = peft_path(&config, dir, PEFT_CONFIG, err);
    if (!st)
        st = write_tensors(l, s, tensors, err);
    if (!st)
        st = write_words(l, words, err);
    if (!st)
        st = write_config(l, config, err);
    mem_free(tensors);
    mem_free(words);
    mem_free(config);
    return st;
}
