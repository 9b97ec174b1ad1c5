/* learn.h: one training run from examples to a finished adapter, with checkpoints to go on from. */
#ifndef PLM_LEARN_H
#define PLM_LEARN_H
#include "app.h"

struct learn {
    const plm_model *model;
    plm_adapter_options adapter;
    plm_train_options train;
    const plm_example *examples;
    size_t n;
    const char *checkpoint; /* NULL: none. An existing one is gone on from when resume is set */
    bool resume;
    int (*on_step)(void *ctx, const plm_train_facts *facts, const plm_train_report *r); /* may be NULL */
    void *ctx;
};

struct learned {
    plm_adapter *adapter; /* the caller's */
    plm_train_facts facts;
    int steps, best_step;
    size_t tokens;
    double best, seconds;
};

plm_status learn(struct learned *out, const struct learn *l, plm_error *err);
/* The options that a person gave, for both train and personalize. */
plm_status learn_options(struct learn *l, const struct args *a, plm_error *err);
#endif
