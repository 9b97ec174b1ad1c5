/* Opening a model: what it says of itself, what it refuses and in which words, its hash, and no memory. */
#include "support_model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include "base/hash.h"

static const char *tiny_file(const char *name, const char *arch) {
    plm_error err = {0};
    const char *path = scratch_path(name);
    assert_ok(tiny_model_write(path, &(struct tiny_model){.arch = arch}, &err), &err);
    return path;
}

static void a_model_describes_itself(void **state) {
    (void)state;
    plm_model *m = open_tiny(&(struct tiny_model){.arch = "qwen2", .type = DT_Q8_0}, "ref", 3);
    const plm_model_facts *f = plm_model_describe(m);
    assert_string_equal(f->arch, "qwen2");
    assert_string_equal(f->name, "tiny");
    assert_string_equal(f->cpu, "ref");
    assert_string_equal(f->types, "Q8_0 16, F32 11");
    assert_non_null(f->chat_template);
    assert_int_equal(f->width, 64);
    assert_int_equal(f->ffn_width, 96);
    assert_int_equal(f->layers, 2);
    assert_int_equal(f->heads, 4);
    assert_int_equal(f->kv_heads, 2);
    assert_int_equal(f->head_width, 16);
    assert_int_equal(f->context, 256);
    assert_int_equal(f->threads, 3);
    assert_int_equal(f->vocab, tiny_model_vocab());
    uint64_t V = (uint64_t)f->vocab, layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96,
             vectors = 2 * 64 + 64 + 2 * 32;
    assert_true(f->parameters == 2 * V * 64 + 2 * (layer + vectors) + 64);
    assert_true(f->bytes_per_token == (2 * layer + V * 64 + 64) / 32 * 34 + 4 * (2 * vectors + 64));
    plm_model_close(m);
}

/* A copy with one change is refused with that code, and the sentence names the file and the word. */
static void refuse(const char *arch, const struct change *c, plm_status code, const char *word) {
    const char *from = tiny_file("whole.gguf", arch), *to = scratch_path("changed.gguf");
    plm_model *m = NULL;
    plm_error err = {0};
    copy_changed(to, from, c);
    plm_status st = plm_model_open(&m, to, &(plm_model_options){.cpu = "ref", .threads = 1}, &err);
    if (st != code || !strstr(err.text, word) || strncmp(err.text, to, strlen(to))) {
        print_error("wanted %s with \"%s\", got %s: %s\n", plm_status_name(code), word, plm_status_name(st),
                    err.text);
    }
    assert_null(m);
    assert_int_equal(st, code);
    assert_non_null(strstr(err.text, word));
    assert_int_equal(strncmp(err.text, to, strlen(to)), 0);
}

static plm_status trace_step(const plm_model *m, const struct lora *l, const int32_t *ids, int n,
                             plm_error *err) {
    struct trace *t = NULL;
    int32_t pos[64], first[64] = {0}, at[64];
    float weight[64], *grad = calloc(l->parameters, sizeof *grad);
    double nll[64];
    for (int i = 0; i < n; i++) {
        pos[i] = at[i] = i;
        weight[i] = 1;
    }
    const struct batch b = {.T = n - 1, .ids = ids, .pos = pos, .first = first};
    plm_status st = trace_open(&t, m, n, l, UINT64_MAX, err);
    if (!st)
        st = model_train(t, &b, at, ids + 1, weight, n - 1, l, grad, nll, err);
    trace_close(t);
    free(grad);
    return st;
}

/* What opening writes stands before the room for packed weights, so that no page of that is resident in a
 * process that only trains; and training packs nothing. */
static void opening_and_training_leave_the_packed_weights_alone(void **state) {
    (void)state;
    plm_model *m = open_tiny(&(struct tiny_model){.type = DT_Q8_0}, NULL, 2);
    const struct layer_weights *w = m->layer;
    const unsigned char *room = w[0].linear[0].units->data;
    for (int i = 0; i < m->cfg.layers * LORA_LINEARS; i++) {
        const struct units *u = w[i / LORA_LINEARS].linear[i % LORA_LINEARS].units;
        assert_true((const unsigned char *)u < room && u->ready < room && u->data >= room);
    }
    plm_adapter *a = NULL;
    plm_error err = {0};
    int32_t ids[40];
    random_ids(ids, 40, m->cfg.vocab, 1);
    assert_ok(plm_adapter_new(&a, m, NULL, &err), &err);
    assert_ok(trace_step(m, a->lora, ids, 40, &err), &err);
    for (int i = 0; i < m->cfg.layers * LORA_LINEARS; i++) {
        const struct matrix *x = &w[i / LORA_LINEARS].linear[i % LORA_LINEARS];
        assert_int_equal(x->units->left, (x->out + 15) / 16);
    }
    plm_adapter_free(a);
    plm_model_close(m);
}

static void wrong_tensors_are_named(void **state) {
    (void)state;
    refuse("llama", &(struct change){.drop = "blk.1.ffn_up.weight"}, PLM_EFORMAT,
           "blk.1.ffn_up.weight is missing");
    refuse("llama", &(struct change){.drop = "token_embd.weight"}, PLM_EFORMAT,
           "token_embd.weight is missing");
    refuse("llama", &(struct change){.drop = "output_norm.weight"}, PLM_EFORMAT,
           "output_norm.weight is missing");
    refuse("qwen2", &(struct change){.drop = "blk.0.attn_k.bias"}, PLM_EFORMAT,
           "blk.0.attn_k.bias is missing");
    refuse("llama", &(struct change){.swap_dims = "blk.0.ffn_gate.weight"}, PLM_EFORMAT,
           "blk.0.ffn_gate.weight is [96, 64");
    refuse("llama", &(struct change){.retype = "blk.0.attn_q.weight"}, PLM_ENOTSUP,
           "blk.0.attn_q.weight is I32");
    refuse("llama", &(struct change){.retype = "blk.1.attn_norm.weight"}, PLM_ENOTSUP,
           "blk.1.attn_norm.weight is I32");
    refuse("llama", &(struct change){.poison = "blk.1.ffn_norm.weight"}, PLM_EFORMAT,
           "blk.1.ffn_norm.weight: value 1");
    refuse("qwen2", &(struct change){.rename = "output.weight", .to = "cls.weight"}, PLM_ENOTSUP,
           "cls.weight has no place");
    refuse("llama", &(struct change){.rename = "blk.0.attn_q.weight", .to = "blk.00.attn_q.weight"},
           PLM_EFORMAT, "blk.0.attn_q.weight is missing");
    refuse("llama", &(struct change){.key = "llama.block_count", .kind = CHANGE_U32, .u32 = 1}, PLM_ENOTSUP,
           "blk.1.");
    refuse("llama", &(struct change){.key = "llama.block_count", .kind = CHANGE_U32, .u32 = 3}, PLM_EFORMAT,
           "blk.2.attn_norm.weight is missing");
}

static void wrong_numbers_are_named(void **state) {
    (void)state;
    static const struct {
        const char *key;
        int kind;
        uint32_t u32;
        float f32;
        plm_status code;
        const char *word;
    } bad[] = {
        {"llama.block_count", CHANGE_U32, 0, 0, PLM_EFORMAT, "llama.block_count is 0"},
        {"llama.block_count", CHANGE_U32, 0xffffffffu, 0, PLM_EFORMAT, "llama.block_count"},
        {"llama.block_count", CHANGE_DROP, 0, 0, PLM_EFORMAT, "llama.block_count is missing"},
        {"llama.context_length", CHANGE_U32, 0, 0, PLM_EFORMAT, "llama.context_length"},
        {"llama.embedding_length", CHANGE_U32, 1u << 31, 0, PLM_EFORMAT, "llama.embedding_length"},
        {"llama.embedding_length", CHANGE_U32, 63, 0, PLM_EFORMAT, "llama.attention.key_length is missing"},
        {"llama.embedding_length", CHANGE_U32, 60, 0, PLM_EFORMAT, ""},
        {"llama.feed_forward_length", CHANGE_U32, 0, 0, PLM_EFORMAT, "llama.feed_forward_length"},
        {"llama.attention.head_count", CHANGE_U32, 0, 0, PLM_EFORMAT, "llama.attention.head_count"},
        {"llama.attention.head_count_kv", CHANGE_U32, 3, 0, PLM_EFORMAT, "4 heads are not a multiple of 3"},
        {"llama.attention.head_count_kv", CHANGE_U32, 8, 0, PLM_EFORMAT, "4 heads are not a multiple of 8"},
        {"llama.attention.key_length", CHANGE_U32, 15, 0, PLM_EFORMAT, "RoPE"},
        {"llama.attention.key_length", CHANGE_U32, 0, 0, PLM_EFORMAT, "llama.attention.key_length"},
        {"llama.attention.value_length", CHANGE_U32, 32, 0, PLM_ENOTSUP, "values of width 32"},
        {"llama.rope.dimension_count", CHANGE_U32, 18, 0, PLM_EFORMAT, "RoPE over 18"},
        {"llama.rope.dimension_count", CHANGE_U32, 7, 0, PLM_EFORMAT, "RoPE over 7"},
        {"llama.rope.freq_base", CHANGE_F32, 0, NAN, PLM_EFORMAT, "llama.rope.freq_base"},
        {"llama.rope.freq_base", CHANGE_F32, 0, -1, PLM_EFORMAT, "llama.rope.freq_base"},
        {"llama.rope.freq_base", CHANGE_U32, 10000, 0, PLM_EFORMAT, "llama.rope.freq_base"},
        {"llama.attention.layer_norm_rms_epsilon", CHANGE_F32, 0, 0, PLM_EFORMAT, "layer_norm_rms_epsilon"},
        {"llama.attention.layer_norm_rms_epsilon", CHANGE_F32, 0, INFINITY, PLM_EFORMAT,
         "layer_norm_rms_epsilon"},
        {"llama.attention.layer_norm_rms_epsilon", CHANGE_DROP, 0, 0, PLM_EFORMAT, "layer_norm_rms_epsilon"},
        {"llama.rope.scaling.factor", CHANGE_F32, 0, -2, PLM_EFORMAT, "llama.rope.scaling.factor is -2"},
        {"llama.expert_count", CHANGE_U32, 8, 0, PLM_ENOTSUP, "llama.expert_count is 8"},
        {"llama.final_logit_softcapping", CHANGE_F32, 0, 30, PLM_ENOTSUP,
         "llama.final_logit_softcapping is 30"},
        {"general.architecture", CHANGE_DROP, 0, 0, PLM_EFORMAT, "general.architecture is missing"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct change c = {.key = bad[i].key, .u32 = bad[i].u32, .f32 = bad[i].f32};
        c.kind = bad[i].kind;
        refuse("llama", &c, bad[i].code, bad[i].word);
    }
    refuse("llama",
           &(struct change){.key = "llama.rope.scaling.type", .kind = CHANGE_STRING, .string = "yarn"},
           PLM_ENOTSUP, "llama.rope.scaling.type is yarn");
    refuse("llama", &(struct change){.key = "general.architecture", .kind = CHANGE_STRING, .string = "mamba"},
           PLM_ENOTSUP, "architecture mamba is not supported (there are: llama, qwen2, qwen3, gemma3)");
    refuse("gemma3",
           &(struct change){.key = "gemma3.attention.sliding_window_pattern", .kind = CHANGE_U32, .u32 = 0},
           PLM_EFORMAT, "gemma3.attention.sliding_window_pattern is 0");
    refuse("gemma3", &(struct change){.key = "gemma3.block_count", .kind = CHANGE_U32, .u32 = 62},
           PLM_ENOTSUP, "a gemma3 model of 62 layers");
    refuse("llama", &(struct change){.key = "general.type", .kind = CHANGE_STRING, .string = "adapter"},
           PLM_EFORMAT, "an adapter, not a model");
}

static void h27_block_counts_and_per_layer_arrays(void **state) {
    (void)state;
    static const uint32_t counts[] = {0, 513, 1025, 0x7fffffff, 0xffffffffu};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        refuse("llama", &(struct change){.key = "llama.block_count", .kind = CHANGE_U32, .u32 = counts[i]},
               PLM_EFORMAT, counts[i] == 513 ? "blk.2." : "llama.block_count");
    }
    refuse("llama", &(struct change){.key = "llama.attention.head_count", .kind = CHANGE_ARRAY, .u32 = 4},
           PLM_EFORMAT, "llama.attention.head_count");
    refuse("llama", &(struct change){.key = "llama.feed_forward_length", .kind = CHANGE_ARRAY, .u32 = 96},
           PLM_EFORMAT, "llama.feed_forward_length");
}

static void h42_devices_and_folders_are_no_models(void **state) {
    (void)state;
    static const char *const paths[] = {"/dev/zero", "/dev/random", "/dev/null", "/tmp", ""};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        plm_model *m = NULL;
        plm_error err = {0};
        assert_int_not_equal(plm_model_open(&m, paths[i], NULL, &err), PLM_OK);
        assert_null(m);
        assert_true(err.text[0]);
    }
}

static void a_sliding_window_ends_the_context(void **state) {
    (void)state;
    const char *to = scratch_path("window.gguf");
    plm_model *m = NULL;
    plm_error err = {0};
    copy_changed(to, tiny_file("whole.gguf", "llama"),
                 &(struct change){.key = "llama.attention.sliding_window", .kind = CHANGE_U32, .u32 = 100});
    assert_ok(plm_model_open(&m, to, &(plm_model_options){.threads = 1}, &err), &err);
    assert_int_equal(plm_model_describe(m)->context, 100);
    plm_model_close(m);
}

static void wrong_options_are_refused(void **state) {
    (void)state;
    const char *path = tiny_file("whole.gguf", "llama");
    plm_model *m = NULL;
    plm_error err = {0};
    assert_int_equal(plm_model_open(&m, path, &(plm_model_options){.cpu = "z80"}, &err), PLM_ENOTSUP);
    assert_non_null(strstr(err.text, "z80"));
    assert_int_equal(plm_model_open(&m, path, &(plm_model_options){.threads = -1}, &err), PLM_EINVAL);
    assert_int_equal(plm_model_open(&m, path, &(plm_model_options){.chat_template = "nonesuch"}, &err),
                     PLM_EINVAL);
    assert_int_equal(plm_model_open(&m, scratch_path("absent.gguf"), NULL, &err), PLM_ENOTFOUND);
    assert_int_equal(plm_model_open(&m, NULL, NULL, &err), PLM_EINVAL);
    assert_null(m);
    plm_model_close(NULL);
}

static void no_memory_is_a_clean_failure(void **state) {
    (void)state;
    const char *path = tiny_file("whole.gguf", "qwen2");
    plm_status st = PLM_ENOMEM;
    int failures = 0;
    for (long n = 1; st; n++) {
        plm_model *m = NULL;
        plm_error err = {0};
        mem_fail_at(n, false);
        st = plm_model_open(&m, path, &(plm_model_options){.threads = 2}, &err);
        mem_fail_at(0, false);
        if (st) {
            assert_int_equal(st, PLM_ENOMEM);
            assert_true(err.text[0]);
            assert_null(m);
            failures++;
        }
        plm_model_close(m);
    }
    assert_true(failures > 10);
}

/* ---- the hash ---- */

static plm_model *open_cached(const char *path, const char *cache) {
    plm_model *m = NULL;
    plm_error err = {0};
    assert_ok(plm_model_open(&m, path, &(plm_model_options){.threads = 1, .digest_cache = cache}, &err),
              &err);
    return m;
}

static void digest_of(const char *path, const char *cache, char hex[65]) {
    plm_model *m = open_cached(path, cache);
    plm_error err = {0};
    assert_ok(plm_model_digest(m, hex, &err), &err);
    plm_model_close(m);
}

static void the_digest_is_the_files_sha256(void **state) {
    (void)state;
    const char *path = tiny_file("whole.gguf", "llama");
    char want[65], got[65];
    assert_int_equal(sha256_file(path, want, NULL), PLM_OK);
    digest_of(path, NULL, got);
    assert_string_equal(got, want);
    digest_of(path, scratch_path("cache"), got);
    assert_string_equal(got, want);
    digest_of(path, scratch_path("cache"), got);
    assert_string_equal(got, want);
}

/* Overwrites the last hex digit of the one line in the cache. */
static void forge(const char *cache) {
    FILE *f = fopen(cache, "r+b");
    assert_non_null(f);
    fseek(f, -2, SEEK_END);
    int c = fgetc(f);
    fseek(f, -2, SEEK_END);
    fputc(c == '0' ? '1' : '0', f);
    fclose(f);
}

static void the_cache_is_believed_for_the_same_file_only(void **state) {
    (void)state;
    const char *path = tiny_file("cached.gguf", "llama"), *cache = scratch_path("cache2");
    char want[65], got[65];
    digest_of(path, cache, want);
    forge(cache);
    digest_of(path, cache, got);
    assert_string_not_equal(got, want);
    // The same size, inode and time, but another header: hashed again.
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    FILE *f = fopen(path, "r+b");
    char head[4096];
    size_t n = fread(head, 1, sizeof head, f);
    char *name = memmem(head, n, "tiny", 4);
    assert_non_null(name);
    fseek(f, name - head, SEEK_SET);
    fputc('T', f);
    fclose(f);
    struct timespec times[2] = {s.st_atim, s.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(sha256_file(path, want, NULL), PLM_OK);
    digest_of(path, cache, got);
    assert_string_equal(got, want);
}

static void a_damaged_cache_is_no_cache(void **state) {
    (void)state;
    const char *path = tiny_file("whole.gguf", "llama"), *cache = scratch_path("cache3");
    char want[65], got[65];
    assert_int_equal(sha256_file(path, want, NULL), PLM_OK);
    FILE *f = fopen(cache, "wb");
    for (int i = 0; i < 3000; i++)
        fputc(i * 37 % 256, f);
    fclose(f);
    digest_of(path, cache, got);
    assert_string_equal(got, want);
    digest_of(path, scratch_path("no/such/folder"), got);
    assert_string_equal(got, want);
}

static void a_file_replaced_since_has_no_digest(void **state) {
    (void)state;
    const char *path = tiny_file("replaced.gguf", "llama");
    plm_model *m = open_cached(path, NULL);
    plm_error err = {0};
    char hex[65];
    tiny_file("replaced.gguf", "qwen2");
    assert_int_equal(plm_model_digest(m, hex, &err), PLM_EIO);
    assert_non_null(strstr(err.text, "has changed"));
    remove(path);
    assert_int_equal(plm_model_digest(m, hex, &err), PLM_EIO);
    plm_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_describes_itself),
        cmocka_unit_test(opening_and_training_leave_the_packed_weights_alone),
        cmocka_unit_test(wrong_tensors_are_named),
        cmocka_unit_test(wrong_numbers_are_named),
        cmocka_unit_test(h27_block_counts_and_per_layer_arrays),
        cmocka_unit_test(h42_devices_and_folders_are_no_models),
        cmocka_unit_test(a_sliding_window_ends_the_context),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(no_memory_is_a_clean_failure),
        cmocka_unit_test(the_digest_is_the_files_sha256),
        cmocka_unit_test(the_cache_is_believed_for_the_same_file_only),
        cmocka_unit_test(a_damaged_cache_is_no_cache),
        cmocka_unit_test(a_file_replaced_since_has_no_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
