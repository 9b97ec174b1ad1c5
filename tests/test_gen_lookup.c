/* test_gen_lookup.c: guessing from earlier text changes when tokens come, never which; and what an 8-bit
 * cache costs. */
#include <math.h>
#include <string.h>
#include "gen/session.h"
#include "support_gen.h"

static plm_model *model;

static int open_all(void **state) {
    (void)state;
    model = open_random(&(struct tiny_model){.context = 512, .width = 128, .ffn = 192}, 2);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    plm_model_close(model);
    return 0;
}

struct heard {
    int32_t ids[256];
    size_t n;
};

static int hear(void *ctx, int32_t id, const char *text, size_t len) {
    struct heard *h = ctx;
    (void)text;
    (void)len;
    h->ids[h->n++] = id;
    return 0;
}

static plm_generation answer(plm_session *s, const int32_t *ids, size_t n, plm_lookup lookup, int most,
                             const char *text, struct heard *h) {
    plm_error err = {0};
    plm_generation g;
    plm_generate_options how = {
        .max_tokens = most, .lookup = lookup, .texts = &text, .n_texts = text != NULL};
    h->n = 0;
    assert_ok(plm_session_use(s, NULL, 0, &err), &err);
    assert_ok(plm_generate(s, ids, n, &how, hear, h, &g, &err), &err);
    return g;
}

/* A random model soon repeats itself, so its own text is a good source. */
static void guesses_do_not_change_greedy_answers(void **state) {
    (void)state;
    static struct heard plain, guessed;
    size_t accepted = 0;
    plm_session *s = open_session(model, 0);
    for (uint64_t seed = 0; seed < 40; seed++) {
        int32_t ids[60];
        random_ids(model, ids, 60, seed);
        size_t n = 8 + seed;
        int most = seed % 5 ? 100 : 1 + (int)seed;
        plm_generation a = answer(s, ids, n, PLM_LOOKUP_OFF, most, NULL, &plain);
        assert_int_equal(a.drafted, 0);
        for (plm_lookup how = PLM_LOOKUP_AUTO; how <= PLM_LOOKUP_ON; how++) {
            plm_generation b = answer(s, ids, n, how, most, seed % 3 ? NULL : "any text at all", &guessed);
            assert_int_equal(a.n_new, b.n_new);
            assert_int_equal(a.finish, b.finish);
            assert_memory_equal(plain.ids, guessed.ids, plain.n * sizeof(int32_t));
            assert_true(b.accepted <= b.drafted && b.accepted < b.n_new);
            accepted += b.accepted;
        }
    }
    assert_true(accepted > 100);
    plm_session_free(s);
}

static void logits_are_those_of_single_steps(void **state) {
    (void)state;
    static struct heard h;
    plm_error err = {0};
    int32_t ids[300];
    random_ids(model, ids, 20, 7);
    plm_session *s = open_session(model, 0), *single = open_session(model, 0);
    plm_generation g = answer(s, ids, 20, PLM_LOOKUP_ON, 120, NULL, &h);
    assert_true(g.accepted > 0);
    memcpy(ids + 20, h.ids, h.n * sizeof *ids);
    size_t held = 20 + h.n - 1; /* the last one is not read */
    assert_ok(plm_session_sync(single, ids, 20, &err), &err);
    for (size_t n = 21; n <= held; n++) {
        assert_ok(plm_session_sync(single, ids, n, &err), &err);
    }
    assert_ok(plm_session_sync(s, ids, held, &err), &err);
    assert_memory_equal(plm_session_logits(s), plm_session_logits(single),
                        (size_t)model->cfg.vocab * sizeof(float));
    plm_session_free(s);
    plm_session_free(single);
}

static void given_texts_are_a_source(void **state) {
    (void)state;
    plm_model *m = open_scripted("abcdefghijklmnop");
    static struct heard h;
    plm_session *s = open_session(m, 0);
    int32_t ids[64];
    size_t n;
    plm_error err = {0};
    assert_ok(plm_encode(m, "qqq!", 4, false, ids, 64, &n, &err), &err);
    plm_generation g = answer(s, ids, n, PLM_LOOKUP_ON, 50, "no!abcdefghijklmnopq", &h);
    assert_true(g.accepted > 5);
    assert_int_equal(g.finish, PLM_FINISH_END);
    g = answer(s, ids, n, PLM_LOOKUP_ON, 50, NULL, &h);
    assert_int_equal(g.accepted, 0);
    plm_session_free(s);
    plm_model_close(m);
}

static void senseless_lookups_are_refused(void **state) {
    (void)state;
    plm_error err = {0};
    plm_session *s = open_session(model, 0);
    int32_t id = 5;
    const char *none = NULL;
    const plm_generate_options bad[] = {{.lookup = PLM_LOOKUP_ON, .sampling = {.temperature = 1}},
                                        {.lookup = (plm_lookup)7},
                                        {.n_texts = 1},
                                        {.texts = &none, .n_texts = 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(plm_generate(s, &id, 1, &bad[i], NULL, NULL, NULL, &err), PLM_EINVAL);
    }
    plm_session_free(s);
}

static void failed_allocations_are_reported(void **state) {
    (void)state;
    int32_t ids[20];
    random_ids(model, ids, 20, 9);
    const char *text = "a text";
    for (long n = 1;; n++) {
        plm_error err = {0};
        plm_session *s = NULL;
        mem_fail_at(n, true);
        plm_status st = plm_session_new(&s, model, NULL, &err);
        plm_generate_options how = {.max_tokens = 60, .lookup = PLM_LOOKUP_ON, .texts = &text, .n_texts = 1};
        st = st ? st : plm_generate(s, ids, 20, &how, NULL, NULL, NULL, &err);
        mem_fail_at(0, false);
        plm_session_free(s);
        if (!st) {
            assert_true(n > 8);
            break;
        }
        assert_int_equal(st, PLM_ENOMEM);
        assert_true(err.text[0]);
    }
}

/* ---- 8-bit caches ---- */

static void an_8_bit_cache_is_near(void **state) {
    (void)state;
    plm_error err = {0};
    static int32_t ids[200];
    static double exact[200], rough[200];
    random_ids(model, ids, 200, 3);
    plm_session *s[4] = {NULL};
    for (int i = 0; i < 4; i++) {
        plm_session_options opt = {.kv = (plm_kv)i};
        assert_ok(plm_session_new(&s[i], model, &opt, &err), &err);
    }
    assert_int_equal(s[0]->kv.form, CACHE_F32); /* exact kernels */
    assert_int_equal(s[2]->kv.form, CACHE_Q8);
    assert_ok(plm_score(s[PLM_KV_F32], ids, 200, 1, exact, &err), &err);
    const double most[] = {0, 1e-2, .25, 0}; /* of a random model, whose weights are large */
    for (int i = 0; i < 4; i++) {
        assert_ok(plm_score(s[i], ids, 200, 1, rough, &err), &err);
        double mean = 0;
        for (int t = 0; t < 199; t++) {
            assert_true(fabs(rough[t] - exact[t]) <= most[i]);
            mean += (rough[t] - exact[t]) / 199;
        }
        assert_true(fabs(mean) <= most[i] / 10);
        /* and the same token by token */
        assert_ok(plm_session_use(s[i], NULL, 0, &err), &err);
        for (size_t n = 1; n <= 60; n++) {
            assert_ok(plm_session_sync(s[i], ids, n, &err), &err);
        }
        const float *x = plm_session_logits(s[i]);
        double top = x[0], sum = 0;
        for (int v = 0; v < model->cfg.vocab; v++) {
            top = x[v] > top ? x[v] : top;
        }
        for (int v = 0; v < model->cfg.vocab; v++) {
            sum += exp(x[v] - top);
        }
        assert_true(fabs(x[ids[60]] - top - log(sum) - exact[59]) <= most[i] + 1e-5);
    }
    for (int i = 0; i < 4; i++) {
        plm_session_free(s[i]);
    }
}

static void heads_that_are_no_whole_blocks_have_no_8_bit_cache(void **state) {
    (void)state;
    plm_error err = {0};
    plm_model *m = open_random(&(struct tiny_model){.width = 64, .heads = 4}, 1); /* of 16 */
    plm_session *s = NULL;
    assert_int_equal(plm_session_new(&s, m, &(plm_session_options){.kv = PLM_KV_Q8}, &err), PLM_ENOTSUP);
    assert_non_null(strstr(err.text, "16"));
    assert_int_equal(plm_session_new(&s, m, &(plm_session_options){.kv = (plm_kv)9}, &err), PLM_EINVAL);
    assert_null(s);
    plm_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guesses_do_not_change_greedy_answers),
        cmocka_unit_test(logits_are_those_of_single_steps),
        cmocka_unit_test(given_texts_are_a_source),
        cmocka_unit_test(senseless_lookups_are_refused),
        cmocka_unit_test(failed_allocations_are_reported),
        cmocka_unit_test(an_8_bit_cache_is_near),
        cmocka_unit_test(heads_that_are_no_whole_blocks_have_no_8_bit_cache),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
