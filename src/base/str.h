/* str.h: (pointer, length) views, strict numbers, UTF-8. */
#ifndef BASE_STR_H
#define BASE_STR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
    const char *p;
    size_t n;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
struct str str_of(const char *z); /* NULL gives an empty one */
bool str_eq(struct str a, const char *z);
bool str_starts(struct str s, const char *z);
bool str_ends(struct str s, const char *z);
struct str str_trim(struct str s); /* ASCII white space off both ends */
/* Cuts the part before sep off *rest into *head; false when *rest was exhausted. */
bool str_cut(struct str *rest, char sep, struct str *head);
bool parse_i64(struct str s, int64_t *out); /* the whole view is one decimal number in range */
bool parse_u64(struct str s, uint64_t *out);
bool parse_f64(struct str s, double *out);    /* finite, "C" locale, the whole view */
bool parse_size(struct str s, uint64_t *out); /* "300M", "1G", "64K", plain bytes */

/* One character: its code point (U+FFFD and 1 byte for bad input) and its length. n > 0. */
uint32_t utf8_next(const char *p, size_t n, size_t *len);
/* Strict: no surrogates, no overlong forms. bad_at may be NULL. */
bool utf8_valid(const char *p, size_t n, size_t *bad_at);
size_t utf8_put(uint32_t c, char out[4]);
size_t utf8_whole(const char *p, size_t n); /* largest prefix that does not end inside a character */
#endif
