/* Models written again in other number formats: which tensor becomes what, and that the result is a model. */
#include "support_model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 40 };

static plm_model *again(const plm_model *m, const char *type, const char *path) {
    plm_model *to = NULL;
    plm_error err = {0};
    assert_ok(plm_model_quantize(m, type, path, &err), &err);
    assert_ok(plm_model_open(&to, path, &(plm_model_options){.cpu = "ref", .threads = 1}, &err), &err);
    return to;
}

static int type_of(const plm_model *m, const char *name) {
    const struct tensor *t = gguf_tensor(m->file, name);
    assert_non_null(t);
    return t->type;
}

static double logit_distance(const plm_model *a, const plm_model *b) {
    size_t n = N * (size_t)a->cfg.vocab;
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
    double off = 0, size = 0;
    int32_t ids[N];
    random_ids(ids, N, a->cfg.vocab, 3);
    run_logits(a, NULL, 0, ids, N, N, x);
    run_logits(b, NULL, 0, ids, N, N, y);
    for (size_t i = 0; i < n; i++) {
        off += pow((double)x[i] - (double)y[i], 2);
        size += pow((double)x[i], 2);
    }
    free(x);
    free(y);
    return sqrt(off / size);
}

/* Widths of 64 and 96: whole blocks of 32, and never of 256. */
static void small_widths_fall_back(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int matrix, head, value, file_type;
        double far;
    } rows[] = {
        {"f32", DT_F32, DT_F32, DT_F32, 0, 0},          {"F16", DT_F16, DT_F16, DT_F16, 1, 0.003},
        {"BF16", DT_BF16, DT_BF16, DT_BF16, 32, 0.03},  {"q8_0", DT_Q8_0, DT_Q8_0, DT_Q8_0, 7, 0.05},
        {"Q4_0", DT_Q4_0, DT_Q8_0, DT_Q4_0, 2, 0.6},    {"Q4_1", DT_Q4_1, DT_Q8_0, DT_Q4_1, 3, 0.6},
        {"Q5_0", DT_Q5_0, DT_Q8_0, DT_Q5_0, 8, 0.3},    {"Q5_1", DT_Q5_1, DT_Q8_0, DT_Q5_1, 9, 0.3},
        {"Q4_K_M", DT_Q5_0, DT_Q8_0, DT_Q8_0, 15, 0.3}, {"Q5_K_M", DT_Q5_1, DT_Q8_0, DT_Q8_0, 17, 0.3},
        {"Q5_K_S", DT_Q5_1, DT_Q8_0, DT_Q5_1, 16, 0.3}, {"Q6_K", DT_Q8_0, DT_Q8_0, DT_Q8_0, 18, 0.05},
    };
    const char *const archs[] = {"llama", "qwen2", "gemma3"};
    for (int k = 0; k < 3; k++) {
        plm_model *m = open_tiny(&(struct tiny_model){.arch = archs[k]}, "ref", 2);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            char name[40];
            snprintf(name, sizeof name, "again-%d-%zu.gguf", k, i);
            plm_model *to = again(m, rows[i].name, scratch_path(name));
            bool tied = m->facts.tied_head;
            assert_int_equal(to->facts.tied_head, tied);
            assert_int_equal(type_of(to, "blk.0.attn_q.weight"), rows[i].matrix);
            assert_int_equal(type_of(to, "blk.1.attn_v.weight"), rows[i].value);
            assert_int_equal(type_of(to, "blk.1.ffn_down.weight"), rows[i].value);
            assert_int_equal(type_of(to, "token_embd.weight"), tied ? rows[i].head : rows[i].matrix);
            if (!tied)
                assert_int_equal(type_of(to, "output.weight"), rows[i].head);
            assert_int_equal(type_of(to, "blk.0.attn_norm.weight"), DT_F32);
            uint32_t file_type = 99;
            bool found;
            assert_int_equal(gguf_u32(to->file, "general.file_type", &file_type, &found, NULL), PLM_OK);
            assert_int_equal(file_type, rows[i].file_type);
            double far = logit_distance(m, to);
            if (far > rows[i].far)
                fail_msg("%s %s: logits are %.3f away", archs[k], rows[i].name, far);
            plm_model_close(to);
        }
        plm_model_close(m);
    }
}

/* Eight layers: the first, the last, and each third between get more bits. */
static void wide_rows_get_super_blocks(void **state) {
    (void)state;
    static const bool more[] = {true, false, false, true, false, false, true, true};
    plm_model *m = open_tiny(&(struct tiny_model){.width = 256, .ffn = 512, .layers = 8}, "ref", 2);
    plm_model *to = again(m, "Q4_K_M", scratch_path("super.gguf"));
    for (int l = 0; l < 8; l++) {
        char name[40];
        const char *const linears[] = {"attn_v", "ffn_down", "attn_k", "ffn_up"};
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, linears[i]);
            assert_int_equal(type_of(to, name), i < 2 && more[l] ? DT_Q6_K : DT_Q4_K);
        }
    }
    assert_int_equal(type_of(to, "token_embd.weight"), DT_Q6_K);
    assert_true(logit_distance(m, to) < 0.5);
    plm_model_close(to);
    plm_model_close(m);
}

static void rows_that_are_no_blocks_become_f16(void **state) {
    (void)state;
    plm_model *m =
        open_tiny(&(struct tiny_model){.width = 48, .heads = 3, .kv_heads = 1, .ffn = 80}, "ref", 1);
    plm_model *to = again(m, "Q4_0", scratch_path("odd.gguf"));
    assert_int_equal(type_of(to, "blk.0.attn_q.weight"), DT_F16);
    assert_int_equal(type_of(to, "blk.0.ffn_down.weight"), DT_F16);
    assert_int_equal(type_of(to, "token_embd.weight"), DT_F16);
    plm_model_close(to);
    plm_model_close(m);
}

static void what_has_the_format_is_copied(void **state) {
    (void)state;
    plm_model *m = open_tiny(&(struct tiny_model){.arch = "qwen2", .type = DT_Q8_0}, "ref", 2);
    plm_model *to = again(m, "Q8_0", scratch_path("same.gguf"));
    for (size_t i = 0; i < gguf_n_tensors(m->file); i++) {
        const struct tensor *a = gguf_tensor_at(m->file, i), *b = gguf_tensor_at(to->file, i);
        assert_int_equal(a->type, b->type);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    plm_model_close(to);
    plm_model_close(m);
}

static void threads_do_not_change_a_byte(void **state) {
    (void)state;
    struct bytes one, two;
    plm_error err = {0};
    bytes_init(&one, 1 << 24);
    bytes_init(&two, 1 << 24);
    for (int threads = 1; threads <= 3; threads += 2) {
        plm_model *m = open_tiny(&(struct tiny_model){.width = 256}, "ref", threads);
        const char *path = scratch_path(threads == 1 ? "one.gguf" : "three.gguf");
        assert_ok(plm_model_quantize(m, "Q4_K_M", path, &err), &err);
        assert_ok(file_read(path, 1 << 24, threads == 1 ? &one : &two, &err), &err);
        plm_model_close(m);
    }
    assert_int_equal(one.len, two.len);
    assert_memory_equal(one.data, two.data, one.len);
    bytes_free(&one);
    bytes_free(&two);
}

static void bad_requests_leave_no_file(void **state) {
    (void)state;
    plm_model *m = open_tiny(NULL, "ref", 1);
    plm_error err = {0};
    const char *path = scratch_path("bad.gguf");
    assert_int_equal(plm_model_quantize(m, "Q3_K_M", path, &err), PLM_EINVAL);
    assert_non_null(strstr(err.text, "no type \"Q3_K_M\"; there are: F32, F16"));
    assert_int_equal(plm_model_quantize(NULL, "Q4_0", path, &err), PLM_EINVAL);
    assert_int_equal(plm_model_quantize(m, NULL, path, &err), PLM_EINVAL);
    assert_int_not_equal(plm_model_quantize(m, "Q4_0", "/nowhere/at/all.gguf", &err), PLM_OK);
    assert_false(file_exists(path));
    assert_int_equal(plm_model_quantize(m, "Q4_0", m->path, &err), PLM_EINVAL);
    assert_non_null(strstr(err.text, "is there already"));
    for (long n = 1;; n++) {
        mem_fail_at(n, true);
        plm_status st = plm_model_quantize(m, "Q4_0", path, &err);
        mem_fail_at(0, false);
        if (!st) {
            assert_true(n > 5);
            break;
        }
        assert_int_equal(st, PLM_ENOMEM);
        assert_false(file_exists(path));
    }
    plm_model_close(m);
}

/* The writer pads in its own way, whatever the file had. */
static void a_files_own_padding_is_not_copied(void **state) {
    (void)state;
    plm_model *m = NULL;
    plm_error err = {0};
    const char *from = scratch_path("plain.gguf"), *padded = scratch_path("padded.gguf");
    assert_ok(tiny_model_write(from, NULL, &err), &err);
    copy_changed(padded, from, &(struct change){.key = "general.alignment", .kind = CHANGE_U32, .u32 = 32});
    assert_ok(plm_model_open(&m, padded, &(plm_model_options){.cpu = "ref", .threads = 1}, &err), &err);
    plm_model *to = again(m, "F16", scratch_path("unpadded.gguf"));
    uint32_t alignment;
    bool found = true;
    assert_int_equal(gguf_u32(to->file, "general.alignment", &alignment, &found, NULL), PLM_OK);
    assert_false(found);
    plm_model_close(to);
    plm_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_widths_fall_back),
        cmocka_unit_test(wide_rows_get_super_blocks),
        cmocka_unit_test(rows_that_are_no_blocks_become_f16),
        cmocka_unit_test(what_has_the_format_is_copied),
        cmocka_unit_test(threads_do_not_change_a_byte),
        cmocka_unit_test(bad_requests_leave_no_file),
        cmocka_unit_test(a_files_own_padding_is_not_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
