/* build.c: from a file's matrices to an adapter. Every pair is whole, fits the model, has a rank within the
 * limit and finite values, or the file is refused with the name of the pair. */
#include "lora/build.h"
#include <math.h>
#include <string.h>

/* No linear of a real model is wider; products of two stay far inside 64 bits. */
enum { WIDTH_MAX = 1 << 24 };

plm_status build_open(struct lora_build *b, int layers, const char *file, plm_error *err) {
    size_t n = (size_t)layers * LORA_LINEARS;
    *b = (struct lora_build){.layers = layers, .file = file};
    b->half = mem_zero(n, sizeof *b->half);
    b->factor = mem_alloc(n, sizeof *b->factor);
    if (!b->half || !b->factor) {
        build_close(b);
        return fail(err, PLM_ENOMEM, "%s: no memory for an adapter of %d layers", file, layers);
    }
    for (size_t i = 0; i < n; i++)
        b->factor[i] = 1;
    return PLM_OK;
}

void build_close(struct lora_build *b) {
    mem_free(b->half);
    mem_free(b->factor);
    *b = (struct lora_build){0};
}

plm_status build_put(struct lora_build *b, struct lora_place at, const struct lora_source *s,
                     plm_error *err) {
    const char *linear = lora_gguf_name[at.linear];
    if (at.layer >= b->layers)
        return fail(err, PLM_EFORMAT, "%s: adapts layer %d of a model that has %d", b->file, at.layer,
                    b->layers);
    if (s->type != DT_F32 && s->type != DT_F16 && s->type != DT_BF16)
        return fail(err, PLM_ENOTSUP, "%s: layer %d %s: an adapter's values are F32, F16 or BF16, not %s",
                    b->file, at.layer, linear, dtype_of(s->type) ? dtype_of(s->type)->name : "this type");
    if (s->rows < 1 || s->cols < 1 || s->rows > WIDTH_MAX || s->cols > WIDTH_MAX)
        return fail(err, PLM_EFORMAT, "%s: layer %d %s: a matrix of %llu by %llu", b->file, at.layer, linear,
                    (unsigned long long)s->rows, (unsigned long long)s->cols);
    struct lora_source *slot = &b->half[at.layer * LORA_LINEARS + at.linear][at.half];
    if (slot->data)
        return fail(err, PLM_EFORMAT, "%s: layer %d %s is there twice", b->file, at.layer, linear);
    *slot = *s;
    return PLM_OK;
}

/* Checks one pair and notes its shape; rank stays 0 where there is none. */
static plm_status check_pair(struct lora_pair *p, const struct lora_build *b, int i,
                             const struct lora_shape *s, plm_error *err) {
    const struct lora_source *a = &b->half[i][HALF_A], *bb = &b->half[i][HALF_B];
    int layer = i / LORA_LINEARS, k = i % LORA_LINEARS;
    if (!a->data && !bb->data)
        return PLM_OK;
    if (!a->data || !bb->data)
        return fail(err, PLM_EFORMAT, "%s: layer %d %s has A or B without the other", b->file, layer,
                    lora_gguf_name[k]);
    if (a->rows != bb->cols)
        return fail(err, PLM_EFORMAT, "%s: layer %d %s: A has rank %llu and B has rank %llu", b->file, layer,
                    lora_gguf_name[k], (unsigned long long)a->rows, (unsigned long long)bb->cols);
    if (a->rows > LORA_MAX_RANK)
        return fail(err, PLM_ELIMIT, "%s: layer %d %s: rank %llu (at most %d)", b->file, layer,
                    lora_gguf_name[k], (unsigned long long)a->rows, LORA_MAX_RANK);
    *p = (struct lora_pair){.rank = (int)a->rows, .in = (int)a->cols, .out = (int)bb->rows};
    if (s && (p->in != s->in[k] || p->out != s->out[k]))
        return fail(err, PLM_EFORMAT,
                    "%s: layer %d %s: the adapter is for a matrix of %d to %d, the model has %d to %d",
                    b->file, layer, lora_gguf_name[k], p->in, p->out, s->in[k], s->out[k]);
    return PLM_OK;
}

static float value_at(const struct lora_source *s, size_t i) {
    const unsigned char *p = s->data;
    if (s->type == DT_F32) {
        float f;
        memcpy(&f, p + 4 * i, sizeof f);
        return f;
    }
    uint16_t h;
    memcpy(&h, p + 2 * i, sizeof h);
    return s->type == DT_F16 ? f16_to_f32(h) : bf16_to_f32(h);
}

/* Copies a matrix, its rows permuted where heads > 0. False: a value is not finite. */
static bool convert(float *out, const struct lora_source *s, float factor, int heads) {
    int rows = (int)s->rows;
    size_t cols = (size_t)s->cols;
    bool finite = true;
    for (int r = 0; r < rows; r++) {
        float *to = out + (size_t)(heads ? permuted_row(r, rows, heads) : r) * cols;
        for (size_t c = 0; c < cols; c++) {
            to[c] = value_at(s, (size_t)r * cols + c) * factor;
            finite = finite && isfinite(to[c]);
        }
    }
    return finite;
}

static plm_status fill(struct lora *l, const struct lora_build *b, const struct lora_shape *s, bool peft,
                       plm_error *err) {
    for (int i = 0; i < b->layers * LORA_LINEARS; i++) {
        struct lora_pair *p = &l->pair[i];
        if (p->rank == 0)
            continue;
        int heads = peft && s ? lora_permute_heads(s, i % LORA_LINEARS) : 0;
        bool a = convert(p->A, &b->half[i][HALF_A], 1, 0);
        if (!a || !convert(p->B, &b->half[i][HALF_B], b->factor[i], heads))
            return fail(err, PLM_EFORMAT, "%s: layer %d %s: %s holds a value that is not a finite number",
                        b->file, i / LORA_LINEARS, lora_gguf_name[i % LORA_LINEARS], a ? "B" : "A");
    }
    return PLM_OK;
}

plm_status build_finish(struct lora **out, const struct lora_build *b, const struct lora_shape *s, bool peft,
                        plm_error *err) {
    struct lora *l = NULL;
    bool any = false;
    plm_status st = lora_alloc(&l, b->layers, err);
    for (int i = 0; !st && i < b->layers * LORA_LINEARS; i++) {
        st = check_pair(&l->pair[i], b, i, s, err);
        any = any || l->pair[i].rank;
    }
    if (!st && !any)
        st = fail(err, PLM_EFORMAT, "%s: an adapter without a single pair", b->file);
    if (!st)
        st = lora_lay_out(l, err);
    if (!st)
        st = fill(l, b, s, peft, err);
    if (st)
        lora_free(l);
    else
        *out = l;
    return st;
}

int layer_number(struct str *name) {
    int n = 0;
    size_t i = 0;
    while (i < name->n && name->p[i] >= '0' && name->p[i] <= '9' && i < 5)
        n = n * 10 + (name->p[i++] - '0');
    bool leading_zero = i > 1 && name->p[0] == '0';
    if (i == 0 || leading_zero || i >= name->n || name->p[i] != '.' || n >= LORA_MAX_LAYERS)
        return -1;
    *name = (struct str){name->p + i + 1, name->n - i - 1};
    return n;
}

int permuted_row(int row, int out, int heads) {
    int width = out / heads, half = width / 2, in_head = row % width;
    return row - in_head + 2 * (in_head % half) + in_head / half;
}

int lora_permute_heads(const struct lora_shape *s, int linear) {
    return linear == LORA_Q ? s->permute_q : linear == LORA_K ? s->permute_k : 0;
}

plm_status lora_check_alpha(double alpha, const char *file, plm_error *err) {
    if (!isfinite(alpha) || alpha < 0 || alpha > 1e6)
        return fail(err, PLM_EFORMAT, "%s: an alpha of %g makes no sense", file, alpha);
    return PLM_OK;
}

bool lora_sha256_valid(struct str hex) {
    for (size_t i = 0; i < hex.n; i++)
        if (!((hex.p[i] >= '0' && hex.p[i] <= '9') || (hex.p[i] >= 'a' && hex.p[i] <= 'f')))
            return false;
    return hex.n == 64;
}
