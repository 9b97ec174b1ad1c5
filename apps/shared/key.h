/* key.h: the bearer token of a teacher: from a file, else from the environment; never in argv, never printed.
 */
#ifndef SHARED_KEY_H
#define SHARED_KEY_H
#include "base/base.h"

/* file NULL: the environment's variable; "": there is none. Without the line's end. key is opened here;
 * bytes_free it. */
plm_status teacher_key(struct bytes *key, const char *file, const char *variable, plm_error *err);
#endif
