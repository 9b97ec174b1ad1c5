/* records.h: records and synthetic rows of the store as lists in memory, for commands that need all of them.
 */
#ifndef SHARED_RECORDS_H
#define SHARED_RECORDS_H
#include "base/base.h"
#include "plm.h"

struct records {
    plm_record *v; /* strings owned */
    size_t n;
};
plm_status records_load(struct records *out, plm_store *st, const plm_query *q, plm_error *err);
void records_free(struct records *r);

struct synthetics {
    plm_synthetic *v; /* strings and sources owned */
    size_t n;
};
/* kept_only: without those that a filter dropped. */
plm_status synthetics_load(struct synthetics *out, plm_store *st, const char *user, const char *kind,
                           bool kept_only, plm_error *err);
void synthetics_cut(struct synthetics *s, size_t n); /* lets go of all but the first n */
void synthetics_free(struct synthetics *s);
#endif
