/* prior_text.c: a prior as JSON. It comes back from an adapter's file, which may be anyone's. */
#include "shared/prior.h"

#include "base/json.h"

#include <math.h>
#include <string.h>

plm_status prior_write(const struct prior *p, const char *const *label, size_t labels, char **text,
                       plm_error *err) {
    json_t *names = json_array(), *voices = json_array();
    json_t *doc = json_pack("{s:o, s:o}", "labels", names, "voices", voices);
    for (size_t l = 0; l < labels; l++)
        json_array_append_new(names, json_string(label[l]));
    for (size_t k = 0; k < p->n; k++) {
        const struct voice *v = &p->voice[k];
        json_t *bias = json_array();
        for (size_t l = 0; l < labels; l++)
            json_array_append_new(bias, json_real(v->bias[l]));
        json_array_append_new(
            voices, json_pack("{s:f, s:f, s:o}", "trust", v->trust, "weight", v->weight, "bias", bias));
    }
    plm_status st = doc ? json_write(doc, text, err) : fail(err, PLM_ENOMEM, "out of memory");
    json_decref(doc);
    return st;
}

static bool number_in(const json_t *v, double least, double most, double *out) {
    *out = json_number_value(v);
    return json_is_number(v) && *out >= least && *out <= most;
}

static bool read_voice(struct voice *v, const json_t *doc, size_t labels) {
    const json_t *bias = json_object_get(doc, "bias");
    bool good = number_in(json_object_get(doc, "trust"), 0, 1, &v->trust) &&
                number_in(json_object_get(doc, "weight"), 0, 1, &v->weight) &&
                json_array_size(bias) == labels;
    for (size_t l = 0; good && l < labels; l++)
        good = number_in(json_array_get(bias, l), -1e4, 1e4, &v->bias[l]);
    return good;
}

static plm_status read_doc(struct prior *out, const json_t *doc, const char *const *label, size_t labels,
                           plm_error *err) {
    const json_t *names = json_object_get(doc, "labels"), *voices = json_object_get(doc, "voices");
    size_t n = json_array_size(voices);
    double sum = 0;
    bool good = json_is_array(names) && n > 0 && n <= PRIOR_VOICES;
    for (size_t k = 0; good && k < n; k++) {
        good = read_voice(&out->voice[k], json_array_get(voices, k), labels);
        sum += out->voice[k].trust;
    }
    bool same = json_array_size(names) == labels;
    for (size_t l = 0; same && l < labels; l++) {
        const char *name = json_string_value(json_array_get(names, l));
        same = name && strcmp(name, label[l]) == 0;
    }
    out->n = n;
    if (json_is_array(names) && !same)
        return fail(err, PLM_EINVAL, "the adapter counts other labels than the kind has now");
    if (!good || fabs(sum - 1) > 1e-6)
        return fail(err, PLM_EFORMAT, "the adapter's label counts are damaged");
    return PLM_OK;
}

plm_status prior_read(struct prior *out, const char *text, const char *const *label, size_t labels,
                      plm_error *err) {
    json_t *doc = NULL;
    prior_none(out);
    if (labels > PRIOR_LABELS)
        return fail(err, PLM_EINVAL, "the adapter counts other labels than the kind has now");
    plm_status st = json_parse(&doc, text, strlen(text), "the adapter's label counts", err);
    if (st == PLM_OK)
        st = read_doc(out, doc, label, labels, err);
    json_decref(doc);
    if (st)
        prior_none(out);
    return st;
}

plm_status loras_prior(const struct loras *l, const plm_kind *kind, struct prior *out, plm_error *err) {
    plm_status st = PLM_OK;
    prior_none(out);
    for (size_t i = 0; st == PLM_OK && kind && i < l->n; i++) {
        const char *text = plm_adapter_get(l->adapter[i], "plm.prior");
        if (text && kind->n_labels)
            st = prior_read(out, text, kind->labels, kind->n_labels, err);
    }
    return st;
}
