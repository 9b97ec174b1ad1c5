/* answer.h: a model with the adapter that fits a user and a task, ready to answer. */
#ifndef PLM_ANSWER_H
#define PLM_ANSWER_H
#include "app.h"
#include "shared/prior.h"

struct answerer {
    plm_model *model;
    plm_session *session;
    plm_kinds *kinds;
    const plm_kind *kind; /* NULL: a free question */
    struct loras loras;
    struct prior prior; /* that the adapter carries */
    char with[200];     /* "base model", "note adapter 3 (real+syn)" */
    bool raw;
};
/* Adapter: --adapter if given, --base none, else the store's active one of (user, task). */
plm_status answerer_open(struct answerer *w, const struct args *a, plm_error *err);
void answerer_close(struct answerer *w);
/* The ids of a question: the kind's instruction and the question, in the model's template. */
plm_status answerer_encode(const struct answerer *w, const char *system, const char *question,
                           struct encoded *out, plm_error *err);
/* Of a kind's closed set of answers, the likeliest, by the adapter and the person's label counts that it may
 * carry. */
plm_status answerer_label(const struct answerer *w, const char *system, const char *question,
                          const char **best, double *probability, plm_error *err);
#endif
