/* bytes.c: the growable buffer. Never grows past its ceiling; its first failure is kept until it is asked
 * for. */
#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

static char nothing[1]; /* an empty buffer's text; never written */

void bytes_init(struct bytes *b, size_t max) {
    *b = (struct bytes){.data = nothing, .max = max};
}

void bytes_free(struct bytes *b) {
    if (b->cap)
        mem_free(b->data);
    bytes_init(b, b->max);
}

void bytes_clear(struct bytes *b) {
    b->len = 0;
    if (b->cap)
        b->data[0] = 0;
}

/* Makes room for extra more bytes and the NUL. */
static bool reserve(struct bytes *b, size_t extra) {
    if (b->st)
        return false;
    if (extra > b->max - b->len) {
        b->st = PLM_ELIMIT;
        return false;
    }
    size_t need = b->len + extra;
    if (need < b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap <= need)
        cap = cap > SIZE_MAX / 2 ? SIZE_MAX : cap * 2;
    if (cap - 1 > b->max)
        cap = b->max == SIZE_MAX ? SIZE_MAX : b->max + 1;
    char *data = mem_grow(b->cap ? b->data : NULL, cap, 1);
    if (!data) {
        b->st = PLM_ENOMEM;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void bytes_put(struct bytes *b, const void *data, size_t len) {
    if (!reserve(b, len))
        return;
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = 0;
}

void bytes_puts(struct bytes *b, const char *text) {
    bytes_put(b, text, strlen(text));
}

void bytes_putc(struct bytes *b, char c) {
    bytes_put(b, &c, 1);
}

void bytes_printf(struct bytes *b, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    } else if (n < 0 && !b->st) {
        b->st = PLM_EINVAL;
    }
    va_end(again);
}

/* The short escape of c, or 0. */
static char json_escape(uint32_t c) {
    switch (c) {
    case '"':
        return '"';
    case '\\':
        return '\\';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

void bytes_json(struct bytes *b, const char *text, size_t len) {
    bytes_putc(b, '"');
    size_t from = 0; /* start of what needs no escape */
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t c = utf8_next(text + i, len - i, &n);
        bool bad = n == 1 && (unsigned char)text[i] >= 0x80;
        if (!bad && c >= 0x20 && c != '"' && c != '\\')
            continue;
        bytes_put(b, text + from, i - from);
        from = i + n;
        if (bad)
            bytes_puts(b, "\xef\xbf\xbd");
        else if (json_escape(c))
            bytes_put(b, (char[]){'\\', json_escape(c)}, 2);
        else
            bytes_printf(b, "\\u%04x", (unsigned)c);
    }
    if (len > from)
        bytes_put(b, text + from, len - from);
    bytes_putc(b, '"');
}

void bytes_html(struct bytes *b, const char *text) {
    for (; text && *text; text++) {
        if (*text == '<')
            bytes_puts(b, "&lt;");
        else if (*text == '>')
            bytes_puts(b, "&gt;");
        else if (*text == '&')
            bytes_puts(b, "&amp;");
        else if (*text == '"')
            bytes_puts(b, "&quot;");
        else
            bytes_putc(b, *text);
    }
}

plm_status bytes_status(const struct bytes *b, const char *what, plm_error *err) {
    switch (b->st) {
    case PLM_OK:
        return PLM_OK;
    case PLM_ELIMIT:
        return fail(err, PLM_ELIMIT, "%s is larger than its limit of %zu bytes", what, b->max);
    case PLM_ENOMEM:
        return fail(err, PLM_ENOMEM, "out of memory for %s", what);
    default:
        return fail(err, b->st, "%s could not be written as text", what);
    }
}

char *bytes_take(struct bytes *b) {
    bytes_put(b, "", 0); /* an empty one is still an allocated "" */
    char *data = b->st ? NULL : b->data;
    if (!data)
        bytes_free(b);
    bytes_init(b, b->max);
    return data;
}
