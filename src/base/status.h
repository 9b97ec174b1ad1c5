/* status.h: the one error convention. A code for programs, a sentence for people, in the caller's
 * plm_error. `return fail(err, PLM_EFORMAT, "tensor %s: ...", name);` */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H
#include "plm.h"

/* Writes the sentence (cut to fit, control characters shown as '?') and returns code. err may be NULL.
 * (In brackets because cmocka has a macro of that name.) */
plm_status(fail)(plm_error *err, plm_status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The sentence for errno: "PATH: No such file or directory". PLM_ENOTFOUND for ENOENT, else PLM_EIO. */
plm_status fail_errno(plm_error *err, int number, const char *path);
/* Puts "what: " before the sentence already in err. Returns err's code. */
plm_status fail_in(plm_error *err, plm_status st, const char *what);
#endif
