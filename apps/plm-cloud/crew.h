/* crew.h: the workers of this process: each takes the next job of the queue, lets the recipe run against the
 * teacher, and stores every reply before the next call. */
#ifndef PLM_CLOUD_CREW_H
#define PLM_CLOUD_CREW_H
#include "config.h"
#include "store/ledger.h"

struct crew;
/* Starts them and the upkeep of the ledger; both are borrowed. */
plm_status crew_start(struct crew **out, const struct args *c, struct ledger *l, plm_error *err);
void crew_wake(struct crew *c); /* there is a new job */
/* Stops taking jobs and waits for the calls under way; jobs go back into the queue. */
void crew_stop(struct crew *c, double seconds);
const char *crew_teacher(const struct crew *c); /* its stable name; "" without workers */
bool crew_is_capable(const struct crew *c);     /* several things a call */
/* What tokens cost, in millionths of a money unit. */
int64_t crew_price(const struct args *c, int64_t tokens_in, int64_t tokens_out);

struct crew_counts {
    int64_t workers, busy, jobs_done, jobs_failed, calls, calls_shared, teacher_errors;
};
void crew_count(struct crew *c, struct crew_counts *out);
#endif
