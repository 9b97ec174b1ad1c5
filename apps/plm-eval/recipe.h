/* recipe.h: the frozen configuration of an evaluation: what was tuned before the queries were looked at. */
#ifndef PLM_EVAL_RECIPE_H
#define PLM_EVAL_RECIPE_H
#include "base/json.h"
#include "base/base.h"

struct tuning { /* of a user's adapter */
    double rate, scale;
    int epochs, batch, least_steps, most_steps;
};

struct recipe {
    int rank, layers;                           /* of every adapter; layers 0: all, else the upper ones */
    int task_examples, task_batch, task_epochs; /* the task adapter */
    double task_rate;
    struct tuning user, best; /* every arm on top of it; "real-best" has its own */
    double synthetic_weight, real_last, dropout;
    int donors, history_tokens;
    char hash[17]; /* of all of it */
};

/* From a JSON file with the names above, "user" and "best" being objects; NULL: the defaults. An unknown name
 * is refused. */
plm_status recipe_read(struct recipe *out, const char *path, plm_error *err);
/* How many steps n real examples are trained for. */
int tuning_steps(const struct tuning *t, size_t n);
#endif
