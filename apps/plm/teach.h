/* teach.h: a teacher asked on behalf of a person, consent first. For augment and personalize. */
#ifndef PLM_TEACH_H
#define PLM_TEACH_H
#include "app.h"

struct teaching {
    const struct args *args;
    plm_store *store;
    const plm_kind *kind;
    plm_teacher *teacher; /* NULL: none, real records alone */
    struct progress bar;
    plm_augment_forecast forecast; /* of the run */
    plm_augment_run run;
};

/* Opens --teacher, or the fetched one where there is none given; none at all is fine. */
plm_status teach_open(struct teaching *t, const struct args *a, plm_store *store, const plm_kind *kind,
                      plm_error *err);
void teach_close(struct teaching *t);
/* What the policy has to know of the teacher and the options. */
plm_augment_policy teach_policy(const struct teaching *t);
/* About what a run will take; each: as in plm_augment_preview. */
plm_status teach_forecast(struct teaching *t, const char *request, int (*each)(void *ctx, const char *body),
                          plm_error *err);
/* Where something would leave. */
void teach_say_forecast(const struct teaching *t);
json_t *forecast_json(const plm_augment_forecast *f);
/* Asks for consent if something would leave: shows what, and stores what was agreed to. */
plm_status teach_consent(struct teaching *t, const char *request, plm_error *err);
/* Draft, consent, calls. *candidates and *request are the caller's. */
plm_status teach_generate(struct teaching *t, const plm_augment_policy *p, char **request, char **candidates,
                          plm_error *err);
/* What the last run brought is in the store: a service that kept it for us may delete it. */
void teach_settle(struct teaching *t);
#endif
