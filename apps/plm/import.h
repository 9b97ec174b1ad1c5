/* import.h: importing one source with talk, for import and personalize. */
#ifndef PLM_IMPORT_H
#define PLM_IMPORT_H
#include "app.h"

#include <stdio.h>

struct import_talk {
    const struct args *args;
    size_t skipped;
};
plm_status import_source(plm_store *store, const plm_kinds *kinds, const char *source, const struct args *a,
                         plm_import_report *report, plm_error *err);
json_t *import_json(const char *source, const plm_import_report *r);
void import_print(FILE *to, const char *source, const plm_import_report *r);
#endif
