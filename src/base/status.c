/* status.c: error sentences and the names of the codes. A sentence is always one line of printable UTF-8,
 * whatever the file names and file contents that went into it. */
#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

const char *plm_version(void) {
    return PLM_VERSION;
}

const char *plm_status_name(plm_status code) {
    switch (code) {
    case PLM_OK:
        return "ok";
    case PLM_EINVAL:
        return "invalid";
    case PLM_ENOMEM:
        return "out of memory";
    case PLM_EIO:
        return "input/output";
    case PLM_EFORMAT:
        return "format";
    case PLM_ENOTSUP:
        return "not supported";
    case PLM_ENOTFOUND:
        return "not found";
    case PLM_ELIMIT:
        return "limit";
    case PLM_EBUSY:
        return "busy";
    case PLM_EREMOTE:
        return "remote";
    case PLM_ESTOPPED:
        return "stopped";
    }
    return "unknown";
}

void plm_free(void *owned) {
    mem_free(owned);
}

/* What a terminal could take for a command becomes '?': C0, DEL, C1, and bytes that are not UTF-8. */
static void make_printable(char *text, size_t len) {
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t c = utf8_next(text + i, len - i, &n);
        bool bad = n == 1 && (unsigned char)text[i] >= 0x80;
        if (bad || c < 0x20 || (c >= 0x7f && c < 0xa0))
            memset(text + i, '?', n);
    }
}

plm_status fail(plm_error *err, plm_status code, const char *fmt, ...) {
    if (!err)
        return code;
    char line[sizeof err->text]; /* the arguments may point into err */
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len >= sizeof line)
        len = utf8_whole(line, sizeof line - 1);
    make_printable(line, len);
    line[len] = 0;
    memcpy(err->text, line, len + 1);
    err->code = code;
    return code;
}

plm_status fail_errno(plm_error *err, int number, const char *path) {
    char room[128];
    const char *why = strerror_r(number, room, sizeof room);
    plm_status code = number == ENOENT ? PLM_ENOTFOUND : number == ENOMEM ? PLM_ENOMEM : PLM_EIO;
    return fail(err, code, "%s: %s", path, why);
}

plm_status fail_in(plm_error *err, plm_status st, const char *what) {
    if (!err)
        return st;
    return fail(err, err->code, "%s: %s", what, err->text);
}
