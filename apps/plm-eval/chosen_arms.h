/* chosen_arms.h: half of the synthetic rows: those that pull the adapter where real rows do, or any. */
#ifndef PLM_EVAL_CHOSEN_ARMS_H
#define PLM_EVAL_CHOSEN_ARMS_H
#include "arms.h"
plm_status run_chosen(struct cell *c, plm_error *err);
plm_status run_half(struct cell *c, plm_error *err);
/* score[rows]: higher is more like the real items of the folds that the row was not made from. */
plm_status chosen_scores(struct cell *c, const struct synthetics *rows, const struct records *records,
                         double *score, plm_error *err);
#endif
