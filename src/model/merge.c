/* merge.c: the model with its adapters folded into the weights, as a GGUF whose matrices are F16. A tensor is
 * made whole before it is written, one after another, so the peak is the largest of them. */
#include "model/inside.h"
#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { FILE_TYPE_F16 = 1 };

/* One matrix on its way to F16: rows are independent. */
struct fold {
    struct matrix w;
    const struct use *use;
    size_t n_use;
    int layer, linear; /* linear < 0: not an adapted kind */
    uint16_t *out;     /* [out, in] */
    float *row;        /* [threads, in] */
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
            f->out[r * in + j] = f32_to_f16(row[j]);
            if (!(fabsf(row[j]) < 65520))
                atomic_store(&f->overflow, true);
        }
    }
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

static plm_status put_matrix(struct gguf_writer *w, const plm_model *m, const struct tensor *t,
                             const struct use *use, size_t n_use, plm_error *err) {
    struct fold f = {.w = matrix_of(t->data, (enum dtype)t->type, (int)t->ne[1], (int)t->ne[0]),
                     .use = use,
                     .n_use = n_use};
    place_of(t->name, m->cfg.layers, &f.layer, &f.linear);
    size_t rows = (size_t)f.w.out, in = (size_t)f.w.in;
    f.out = mem_alloc(rows, in * sizeof *f.out);
    f.row = mem_alloc((size_t)pool_threads(m->pool), in * sizeof *f.row);
    plm_status st = PLM_OK;
    if (!f.out || !f.row) {
        st = fail(err, PLM_ENOMEM, "no memory to merge tensor %.*s", (int)t->name.n, t->name.p);
    } else {
        pool_for(m->pool, rows, 16, fold_rows, &f);
        if (atomic_load(&f.overflow)) {
            st = fail(err, PLM_ELIMIT, "tensor %.*s: merged weights pass the range of F16", (int)t->name.n,
                      t->name.p);
        }
    }
    if (!st)
        st = gguf_put_data(w, f.out, rows * in * sizeof *f.out, err);
    mem_free(f.out);
    mem_free(f.row);
    return st;
}

static void declare(struct gguf_writer *w, const plm_model *m) {
    for (size_t i = 0; i < gguf_n_kv(m->file); i++) {
        enum kv_type type;
        const void *raw;
        size_t raw_len;
        struct str key = gguf_key_at(m->file, i, &type, &raw, &raw_len);
        if (str_eq(key, "general.file_type"))
            gguf_put_u32(w, "general.file_type", FILE_TYPE_F16);
        else if (!str_eq(key, "general.quantization_version"))
            gguf_put_raw(w, key, type, raw, raw_len);
    }
    for (size_t i = 0; i < gguf_n_tensors(m->file); i++) {
        const struct tensor *t = gguf_tensor_at(m->file, i);
        char name[GGUF_MAX_NAME + 1];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
        gguf_put_tensor(w, name, is_matrix(t) ? DT_F16 : t->type, t->n_dims, t->ne);
    }
}

plm_status plm_model_merge(const plm_model *m, const plm_lora *uses, size_t n_uses, const char *path,
                           plm_error *err) {
    if (!m || !path || (!uses && n_uses))
        return fail(err, PLM_EINVAL, "plm_model_merge needs a model, adapters and a path");
    struct use *use = mem_alloc(n_uses + 1, sizeof *use);
    if (!use)
        return fail(err, PLM_ENOMEM, "no memory to merge");
    struct gguf_writer *w = NULL;
    plm_status st = PLM_OK;
    for (size_t i = 0; i < n_uses && !st; i++) {
        use[i] = (struct use){uses[i].adapter->lora, uses[i].scale};
        if (uses[i].adapter->model != m)
            st = fail(err, PLM_EINVAL, "an adapter was loaded for another model");
    }
    if (!st)
        st = gguf_writer_open(&w, path, err);
    if (st)
        goto out;
    declare(w, m);
    for (size_t i = 0; i < gguf_n_tensors(m->file) && !st; i++) {
        const struct tensor *t = gguf_tensor_at(m->file, i);
        st = is_matrix(t) ? put_matrix(w, m, t, use, n_uses, err)
                          : gguf_put_data(w, t->data, (size_t)t->bytes, err);
    }
    if (!st) {
        st = gguf_writer_commit(w, err);
        w = NULL;
    }
    gguf_writer_abort(w);
out:
    mem_free(use);
    return st;
}
