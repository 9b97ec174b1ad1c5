/* reply.c: what a teacher wrote, as the texts that were asked for. Every reply is hostile until read: only a
 * whole object on a line of its own, with a number that was asked about and one text, is taken. What can't be
 * read is counted and never guessed at. */
#include <string.h>

#include "synth/inside.h"

/* ---- single: the reply is the text ---- */

// A pair of quotation marks around the whole, which weak teachers like to add.
static struct str unquote(struct str t) {
    static const char *const pairs[][2] = {
        {"\"", "\""}, {"'", "'"}, {"\xe2\x80\x9c", "\xe2\x80\x9d"}, {"`", "`"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        size_t a = strlen(pairs[i][0]), b = strlen(pairs[i][1]);
        if (t.n > a + b && str_starts(t, pairs[i][0]) && str_ends(t, pairs[i][1]) &&
            !memmem(t.p + a, t.n - a - b, pairs[i][1], b)) {
            return str_trim((struct str){t.p + a, t.n - a - b});
        }
    }
    return t;
}

static plm_status read_single(struct piece *piece, const struct task *t, const char *text, const char *finish,
                              plm_error *err) {
    struct str s = str_trim(str_of(text)), line;
    if (t->outputs && str_cut(&s, '\n', &line)) {
        s = str_trim(line); // one answer: what follows is the teacher going on by itself
    } else if (strcmp(finish, "length") == 0) {
        piece->bad = "cut by length";
        return PLM_OK;
    }
    s = unquote(s);
    if (!s.n) {
        piece->bad = "empty";
        return PLM_OK;
    }
    piece->text = mem_dup(s.p, s.n);
    return piece->text ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a reply");
}

/* ---- lines ---- */

static plm_status read_object(struct piece *pieces, size_t *surplus, const struct task *t, struct str line,
                              plm_error *err) {
    json_t *doc = NULL;
    if (json_parse(&doc, line.p, line.n, "a line", NULL)) {
        ++*surplus;
        return PLM_OK;
    }
    const json_t *n = json_object_get(doc, "n");
    const char *text = json_text(doc, t->outputs ? "output" : "input");
    size_t k = json_is_integer(n) && json_integer_value(n) >= 1 && json_integer_value(n) <= (json_int_t)t->n
                   ? (size_t)json_integer_value(n) - 1
                   : t->n;
    plm_status st = PLM_OK;
    if (k == t->n || !text || !str_trim(str_of(text)).n || strlen(text) > WIRE_TEXT_MAX) {
        ++*surplus;
    } else if (pieces[k].text) {
        ++*surplus; // the first one counts
    } else {
        struct str s = str_trim(str_of(text));
        pieces[k].text = mem_dup(s.p, s.n);
        pieces[k].bad = NULL;
        st = pieces[k].text ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a reply");
    }
    json_decref(doc);
    return st;
}

static plm_status read_lines(struct piece *pieces, size_t *surplus, const struct task *t, const char *text,
                             const char *finish, plm_error *err) {
    bool cut = strcmp(finish, "length") == 0;
    struct str rest = str_of(text), line;
    for (size_t i = 0; i < t->n; i++) {
        pieces[i].bad = cut ? "cut by length" : "missing in the reply";
    }
    while (str_cut(&rest, '\n', &line)) {
        line = str_trim(line);
        if (str_ends(line, ",")) {
            line = str_trim((struct str){line.p, line.n - 1});
        }
        bool last = !str_trim(rest).n;
        if (!line.n || *line.p != '{' || (cut && last)) {
            continue; // prose, a fence, the cut end
        }
        plm_status st = read_object(pieces, surplus, t, line, err);
        if (st) {
            return st;
        }
    }
    return PLM_OK;
}

plm_status reply_read(struct piece *pieces, size_t *surplus, const struct task *t, bool single,
                      const char *text, const char *finish, plm_error *err) {
    memset(pieces, 0, t->n * sizeof *pieces);
    if (strcmp(finish, "none") == 0 || !utf8_valid(text, strlen(text), NULL)) {
        for (size_t i = 0; i < t->n; i++) {
            pieces[i].bad = "no reply";
        }
        return PLM_OK;
    }
    return single ? read_single(pieces, t, text, finish, err)
                  : read_lines(pieces, surplus, t, text, finish, err);
}

/* ---- the envelope ---- */

static int64_t usage_of(const json_t *doc, const char *key) {
    const json_t *v = json_object_get(json_object_get(doc, "usage"), key);
    json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;
    return n >= 0 && n <= 100000000 ? n : -1;
}

static const char *what_is_wrong(const json_t *doc, const char **text, const char **finish) {
    const json_t *choice = json_array_get(json_object_get(doc, "choices"), 0);
    const json_t *message = json_object_get(choice, "message"),
                 *refusal = json_object_get(message, "refusal");
    const char *reason = json_text(choice, "finish_reason");
    if (!json_is_object(doc)) {
        return "not JSON";
    }
    if (json_object_get(doc, "error") && !json_is_null(json_object_get(doc, "error"))) {
        return "an error";
    }
    if (!json_is_object(message)) {
        return "no choices";
    }
    if (json_is_string(refusal) && json_string_length(refusal)) {
        return "a refusal";
    }
    if (reason && (strcmp(reason, "content_filter") == 0 || strcmp(reason, "tool_calls") == 0 ||
                   strcmp(reason, "function_call") == 0)) {
        return "stopped by the provider";
    }
    *text = json_text(message, "content");
    if (!*text || !str_trim(str_of(*text)).n) {
        return "no text";
    }
    // Whoever does not say that the text is whole may have cut it.
    *finish = reason && strcmp(reason, "stop") == 0 ? "stop" : "length";
    return NULL;
}

plm_status completion_read(struct answer *out, const char *body, size_t len, plm_error *err) {
    json_t *doc = NULL;
    const char *text = "", *finish = "none";
    plm_status st = json_parse(&doc, body, len, "a reply", err);
    if (st == PLM_ENOMEM) {
        return st;
    }
    out->why = st ? "not JSON" : what_is_wrong(doc, &text, &finish);
    out->finish = out->why ? "none" : finish;
    out->text = mem_dupz(out->why ? "" : text);
    out->tokens_in = st ? -1 : usage_of(doc, "prompt_tokens");
    out->tokens_out = st ? -1 : usage_of(doc, "completion_tokens");
    if (!st) {
        json_decref(doc);
    }
    return out->text ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a reply");
}
