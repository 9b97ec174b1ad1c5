/* kind.c: the table of kinds as a program sees it: the built-in one, extended or overridden by a person's
 * JSON file. A file with an unknown key, a missing field or a wrong type is refused as a whole, with the kind
 * and key named. */
#include "kind/kind.h"
#include <ctype.h>
#include <string.h>
#include "base/json.h"
#include "base/str.h"
#include "kind/inside.h"

enum {
    KINDS_MAX = 256,
    LABELS_MAX = 256,
    FILE_MAX = 1 << 20,
    NAME_MAX_LEN = 64,
    WORDING_MAX = 8 << 10,
    ANSWER_MAX = 4096,
    HINT_MAX = 1000,
    LISTS = 3, /* of a kind: labels, aspects, texts that are never there */
    SHORT_LIST = 64,
    SHORT_TEXT = 200,
};

struct plm_kinds {
    plm_kind list[KINDS_MAX];
    size_t n;
    json_t *file; /* owns the strings of a person's kinds */
    const char **lists[LISTS * KINDS_MAX];
    size_t n_lists; /* lists of texts made for the file */
};

static const struct {
    const char *name;
    unsigned mode;
} modes[] = {
    {"reverse", PLM_MODE_REVERSE}, {"rewrite", PLM_MODE_REWRITE}, {"new", PLM_MODE_NEW},
    {"label", PLM_MODE_LABEL},     {"pair", PLM_MODE_PAIR},
};

#define MODES_WHY "must be a list of \"reverse\", \"rewrite\", \"new\", \"label\", \"pair\""

/* What is being read, for the messages. */
struct reading {
    const char *file, *text; /* its name; what it holds */
    size_t number;           /* of the object in the file */
    const char *kind;
};

static plm_status bad(const struct reading *at, plm_error *err, const char *key, const char *why) {
    size_t line = kind_line(at->text, at->number, key);
    if (at->kind) {
        return fail(err, PLM_EFORMAT, "%s line %zu: kind \"%s\": \"%s\" %s", at->file, line, at->kind, key,
                    why);
    }
    return fail(err, PLM_EFORMAT, "%s line %zu: kind number %zu: \"%s\" %s", at->file, line, at->number, key,
                why);
}

static plm_status take_text(const struct reading *at, const json_t *o, const char *key, size_t max,
                            const char **out, plm_error *err) {
    const char *text = json_text(o, key);
    if (!text || !*text) {
        return bad(at, err, key, json_object_get(o, key) ? "must be a text that is not empty" : "is missing");
    }
    if (strlen(text) > max) {
        return bad(at, err, key, "is too long");
    }
    *out = text;
    return PLM_OK;
}

/* A kind's name goes into paths and onto command lines. */
static bool plain_name(const char *name) {
    for (const char *p = name; *p; p++) {
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && (*p != '-' || p == name)) {
            return false;
        }
    }
    return true;
}

static plm_status take_modes(const struct reading *at, const json_t *list, unsigned *out, plm_error *err) {
    *out = 0;
    if (!json_is_array(list)) {
        return bad(at, err, "modes", MODES_WHY);
    }
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        const char *name = json_string_value(item);
        unsigned mode = 0;
        for (size_t m = 0; name && m < sizeof modes / sizeof *modes; m++) {
            mode |= strcmp(name, modes[m].name) == 0 ? modes[m].mode : 0;
        }
        if (!mode) {
            return bad(at, err, "modes", MODES_WHY);
        }
        *out |= mode;
    }
    return PLM_OK;
}

static plm_status take_list(struct plm_kinds *k, const struct reading *at, const json_t *list,
                            const char *key, const char *const **out, size_t *n_out, plm_error *err) {
    size_t n = json_array_size(list);
    const char **texts = mem_alloc(n, sizeof *texts);
    if (!texts) {
        return fail(err, PLM_ENOMEM, "out of memory");
    }
    k->lists[k->n_lists++] = texts;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        texts[i] = json_string_value(item);
        if (!texts[i] || !*texts[i] || strlen(texts[i]) != json_string_length(item)) {
            return bad(at, err, key, "must hold texts that are not empty");
        }
        if (strlen(texts[i]) > SHORT_TEXT) {
            return bad(at, err, key, "holds a text of over 200 bytes");
        }
    }
    *out = texts;
    *n_out = n;
    return PLM_OK;
}

static plm_status take_labels(struct plm_kinds *k, const struct reading *at, const json_t *list,
                              plm_kind *kind, plm_error *err) {
    size_t n = json_array_size(list);
    if (n < 2 || n > LABELS_MAX) {
        return bad(at, err, "labels", "must be a list of 2 to 256 texts");
    }
    plm_status fault = take_list(k, at, list, "labels", &kind->labels, &kind->n_labels, err);
    for (size_t i = 0; !fault && i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(kind->labels[i], kind->labels[j]) == 0) {
                return bad(at, err, "labels", "names one label twice");
            }
        }
    }
    return fault;
}

static plm_status take_words(const struct reading *at, const json_t *o, const char *key, int *out,
                             plm_error *err) {
    const json_t *v = json_object_get(o, key);
    json_int_t n = v ? json_integer_value(v) : 0;
    *out = n >= 0 && n <= 10000 ? (int)n : 0;
    return !v || (json_is_integer(v) && n >= 1 && n <= 10000)
               ? PLM_OK
               : bad(at, err, "checks", "counts words with a whole number from 1 to 10000");
}

static plm_status take_checks(struct plm_kinds *k, const struct reading *at, json_t *o, plm_checks *out,
                              plm_error *err) {
    static const char *const known[] = {"min_words", "max_words", "one_line", "never"};
    const char *key;
    json_t *value;
    if (!json_is_object(o)) {
        return bad(at, err, "checks", "must be an object");
    }
    json_object_foreach(o, key, value) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            found |= strcmp(key, known[i]) == 0;
        }
        if (!found) {
            return bad(at, err, "checks", "may hold min_words, max_words, one_line and never alone");
        }
    }
    const json_t *line = json_object_get(o, "one_line"), *never = json_object_get(o, "never");
    plm_status fault = take_words(at, o, "min_words", &out->min_words, err);
    fault = fault ? fault : take_words(at, o, "max_words", &out->max_words, err);
    if (fault) {
        return fault;
    }
    if (out->max_words && out->min_words > out->max_words) {
        return bad(at, err, "checks", "has min_words above max_words");
    }
    if ((line && !json_is_boolean(line)) ||
        (never && (!json_is_array(never) || json_array_size(never) > SHORT_LIST))) {
        return bad(at, err, "checks",
                   "needs true or false for one_line, and a list of at most 64 texts for never");
    }
    out->one_line = json_is_true(line);
    return json_array_size(never) ? take_list(k, at, never, "checks", &out->never, &out->n_never, err)
                                  : PLM_OK;
}

static plm_status check_pair(const struct reading *at, const plm_kind *kind, plm_error *err) {
    static const char *const slots[] = {"{title}", "{first}", "{second}"};
    const char *from = kind->pair;
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        const char *slot = strstr(from, slots[i]);
        if (!slot || (i && slot == from)) {
            return bad(at, err, "pair", "lacks {title}, {first} and {second}, in this order and apart");
        }
        from = slot + strlen(slots[i]);
    }
    return kind->n_labels == 2 ? PLM_OK : bad(at, err, "pair", "needs two labels");
}

/* What makes a recipe of it: all of this may be missing. */
static plm_status take_recipe(struct plm_kinds *k, const struct reading *at, json_t *o, plm_kind *out,
                              plm_error *err) {
    const json_t *aspects = json_object_get(o, "aspects");
    json_t *checks = json_object_get(o, "checks");
    plm_status fault = PLM_OK;
    if (json_object_get(o, "hint") && (fault = take_text(at, o, "hint", HINT_MAX, &out->hint, err))) {
        return fault;
    }
    if (json_object_get(o, "pair") && ((fault = take_text(at, o, "pair", WORDING_MAX / 2, &out->pair, err)) ||
                                       (fault = check_pair(at, out, err)))) {
        return fault;
    }
    if (aspects &&
        (!json_is_array(aspects) || !json_array_size(aspects) || json_array_size(aspects) > SHORT_LIST)) {
        return bad(at, err, "aspects", "must be a list of 1 to 64 texts");
    }
    if (aspects && (fault = take_list(k, at, aspects, "aspects", &out->aspects, &out->n_aspects, err))) {
        return fault;
    }
    if (checks && (fault = take_checks(k, at, checks, &out->checks, err))) {
        return fault;
    }
    return (out->modes & PLM_MODE_PAIR) && !out->pair
               ? bad(at, err, "modes", "has \"pair\", but the kind has no wording of one")
               : PLM_OK;
}

static plm_status check_instruction(const struct reading *at, const char *instruction, plm_error *err) {
    const char *slot = strstr(instruction, KIND_SLOT);
    if (slot && strstr(slot + 1, KIND_SLOT)) {
        return bad(at, err, "instruction", "has two " KIND_SLOT " slots");
    }
    return PLM_OK;
}

static plm_status check_keys(const struct reading *at, json_t *o, plm_error *err) {
    static const char *const known[] = {"name",         "task",   "instruction", "input_field",
                                        "output_field", "labels", "modes",       "max_answer_tokens",
                                        "hint",         "pair",   "aspects",     "checks"};
    const char *key;
    json_t *value;
    json_object_foreach(o, key, value) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            found |= strcmp(key, known[i]) == 0;
        }
        if (!found) {
            return bad(at, err, key, "is not a field of a kind");
        }
    }
    return PLM_OK;
}

static plm_status take_kind(struct plm_kinds *k, struct reading *at, json_t *o, plm_kind *out,
                            plm_error *err) {
    if (!json_is_object(o)) {
        return fail(err, PLM_EFORMAT, "%s line %zu: kind number %zu is not an object", at->file,
                    kind_line(at->text, at->number, NULL), at->number);
    }
    plm_status fault = take_text(at, o, "name", NAME_MAX_LEN, &out->name, err);
    if (fault) {
        return fault;
    }
    at->kind = out->name;
    if (!plain_name(out->name)) {
        return bad(at, err, "name", "may hold a-z, 0-9 and - only");
    }
    if ((fault = check_keys(at, o, err)) ||
        (fault = take_text(at, o, "task", WORDING_MAX, &out->task, err)) ||
        (fault = take_text(at, o, "instruction", WORDING_MAX, &out->instruction, err)) ||
        (fault = check_instruction(at, out->instruction, err)) ||
        (fault = take_text(at, o, "input_field", NAME_MAX_LEN, &out->input_field, err)) ||
        (fault = take_text(at, o, "output_field", NAME_MAX_LEN, &out->output_field, err))) {
        return fault;
    }
    if (strcmp(out->input_field, out->output_field) == 0) {
        return bad(at, err, "output_field", "is the same as \"input_field\"");
    }
    const json_t *labels = json_object_get(o, "labels"), *list = json_object_get(o, "modes");
    const json_t *most = json_object_get(o, "max_answer_tokens");
    if (labels && (fault = take_labels(k, at, labels, out, err))) {
        return fault;
    }
    out->modes = PLM_MODE_REWRITE | (labels ? PLM_MODE_LABEL : PLM_MODE_NEW);
    if (list && (fault = take_modes(at, list, &out->modes, err))) {
        return fault;
    }
    if ((out->modes & PLM_MODE_LABEL) && !labels) {
        return bad(at, err, "modes", "has \"label\", but the kind has no labels");
    }
    out->max_answer_tokens = 128;
    if (most) {
        json_int_t n = json_is_integer(most) ? json_integer_value(most) : 0;
        if (n < 1 || n > ANSWER_MAX) {
            return bad(at, err, "max_answer_tokens", "must be a whole number from 1 to 4096");
        }
        out->max_answer_tokens = (int)n;
    }
    return take_recipe(k, at, o, out, err);
}

/* Puts a kind in the place of the one of its name, or at the end. */
static plm_status put_kind(struct plm_kinds *k, const struct reading *at, const plm_kind *kind, size_t n_own,
                           const char *const *own, plm_error *err) {
    for (size_t i = 0; i < n_own; i++) {
        if (strcmp(own[i], kind->name) == 0) {
            return bad(at, err, "name", "stands twice in the file");
        }
    }
    for (size_t i = 0; i < k->n; i++) {
        if (strcmp(k->list[i].name, kind->name) == 0) {
            k->list[i] = *kind;
            return PLM_OK;
        }
    }
    if (k->n == KINDS_MAX) {
        return fail(err, PLM_ELIMIT, "%s: more than %d kinds", at->file, KINDS_MAX);
    }
    k->list[k->n++] = *kind;
    return PLM_OK;
}

static plm_status read_file(struct plm_kinds *k, const char *file, plm_error *err) {
    struct bytes text;
    bytes_init(&text, FILE_MAX);
    plm_status fault = file_read(file, FILE_MAX, &text, err);
    if (!fault) {
        fault = json_parse(&k->file, text.data ? text.data : "", text.len, file, err);
    }
    size_t n = json_array_size(k->file);
    if (!fault && (!json_is_array(k->file) || n > KINDS_MAX)) {
        fault = fail(err, PLM_EFORMAT, "%s: must be a list of at most %d kinds", file, KINDS_MAX);
    }
    const char *own[KINDS_MAX];
    for (size_t i = 0; !fault && i < n; i++) {
        struct reading at = {.file = file, .text = text.data, .number = i + 1};
        plm_kind kind = {0};
        fault = take_kind(k, &at, json_array_get(k->file, i), &kind, err);
        if (!fault) {
            fault = put_kind(k, &at, &kind, i, own, err);
            own[i] = kind.name;
        }
    }
    bytes_free(&text);
    return fault;
}

plm_status plm_kinds_open(plm_kinds **out, const char *file, plm_error *err) {
    struct plm_kinds *k = mem_zero(1, sizeof *k);
    if (!k) {
        return fail(err, PLM_ENOMEM, "out of memory");
    }
    memcpy(k->list, kind_table, n_kind_table * sizeof *kind_table);
    k->n = n_kind_table;
    plm_status fault = file ? read_file(k, file, err) : PLM_OK;
    if (fault) {
        plm_kinds_close(k);
    } else {
        *out = k;
    }
    return fault;
}

void plm_kinds_close(plm_kinds *k) {
    if (k) {
        for (size_t i = 0; i < k->n_lists; i++) {
            mem_free((void *)k->lists[i]);
        }
        json_decref(k->file);
        mem_free(k);
    }
}

const plm_kind *plm_kind_find(const plm_kinds *k, const char *name) {
    for (size_t i = 0; name && i < k->n; i++) {
        if (strcmp(k->list[i].name, name) == 0) {
            return &k->list[i];
        }
    }
    return NULL;
}

const plm_kind *plm_kind_at(const plm_kinds *k, size_t i) {
    return i < k->n ? &k->list[i] : NULL;
}

plm_status plm_kind_prompt(const plm_kind *kind, const char *input, char **prompt, plm_error *err) {
    const char *slot = strstr(kind->instruction, KIND_SLOT);
    size_t before = slot ? (size_t)(slot - kind->instruction) : strlen(kind->instruction);
    struct bytes b;
    bytes_init(&b, WORDING_MAX + (16 << 20));
    bytes_put(&b, kind->instruction, before);
    bytes_puts(&b, slot ? "" : "\n\n");
    bytes_puts(&b, input);
    bytes_puts(&b, slot ? slot + strlen(KIND_SLOT) : "");
    plm_status fault = bytes_status(&b, "a prompt", err);
    char *text = fault ? NULL : bytes_take(&b);
    bytes_free(&b);
    if (!fault && !text) {
        return fail(err, PLM_ENOMEM, "out of memory");
    }
    if (!fault) {
        *prompt = text;
    }
    return fault;
}

int plm_kind_label(const plm_kind *kind, const char *text) {
    struct str t = str_trim(str_of(text));
    for (size_t i = 0; i < kind->n_labels; i++) {
        if (str_eq(t, kind->labels[i])) {
            return (int)i;
        }
    }
    return -1;
}

bool kind_takes(const plm_kind *kind, const char *output) {
    for (size_t i = 0; i < kind->n_labels; i++) {
        if (strcmp(kind->labels[i], output) == 0) {
            return true;
        }
    }
    return kind->n_labels == 0;
}

const plm_kind *kind_with_fields(const plm_kinds *k, bool (*has)(void *ctx, const char *field), void *ctx) {
    for (size_t i = 0; i < k->n; i++) {
        if (has(ctx, k->list[i].input_field) && has(ctx, k->list[i].output_field)) {
            return &k->list[i];
        }
    }
    return NULL;
}
