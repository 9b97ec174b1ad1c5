/* device.h: the device's own model as a judge of examples and arms: the NLL of an answer under it. */
#ifndef SHARED_DEVICE_H
#define SHARED_DEVICE_H
#include "shared/encode.h"

struct device {
    plm_model *model; /* borrowed */
    struct scorer scorer;
    const plm_kind *kind;
};
plm_status device_open(struct device *d, plm_model *m, const plm_kind *kind, plm_error *err);
void device_close(struct device *d);
/* Mean target NLL of output as the answer to input; a plm_nll_fn. Nonzero: it could not be computed. */
int device_nll(void *ctx, const char *input, const char *output, double *nll);
plm_status device_score(struct device *d, const char *input, const char *output, double *nll, plm_error *err);
/* The same for n <= SCORED_AT_ONCE pairs. */
plm_status device_scores(struct device *d, const char *const *inputs, const char *const *outputs, size_t n,
                         double *nll, plm_error *err);
#endif
