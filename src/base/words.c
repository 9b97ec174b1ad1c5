/* words.c: cuts text into words by one of three rules. Bytes that are not UTF-8 separate words (under
 * WORDS_SPACE they belong to them); nothing is refused. */
#include "base/text.h"

#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"

enum letter { SEPARATOR, LETTER, MARK /* only goes on */, ALONE /* a word of its own */ };

/* Han, kana and Hangul syllables, which are written without blanks or count alike. */
static bool is_cjk(uint32_t c) {
    return (c >= 0x3005 && c <= 0x3007) || (c >= 0x3040 && c <= 0x30ff) || (c >= 0x31f0 && c <= 0x31ff) ||
           (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x4e00 && c <= 0x9fff) || (c >= 0xac00 && c <= 0xd7a3) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0xff66 && c <= 0xff9f) || (c >= 0x20000 && c <= 0x3ffff);
}

static enum letter kind_of(uint32_t c) {
    if (c < 0x80)
        return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ? LETTER : SEPARATOR;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return is_cjk(c) ? ALONE : LETTER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return MARK;
    default:
        return SEPARATOR;
    }
}

static bool is_blank(uint32_t c) {
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

struct str text_strip(struct str s) {
    size_t step;
    while (s.n && is_blank(utf8_next(s.p, s.n, &step))) {
        s.p += step;
        s.n -= step;
    }
    for (size_t back = 1; back <= 3 && back <= s.n; back++)
        if (is_blank(utf8_next(s.p + s.n - back, back, &step)) && step == back) {
            s.n -= back;
            back = 0;
        }
    return s;
}

static uint32_t lower(uint32_t c) {
    if (c < 0x80)
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}

struct scan {
    const char *p;
    size_t n, at;
    enum word_rule rule;
};

/* What c means under the rule; *as is the character that goes into the word. */
static enum letter classify(const struct scan *s, uint32_t c, bool bad, uint32_t *as) {
    *as = s->rule == WORDS_SPACE ? c : lower(c);
    if (s->rule == WORDS_SPACE)
        return !bad && is_blank(c) ? SEPARATOR : LETTER;
    if (bad)
        return SEPARATOR;
    if (s->rule == WORDS_UNICODE)
        return kind_of(c);
    /* Lower-casing comes before the test for a-z: the Kelvin sign counts as k. */
    return *as < 0x80 && kind_of(*as) == LETTER ? LETTER : SEPARATOR;
}

/* The next word, written to out (NULL: only measured). False at the end. */
static bool next_word(struct scan *s, char *out, size_t *len) {
    size_t size = 0, step;
    while (s->at < s->n) {
        const char *p = s->p + s->at;
        uint32_t c = utf8_next(p, s->n - s->at, &step), as;
        bool bad = step == 1 && (unsigned char)*p >= 0x80;
        enum letter k = classify(s, c, bad, &as);
        if (size && (k == SEPARATOR || k == ALONE))
            break;
        s->at += step;
        if (k == SEPARATOR || (k == MARK && !size))
            continue;
        char text[4] = {p[0]};
        size_t n = bad ? 1 : utf8_put(as, text);
        if (out)
            memcpy(out + size, text, n);
        size += n;
        /* A dotted capital I lower-cases to i and a combining dot, which ends an ASCII word. */
        if (k == ALONE || (s->rule == WORDS_ROUGE && c == 0x130))
            break;
    }
    *len = size;
    return size > 0;
}

static uint32_t hash_of(struct str w) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < w.n; i++)
        h = (h ^ (unsigned char)w.p[i]) * 16777619u;
    return h;
}

plm_status words_split(struct words *out, const char *text, size_t len, enum word_rule rule, plm_error *err) {
    struct scan s = {text, len, 0, rule};
    size_t n = 0, bytes = 0, size;
    while (next_word(&s, NULL, &size)) {
        n++;
        bytes += size;
    }
    struct words w = {mem_alloc(n, sizeof *w.w), n, mem_alloc(bytes, 1), mem_alloc(n, sizeof *w.hash)};
    if (!w.w || !w.own || !w.hash) {
        words_free(&w);
        return fail(err, PLM_ENOMEM, "out of memory for a text of %zu words", n);
    }
    s.at = 0;
    bytes = 0;
    for (size_t i = 0; i < n; i++) {
        next_word(&s, w.own + bytes, &size);
        w.w[i] = (struct str){w.own + bytes, size};
        w.hash[i] = hash_of(w.w[i]);
        bytes += size;
    }
    *out = w;
    return PLM_OK;
}

void words_free(struct words *w) {
    mem_free(w->w);
    mem_free(w->own);
    mem_free(w->hash);
    memset(w, 0, sizeof *w);
}

size_t words_count(const char *text, size_t len) {
    struct scan s = {text, len, 0, WORDS_UNICODE};
    size_t n = 0, size;
    while (next_word(&s, NULL, &size))
        n++;
    return n;
}

plm_status text_normalise(const char *text, size_t len, char **out, plm_error *err) {
    struct scan s = {text, len, 0, WORDS_UNICODE};
    size_t bytes = 1, at = 0, size;
    while (next_word(&s, NULL, &size))
        bytes += size + 1;
    char *line = mem_alloc(bytes, 1);
    if (!line)
        return fail(err, PLM_ENOMEM, "out of memory for a text of %zu bytes", len);
    s.at = 0;
    while (next_word(&s, line + at, &size)) {
        at += size;
        line[at++] = ' ';
    }
    line[at ? at - 1 : 0] = 0;
    *out = line;
    return PLM_OK;
}
