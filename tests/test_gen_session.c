/* test_gen_session.c: a session gives the same numbers however it got to its tokens, and scores what
 * the logits say. The same means to rounding: attention adds in another order for few tokens than for many.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "support_gen.h"

enum { N = 200 };

static plm_model *model;

static int open_all(void **state) {
    (void)state;
    model = open_random(&(struct tiny_model){.context = 1024}, 2);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    plm_model_close(model);
    return 0;
}

static float *logits_after(const int32_t *ids, size_t n, const plm_lora *use, size_t n_use) {
    plm_error err = {0};
    plm_session *s = open_session(model, 0);
    assert_ok(plm_session_use(s, use, n_use, &err), &err);
    assert_ok(plm_session_sync(s, ids, n, &err), &err);
    size_t bytes = (size_t)model->cfg.vocab * sizeof(float);
    float *copy = mem_alloc(bytes, 1);
    memcpy(copy, plm_session_logits(s), bytes);
    plm_session_free(s);
    return copy;
}

static void assert_logits(const plm_session *s, const int32_t *ids, size_t n, const plm_lora *use,
                          size_t n_use) {
    float *want = logits_after(ids, n, use, n_use);
    assert_non_null(plm_session_logits(s));
    for (int i = 0; i < model->cfg.vocab; i++) {
        assert_true(fabsf(plm_session_logits(s)[i] - want[i]) < 1e-5f * (1 + fabsf(want[i])));
    }
    mem_free(want);
}

static void a_kept_prefix_changes_nothing(void **state) {
    (void)state;
    plm_error err = {0};
    plm_session *s = open_session(model, 0);
    struct rng rng;
    rng_seed(&rng, 1, 0);
    int32_t ids[N];
    random_ids(model, ids, N, 1);
    for (int round = 0; round < 25; round++) {
        size_t n = 1 + rng_below(&rng, N);
        ids[rng_below(&rng, N)] = (int32_t)rng_below(&rng, 200); /* now the sequences part somewhere */
        assert_ok(plm_session_sync(s, ids, n, &err), &err);
        assert_logits(s, ids, n, NULL, 0);
    }
    plm_session_free(s);
}

static void the_common_prefix_is_not_computed_again(void **state) {
    (void)state;
    plm_error err = {0};
    plm_session *s = open_session(model, 0);
    int32_t ids[N];
    random_ids(model, ids, N, 2);
    plm_generation r;
    plm_generate_options opt = {.max_tokens = 1};
    assert_ok(plm_generate(s, ids, 100, &opt, NULL, NULL, &r, &err), &err);
    assert_int_equal(r.n_cached, 0);
    assert_ok(plm_generate(s, ids, 120, &opt, NULL, NULL, &r, &err), &err);
    assert_int_equal(r.n_cached, 100);
    assert_ok(plm_generate(s, ids, 120, &opt, NULL, NULL, &r, &err), &err);
    assert_int_equal(r.n_cached, 120);
    assert_ok(plm_generate(s, ids, 60, &opt, NULL, NULL, &r, &err), &err);
    assert_int_equal(r.n_cached, 59); /* the last one's logits are gone */
    ids[30] = ids[30] == 9 ? 8 : 9;
    assert_ok(plm_generate(s, ids, 60, &opt, NULL, NULL, &r, &err), &err);
    assert_int_equal(r.n_cached, 30);
    assert_int_equal(r.n_prompt, 60);
    plm_session_free(s);
}

static void one_by_one_equals_all_at_once(void **state) {
    (void)state;
    plm_error err = {0};
    plm_session *s = open_session(model, 0);
    int32_t ids[40];
    random_ids(model, ids, 40, 3);
    for (size_t n = 1; n <= 40; n++) {
        assert_ok(plm_session_sync(s, ids, n, &err), &err);
    }
    assert_logits(s, ids, 40, NULL, 0);
    plm_session_free(s);
}

static void long_prompts_go_through_in_chunks(void **state) {
    (void)state;
    plm_error err = {0};
    enum { LONG = 700 };
    static int32_t ids[LONG];
    random_ids(model, ids, LONG, 4);
    plm_session *s = open_session(model, 1024);
    for (size_t n = 1; n < LONG; n += 23) { /* in chunks cut elsewhere */
        assert_ok(plm_session_sync(s, ids, n, &err), &err);
    }
    assert_ok(plm_session_sync(s, ids, LONG, &err), &err);
    assert_logits(s, ids, LONG, NULL, 0);
    plm_session_free(s);
}

static void adapters_forget_the_cache(void **state) {
    (void)state;
    plm_error err = {0};
    plm_adapter *a = random_adapter(model, 5), *b = random_adapter(model, 6);
    plm_lora both[] = {{a, 1}, {b, .5f}};
    int32_t ids[30];
    random_ids(model, ids, 30, 5);
    plm_session *s = open_session(model, 0);
    for (size_t n = 0; n <= 2; n++) {
        assert_ok(plm_session_sync(s, ids, 30, &err), &err);
        assert_ok(plm_session_use(s, both, n, &err), &err);
        assert_null(plm_session_logits(s));
        assert_ok(plm_session_sync(s, ids, 30, &err), &err);
        assert_logits(s, ids, 30, both, n);
    }
    assert_ok(plm_session_use(s, NULL, 0, &err), &err);
    assert_null(plm_session_logits(s));
    assert_ok(plm_session_sync(s, ids, 30, &err), &err);
    assert_logits(s, ids, 30, NULL, 0);
    plm_session_free(s);
    plm_adapter_free(a);
    plm_adapter_free(b);
}

static void foreign_adapters_are_refused(void **state) {
    (void)state;
    plm_error err = {0};
    plm_model *other = open_random(&(struct tiny_model){.seed = 9}, 1);
    plm_adapter *a = random_adapter(other, 1), *own = random_adapter(model, 1);
    plm_session *s = open_session(model, 0);
    assert_int_equal(plm_session_use(s, &(plm_lora){a, 1}, 1, &err), PLM_EINVAL);
    assert_int_equal(plm_session_use(s, &(plm_lora){NULL, 1}, 1, &err), PLM_EINVAL);
    assert_int_equal(plm_session_use(s, &(plm_lora){own, (float)strtod("nan", NULL)}, 1, &err), PLM_EINVAL);
    plm_session_free(s);
    plm_adapter_free(own);
    plm_adapter_free(a);
    plm_model_close(other);
}

static void what_does_not_fit_is_refused_with_both_numbers(void **state) {
    (void)state;
    plm_error err = {0};
    plm_session *s = NULL;
    int32_t ids[60];
    double lp[60];
    random_ids(model, ids, 60, 6);
    assert_int_equal(plm_session_new(&s, model, &(plm_session_options){.context = 5000}, &err), PLM_ELIMIT);
    assert_non_null(strstr(err.text, "5000"));
    assert_non_null(strstr(err.text, "1024"));
    assert_int_equal(plm_session_new(&s, model, &(plm_session_options){.context = -1}, &err), PLM_EINVAL);
    assert_null(s);
    s = open_session(model, 50);
    assert_int_equal(plm_session_sync(s, ids, 51, &err), PLM_ELIMIT);
    assert_non_null(strstr(err.text, "51"));
    assert_non_null(strstr(err.text, "50"));
    assert_int_equal(plm_generate(s, ids, 51, NULL, NULL, NULL, NULL, &err), PLM_ELIMIT);
    assert_int_equal(plm_score(s, ids, 52, 1, lp, &err), PLM_ELIMIT);
    assert_ok(plm_session_sync(s, ids, 50, &err), &err);
    assert_ok(plm_score(s, ids, 51, 1, lp, &err), &err); /* the last token is not read */
    ids[20] = model->cfg.vocab;
    assert_int_equal(plm_session_sync(s, ids, 30, &err), PLM_EINVAL);
    assert_non_null(strstr(err.text, "token 21"));
    ids[20] = -1;
    assert_int_equal(plm_session_sync(s, ids, 30, &err), PLM_EINVAL);
    assert_int_equal(plm_score(s, ids, 30, 1, lp, &err), PLM_EINVAL);
    assert_int_equal(plm_session_sync(s, ids, 0, &err), PLM_EINVAL);
    assert_int_equal(plm_score(s, ids, 10, 0, lp, &err), PLM_EINVAL);
    assert_int_equal(plm_score(s, ids, 10, 11, lp, &err), PLM_EINVAL);
    assert_ok(plm_score(s, ids, 10, 10, lp, &err), &err);
    plm_session_free(s);
}

/* ln p(id) by the logits, in double. */
static double logprob(const float *logits, int32_t id) {
    double top = logits[id], sum = 0;
    for (int i = 0; i < model->cfg.vocab; i++) {
        top = logits[i] > top ? logits[i] : top;
    }
    for (int i = 0; i < model->cfg.vocab; i++) {
        sum += exp(logits[i] - top);
    }
    return logits[id] - top - log(sum);
}

static void scores_are_what_the_logits_say(void **state) {
    (void)state;
    plm_error err = {0};
    enum { LONG = 300 }; /* more than a chunk */
    static int32_t ids[LONG];
    static double lp[LONG], want[LONG];
    random_ids(model, ids, LONG, 7);
    plm_session *s = open_session(model, 0);
    for (size_t n = 1; n < LONG; n++) {
        assert_ok(plm_session_sync(s, ids, n, &err), &err);
        want[n] = logprob(plm_session_logits(s), ids[n]);
    }
    const size_t from[] = {1, 2, 100, 256, 257, 258, 299};
    for (size_t k = 0; k < sizeof from / sizeof *from; k++) {
        for (int fresh = 0; fresh < 2; fresh++) { /* with whatever is cached, and from nothing */
            if (fresh) {
                plm_session_free(s);
                s = open_session(model, 0);
            }
            assert_ok(plm_score(s, ids, LONG, from[k], lp, &err), &err);
            assert_null(plm_session_logits(s));
            for (size_t i = from[k]; i < LONG; i++) {
                assert_true(fabs(lp[i - from[k]] - want[i]) < 1e-4);
            }
        }
    }
    assert_ok(plm_session_sync(s, ids, 150, &err), &err); /* the cache that scoring leaves is good */
    assert_logits(s, ids, 150, NULL, 0);
    plm_session_free(s);
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    plm_error err = {0};
    plm_model *one = open_random(&(struct tiny_model){.context = 1024}, 1);
    int32_t ids[100];
    random_ids(model, ids, 100, 8);
    plm_session *a = open_session(model, 0), *b = open_session(one, 0);
    assert_ok(plm_session_sync(a, ids, 100, &err), &err);
    assert_ok(plm_session_sync(b, ids, 100, &err), &err);
    assert_memory_equal(plm_session_logits(a), plm_session_logits(b), (size_t)one->cfg.vocab * sizeof(float));
    plm_session_free(a);
    plm_session_free(b);
    plm_model_close(one);
}

static void failed_allocations_are_reported(void **state) {
    (void)state;
    int32_t ids[20];
    double lp[20];
    random_ids(model, ids, 20, 9);
    for (long n = 1;; n++) {
        plm_error err = {0};
        plm_session *s = NULL;
        mem_fail_at(n, true);
        plm_status st = plm_session_new(&s, model, NULL, &err);
        st = st ? st
                : plm_generate(s, ids, 20,
                               &(plm_generate_options){.max_tokens = 5, .sampling = {.temperature = 1}}, NULL,
                               NULL, NULL, &err);
        st = st ? st : plm_score(s, ids, 20, 1, lp, &err);
        mem_fail_at(0, false);
        plm_session_free(s);
        if (!st) {
            assert_true(n > 6);
            break;
        }
        assert_int_equal(st, PLM_ENOMEM);
        assert_true(err.text[0]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kept_prefix_changes_nothing),
        cmocka_unit_test(the_common_prefix_is_not_computed_again),
        cmocka_unit_test(one_by_one_equals_all_at_once),
        cmocka_unit_test(long_prompts_go_through_in_chunks),
        cmocka_unit_test(adapters_forget_the_cache),
        cmocka_unit_test(foreign_adapters_are_refused),
        cmocka_unit_test(what_does_not_fit_is_refused_with_both_numbers),
        cmocka_unit_test(scores_are_what_the_logits_say),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(failed_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
