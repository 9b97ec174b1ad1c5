/* sample.c: from logits to the next id. Order: temperature, then top-k, then top-p (of what top-k left),
 * then min-p. What is cut is found with a heap, so the vocabulary is never sorted as a whole.
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
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++) {
        if (isnan(logits[i])) {
            return -1;
        }
        if (best < 0 || logits[i] > logits[best]) {
            best = i;
        }
    }
    return best >= 0 && isfinite(logits[best]) ? best : -1;
}

/* ---- a heap with the likeliest on top ---- */

static bool before(struct candidate a, struct candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void sift_down(struct candidate *heap, int n, int i) {
    struct candidate moved = heap[i];
    for (int child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && before(heap[child + 1], heap[child]);
        if (!before(heap[child], moved)) {
            break;
        }
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

/* Moves the likeliest of c[0 .. *n) behind the rest and shrinks *n. */
static struct candidate take_best(struct candidate *c, int *n) {
    struct candidate best = c[0];
    c[0] = c[--*n];
    sift_down(c, *n, 0);
    c[*n] = best;
    return best;
}

static double weight_of(float logit, float top, float temperature) {
    return exp(((double)logit - (double)top) / (double)temperature);
}

/* Leaves the chosen candidates at the end of c[0 .. n), the likeliest last; returns how many. */
static int cut_tail(struct candidate *c, int n, const plm_sampling *how, float top) {
    int k = how->top_k > 0 && how->top_k < n ? how->top_k : n;
    double total = 0, sum = 0;
    for (int i = n / 2 - 1; i >= 0; i--) {
        sift_down(c, n, i);
    }
    int left = n;
    if (k < n) { /* top-p is a share of what top-k leaves */
        while (n - left < k) {
            total += weight_of(take_best(c, &left).logit, top, how->temperature);
        }
    } else {
        for (int i = 0; i < n; i++) {
            total += weight_of(c[i].logit, top, how->temperature);
        }
    }
    if (!(how->top_p > 0 && how->top_p < 1)) {
        return k;
    }
    for (int taken = 1; taken <= k; taken++) {
        float logit = k < n ? c[n - taken].logit : take_best(c, &left).logit;
        sum += weight_of(logit, top, how->temperature);
        if (sum >= (double)how->top_p * total) {
            return taken;
        }
    }
    return k;
}

/* Draws one of c[0 .. n) by weight; those under `least` times the likeliest's weight have none. */
static int32_t draw(const struct candidate *c, int n, const plm_sampling *how, float top, struct rng *rng) {
    double least = how->min_p > 0 ? (double)how->min_p : 0, total = 0;
    for (int i = 0; i < n; i++) {
        double w = weight_of(c[i].logit, top, how->temperature);
        total += w >= least ? w : 0;
    }
    double at = rng_unit(rng) * total;
    int32_t last = -1;
    for (int i = 0; i < n; i++) {
        double w = weight_of(c[i].logit, top, how->temperature);
        if (w >= least) {
            last = c[i].id;
            at -= w;
        }
        if (at < 0) {
            break;
        }
    }
    return last;
}

int32_t sample_logits(const float *logits, int n, struct candidate *scratch, const plm_sampling *how,
                      uint64_t step) {
    int32_t best = best_of(logits, n);
    if (best < 0 || !(how->temperature > 0) || how->top_k == 1) {
        return best;
    }
    int likely = 0;
    for (int32_t i = 0; i < n; i++) {
        if (((double)logits[best] - (double)logits[i]) / (double)how->temperature <= NATS) {
            scratch[likely++] = (struct candidate){logits[i], i};
        }
    }
    bool cut = (how->top_k > 0 && how->top_k < likely) || (how->top_p > 0 && how->top_p < 1);
    int chosen = cut ? cut_tail(scratch, likely, how, logits[best]) : likely;
    struct rng rng;
    rng_seed(&rng, how->seed, step);
    int32_t id = draw(scratch + (likely - chosen), chosen, how, logits[best], &rng);
    return id < 0 ? best : id;
}
