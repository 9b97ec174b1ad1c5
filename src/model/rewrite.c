/* rewrite.c: the model as another GGUF: with adapters folded into its weights, or with its matrices in
 * another number format. A tensor is made whole before it is written, one after another, so the peak is the
 * largest of them. Vectors stay as they are. */
#include "model/inside.h"
#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* What llama.cpp makes under the same name, without an importance matrix. */
static const struct recipe {
    const char *name;
    enum dtype type; /* of matrices */
    enum dtype head; /* of the output head, also where it is the embedding */
    int file_type;   /* general.file_type */
    bool more;       /* values and the down projection get Q6_K in half of the layers */
} recipes[] = {
    {"F32", DT_F32, DT_F32, 0, false},      {"F16", DT_F16, DT_F16, 1, false},
    {"BF16", DT_BF16, DT_BF16, 32, false},  {"Q8_0", DT_Q8_0, DT_Q8_0, 7, false},
    {"Q4_0", DT_Q4_0, DT_Q6_K, 2, false},   {"Q4_1", DT_Q4_1, DT_Q6_K, 3, false},
    {"Q5_0", DT_Q5_0, DT_Q6_K, 8, false},   {"Q5_1", DT_Q5_1, DT_Q6_K, 9, false},
    {"Q4_K_M", DT_Q4_K, DT_Q6_K, 15, true}, {"Q5_K_S", DT_Q5_K, DT_Q6_K, 16, false},
    {"Q5_K_M", DT_Q5_K, DT_Q6_K, 17, true}, {"Q6_K", DT_Q6_K, DT_Q6_K, 18, false},
};
enum { RECIPES = sizeof recipes / sizeof *recipes };
static const struct recipe *const merged = &recipes[1];

static const struct recipe *recipe_named(const char *name) {
    for (size_t i = 0; i < RECIPES; i++) {
        if (!strcasecmp(name, recipes[i].name))
            return &recipes[i];
    }
    return NULL;
}

static bool is_matrix(const struct tensor *t) {
    return t->n_dims > 1;
}

/* Layer and linear of "blk.N.attn_q.weight"; linear -1 for other tensors. */
static void place_of(struct str name, int layers, int *layer, int *linear) {
    char want[64];
    for (*layer = 0; *layer < layers; ++*layer) {
        for (*linear = 0; *linear < LORA_LINEARS; ++*linear) {
            snprintf(want, sizeof want, "blk.%d.%s.weight", *layer, lora_gguf_name[*linear]);
            if (str_eq(name, want))
                return;
        }
    }
    *linear = -1;
}

/* The first and last eighth of the layers, and each third between. */
static bool deserves_more(int layer, int layers) {
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

/* Rows that are not whole blocks get the nearest format with smaller blocks. */
static enum dtype that_fits(enum dtype type, uint64_t cols) {
    uint64_t bytes;
    if (dtype_bytes((int)type, cols, &bytes))
        return type;
    enum dtype other = type == DT_Q4_K   ? DT_Q5_0
                       : type == DT_Q5_K ? DT_Q5_1
                       : type == DT_Q6_K ? DT_Q8_0
                                         : DT_F16;
    return dtype_bytes((int)other, cols, &bytes) ? other : DT_F16;
}

static enum dtype type_for(const struct recipe *r, const plm_model *m, const struct tensor *t) {
    if (!is_matrix(t))
        return (enum dtype)t->type;
    enum dtype type = r->type;
    int layer, linear;
    place_of(t->name, m->cfg.layers, &layer, &linear);
    if (str_eq(t->name, m->facts.tied_head ? "token_embd.weight" : "output.weight"))
        type = r->head;
    else if (r->more && (linear == LORA_V || linear == LORA_DOWN) && deserves_more(layer, m->cfg.layers))
        type = DT_Q6_K;
    return that_fits(type, t->ne[0]);
}

/* ---- one matrix on its way: rows are independent ---- */

struct fold {
    struct matrix w;
    const struct use *use;
    size_t n_use;
    int layer, linear; /* linear < 0: not an adapted kind */
    const struct dtype_info *to;
    unsigned char *out; /* [out] rows of row_bytes */
    size_t row_bytes;
    float *row; /* [threads, in] */
    float most; /* numbers from there on are refused */
    atomic_bool overflow;
};

/* row += s B[r] A, for every adapter's pair there */
static void fold_pairs(const struct fold *f, float *row, size_t r) {
    for (size_t i = 0; i < f->n_use && f->linear >= 0; i++) {
        const struct lora *lora = f->use[i].lora;
        const struct lora_pair *pair = &lora->pair[f->layer * LORA_LINEARS + f->linear];
        if (!pair->A)
            continue;
        float scale = lora_scale(lora, pair, f->use[i].scale);
        for (int k = 0; k < pair->rank; k++) {
            float b = scale * pair->B[r * (size_t)pair->rank + (size_t)k];
            const float *a = pair->A + (size_t)k * (size_t)pair->in;
            for (int j = 0; j < pair->in; j++)
                row[j] += b * a[j];
        }
    }
}

static void fold_rows(void *ctx, size_t from, size_t to, int worker) {
    struct fold *f = ctx;
    size_t in = (size_t)f->w.in;
    float *row = f->row + (size_t)worker * in;
    for (size_t r = from; r < to; r++) {
        matrix_row_f32(row, &f->w, (int)r);
        fold_pairs(f, row, r);
        for (size_t j = 0; j < in; j++) {
            if (!(fabsf(row[j]) < f->most))
                atomic_store(&f->overflow, true);
        }
        f->to->from_f32(f->out + r * f->row_bytes, row, in);
    }
}

static plm_status put_matrix(struct gguf_writer *w, const plm_model *m, const struct tensor *t,
                             enum dtype type, const struct use *use, size_t n_use, plm_error *err) {
    // Scales of all formats but three are F16 themselves.
    bool wide = type == DT_F32 || type == DT_BF16;
    struct fold f = {.w = matrix_of(t->data, (enum dtype)t->type, (int)t->ne[1], (int)t->ne[0]),
                     .use = use,
                     .n_use = n_use,
                     .to = dtype_of((int)type),
                     .most = wide ? INFINITY : 65520};
    place_of(t->name, m->cfg.layers, &f.layer, &f.linear);
    size_t rows = (size_t)f.w.out, in = (size_t)f.w.in;
    f.row_bytes = matrix_of(NULL, type, 1, f.w.in).row_bytes;
    f.out = mem_alloc(rows, f.row_bytes);
    f.row = mem_alloc((size_t)pool_threads(m->pool), in * sizeof *f.row);
    plm_status st = PLM_OK;
    if (!f.out || !f.row) {
        st = fail(err, PLM_ENOMEM, "no memory to write tensor %.*s", (int)t->name.n, t->name.p);
    } else {
        pool_for(m->pool, rows, 16, fold_rows, &f);
        if (atomic_load(&f.overflow)) {
            st = fail(err, PLM_ELIMIT, "tensor %.*s: %s weights pass the range of F16", (int)t->name.n,
                      t->name.p, n_use ? "merged" : "its");
        }
    }
    if (!st)
        st = gguf_put_data(w, f.out, rows * f.row_bytes, err);
    mem_free(f.out);
    mem_free(f.row);
    return st;
}

/* ---- the file ---- */

static void declare(struct gguf_writer *w, const plm_model *m, const struct recipe *to) {
    for (size_t i = 0; i < gguf_n_kv(m->file); i++) {
        enum kv_type type;
        const void *raw;
        size_t raw_len;
        struct str key = gguf_key_at(m->file, i, &type, &raw, &raw_len);
        // The writer pads in its own way.
        if (!str_eq(key, "general.file_type") && !str_eq(key, "general.quantization_version") &&
            !str_eq(key, "general.alignment"))
            gguf_put_raw(w, key, type, raw, raw_len);
    }
    gguf_put_u32(w, "general.file_type", (uint32_t)to->file_type);
    if (dtype_of((int)to->type)->block > 1)
        gguf_put_u32(w, "general.quantization_version", 2);
    for (size_t i = 0; i < gguf_n_tensors(m->file); i++) {
        const struct tensor *t = gguf_tensor_at(m->file, i);
        char name[GGUF_MAX_NAME + 1];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
        gguf_put_tensor(w, name, (int)type_for(to, m, t), t->n_dims, t->ne);
    }
}

/* What needs no change is copied, so that nothing is rounded twice. */
static plm_status put_tensor(struct gguf_writer *w, const plm_model *m, const struct recipe *to,
                             const struct tensor *t, const struct use *use, size_t n_use, plm_error *err) {
    enum dtype type = type_for(to, m, t);
    if ((int)type == t->type && (!n_use || !is_matrix(t)))
        return gguf_put_data(w, t->data, (size_t)t->bytes, err);
    return put_matrix(w, m, t, type, use, n_use, err);
}

static plm_status rewrite(const plm_model *m, const struct recipe *to, const struct use *use, size_t n_use,
                          const char *path, plm_error *err) {
    struct gguf_writer *w = NULL;
    plm_status st = gguf_writer_open(&w, path, err);
    if (st)
        return st;
    declare(w, m, to);
    for (size_t i = 0; i < gguf_n_tensors(m->file) && !st; i++)
        st = put_tensor(w, m, to, gguf_tensor_at(m->file, i), use, n_use, err);
    if (!st)
        return gguf_writer_commit(w, err);
    gguf_writer_abort(w);
    return st;
}

plm_status plm_model_merge(const plm_model *m, const plm_lora *uses, size_t n_uses, const char *path,
                           plm_error *err) {
    if (!m || !path || (!uses && n_uses))
        return fail(err, PLM_EINVAL, "plm_model_merge needs a model, adapters and a path");
    struct use *use = mem_alloc(n_uses + 1, sizeof *use);
    if (!use)
        return fail(err, PLM_ENOMEM, "no memory to merge");
    plm_status st = PLM_OK;
    for (size_t i = 0; i < n_uses && !st; i++) {
        use[i] = (struct use){.lora = uses[i].adapter->lora, .scale = uses[i].scale};
        if (uses[i].adapter->model != m)
            st = fail(err, PLM_EINVAL, "an adapter was loaded for another model");
    }
    if (!st)
        st = rewrite(m, merged, use, n_uses, path, err);
    mem_free(use);
    return st;
}

plm_status plm_model_quantize(const plm_model *m, const char *type, const char *path, plm_error *err) {
    if (!m || !type || !path)
        return fail(err, PLM_EINVAL, "plm_model_quantize needs a model, a type and a path");
    const struct recipe *to = recipe_named(type);
    if (!to) {
        char names[200] = "";
        for (size_t i = 0; i < RECIPES; i++)
            strcat(strcat(names, i ? ", " : ""), recipes[i].name);
        return fail(err, PLM_EINVAL, "there is no type \"%.40s\"; there are: %s", type, names);
    }
    if (file_exists(path))
        return fail(err, PLM_EINVAL, "%s is there already", path);
    return rewrite(m, to, NULL, 0, path, err);
}
