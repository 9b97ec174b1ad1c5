/* compose.c: Unicode normal form C in linear time. utf8proc knows the characters; the ordering of
 * combining marks is ours, because its own takes quadratic time on a long run of them.
 * Characters below U+0300 neither change nor combine backwards, so only the runs above them, each
 * with the one character before it, are worked on. */
#include <string.h>
#include <utf8proc.h>
#include "token/vocab.h"

struct run { /* code points being normalised */
    int32_t *c;
    size_t n, cap;
};

static plm_status run_reserve(struct run *r, size_t more, plm_error *err) {
    if (r->n + more <= r->cap) {
        return PLM_OK;
    }
    size_t cap = r->cap * 2 + more + 64;
    int32_t *c = mem_grow(r->c, cap, sizeof *c);
    if (!c) {
        return fail(err, PLM_ENOMEM, "no memory to normalise a text");
    }
    r->c = c;
    r->cap = cap;
    return PLM_OK;
}

static plm_status run_decompose(struct run *r, uint32_t c, plm_error *err) {
    enum { MOST = 16 }; /* the longest canonical decomposition has 4 */
    plm_status st = run_reserve(r, MOST, err);
    if (!st) {
        int boundary = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char((int32_t)c, r->c + r->n, MOST,
                                                     UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
        if (n <= 0 || n > MOST) { /* not assigned in this Unicode version: as it is */
            r->c[r->n] = (int32_t)c;
            n = 1;
        }
        r->n += (size_t)n;
    }
    return st;
}

static int combining_class(int32_t c) {
    return utf8proc_get_property(c)->combining_class & 255;
}

/* Stable counting sort by combining class. */
static plm_status sort_marks(int32_t *c, size_t n, plm_error *err) {
    size_t start[257] = {0};
    bool sorted = true;
    for (size_t i = 0; i < n; i++) {
        start[combining_class(c[i]) + 1]++;
        sorted = sorted && (!i || combining_class(c[i - 1]) <= combining_class(c[i]));
    }
    if (sorted) {
        return PLM_OK;
    }
    int32_t *copy = mem_alloc(n, sizeof *copy);
    if (!copy) {
        return fail(err, PLM_ENOMEM, "no memory to normalise a text");
    }
    memcpy(copy, c, n * sizeof *c);
    for (int k = 1; k < 257; k++) {
        start[k] += start[k - 1];
    }
    for (size_t i = 0; i < n; i++) {
        c[start[combining_class(copy[i])]++] = copy[i];
    }
    mem_free(copy);
    return PLM_OK;
}

static plm_status run_flush(struct run *r, struct bytes *out, plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; i < r->n && !st;) {
        size_t marks = i;
        while (marks < r->n && combining_class(r->c[marks])) {
            marks++;
        }
        if (marks - i > 1) {
            st = sort_marks(r->c + i, marks - i, err);
        }
        i = marks + 1;
    }
    utf8proc_ssize_t n =
        st ? 0 : utf8proc_normalize_utf32(r->c, (utf8proc_ssize_t)r->n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        char c[4];
        bytes_put(out, c, utf8_put((uint32_t)r->c[i], c));
    }
    r->n = 0;
    return st;
}

/* Bytes at the start of s that stay as they are: all before the last character below a mark. */
static size_t settled(struct str s) {
    size_t at = 0, last = 0;
    while (at < s.n) {
        size_t len;
        uint32_t c = utf8_next(s.p + at, s.n - at, &len);
        if (c >= 0x300 && !(c == 0xFFFD && len == 1)) {
            return last;
        }
        /* a bad byte combines with nothing */
        last = c == 0xFFFD ? at + len : at;
        at += len;
    }
    return s.n;
}

plm_status compose_text(struct str text, struct bytes *out, plm_error *err) {
    struct run run = {0};
    plm_status st = PLM_OK;
    while (text.n && !st) {
        size_t same = settled(text);
        bytes_put(out, text.p, same);
        text.p += same;
        text.n -= same;
        for (size_t taken = 0; text.n && !st; taken++) {
            size_t len;
            uint32_t c = utf8_next(text.p, text.n, &len);
            if ((taken && c < 0x300) || (c == 0xFFFD && len == 1)) {
                break;
            }
            st = run_decompose(&run, c, err);
            text.p += len;
            text.n -= len;
        }
        if (!st) {
            st = run_flush(&run, out, err);
        }
    }
    mem_free(run.c);
    return st ? st : bytes_status(out, "a text to normalise", err);
}
