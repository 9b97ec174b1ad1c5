/* support_gen.c: see support_gen.h. */
#include "support_gen.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void assert_ok(plm_status st, const plm_error *err) {
    if (st) {
        print_error("%s: %s\n", plm_status_name(st), err->text);
    }
    assert_int_equal(st, PLM_OK);
}

static char folder[32];

static void remove_folder(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command)) {
        fprintf(stderr, "%s stays\n", folder);
    }
}

/* A file of this process; models read theirs again when an adapter is made. */
static void new_path(char path[64]) {
    static int n;
    if (!folder[0]) {
        strcpy(folder, "/tmp/plm-gen-XXXXXX");
        assert_non_null(mkdtemp(folder));
        atexit(remove_folder);
    }
    snprintf(path, 64, "%s/%d.gguf", folder, n++);
}

static plm_model *open_model(const char *path, int threads) {
    plm_error err = {0};
    plm_model *m = NULL;
    assert_ok(plm_model_open(&m, path, &(plm_model_options){.cpu = "ref", .threads = threads}, &err), &err);
    return m;
}

plm_model *open_random(const struct tiny_model *spec, int threads) {
    char path[64];
    plm_error err = {0};
    new_path(path);
    assert_ok(tiny_model_write(path, spec, &err), &err);
    return open_model(path, threads);
}

/* ---- the scripted model: nothing but embedding and head says anything ---- */

enum { WIDTH = 64 };

struct script {
    int32_t id[WIDTH]; /* '!', the bytes, the end token */
    int n;
};

/* Column k of the embedding is on for token k of the script; the head sends it to token k + 1. */
static void fill(float *x, const struct tensor *t, const struct script *s, bool head) {
    memset(x, 0, t->bytes);
    for (int k = 0; k + head < s->n; k++) {
        x[(size_t)s->id[k + head] * WIDTH + (size_t)k] = 10;
    }
}

static void copy_scripted(const char *to, const struct gguf *g, const struct script *s) {
    struct gguf_writer *w = NULL;
    plm_error err = {0};
    assert_ok(gguf_writer_open(&w, to, &err), &err);
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        enum kv_type type;
        const void *raw;
        size_t len;
        struct str key = gguf_key_at(g, i, &type, &raw, &len);
        gguf_put_raw(w, key, type, raw, len);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct tensor *t = gguf_tensor_at(g, i);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
        gguf_put_tensor(w, name, t->type, t->n_dims, t->ne);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct tensor *t = gguf_tensor_at(g, i);
        float *x = mem_alloc(t->bytes, 1);
        assert_non_null(x);
        memcpy(x, t->data, t->bytes);
        bool silent = str_ends(t->name, "attn_output.weight") || str_ends(t->name, "ffn_down.weight");
        if (silent) {
            memset(x, 0, t->bytes);
        } else if (str_eq(t->name, "token_embd.weight") || str_eq(t->name, "output.weight")) {
            fill(x, t, s, str_eq(t->name, "output.weight"));
        } else if (str_eq(t->name, "output_norm.weight")) {
            for (int k = 0; k < WIDTH; k++) {
                x[k] = 1;
            }
        }
        assert_ok(gguf_put_data(w, x, t->bytes, &err), &err);
        mem_free(x);
    }
    assert_ok(gguf_writer_commit(w, &err), &err);
}

plm_model *open_scripted(const char *text) {
    char from[64], to[64];
    plm_error err = {0};
    struct gguf *g = NULL;
    struct vocab *v = NULL;
    new_path(from);
    new_path(to);
    assert_ok(tiny_model_write(from, &(struct tiny_model){.arch = "qwen2", .width = WIDTH}, &err), &err);
    assert_ok(gguf_open(&g, from, &err), &err);
    assert_ok(vocab_open(&v, g, &err), &err);
    struct script s = {.n = 1, .id = {vocab_find(v, STR("!"))}};
    for (const char *p = text; *p; p++) {
        s.id[s.n++] = vocab_find(v, (struct str){p, 1});
        assert_true(s.n < WIDTH && s.id[s.n - 1] >= 0);
    }
    s.id[s.n++] = vocab_find(v, STR("<|im_end|>"));
    copy_scripted(to, g, &s);
    vocab_close(v);
    gguf_close(g);
    return open_model(to, 1);
}

plm_session *open_session(const plm_model *m, int context) {
    plm_error err = {0};
    plm_session *s = NULL;
    assert_ok(plm_session_new(&s, m, &(plm_session_options){.context = context}, &err), &err);
    return s;
}

void random_ids(const plm_model *m, int32_t *ids, int n, uint64_t seed) {
    struct rng rng;
    rng_seed(&rng, seed, 0);
    for (int i = 0; i < n;) {
        ids[i] = (int32_t)rng_below(&rng, (uint64_t)m->cfg.vocab);
        i += !vocab_is_control(m->vocab, ids[i]);
    }
}

plm_adapter *random_adapter(const plm_model *m, uint64_t seed) {
    plm_error err = {0};
    plm_adapter *a = NULL;
    assert_ok(plm_adapter_new(&a, m, &(plm_adapter_options){.rank = 4, .seed = seed}, &err), &err);
    struct rng rng;
    rng_seed(&rng, seed, 1);
    for (size_t i = 0; i < a->lora->parameters; i++) {
        a->lora->values[i] = .3f * rng_normal(&rng);
    }
    return a;
}
