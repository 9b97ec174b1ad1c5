/* tiny_model.c: the random model. Weights are normal with a spread of 1/sqrt(inputs), so that logits differ
 * clearly and gradients are neither lost nor huge. */
#include "tiny_model.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "modelfile/modelfile.h"

static const char chatml[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + "
    "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

static const char *const controls[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
enum { CONTROLS = 3, BYTES = 256 };

/* Pairs in the order of their rank; a blank is written as byte-level BPE writes it. */
#define SP "\xc4\xa0"
static const char *const merges[] = {
    SP " t",  "h e",   "i n",   SP " a",  "r e",  "o n",   SP "t he", "e r",   SP " s", "a t",     "e n",
    "o r",    "i t",   SP " w", "in g",   "a n",  "o u",   "e s",     "i s",   "n d",   SP "a nd", "t h",
    "a r",    SP " o", "l l",   SP "t o", "o m",  "e d",   SP " b",   SP " c", "v er",  SP "w as", "a s",
    SP "o f", "s t",   "l e",   "u n",    "an d", SP " 1", "1 2",     "e ver",
};
enum { MERGES = sizeof merges / sizeof *merges, VOCAB = CONTROLS + BYTES + MERGES };

int tiny_model_vocab(void) {
    return VOCAB;
}

static const struct family {
    const char *arch;
    bool controls_first, tied, biases, head_norm, post_norm;
} families[] = {
    {.arch = "llama", .controls_first = true, .tied = true},
    {.arch = "qwen2", .biases = true},
    {.arch = "qwen3", .head_norm = true},
    {.arch = "gemma3", .controls_first = true, .tied = true, .head_norm = true, .post_norm = true},
};

static int head_width(const struct tiny_model *m, const struct family *f) {
    return m->width / m->heads * (f->head_norm ? 2 : 1);
}

/* ---- vocabulary ---- */

struct words {
    char text[VOCAB][16];
    const char *token[VOCAB];
    int32_t type[VOCAB];
    const char *merge[MERGES];
    uint32_t bos, eos, pad;
};

/* The printable character that stands for a byte. */
static uint32_t byte_char(int byte) {
    uint32_t next = 256;
    for (int b = 0; b < 256; b++) {
        bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte)
            return itself ? (uint32_t)b : next;
        next += !itself;
    }
    return 0;
}

static void add_controls(struct words *w, int *n) {
    for (int i = 0; i < CONTROLS; i++) {
        w->type[*n] = 3;
        snprintf(w->text[(*n)++], sizeof *w->text, "%s", controls[i]);
    }
}

/* A merge's token is its two sides joined. */
static void fill_words(struct words *w, bool controls_first) {
    int n = 0;
    memset(w, 0, sizeof *w);
    if (controls_first)
        add_controls(w, &n);
    for (int b = 0; b < BYTES; b++) {
        w->type[n] = 1;
        w->text[n][utf8_put(byte_char(b), w->text[n])] = 0;
        n++;
    }
    for (int m = 0; m < MERGES; m++) {
        const char *blank = strchr(merges[m], ' ');
        w->type[n] = 1;
        snprintf(w->text[n++], sizeof *w->text, "%.*s%s", (int)(blank - merges[m]), merges[m], blank + 1);
        w->merge[m] = merges[m];
    }
    if (!controls_first)
        add_controls(w, &n);
    uint32_t first = controls_first ? 0 : VOCAB - CONTROLS;
    w->pad = first;
    w->bos = first + 1;
    w->eos = first + 2;
    for (int i = 0; i < VOCAB; i++)
        w->token[i] = w->text[i];
}

static plm_status put_words(struct gguf_writer *w, const struct tiny_model *m, bool controls_first,
                            plm_error *err) {
    struct words *v = mem_alloc(1, sizeof *v);
    if (!v)
        return fail(err, PLM_ENOMEM, "no memory for a tiny vocabulary");
    fill_words(v, controls_first);
    gguf_put_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_put_string(w, "tokenizer.ggml.pre", controls_first ? "smollm" : "qwen2");
    gguf_put_strings(w, "tokenizer.ggml.tokens", v->token, VOCAB);
    gguf_put_i32s(w, "tokenizer.ggml.token_type", v->type, VOCAB);
    gguf_put_strings(w, "tokenizer.ggml.merges", v->merge, MERGES);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", v->bos);
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", v->eos);
    gguf_put_u32(w, "tokenizer.ggml.padding_token_id", v->pad);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", false);
    if (m->template[0])
        gguf_put_string(w, "tokenizer.chat_template", m->template);
    mem_free(v);
    return PLM_OK;
}

/* ---- weights ---- */

struct plan { /* one tensor */
    char name[48];
    int type, in, out; /* out 0: a vector */
    float mean, spread;
};

struct plans {
    struct plan *t;
    int n;
};

static void plan(struct plans *p, const char *name, int layer, int type, int in, int out, float mean,
                 float spread) {
    struct plan *t = &p->t[p->n++];
    *t = (struct plan){.type = type, .in = in, .out = out, .mean = mean, .spread = spread};
    if (layer < 0)
        snprintf(t->name, sizeof t->name, "%s", name);
    else
        snprintf(t->name, sizeof t->name, "blk.%d.%s", layer, name);
}

static void plan_layer(struct plans *p, const struct tiny_model *m, const struct family *f, int i) {
    int w = m->width, head = head_width(m, f), q = head * m->heads, kv = head * m->kv_heads;
    float c = 1 / sqrtf((float)w), by_q = 1 / sqrtf((float)q), by_f = 1 / sqrtf((float)m->ffn);
    plan(p, "attn_norm.weight", i, DT_F32, w, 0, 1, .1f);
    plan(p, "attn_q.weight", i, m->type, w, q, 0, c);
    plan(p, "attn_k.weight", i, m->type, w, kv, 0, c);
    plan(p, "attn_v.weight", i, m->type, w, kv, 0, c);
    plan(p, "attn_output.weight", i, m->type, q, w, 0, by_q);
    if (f->head_norm) {
        plan(p, "attn_q_norm.weight", i, DT_F32, head, 0, 1, .1f);
        plan(p, "attn_k_norm.weight", i, DT_F32, head, 0, 1, .1f);
    }
    if (f->post_norm) {
        plan(p, "post_attention_norm.weight", i, DT_F32, w, 0, 1, .1f);
        plan(p, "post_ffw_norm.weight", i, DT_F32, w, 0, 1, .1f);
    }
    if (f->biases) {
        plan(p, "attn_q.bias", i, DT_F32, q, 0, 0, .2f);
        plan(p, "attn_k.bias", i, DT_F32, kv, 0, 0, .2f);
        plan(p, "attn_v.bias", i, DT_F32, kv, 0, 0, .2f);
    }
    plan(p, "ffn_norm.weight", i, DT_F32, w, 0, 1, .1f);
    plan(p, "ffn_gate.weight", i, m->type, w, m->ffn, 0, c);
    plan(p, "ffn_up.weight", i, m->type, w, m->ffn, 0, c);
    plan(p, "ffn_down.weight", i, m->type, m->ffn, w, 0, by_f);
}

static plm_status put_values(struct gguf_writer *w, const struct plan *t, uint64_t seed, uint64_t stream,
                             plm_error *err) {
    size_t rows = t->out ? (size_t)t->out : 1, cols = (size_t)t->in;
    uint64_t bytes = 0;
    struct rng r;
    if (!dtype_bytes(t->type, rows * cols, &bytes))
        return fail(err, PLM_EINVAL, "tensor %s: rows of %zu are not whole blocks", t->name, cols);
    float *x = mem_alloc(rows * cols, sizeof *x);
    void *q = mem_zero((size_t)bytes, 1);
    plm_status st = x && q ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for tensor %s", t->name);
    rng_seed(&r, seed, stream);
    for (size_t i = 0; !st && i < rows * cols; i++)
        x[i] = t->mean + t->spread * rng_normal(&r);
    const struct dtype_info *info = dtype_of(t->type);
    if (!st && !info->from_f32)
        st = fail(err, PLM_ENOTSUP, "no %s can be written", info->name);
    if (!st) {
        info->from_f32(q, x, rows * cols);
        st = gguf_put_data(w, q, (size_t)bytes, err);
    }
    mem_free(x);
    mem_free(q);
    return st;
}

static plm_status put_weights(struct gguf_writer *w, const struct tiny_model *m, const struct family *f,
                              plm_error *err) {
    struct plans p = {.t = mem_alloc((size_t)m->layers * 14 + 3, sizeof *p.t)};
    plm_status st = PLM_OK;
    if (!p.t)
        return fail(err, PLM_ENOMEM, "no memory for a tiny model's plan");
    plan(&p, "token_embd.weight", -1, m->type, m->width, VOCAB, 0, .5f);
    for (int i = 0; i < m->layers; i++)
        plan_layer(&p, m, f, i);
    plan(&p, "output_norm.weight", -1, DT_F32, m->width, 0, 1, .1f);
    if (!f->tied)
        plan(&p, "output.weight", -1, m->type, m->width, VOCAB, 0, .5f);
    for (int i = 0; i < p.n; i++)
        gguf_put_tensor(w, p.t[i].name, p.t[i].type, p.t[i].out ? 2 : 1,
                        (uint64_t[]){(uint64_t)p.t[i].in, (uint64_t)p.t[i].out});
    for (int i = 0; !st && i < p.n; i++)
        st = put_values(w, &p.t[i], m->seed, (uint64_t)i, err);
    mem_free(p.t);
    return st;
}

/* ---- the file ---- */

static void put_config(struct gguf_writer *w, const struct tiny_model *m, const struct family *f) {
    enum { WIDTHS = 2 }; // the first two only where a head has another width than width / heads
    const struct {
        const char *key;
        int value;
    } numbers[] = {
        {"attention.key_length", head_width(m, f)},
        {"attention.value_length", head_width(m, f)},
        {"context_length", m->context},
        {"embedding_length", m->width},
        {"block_count", m->layers},
        {"feed_forward_length", m->ffn},
        {"attention.head_count", m->heads},
        {"attention.head_count_kv", m->kv_heads},
        {"rope.dimension_count", head_width(m, f)},
        {"vocab_size", VOCAB},
    };
    char key[64];
    gguf_put_string(w, "general.architecture", m->arch);
    gguf_put_string(w, "general.name", "tiny");
    gguf_put_u32(w, "general.quantization_version", 2);
    size_t n = sizeof numbers / sizeof *numbers;
    for (size_t i = f->head_norm ? 0 : WIDTHS; i < n; i++) {
        snprintf(key, sizeof key, "%s.%s", m->arch, numbers[i].key);
        gguf_put_u32(w, key, (uint32_t)numbers[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", m->arch);
    gguf_put_f32(w, key, 1e-5f);
    snprintf(key, sizeof key, "%s.rope.freq_base", m->arch);
    gguf_put_f32(w, key, f->post_norm ? 1000000 : 10000);
    if (f->post_norm) {
        gguf_put_u32(w, "gemma3.attention.sliding_window", 8);
        gguf_put_u32(w, "gemma3.attention.sliding_window_pattern", 2);
        gguf_put_string(w, "gemma3.rope.scaling.type", "linear");
        gguf_put_f32(w, "gemma3.rope.scaling.factor", 4);
    }
}

static int given(int value, int other) {
    return value ? value : other;
}

plm_status tiny_model_write(const char *path, const struct tiny_model *spec, plm_error *err) {
    struct tiny_model m = spec ? *spec : (struct tiny_model){0};
    m.arch = m.arch ? m.arch : "llama";
    m.template = m.template ? m.template : chatml;
    m.width = given(m.width, 64);
    m.layers = given(m.layers, 2);
    m.heads = given(m.heads, 4);
    m.kv_heads = given(m.kv_heads, 2);
    m.ffn = given(m.ffn, 96);
    m.context = given(m.context, 256);
    const struct family *f = NULL;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        f = strcmp(m.arch, families[i].arch) == 0 ? &families[i] : f;
    if (!f)
        return fail(err, PLM_EINVAL, "a tiny model is llama, qwen2, qwen3 or gemma3, not %s", m.arch);
    if (m.width < 1 || m.layers < 1 || m.heads < 1 || m.kv_heads < 1 || m.ffn < 1 || m.context < 1 ||
        m.width % (2 * m.heads) || m.heads % m.kv_heads)
        return fail(err, PLM_EINVAL, "no model has width %d with %d heads and %d for keys", m.width, m.heads,
                    m.kv_heads);
    struct gguf_writer *w;
    plm_status st = gguf_writer_open(&w, path, err);
    if (st)
        return st;
    put_config(w, &m, f);
    st = put_words(w, &m, f->controls_first, err);
    if (!st)
        st = put_weights(w, &m, f, err);
    if (!st)
        return gguf_writer_commit(w, err);
    gguf_writer_abort(w);
    return st;
}
