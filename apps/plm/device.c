/* device.c: scores pairs under the device's model with whatever adapters its session uses. */
#include "device.h"

plm_status device_on(struct device *d, plm_model *m, const plm_kind *kind, plm_error *err) {
    *d = (struct device){.model = m, .kind = kind, .borrowed = true};
    return plm_session_new(&d->session, m, NULL, err);
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
    plm_session_free(d->session);
    if (!d->borrowed)
        plm_model_close(d->model);
    *d = (struct device){0};
}

plm_status device_score(struct device *d, const char *input, const char *output, double *nll,
                        plm_error *err) {
    char *prompt = NULL;
    struct encoded e = {0};
    size_t tokens = 0;
    plm_status st = plm_kind_prompt(d->kind, input, &prompt, err);
    if (st == PLM_OK)
        st = app_encode(&e, d->model, NULL, prompt, output, false, err);
    if (st == PLM_OK)
        st = app_answer_nll(d->session, &e, nll, &tokens, err);
    if (st == PLM_OK)
        *nll /= (double)tokens;
    encoded_free(&e);
    plm_free(prompt);
    return st;
}

int device_nll(void *ctx, const char *input, const char *output, double *nll) {
    plm_error ignored;
    return device_score(ctx, input, output, nll, &ignored) != PLM_OK;
}
