/* sample.c: from logits to the next id. Order: temperature, then top-k, then top-p (of what top-k left),
 * then min-p. What is cut is found by selection: no more is put in order than is drawn from.
 * A draw depends on the seed and on the step alone, so a sequence repeats exactly however it is cut
 * into calls. Ties go to the lower id. */
#include <math.h>
#include "gen/session.h"

/* What is further below the likeliest is never drawn: a vocabulary's worth of e^-32 is 2e-9. */
enum { NATS = 32 };

plm_status sampling_check(const plm_sampling *how, plm_error *err) {
    if (!(how->temperature >= 0) || !isfinite(how->temperature)) {
        return fail(err, PLM_EINVAL, "the temperature %g is not 0 or more", (double)how->temperature);
    }
    if (!(how->top_p >= 0 && how->top_p <= 1) || !(how->min_p >= 0 && how->min_p <= 1) || how->top_k < 0) {
        return fail(err, PLM_EINVAL, "top-p %g, min-p %g or top-k %d is out of range", (double)how->top_p,
                    (double)how->min_p, how->top_k);
    }
    return PLM_OK;
}

static int32_t best_of(const float *logits, int n) {
    float top = -INFINITY;
    bool number = true;
    for (int i = 0; i < n; i++) { /* without a branch, so that it goes by vectors */
        number &= logits[i] == logits[i];
        top = logits[i] > top ? logits[i] : top;
    }
    for (int32_t i = 0; number && isfinite(top) && i < n; i++) {
        if (logits[i] == top) {
            return i;
        }
    }
    return -1;
}

/* e^x for x from -NATS - 1 to 0, to 2e-7 of itself; in plain arithmetic, so that a loop of it goes by
 * vectors. */
static inline float exp_of(float x) {
    float y = x * 1.44269504f, k = (y + 12582912.f) - 12582912.f, f = y - k;
    float p =
        1.f + f * (.693147181f +
                   f * (.240226507f +
                        f * (.0555041087f + f * (.00961812911f + f * (.00133335581f + f * .000154035304f)))));
    union {
        int32_t i;
        float f;
    } scale = {.i = ((int32_t)k + 127) << 23};
    return p * scale.f;
}

static void put_weights(struct candidate *c, int n, float top, float temperature) {
    float by = 1 / temperature;
    if (!isfinite(by)) { /* a temperature as good as 0: only the best are left */
        by = 0;
    }
    for (int i = 0; i < n; i++) {
        c[i].weight = exp_of((c[i].logit - top) * by);
    }
}

static bool before(struct candidate a, struct candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void swap(struct candidate *a, struct candidate *b) {
    struct candidate c = *a;
    *a = *b;
    *b = c;
}

/* Puts one of c[0 .. n) where it belongs in order, those before it before it, and returns its place. */
static int split(struct candidate *c, int n) {
    int middle = n / 2, at = 0; /* the middle one of three as the measure */
    if (before(c[middle], c[0])) {
        swap(&c[middle], &c[0]);
    }
    if (before(c[n - 1], c[0])) {
        swap(&c[n - 1], &c[0]);
    }
    if (before(c[n - 1], c[middle])) {
        swap(&c[n - 1], &c[middle]);
    }
    struct candidate measure = c[middle];
    swap(&c[middle], &c[n - 1]);
    for (int i = 0; i < n - 1; i++) {
        if (before(c[i], measure)) {
            swap(&c[i], &c[at++]);
        }
    }
    swap(&c[at], &c[n - 1]);
    return at;
}

/* The k first of c[0 .. n) come to its beginning. */
static void select_first(struct candidate *c, int n, int k) {
    while (n > 1 && k > 0 && k < n) {
        int at = split(c, n);
        if (at >= k) {
            n = at;
        } else {
            c += at + 1;
            n -= at + 1;
            k -= at + 1;
        }
    }
}

static double sum_of(const struct candidate *c, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += (double)c[i].weight;
    }
    return sum;
}

/* The fewest first whose weights reach `wanted` come to the beginning of c[0 .. n); returns how many. */
static int select_share(struct candidate *c, int n, double wanted) {
    int chosen = 0;
    while (n > 1) {
        int at = split(c, n);
        double sum = sum_of(c, at);
        if (sum >= wanted) {
            n = at;
            continue;
        }
        wanted -= sum + (double)c[at].weight;
        chosen += at + 1;
        if (wanted <= 0) {
            return chosen;
        }
        c += at + 1;
        n -= at + 1;
    }
    return chosen + n;
}

/* Draws one of c[0 .. n) by weight; those under `least` have none. */
static int32_t draw(const struct candidate *c, int n, float least, struct rng *rng) {
    double total = 0;
    for (int i = 0; i < n; i++) {
        total += c[i].weight >= least ? (double)c[i].weight : 0;
    }
    double at = rng_unit(rng) * total;
    int32_t last = -1;
    for (int i = 0; i < n && at >= 0; i++) {
        if (c[i].weight >= least) {
            last = c[i].id;
            at -= (double)c[i].weight;
        }
    }
    return last;
}

/* What is likely at all, in the order of ids; returns how many. */
static int collect(struct candidate *c, const float *logits, int n, double floor) {
    int likely = 0;
    for (int32_t i = 0; i < n; i++) {
        c[likely] = (struct candidate){.logit = logits[i], .id = i};
        likely += (double)logits[i] >= floor;
    }
    return likely;
}

int32_t sample_logits(const float *logits, int n, struct candidate *scratch, const plm_sampling *how,
                      uint64_t step) {
    int32_t best = best_of(logits, n);
    if (best < 0 || !(how->temperature > 0) || how->top_k == 1) {
        return best;
    }
    float top = logits[best];
    int likely = collect(scratch, logits, n, (double)top - (double)NATS * (double)how->temperature);
    if (how->top_k > 0 && how->top_k < likely) {
        select_first(scratch, likely, how->top_k);
        likely = how->top_k;
    }
    put_weights(scratch, likely, top, how->temperature);
    if (how->top_p > 0 && how->top_p < 1) { /* a share of what top-k leaves */
        likely = select_share(scratch, likely, (double)how->top_p * sum_of(scratch, likely));
    }
    struct rng rng;
    rng_seed(&rng, how->seed, step);
    int32_t id = draw(scratch, likely, how->min_p, &rng);
    return id < 0 ? best : id;
}
