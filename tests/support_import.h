/* support_import.h: one import into a fresh store, and what came of it as text. */
#ifndef SUPPORT_IMPORT_H
#define SUPPORT_IMPORT_H
#include "plm.h"
#include "support_folder.h"

struct import {
    plm_status st;
    plm_error err;
    plm_import_report report;
    char skips[8192];    /* "where: why\n" for each */
    char records[16384]; /* "kind|input|output|source|time\n" for each, in order of id */
};

/* Runs plm_import on name of the folder with user "ana"; the store is s.db of the folder. */
void import_run(struct import *i, struct folder *f, const char *source, plm_import_options opt);
/* The counts as "seen added known others skipped". */
const char *import_counts(const struct import *i);
#endif
