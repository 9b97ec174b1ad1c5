/* kind.h: the door of kind/. The calls are in plm.h (section 7); here is what import and augmentation ask
 * besides. */
#ifndef KIND_KIND_H
#define KIND_KIND_H
#include "base/base.h"

/* The slot in an instruction where the input goes; without one the input follows after a blank line. */
#define KIND_SLOT "{input}"

/* Is this one of the kind's answers? Any text is, where the kind has no labels. */
bool kind_takes(const plm_kind *kind, const char *output);
/* The first kind of the table both of whose fields has() says yes to; NULL: none. */
const plm_kind *kind_with_fields(const plm_kinds *k, bool (*has)(void *ctx, const char *field), void *ctx);
#endif
