#include "support_import.h"

static void note_skip(void *ctx, const char *where, const char *why) {
    struct import *i = ctx;
    size_t n = strlen(i->skips);
    snprintf(i->skips + n, sizeof i->skips - n, "%s: %s\n", where, why);
}

static int note_record(void *ctx, const plm_record *r) {
    struct import *i = ctx;
    size_t n = strlen(i->records);
    snprintf(i->records + n, sizeof i->records - n, "%s|%s|%s|%s|%lld\n", r->kind, r->input, r->output,
             r->source ? r->source : "-", (long long)r->when);
    return 0;
}

void import_run(struct import *i, struct folder *f, const char *source, plm_import_options opt) {
    char path[100];
    plm_store *st = NULL;
    plm_kinds *kinds = NULL;
    plm_error err = {0};
    memset(i, 0, sizeof *i);
    snprintf(path, sizeof path, "%s/s.db", f->path);
    opt.user = opt.user ? opt.user : "ana";
    if (plm_store_open(&st, path, false, &err) || plm_kinds_open(&kinds, NULL, &err)) {
        fail_msg("%s", err.text);
    }
    i->st = plm_import(st, kinds, source, &opt, &i->report, note_skip, i, &i->err);
    if (plm_store_find(st, &(plm_query){.user = opt.user}, note_record, i, &err)) {
        fail_msg("%s", err.text);
    }
    plm_kinds_close(kinds);
    plm_store_close(st);
}

const char *import_counts(const struct import *i) {
    static char text[100];
    snprintf(text, sizeof text, "%zu %zu %zu %zu %zu", i->report.seen, i->report.added, i->report.known,
             i->report.others, i->report.skipped);
    return text;
}
