/* sequences.h: --ids files, [[id,...],...]. */
#ifndef PLM_SEQUENCES_H
#define PLM_SEQUENCES_H
#include "app.h"

struct sequences {
    int32_t **ids;
    size_t *len;
    size_t n;
};
plm_status sequences_read(struct sequences *out, const char *path, int vocab, plm_error *err);
void sequences_free(struct sequences *s);
#endif
