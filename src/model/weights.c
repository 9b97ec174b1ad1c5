/* weights.c: binds every tensor of a model file to its place, by name, type and shape. Refuses a tensor that
 * is missing, misshapen, of a type without kernels, or unknown: a forward pass that left one out would be
 * wrong. */
#include "model/inside.h"
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct binder {
    plm_model *m;
    plm_error *err;
    plm_status st; /* the first failure sticks */
    size_t bound;  /* tensors that found their place */
};

static const struct tensor *find(struct binder *b, const char *name, bool needed) {
    if (b->st)
        return NULL;
    const struct tensor *t = gguf_tensor(b->m->file, name);
    if (t)
        b->bound++;
    if (!t && needed)
        b->st = fail(b->err, PLM_EFORMAT, "tensor %s is missing", name);
    return t;
}

/* [rows, cols], or [cols] where rows is 0 */
static bool shaped(struct binder *b, const struct tensor *t, const char *name, int cols, int rows) {
    if (t->ne[0] == (uint64_t)cols && t->ne[1] == (uint64_t)(rows ? rows : 1) && t->ne[2] == 1 &&
        t->ne[3] == 1) {
        return true;
    }
    char want[40];
    snprintf(want, sizeof want, rows ? "[%d, %d]" : "[%d]", cols, rows);
    b->st =
        fail(b->err, PLM_EFORMAT, "tensor %s is [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 "], not %s",
             name, t->ne[0], t->ne[1], t->ne[2], t->ne[3], want);
    return false;
}

/* [n] of F32, every one finite */
static const float *vector(struct binder *b, const char *name, int n, bool needed) {
    const struct tensor *t = find(b, name, needed);
    if (!t || !shaped(b, t, name, n, 0))
        return NULL;
    if (t->type != DT_F32) {
        const struct dtype_info *info = dtype_of(t->type);
        b->st = fail(b->err, PLM_ENOTSUP, "tensor %s is %s; only F32 is supported there", name,
                     info ? info->name : "of an unknown type");
        return NULL;
    }
    if ((uintptr_t)t->data % sizeof(float)) {
        b->st = fail(b->err, PLM_EFORMAT, "tensor %s is not aligned to 4 bytes", name);
        return NULL;
    }
    const float *v = t->data;
    for (int i = 0; i < n; i++) {
        if (isfinite(v[i]))
            continue;
        b->st = fail(b->err, PLM_EFORMAT, "tensor %s: value %d is not finite", name, i);
        return NULL;
    }
    return v;
}

static struct matrix matrix(struct binder *b, const char *name, int out, int in, bool needed) {
    const struct tensor *t = find(b, name, needed);
    if (!t || !shaped(b, t, name, in, out))
        return (struct matrix){0};
    const struct dtype_info *info = dtype_of(t->type);
    if (!info || !info->computes) {
        b->st = fail(b->err, PLM_ENOTSUP, "tensor %s is %s, which has no kernels here", name,
                     info && info->name ? info->name : "of an unknown type");
        return (struct matrix){0};
    }
    size_t align = t->type == DT_F32 ? 4 : 2; // blocks hold 16-bit scales
    if ((uintptr_t)t->data % align) {
        b->st = fail(b->err, PLM_EFORMAT, "tensor %s is not aligned to %zu bytes", name, align);
        return (struct matrix){0};
    }
    return matrix_of(t->data, (enum dtype)t->type, out, in);
}

/* The norms of a layer, and which families have them. */
static const struct layer_norm {
    const char *name;
    size_t at; /* in struct layer_weights */
    bool post, of_heads;
} layer_norms[] = {
    {"attn_norm.weight", offsetof(struct layer_weights, attn_norm), false, false},
    {"ffn_norm.weight", offsetof(struct layer_weights, ffn_norm), false, false},
    {"post_attention_norm.weight", offsetof(struct layer_weights, attn_out_norm), true, false},
    {"post_ffw_norm.weight", offsetof(struct layer_weights, ffn_out_norm), true, false},
    {"attn_q_norm.weight", offsetof(struct layer_weights, q_norm), false, true},
    {"attn_k_norm.weight", offsetof(struct layer_weights, k_norm), false, true},
};
enum { LAYER_NORMS = sizeof layer_norms / sizeof *layer_norms };

static bool has_norm(const struct config *c, const struct layer_norm *n) {
    return (!n->post || c->post_norm) && (!n->of_heads || c->head_norm);
}

static void bind_layer(struct binder *b, const struct family *family, int l) {
    const struct config *c = &b->m->cfg;
    struct layer_weights *w = &b->m->layer[l];
    char name[64];
    for (size_t i = 0; i < LAYER_NORMS; i++) {
        const struct layer_norm *n = &layer_norms[i];
        if (!has_norm(c, n))
            continue;
        snprintf(name, sizeof name, "blk.%d.%s", l, n->name);
        *(const float **)((char *)w + n->at) = vector(b, name, n->of_heads ? c->head_width : c->width, true);
    }
    for (int i = 0; i < LORA_LINEARS; i++) {
        snprintf(name, sizeof name, "blk.%d.%s.weight", l, lora_gguf_name[i]);
        w->linear[i] = matrix(b, name, linear_out(c, i), linear_in(c, i), true);
        w->linear[i].place = i <= LORA_V ? 1 : i == LORA_O ? 2 : i <= LORA_UP ? 3 : 4;
        if (!(family->bias_known >> i & 1))
            continue;
        snprintf(name, sizeof name, "blk.%d.%s.bias", l, lora_gguf_name[i]);
        w->bias[i] = vector(b, name, linear_out(c, i), family->bias_needed >> i & 1);
    }
}

/* Angle a position of each pair. factor NULL: none. */
static float *frequencies(struct binder *b, double base, double stretch, const float *factor) {
    int rotary = b->m->cfg.rotary, n = rotary / 2;
    float *freq = mem_alloc((size_t)n, sizeof *freq);
    if (!freq) {
        b->st = fail(b->err, PLM_ENOMEM, "no memory for %d RoPE frequencies", n);
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        double f = pow(base, -2.0 * i / rotary) / stretch;
        freq[i] = (float)(factor ? f / (double)factor[i] : f);
    }
    return freq;
}

/* The Llama 3 factors divide the angles. */
static void make_freq(struct binder *b) {
    const struct config *c = &b->m->cfg;
    const float *factor = vector(b, "rope_freqs.weight", c->rotary / 2, false);
    for (int i = 0; factor && i < c->rotary / 2; i++) {
        if (!(factor[i] > 0)) {
            b->st = fail(b->err, PLM_EFORMAT, "tensor rope_freqs.weight: factor %d is not positive", i);
            return;
        }
    }
    if (!b->st)
        b->m->freq = frequencies(b, (double)c->rope_base, (double)c->rope_stretch, factor);
    if (!b->st && c->window)
        b->m->window_freq = frequencies(b, (double)c->window_rope_base, 1, NULL);
}

/* Of each period the last layer sees everything. */
static void set_windows(plm_model *m) {
    const struct config *c = &m->cfg;
    for (int l = 0; l < c->layers; l++) {
        struct layer_weights *w = &m->layer[l];
        w->windowed = c->window && (l + 1) % c->window_period;
        w->freq = w->windowed ? m->window_freq : m->freq;
    }
}

/* Is it one of the names that binding asked for? Each has its place, so only an unknown one can be left. */
static bool is_known(const struct config *c, const struct family *family, struct str name) {
    static const char *const whole[] = {"token_embd.weight", "output_norm.weight", "output.weight",
                                        "rope_freqs.weight"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        if (str_eq(name, whole[i]))
            return true;
    }
    if (!str_starts(name, "blk."))
        return false;
    struct str rest = {name.p + 4, name.n - 4}, number;
    int64_t l;
    char plain[24];
    if (!str_cut(&rest, '.', &number) || !parse_i64(number, &l) || l < 0 || l >= c->layers)
        return false;
    snprintf(plain, sizeof plain, "%d", (int)l);
    if (!str_eq(number, plain))
        return false; // "blk.00."
    for (size_t i = 0; i < LAYER_NORMS; i++) {
        if (has_norm(c, &layer_norms[i]) && str_eq(rest, layer_norms[i].name))
            return true;
    }
    for (int i = 0; i < LORA_LINEARS; i++) {
        if (!str_starts(rest, lora_gguf_name[i]))
            continue;
        struct str end = {rest.p + strlen(lora_gguf_name[i]), rest.n - strlen(lora_gguf_name[i])};
        if (str_eq(end, ".weight") || (str_eq(end, ".bias") && family->bias_known >> i & 1))
            return true;
    }
    return false;
}

static plm_status refuse_unknown(const plm_model *m, const struct family *family, plm_error *err) {
    for (size_t i = 0; i < gguf_n_tensors(m->file); i++) {
        struct str name = gguf_tensor_at(m->file, i)->name;
        if (is_known(&m->cfg, family, name))
            continue;
        return fail(err, PLM_ENOTSUP, "tensor %.*s has no place in a %s model of %d layers", (int)name.n,
                    name.p, m->cfg.arch, m->cfg.layers);
    }
    return fail(err, PLM_EFORMAT, "a tensor name stands twice");
}

static uint64_t matrix_bytes(const struct matrix *w) {
    return (uint64_t)w->row_bytes * (uint64_t)w->out;
}

static void count_bytes(plm_model *m) {
    const struct config *c = &m->cfg;
    uint64_t n = (uint64_t)m->embed.row_bytes + matrix_bytes(&m->head) + sizeof(float) * (uint64_t)c->width;
    for (int l = 0; l < c->layers; l++) {
        for (size_t i = 0; i < LAYER_NORMS; i++) {
            if (has_norm(c, &layer_norms[i]))
                n += sizeof(float) * (uint64_t)(layer_norms[i].of_heads ? c->head_width : c->width);
        }
        for (int i = 0; i < LORA_LINEARS; i++) {
            n += matrix_bytes(&m->layer[l].linear[i]);
            if (m->layer[l].bias[i])
                n += sizeof(float) * (uint64_t)linear_out(c, i);
        }
    }
    m->facts.bytes_per_token = n;
    m->facts.tied_head = m->head.data == m->embed.data;
}

/* "Q4_1 210, F32 61": the most frequent first */
static plm_status describe_types(plm_model *m, plm_error *err) {
    size_t count[DT_LIMIT] = {0};
    for (size_t i = 0; i < gguf_n_tensors(m->file); i++) {
        const struct tensor *t = gguf_tensor_at(m->file, i);
        count[t->type]++;
        m->facts.parameters += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    }
    struct bytes text;
    bytes_init(&text, 4096);
    for (;;) {
        int most = 0;
        for (int i = 1; i < DT_LIMIT; i++) {
            if (count[i] > count[most])
                most = i;
        }
        if (!count[most])
            break;
        bytes_printf(&text, "%s%s %zu", text.len ? ", " : "", dtype_of(most)->name, count[most]);
        count[most] = 0;
    }
    plm_status st = bytes_status(&text, "the tensor types", err);
    if (!st)
        m->types = bytes_take(&text);
    if (!st && !m->types)
        st = fail(err, PLM_ENOMEM, "no memory to describe the tensor types");
    bytes_free(&text);
    return st;
}

/* Every matrix that int8 products read; the embedding is only looked up. */
static struct matrix *matrix_at(plm_model *m, size_t i) {
    size_t layers = (size_t)m->cfg.layers * LORA_LINEARS;
    return i < layers ? &m->layer[i / LORA_LINEARS].linear[i % LORA_LINEARS] : i == layers ? &m->head : NULL;
}

plm_status weights_keep_units(plm_model *m, plm_error *err) {
    size_t need = 0;
    for (size_t i = 0; matrix_at(m, i); i++)
        need += units_need(matrix_at(m, i));
    if (arena_open(&m->units, need, NULL))
        return fail(err, PLM_ENOMEM, "no memory to hold %zu MB of weights in the order of the processor",
                    need / 1000000);
    for (size_t i = 0; matrix_at(m, i); i++)
        units_book(matrix_at(m, i), &m->units, true);
    size_t room = m->units.used; // nothing of it is resident until an int8 product wants it
    mem_large_pages(m->units.base + room, m->units.size - room);
    for (size_t i = 0; matrix_at(m, i); i++)
        units_room(matrix_at(m, i), &m->units);
    return PLM_OK;
}

plm_status weights_bind(plm_model *m, const struct family *family, plm_error *err) {
    struct config *c = &m->cfg;
    struct binder b = {.m = m, .err = err};
    const struct tensor *embed = gguf_tensor(m->file, "token_embd.weight");
    if (embed && (embed->ne[1] < 2 || embed->ne[1] > 1 << 24)) {
        return fail(err, PLM_EFORMAT, "tensor token_embd.weight has %" PRIu64 " rows, not from 2 to 2^24",
                    embed->ne[1]);
    }
    c->vocab = embed ? (int)embed->ne[1] : 0;
    m->embed = matrix(&b, "token_embd.weight", c->vocab, c->width, true);
    m->out_norm = vector(&b, "output_norm.weight", c->width, true);
    m->head = matrix(&b, "output.weight", c->vocab, c->width, false);
    if (!m->head.data)
        m->head = m->embed; // tied
    make_freq(&b);
    if (b.st)
        return b.st;
    m->layer = mem_zero((size_t)c->layers, sizeof *m->layer);
    if (!m->layer)
        return fail(err, PLM_ENOMEM, "no memory for %d layers", c->layers);
    set_windows(m);
    for (int l = 0; l < c->layers && !b.st; l++)
        bind_layer(&b, family, l);
    if (b.st)
        return b.st;
    if (b.bound != gguf_n_tensors(m->file))
        return refuse_unknown(m, family, err);
    count_bytes(m);
    return describe_types(m, err);
}

void weights_free(plm_model *m) {
    arena_close(&m->units);
    mem_free(m->freq);
    mem_free(m->window_freq);
    mem_free(m->layer);
    mem_free(m->types);
}
