/* arms.h: the ways of answering a user's queries that are compared, as a table, and one run of one of them.
 */
#ifndef PLM_EVAL_ARMS_H
#define PLM_EVAL_ARMS_H
#include "cell.h"

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
#endif
