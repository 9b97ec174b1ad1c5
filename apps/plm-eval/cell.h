/* cell.h: one arm, user, point and seed: what it is asked with, and what it found. */
#ifndef PLM_EVAL_CELL_H
#define PLM_EVAL_CELL_H
#include "lab.h"
#include "shared/prior.h"
#include "synthetic.h"

struct arm_spec;

/* What adapters said of the labels of this view's queries. Arms that only weigh the same probabilities in
 * another way need not ask again. */
enum { REMEMBERED = 12 };
struct memory {
    struct remembered {
        char key[120];  /* the adapter's file, scale, k */
        double *nats;   /* [queries][labels], renormalised */
        size_t *tokens; /* [queries] of the prompt */
        struct pace pace;
    } v[REMEMBERED];
    size_t n;
};
void memory_free(struct memory *m);

struct cell {
    struct lab *lab;
    const struct arm_spec *arm;
    const struct view *view;
    const char *point; /* "8", "all" */
    uint64_t seed;
    struct written *written; /* of this view, opened by the first arm that needs it */
    struct memory *memory;   /* of this view */
    const json_t *others;    /* finished cells of this view by arm name, "base@4": for "mixture" */
    bool time_first;         /* measure the time to the first token */
    bool only_score;         /* no answers are wanted */

    struct reply *replies; /* [queries]; out */
    double *nll;           /* [queries] the primary metric; NULL: this arm gives no probabilities */
    bool answers;          /* replies hold what was answered */
    struct trained cost;
    struct pace pace;
    struct written others_rows; /* "generic": written from other people's items */
    const struct written *used; /* whose rows were learned; NULL: none */
    json_t *extra;              /* more for the line: "gate", "bound"; may be NULL */
};
void cell_free(struct cell *c);
/* Makes replies, and nll where it is wanted. */
plm_status cell_room(struct cell *c, bool nll, plm_error *err);

/* Examples. The user's items as they are, but for those held (NULL: none); with k, each behind its best
 * earlier ones. */
plm_status cell_add_real(const struct cell *c, const struct view *v, const bool *held, struct samples *s,
                         plm_error *err);
/* The view's item as a prompt of training: behind its k best earlier ones. *prompt: plm_free. */
plm_status cell_item_prompt(const struct cell *c, struct retriever *r, const struct view *v, size_t i,
                            char **prompt, plm_error *err);
/* An example that is not the user's own, with the weight of synthetic ones; k as above, from all items. */
plm_status cell_add_other(const struct cell *c, struct samples *s, const char *prompt, const char *answer,
                          plm_error *err);
plm_status cell_add_rows(const struct cell *c, struct samples *s, const struct synthetics *rows, size_t most,
                         plm_error *err);

/* Trains on the examples from the task adapter on, and asks what came of it. */
plm_status cell_study(struct cell *c, const struct samples *s, const struct tuning *how, int steps,
                      struct trained *out, plm_error *err);
plm_status cell_study_and_ask(struct cell *c, const struct samples *s, const struct tuning *how, int steps,
                              plm_error *err);
/* The adapter at path, scale of the way from the task adapter to it. */
plm_status cell_loras(const struct cell *c, struct loras *l, const char *path, double scale, plm_error *err);
int cell_steps(const struct cell *c); /* of the system, for this view */

/* The prompts of all queries, with k of the view's items in front. *out: texts_free. */
plm_status cell_prompts(const struct cell *c, const plm_model *m, char ***out, plm_error *err);
void texts_free(char **v, size_t n);
/* Asks a student with adapters the view's queries; fills replies and nll. */
plm_status cell_ask_student(struct cell *c, struct student *s, const plm_lora *uses, size_t n_uses,
                            plm_error *err);
/* The same with the adapter at path ("" or NULL: the base), scale of the way from the task adapter to it. */
plm_status cell_ask(struct cell *c, const char *path, double scale, plm_error *err);
/* What was asked, its label probabilities calibrated. */
void cell_calibrate(struct cell *c, const struct prior *p);
plm_status cell_written(struct cell *c, plm_error *err); /* opens c->written */
#endif
