/* Adapters through the public door, merging, and the text functions' buffers. */
#include "support_model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 40 };
static const struct tiny_model llama = {.arch = "llama", .seed = 1}, qwen2 = {.arch = "qwen2", .seed = 2},
                               qwen3 = {.arch = "qwen3", .seed = 3}, gemma3 = {.arch = "gemma3", .seed = 4};
static const struct tiny_model *const specs[] = {&llama, &qwen2, &qwen3, &gemma3};
enum { SPECS = sizeof specs / sizeof *specs };

static void defaults_follow_the_models_size(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    plm_adapter *a = NULL;
    plm_error err = {0};
    char hex[65];
    assert_ok(plm_adapter_new(&a, m, NULL, &err), &err);
    const plm_adapter_facts *f = plm_adapter_describe(a);
    assert_int_equal(f->rank, 8);
    assert_true(f->alpha == 16);
    assert_int_equal(f->targets, PLM_ALL_LINEAR);
    assert_int_equal(f->layers, 2);
    assert_string_equal(f->arch, "llama");
    assert_true(f->parameters == 2 * 8 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 96)));
    assert_ok(plm_model_digest(m, hex, &err), &err);
    assert_string_equal(f->base_sha256, hex);
    plm_adapter_free(a);
    plm_model_close(m);
}

static void impossible_options_are_refused(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    plm_adapter *a = NULL;
    plm_error err = {0};
    const plm_adapter_options bad[] = {{.rank = -1},        {.rank = 257},    {.alpha = -1},  {.alpha = NAN},
                                       {.alpha = INFINITY}, {.targets = 128}, {.layers = -1}, {.layers = 99}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(plm_adapter_new(&a, m, &bad[i], &err), PLM_EINVAL);
        assert_null(a);
    }
    plm_adapter_free(NULL);
    plm_model_close(m);
}

static void assert_same_values(const plm_adapter *a, const plm_adapter *b) {
    assert_true(a->lora->parameters == b->lora->parameters);
    assert_memory_equal(a->lora->values, b->lora->values, a->lora->parameters * sizeof(float));
    assert_true(a->facts.alpha == b->facts.alpha);
    assert_int_equal(a->facts.targets, b->facts.targets);
}

static void an_adapter_of_the_top_layer_alone_is_saved_as_such(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    plm_adapter *a = NULL, *b = NULL, *c = NULL;
    plm_error err = {0};
    const char *file = scratch_path("top.gguf"), *folder = scratch_path("top-peft");
    assert_ok(plm_adapter_new(&a, m, &(plm_adapter_options){.layers = 1}, &err), &err);
    assert_ok(plm_adapter_save(a, file, &err), &err);
    assert_ok(plm_adapter_save_peft(a, folder, &err), &err);
    assert_ok(plm_adapter_load(&b, m, file, &err), &err);
    assert_ok(plm_adapter_load(&c, m, folder, &err), &err);
    assert_same_values(a, b);
    assert_same_values(a, c);
    const int top = m->cfg.layers - 1;
    assert_int_equal(plm_adapter_describe(a)->first_layer, top);
    assert_int_equal(plm_adapter_describe(b)->first_layer, top);
    assert_int_equal(plm_adapter_describe(c)->first_layer, top);
    assert_null(a->lora->pair[0].A);
    plm_adapter_free(a);
    plm_adapter_free(b);
    plm_adapter_free(c);
    plm_model_close(m);
}

static void both_file_forms_give_the_adapter_again(void **state) {
    (void)state;
    for (int i = 0; i < SPECS; i++) {
        plm_model *m = open_tiny(specs[i], "ref", 1);
        plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 1), *b = NULL, *c = NULL;
        plm_error err = {0};
        const char *file = scratch_path("a.gguf"), *folder = scratch_path("peft");
        assert_ok(plm_adapter_set(a, "plm.recipe", "note", &err), &err);
        assert_ok(plm_adapter_save(a, file, &err), &err);
        assert_ok(plm_adapter_save_peft(a, folder, &err), &err);
        assert_ok(plm_adapter_load(&b, m, file, &err), &err);
        assert_ok(plm_adapter_load(&c, m, folder, &err), &err);
        assert_same_values(a, b);
        assert_same_values(a, c);
        assert_string_equal(plm_adapter_get(b, "plm.recipe"), "note");
        assert_string_equal(plm_adapter_describe(b)->base_sha256, plm_adapter_describe(a)->base_sha256);
        plm_adapter_free(a);
        plm_adapter_free(b);
        plm_adapter_free(c);
        plm_model_close(m);
    }
}

static void an_adapter_of_another_base_is_refused_naming_both(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1), *other = open_tiny(&(struct tiny_model){.seed = 9}, "ref", 1);
    plm_adapter *a = random_adapter(m, 2, PLM_Q, 1), *b = NULL;
    plm_error err = {0};
    char mine[65], theirs[65];
    const char *file = scratch_path("mine.gguf");
    assert_ok(plm_adapter_save(a, file, &err), &err);
    assert_int_equal(plm_adapter_load(&b, other, file, &err), PLM_EINVAL);
    assert_null(b);
    assert_ok(plm_model_digest(m, mine, NULL), NULL);
    assert_ok(plm_model_digest(other, theirs, NULL), NULL);
    mine[12] = theirs[12] = 0;
    assert_non_null(strstr(err.text, mine));
    assert_non_null(strstr(err.text, theirs));
    assert_non_null(strstr(err.text, file));
    assert_ok(plm_adapter_load(&b, NULL, file, &err), &err);
    assert_string_equal(plm_adapter_describe(b)->arch, "llama");
    plm_adapter_free(b);
    plm_adapter_free(a);
    plm_model_close(m);
    plm_model_close(other);
}

static void an_adapter_without_a_base_has_to_fit_by_shape(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1), *same = open_tiny(&(struct tiny_model){.seed = 9}, "ref", 1),
              *wide = open_tiny(&(struct tiny_model){.width = 96}, "ref", 1);
    plm_adapter *a = random_adapter(m, 2, PLM_Q, 1), *b = NULL;
    plm_error err = {0};
    const char *file = scratch_path("nobody.gguf");
    a->lora->base_sha256[0] = 0;
    assert_ok(plm_adapter_save(a, file, &err), &err);
    assert_int_equal(plm_adapter_load(&b, wide, file, &err), PLM_EFORMAT);
    assert_null(b);
    assert_ok(plm_adapter_load(&b, same, file, &err), &err);
    assert_null(plm_adapter_describe(b)->base_sha256);
    plm_adapter_free(b);
    plm_adapter_free(a);
    plm_model_close(m);
    plm_model_close(same);
    plm_model_close(wide);
}

static void loading_an_adapter_survives_no_memory(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    plm_adapter *a = random_adapter(m, 2, PLM_Q | PLM_DOWN, 1);
    plm_error err = {0};
    const char *path[2] = {scratch_path("sweep.gguf"), scratch_path("sweep")};
    assert_ok(plm_adapter_save(a, path[0], &err), &err);
    assert_ok(plm_adapter_save_peft(a, path[1], &err), &err);
    for (int i = 0; i < 2; i++) {
        plm_status st = PLM_ENOMEM;
        for (long n = 1; st; n++) {
            plm_adapter *b = NULL;
            mem_fail_at(n, false);
            st = plm_adapter_load(&b, m, path[i], &err);
            mem_fail_at(0, false);
            if (st)
                assert_int_equal(st, PLM_ENOMEM);
            if (st)
                assert_null(b);
            plm_adapter_free(b);
        }
    }
    plm_adapter_free(a);
    plm_model_close(m);
}

/* What a run, a pass of training and a merge allocate. */
static plm_status open_everything(const plm_model *m, const plm_adapter *a, const char *path,
                                  plm_error *err) {
    struct runner *r = NULL;
    struct kv_cache kv = {0};
    struct trace *t = NULL;
    plm_status st = runner_open(&r, m, 8, err);
    assert_true(!st == !!r);
    if (!st)
        st = kv_open(&kv, m, 8, kv_usual(m), err);
    if (!st)
        st = trace_open(&t, m, 8, a->lora, UINT64_MAX, err);
    if (!st)
        st = plm_model_merge(m, &(plm_lora){a, 1}, 1, path, err);
    runner_close(r);
    kv_close(&kv);
    trace_close(t);
    return st;
}

static void working_memory_that_is_not_there_is_a_clean_failure(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    plm_adapter *a = random_adapter(m, 2, PLM_ALL_LINEAR, 1);
    const char *path = scratch_path("sweep-merged.gguf");
    plm_status st = PLM_ENOMEM;
    int failures = 0;
    for (long n = 1; st; n++) {
        plm_error err = {0};
        mem_fail_at(n, false);
        st = open_everything(m, a, path, &err);
        mem_fail_at(0, false);
        if (st) {
            assert_int_equal(st, PLM_ENOMEM);
            assert_true(err.text[0]);
            assert_false(file_exists(path));
            failures++;
        }
    }
    assert_true(failures > 10);
    assert_true(file_exists(path));
    plm_adapter_free(a);
    plm_model_close(m);
}

static void a_merged_model_answers_as_model_and_adapter(void **state) {
    (void)state;
    for (int i = 0; i < SPECS; i++) {
        plm_model *m = open_tiny(specs[i], "ref", 2), *merged = NULL;
        plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 1);
        const plm_lora use = {a, 0.5f};
        plm_error err = {0};
        const char *path = scratch_path("merged.gguf");
        size_t n = N * (size_t)m->cfg.vocab;
        int32_t ids[N];
        float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got),
              *base = malloc(n * sizeof *base);
        random_ids(ids, N, m->cfg.vocab, 3);
        assert_ok(plm_model_merge(m, &use, 1, path, &err), &err);
        assert_ok(plm_model_open(&merged, path, &(plm_model_options){.cpu = "ref", .threads = 1}, &err),
                  &err);
        assert_non_null(strstr(plm_model_describe(merged)->types, "F16"));
        run_logits(m, &use, 1, ids, N, N, want);
        run_logits(m, NULL, 0, ids, N, N, base);
        run_logits(merged, NULL, 0, ids, N, N, got);
        double off = 0, moved = 0;
        for (size_t j = 0; j < n; j++) {
            off += pow((double)(got[j] - want[j]), 2);
            moved += pow((double)(base[j] - want[j]), 2);
        }
        assert_true(sqrt(off / moved) < 0.01);
        free(want);
        free(got);
        free(base);
        plm_adapter_free(a);
        plm_model_close(merged);
        plm_model_close(m);
    }
}

static void weights_over_the_range_of_f16_are_not_merged(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    plm_adapter *a = random_adapter(m, 2, PLM_UP, 1);
    plm_error err = {0};
    const char *path = scratch_path("huge.gguf");
    for (int i = 0; i < a->lora->layers * LORA_LINEARS; i++) {
        struct lora_pair *p = &a->lora->pair[i];
        if (p->B)
            p->B[0] = 1e8f;
    }
    assert_int_equal(plm_model_merge(m, &(plm_lora){a, 1}, 1, path, &err), PLM_ELIMIT);
    assert_non_null(strstr(err.text, "blk.0.ffn_up.weight"));
    assert_false(file_exists(path));
    plm_adapter_free(a);
    plm_model_close(m);
}

/* ---- text ---- */

static void buffers_hold_what_fits_and_say_how_much_there_is(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    const char *text = "the thing and nothing";
    int32_t ids[64];
    size_t n = 0, len = 0;
    char back[64];
    plm_error err = {0};
    assert_ok(plm_encode(m, text, strlen(text), false, NULL, 0, &n, &err), &err);
    assert_true(n > 2 && n < 64);
    size_t whole = n;
    ids[2] = -7;
    assert_int_equal(plm_encode(m, text, strlen(text), false, ids, 2, &n, &err), PLM_ELIMIT);
    assert_true(n == whole);
    assert_int_equal(ids[2], -7);
    assert_ok(plm_encode(m, text, strlen(text), false, ids, whole, &n, &err), &err);
    assert_ok(plm_decode(m, ids, n, false, back, sizeof back, &len, &err), &err);
    assert_int_equal(len, strlen(text));
    assert_memory_equal(back, text, len);
    assert_int_equal(plm_decode(m, ids, n, false, back, 3, &len, &err), PLM_ELIMIT);
    assert_int_equal(len, strlen(text));
    assert_ok(plm_decode(m, ids, n, false, NULL, 0, &len, &err), &err);
    assert_int_equal(len, strlen(text));
    ids[0] = m->cfg.vocab;
    assert_int_equal(plm_decode(m, ids, n, false, back, sizeof back, &len, &err), PLM_EINVAL);
    plm_model_close(m);
}

static void a_chat_marks_what_the_assistant_wrote(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    const plm_message turns[] = {{"user", "the thing"}, {"assistant", "and more"}};
    int32_t ids[200];
    uint8_t target[200];
    size_t n = 0, open = 0;
    plm_error err = {0};
    assert_ok(plm_chat_encode(m, turns, 2, ids, target, 200, &n, &err), &err);
    int last = -1, count = 0;
    for (size_t i = 0; i < n; i++) {
        if (target[i])
            count++, last = (int)i;
    }
    assert_true(count > 1 && count < (int)n);
    assert_true(plm_is_end(m, ids[last]));
    assert_false(plm_is_end(m, ids[last - 1]));
    assert_ok(plm_chat_encode(m, turns, 1, NULL, NULL, 0, &open, &err), &err);
    assert_true(open < n);
    plm_model_close(m);
    m = open_tiny(&(struct tiny_model){.template = ""}, "ref", 1);
    assert_int_equal(plm_chat_encode(m, turns, 2, ids, target, 200, &n, &err), PLM_ENOTSUP);
    plm_model_close(m);
}

static void raw_rows_end_with_the_end_token(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    int32_t ids[64], prompt[64];
    size_t n = 0, n_prompt = 0, n_alone = 0;
    plm_error err = {0};
    assert_ok(plm_raw_encode(m, "the ", "thing", ids, 64, &n, &n_prompt, &err), &err);
    assert_ok(plm_raw_encode(m, "the ", NULL, prompt, 64, &n_alone, NULL, &err), &err);
    assert_true(n_prompt == n_alone && n > n_prompt + 1);
    assert_memory_equal(ids, prompt, n_prompt * sizeof *ids);
    assert_true(plm_is_end(m, ids[n - 1]));
    plm_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_follow_the_models_size),
        cmocka_unit_test(impossible_options_are_refused),
        cmocka_unit_test(an_adapter_of_the_top_layer_alone_is_saved_as_such),
        cmocka_unit_test(both_file_forms_give_the_adapter_again),
        cmocka_unit_test(an_adapter_of_another_base_is_refused_naming_both),
        cmocka_unit_test(an_adapter_without_a_base_has_to_fit_by_shape),
        cmocka_unit_test(loading_an_adapter_survives_no_memory),
        cmocka_unit_test(working_memory_that_is_not_there_is_a_clean_failure),
        cmocka_unit_test(a_merged_model_answers_as_model_and_adapter),
        cmocka_unit_test(weights_over_the_range_of_f16_are_not_merged),
        cmocka_unit_test(buffers_hold_what_fits_and_say_how_much_there_is),
        cmocka_unit_test(a_chat_marks_what_the_assistant_wrote),
        cmocka_unit_test(raw_rows_end_with_the_end_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
