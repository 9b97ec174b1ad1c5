/* synthetic.h: what a teacher writes for a user at a point, filtered by the product's own rules. */
#ifndef PLM_EVAL_SYNTHETIC_H
#define PLM_EVAL_SYNTHETIC_H
#include "lab.h"
#include "shared/records.h"

struct written {
    char user[200];              /* what the store calls it */
    struct synthetics kept, raw; /* raw: what could be read at all, unfiltered, in the order of the calls */
    plm_absorb_report filter;
    size_t asked, near; /* calls; rows left out of both for being near duplicates of a query */
    int64_t tokens_in, tokens_out;
    double seconds;
};

/* Rows made from the items of a view. Replies are kept in the run's private store and not asked for again.
 * items may be other people's ("generic"); what names them in the store. */
plm_status written_open(struct written *w, struct lab *l, const char *what, const struct item *const *items,
                        size_t n, const struct view *guard, uint64_t seed, plm_error *err);
/* The records that the rows' sources name. */
plm_status written_records(const struct written *w, const struct lab *l, struct records *out, plm_error *err);
/* Was the row made from one of the view's items with held[i] set? */
bool written_from(const plm_synthetic *row, const struct records *records, const struct view *v,
                  const bool *held);
void written_close(struct written *w);
#endif
