/* config.c: the family table, and a model's hyperparameters read from its keys. Every number is range-checked
 * here, so that the rest of model/ computes with them unchecked. Refuses what would change the forward pass
 * without being in it: other architectures, RoPE scaling that is not linear, experts, soft caps. */
#include "model/inside.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { QKV = 1 << LORA_Q | 1 << LORA_K | 1 << LORA_V, ALL = (1 << LORA_LINEARS) - 1 };

static const struct family families[] = {
    {.name = "llama", .permuted = true, .bias_known = ALL},
    {.name = "qwen2", .neox = true, .bias_needed = QKV, .bias_known = ALL},
    {.name = "qwen3", .neox = true, .head_norm = true},
    {.name = "gemma3",
     .neox = true,
     .head_norm = true,
     .post_norm = true,
     .gelu = true,
     .scaled_embed = true,
     .odd_layers = 62,
     .window_period = 6},
};
enum { FAMILIES = sizeof families / sizeof *families };

static plm_status family_find(const struct family **out, const struct gguf *g, plm_error *err) {
    struct str arch = {0};
    bool found;
    plm_status st = gguf_string(g, "general.architecture", &arch, &found, err);
    if (st)
        return st;
    if (!found)
        return fail(err, PLM_EFORMAT, "general.architecture is missing");
    char known[100] = "";
    for (size_t i = 0; i < FAMILIES; i++) {
        if (str_eq(arch, families[i].name)) {
            *out = &families[i];
            return PLM_OK;
        }
        if (i)
            strcat(known, ", ");
        strcat(known, families[i].name);
    }
    return fail(err, PLM_ENOTSUP, "architecture %.*s is not supported (there are: %s)",
                (int)(arch.n < 64 ? arch.n : 64), arch.p, known);
}

/* The first failure sticks, so that config_read can ask for all keys in a row. */
struct reader {
    const struct gguf *g;
    const char *arch;
    plm_error *err;
    plm_status st;
};

static const char *key_of(const struct reader *r, const char *name, char key[128]) {
    snprintf(key, 128, "%s.%s", r->arch, name);
    return key;
}

/* An integer of [low, high]; absent: other, or an error where other is 0. */
static int integer(struct reader *r, const char *name, int low, int high, int other) {
    char key[128];
    uint32_t v = 0;
    bool found = false;
    if (r->st)
        return low;
    r->st = gguf_u32(r->g, key_of(r, name, key), &v, &found, r->err);
    if (r->st)
        return low;
    if (!found && !other) {
        r->st = fail(r->err, PLM_EFORMAT, "%s is missing", key);
    } else if (!found) {
        return other;
    } else if (v < (uint32_t)low || v > (uint32_t)high) {
        r->st = fail(r->err, PLM_EFORMAT, "%s is %u, not from %d to %d", key, v, low, high);
    }
    return r->st ? low : (int)v;
}

static float number(struct reader *r, const char *name, float low, float high, float other) {
    char key[128];
    float v = 0;
    bool found = false;
    if (r->st)
        return low;
    r->st = gguf_f32(r->g, key_of(r, name, key), &v, &found, r->err);
    if (r->st)
        return low;
    if (!found && other == 0) {
        r->st = fail(r->err, PLM_EFORMAT, "%s is missing", key);
    } else if (!found) {
        return other;
    } else if (!(v >= low && v <= high)) { // also NaN
        r->st = fail(r->err, PLM_EFORMAT, "%s is %g, not from %g to %g", key, (double)v, (double)low,
                     (double)high);
    }
    return r->st ? low : v;
}

/* Keys that change what a layer computes; each must be absent or have the value that changes nothing. */
static void refuse_unknown_rules(struct reader *r) {
    static const struct rule {
        const char *name;
        float neutral;
    } rules[] = {
        {"rope.scale_linear", 1},      {"rope.scaling.attn_factor", 1}, {"expert_count", 0},
        {"attention.scale", 0},        {"attention.clamp_kqv", 0},      {"attention.max_alibi_bias", 0},
        {"attn_logit_softcapping", 0}, {"final_logit_softcapping", 0},  {"logit_scale", 1},
        {"embedding_scale", 1},        {"residual_scale", 1},
    };
    char key[128];
    for (size_t i = 0; !r->st && i < sizeof rules / sizeof *rules; i++) {
        float v = rules[i].neutral;
        bool found = false;
        key_of(r, rules[i].name, key);
        if (gguf_f32(r->g, key, &v, &found, NULL)) { // then it is an integer
            uint32_t n = 0;
            r->st = gguf_u32(r->g, key, &n, &found, r->err);
            v = (float)n;
        }
        if (!r->st && v != rules[i].neutral) {
            r->st = fail(r->err, PLM_ENOTSUP, "%s is %g, which is not supported", key, (double)v);
        }
    }
    bool causal = true, found = false;
    if (r->st)
        return;
    r->st = gguf_bool(r->g, key_of(r, "attention.causal", key), &causal, &found, r->err);
    if (!r->st && !causal)
        r->st = fail(r->err, PLM_ENOTSUP, "%s is false, which is not supported", key);
}

/* Positions divided by a factor, so that a long text turns no further than a short one did. */
static void read_scaling(struct reader *r, struct config *c) {
    char key[128];
    struct str type = {0};
    bool found = false;
    float factor = number(r, "rope.scaling.factor", 0, 1e6f, 1);
    if (r->st)
        return;
    r->st = gguf_string(r->g, key_of(r, "rope.scaling.type", key), &type, &found, r->err);
    if (!r->st && found && !str_eq(type, "none") && !str_eq(type, "linear")) {
        r->st = fail(r->err, PLM_ENOTSUP, "%s is %.*s, which is not supported", key,
                     (int)(type.n < 64 ? type.n : 64), type.p);
    }
    bool stretched = factor != 0 && !(found && str_eq(type, "none"));
    c->rope_stretch = stretched ? factor : 1;
}

static void read_window(struct reader *r, struct config *c, const struct family *family) {
    int window = integer(r, "attention.sliding_window", 0, 1 << 24, c->context);
    if (!family->window_period) {
        // A window at least as long as the context changes nothing, so the context ends where it would begin
        // to.
        if (window && window < c->context)
            c->context = window;
        return;
    }
    c->window = window;
    c->window_period = integer(r, "attention.sliding_window_pattern", 1, 1024, family->window_period);
    c->window_rope_base = number(r, "rope.freq_base_swa", 1, 1e12f, 10000);
}

static plm_status check_fit(const struct config *c, const struct family *f, int value_width, plm_error *err) {
    if (c->layers == f->odd_layers)
        return fail(err, PLM_ENOTSUP, "a %s model of %d layers is not supported", f->name, c->layers);
    if (c->heads % c->kv_heads) {
        return fail(err, PLM_EFORMAT, "%d heads are not a multiple of %d key-value heads", c->heads,
                    c->kv_heads);
    }
    if (value_width != c->head_width) {
        return fail(err, PLM_ENOTSUP, "values of width %d beside keys of width %d are not supported",
                    value_width, c->head_width);
    }
    if (c->head_width > 1024 || c->head_width % 2 || c->rotary % 2 || c->rotary > c->head_width) {
        return fail(err, PLM_EFORMAT, "RoPE over %d of a head's %d numbers is impossible", c->rotary,
                    c->head_width);
    }
    if (c->heads > (1 << 20) / c->head_width) {
        return fail(err, PLM_EFORMAT, "%d heads of width %d are too many", c->heads, c->head_width);
    }
    return PLM_OK;
}

plm_status config_read(struct config *c, const struct family **family, const struct gguf *g, plm_error *err) {
    plm_status st = family_find(family, g, err);
    if (st)
        return st;
    const struct family *f = *family;
    *c = (struct config){.neox = f->neox,
                         .permuted = f->permuted,
                         .head_norm = f->head_norm,
                         .post_norm = f->post_norm,
                         .gelu = f->gelu};
    snprintf(c->arch, sizeof c->arch, "%s", (*family)->name);
    struct reader r = {.g = g, .arch = c->arch, .err = err};

    c->context = integer(&r, "context_length", 1, 1 << 24, 0);
    c->width = integer(&r, "embedding_length", 1, 1 << 16, 0);
    c->layers = integer(&r, "block_count", 1, 1024, 0);
    c->ffn = integer(&r, "feed_forward_length", 1, 1 << 20, 0);
    c->heads = integer(&r, "attention.head_count", 1, 1024, 0);
    c->kv_heads = integer(&r, "attention.head_count_kv", 1, 1024, c->heads);
    c->norm_eps = number(&r, "attention.layer_norm_rms_epsilon", 1e-12f, 1e-1f, 0);
    c->rope_base = number(&r, "rope.freq_base", 1, 1e12f, 10000);
    if (r.st)
        return r.st;
    // A width that does not divide into the heads leaves no default.
    c->head_width =
        integer(&r, "attention.key_length", 2, 1024, c->width % c->heads ? 0 : c->width / c->heads);
    int value_width = integer(&r, "attention.value_length", 2, 1024, c->head_width);
    c->rotary = integer(&r, "rope.dimension_count", 2, 1024, c->head_width);
    c->embed_scale = f->scaled_embed ? sqrtf((float)c->width) : 1;
    read_window(&r, c, f);
    read_scaling(&r, c);
    refuse_unknown_rules(&r);
    return r.st ? r.st : check_fit(c, f, value_width, err);
}

int linear_in(const struct config *c, int linear) {
    switch (linear) {
    case LORA_O:
        return c->heads * c->head_width;
    case LORA_DOWN:
        return c->ffn;
    default:
        return c->width;
    }
}

int linear_out(const struct config *c, int linear) {
    switch (linear) {
    case LORA_Q:
        return c->heads * c->head_width;
    case LORA_K:
    case LORA_V:
        return c->kv_heads * c->head_width;
    case LORA_GATE:
    case LORA_UP:
        return c->ffn;
    default:
        return c->width;
    }
}

int widest(const struct config *c) {
    int w = c->width;
    if (c->ffn > w)
        w = c->ffn;
    if (c->heads * c->head_width > w)
        w = c->heads * c->head_width;
    return w;
}
