/* label_arms.h: arms for a closed set of answers: counters of the user's labels, and probabilities of an
 * adapter that are calibrated to them. */
#ifndef PLM_EVAL_LABEL_ARMS_H
#define PLM_EVAL_LABEL_ARMS_H
#include "arms.h"
plm_status run_majority(struct cell *c, plm_error *err);
plm_status run_histogram(struct cell *c, plm_error *err);
plm_status run_task_prior(struct cell *c, plm_error *err);
/* Fitted on what the task adapter, or adapters of half of the items each, say of items that they never saw.
 */
plm_status run_task_fit(struct cell *c, plm_error *err);
plm_status run_real_prior(struct cell *c, plm_error *err);
plm_status run_system_prior(struct cell *c, plm_error *err);
#endif
