/* stats.c: the sign-flip permutation test, its inversion, and what goes with it.
 *
 * With weights w and values v the statistic is T = sum w v, and flipping the signs of a set F gives T - 2
 * S(F), S(F) = sum over F of w v. So every question of the test counts sets by S(F): at most T is S(F) >= 0.
 * For a shift d the same holds of w (v - d), which falls as d rises: the interval's ends are where a count
 * passes its limit. Up to STAT_EXACT users all sets are counted, as pairs of a set of the first half and one
 * of the second whose sums are sorted. */
#include "stats.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

enum { HALF = 1 << ((STAT_EXACT + 1) / 2) };
static const double tail = 0.025; /* on each side of the interval */

struct sample {
    const struct unit *u;
    size_t n;
    double weight[STAT_GROUPS]; /* of a user of that group; all users' sum is 1 */
    double slack;               /* sums this close are equal but for rounding */
};

static void sample_open(struct sample *s, const struct unit *u, size_t n) {
    size_t users[STAT_GROUPS] = {0}, groups = 0;
    *s = (struct sample){.u = u, .n = n};
    for (size_t i = 0; i < n; i++) {
        assert(u[i].group >= 0 && u[i].group < STAT_GROUPS);
        groups += users[u[i].group]++ == 0;
    }
    for (int g = 0; g < STAT_GROUPS; g++)
        if (users[g])
            s->weight[g] = 1 / ((double)users[g] * (double)groups);
    for (size_t i = 0; i < n; i++)
        s->slack += 1e-12 * s->weight[u[i].group] * fabs(u[i].value);
}

double group_mean(const struct unit *u, size_t n) {
    struct sample s;
    double sum = 0;
    sample_open(&s, u, n);
    for (size_t i = 0; i < n; i++)
        sum += s.weight[u[i].group] * u[i].value;
    return sum;
}

/* ---- every set ---- */

struct sums { /* S of all subsets of each half, ascending */
    double a[HALF], b[HALF], merged[HALF];
    size_t n_a, n_b;
};

/* The sums with one more element: the old ones and the old ones plus x, two sorted lists merged. */
static void sums_add(double *sum, size_t *n, double *merged, double x) {
    size_t i = 0, j = 0, k = 0;
    while (i < *n || j < *n)
        merged[k++] = j == *n || (i < *n && sum[i] <= sum[j] + x) ? sum[i++] : sum[j++] + x;
    memcpy(sum, merged, k * sizeof *sum);
    *n = k;
}

static void sums_make(struct sums *t, const struct sample *s, double shift) {
    t->a[0] = t->b[0] = 0;
    t->n_a = t->n_b = 1;
    for (size_t i = 0; i < s->n; i++) {
        double x = s->weight[s->u[i].group] * (s->u[i].value - shift);
        if (i < s->n / 2)
            sums_add(t->a, &t->n_a, t->merged, x);
        else
            sums_add(t->b, &t->n_b, t->merged, x);
    }
}

/* How many sets have a sum of at least least. */
static double sums_count(const struct sums *t, double least) {
    size_t count = 0, j = t->n_b;
    for (size_t i = 0; i < t->n_a; i++) {
        while (j > 0 && t->a[i] + t->b[j - 1] >= least)
            j--;
        count += t->n_b - j;
    }
    return (double)count;
}

static double sums_all(const struct sums *t) {
    return (double)t->n_a * (double)t->n_b;
}

/* The end of the interval on one side: the last shift, seen from the effect, that is not refused. */
static double exact_end(struct sums *t, const struct sample *s, double effect, bool upper) {
    double inside = effect, outside = effect;
    for (size_t i = 0; i < s->n; i++)
        outside = upper ? fmax(outside, s->u[i].value) : fmin(outside, s->u[i].value);
    if (sums_all(t) * tail < 1)
        return upper ? INFINITY : -INFINITY;
    for (int i = 0; i < 60; i++) {
        double middle = inside + (outside - inside) / 2;
        sums_make(t, s, middle);
        double kept =
            upper ? sums_count(t, -s->slack) : sums_all(t) - sums_count(t, nextafter(s->slack, INFINITY));
        if (kept > sums_all(t) * tail)
            inside = middle;
        else
            outside = middle;
    }
    return inside;
}

static plm_status exact_test(struct sign_test *out, const struct sample *s, plm_error *err) {
    struct sums *t = mem_alloc(1, sizeof *t);
    if (!t)
        return fail(err, PLM_ENOMEM, "out of memory for a permutation test");
    double up = s->slack, effect = out->effect;
    sums_make(t, s, 0);
    double all = sums_all(t), least = sums_count(t, -up), most = all - sums_count(t, nextafter(up, INFINITY));
    out->p_less = least / all;
    out->p_greater = most / all;
    if (fabs(effect) <= up)
        out->p = 1;
    else if (effect < 0)
        out->p = (least + all - sums_count(t, nextafter(effect + up, INFINITY))) / all;
    else
        out->p = (most + sums_count(t, effect - up)) / all;
    out->low = exact_end(t, s, effect, false);
    out->high = exact_end(t, s, effect, true);
    out->exact = true;
    mem_free(t);
    return PLM_OK;
}

/* ---- drawn sets ---- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A random set's sum and its weighted mean; an empty one, which says nothing, is drawn again. */
static double draw_set(const double *weight, const double *weighted, size_t n, struct rng *r, double *mean) {
    double sum, all;
    do {
        uint64_t bits = 0;
        sum = all = 0;
        for (size_t i = 0; i < n; i++, bits >>= 1) {
            if (i % 64 == 0)
                bits = rng_next(r);
            double in = (double)(int)(bits & 1);
            sum += in * weighted[i];
            all += in * weight[i];
        }
    } while (all == 0);
    *mean = sum / all;
    return sum;
}

/* The sets drawn and the empty one, which is what was observed. */
static plm_status drawn_test(struct sign_test *out, const struct sample *s, uint64_t seed, plm_error *err) {
    double *mean = mem_alloc(STAT_DRAWS + 2 * s->n, sizeof *mean), all = STAT_DRAWS + 1.0;
    size_t less = 1, greater = 1, far = 1, k = (size_t)(all * tail);
    struct rng r;
    if (!mean)
        return fail(err, PLM_ENOMEM, "out of memory for a permutation test");
    double *weight = mean + STAT_DRAWS, *weighted = weight + s->n;
    for (size_t i = 0; i < s->n; i++) {
        weight[i] = s->weight[s->u[i].group];
        weighted[i] = weight[i] * s->u[i].value;
    }
    rng_seed(&r, seed, 0);
    for (size_t i = 0; i < STAT_DRAWS; i++) {
        double sum = draw_set(weight, weighted, s->n, &r, &mean[i]);
        less += sum >= -s->slack;
        greater += sum <= s->slack;
        far += fabs(out->effect - 2 * sum) >= fabs(out->effect) - s->slack;
    }
    qsort(mean, STAT_DRAWS, sizeof *mean, ascending);
    out->p_less = (double)less / all;
    out->p_greater = (double)greater / all;
    out->p = (double)far / all;
    out->low = mean[k - 1];
    out->high = mean[STAT_DRAWS - k];
    mem_free(mean);
    return PLM_OK;
}

plm_status sign_test(struct sign_test *out, const struct unit *u, size_t n, uint64_t seed, plm_error *err) {
    struct sample s;
    if (n == 0)
        return fail(err, PLM_EINVAL, "a test needs a user");
    sample_open(&s, u, n);
    *out = (struct sign_test){.n = n, .effect = group_mean(u, n)};
    return n <= STAT_EXACT ? exact_test(out, &s, err) : drawn_test(out, &s, seed, err);
}

/* ---- power ---- */

/* The point that a normal variable exceeds with probability above (below a half). */
static double normal_point(double above) {
    double low = 0, high = 40;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (erfc(middle / sqrt(2)) / 2 > above)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Student's t by the first terms of its expansion around the normal; 1e-3 off at 4 degrees of freedom. */
static double student_point(double above, double degrees) {
    double z = normal_point(above), z3 = z * z * z, z5 = z3 * z * z;
    return z + (z3 + z) / (4 * degrees) + (5 * z5 + 16 * z3 + 3 * z) / (96 * degrees * degrees);
}

double detectable_effect(const struct unit *u, size_t n, double alpha) {
    struct sample s;
    double mean[STAT_GROUPS] = {0}, variance = 0, degrees = 0;
    size_t users[STAT_GROUPS] = {0};
    sample_open(&s, u, n);
    for (size_t i = 0; i < n; i++) {
        mean[u[i].group] += u[i].value;
        users[u[i].group]++;
    }
    for (int g = 0; g < STAT_GROUPS; g++) {
        if (users[g] == 1)
            return NAN;
        if (users[g])
            degrees += (double)users[g] - 1;
    }
    for (size_t i = 0; i < n; i++) {
        int g = u[i].group;
        double d = s.weight[g] * (u[i].value - mean[g] / (double)users[g]);
        variance += d * d * (double)users[g] / (double)(users[g] - 1);
    }
    if (degrees == 0)
        return NAN;
    return (student_point(alpha / 2, degrees) + student_point(0.2, degrees)) * sqrt(variance);
}

/* ---- families and shares ---- */

void holm(double *adjusted, const double *p, size_t n) {
    double sorted[64], least = 0;
    size_t order[64];
    assert(n <= 64);
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && sorted[at - 1] > p[i]; at--) {
            sorted[at] = sorted[at - 1];
            order[at] = order[at - 1];
        }
        sorted[at] = p[i];
        order[at] = i;
    }
    for (size_t i = 0; i < n; i++) {
        least = fmax(least, fmin(1, sorted[i] * (double)(n - i)));
        adjusted[order[i]] = least;
    }
}

/* P(X <= k) of a binomial. */
static double at_most(size_t k, size_t n, double p) {
    double sum = 0;
    for (size_t i = 0; i <= k; i++)
        sum += exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) +
                   (double)i * log(p) + (double)(n - i) * log1p(-p));
    return sum;
}

double share_upper(size_t k, size_t n, double confidence) {
    double low = 0, high = 1;
    if (k >= n)
        return 1;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (at_most(k, n, middle) > 1 - confidence)
            low = middle;
        else
            high = middle;
    }
    return low;
}
