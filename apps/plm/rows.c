/* rows.c: reads rows a line at a time; a row is refused with its line number, never half taken. */
#include "rows.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LINE = 4 << 20, MAX_ROWS = 1 << 20 };

static plm_status take_messages(struct row *r, const json_t *list, const char *what, plm_error *err) {
    size_t n = json_array_size(list);
    if (n < 2 || n > sizeof r->message / sizeof *r->message)
        return fail(err, PLM_EFORMAT, "%s: \"messages\" needs 2 to 64 entries, has %zu", what, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(list, i);
        const char *role = json_text(m, "role"), *text = json_text(m, "content");
        if (!role || !text)
            return fail(err, PLM_EFORMAT, "%s: message %zu has no \"role\" and \"content\" texts", what,
                        i + 1);
        if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0)
            return fail(err, PLM_EFORMAT,
                        "%s: message %zu has role \"%.20s\"; known: system, user, assistant", what, i + 1,
                        role);
        r->message[i] = (plm_message){role, text};
    }
    if (strcmp(r->message[n - 1].role, "assistant") != 0)
        return fail(err, PLM_EFORMAT, "%s: the last message is not the assistant's", what);
    r->n = n;
    if (n == 2 && strcmp(r->message[0].role, "user") == 0) {
        r->prompt = r->message[0].text;
        r->answer = r->message[1].text;
    }
    return PLM_OK;
}

static plm_status take_row(struct row *r, const char *line, size_t len, const char *what, plm_error *err) {
    plm_status st = json_parse(&r->doc, line, len, what, err);
    if (st)
        return st;
    const json_t *weight = json_object_get(r->doc, "weight"), *messages = json_object_get(r->doc, "messages");
    r->weight = weight ? (float)json_number_value(weight) : 1;
    if (weight && (!json_is_number(weight) || !isfinite(r->weight) || r->weight <= 0))
        return fail(err, PLM_EFORMAT, "%s: \"weight\" is no positive number", what);
    if (messages)
        return take_messages(r, messages, what, err);
    r->prompt = json_text(r->doc, "prompt");
    r->answer = json_text(r->doc, "answer");
    if (!r->prompt || !r->answer)
        return fail(err, PLM_EFORMAT, "%s: a row needs the texts \"prompt\" and \"answer\", or \"messages\"",
                    what);
    if (!*r->answer)
        return fail(err, PLM_EFORMAT, "%s: the answer is empty", what);
    r->message[0] = (plm_message){"user", r->prompt};
    r->message[1] = (plm_message){"assistant", r->answer};
    r->n = 2;
    return PLM_OK;
}

static bool blank(const char *line, size_t len) {
    return str_trim((struct str){line, len}).n == 0;
}

static plm_status grow(struct rows *out, plm_error *err) {
    if (out->n & (out->n - 1))
        return PLM_OK; /* capacity is the next power of two */
    struct row *v = mem_grow(out->v, out->n ? 2 * out->n : 1, sizeof *v);
    if (!v)
        return fail(err, PLM_ENOMEM, "out of memory after %zu rows", out->n);
    out->v = v;
    return PLM_OK;
}

static plm_status read_line(struct rows *out, const char *path, const char *line, size_t len, size_t number,
                            plm_error *err) {
    char what[300];
    snprintf(what, sizeof what, "%.240s line %zu", path, number);
    if (!line)
        return fail(err, PLM_ELIMIT, "%s: longer than %d MiB", what, MAX_LINE >> 20);
    if (out->n == MAX_ROWS)
        return fail(err, PLM_ELIMIT, "%s: more than %d rows", what, MAX_ROWS);
    plm_status st = grow(out, err);
    if (st)
        return st;
    struct row *r = &out->v[out->n];
    memset(r, 0, sizeof *r);
    r->line = number;
    st = take_row(r, line, len, what, err);
    if (st)
        json_decref(r->doc);
    else
        out->n++;
    return st;
}

plm_status rows_read(struct rows *out, const char *path, bool skip_bad, plm_error *err) {
    *out = (struct rows){0};
    struct lines *lines = NULL;
    plm_status st = lines_open(&lines, path, MAX_LINE, err);
    bool more = st == PLM_OK;
    while (st == PLM_OK) {
        const char *line;
        size_t len, number;
        st = lines_next(lines, &line, &len, &number, &more, err);
        if (st || !more)
            break;
        if (line && blank(line, len))
            continue;
        plm_error local = {0};
        st = read_line(out, path, line, len, number, &local);
        if (st && skip_bad && st != PLM_ENOMEM) {
            fprintf(stderr, "plm: skipped %s\n", local.text);
            out->bad++;
            st = PLM_OK;
        } else if (st) {
            fail(err, st, "%s", local.text);
        }
    }
    lines_close(lines);
    if (st == PLM_OK && !out->n)
        st = fail(err, PLM_EFORMAT, "%s: no rows", path);
    if (st)
        rows_free(out);
    return st;
}

void rows_free(struct rows *r) {
    for (size_t i = 0; i < r->n; i++)
        json_decref(r->v[i].doc);
    mem_free(r->v);
    *r = (struct rows){0};
}

plm_status row_encode(struct encoded *out, const plm_model *m, const struct row *r, bool raw,
                      plm_error *err) {
    if (raw || !plm_model_describe(m)->chat_template) {
        if (!r->prompt)
            return fail(err, PLM_EINVAL,
                        "line %zu: only rows of one prompt and one answer go without a chat template",
                        r->line);
        return encode_turn(out, m, NULL, r->prompt, r->answer, true, err);
    }
    return encode_messages(out, m, r->message, r->n, err);
}
