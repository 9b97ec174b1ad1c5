/* stats.h: tests and intervals whose unit is a user. A user's value is a difference between two arms; under
 * the null its sign is chance. Nothing here assumes a distribution but detectable_effect. */
#ifndef PLM_EVAL_STATS_H
#define PLM_EVAL_STATS_H
#include "base/status.h"

enum { STAT_GROUPS = 16, STAT_EXACT = 20, STAT_DRAWS = 100000 };

/* A user of a group (a task). Groups count alike: the effect is the mean over groups of the mean over users.
 */
struct unit {
    double value;
    int group; /* 0 to STAT_GROUPS - 1 */
};

struct sign_test {
    size_t n;
    double effect;
    double p, p_less, p_greater; /* two-sided; that the true effect is below, above zero */
    double low, high; /* the effects that the test does not refuse at 5 %; infinite with too few users */
    bool exact;       /* every pattern of signs; else STAT_DRAWS drawn ones and the observed */
};
/* The permutation test of the units' signs. n of 1 or more. */
plm_status sign_test(struct sign_test *out, const struct unit *u, size_t n, uint64_t seed, plm_error *err);

/* Mean over groups of the mean over users; 0 without any. */
double group_mean(const struct unit *u, size_t n);
/* The smallest effect that a two-sided test at level alpha would find in 80 of 100 such experiments, for the
 * spread that these units have, if it is about normal. NAN where a group has fewer than two users. */
double detectable_effect(const struct unit *u, size_t n, double alpha);

/* Holm: p of n tests to p that may be compared with the level of the whole family. In place is fine. */
void holm(double *adjusted, const double *p, size_t n); /* n up to 64 */

/* The largest share that k of n do not refuse: Clopper and Pearson's one-sided bound. */
double share_upper(size_t k, size_t n, double confidence);
#endif
