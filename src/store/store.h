/* store.h: the door of store/. The calls are in plm.h (section 8); here are the ceilings of what a store
 * takes, and the check that the import runs on a row before it is offered. SQL is written in this room alone.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H
#include "base/status.h"

enum {
    STORE_TEXT_MAX = 64 << 10, /* bytes of a record's input or output */
    STORE_SOURCE_MAX = 4 << 10,
    STORE_NAME_MAX = 256, /* a user, a kind, a teacher */
    STORE_REPLY_MAX = 1 << 20,
    STORE_SETTING_MAX = 8 << 20,
};

/* Would plm_store_add take this record? UTF-8, within the ceilings, a user, a kind and an output. */
plm_status record_check(const plm_record *r, plm_error *err);
#endif
