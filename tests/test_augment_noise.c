/* test_augment_noise.c: the law of the noise on label counts, and the sum of what it has cost. */
#include "support_augment.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void noise_has_its_ratio(void **s) {
    (void)s;
    enum { DRAWS = 400000, MIDDLE = 100, REACH = 8 };
    const double epsilons[] = {.25, .5, 1, 2};
    for (size_t e = 0; e < sizeof epsilons / sizeof *epsilons; e++) {
        double eps = epsilons[e], q = exp(-eps);
        int seen[2 * MIDDLE + 1] = {0};
        for (int i = 0; i < DRAWS; i++) {
            int x = noise_add(MIDDLE, eps);
            seen[x > 2 * MIDDLE ? 2 * MIDDLE : x]++;
        }
        for (int k = -REACH; k <= REACH; k++) { // five standard deviations of the exact law
            double p = (1 - q) / (1 + q) * pow(q, abs(k)), sd = sqrt(DRAWS * p * (1 - p));
            assert_true(fabs(seen[MIDDLE + k] - DRAWS * p) < 5 * sd + 1);
        }
        // One record more: no outcome is more likely by more than the factor.
        for (int k = -REACH; k < REACH; k++) {
            double a = seen[MIDDLE + k], b = seen[MIDDLE + k + 1];
            assert_true(a < 2000 || b < 2000 || fabs(log(a / b)) < eps + 5 * sqrt(1 / a + 1 / b));
        }
    }
    assert_int_equal(noise_add(0, 100), 0);
}

static void spent_epsilon_is_summed_and_refused_above_the_budget(void **s) {
    (void)s;
    struct desk d;
    plm_error err;
    double spent;
    char *again = NULL;
    desk_open(&d, "review");
    for (size_t k = 0; k < sizeof notes / sizeof *notes; k++)
        add(&d, notes[k][0], k % 2 ? "4" : "2");
    d.p.epsilon = .5;
    d.p.epsilon_budget = 1;
    assert_int_equal(plm_augment_draft(d.store, &d.p, &again, &err),
                     PLM_EINVAL); // records are sent as they are
    d.p.summary_only = true;
    draft(&d);
    assert_int_equal(d.q.n_topics, 0);
    assert_string_equal(d.q.summary, "");
    assert_null(strstr(d.request, "examples."));
    // The same counts: the same bytes, for nothing.
    assert_int_equal(plm_augment_draft(d.store, &d.p, &again, &err), PLM_OK);
    assert_string_equal(again, d.request);
    plm_free(again);
    assert_int_equal(plm_augment_epsilon(d.store, "ada", d.p.kind, &spent, &err), PLM_OK);
    assert_true(spent == .5);
    add(&d, "A lamp that hums from the second evening on and smells of warm dust.", "1");
    draft(&d);
    assert_int_equal(plm_augment_epsilon(d.store, "ada", d.p.kind, &spent, &err), PLM_OK);
    assert_true(spent == 1);
    add(&d, "The kettle is quick, quiet and easy to fill with one hand only.", "5");
    again = NULL;
    assert_int_equal(plm_augment_draft(d.store, &d.p, &again, &err), PLM_ELIMIT);
    assert_null(again);
    assert_non_null(strstr(err.text, "budget of 1"));
    d.p.user = "ben"; // another person's budget is another
    assert_int_equal(plm_augment_epsilon(d.store, "ben", d.p.kind, &spent, &err), PLM_OK);
    assert_true(spent == 0);
    desk_close(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_has_its_ratio),
        cmocka_unit_test(spent_epsilon_is_summed_and_refused_above_the_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
