/* synth.h: the door of synth/ for who keeps replies elsewhere than in a person's store (plm_augment_write, in
 * plm.h with the teachers). A request in, candidates out: plans the calls of each mode, asks a teacher, and
 * reads its replies line by line; replies are found and kept through hooks. */
#ifndef SYNTH_SYNTH_H
#define SYNTH_SYNTH_H
#include "base/base.h"

struct synth_hooks {
    void *ctx;
    const char *replay_of; /* with no teacher: the plm_teacher_name whose kept replies are replayed */
    double max_cost;       /* of this run, for a teacher behind an API; 0: what the teacher was opened with */
    /* *text NULL: not known. Both may be NULL hooks. hash: sha256 of body and call number. sources: the
     * request's record numbers quoted in the call; plm_augment_sources turns them into ids. */
    plm_status (*find)(void *ctx, const char *hash, char **text, char **finish, plm_error *err);
    plm_status (*keep)(void *ctx, const char *hash, const char *body, const plm_answer *a,
                       const int64_t *sources, size_t n_sources, plm_error *err);
    /* before bytes leave: the egress ledger; an error stops the call */
    plm_status (*leaving)(void *ctx, const char *body, size_t len, plm_error *err);
    int (*progress)(void *ctx, size_t done, size_t total, size_t candidates);
};
/* request: the JSON of plm_augment_draft. candidates: JSON lines in call order, for plm_augment_absorb.
 * The same request, seed and replies give the same candidates. t NULL: replay from hooks.find alone. */
plm_status synth_run(const char *request, plm_teacher *t, const struct synth_hooks *h, char **candidates,
                     size_t *calls, plm_error *err);
#endif
