/* rate.c: the learning rate as a function of the step alone, so that a resumed run needs no state for it. */
#include "train/train.h"
#include <math.h>

double rate_at(plm_schedule schedule, double rate, int step, int steps, int warmup) {
    if (step < warmup) {
        return rate * (step + 1) / (warmup + 1.0);
    }
    double done = (double)(step - warmup) / (steps - warmup); /* 0 at the first step past the rise, below 1 */
    switch (schedule) {
    case PLM_COSINE:
        return rate * 0.5 * (1 + cos(3.14159265358979323846 * done));
    case PLM_CONSTANT:
        return rate;
    case PLM_LINEAR:
        break;
    }
    return rate * (1 - done);
}
