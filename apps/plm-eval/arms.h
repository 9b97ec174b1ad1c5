/* arms.h: the ways of answering a user's queries that are compared, as a table, and one run of one of them.
 */
#ifndef PLM_EVAL_ARMS_H
#define PLM_EVAL_ARMS_H
#include "lab.h"
#include "synthetic.h"

struct cell;

struct arm_kind {
    const char *name, *what;
    bool learns;       /* trains an adapter of the user's own: needs a point above 0 */
    bool synthetic;    /* needs a teacher that writes */
    bool labels, text; /* for tasks with a closed set of answers, and for the others */
    plm_status (*run)(struct cell *c, plm_error *err);
};
extern const struct arm_kind arm_kinds[]; /* ended by a row without a name */

/* One arm as asked for: "real+syn", "real+syn@4" (with 4 items by BM25, in training and test alike),
 * "real+syn:0.5" (half way from the task adapter). */
struct arm_spec {
    const struct arm_kind *kind;
    size_t k;
    double scale;
    char name[60]; /* without @4 */
};
plm_status arm_parse(struct arm_spec *out, struct str text, plm_error *err);

struct cell { /* one arm, user, point and seed */
    struct lab *lab;
    const struct arm_spec *arm;
    const struct view *view;
    const char *point; /* "8", "all" */
    uint64_t seed;
    struct written *written; /* of this view, opened by the first arm that needs it */
    const json_t *others;    /* finished cells of this view by arm name, "base@4": for "mixture" */

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
/* For arms in files of their own: opens c->written, and asks the adapter at path, scale of the way from the
 * task adapter to it. */
plm_status cell_written(struct cell *c, plm_error *err);
plm_status cell_ask(struct cell *c, const char *path, double scale, plm_error *err);
#endif
