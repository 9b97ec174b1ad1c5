/* arm.h: one way of training for a person (real records alone, or with synthetic ones): its examples, its run
 * and its scores. A finished arm is a file; asked for again it is not trained again. */
#ifndef SHARED_ARM_H
#define SHARED_ARM_H
#include "base/json.h"
#include "shared/device.h"
#include "shared/learn.h"
#include "shared/prior.h"
#include "shared/records.h"

enum { ARM_SCALES = 5 }; /* 0, .25, .5, .75, 1 */

/* What every arm of a job learns from. */
struct pool_of_data {
    struct learn how; /* adapter, training and start; what is 0 is decided for each arm */
    bool quiet, force;
    plm_model *model;
    const plm_kind *kind;
    const char *user, *folder; /* where arms and checkpoints live */
    char model_sha256[65];
    struct records real; /* oldest first */
    struct synthetics synthetic;
};

struct arm {
    char name[48]; /* "real", "real+syn", "real+syn.fold2" */
    bool with_synthetic;
    int steps;       /* 0: the best on an inner split, by patience where all is real; else exactly so many */
    char path[4200]; /* of the finished adapter */
    char sha256[65];
    size_t n_real, n_synthetic, n_validation;
    int64_t *learned; /* record ids, synthetic ids negative: the manifest */
    size_t n_learned;
    int steps_done, best_step;
    size_t tokens;
    double best, seconds;
    uint64_t planned_bytes;
    json_t *curve; /* [{"step","loss","validation"?}] */
};

/* held[i]: record i is neither learned nor validated on, and no synthetic row made from it is learned.
 * bar: the progress line's label. */
plm_status arm_train(struct arm *arm, const struct pool_of_data *d, const bool *held, plm_error *err);
void arm_free(struct arm *arm);
/* How unlikely the adapter at a scale finds the answer of each record with held[i] set: nll[i]. Of text, the
 * mean -ln p of its tokens. Of labels, -ln p among the labels, as `plm ask` chooses; all of them then go to
 * labels [records, labels] (NULL: not wanted). */
plm_status arm_score(const struct pool_of_data *d, const char *adapter, float scale, const bool *held,
                     double *nll, double *labels, plm_error *err);
/* Which label each record has: [records]. False: the kind has none, or a record has another answer, and it is
 * scored as text. */
bool arm_labels(const struct pool_of_data *d, int *label);
/* The arm's file becomes one that carries the prior, which counted all records: they join what it learned. */
plm_status arm_carry(struct arm *arm, const struct pool_of_data *d, const struct prior *p, plm_error *err);
/* A general text's mean NLL under the adapter (NULL: what the arms start from). */
plm_status general_nll(const struct pool_of_data *d, const char *adapter, float scale, double *nll,
                       plm_error *err);
#endif
