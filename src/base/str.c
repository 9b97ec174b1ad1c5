/* str.c: views of text, strict numbers, and UTF-8. A number is read only if the whole view is that number;
 * UTF-8 is the strict one of RFC 3629. */
#include "base/str.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct str str_of(const char *z) {
    return (struct str){z, z ? strlen(z) : 0};
}

bool str_eq(struct str a, const char *z) {
    size_t n = strlen(z);
    return a.n == n && (n == 0 || memcmp(a.p, z, n) == 0);
}

bool str_starts(struct str s, const char *z) {
    size_t n = strlen(z);
    return n <= s.n && (n == 0 || memcmp(s.p, z, n) == 0);
}

bool str_ends(struct str s, const char *z) {
    size_t n = strlen(z);
    return n <= s.n && (n == 0 || memcmp(s.p + s.n - n, z, n) == 0);
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

struct str str_trim(struct str s) {
    while (s.n && is_space(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

bool str_cut(struct str *rest, char sep, struct str *head) {
    if (!rest->p)
        return false;
    const char *at = rest->n ? memchr(rest->p, sep, rest->n) : NULL;
    if (!at) {
        *head = *rest;
        *rest = (struct str){NULL, 0};
        return true;
    }
    size_t n = (size_t)(at - rest->p);
    *head = (struct str){rest->p, n};
    *rest = (struct str){at + 1, rest->n - n - 1};
    return true;
}

bool parse_u64(struct str s, uint64_t *out) {
    uint64_t v = 0;
    if (!s.n)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!is_digit(s.p[i]) || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

bool parse_i64(struct str s, int64_t *out) {
    bool negative = s.n && s.p[0] == '-';
    uint64_t v;
    if (negative)
        s = (struct str){s.p + 1, s.n - 1};
    if (!parse_u64(s, &v) || v > (uint64_t)INT64_MAX + negative)
        return false;
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

static size_t digits(struct str s, size_t i) {
    size_t from = i;
    while (i < s.n && is_digit(s.p[i]))
        i++;
    return i - from;
}

/* -?digits[.digits][e[+-]digits], with digits on at least one side of the point. */
static bool is_decimal(struct str s) {
    size_t i = s.n && s.p[0] == '-', whole = digits(s, i), part = 0;
    i += whole;
    if (i < s.n && s.p[i] == '.') {
        part = digits(s, i + 1);
        i += 1 + part;
    }
    if (!whole && !part)
        return false;
    if (i < s.n && (s.p[i] == 'e' || s.p[i] == 'E')) {
        i++;
        if (i < s.n && (s.p[i] == '+' || s.p[i] == '-'))
            i++;
        size_t power = digits(s, i);
        if (!power)
            return false;
        i += power;
    }
    return i == s.n;
}

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void make_c_locale(void) {
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

bool parse_f64(struct str s, double *out) {
    char text[400];
    if (s.n >= sizeof text || !is_decimal(s))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    pthread_once(&c_locale_once, make_c_locale);
    if (!c_locale)
        return false;
    double v = strtod_l(text, NULL, c_locale);
    if (!isfinite(v))
        return false;
    *out = v;
    return true;
}

bool parse_size(struct str s, uint64_t *out) {
    static const char units[] = "KMGT";
    unsigned shift = 0;
    if (s.n > 1) {
        char last = s.p[s.n - 1];
        const char *unit = strchr(units, last >= 'a' && last <= 'z' ? last - 'a' + 'A' : last);
        if (unit && last) {
            shift = 10 * (unsigned)(unit - units + 1);
            s.n--;
        }
    }
    uint64_t v;
    return parse_u64(s, &v) && !__builtin_mul_overflow(v, (uint64_t)1 << shift, out);
}

uint32_t utf8_next(const char *p, size_t n, size_t *len) {
    const unsigned char *u = (const unsigned char *)p;
    uint32_t c = u[0];
    *len = 1;
    if (c < 0x80)
        return c;
    size_t need = c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (!need || need > n)
        return 0xfffd;
    c &= 0xffu >> (need + 1);
    for (size_t i = 1; i < need; i++) {
        if ((u[i] & 0xc0) != 0x80)
            return 0xfffd;
        c = c << 6 | (u[i] & 0x3f);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (c < least[need] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0xfffd;
    *len = need;
    return c;
}

bool utf8_valid(const char *p, size_t n, size_t *bad_at) {
    for (size_t i = 0, len; i < n; i += len) {
        utf8_next(p + i, n - i, &len);
        if (len == 1 && (unsigned char)p[i] >= 0x80) {
            if (bad_at)
                *bad_at = i;
            return false;
        }
    }
    return true;
}

size_t utf8_put(uint32_t c, char out[4]) {
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        c = 0xfffd;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    static const unsigned lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(lead[n] | c);
    return n;
}

size_t utf8_whole(const char *p, size_t n) {
    /* Only an unfinished character at the very end is cut off; what is plainly invalid stays. */
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)p[n - back];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t need = c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 1;
        return need > back ? n - back : n;
    }
    return n;
}
