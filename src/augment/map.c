/* map.c: what stays on the device of a request: which record each number is, and where in a record the text
 * behind each placeholder stands. Kept as a setting of the store under the request's id, and holding no text
 * of anybody, so that forgetting a record needs no visit here. */
#include "augment/inside.h"

#include <stdio.h>
#include <string.h>

static void setting_name(const char *request, char out[64]) {
    snprintf(out, 64, "augment.map.%.32s", request);
}

plm_status map_keep(plm_store *st, const char *request, const int64_t *records, size_t n_records,
                    const struct redactor *r, plm_error *err) {
    struct bytes b;
    bytes_init(&b, (size_t)WIRE_REQUEST_MAX);
    bytes_puts(&b, "{\"records\":[");
    for (size_t i = 0; i < n_records; i++) {
        bytes_printf(&b, "%s%lld", i ? "," : "", (long long)records[i]);
    }
    bytes_puts(&b, "],\"hidden\":[");
    for (size_t i = 0; i < r->n; i++) {
        const struct hidden *h = &r->slots[i].where;
        bytes_printf(&b, "%s[\"%s\",%lld,%d,%zu,%zu]", i ? "," : "", r->slots[i].placeholder,
                     (long long)h->record, h->in_output, h->at, h->len);
    }
    bytes_puts(&b, "]}");
    plm_status status = bytes_status(&b, "the map of a request", err);
    if (!status) {
        char name[64];
        setting_name(request, name);
        status = plm_store_set(st, name, b.data, err);
    }
    bytes_free(&b);
    return status;
}

static bool read_hidden(struct legend *m, const json_t *a) {
    size_t n = json_array_size(a);
    m->hidden = mem_zero(n + 1, sizeof *m->hidden);
    for (size_t i = 0; m->hidden && i < n; i++) {
        const json_t *row = json_array_get(a, i);
        const char *name = json_string_value(json_array_get(row, 0));
        json_int_t v[4];
        for (size_t k = 0; k < 4; k++) {
            const json_t *x = json_array_get(row, k + 1);
            v[k] = json_is_integer(x) ? json_integer_value(x) : -1;
        }
        if (!name || strlen(name) >= sizeof m->hidden[i].name || v[1] < 0 || v[2] < 0 || v[3] < 1) {
            return false;
        }
        strcpy(m->hidden[i].name, name);
        m->hidden[i].where = (struct hidden){v[0], v[1] != 0, (size_t)v[2], (size_t)v[3]};
        m->n_hidden = i + 1;
    }
    return m->hidden != NULL;
}

static bool read_records(struct legend *m, const json_t *a) {
    size_t n = json_array_size(a);
    m->records = mem_zero(n + 1, sizeof *m->records);
    for (size_t i = 0; m->records && i < n; i++) {
        m->records[i] = json_integer_value(json_array_get(a, i));
        m->n_records = i + 1;
    }
    return m->records != NULL;
}

plm_status map_load(struct legend *out, plm_store *st, const char *request, plm_error *err) {
    *out = (struct legend){0};
    snprintf(out->request, sizeof out->request, "%s", request);
    char name[64], *text = NULL;
    setting_name(request, name);
    plm_status status = plm_store_get(st, name, &text, err);
    if (status) {
        return status;
    }
    if (!text) {
        return fail(err, PLM_ENOTFOUND, "this request was not drafted from this store");
    }
    json_t *doc = NULL;
    status = json_parse(&doc, text, strlen(text), "the map of a request", err);
    if (!status && (!read_records(out, json_object_get(doc, "records")) ||
                    !read_hidden(out, json_object_get(doc, "hidden")))) {
        status = fail(err, PLM_EFORMAT, "the store's map of this request is damaged; draft it again.");
        map_free(out);
    }
    json_decref(doc);
    plm_free(text);
    return status;
}

void map_free(struct legend *m) {
    mem_free(m->records);
    mem_free(m->hidden);
    *m = (struct legend){0};
}

plm_status plm_augment_sources(plm_store *st, const char *request, const int64_t *numbers, size_t n,
                               int64_t *ids, plm_error *err) {
    struct wire_request q;
    struct legend m;
    plm_status status = wire_request_parse(&q, request, strlen(request), err);
    if (status) {
        return status;
    }
    status = map_load(&m, st, q.id, err);
    wire_request_free(&q);
    if (status) {
        return status;
    }
    for (size_t i = 0; i < n && !status; i++) {
        if (numbers[i] < 1 || (size_t)numbers[i] > m.n_records) {
            status = fail(err, PLM_EINVAL, "there is no record %lld in this request", (long long)numbers[i]);
        } else {
            ids[i] = m.records[numbers[i] - 1];
        }
    }
    map_free(&m);
    return status;
}
