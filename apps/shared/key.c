/* key.c: where a key comes from. */
#include "shared/key.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_MOST = 4096 };

plm_status teacher_key(struct bytes *key, const char *file, const char *variable, plm_error *err) {
    const char *set = getenv(variable);
    plm_status st = PLM_OK;
    bytes_init(key, KEY_MOST);
    if (file)
        st = file_read(file, KEY_MOST, key, err);
    else
        bytes_puts(key, set ? set : "");
    while (st == PLM_OK && key->len && strchr("\r\n", key->data[key->len - 1]))
        key->data[--key->len] = 0;
    return st ? st : bytes_status(key, "the key", err);
}
