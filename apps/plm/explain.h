/* explain.h: why the last run of `plm personalize` did what it did, in sentences. */
#ifndef PLM_EXPLAIN_H
#define PLM_EXPLAIN_H
#include "app.h"

/* From FOLDER/report.json. PLM_ENOTFOUND: there was no run yet. */
plm_status explain_print(const char *folder, FILE *to, plm_error *err);
#endif
