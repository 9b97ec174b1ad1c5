/* row.c: a JSON object as a record. Looked for in this order: the kind's own field names, the names of an
 * export, the pairs of common training files, a list of messages. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "import/inside.h"

static const struct {
    const char *input, *output;
} pairs[] = {{"input", "output"}, {"prompt", "answer"}, {"prompt", "completion"}};

static bool digits(const char *p, size_t n, int *out) {
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') {
            return false;
        }
        *out = *out * 10 + (p[i] - '0');
    }
    return true;
}

/* What follows the day: "T03:04:05.678+01:00" and its shorter forms. Seconds to add. */
static bool clock_part(const char *p, int64_t *seconds) {
    int h, m, s = 0;
    *seconds = 0;
    if (!*p) {
        return true;
    }
    if ((*p != 'T' && *p != ' ') || strlen(p) < 6 || !digits(p + 1, 2, &h) || p[3] != ':' ||
        !digits(p + 4, 2, &m)) {
        return false;
    }
    p += 6;
    if (*p == ':') {
        if (strlen(p) < 3 || !digits(p + 1, 2, &s)) {
            return false;
        }
        p += 3;
        p += *p == '.' ? 1 + strspn(p + 1, "0123456789") : 0;
    }
    p += *p == ' ';
    int zone_h = 0, zone_m = 0, sign = *p == '-' ? -1 : 1;
    if (*p == '+' || *p == '-') {
        size_t colon = strlen(p) == 6 && p[3] == ':';
        if (strlen(p) != 5 + colon || !digits(p + 1, 2, &zone_h) || !digits(p + 3 + colon, 2, &zone_m)) {
            return false;
        }
    } else if (*p && strcmp(p, "Z") != 0) {
        return false;
    }
    *seconds = (int64_t)h * 3600 + m * 60 + s - sign * (zone_h * 3600 + zone_m * 60);
    return h < 25 && m < 60 && s < 61 && zone_h < 25 && zone_m < 60;
}

int64_t when_of(const char *text) {
    size_t n = strlen(text);
    int year, month = 1, day = 1;
    int64_t rest = 0, number;
    bool ok;
    if (n == 8 && parse_i64(str_of(text), &number)) {
        ok = digits(text, 4, &year) && digits(text + 4, 2, &month) && digits(text + 6, 2, &day);
    } else if (n > 4 && parse_i64(str_of(text), &number)) {
        return number > 0 && number < (int64_t)1 << 40 ? number : 0;
    } else {
        ok = n >= 4 && digits(text, 4, &year) &&
             (n == 4 || (n >= 7 && text[4] == '-' && digits(text + 5, 2, &month))) &&
             (n <= 7 ||
              (n >= 10 && text[7] == '-' && digits(text + 8, 2, &day) && clock_part(text + 10, &rest)));
    }
    if (!ok || year < 1 || month < 1 || month > 12 || day < 1 || day > 31) {
        return 0;
    }
    struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};
    return (int64_t)timegm(&tm) + rest;
}

static bool has_field(void *ctx, const char *field) {
    return json_object_get(ctx, field) != NULL;
}

/* The kind of a row where nobody said it. */
static const plm_kind *kind_of(const struct sink *s, const json_t *row, const char **why) {
    const json_t *named = json_object_get(row, "kind");
    if (named) {
        *why = "its kind is not known";
        return plm_kind_find(s->kinds, json_string_value(named));
    }
    const plm_kind *kind = kind_with_fields(s->kinds, has_field, (json_t *)(uintptr_t)row);
    *why = "it has none of the fields that records have; say what it is with --kind";
    bool talk = json_object_get(row, "messages") != NULL;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        talk |= json_object_get(row, pairs[i].input) && json_object_get(row, pairs[i].output);
    }
    return kind ? kind : talk ? plm_kind_find(s->kinds, "chat") : NULL;
}

/* Everything before the last answer, and that answer. NULL or what is wrong. */
static const char *messages_of(const json_t *list, struct bytes *input, const char **output) {
    size_t n = json_array_size(list);
    if (n < 2) {
        return "its messages must be a list of at least two";
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(list, i);
        const char *role = json_text(m, "role"), *content = json_text(m, "content");
        if (!role || !content) {
            return "a message needs a role and a content, both texts";
        }
        bool system = strcmp(role, "system") == 0, assistant = strcmp(role, "assistant") == 0;
        if (!system && !assistant && strcmp(role, "user") != 0) {
            return "a message's role must be system, user or assistant";
        }
        if (system && i > 0) {
            return "a system message may stand first only";
        }
        if (assistant && (i == 0 || strcmp(json_text(json_array_get(list, i - 1), "role"), "user") != 0)) {
            return "an assistant's message must follow a user's";
        }
        if (i + 1 == n) {
            *output = content;
            return assistant ? NULL : "its last message must be the assistant's";
        }
        // A single question stands for itself; a longer talk is written out with who said what.
        if (n > 2) {
            bytes_printf(input, "%s%s: ", i ? "\n\n" : "",
                         system      ? "System"
                         : assistant ? "Assistant"
                                     : "User");
        }
        bytes_puts(input, content);
    }
    return NULL;
}

/* The first pair of fields of which the output is there. The input may be missing where kinds allow it. */
static const char *pair_of(const plm_kind *kind, const json_t *row, char numbers[2][32], const char **input,
                           const char **output) {
    static const char *const bad = "its fields must be texts or numbers, without NUL characters";
    for (size_t i = 0; i <= sizeof pairs / sizeof *pairs; i++) {
        const char *in = i ? pairs[i - 1].input : kind->input_field;
        const char *out = i ? pairs[i - 1].output : kind->output_field;
        const json_t *from = json_object_get(row, in), *to = json_object_get(row, out);
        if (!to || (!from && (i || kind->modes != PLM_MODE_REVERSE))) {
            continue;
        }
        *input = from ? json_scalar(from, numbers[0]) : "";
        *output = json_scalar(to, numbers[1]);
        return *input && *output ? NULL : bad;
    }
    return "it lacks the fields of its kind";
}

plm_status row_take(struct sink *s, const plm_kind *kind, const json_t *row, const char *where,
                    plm_error *err) {
    const char *why = NULL;
    char numbers[2][32], time_number[32];
    struct bytes talk;
    bytes_init(&talk, STORE_TEXT_MAX + 1); // one more than a record takes, so that record_check can say it
    plm_status fault = PLM_OK;
    const char *table = json_text(row, "table");
    if (table && strcmp(table, "records") != 0) {
        return PLM_OK; // another table of an export
    }
    if (!kind && !(kind = kind_of(s, row, &why))) {
        sink_skip(s, where, why);
        return PLM_OK;
    }
    const json_t *messages = json_object_get(row, "messages");
    plm_record r = {.source = json_text(row, "source"), .local_only = false};
    const char *author = json_text(row, "author");
    const json_t *local = json_object_get(row, "local_only");
    r.local_only = json_is_true(local) || json_integer_value(local) != 0;
    why =
        messages ? messages_of(messages, &talk, &r.output) : pair_of(kind, row, numbers, &r.input, &r.output);
    if (messages) {
        r.input = talk.data ? talk.data : "";
    }
    if (talk.st == PLM_ENOMEM) {
        fault = fail(err, PLM_ENOMEM, "out of memory");
    } else if (why || talk.st) {
        sink_skip(s, where, why ? why : "its messages are too long");
    } else if (!sink_is_me(s, author)) {
        sink_other(s);
    } else {
        const json_t *when = json_object_get(row, "time");
        const char *text = json_scalar(when ? when : json_object_get(row, "date"), time_number);
        r.when = text ? when_of(text) : 0;
        r.source = r.source ? r.source : s->source;
        fault = sink_take(s, kind, &r, where, err);
    }
    bytes_free(&talk);
    return fault;
}
