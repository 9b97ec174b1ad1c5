/* prior.h: probabilities of labels that agree with how often a person gives each of them.
 *
 * A small model that learned from a person's items knows part of their habits and rarely all. What it says of
 * an input is taken as evidence, to the power of a weight in [0, 1], and a bias is added for each label so
 * that the mean prediction over the person's own items is the person's own share of the label: at weight 0
 * that is a counter, at 1 the model as it is but for its habits. Each weight, and the model left alone, is a
 * voice; what they say is averaged, each trusted as far as it gave left-out items a high probability, so that
 * a few items need not decide. */
#ifndef SHARED_PRIOR_H
#define SHARED_PRIOR_H
#include "base/base.h"
#include "shared/encode.h"

enum {
    PRIOR_LABELS = 64,
    PRIOR_LEAST = 4, /* items to fit it on */
    PRIOR_VOICES = 6 /* the model alone; weights 0, 1/4, 1/2, 3/4, 1 */
};

struct prior {
    struct voice {
        double trust;                      /* they add up to 1 */
        double weight, bias[PRIOR_LABELS]; /* -ln p becomes weight x -ln p - bias, renormalised */
    } voice[PRIOR_VOICES];
    size_t n;
    double nll, plain; /* mean of the left-out items: with it, and the model alone */
};

/* Counts + 0.5 as shares. */
void prior_shares(double *share, const size_t *count, size_t labels);
/* The model alone. */
void prior_none(struct prior *p);
/* The model with one bias for each label. */
void prior_bias(struct prior *p, const double *bias, size_t labels);
/* nats [n, labels]: -ln p of items that the model did not learn from; gold: their labels; count: labels of
 * all the person's items, those n among them. With fewer items than PRIOR_LEAST, fewer labels than 2 or more
 * than PRIOR_LABELS: the model alone. */
plm_status prior_fit(struct prior *out, const double *nats, const int *gold, size_t n, const size_t *count,
                     size_t labels, plm_error *err);
/* nats [labels] in place, renormalised; returns the likeliest. */
int prior_apply(const struct prior *p, double *nats, size_t labels);
/* The weight of what the model says, on average: 1 is all, 0 a counter. */
double prior_weight(const struct prior *p);
/* As one line of text that an adapter's file can carry, and back. The labels are named in it: refused is a
 * text that is damaged or of other labels. *text: plm_free. */
plm_status prior_write(const struct prior *p, const char *const *label, size_t labels, char **text,
                       plm_error *err);
plm_status prior_read(struct prior *out, const char *text, const char *const *label, size_t labels,
                      plm_error *err);
/* The one that the adapters carry; kind NULL or none carried: the model alone. */
plm_status loras_prior(const struct loras *l, const plm_kind *kind, struct prior *out, plm_error *err);
/* nats of each label, as they are, to -ln p over the set; returns the likeliest. */
int label_renormalise(double *nats, size_t n);
#endif
