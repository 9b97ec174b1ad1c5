/* device.c: scores pairs under the device's model with whatever adapters its session uses. */
#include "device.h"

plm_status device_on(struct device *d, plm_model *m, const plm_kind *kind, plm_error *err) {
    *d = (struct device){.model = m, .kind = kind, .borrowed = true};
    return scorer_open(&d->scorer, m, NULL, err);
}

plm_status device_open(struct device *d, const struct args *a, const plm_kind *kind, plm_error *err) {
    plm_model *m = NULL;
    plm_status st = app_model(&m, a, err);
    if (st == PLM_OK)
        st = device_on(d, m, kind, err);
    if (st)
        plm_model_close(m);
    else
        d->borrowed = false;
    return st;
}

void device_close(struct device *d) {
    scorer_close(&d->scorer);
    if (!d->borrowed)
        plm_model_close(d->model);
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
            st = app_encode(&e[i], d->model, NULL, prompt, outputs[i], false, err);
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
