/* view.h: what an arm sees of a user at one point: the items that it may learn from, and the queries. */
#ifndef PLM_EVAL_VIEW_H
#define PLM_EVAL_VIEW_H
#include "task.h"

enum split {
    SPLIT_DEV,    /* the file's queries; the whole history is before them */
    SPLIT_PSEUDO, /* the last 8 items as queries: for tuning */
    SPLIT_ROLLING /* learn from the first 8 items, queries are the later ones: for power */
};
enum { PSEUDO = 8, ALL_ITEMS = -1 };
bool split_of(const char *name, enum split *out);

struct view {
    const struct user *user;
    size_t index;              /* of the user */
    const struct item **items; /* the newest `point` ones before the queries, oldest first */
    size_t n, from;            /* from: the first item's place in the history, before anything was left out */
    const struct query *queries;
    size_t n_queries;
    struct query *own; /* of items that serve as queries */
    size_t near;       /* items left out for being near duplicates of a query */
};

/* point: how many of the newest items, or ALL_ITEMS. most: queries at most, the first ones; 0: all. guard:
 * items near a query are left out. */
plm_status view_open(struct view *v, const struct dataset *d, size_t user, enum split split, int point,
                     size_t most, bool guard, plm_error *err);
void view_close(struct view *v);

/* Is the input a near duplicate of any query's: equal once normalised, word triples alike by 0.6 (Jaccard),
 * or a run of eight words in common? */
plm_status view_leaks(const struct view *v, const struct dataset *d, const char *input, bool *leaks,
                      plm_error *err);
#endif
