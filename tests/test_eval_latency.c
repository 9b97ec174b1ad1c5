/* The figures of `plm-eval latency`, from answers that are made up. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "plm-eval/latency.h"

static void a_percentile_is_one_of_the_values(void **state) {
    (void)state;
    double v[20];
    for (int i = 0; i < 20; i++)
        v[i] = 20 - i;
    assert_true(percentile(v, 20, 0.5) == 10 && percentile(v, 20, 0.95) == 19 && percentile(v, 20, 1) == 20);
    assert_true(percentile(v, 1, 0.5) == 1 && percentile(v, 1, 0.95) == 1);
    assert_true(percentile(v, 3, 0.5) == 2 && percentile(v, 2, 0.5) == 1 && percentile(v, 3, 0) == 1);
    assert_true(isnan(percentile(v, 0, 0.5)));
}

static void failures_are_counted_and_not_timed(void **state) {
    (void)state;
    struct asked direct[4] = {{ANSWERED, 1, 2, 10, ""},
                              {ANSWERED, 2, 3, 20, ""},
                              {CUT, NAN, NAN, 3, "cut"},
                              {ANSWERED, 3, 5, 30, ""}};
    struct asked far[4] = {{ANSWERED, 1.5, 2.5, 10, ""},
                           {SILENT, NAN, NAN, 1, "silent"},
                           {ANSWERED, 9, 9, 50, ""},
                           {ANSWERED, 4, 7, 30, ""}};
    struct latency l = {
        .q.n = 4, .n_rows = 2, .row = {{.where = DIRECT, .each = direct}, {.where = NETWORK, .each = far}}};
    struct figures f;
    assert_int_equal(figures_of(&l, &l.row[0], &f, NULL), PLM_OK);
    assert_true(f.answered == 3 && f.outcome[CUT] == 1 && f.first[0] == 2000 && f.whole[1] == 5000);
    assert_true(isnan(f.added) && f.pieces == 20);
    assert_int_equal(figures_of(&l, &l.row[1], &f, NULL), PLM_OK);
    /* Question 3 has no direct answer to compare with. */
    assert_true(f.answered == 3 && f.outcome[SILENT] == 1 && f.added == 500 && f.pieces == 30);
    mem_fail_at(1, false);
    assert_int_equal(figures_of(&l, &l.row[1], &f, NULL), PLM_ENOMEM);
    mem_fail_at(0, false);
    far[0].outcome = far[2].outcome = far[3].outcome = REFUSED;
    assert_int_equal(figures_of(&l, &l.row[1], &f, NULL), PLM_OK);
    assert_true(f.answered == 0 && isnan(f.first[0]) && isnan(f.whole[1]) && isnan(f.pieces) &&
                isnan(f.added));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_percentile_is_one_of_the_values),
        cmocka_unit_test(failures_are_counted_and_not_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
