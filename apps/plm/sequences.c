/* sequences.c: reads [[id,...],...]; every id is checked against the vocabulary. */
#include "sequences.h"

enum { MAX_IDS_FILE = 64 << 20 };

void sequences_free(struct sequences *s) {
    for (size_t i = 0; i < s->n; i++)
        mem_free(s->ids[i]);
    mem_free(s->ids);
    mem_free(s->len);
    *s = (struct sequences){0};
}

static plm_status take_one(struct sequences *s, const json_t *list, const char *path, int vocab,
                           plm_error *err) {
    size_t i = s->n, n = json_array_size(list);
    if (!json_is_array(list))
        return fail(err, PLM_EFORMAT, "%s: sequence %zu is no list of ids", path, i);
    s->ids[i] = mem_alloc(n ? n : 1, sizeof **s->ids);
    if (!s->ids[i])
        return fail(err, PLM_ENOMEM, "out of memory");
    s->len[i] = n;
    s->n++;
    for (size_t j = 0; j < n; j++) {
        const json_t *id = json_array_get(list, j);
        json_int_t v = json_integer_value(id);
        if (!json_is_integer(id) || v < 0 || v >= vocab)
            return fail(err, PLM_EFORMAT, "%s: sequence %zu, position %zu is no token id below %d", path, i,
                        j, vocab);
        s->ids[i][j] = (int32_t)v;
    }
    return PLM_OK;
}

plm_status sequences_read(struct sequences *out, const char *path, int vocab, plm_error *err) {
    *out = (struct sequences){0};
    struct bytes text;
    json_t *doc = NULL;
    plm_status st = app_read(path, MAX_IDS_FILE, &text, err);
    if (st == PLM_OK)
        st = json_parse(&doc, text.data, text.len, path, err);
    size_t n = json_array_size(doc);
    if (st == PLM_OK && (!json_is_array(doc) || !n))
        st = fail(err, PLM_EFORMAT, "%s: not a list of sequences [[id,...],...]", path);
    if (st == PLM_OK) {
        out->ids = mem_zero(n, sizeof *out->ids);
        out->len = mem_zero(n, sizeof *out->len);
        if (!out->ids || !out->len)
            st = fail(err, PLM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; st == PLM_OK && i < n; i++)
        st = take_one(out, json_array_get(doc, i), path, vocab, err);
    json_decref(doc);
    bytes_free(&text);
    if (st)
        sequences_free(out);
    return st;
}
