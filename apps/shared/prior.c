/* prior.c: a bias per label is a convex fit, found by scaling until the mean prediction is the share that is
 * wanted. Each item is left out in turn, of the counts, of the mean and of the trust in voices, so that
 * nothing is judged by items that it was fitted on. */
#include "shared/prior.h"

#include <math.h>
#include <string.h>

enum { ROUNDS = 40 };

int label_renormalise(double *nats, size_t n) {
    size_t best = 0;
    double sum = 0;
    for (size_t i = 1; i < n; i++)
        if (nats[i] < nats[best])
            best = i;
    for (size_t i = 0; i < n; i++)
        sum += exp(nats[best] - nats[i]);
    double whole = nats[best] - log(sum);
    for (size_t i = 0; i < n; i++)
        nats[i] -= whole;
    return (int)best;
}

void prior_shares(double *share, const size_t *count, size_t labels) {
    double all = 0;
    for (size_t l = 0; l < labels; l++)
        all += (double)count[l] + 0.5;
    for (size_t l = 0; l < labels; l++)
        share[l] = ((double)count[l] + 0.5) / all;
}

void prior_none(struct prior *p) {
    *p = (struct prior){.n = 1};
    p->voice[0].trust = p->voice[0].weight = 1;
}

void prior_bias(struct prior *p, const double *bias, size_t labels) {
    prior_none(p);
    memcpy(p->voice[0].bias, bias, labels * sizeof *bias);
}

double prior_weight(const struct prior *p) {
    double sum = 0;
    for (size_t i = 0; i < p->n; i++)
        sum += p->voice[i].trust * p->voice[i].weight;
    return sum;
}

static void say(const struct voice *v, double *nats, size_t labels) {
    for (size_t l = 0; l < labels; l++)
        nats[l] = v->weight * nats[l] - v->bias[l];
    label_renormalise(nats, labels);
}

int prior_apply(const struct prior *p, double *nats, size_t labels) {
    double one[PRIOR_LABELS], sum[PRIOR_LABELS] = {0};
    if (labels > PRIOR_LABELS) /* nothing was fitted */
        return label_renormalise(nats, labels);
    for (size_t i = 0; i < p->n; i++) {
        memcpy(one, nats, labels * sizeof *one);
        say(&p->voice[i], one, labels);
        for (size_t l = 0; l < labels; l++)
            sum[l] += p->voice[i].trust * exp(-one[l]);
    }
    for (size_t l = 0; l < labels; l++)
        nats[l] = -log(sum[l]);
    return label_renormalise(nats, labels);
}

/* ---- the fit ---- */

struct fit {
    const double *nats; /* [n, labels] */
    size_t n, labels;
    double *lost; /* [n, voices]: -ln p of an item by a voice that was fitted without it */
};

/* The biases under which the mean prediction over all items but `without` is share. */
static void fit_bias(const struct fit *f, struct voice *v, const double *share, size_t without) {
    double one[PRIOR_LABELS], mean[PRIOR_LABELS];
    for (size_t l = 0; l < f->labels; l++)
        v->bias[l] = log(share[l]);
    for (int round = 0; v->weight > 0 && round < ROUNDS; round++) {
        double all = 0;
        memset(mean, 0, sizeof mean);
        for (size_t i = 0; i < f->n; i++) {
            if (i == without)
                continue;
            memcpy(one, f->nats + i * f->labels, f->labels * sizeof *one);
            say(v, one, f->labels);
            for (size_t l = 0; l < f->labels; l++)
                mean[l] += exp(-one[l]);
            all++;
        }
        /* A label that no item makes likely moves by the most that a double can hold apart, no further. */
        for (size_t l = 0; l < f->labels; l++)
            v->bias[l] += log(share[l]) - log(fmax(mean[l] / all, 1e-12));
    }
}

/* Each item by the voice as it is without the item, in the counts and in the mean. */
static void leave_out(struct fit *f, struct voice *v, size_t which, const int *gold, const size_t *count) {
    double one[PRIOR_LABELS], share[PRIOR_LABELS];
    size_t others[PRIOR_LABELS];
    for (size_t i = 0; i < f->n; i++) {
        if (which > 0) {
            memcpy(others, count, f->labels * sizeof *others);
            others[gold[i]]--;
            prior_shares(share, others, f->labels);
            fit_bias(f, v, share, i);
        }
        memcpy(one, f->nats + i * f->labels, f->labels * sizeof *one);
        say(v, one, f->labels);
        f->lost[i * PRIOR_VOICES + which] = one[gold[i]];
    }
}

/* Trust by what each voice lost on the items but `without`. */
static void trust(const struct fit *f, struct prior *p, size_t without) {
    double lost[PRIOR_VOICES] = {0}, least = INFINITY, sum = 0;
    for (size_t k = 0; k < p->n; k++) {
        for (size_t i = 0; i < f->n; i++)
            lost[k] += i == without ? 0 : f->lost[i * PRIOR_VOICES + k];
        least = fmin(least, lost[k]);
    }
    for (size_t k = 0; k < p->n; k++)
        sum += p->voice[k].trust = exp(least - lost[k]);
    for (size_t k = 0; k < p->n; k++)
        p->voice[k].trust /= sum;
}

static plm_status check(const int *gold, size_t n, const size_t *count, size_t labels, plm_error *err) {
    for (size_t i = 0; i < n; i++)
        if (gold[i] < 0 || (size_t)gold[i] >= labels || !count[gold[i]])
            return fail(err, PLM_EINVAL, "item %zu has no label that was counted", i + 1);
    return PLM_OK;
}

plm_status prior_fit(struct prior *out, const double *nats, const int *gold, size_t n, const size_t *count,
                     size_t labels, plm_error *err) {
    double share[PRIOR_LABELS];
    prior_none(out);
    if (n < PRIOR_LEAST || labels < 2 || labels > PRIOR_LABELS)
        return PLM_OK;
    plm_status st = check(gold, n, count, labels, err);
    if (st)
        return st;
    struct fit f = {nats, n, labels, mem_zero(n * PRIOR_VOICES, sizeof *f.lost)};
    if (!f.lost)
        return fail(err, PLM_ENOMEM, "out of memory");
    out->n = PRIOR_VOICES;
    for (size_t k = 0; k < out->n; k++) {
        out->voice[k].weight = k ? (double)(k - 1) / (PRIOR_VOICES - 2) : 1;
        leave_out(&f, &out->voice[k], k, gold, count);
    }
    for (size_t i = 0; i < n; i++) {
        double p = 0;
        trust(&f, out, i);
        for (size_t k = 0; k < out->n; k++)
            p += out->voice[k].trust * exp(-f.lost[i * PRIOR_VOICES + k]);
        out->nll -= log(p) / (double)n;
        out->plain += f.lost[i * PRIOR_VOICES] / (double)n;
    }
    trust(&f, out, n);
    prior_shares(share, count, labels);
    for (size_t k = 1; k < out->n; k++)
        fit_bias(&f, &out->voice[k], share, n);
    mem_free(f.lost);
    return PLM_OK;
}
