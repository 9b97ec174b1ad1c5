/* redact.c: texts with placeholders in the place of secrets, and back. A placeholder is typed and stable
 * within a job: "[EMAIL_1]" is the same address wherever it stands. A text that already holds something
 * of that shape has it replaced like a secret, so that it comes back unchanged. What a placeholder stands
 * for is kept as a place in a record: forgetting the record forgets it too. */
#include "augment/inside.h"

#include <stdio.h>
#include <string.h>

void redactor_free(struct redactor *r) {
    for (size_t i = 0; i < r->n; i++) {
        mem_free(r->slots[i].placeholder);
        mem_free(r->slots[i].text);
    }
    mem_free(r->slots);
    *r = (struct redactor){0};
}

static const struct slot *slot_find(const struct redactor *r, const char *type, const char *text,
                                    size_t len) {
    for (size_t i = 0; i < r->n; i++) {
        const struct slot *s = &r->slots[i];
        if (strlen(s->text) == len && memcmp(s->text, text, len) == 0 &&
            strncmp(s->placeholder + 1, type, strlen(type)) == 0) {
            return s;
        }
    }
    return NULL;
}

static const struct slot *slot_add(struct redactor *r, const char *type, const char *text,
                                   struct hidden where) {
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 32;
        struct slot *more = mem_grow(r->slots, cap, sizeof *more);
        if (!more) {
            return NULL;
        }
        r->slots = more;
        r->cap = cap;
    }
    size_t number = 1;
    for (size_t i = 0; i < r->n; i++) {
        number += strncmp(r->slots[i].placeholder + 1, type, strlen(type)) == 0;
    }
    char name[40];
    snprintf(name, sizeof name, "[%s_%zu]", type, number);
    struct slot s = {mem_dupz(name), mem_dup(text, where.len), where};
    if (!s.placeholder || !s.text) {
        mem_free(s.placeholder);
        mem_free(s.text);
        return NULL;
    }
    r->slots[r->n] = s;
    return &r->slots[r->n++];
}

plm_status redact_text(struct redactor *r, int64_t record, bool in_output, const char *text, char **out,
                       plm_error *err) {
    struct secret *found = NULL;
    size_t n = 0, len = strlen(text), done = 0;
    plm_status st = secrets_find(text, len, &found, &n, err);
    if (st) {
        return st;
    }
    struct bytes b;
    bytes_init(&b, 4 * (size_t)WIRE_TEXT_MAX);
    for (size_t i = 0; i < n && !st; i++) {
        const struct slot *s = slot_find(r, found[i].type, text + found[i].at, found[i].len);
        if (!s) {
            s = slot_add(r, found[i].type, text + found[i].at,
                         (struct hidden){record, in_output, found[i].at, found[i].len});
        }
        if (!s) {
            st = fail(err, PLM_ENOMEM, "no memory to redact a record");
            break;
        }
        bytes_put(&b, text + done, found[i].at - done);
        bytes_puts(&b, s->placeholder);
        done = found[i].at + found[i].len;
    }
    bytes_put(&b, text + done, len - done);
    if (!st) {
        st = bytes_status(&b, "a redacted record", err);
    }
    if (!st && !(*out = bytes_take(&b))) {
        st = fail(err, PLM_ENOMEM, "no memory to redact a record");
    }
    bytes_free(&b);
    mem_free(found);
    return st;
}
