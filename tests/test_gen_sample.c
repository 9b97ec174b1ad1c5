/* test_gen_sample.c: drawing the next id, against the definition computed by sorting. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "gen/session.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h> /* last: its fail() is a macro */

enum { V = 200 };

static float logits[V];
static struct candidate scratch[V];

static void fill(uint64_t seed, double spread) {
    struct rng rng;
    rng_seed(&rng, seed, 0);
    for (int i = 0; i < V; i++) {
        logits[i] = (float)spread * rng_normal(&rng);
    }
}

static int by_logit(const void *a, const void *b) {
    float x = logits[*(const int *)a], y = logits[*(const int *)b];
    return x > y ? -1 : x < y ? 1 : *(const int *)a - *(const int *)b;
}

static int candidates_by_logit(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    return x->logit > y->logit ? -1 : x->logit < y->logit ? 1 : x->id - y->id;
}

/* p[i] by the definition: temperature, top-k, top-p, min-p, one after another. */
static void expected(const plm_sampling *how, double *p) {
    int order[V];
    double total = 0, sum = 0;
    for (int i = 0; i < V; i++) {
        order[i] = i;
    }
    qsort(order, V, sizeof *order, by_logit);
    for (int i = 0; i < V; i++) {
        p[order[i]] =
            how->top_k && i >= how->top_k
                ? 0
                : exp(((double)logits[order[i]] - (double)logits[order[0]]) / (double)how->temperature);
        total += p[order[i]];
    }
    for (int i = 0; i < V; i++) {
        bool in = how->top_p == 0 || how->top_p == 1 || sum < (double)how->top_p * total;
        sum += p[order[i]];
        p[order[i]] = in && p[order[i]] >= (double)how->min_p ? p[order[i]] : 0;
    }
    total = 0;
    for (int i = 0; i < V; i++) {
        total += p[i];
    }
    for (int i = 0; i < V; i++) {
        p[i] /= total;
    }
}

static void draws_have_the_defined_distribution(void **state) {
    (void)state;
    static const plm_sampling hows[] = {
        {.temperature = 1},
        {.temperature = .5f},
        {.temperature = 2},
        {.temperature = 1, .top_k = 5},
        {.temperature = 1, .top_p = .9f},
        {.temperature = 1, .top_p = .05f},
        {.temperature = 1, .min_p = .2f},
        {.temperature = .7f, .top_k = 20, .top_p = .8f, .min_p = .1f},
        {.temperature = 1, .top_k = V + 5},
        {.temperature = 1, .top_p = 1, .top_k = 3},
        {.temperature = 1, .min_p = 1},
        {.temperature = 3, .top_k = 50, .top_p = .5f},
    };
    for (size_t k = 0; k < sizeof hows / sizeof *hows; k++) {
        enum { DRAWS = 40000 };
        double p[V];
        int seen[V] = {0};
        fill(k + 1, 2);
        expected(&hows[k], p);
        for (uint64_t step = 0; step < DRAWS; step++) {
            plm_sampling how = hows[k];
            how.seed = 99;
            int32_t id = sample_logits(logits, V, scratch, &how, step);
            assert_in_range(id, 0, V - 1);
            seen[id]++;
        }
        double chi = 0, freedom = 0;
        for (int i = 0; i < V; i++) {
            double want = p[i] * DRAWS;
            if (p[i] == 0) {
                assert_int_equal(seen[i], 0);
            } else if (want >= 5) {
                chi += (seen[i] - want) * (seen[i] - want) / want;
                freedom++;
            }
        }
        assert_true(chi < freedom + 5 * sqrt(2 * freedom + 1) + 5);
    }
}

/* A vocabulary of a real size, with equal logits among them: what may be drawn is what sorting says. */
static void no_more_is_drawn_than_sorting_would(void **state) {
    (void)state;
    enum { N = 50000, DRAWS = 400 };
    static const plm_sampling hows[] = {{.temperature = 1, .top_k = 40},
                                        {.temperature = 1, .top_k = 7000},
                                        {.temperature = .7f, .top_p = .9f},
                                        {.temperature = 3, .top_p = .999f},
                                        {.temperature = 1, .top_p = 1e-6f},
                                        {.temperature = 2, .top_k = 3000, .top_p = .6f},
                                        {.temperature = 1.5f, .top_p = .95f, .min_p = .01f}};
    float *x = mem_alloc(N, sizeof *x);
    struct candidate *room = mem_alloc(N, sizeof *room), *order = mem_alloc(N, sizeof *order);
    struct rng rng;
    rng_seed(&rng, 11, 0);
    for (int i = 0; i < N; i++) {
        x[i] = rintf(20 * 3 * rng_normal(&rng)) / 20;
    }
    for (size_t k = 0; k < sizeof hows / sizeof *hows; k++) {
        const plm_sampling *how = &hows[k];
        double total = 0, sum = 0;
        for (int i = 0; i < N; i++) {
            order[i] = (struct candidate){.logit = x[i], .id = i};
        }
        qsort(order, N, sizeof *order, candidates_by_logit);
        int n = how->top_k ? how->top_k : N, chosen = 0;
        for (int i = 0; i < n; i++) {
            total += exp(((double)order[i].logit - (double)order[0].logit) / (double)how->temperature);
        }
        bool *in = mem_zero(N, sizeof *in), *seen = mem_zero(N, sizeof *seen);
        int drawn = 0;
        for (; chosen < n && (!how->top_p || sum < (double)how->top_p * total * (1 + 1e-6)); chosen++) {
            double w = exp(((double)order[chosen].logit - (double)order[0].logit) / (double)how->temperature);
            in[order[chosen].id] = w >= (double)how->min_p * (1 - 1e-5);
            sum += w;
        }
        for (uint64_t step = 0; step < DRAWS; step++) {
            int32_t id = sample_logits(x, N, room, how, step);
            assert_true(in[id]);
            drawn += !seen[id];
            seen[id] = true;
        }
        assert_true(drawn > 1 || chosen < 3);
        mem_free(in);
        mem_free(seen);
    }
    mem_free(x);
    mem_free(room);
    mem_free(order);
}

static void zero_temperature_takes_the_first_of_the_best(void **state) {
    (void)state;
    fill(3, 1);
    logits[70] = logits[20] = logits[150] = 50;
    assert_int_equal(sample_logits(logits, V, scratch, &(plm_sampling){.seed = 1}, 0), 20);
    assert_int_equal(sample_logits(logits, V, scratch, &(plm_sampling){.temperature = 1, .top_k = 1}, 0), 20);
}

static void tiny_temperatures_are_greedy(void **state) {
    (void)state;
    fill(4, 1);
    int32_t best = sample_logits(logits, V, scratch, &(plm_sampling){0}, 0);
    for (uint64_t step = 0; step < 100; step++) {
        assert_int_equal(sample_logits(logits, V, scratch, &(plm_sampling){.temperature = 1e-30f}, step),
                         best);
        assert_int_equal(
            sample_logits(logits, V, scratch, &(plm_sampling){.temperature = 1e-6f, .top_p = .5f}, step),
            best);
    }
}

static void the_same_seed_and_step_draw_the_same(void **state) {
    (void)state;
    fill(5, 1);
    int differ = 0;
    for (uint64_t step = 0; step < 50; step++) {
        plm_sampling a = {.temperature = 1, .seed = 1}, b = {.temperature = 1, .seed = 2};
        int32_t id = sample_logits(logits, V, scratch, &a, step);
        assert_int_equal(id, sample_logits(logits, V, scratch, &a, step));
        differ += id != sample_logits(logits, V, scratch, &b, step);
    }
    assert_true(differ > 25);
}

static void logits_that_are_no_numbers_give_no_id(void **state) {
    (void)state;
    fill(6, 1);
    plm_sampling how = {.temperature = 1};
    logits[100] = (float)strtod("nan", NULL);
    assert_int_equal(sample_logits(logits, V, scratch, &how, 0), -1);
    logits[100] = (float)strtod("inf", NULL);
    assert_int_equal(sample_logits(logits, V, scratch, &how, 0), -1);
    logits[100] = -(float)strtod("inf", NULL);
    assert_true(sample_logits(logits, V, scratch, &how, 0) >= 0);
}

static void senseless_settings_are_refused(void **state) {
    (void)state;
    float nan = (float)strtod("nan", NULL);
    const plm_sampling bad[] = {{.temperature = -1},
                                {.temperature = nan},
                                {.top_p = 1.5f},
                                {.top_p = nan},
                                {.min_p = -.1f},
                                {.top_k = -1},
                                {.temperature = (float)strtod("inf", NULL)}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        plm_error err = {0};
        assert_int_equal(sampling_check(&bad[i], &err), PLM_EINVAL);
        assert_true(err.text[0]);
    }
    assert_int_equal(
        sampling_check(&(plm_sampling){.temperature = 1, .top_p = 1, .min_p = 1, .top_k = 7}, NULL), PLM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_have_the_defined_distribution),
        cmocka_unit_test(no_more_is_drawn_than_sorting_would),
        cmocka_unit_test(zero_temperature_takes_the_first_of_the_best),
        cmocka_unit_test(tiny_temperatures_are_greedy),
        cmocka_unit_test(the_same_seed_and_step_draw_the_same),
        cmocka_unit_test(logits_that_are_no_numbers_give_no_id),
        cmocka_unit_test(senseless_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
