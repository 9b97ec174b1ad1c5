/* samples.h: training examples of an arm, and the adapter that they make. A finished adapter is a file whose
 * name is the hash of all that went into it, so it is never trained twice. */
#ifndef PLM_EVAL_SAMPLES_H
#define PLM_EVAL_SAMPLES_H
#include "recipe.h"
#include "shared/learn.h"

struct samples {
    plm_example *v;
    plm_message *messages; /* two each */
    size_t n, cap;
    char **own; /* prompts and answers */
    size_t n_own;
};
void samples_free(struct samples *s);
/* Copies both texts. weight 0: 1. */
plm_status samples_add(struct samples *s, const char *prompt, const char *answer, float weight,
                       bool synthetic, plm_error *err);

struct school { /* where adapters are made */
    plm_model *model;
    char model_sha256[65];
    const char *folder; /* of the adapters */
    const struct recipe *recipe;
    int (*on_step)(void *ctx, int step, int steps);
    void *ctx;
};

struct trained {
    char path[4300];
    double seconds;
    int steps;
    size_t tokens;
    uint64_t bytes;
};

/* start: the adapter it goes on from; NULL: a new one. */
plm_status samples_train(const struct school *s, const struct samples *examples, const char *start, int batch,
                         int steps, double rate, uint64_t seed, struct trained *out, plm_error *err);
#endif
