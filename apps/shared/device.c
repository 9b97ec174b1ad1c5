/* device.c: scores pairs under the device's model with whatever adapters its session uses. */
#include "shared/device.h"

plm_status device_open(struct device *d, plm_model *m, const plm_kind *kind, plm_error *err) {
    *d = (struct device){.model = m, .kind = kind};
    return scorer_open(&d->scorer, m, NULL, err);
}

void device_close(struct device *d) {
    scorer_close(&d->scorer);
    *d = (struct device){0};
}

plm_status device_scores(struct device *d, const char *const *inputs, const char *const *outputs, size_t n,
                         double *nll, plm_error *err) {
    struct encoded e[SCORED_AT_ONCE] = {{0}};
    plm_status st = PLM_OK;
    for (size_t i = 0; st == PLM_OK && i < n; i++) {
        char *prompt = NULL;
        st = plm_kind_prompt(d->kind, inputs[i], &prompt, err);
        if (st == PLM_OK)
            st = encode_turn(&e[i], d->model, NULL, prompt, outputs[i], false, err);
        plm_free(prompt);
    }
    if (st == PLM_OK)
        st = scorer_run(&d->scorer, e, n, nll, err);
    for (size_t i = 0; i < n; i++)
        encoded_free(&e[i]);
    return st;
}

plm_status device_score(struct device *d, const char *input, const char *output, double *nll,
                        plm_error *err) {
    return device_scores(d, &input, &output, 1, nll, err);
}

int device_nll(void *ctx, const char *input, const char *output, double *nll) {
    plm_error ignored;
    return device_score(ctx, input, output, nll, &ignored) != PLM_OK;
}
