/* reply.c: what a teacher wrote, as the texts that were asked for. Every reply is hostile until read: only a
 * whole object on a line of its own, with a number that was asked about and one text, is taken. What can't be
 * read is counted and never guessed at. */
#include <stdio.h>
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

static plm_status take(char **to, struct str s, plm_error *err) {
    *to = mem_dup(s.p, s.n);
    return *to ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a reply");
}

// Mode D: the two halves of a pair, a line each.
static plm_status read_two_lines(struct piece *piece, struct str s, const char *finish, plm_error *err) {
    struct str line, half[2] = {{0}};
    size_t n = 0;
    while (n < 2 && str_cut(&s, '\n', &line)) {
        line = unquote(str_trim(line));
        if (line.n) {
            half[n++] = line;
        }
    }
    if (n < 2 || half[0].n + half[1].n > WIRE_TEXT_MAX || (strcmp(finish, "length") == 0 && !s.n)) {
        piece->bad = n < 2 ? "not two lines" : "too long";
        return PLM_OK;
    }
    plm_status st = take(&piece->text, half[0], err);
    return st ? st : take(&piece->other, half[1], err);
}

static plm_status read_single(struct piece *piece, const struct task *t, const char *text, const char *finish,
                              plm_error *err) {
    struct str s = str_trim(str_of(text)), line;
    if (t->mode == PLM_MODE_PAIR && !t->judged) {
        return read_two_lines(piece, s, finish, err);
    }
    if ((t->outputs || t->judged) && str_cut(&s, '\n', &line)) {
        s = str_trim(line); // one answer: what follows is the teacher going on by itself
    } else if (strcmp(finish, "length") == 0) {
        piece->bad = "cut by length";
        return PLM_OK;
    }
    s = unquote(s);
    if (!s.n || s.n > WIRE_TEXT_MAX) {
        piece->bad = s.n ? "too long" : "empty";
        return PLM_OK;
    }
    return take(&piece->text, s, err);
}

/* ---- lines ---- */

static bool usable(const char *text) {
    return text && str_trim(str_of(text)).n && strlen(text) <= WIRE_TEXT_MAX;
}

static plm_status read_object(struct piece *pieces, size_t *surplus, const struct task *t, const json_t *doc,
                              plm_error *err) {
    const json_t *n = json_object_get(doc, "n");
    bool pair = t->mode == PLM_MODE_PAIR;
    const char *text = json_text(doc, pair         ? "related"
                                      : t->outputs ? "output"
                                                   : "input"),
               *other = pair ? json_text(doc, "unrelated") : NULL;
    size_t k = json_is_integer(n) && json_integer_value(n) >= 1 && json_integer_value(n) <= (json_int_t)t->n
                   ? (size_t)json_integer_value(n) - 1
                   : t->n;
    plm_status st = PLM_OK;
    if (k == t->n || !usable(text) || (pair && !usable(other)) || pieces[k].text) {
        ++*surplus; // of two with one number the first counts
    } else {
        st = take(&pieces[k].text, str_trim(str_of(text)), err);
        st = st || !pair ? st : take(&pieces[k].other, str_trim(str_of(other)), err);
        pieces[k].bad = NULL;
    }
    return st;
}

static plm_status read_line(struct piece *pieces, size_t *surplus, const struct task *t, struct str line,
                            plm_error *err) {
    json_t *doc = NULL;
    if (json_parse(&doc, line.p, line.n, "a line", NULL)) {
        ++*surplus;
        return PLM_OK;
    }
    plm_status st = read_object(pieces, surplus, t, doc, err);
    json_decref(doc);
    return st;
}

// A service that keeps to a schema sends one document: {"lines": [...]}. *there: it was that.
static plm_status read_list(struct piece *pieces, size_t *surplus, const struct task *t, const char *text,
                            bool *there, plm_error *err) {
    json_t *doc = NULL;
    struct str s = str_trim(str_of(text));
    plm_status st = PLM_OK;
    *there = s.n && *s.p == '{' && json_parse(&doc, s.p, s.n, "a reply", NULL) == PLM_OK &&
             json_is_array(json_object_get(doc, "lines"));
    const json_t *list = *there ? json_object_get(doc, "lines") : NULL;
    for (size_t i = 0; i < json_array_size(list) && !st; i++) {
        st = read_object(pieces, surplus, t, json_array_get(list, i), err);
    }
    json_decref(doc);
    return st;
}

enum { SURPLUS_MAX = 64 }; /* useless lines of a reply that are read */

static plm_status read_lines(struct piece *pieces, size_t *surplus, const struct task *t, const char *text,
                             const char *finish, plm_error *err) {
    bool cut = strcmp(finish, "length") == 0;
    struct str rest = str_of(text), line;
    for (size_t i = 0; i < t->n; i++) {
        pieces[i].bad = cut ? "cut by length" : "missing in the reply";
    }
    bool list;
    plm_status listed = read_list(pieces, surplus, t, text, &list, err);
    const size_t most = *surplus + SURPLUS_MAX; // what goes on and on is not read to its end
    while (!list && *surplus < most && str_cut(&rest, '\n', &line)) {
        line = str_trim(line);
        if (str_ends(line, ",")) {
            line = str_trim((struct str){line.p, line.n - 1});
        }
        bool last = !str_trim(rest).n;
        if (!line.n || *line.p != '{' || (cut && last)) {
            continue; // prose, a fence, the cut end
        }
        plm_status st = read_line(pieces, surplus, t, line, err);
        if (st) {
            return st;
        }
    }
    return listed;
}

void piece_free(struct piece *p) {
    mem_free(p->text);
    mem_free(p->other);
    *p = (struct piece){0};
}

// What only our instructions hold says that the teacher was talked into showing them.
static plm_status drop_leak(struct piece *p, const struct task *t, const char *own, plm_error *err) {
    const char *const texts[] = {p->text, p->other};
    char fence[16];
    snprintf(fence, sizeof fence, "%08llx", (unsigned long long)(t->fence & 0xffffffff));
    for (size_t i = 0; i < 2 && !p->bad; i++) {
        bool quoted = texts[i] && strstr(texts[i], fence);
        plm_status st = texts[i] && !quoted ? recipe_quoted(texts[i], own, &quoted, err) : PLM_OK;
        if (st) {
            return st;
        }
        p->bad = quoted ? "our own instructions" : NULL;
    }
    if (p->bad && p->text) {
        const char *bad = p->bad;
        piece_free(p);
        p->bad = bad;
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
    plm_status st = single || t->judged ? read_single(pieces, t, text, finish, err)
                                        : read_lines(pieces, surplus, t, text, finish, err);
    char *own = NULL;
    st = st ? st : recipe_own_words(t, single, &own, err);
    for (size_t i = 0; i < t->n && !st; i++) {
        st = drop_leak(&pieces[i], t, own, err);
    }
    plm_free(own);
    return st;
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

plm_status completion_read(plm_answer *out, const char *body, size_t len, plm_error *err) {
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
