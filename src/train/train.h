/* train.h: the door of train/. Examples to batches to steps to a checkpoint; the public plm_trainer_* live
 * here. What stands below is the optimiser alone, on flat arrays, for programs that check it. */
#ifndef TRAIN_TRAIN_H
#define TRAIN_TRAIN_H
#include "base/base.h"

/* The learning rate of step (from 0) of steps: a linear rise over warmup steps, then by the schedule.
 * Never 0, so that no step is wasted: the rise starts above it and a fall would reach it one step later. */
double rate_at(plm_schedule schedule, double rate, int step, int steps, int warmup);

/* sqrt of the sum of squares, in double and in order. Not finite if any g is not. */
double grad_norm(const float *g /* [n] */, size_t n);
/* What gradients are multiplied by so that their norm is at most most; most <= 0: 1. */
double grad_scale(double norm, double most);

/* AdamW with decoupled decay and bias correction, betas .9 and .999, epsilon 1e-8. */
struct adamw {
    double rate, decay;
    double scale; /* of the gradient: grad_scale */
    int64_t step; /* from 1 */
};
/* Updates w, m and v in place, each [n]. false: a weight is no longer finite (all are updated nevertheless).
 */
bool adamw_step(float *w, float *m, float *v, const float *g, size_t n, const struct adamw *how);
#endif
