/* support_model.c: see support_model.h. The oracle shares with the engine only the reading of weights. */
#include "support_model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static void remove_folder(void) {
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command))
        fprintf(stderr, "%s stays\n", folder);
}

const char *scratch_path(const char *name) {
    static char path[16][256];
    static int next;
    if (!folder[0]) {
        strcpy(folder, "/tmp/plm-test-model-XXXXXX");
        if (!mkdtemp(folder))
            abort();
        atexit(remove_folder);
    }
    char *p = path[next++ % 16];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

void assert_ok(plm_status st, const plm_error *err) {
    if (st)
        print_error("%s: %s\n", plm_status_name(st), err->text);
    assert_int_equal(st, PLM_OK);
}

plm_model *open_tiny(const struct tiny_model *spec, const char *cpu, int threads) {
    static int n;
    char name[32];
    plm_error err = {0};
    plm_model *m = NULL;
    snprintf(name, sizeof name, "tiny-%d.gguf", n++);
    const char *path = scratch_path(name);
    assert_ok(tiny_model_write(path, spec, &err), &err);
    assert_ok(plm_model_open(&m, path, &(plm_model_options){.cpu = cpu, .threads = threads}, &err), &err);
    return m;
}

static void copy_keys(struct gguf_writer *w, const struct gguf *g, const struct change *c) {
    bool set = false;
    for (size_t i = 0; i <= gguf_n_kv(g); i++) {
        enum kv_type type = 0;
        const void *raw = NULL;
        size_t raw_len = 0;
        bool end = i == gguf_n_kv(g);
        struct str key = end ? (struct str){0} : gguf_key_at(g, i, &type, &raw, &raw_len);
        if (end ? c->key && !set : c->key && str_eq(key, c->key)) {
            set = true;
            if (c->kind == CHANGE_U32)
                gguf_put_u32(w, c->key, c->u32);
            if (c->kind == CHANGE_F32)
                gguf_put_f32(w, c->key, c->f32);
            if (c->kind == CHANGE_ARRAY)
                gguf_put_i32s(w, c->key, (const int32_t[]){(int32_t)c->u32, (int32_t)c->u32}, 2);
            if (c->kind == CHANGE_STRING)
                gguf_put_string(w, c->key, c->string);
        } else if (!end) {
            gguf_put_raw(w, key, type, raw, raw_len);
        }
    }
}

void copy_changed(const char *to, const char *from, const struct change *c) {
    struct gguf *g = NULL;
    struct gguf_writer *w = NULL;
    plm_error err = {0};
    assert_ok(gguf_open(&g, from, &err), &err);
    assert_ok(gguf_writer_open(&w, to, &err), &err);
    copy_keys(w, g, c);
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct tensor *t = gguf_tensor_at(g, i);
        char name[64];
        uint64_t ne[4] = {t->ne[0], t->ne[1], t->ne[2], t->ne[3]};
        if (c->drop && str_eq(t->name, c->drop))
            continue;
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
        if (c->swap_dims && !strcmp(name, c->swap_dims))
            ne[0] = t->ne[1], ne[1] = t->ne[0];
        int type = c->retype && !strcmp(name, c->retype) ? 26 : t->type;
        gguf_put_tensor(w, c->rename && !strcmp(name, c->rename) ? c->to : name, type, t->n_dims, ne);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct tensor *t = gguf_tensor_at(g, i);
        if (c->drop && str_eq(t->name, c->drop))
            continue;
        void *data = malloc(t->bytes);
        memcpy(data, t->data, t->bytes);
        if (c->poison && str_eq(t->name, c->poison))
            ((float *)data)[1] = NAN;
        assert_ok(gguf_put_data(w, data, (size_t)t->bytes, &err), &err);
        free(data);
    }
    assert_ok(gguf_writer_commit(w, &err), &err);
    gguf_close(g);
}

plm_adapter *random_adapter(const plm_model *m, int rank, unsigned targets, uint64_t seed) {
    plm_adapter *a = NULL;
    plm_error err = {0};
    struct rng r;
    assert_ok(
        plm_adapter_new(&a, m, &(plm_adapter_options){.rank = rank, .targets = targets, .seed = seed}, &err),
        &err);
    rng_seed(&r, seed, 1);
    for (int i = 0; i < a->lora->layers * LORA_LINEARS; i++) {
        struct lora_pair *p = &a->lora->pair[i];
        for (int j = 0; p->A && j < p->out * p->rank; j++)
            p->B[j] = 0.1f * rng_normal(&r);
    }
    return a;
}

void random_ids(int32_t *ids, int n, int vocab, uint64_t seed) {
    struct rng r;
    rng_seed(&r, seed, 7);
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)rng_below(&r, (uint64_t)vocab);
}

/* ---- the oracle: one token's row at a time, as the page in docs/maths.md begins ---- */

static void norm(double *y, const double *x, const float *gain, int C, double eps) {
    double sum = 0;
    for (int i = 0; i < C; i++)
        sum += x[i] * x[i];
    for (int i = 0; i < C; i++)
        y[i] = x[i] / sqrt(sum / C + eps) * gain[i];
}

static void multiply(double *y, const struct matrix *w, const float *bias, const double *x) {
    float *row = malloc(sizeof *row * (size_t)w->in);
    for (int o = 0; o < w->out; o++) {
        matrix_row_f32(row, w, o);
        y[o] = bias ? (double)bias[o] : 0;
        for (int i = 0; i < w->in; i++)
            y[o] += (double)row[i] * x[i];
    }
    free(row);
}

/* y = W x + b + s B (A x) */
static void linear(double *y, const plm_model *m, const struct lora *l, float scale, int layer, int which,
                   const double *x) {
    multiply(y, &m->layer[layer].linear[which], m->layer[layer].bias[which], x);
    const struct lora_pair *p = l ? &l->pair[layer * LORA_LINEARS + which] : NULL;
    if (!p || !p->A)
        return;
    double s = (double)scale * (l->alpha > 0 ? (double)l->alpha / p->rank : 1);
    for (int k = 0; k < p->rank; k++) {
        double u = 0;
        for (int i = 0; i < p->in; i++)
            u += (double)p->A[k * p->in + i] * x[i];
        for (int o = 0; o < p->out; o++)
            y[o] += s * (double)p->B[o * p->rank + k] * u;
    }
}

/* local: a layer that sees a window turns by a base of its own and is not stretched */
static void rope(double *x, int pos, int heads, const struct config *c, bool local) {
    double base = local ? (double)c->window_rope_base : (double)c->rope_base;
    double at = local ? pos : pos / (double)c->rope_stretch;
    for (int h = 0; h < heads; h++) {
        for (int j = 0; j < c->rotary / 2; j++) {
            double *head = x + h * c->head_width;
            double *a = head + (c->neox ? j : 2 * j), *b = head + (c->neox ? j + c->rotary / 2 : 2 * j + 1);
            double angle = at * pow(base, -2.0 * j / c->rotary), a0 = *a, b0 = *b;
            *a = a0 * cos(angle) - b0 * sin(angle);
            *b = a0 * sin(angle) + b0 * cos(angle);
        }
    }
}

/* over rows from .. n */
static void attend(double *y, const double *q, const double *k, const double *v, int from, int n,
                   const struct config *c) {
    int D = c->head_width, kv = c->kv_heads * D;
    double *p = malloc(sizeof *p * (size_t)n);
    for (int h = 0; h < c->heads; h++) {
        int g = h / (c->heads / c->kv_heads);
        double sum = 0;
        for (int u = from; u < n; u++) {
            double s = 0;
            for (int i = 0; i < D; i++)
                s += q[h * D + i] * k[u * kv + g * D + i];
            p[u] = exp(s / sqrt(D));
            sum += p[u];
        }
        for (int i = 0; i < D; i++) {
            y[h * D + i] = 0;
            for (int u = from; u < n; u++)
                y[h * D + i] += p[u] / sum * v[u * kv + g * D + i];
        }
    }
    free(p);
}

static void norm_heads(double *x, int heads, const float *gain, const struct config *c) {
    for (int h = 0; gain && h < heads; h++)
        norm(x + h * c->head_width, x + h * c->head_width, gain, c->head_width, (double)c->norm_eps);
}

static double gate_of(double g, const struct config *c) {
    if (!c->gelu)
        return g / (1 + exp(-g));
    return 0.5 * g * (1 + tanh(sqrt(2 / acos(-1)) * (g + 0.044715 * g * g * g)));
}

/* row += out, or its norm where there is a gain */
static void join(double *row, double *out, const float *gain, const struct config *c) {
    if (gain)
        norm(out, out, gain, c->width, (double)c->norm_eps);
    for (int i = 0; i < c->width; i++)
        row[i] += out[i];
}

/* x [n, C] through one layer */
static void oracle_layer(const plm_model *m, const struct lora *l, float scale, int layer, double *x, int n) {
    const struct config *c = &m->cfg;
    const struct layer_weights *w = &m->layer[layer];
    int C = c->width, D = c->head_width, kv = c->kv_heads * D;
    bool local = c->window && layer % c->window_period != c->window_period - 1;
    double *k = malloc(sizeof *k * (size_t)(n * kv)), *v = malloc(sizeof *v * (size_t)(n * kv));
    double *a = malloc(sizeof *a * (size_t)(4 * (C + c->ffn + c->heads * D))), *y = a + C,
           *q = y + c->heads * D;
    double *out = q + c->heads * D, *gate = out + C, *up = gate + c->ffn;
    for (int t = 0; t < n; t++) {
        double *row = x + t * C;
        norm(a, row, w->attn_norm, C, (double)c->norm_eps);
        linear(q, m, l, scale, layer, LORA_Q, a);
        linear(k + t * kv, m, l, scale, layer, LORA_K, a);
        linear(v + t * kv, m, l, scale, layer, LORA_V, a);
        norm_heads(q, c->heads, w->q_norm, c);
        norm_heads(k + t * kv, c->kv_heads, w->k_norm, c);
        rope(q, t, c->heads, c, local);
        rope(k + t * kv, t, c->kv_heads, c, local);
        attend(y, q, k, v, local && t >= c->window ? t - c->window + 1 : 0, t + 1, c);
        linear(out, m, l, scale, layer, LORA_O, y);
        join(row, out, w->attn_out_norm, c);
        norm(a, row, w->ffn_norm, C, (double)c->norm_eps);
        linear(gate, m, l, scale, layer, LORA_GATE, a);
        linear(up, m, l, scale, layer, LORA_UP, a);
        for (int i = 0; i < c->ffn; i++)
            gate[i] = gate_of(gate[i], c) * up[i];
        linear(out, m, l, scale, layer, LORA_DOWN, gate);
        join(row, out, w->ffn_out_norm, c);
    }
    free(k);
    free(v);
    free(a);
}

void oracle(const plm_model *m, const struct lora *l, float scale, const int32_t *ids, int n, double *nll,
            double *logits) {
    const struct config *c = &m->cfg;
    int C = c->width, V = c->vocab;
    bool gemma = !strcmp(c->arch, "gemma3");
    double *x = malloc(sizeof *x * (size_t)(n * C)), *z = malloc(sizeof *z * (size_t)V),
           *a = malloc(sizeof *a * (size_t)C);
    float *row = malloc(sizeof *row * (size_t)C);
    for (int t = 0; t < n; t++) {
        matrix_row_f32(row, &m->embed, ids[t]);
        for (int i = 0; i < C; i++)
            x[t * C + i] = (double)row[i] * (gemma ? sqrt(C) : 1);
    }
    for (int layer = 0; layer < c->layers; layer++)
        oracle_layer(m, l, scale, layer, x, n);
    for (int t = 0; t < n; t++) {
        double sum = 0;
        norm(a, x + t * C, m->out_norm, C, (double)c->norm_eps);
        multiply(z, &m->head, NULL, a);
        for (int v = 0; v < V; v++)
            sum += exp(z[v]);
        if (t + 1 < n)
            nll[t] = log(sum) - z[ids[t + 1]];
        if (logits)
            memcpy(logits + (size_t)t * (size_t)V, z, sizeof *z * (size_t)V);
    }
    free(x);
    free(z);
    free(a);
    free(row);
}

void run_logits(const plm_model *m, const plm_lora *use, size_t n_use, const int32_t *ids, int n, int chunk,
                float *logits) {
    struct runner *r = NULL;
    struct kv_cache kv = {0};
    plm_error err = {0};
    int32_t *pos = malloc(sizeof *pos * (size_t)n), *first = calloc((size_t)n, sizeof *first);
    assert_ok(runner_open(&r, m, chunk, &err), &err);
    assert_ok(kv_open(&kv, m, n, kv_usual(m), &err), &err);
    for (int i = 0; i < n; i++)
        pos[i] = i;
    for (int at = 0; at < n; at += chunk) {
        const float *x = NULL;
        struct batch b = {
            .T = n - at < chunk ? n - at : chunk, .ids = ids + at, .pos = pos + at, .first = first};
        assert_ok(model_forward(r, &b, &kv, use, n_use, &x, &err), &err);
        model_logits(r, logits + (size_t)at * (size_t)m->cfg.vocab, x, b.T);
    }
    runner_close(r);
    kv_close(&kv);
    free(pos);
    free(first);
}
