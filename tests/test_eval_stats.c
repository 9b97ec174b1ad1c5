/* Tests of users against scipy (tests/data/README.md), enumeration, Fisher's own example, and simulation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "plm-eval/stats.h"

static json_t *data(void) {
    struct bytes b;
    json_t *doc = NULL;
    bytes_init(&b, 1 << 20);
    assert_int_equal(file_read(PLM_TEST_DATA "/eval/stats.json", 1 << 20, &b, NULL), PLM_OK);
    assert_int_equal(json_parse(&doc, b.data, b.len, "stats.json", NULL), PLM_OK);
    bytes_free(&b);
    return doc;
}

static struct sign_test test_of(const struct unit *u, size_t n) {
    struct sign_test t;
    assert_int_equal(sign_test(&t, u, n, 1, NULL), PLM_OK);
    return t;
}

static void exact_tests_are_scipys(void **state) {
    (void)state;
    json_t *doc = data(), *one, *v;
    size_t i, j;
    json_array_foreach(json_object_get(doc, "tests"), i, one) {
        struct unit u[32] = {{0, 0}};
        const json_t *values = json_object_get(one, "values"), *p = json_object_get(one, "p");
        json_array_foreach(values, j, v) u[j].value = json_number_value(v);
        struct sign_test t = test_of(u, j);
        assert_true(t.exact);
        assert_float_equal(t.p, json_number_value(json_array_get(p, 0)), 1e-12);
        assert_float_equal(t.p_less, json_number_value(json_array_get(p, 1)), 1e-12);
        assert_float_equal(t.p_greater, json_number_value(json_array_get(p, 2)), 1e-12);
    }
    json_decref(doc);
}

/* Darwin's maize, 15 pairs in eighths of an inch: The Design of Experiments, section 21, counts 863 of the
 * 32768 patterns at least as far on one side. */
static void fishers_example_has_863_of_32768(void **state) {
    (void)state;
    static const int darwin[15] = {49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48};
    struct unit u[15] = {{0, 0}};
    for (int i = 0; i < 15; i++)
        u[i].value = darwin[i];
    struct sign_test t = test_of(u, 15);
    assert_float_equal(t.effect, 314 / 15.0, 1e-12);
    assert_float_equal(t.p_greater, 863 / 32768.0, 1e-15);
    assert_float_equal(t.p, 1726 / 32768.0, 1e-15);
    assert_true(t.low < 0 && t.high > 0); /* just not refused */
    assert_true(t.low > -1 && t.high < 45);
}

/* The definition, pattern by pattern: values less a shift, in groups that count alike. */
static double enumerate(const struct unit *u, int n, double shift, int side) {
    double users[STAT_GROUPS] = {0}, seen = 0, observed = 0;
    for (int i = 0; i < n; i++)
        users[u[i].group]++;
    for (int flips = 0; flips < 1 << n; flips++) {
        double t = 0;
        for (int i = 0; i < n; i++)
            t += (flips >> i & 1 ? -1 : 1) * (u[i].value - shift) / users[u[i].group];
        if (flips == 0)
            observed = t;
        seen += side < 0   ? t <= observed + 1e-9
                : side > 0 ? t >= observed - 1e-9
                           : fabs(t) >= fabs(observed) - 1e-9;
    }
    return seen / (1 << n);
}

static void groups_count_alike_and_the_interval_inverts_the_test(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 8, 0);
    for (int round = 0; round < 12; round++) {
        struct unit u[12];
        int n = 6 + round % 7;
        for (int i = 0; i < n; i++)
            u[i] = (struct unit){rng_normal(&r) - 0.4, i < 3 ? 5 : i % 2};
        struct sign_test t = test_of(u, n);
        assert_float_equal(t.p, enumerate(u, n, 0, 0), 1e-12);
        assert_float_equal(t.p_less, enumerate(u, n, 0, -1), 1e-12);
        assert_float_equal(t.p_greater, enumerate(u, n, 0, 1), 1e-12);
        /* just inside each end the one-sided test keeps the shift, just outside it refuses it */
        assert_true(t.low < t.effect && t.effect < t.high);
        assert_true(enumerate(u, n, t.high - 1e-6, -1) > 0.025);
        assert_true(enumerate(u, n, t.high + 1e-6, -1) <= 0.025);
        assert_true(enumerate(u, n, t.low + 1e-6, 1) > 0.025);
        assert_true(enumerate(u, n, t.low - 1e-6, 1) <= 0.025);
    }
}

static void five_users_bound_nothing_and_equal_arms_differ_by_nothing(void **state) {
    (void)state;
    struct unit u[6] = {{-1, 0}, {-2, 0}, {-3, 0}, {-4, 0}, {-5, 0}, {-6, 0}};
    struct sign_test t = test_of(u, 5);
    assert_true(isinf(t.low) && t.low < 0 && isinf(t.high) && t.high > 0);
    assert_float_equal(t.p, 2 / 32.0, 0);
    t = test_of(u, 6);
    assert_float_equal(t.low, -6, 1e-9); /* of 64 patterns, 1.6 may be refused on each side */
    assert_float_equal(t.high, -1, 1e-9);
    memset(u, 0, sizeof u);
    t = test_of(u, 6);
    assert_true(t.p == 1 && t.effect == 0 && t.low == 0 && t.high == 0);
    assert_int_equal(sign_test(&t, u, 0, 1, NULL), PLM_EINVAL);
}

/* 21 users are drawn, 20 are counted: one user of value 0 more changes nothing but that. */
static void drawn_tests_come_near_exact_ones(void **state) {
    (void)state;
    struct unit u[21] = {{0, 0}};
    struct rng r;
    rng_seed(&r, 5, 0);
    for (int i = 0; i < 20; i++)
        u[i].value = rng_normal(&r) - 0.45;
    struct sign_test exact = test_of(u, 20), drawn = test_of(u, 21), again = test_of(u, 21);
    assert_true(exact.exact && !drawn.exact);
    assert_float_equal(drawn.p, exact.p, 0.004);
    assert_float_equal(drawn.p_less, exact.p_less, 0.003);
    assert_float_equal(drawn.effect * 21, exact.effect * 20, 1e-12);
    assert_float_equal(drawn.low, exact.low * 20 / 21, 0.05);
    assert_float_equal(drawn.high, exact.high * 20 / 21, 0.05);
    assert_memory_equal(&drawn, &again, sizeof drawn); /* seeded */
}

/* Without an effect 5 % of experiments find one, and 95 % of intervals hold the truth. Three standard errors
 * of 2000 experiments are 1.5 %. */
static void tests_are_calibrated(void **state) {
    (void)state;
    enum { EXPERIMENTS = 2000, USERS = 12 };
    struct rng r;
    int found = 0, found_less = 0, covered = 0;
    rng_seed(&r, 21, 0);
    for (int e = 0; e < EXPERIMENTS; e++) {
        struct unit u[USERS];
        for (int i = 0; i < USERS; i++)
            u[i] = (struct unit){(double)rng_normal(&r) * (1 + i % 3), i % 2};
        struct sign_test t = test_of(u, USERS);
        found += t.p < 0.05;
        found_less += t.p_less < 0.05;
        covered += t.low <= 0 && 0 <= t.high;
    }
    assert_in_range(found, EXPERIMENTS * 35 / 1000, EXPERIMENTS * 65 / 1000);
    assert_in_range(found_less, EXPERIMENTS * 35 / 1000, EXPERIMENTS * 65 / 1000);
    assert_in_range(covered, EXPERIMENTS * 935 / 1000, EXPERIMENTS * 965 / 1000);
}

static void the_detectable_effect_is_found_in_four_of_five_experiments(void **state) {
    (void)state;
    enum { EXPERIMENTS = 1000, USERS = 20 };
    struct rng r;
    int found = 0;
    double planned = 0;
    rng_seed(&r, 2, 0);
    for (int e = 0; e < EXPERIMENTS; e++) {
        struct unit u[USERS];
        for (int i = 0; i < USERS; i++)
            u[i] = (struct unit){rng_normal(&r), i < 14};
        planned += detectable_effect(u, USERS, 0.05) / EXPERIMENTS;
    }
    for (int e = 0; e < EXPERIMENTS; e++) {
        struct unit u[USERS];
        for (int i = 0; i < USERS; i++)
            u[i] = (struct unit){(double)rng_normal(&r) + planned, i < 14};
        found += test_of(u, USERS).p < 0.05;
    }
    assert_in_range(found, EXPERIMENTS * 75 / 100, EXPERIMENTS * 85 / 100);
    struct unit one[3] = {{1, 0}, {2, 0}, {3, 1}};
    assert_true(isnan(detectable_effect(one, 3, 0.05)));
    /* two users, spread sqrt(2) / 2: t beyond normal matters most here */
    assert_true(detectable_effect(one, 2, 0.05) > 2.8 * 0.5);
}

static void holm_is_the_textbooks(void **state) {
    (void)state;
    static const double p[] = {0.01, 0.04, 0.03, 0.005};
    double adjusted[4];
    holm(adjusted, p, 4);
    assert_float_equal(adjusted[0], 0.03, 1e-15);
    assert_float_equal(adjusted[1], 0.06, 1e-15); /* 1 * .04, but no less than the one before */
    assert_float_equal(adjusted[2], 0.06, 1e-15);
    assert_float_equal(adjusted[3], 0.02, 1e-15);
    double two[] = {0.9, 0.7};
    holm(two, two, 2);
    assert_float_equal(two[0], 1, 0);
    assert_float_equal(two[1], 1, 0);
}

static void share_bounds_are_clopper_and_pearsons(void **state) {
    (void)state;
    json_t *doc = data(), *one;
    size_t i;
    json_array_foreach(json_object_get(doc, "bounds"), i, one) {
        size_t k = (size_t)json_integer_value(json_array_get(one, 0)),
               n = (size_t)json_integer_value(json_array_get(one, 1));
        assert_float_equal(share_upper(k, n, 0.95), json_number_value(json_array_get(one, 2)), 1e-9);
    }
    assert_float_equal(share_upper(0, 20, 0.95), 1 - pow(0.05, 1 / 20.0), 1e-12);
    assert_float_equal(share_upper(5, 5, 0.95), 1, 0);
    json_decref(doc);
}

static void no_memory_is_a_status(void **state) {
    (void)state;
    struct unit u[21] = {{1, 0}};
    struct sign_test t;
    for (size_t n = 1; n <= 21; n += 20) {
        plm_error err = {0};
        mem_fail_at(1, false);
        assert_int_equal(sign_test(&t, u, n, 1, &err), PLM_ENOMEM);
        mem_fail_at(0, false);
        assert_true(err.text[0]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_tests_are_scipys),
        cmocka_unit_test(fishers_example_has_863_of_32768),
        cmocka_unit_test(groups_count_alike_and_the_interval_inverts_the_test),
        cmocka_unit_test(five_users_bound_nothing_and_equal_arms_differ_by_nothing),
        cmocka_unit_test(drawn_tests_come_near_exact_ones),
        cmocka_unit_test(tests_are_calibrated),
        cmocka_unit_test(the_detectable_effect_is_found_in_four_of_five_experiments),
        cmocka_unit_test(holm_is_the_textbooks),
        cmocka_unit_test(share_bounds_are_clopper_and_pearsons),
        cmocka_unit_test(no_memory_is_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
