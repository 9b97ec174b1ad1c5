/* The forward pass of tiny models against the oracle, and against itself in other pieces. */
#include "support_model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 45 };

static const struct tiny_model specs[] = {
    {.arch = "llama", .seed = 1},
    {.arch = "qwen2", .seed = 2, .heads = 4, .kv_heads = 1},
    {.arch = "llama", .seed = 3, .type = DT_Q4_1, .layers = 3},
    {.arch = "qwen2", .seed = 4, .type = DT_Q8_0},
    {.arch = "qwen3", .seed = 5},
    {.arch = "gemma3", .seed = 6, .layers = 4},
    {.arch = "gemma3", .seed = 7, .type = DT_Q5_0, .kv_heads = 1},
};
enum { SPECS = sizeof specs / sizeof *specs };

static float *logits_of(const plm_model *m, const plm_lora *use, size_t n_use, const int32_t *ids,
                        int chunk) {
    float *y = malloc(sizeof *y * N * (size_t)m->cfg.vocab);
    run_logits(m, use, n_use, ids, N, chunk, y);
    return y;
}

/* rms of the difference over rms of b */
static double distance(const float *a, const double *b, size_t n) {
    double off = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        off += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += b[i] * b[i];
    }
    return sqrt(off / size);
}

static void logits_equal_the_oracles(void **state) {
    (void)state;
    for (int i = 0; i < SPECS; i++) {
        plm_model *m = open_tiny(&specs[i], "ref", 2);
        size_t n = N * (size_t)m->cfg.vocab;
        int32_t ids[N];
        double nll[N], *want = malloc(sizeof *want * n);
        random_ids(ids, N, m->cfg.vocab, 5);
        oracle(m, NULL, 0, ids, N, nll, want);
        float *got = logits_of(m, NULL, 0, ids, N);
        assert_true(distance(got, want, n) < 2e-6);
        free(want);
        free(got);
        plm_model_close(m);
    }
}

static void fast_kernels_stay_near_the_oracle(void **state) {
    (void)state;
    for (int i = 0; i < SPECS; i++) {
        plm_model *m = open_tiny(&specs[i], "auto", 2);
        size_t n = N * (size_t)m->cfg.vocab;
        int32_t ids[N];
        double nll[N], *want = malloc(sizeof *want * n);
        random_ids(ids, N, m->cfg.vocab, 5);
        oracle(m, NULL, 0, ids, N, nll, want);
        float *got = logits_of(m, NULL, 0, ids, N);
        assert_true(distance(got, want, n) < 0.03);
        free(want);
        free(got);
        plm_model_close(m);
    }
}

static void adapters_in_use_add_up(void **state) {
    (void)state;
    for (int i = 0; i < SPECS; i++) {
        plm_model *m = open_tiny(&specs[i], "ref", 1);
        size_t n = N * (size_t)m->cfg.vocab;
        plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 8);
        int32_t ids[N];
        double nll[N], *want = malloc(sizeof *want * n);
        random_ids(ids, N, m->cfg.vocab, 6);
        oracle(m, a->lora, 0.5f, ids, N, nll, want);
        float *once = logits_of(m, &(plm_lora){a, 0.5f}, 1, ids, N);
        float *twice = logits_of(m, (plm_lora[]){{a, 0.75f}, {a, -0.25f}}, 2, ids, N);
        assert_true(distance(once, want, n) < 2e-6);
        assert_true(distance(twice, want, n) < 2e-6);
        free(want);
        free(once);
        free(twice);
        plm_adapter_free(a);
        plm_model_close(m);
    }
}

static void an_adapter_at_scale_zero_changes_no_bit(void **state) {
    (void)state;
    plm_model *m = open_tiny(&specs[0], "auto", 1);
    plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 8);
    int32_t ids[N];
    random_ids(ids, N, m->cfg.vocab, 6);
    float *with = logits_of(m, &(plm_lora){a, 0}, 1, ids, N), *without = logits_of(m, NULL, 0, ids, N);
    assert_memory_equal(with, without, sizeof *with * N * (size_t)m->cfg.vocab);
    free(with);
    free(without);
    plm_adapter_free(a);
    plm_model_close(m);
}

static void pieces_equal_one_pass(void **state) {
    (void)state;
    for (int i = 0; i < SPECS; i++) {
        plm_model *m = open_tiny(&specs[i], "ref", 1);
        size_t n = N * (size_t)m->cfg.vocab;
        int32_t ids[N];
        random_ids(ids, N, m->cfg.vocab, 9);
        float *whole = logits_of(m, NULL, 0, ids, N);
        double *want = malloc(sizeof *want * n);
        for (size_t j = 0; j < n; j++)
            want[j] = (double)whole[j];
        for (int chunk = 1; chunk <= 32; chunk *= 2) {
            float *pieces = logits_of(m, NULL, 0, ids, chunk);
            assert_true(distance(pieces, want, n) < 2e-6);
            free(pieces);
        }
        free(whole);
        free(want);
        plm_model_close(m);
    }
}

/* Of two sequences in steps, one with an adapter, only some tokens are wanted, and in one step none of a
 * sequence's: what is wanted is the oracle's. */
static void tokens_that_are_not_wanted_change_nothing(void **state) {
    (void)state;
    static const struct step {
        int n[2], want[2];
    } steps[] = {{{20, 12}, {3, 0}}, {{5, 1}, {0, 0}}, {{10, 9}, {0, 9}}, {{1, 1}, {1, 0}}, {{1, 1}, {1, 1}}};
    for (int i = 0; i < SPECS; i++) {
        plm_model *m = open_tiny(&specs[i], "ref", 2);
        size_t vocab = (size_t)m->cfg.vocab;
        plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 8);
        const plm_lora use = {a, 0.5f};
        int32_t ids[2][N];
        double nll[N], *want[2];
        struct kv_cache kv[2];
        struct runner *r = NULL;
        plm_error err = {0};
        float *got = malloc(sizeof *got * N * vocab);
        assert_ok(adapter_prepare(a, &err), &err);
        assert_ok(runner_open(&r, m, N, &err), &err);
        for (int s = 0; s < 2; s++) {
            want[s] = malloc(sizeof **want * N * vocab);
            random_ids(ids[s], N, m->cfg.vocab, (uint64_t)s);
            oracle(m, s ? a->lora : NULL, s ? 0.5f : 0, ids[s], N, nll, want[s]);
            assert_ok(kv_open(&kv[s], m, N, kv_usual(m), &err), &err);
        }
        for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
            struct lane lanes[2];
            int32_t both[2 * N];
            const float *x = NULL;
            int n = 0, rows = 0;
            for (int s = 0; s < 2; s++) {
                lanes[s] = (struct lane){&kv[s], &use, (size_t)s, steps[k].n[s], steps[k].want[s]};
                memcpy(both + n, ids[s] + kv[s].n, (size_t)lanes[s].n * sizeof *both);
                n += lanes[s].n;
                rows += lanes[s].want;
            }
            assert_ok(model_step(r, lanes, 2, both, &x, &err), &err);
            model_logits(r, got, x, rows);
            for (int s = 0, row = 0; s < 2; row += lanes[s++].want)
                if (lanes[s].want)
                    assert_true(distance(got + (size_t)row * vocab,
                                         want[s] + (size_t)(kv[s].n - lanes[s].want) * vocab,
                                         (size_t)lanes[s].want * vocab) < 4e-6);
        }
        for (int s = 0; s < 2; s++) {
            kv_close(&kv[s]);
            free(want[s]);
        }
        free(got);
        runner_close(r);
        plm_adapter_free(a);
        plm_model_close(m);
    }
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    const char *const cpu[] = {"ref", "auto"};
    for (int c = 0; c < 2; c++) {
        for (int i = 0; i < SPECS; i++) {
            int32_t ids[N];
            float *one = NULL;
            for (int threads = 1; threads <= 7; threads += threads == 3 ? 4 : 1) {
                plm_model *m = open_tiny(&specs[i], cpu[c], threads);
                random_ids(ids, N, m->cfg.vocab, 10);
                float *y = logits_of(m, NULL, 0, ids, 16);
                if (one)
                    assert_memory_equal(y, one, sizeof *y * N * (size_t)m->cfg.vocab);
                if (one)
                    free(y);
                else
                    one = y;
                plm_model_close(m);
            }
            free(one);
        }
    }
}

static void packed_sequences_do_not_see_each_other(void **state) {
    (void)state;
    plm_model *m = open_tiny(&specs[0], "ref", 2);
    int V = m->cfg.vocab, n[2] = {19, 26};
    int32_t ids[N], pos[N], first[N];
    random_ids(ids, N, V, 11);
    for (int t = 0; t < N; t++)
        pos[t] = t < n[0] ? t : t - n[0], first[t] = t < n[0] ? 0 : n[0];
    struct runner *r = NULL;
    struct kv_cache kv = {0};
    plm_error err = {0};
    const float *x = NULL;
    float *packed = malloc(sizeof *packed * N * (size_t)V), *alone = malloc(sizeof *alone * N * (size_t)V);
    assert_ok(runner_open(&r, m, N, &err), &err);
    assert_ok(kv_open(&kv, m, N, kv_usual(m), &err), &err);
    assert_ok(model_forward(r, &(struct batch){.T = N, .ids = ids, .pos = pos, .first = first}, &kv, NULL, 0,
                            &x, &err),
              &err);
    model_logits(r, packed, x, N);
    run_logits(m, NULL, 0, ids, n[0], n[0], alone);
    run_logits(m, NULL, 0, ids + n[0], n[1], n[1], alone + (size_t)n[0] * (size_t)V);
    for (size_t i = 0; i < N * (size_t)V; i++)
        assert_float_equal(packed[i], alone[i], 1e-4);
    free(packed);
    free(alone);
    runner_close(r);
    kv_close(&kv);
    plm_model_close(m);
}

static void nll_is_the_oracles(void **state) {
    (void)state;
    plm_model *m = open_tiny(&specs[1], "ref", 2);
    int32_t ids[N], pos[N], first[N] = {0};
    double want[N], got[N];
    random_ids(ids, N, m->cfg.vocab, 12);
    oracle(m, NULL, 0, ids, N, want, NULL);
    for (int t = 0; t < N; t++)
        pos[t] = t;
    struct runner *r = NULL;
    struct kv_cache kv = {0};
    plm_error err = {0};
    const float *x = NULL;
    assert_ok(runner_open(&r, m, N, &err), &err);
    assert_ok(kv_open(&kv, m, N, kv_usual(m), &err), &err);
    assert_ok(model_forward(r, &(struct batch){.T = N, .ids = ids, .pos = pos, .first = first}, &kv, NULL, 0,
                            &x, &err),
              &err);
    model_nll(r, got, x, ids + 1, N - 1);
    for (int i = 0; i < N - 1; i++)
        assert_true(fabs(got[i] - want[i]) < 1e-4);
    runner_close(r);
    kv_close(&kv);
    plm_model_close(m);
}

static void a_full_cache_and_foreign_ids_are_refused(void **state) {
    (void)state;
    plm_model *m = open_tiny(&specs[0], "ref", 1), *other = open_tiny(&specs[0], "ref", 1);
    plm_adapter *a = random_adapter(other, 2, PLM_Q, 1);
    int32_t ids[8] = {1, 2, 3, 4, 5, 6, 7, 8}, pos[8] = {0, 1, 2, 3, 4, 5, 6, 7}, first[8] = {0};
    struct batch b = {.T = 8, .ids = ids, .pos = pos, .first = first};
    struct runner *r = NULL;
    struct kv_cache kv = {0};
    plm_error err = {0};
    const float *x = NULL;
    assert_ok(runner_open(&r, m, 8, &err), &err);
    assert_int_equal(kv_open(&kv, m, 1 << 20, kv_usual(m), &err), PLM_EINVAL);
    assert_ok(kv_open(&kv, m, 12, kv_usual(m), &err), &err);
    assert_int_equal(model_forward(r, &b, &kv, &(plm_lora){a, 1}, 1, &x, &err), PLM_EINVAL);
    assert_ok(model_forward(r, &b, &kv, NULL, 0, &x, &err), &err);
    assert_int_equal(model_forward(r, &b, &kv, NULL, 0, &x, &err), PLM_ELIMIT);
    ids[3] = m->cfg.vocab;
    b.T = 4;
    assert_int_equal(model_forward(r, &b, &kv, NULL, 0, &x, &err), PLM_EINVAL);
    ids[3] = -1;
    assert_int_equal(model_forward(r, &b, &kv, NULL, 0, &x, &err), PLM_EINVAL);
    assert_int_equal(kv.n, 8);
    runner_close(r);
    kv_close(&kv);
    plm_adapter_free(a);
    plm_model_close(other);
    plm_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_equal_the_oracles),
        cmocka_unit_test(fast_kernels_stay_near_the_oracle),
        cmocka_unit_test(adapters_in_use_add_up),
        cmocka_unit_test(an_adapter_at_scale_zero_changes_no_bit),
        cmocka_unit_test(pieces_equal_one_pass),
        cmocka_unit_test(tokens_that_are_not_wanted_change_nothing),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(packed_sequences_do_not_see_each_other),
        cmocka_unit_test(nll_is_the_oracles),
        cmocka_unit_test(a_full_cache_and_foreign_ids_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
