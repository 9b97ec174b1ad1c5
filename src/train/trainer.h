/* trainer.h: what the files of train/ share. The life of a trainer: examples are added; plan fixes the
 * order, the number of steps and the memory; steps change the adapter; finish puts the best one back.
 * Everything is allocated by the plan, so a step fails for numbers only, never for memory. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H
#include "model/model.h"
#include "train/train.h"

/* Ids end with the last target: what follows it changes nothing. learn[0] is 0. */
struct example {
    int32_t *ids;   /* [n] */
    uint8_t *learn; /* [n] 1: a target */
    int n, targets;
    float weight;
    bool synthetic, validation;
    int uses; /* steps that learn it */
    char *name;
    float *below;  /* [n - 1, C] what frozen layers give, in the trainer's room; NULL: not kept */
    uint8_t *have; /* it has been computed; NULL: not kept */
};
/* Encodes, checks, cuts to max_tokens and copies. *cut says whether ids were left out. */
plm_status example_make(struct example *e, const plm_model *m, const plm_example *from, size_t number,
                        int max_tokens, bool refuse_long, bool *cut, plm_error *err);
void example_free(struct example *e);
uint64_t example_bytes(const struct example *e);

/* Examples laid out in passes of at most cap tokens. An example's last id is never an input, so it takes
 * n - 1 tokens; those before its first target that another example of the pass begins with, it shares. */
struct packer {
    int cap, most; /* tokens a pass, examples at once: what there is room for */
    uint64_t *key; /* [most] examples by falling length: what sorts them, and their number below */
    int *pass;     /* [most] the pass of each example */
    int *left;     /* [most] tokens free in a pass */
    int *rows;     /* [most] tokens that its examples would have without sharing */
    int *begin;    /* [most] where an example's tokens begin in seen */
    int n, passes;
    const struct example **ex;                        /* [n], borrowed */
    int32_t *ids, *pos, *first, *at, *target, *owner; /* [cap]: one pass; owner: whose target */
    int32_t *last;                                    /* [cap] */
    int32_t *seen;                                    /* [BATCH_ROWS cap] */
    int32_t *of;                                      /* [cap] whose token */
    const float **below;                              /* [cap] the frozen layers' rows of the tokens */
    float **rows_of;                                  /* [most] and of the examples */
    float *weight;                                    /* [cap] */
    double *nll;                                      /* [cap] */
    struct batch batch;
    int targets;
};
plm_status packer_open(struct packer *p, int cap, int most, plm_error *err);
void packer_close(struct packer *p);
uint64_t packer_bytes(int cap, int most);
/* First fit by falling length, and what an example does not share; equal lengths keep their order. Each
 * example fits in cap <= p->cap tokens. */
void packer_plan(struct packer *p, const struct example **ex, int n, int cap);
/* Lays out pass i: batch, at, target, owner; weight[t] = share[example] / its targets, unless share is NULL.
 */
void packer_lay(struct packer *p, int i, const float *share /* [n] */);

/* Which examples a step sees: a function of (seed, step) and of the examples. One permutation an epoch,
 * or none. */
struct order {
    const struct example **all, **real; /* learned examples; those of them that are not synthetic */
    size_t n_all, n_real;
    size_t *perm;       /* of the epoch below */
    int64_t perm_epoch; /* -1: none yet */
    bool perm_real;
    uint64_t seed;
    bool as_given; /* not shuffled */
    int batch;     /* examples a step */
    int real_from; /* from this step on only real ones; the number of steps: never */
    size_t limit;  /* the run ends after so many examples; SIZE_MAX: no limit */
};
plm_status order_open(struct order *o, const struct example *ex, size_t n, uint64_t seed, plm_error *err);
void order_close(struct order *o);
/* Fills out [batch] and returns how many. */
int order_step(struct order *o, int step, const struct example **out);

/* What a checkpoint holds besides the arrays. */
struct progress {
    int64_t step;      /* steps done */
    int64_t best_step; /* -1: nothing validated yet */
    int64_t stale;     /* validations since the best */
    double best;       /* its mean NLL */
};

struct plm_trainer {
    const plm_model *m;
    plm_adapter *a;
    struct lora *lora;
    plm_train_options opt; /* with the defaults filled in */
    struct example *ex;
    size_t n_ex, room;
    uint64_t example_bytes, array_bytes; /* the trainer's own, besides trace and packer */

    bool planned, finished;
    char broken[500]; /* why nothing may be saved any more; "": all is well */
    plm_train_facts facts;
    struct order order;
    int pass_tokens;                            /* what a step's examples are packed into */
    int most_examples;                          /* of a step or a validation */
    const struct example **step_ex, **valid_ex; /* [batch], [n_valid] */
    int n_valid;
    float *share;                 /* [batch] */
    float *grad, *m1, *m2, *best; /* [parameters]; best: NULL without validation */
    struct progress at;

    struct {
        void *rows;    /* of kept examples */
        uint8_t *have; /* [n_ex] */
        uint64_t bytes;
        float *spare; /* [BATCH_ROWS packer.cap, C] of those of a pass that are not kept */
    } below;

    struct trace *trace; /* with packer: what passes run on; grows for plm_trainer_loss */
    struct packer packer;
    double *loss; /* [packer.most] */
};

/* Checks the options and fills in those defaults that need no examples. */
plm_status trainer_options(struct plm_trainer *t, const plm_train_options *given, plm_error *err);
plm_status trainer_plan(struct plm_trainer *t, plm_error *err); /* nothing when there is a plan */
void trainer_unplan(struct plm_trainer *t);
/* Of the ceiling, what is not the trace's: arrays, examples, what is kept of them, the room of the passes. */
uint64_t trainer_own_bytes(const struct plm_trainer *t, int tokens, int examples);
/* Trace, packer and loss for at least so many tokens a pass and examples at once. */
plm_status trainer_room(struct plm_trainer *t, int tokens, int examples, plm_error *err);
void trainer_drop_room(struct plm_trainer *t);
/* Keeps what frozen layers give, for as many examples as there is room for. Nothing when no layer is. */
plm_status below_plan(struct plm_trainer *t, uint64_t room, plm_error *err);
void below_drop(struct plm_trainer *t);
/* Room for a pass of examples that are not kept. */
plm_status below_spare(struct plm_trainer *t, int tokens, plm_error *err);
uint64_t below_spare_bytes(const struct plm_trainer *t, int tokens);
/* The pass that the packer has laid out gets its rows. */
plm_status below_of_pass(struct plm_trainer *t, int pass, plm_error *err);
/* Mean target NLL of each, in t->loss. share not NULL: gradients of sum share[i] * loss[i] are added to grad.
 */
plm_status trainer_pass(struct plm_trainer *t, const struct example **ex, int n, int cap, const float *share,
                        float *grad, plm_error *err);
/* After a loss or gradient that is not finite: names the example. */
plm_status trainer_blame(struct plm_trainer *t, const struct example **ex, int n, plm_error *err);
/* sha256 of all that was added. */
void trainer_digest(const struct plm_trainer *t, char hex[65]);
#endif
