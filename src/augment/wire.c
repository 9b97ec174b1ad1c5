/* wire.c: requests and candidate lines as JSON, written and read. The reader trusts nothing: every field
 * has a type, a range and a place it may point to. docs/wire.md says the same in words. */
#include "augment/inside.h"

#include <string.h>

#include "base/hash.h"

static const struct {
    unsigned mode;
    const char *name;
} mode_table[WIRE_MODES] = {{PLM_MODE_REVERSE, "reverse"},
                            {PLM_MODE_REWRITE, "rewrite"},
                            {PLM_MODE_NEW, "new"},
                            {PLM_MODE_LABEL, "label"},
                            {PLM_MODE_PAIR, "pair"}};

const char *mode_name(unsigned mode) {
    for (size_t i = 0; i < WIRE_MODES; i++) {
        if (mode_table[i].mode == mode) {
            return mode_table[i].name;
        }
    }
    return NULL;
}

unsigned mode_named(const char *name) {
    for (size_t i = 0; name && i < WIRE_MODES; i++) {
        if (strcmp(mode_table[i].name, name) == 0) {
            return mode_table[i].mode;
        }
    }
    return 0;
}

unsigned mode_at(size_t i) {
    return mode_table[i].mode;
}

/* ---- writing ---- */

// json_object_set_new fails when either side is NULL, so one test at the end of a chain is enough.
static bool put(json_t *o, const char *key, json_t *value) {
    return json_object_set_new(o, key, value) == 0;
}

static json_t *text(const char *s) {
    return json_string(s ? s : "");
}

static json_t *range_json(const struct wire_range *r) {
    json_t *o = json_object();
    bool ok = put(o, "mean", json_integer((json_int_t)(r->mean + .5)));
    ok = ok && put(o, "p5", json_integer(r->p5)) && put(o, "p95", json_integer(r->p95));
    if (!ok) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *numbers_json(const int *v, size_t n) {
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(a, json_integer(v[i]))) {
            json_decref(a);
            return NULL;
        }
    }
    return a;
}

static json_t *texts_json(const char *const *v, size_t n) {
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(a, json_string(v[i]))) {
            json_decref(a);
            return NULL;
        }
    }
    return a;
}

static json_t *records_json(const struct wire_request *q) {
    json_t *a = json_array();
    for (size_t i = 0; i < q->n_records; i++) {
        json_t *o = json_object();
        bool ok = put(o, "n", json_integer((json_int_t)i + 1)) &&
                  put(o, "input", text(q->records[i].input)) && put(o, "output", text(q->records[i].output));
        if (json_array_append(a, ok ? o : NULL)) {
            json_decref(a);
            a = NULL;
        }
        json_decref(o);
        if (!a) {
            return NULL;
        }
    }
    return a;
}

static json_t *labels_json(const struct wire_request *q) {
    json_t *a = json_array();
    for (size_t i = 0; i < q->n_labels; i++) {
        json_t *o = json_object();
        bool ok =
            put(o, "label", json_string(q->labels[i])) && put(o, "count", json_integer(q->label_counts[i]));
        if (json_array_append(a, ok ? o : NULL)) {
            json_decref(a);
            a = NULL;
        }
        json_decref(o);
        if (!a) {
            return NULL;
        }
    }
    return a;
}

static json_t *want_json(const struct wire_request *q) {
    json_t *o = json_object();
    for (size_t i = 0; i < WIRE_MODES; i++) {
        bool asked = q->want[i] || mode_table[i].mode != PLM_MODE_PAIR;
        if (asked && !put(o, mode_table[i].name, json_integer(q->want[i]))) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

static bool asks_checks(const plm_checks *k) {
    return k->min_words || k->max_words || k->one_line || k->n_never;
}

static json_t *checks_json(const plm_checks *k) {
    json_t *o = json_object();
    bool ok =
        put(o, "min_words", json_integer(k->min_words)) && put(o, "max_words", json_integer(k->max_words)) &&
        put(o, "one_line", json_boolean(k->one_line)) && put(o, "never", texts_json(k->never, k->n_never));
    if (!ok) {
        json_decref(o);
        return NULL;
    }
    return o;
}

plm_status wire_request_write(const struct wire_request *q, char **out, char id[33], plm_error *err) {
    json_t *doc = json_object(), *words = json_object();
    bool ok = put(words, "input", range_json(&q->input_words)) &&
              put(words, "output", range_json(&q->output_words));
    ok = ok && put(doc, "version", json_integer(WIRE_VERSION)) && put(doc, "user", text(q->user)) &&
         put(doc, "kind", text(q->kind)) && put(doc, "task", text(q->task)) &&
         put(doc, "instruction", text(q->instruction)) && put(doc, "summary", text(q->summary)) &&
         put(doc, "share", json_string(q->summary_only ? "summary" : "exemplars")) &&
         put(doc, "style", json_string(q->single ? "single" : "lines")) &&
         put(doc, "seed", json_integer((json_int_t)q->seed)) &&
         put(doc, "max_answer_tokens", json_integer(q->max_answer_tokens)) &&
         put(doc, "words", json_incref(words)) && put(doc, "labels", labels_json(q)) &&
         put(doc, "records", records_json(q)) &&
         put(doc, "exemplars", numbers_json(q->exemplars, q->n_exemplars)) &&
         put(doc, "rewrite", numbers_json(q->rewrite, q->n_rewrite)) &&
         put(doc, "topics", texts_json(q->topics, q->n_topics)) && put(doc, "want", want_json(q));
    ok = ok && (!q->judge || put(doc, "judge", json_true())) &&
         (!q->hint || put(doc, "hint", json_string(q->hint))) &&
         (!q->pair || put(doc, "pair", json_string(q->pair))) &&
         (!q->n_aspects || put(doc, "aspects", texts_json(q->aspects, q->n_aspects))) &&
         (!asks_checks(&q->checks) || put(doc, "checks", checks_json(&q->checks)));
    char *body = NULL;
    plm_status st =
        ok ? json_write(doc, &body, err) : fail(err, PLM_EINVAL, "the request holds text that is not UTF-8");
    if (!st) {
        char hex[65];
        sha256_of(body, strlen(body), hex);
        memcpy(id, hex, 32);
        id[32] = 0;
        st = put(doc, "id", json_string(id)) ? json_write(doc, out, err)
                                             : fail(err, PLM_ENOMEM, "no memory for the request");
    }
    plm_free(body);
    json_decref(words);
    json_decref(doc);
    return st;
}

void wire_candidate_put(struct bytes *out, const struct wire_candidate *c) {
    bytes_printf(out, "{\"mode\":\"%s\",\"call\":\"%s\"", mode_name(c->mode), c->call);
    if (c->source) {
        bytes_printf(out, ",\"source\":%d", c->source);
    }
    if (c->n_shown) {
        bytes_puts(out, ",\"shown\":[");
        for (size_t i = 0; i < c->n_shown; i++) {
            bytes_printf(out, "%s%d", i ? "," : "", c->shown[i]);
        }
        bytes_putc(out, ']');
    }
    for (size_t i = 0; i < c->n_judge; i++) {
        bytes_puts(out, i ? "," : ",\"judge\":[");
        bytes_json(out, c->judge[i], strlen(c->judge[i]));
        bytes_puts(out, i + 1 == c->n_judge ? "]" : "");
    }
    const char *const names[] = {"input", "output", "bad", "rule"}, *const values[] = {c->input, c->output,
                                                                                       c->bad, c->rule};
    for (size_t i = 0; i < 4; i++) {
        if (values[i]) {
            bytes_printf(out, ",\"%s\":", names[i]);
            bytes_json(out, values[i], strlen(values[i]));
        }
    }
    bytes_puts(out, "}\n");
}

/* ---- reading ---- */

struct reader {
    const json_t *doc;
    plm_status st;
    plm_error *err;
};

static void refuse(struct reader *r, const char *key, const char *what) {
    if (!r->st) {
        r->st = fail(r->err, PLM_EFORMAT, "the request's \"%s\" %s", key, what);
    }
}

static const char *want_text(struct reader *r, const char *key, size_t min, size_t max) {
    const char *s = json_text(r->doc, key);
    if (!s) {
        refuse(r, key, "is missing or no text");
        return "";
    }
    size_t n = strlen(s);
    if (n < min || n > max) {
        refuse(r, key, "is too short or too long");
    }
    return s;
}

static int64_t want_number(struct reader *r, const json_t *o, const char *key, int64_t min, int64_t max) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max) {
        refuse(r, key, "is missing, no whole number, or out of range");
        return min;
    }
    return json_integer_value(v);
}

static const json_t *want_array(struct reader *r, const char *key, size_t max) {
    const json_t *v = json_object_get(r->doc, key);
    if (!json_is_array(v) || json_array_size(v) > max) {
        refuse(r, key, "is missing, no list, or too long");
        return NULL;
    }
    return v;
}

static void read_range(struct reader *r, const json_t *words, const char *key, struct wire_range *out) {
    const json_t *o = json_object_get(words, key), *mean = json_object_get(o, "mean");
    if (!json_is_object(o) || !json_is_number(mean) || !(json_number_value(mean) >= 0) ||
        json_number_value(mean) > 1e6) {
        refuse(r, "words", "is not two ranges of words");
        return;
    }
    out->mean = json_number_value(mean);
    out->p5 = (int)want_number(r, o, "p5", 0, 1000000);
    out->p95 = (int)want_number(r, o, "p95", out->p5, 1000000);
}

static int *read_numbers(struct reader *r, const char *key, size_t n_records, size_t *n) {
    const json_t *a = want_array(r, key, n_records);
    size_t size = json_array_size(a);
    int *v = mem_alloc(size + 1, sizeof *v);
    if (!v && !r->st) {
        r->st = fail(r->err, PLM_ENOMEM, "no memory for the request");
    }
    for (size_t i = 0; v && i < size; i++) {
        const json_t *x = json_array_get(a, i);
        if (!json_is_integer(x) || json_integer_value(x) < 1 ||
            json_integer_value(x) > (json_int_t)n_records) {
            refuse(r, key, "names a record that is not there");
            break;
        }
        v[i] = (int)json_integer_value(x);
        *n = i + 1;
    }
    return v;
}

static void read_records(struct reader *r, struct wire_request *q) {
    const json_t *a = want_array(r, "records", WIRE_RECORDS_MAX);
    size_t n = json_array_size(a);
    q->records = mem_zero(n + 1, sizeof *q->records);
    if (!q->records && !r->st) {
        r->st = fail(r->err, PLM_ENOMEM, "no memory for the request");
    }
    for (size_t i = 0; q->records && i < n; i++) {
        const json_t *o = json_array_get(a, i), *number = json_object_get(o, "n");
        const char *in = json_text(o, "input"), *out = json_text(o, "output");
        if (!json_is_integer(number) || json_integer_value(number) != (json_int_t)i + 1 || !in || !out ||
            strlen(in) > WIRE_TEXT_MAX || strlen(out) > WIRE_TEXT_MAX) {
            refuse(r, "records", "holds one that is not {n, input, output} in order");
            return;
        }
        q->records[i] = (struct wire_record){in, out};
        q->n_records = i + 1;
    }
}

static void read_labels(struct reader *r, struct wire_request *q) {
    const json_t *a = want_array(r, "labels", 1000);
    size_t n = json_array_size(a);
    q->labels = mem_zero(n + 1, sizeof *q->labels);
    q->label_counts = mem_zero(n + 1, sizeof *q->label_counts);
    if ((!q->labels || !q->label_counts) && !r->st) {
        r->st = fail(r->err, PLM_ENOMEM, "no memory for the request");
    }
    for (size_t i = 0; !r->st && i < n; i++) {
        const json_t *o = json_array_get(a, i);
        const char *label = json_text(o, "label");
        if (!label || !*label || strlen(label) > 200) {
            refuse(r, "labels", "holds one that is not {label, count}");
            return;
        }
        q->labels[i] = label;
        q->label_counts[i] = (int)want_number(r, o, "count", 0, 1000000);
        q->n_labels = i + 1;
    }
}

// A list of short texts that may be missing.
static const char **read_texts(struct reader *r, const json_t *from, const char *key, size_t most,
                               size_t longest, size_t *n_out) {
    const json_t *a = json_object_get(from, key);
    size_t n = json_array_size(a);
    if (a && (!json_is_array(a) || n > most)) {
        refuse(r, key, "is no list, or too long");
        return NULL;
    }
    const char **v = mem_zero(n + 1, sizeof *v);
    if (!v && !r->st) {
        r->st = fail(r->err, PLM_ENOMEM, "no memory for the request");
    }
    for (size_t i = 0; v && i < n; i++) {
        const char *s = json_string_value(json_array_get(a, i));
        if (!s || !*s || json_string_length(json_array_get(a, i)) != strlen(s) || strlen(s) > longest) {
            refuse(r, key, "holds something else than short texts");
            return v;
        }
        v[i] = s;
        *n_out = i + 1;
    }
    return v;
}

// What a kind of one's own may ask for; all of it may be missing.
static void read_extras(struct reader *r, struct wire_request *q) {
    const json_t *checks = json_object_get(r->doc, "checks"), *judge = json_object_get(r->doc, "judge");
    q->aspects = read_texts(r, r->doc, "aspects", 64, 200, &q->n_aspects);
    q->hint = json_object_get(r->doc, "hint") ? want_text(r, "hint", 1, 1000) : NULL;
    q->pair = json_object_get(r->doc, "pair") ? want_text(r, "pair", 1, 4000) : NULL;
    q->judge = json_is_true(judge);
    if (judge && !json_is_boolean(judge)) {
        refuse(r, "judge", "is neither true nor false");
    }
    if (q->pair && !pair_form(q->pair)) {
        refuse(r, "pair", "lacks {title}, {first} and {second}, in this order and apart");
    }
    if (checks) {
        q->checks.min_words = (int)want_number(r, checks, "min_words", 0, 100000);
        q->checks.max_words = (int)want_number(r, checks, "max_words", 0, 100000);
        q->checks.one_line = json_is_true(json_object_get(checks, "one_line"));
        q->never = read_texts(r, checks, "never", 64, 200, &q->checks.n_never);
        q->checks.never = q->never;
    }
}

// The titles of mode D are read off the records.
static void check_pairs(struct reader *r, const struct wire_request *q) {
    struct pair p;
    bool ok = q->pair && q->n_labels == 2;
    for (size_t i = 0; ok && i < q->n_rewrite; i++) {
        ok = pair_read(q->pair, q->records[q->rewrite[i] - 1].input, &p);
    }
    if (!ok) {
        refuse(r, "want", "asks for pairs, and the records are not worded like \"pair\"");
    }
}

static bool want_one_of(struct reader *r, const char *key, const char *yes, const char *no) {
    const char *s = want_text(r, key, 1, 20);
    if (strcmp(s, yes) != 0 && strcmp(s, no) != 0) {
        refuse(r, key, "is none of the two words it may be");
    }
    return strcmp(s, yes) == 0;
}

static bool is_hex(const char *s, size_t n) {
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

static void read_fields(struct reader *r, struct wire_request *q) {
    if (want_number(r, r->doc, "version", 0, INT32_MAX) != WIRE_VERSION) {
        refuse(r, "version", "is one that this build does not know");
    }
    q->id = want_text(r, "id", 32, 32);
    if (!is_hex(q->id, 32)) {
        refuse(r, "id", "is not 32 hexadecimal digits");
    }
    q->user = want_text(r, "user", 1, 64);
    q->kind = want_text(r, "kind", 1, 64);
    q->task = want_text(r, "task", 0, 1000);
    q->instruction = want_text(r, "instruction", 0, 4000);
    q->summary = want_text(r, "summary", 0, 4000);
    q->summary_only = want_one_of(r, "share", "summary", "exemplars");
    q->single = want_one_of(r, "style", "single", "lines");
    q->seed = (uint64_t)want_number(r, r->doc, "seed", 0, INT64_MAX);
    q->max_answer_tokens = (int)want_number(r, r->doc, "max_answer_tokens", 1, 100000);
    const json_t *words = json_object_get(r->doc, "words"), *want = json_object_get(r->doc, "want");
    read_range(r, words, "input", &q->input_words);
    read_range(r, words, "output", &q->output_words);
    read_labels(r, q);
    read_records(r, q);
    want_array(r, "topics", 100);
    q->topics = read_texts(r, r->doc, "topics", 100, 100, &q->n_topics);
    read_extras(r, q);
    q->exemplars = read_numbers(r, "exemplars", q->n_records, &q->n_exemplars);
    q->rewrite = read_numbers(r, "rewrite", q->n_records, &q->n_rewrite);
    for (size_t i = 0; i < WIRE_MODES; i++) {
        bool pair = mode_table[i].mode == PLM_MODE_PAIR; // a mode that not all devices know
        q->want[i] = pair && !json_object_get(want, "pair")
                         ? 0
                         : (int)want_number(r, want, mode_table[i].name, 0, 4096);
        bool rewrites =
            pair || mode_table[i].mode == PLM_MODE_REVERSE || mode_table[i].mode == PLM_MODE_REWRITE;
        if (q->want[i] && rewrites && !q->n_rewrite) {
            refuse(r, "want", "asks to rewrite records, and there are none");
        }
        if (q->want[i] && pair && !r->st) {
            check_pairs(r, q);
        }
        if (q->want[i] && mode_table[i].mode == PLM_MODE_LABEL && !q->n_labels) {
            refuse(r, "want", "asks for labels, and there are none");
        }
    }
    if (q->summary_only && q->n_records) {
        refuse(r, "records", "is not empty although only a summary is shared");
    }
}

plm_status wire_request_parse(struct wire_request *q, const char *request, size_t len, plm_error *err) {
    *q = (struct wire_request){0};
    if (len > WIRE_REQUEST_MAX) {
        return fail(err, PLM_ELIMIT, "the request is over %d MiB", WIRE_REQUEST_MAX >> 20);
    }
    plm_status st = json_parse(&q->doc, request, len, "the request", err);
    if (st) {
        q->doc = NULL;
        return st;
    }
    struct reader r = {.doc = q->doc, .err = err};
    if (!json_is_object(q->doc)) {
        r.st = fail(err, PLM_EFORMAT, "the request is not a JSON object");
    } else {
        read_fields(&r, q);
    }
    if (r.st) {
        wire_request_free(q);
    }
    return r.st;
}

void wire_request_free(struct wire_request *q) {
    mem_free(q->labels);
    mem_free(q->label_counts);
    mem_free(q->records);
    mem_free(q->exemplars);
    mem_free(q->rewrite);
    mem_free(q->topics);
    mem_free(q->aspects);
    mem_free(q->never);
    json_decref(q->doc);
    *q = (struct wire_request){0};
}

static plm_status read_shown(struct wire_candidate *c, int **shown, const json_t *doc,
                             const struct wire_request *q, plm_error *err) {
    const json_t *a = json_object_get(doc, "shown");
    size_t n = json_array_size(a);
    if (!a) {
        return PLM_OK;
    }
    if (!json_is_array(a) || n > q->n_records) {
        return fail(err, PLM_EFORMAT, "a candidate's \"shown\" is no list of record numbers");
    }
    *shown = mem_alloc(n + 1, sizeof **shown);
    if (!*shown) {
        return fail(err, PLM_ENOMEM, "no memory for a candidate");
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(a, i);
        if (!json_is_integer(x) || json_integer_value(x) < 1 ||
            json_integer_value(x) > (json_int_t)q->n_records) {
            return fail(err, PLM_EFORMAT,
                        "a candidate's \"shown\" names a record that is not in the request");
        }
        (*shown)[i] = (int)json_integer_value(x);
    }
    c->shown = *shown;
    c->n_shown = n;
    return PLM_OK;
}

// The source must be one that the request asks to rewrite, in the modes that rewrite, and absent in the
// others.
static plm_status read_source(struct wire_candidate *c, const json_t *doc, const struct wire_request *q,
                              plm_error *err) {
    const json_t *v = json_object_get(doc, "source");
    bool rewrites = c->mode == PLM_MODE_REVERSE || c->mode == PLM_MODE_REWRITE || c->mode == PLM_MODE_PAIR;
    if (!v || json_is_null(v)) {
        return rewrites && !c->bad
                   ? fail(err, PLM_EFORMAT, "a candidate does not say which record it rewrites")
                   : PLM_OK;
    }
    for (size_t i = 0; rewrites && json_is_integer(v) && i < q->n_rewrite; i++) {
        if (json_integer_value(v) == q->rewrite[i]) {
            c->source = q->rewrite[i];
            return PLM_OK;
        }
    }
    return fail(err, PLM_EFORMAT, "a candidate's \"source\" is no record that was to be rewritten");
}

static plm_status read_candidate(struct wire_candidate *c, const json_t *doc, int **shown,
                                 const struct wire_request *q, plm_error *err) {
    c->mode = mode_named(json_text(doc, "mode"));
    c->call = json_text(doc, "call");
    if (!c->mode || !c->call || !is_hex(c->call, 64)) {
        return fail(err, PLM_EFORMAT, "a candidate lacks its mode or its call");
    }
    c->bad = json_text(doc, "bad");
    c->rule = c->bad ? json_text(doc, "rule") : NULL;
    const json_t *judge = json_object_get(doc, "judge");
    for (; c->n_judge < WIRE_JUDGES && c->n_judge < json_array_size(judge); c->n_judge++) {
        const char *answer = json_string_value(json_array_get(judge, c->n_judge));
        c->judge[c->n_judge] = answer ? answer : "";
    }
    plm_status st = read_source(c, doc, q, err);
    if (!st) {
        st = read_shown(c, shown, doc, q, err);
    }
    if (st || c->bad) {
        return st;
    }
    c->input = json_text(doc, "input");
    c->output = json_text(doc, "output");
    bool needs_output = c->mode != PLM_MODE_REVERSE && c->mode != PLM_MODE_REWRITE;
    if (!c->input || !*c->input || (needs_output && (!c->output || !*c->output))) {
        return fail(err, PLM_EFORMAT, "a candidate's input or output is missing, empty, or no text");
    }
    if (strlen(c->input) > WIRE_TEXT_MAX || (c->output && strlen(c->output) > WIRE_TEXT_MAX)) {
        return fail(err, PLM_EFORMAT, "a candidate is over %d KiB", WIRE_TEXT_MAX >> 10);
    }
    return PLM_OK;
}

plm_status wire_candidate_parse(struct wire_candidate *c, json_t **doc, int **shown, const char *line,
                                size_t len, const struct wire_request *q, plm_error *err) {
    *c = (struct wire_candidate){0};
    *doc = NULL;
    *shown = NULL;
    if (len > 4 * WIRE_TEXT_MAX) {
        return fail(err, PLM_EFORMAT, "a candidate's line is over %d KiB", 4 * WIRE_TEXT_MAX >> 10);
    }
    plm_status st = json_parse(doc, line, len, "a candidate", err);
    if (st) {
        *doc = NULL;
        return st;
    }
    return json_is_object(*doc) ? read_candidate(c, *doc, shown, q, err)
                                : fail(err, PLM_EFORMAT, "a candidate is no JSON object");
}
