/* json.c: libjansson, kept away from what it should not see. Depth is counted before it parses, because it
 * recurses, and so are objects and lists, because an empty one takes a hundred times its two bytes. Duplicate
 * keys are refused. Its message is shortened so that no text of the document gets out. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

enum { MAX_DEPTH = 64, MAX_CONTAINERS = 1 << 17 };

/* Where nesting first passes the limit, or len; *containers are the brackets opened up to there. Only those
 * outside strings count. */
static size_t too_deep_at(const char *text, size_t len, size_t *containers) {
    size_t depth = 0;
    bool quoted = false;
    *containers = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            ++*containers;
            if (++depth > MAX_DEPTH)
                return i;
        } else if ((c == '}' || c == ']') && depth) {
            depth--;
        }
    }
    return len;
}

plm_status json_parse(json_t **out, const char *text, size_t len, const char *what, plm_error *err) {
    size_t containers, deep = too_deep_at(text, len, &containers);
    if (deep < len) {
        size_t line = 1;
        for (size_t i = 0; i < deep; i++)
            line += text[i] == '\n';
        return fail(err, PLM_EFORMAT, "%s: JSON is nested deeper than %d at line %zu", what, MAX_DEPTH, line);
    }
    if (containers > MAX_CONTAINERS)
        return fail(err, PLM_ELIMIT, "%s: JSON holds more than %d objects and lists", what, MAX_CONTAINERS);
    json_error_t why;
    json_t *doc = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (doc) {
        *out = doc;
        return PLM_OK;
    }
    if (json_error_code(&why) == json_error_out_of_memory)
        return fail(err, PLM_ENOMEM, "%s: out of memory for JSON", what);
    char *near = strstr(why.text, " near ");
    if (near)
        *near = 0;
    return fail(err, PLM_EFORMAT, "%s: not valid JSON at line %d, column %d: %s", what, why.line, why.column,
                why.text);
}

const char *json_text(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
        return NULL;
    return json_string_value(v);
}

static int put_piece(const char *piece, size_t len, void *ctx) {
    struct bytes *b = ctx;
    bytes_put(b, piece, len);
    return b->st ? -1 : 0;
}

plm_status json_write(const json_t *doc, char **out, plm_error *err) {
    struct bytes b;
    bytes_init(&b, (size_t)1 << 31);
    int bad = json_dump_callback(doc, put_piece, &b, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    plm_status st = bytes_status(&b, "a JSON document", err);
    if (!st && bad)
        st = fail(err, PLM_EINVAL, "a value can't be written as JSON");
    if (!st && !(*out = bytes_take(&b)))
        st = fail(err, PLM_ENOMEM, "out of memory for a JSON document");
    bytes_free(&b);
    return st;
}

const char *json_scalar(const json_t *v, char number[32]) {
    if (json_is_string(v))
        return strlen(json_string_value(v)) == json_string_length(v) ? json_string_value(v) : NULL;
    if (json_is_integer(v))
        snprintf(number, 32, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v) && fabs(json_real_value(v)) < 1e15)
        snprintf(number, 32, "%.15g", json_real_value(v));
    else
        return NULL;
    return number;
}
