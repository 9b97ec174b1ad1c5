/* pair.c: inputs of mode D: a real title beside one text that goes with it and one that does not, put into
 * the wording that the kind gives, such as "... {title} ... {first} ... {second} ...". */
#include "augment/inside.h"

#include <string.h>

enum { SLOTS = 3 };
static const char *const slots[SLOTS] = {"{title}", "{first}", "{second}"};

// The wording between the slots: before, between, between, after.
static bool split_form(const char *form, struct str between[SLOTS + 1]) {
    struct str rest = str_of(form);
    for (size_t i = 0; i < SLOTS; i++) {
        const char *at = memmem(rest.p, rest.n, slots[i], strlen(slots[i]));
        if (!at || (i && at == rest.p)) {
            return false;
        }
        between[i] = (struct str){rest.p, (size_t)(at - rest.p)};
        rest.n -= between[i].n + strlen(slots[i]);
        rest.p = at + strlen(slots[i]);
    }
    between[SLOTS] = rest;
    return true;
}

bool pair_form(const char *form) {
    struct str between[SLOTS + 1];
    return split_form(form, between);
}

bool pair_read(const char *form, const char *input, struct pair *out) {
    struct str between[SLOTS + 1], rest = str_of(input),
                                   *to[SLOTS] = {&out->title, &out->first, &out->second};
    if (!form || !split_form(form, between) || rest.n < between[0].n + between[SLOTS].n ||
        memcmp(rest.p, between[0].p, between[0].n) != 0 ||
        memcmp(rest.p + rest.n - between[SLOTS].n, between[SLOTS].p, between[SLOTS].n) != 0) {
        return false;
    }
    rest.p += between[0].n;
    rest.n -= between[0].n + between[SLOTS].n;
    for (size_t i = 0; i + 1 < SLOTS; i++) {
        const char *at = memmem(rest.p, rest.n, between[i + 1].p, between[i + 1].n);
        if (!at) {
            return false;
        }
        *to[i] = (struct str){rest.p, (size_t)(at - rest.p)};
        rest.n -= to[i]->n + between[i + 1].n;
        rest.p = at + between[i + 1].n;
    }
    out->second = rest;
    return out->title.n && out->first.n && out->second.n;
}

void pair_write(struct bytes *b, const char *form, const struct pair *p) {
    struct str between[SLOTS + 1], from[SLOTS] = {p->title, p->first, p->second};
    if (!split_form(form, between)) {
        return;
    }
    for (size_t i = 0; i < SLOTS; i++) {
        bytes_put(b, between[i].p, between[i].n);
        bytes_put(b, from[i].p, from[i].n);
    }
    bytes_put(b, between[SLOTS].p, between[SLOTS].n);
}

static bool alike(struct str a, struct str b) {
    char *x = NULL, *y = NULL;
    bool same = text_normalise(a.p, a.n, &x, NULL) || text_normalise(b.p, b.n, &y, NULL) || !*x || !*y ||
                strcmp(x, y) == 0;
    mem_free(x);
    mem_free(y);
    return same;
}

const char *pair_objection(const char *form, const char *input, const char *source) {
    struct pair mine, real;
    if (!pair_read(form, input, &mine) || !pair_read(form, source, &real)) {
        return "not worded like a pair";
    }
    if (mine.title.n != real.title.n || memcmp(mine.title.p, real.title.p, mine.title.n) != 0) {
        return "another title than that of its source";
    }
    const struct str new[] = {mine.first, mine.second}, old[] = {mine.title, real.first, real.second};
    for (size_t i = 0; i < 2; i++) {
        size_t words = words_count(new[i].p, new[i].n);
        if (words < 2 || words > 60) {
            return "half a pair is too short or too long";
        }
        for (size_t k = 0; k < sizeof old / sizeof *old; k++) {
            if (alike(new[i], old[k])) {
                return "half a pair is not new";
            }
        }
    }
    return alike(mine.first, mine.second) ? "both halves of a pair are the same" : NULL;
}
