/* learn.h: one training run from examples to a finished adapter, with checkpoints to go on from. */
#ifndef SHARED_LEARN_H
#define SHARED_LEARN_H
#include "base/base.h"
#include "base/bytes.h"
#include "plm.h"

struct learn {
    const plm_model *model;
    const char *start; /* an adapter file to go on from; NULL: a new one, by the options */
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

/* Everything of the options that the result depends on, as text. */
void learn_settings(struct bytes *out, const struct learn *l);

plm_status learn(struct learned *out, const struct learn *l, plm_error *err);
#endif
