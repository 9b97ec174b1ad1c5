/* cursor.h: a bounded reader of little-endian bytes. It knows its end and keeps its first failure: after
 * one read too far every later read gives zeros and moves nothing, so a parser may read a whole record and
 * ask once. It refuses to compute a position past the end. */
#ifndef MODELFILE_CURSOR_H
#define MODELFILE_CURSOR_H
#include <string.h>
#include "base/str.h"

struct cursor {
    const unsigned char *p;
    size_t size, at; /* at <= size, always */
    bool short_of;   /* something was read that is not there */
};

static inline uint32_t le32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t le64(const unsigned char *p) {
    return (uint64_t)le32(p) | (uint64_t)le32(p + 4) << 32;
}

static inline size_t cursor_left(const struct cursor *c) {
    return c->size - c->at;
}

/* The next n bytes, or NULL where fewer are left. */
static inline const unsigned char *cursor_take(struct cursor *c, uint64_t n) {
    const unsigned char *p = c->p + c->at;
    if (c->short_of || n > cursor_left(c)) {
        c->short_of = true;
        return NULL;
    }
    c->at += (size_t)n;
    return p;
}

static inline uint32_t cursor_u32(struct cursor *c) {
    const unsigned char *p = cursor_take(c, 4);
    return p ? le32(p) : 0;
}

static inline uint64_t cursor_u64(struct cursor *c) {
    const unsigned char *p = cursor_take(c, 8);
    return p ? le64(p) : 0;
}

/* A length and that many bytes. */
static inline struct str cursor_string(struct cursor *c) {
    uint64_t n = cursor_u64(c);
    const unsigned char *p = cursor_take(c, n);
    return p ? (struct str){(const char *)p, (size_t)n} : (struct str){"", 0};
}
#endif
