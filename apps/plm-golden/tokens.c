/* tokens.c: hard strings, texts and chat prompts have to give exactly the reference's ids. */
#include "golden.h"
#include <string.h>

static plm_status encode(const plm_model *m, const char *text, size_t len, bool special, int32_t **ids,
                         size_t *n, plm_error *err) {
    plm_status st = plm_encode(m, text, len, special, NULL, 0, n, err);
    if (st)
        return st;
    *ids = mem_alloc(*n + 1, sizeof **ids);
    if (!*ids)
        return fail(err, PLM_ENOMEM, "no memory for %zu ids", *n);
    return plm_encode(m, text, len, special, *ids, *n, n, err);
}

/* Are the ids those of the array? */
static bool same(const json_t *array, const int32_t *ids, size_t n) {
    if (!json_is_array(array) || json_array_size(array) != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (json_integer_value(json_array_get(array, i)) != ids[i])
            return false;
    }
    return true;
}

/* Adds to *wrong when the text's ids differ. */
static plm_status compare(const struct golden *g, const json_t *text, const json_t *want, bool special,
                          int *wrong, plm_error *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    plm_status st =
        encode(g->model, json_string_value(text), json_string_length(text), special, &ids, &n, err);
    if (!st && !same(want, ids, n))
        ++*wrong;
    mem_free(ids);
    return st;
}

static plm_status check_strings(struct golden *g, const json_t *doc, plm_error *err) {
    int plain = 0, special = 0;
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(doc, "strings"), i, row) {
        const json_t *text = json_object_get(row, "text");
        plm_status st = compare(g, text, json_object_get(row, "plain"), false, &plain, err);
        if (!st)
            st = compare(g, text, json_object_get(row, "special"), true, &special, err);
        if (st)
            return st;
    }
    report_most(g, "tokens.plain", plain, 0);
    report_most(g, "tokens.special", special, 0);
    return PLM_OK;
}

static plm_status check_texts(struct golden *g, const json_t *doc, plm_error *err) {
    json_t *texts = NULL, *row;
    plm_status st = load_json(g, "texts", "", ".json", &texts, err);
    int wrong = 0;
    size_t i;
    if (st)
        return st;
    json_array_foreach(texts, i, row) {
        const char *name = json_text(row, "name");
        const json_t *want = name ? json_object_get(json_object_get(doc, "texts"), name) : NULL;
        if (want)
            st = compare(g, json_object_get(row, "text"), want, false, &wrong, err);
        if (st)
            break;
    }
    json_decref(texts);
    if (!st)
        report_most(g, "tokens.texts", wrong, 0);
    return st;
}

static plm_status chat_ids(const struct golden *g, const json_t *messages, int32_t **ids, size_t *n,
                           plm_error *err) {
    plm_message m[64];
    size_t count = json_array_size(messages);
    if (count > 64)
        return fail(err, PLM_ELIMIT, "a prompt of %zu messages", count);
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_array_get(messages, i);
        m[i] = (plm_message){json_text(one, "role"), json_text(one, "content")};
    }
    plm_status st = plm_chat_encode(g->model, m, count, NULL, NULL, 0, n, err);
    if (st)
        return st;
    *ids = mem_alloc(*n + 1, sizeof **ids);
    if (!*ids)
        return fail(err, PLM_ENOMEM, "no memory for %zu ids", *n);
    return plm_chat_encode(g->model, m, count, *ids, NULL, *n, n, err);
}

static plm_status check_prompts(struct golden *g, const json_t *doc, plm_error *err) {
    json_t *prompts = NULL, *row;
    plm_status st = load_json(g, "prompts", "", ".json", &prompts, err);
    int wrong = 0;
    size_t i, j;
    if (st)
        return st;
    json_array_foreach(json_object_get(doc, "prompts"), i, row) {
        const json_t *want = json_object_get(row, "ids"), *rendered = json_object_get(row, "rendered"), *one;
        const char *name = json_text(row, "name");
        bool raw = json_is_true(json_object_get(row, "raw"));
        st = compare(g, rendered, want, !raw, &wrong, err);
        json_array_foreach(prompts, j, one) {
            if (st || raw || !name || !json_text(one, "name") || strcmp(json_text(one, "name"), name) != 0)
                continue;
            int32_t *ids = NULL;
            size_t n = 0;
            st = chat_ids(g, json_object_get(one, "messages"), &ids, &n, err);
            if (!st && !same(want, ids, n))
                wrong++;
            mem_free(ids);
        }
        if (st)
            break;
    }
    json_decref(prompts);
    if (!st)
        report_most(g, "tokens.prompts", wrong, 0);
    return st;
}

plm_status check_tokens(struct golden *g, plm_error *err) {
    if (!has_file(g, "tokens-", g->name, ".json"))
        return PLM_OK;
    json_t *doc = NULL;
    plm_status st = load_json(g, "tokens-", g->name, ".json", &doc, err);
    if (!st)
        st = check_strings(g, doc, err);
    if (!st)
        st = check_texts(g, doc, err);
    if (!st)
        st = check_prompts(g, doc, err);
    json_decref(doc);
    return st;
}
