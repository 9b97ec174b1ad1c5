/* bytes.h: a growable buffer that is born with a ceiling. Always NUL-terminated past len.
 * The first failure sticks: later appends do nothing, and bytes_status reports it once at the end. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H
#include "base/status.h"

struct bytes {
    char *data;
    size_t len, cap, max;
    plm_status st;
};

void bytes_init(struct bytes *b, size_t max);
void bytes_free(struct bytes *b);
void bytes_clear(struct bytes *b); /* len 0, memory kept, failure kept */
void bytes_put(struct bytes *b, const void *data, size_t len);
void bytes_puts(struct bytes *b, const char *text);
void bytes_putc(struct bytes *b, char c);
void bytes_printf(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A quoted JSON string; bad UTF-8 becomes U+FFFD. */
void bytes_json(struct bytes *b, const char *text, size_t len);
/* Escaped, for an element or a quoted attribute; NULL: nothing. */
void bytes_html(struct bytes *b, const char *text);
plm_status bytes_status(const struct bytes *b, const char *what, plm_error *err); /* OK, ENOMEM or ELIMIT */
char *bytes_take(struct bytes *b); /* the caller's; b is empty again. NULL on failure */
#endif
