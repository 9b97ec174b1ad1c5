/* cmd_import.c: records into the local store. Also the part of personalize that imports. */
#include "import.h"

#include <stdio.h>

static void on_skip(void *ctx, const char *where, const char *why) {
    struct import_talk *t = ctx;
    t->skipped++;
    if (t->args->verbose || t->skipped <= 5)
        app_say(t->args, "skipped %s: %s\n", where, why);
    else if (t->skipped == 6)
        app_say(t->args, "more rows are skipped; -v shows all of them\n");
}

plm_status import_source(plm_store *store, const plm_kinds *kinds, const char *source, const struct args *a,
                         plm_import_report *report, plm_error *err) {
    plm_import_options opt = {
        .user = app_user(a), .kind = a->task, .me = a->me, .format = a->format, .local_only = a->local_only};
    struct import_talk talk = {.args = a};
    return plm_import(store, kinds, source, &opt, report, on_skip, &talk, err);
}

json_t *import_json(const char *source, const plm_import_report *r) {
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "source", source, "format",
                     r->format ? r->format : "", "seen", (json_int_t)r->seen, "added", (json_int_t)r->added,
                     "known", (json_int_t)r->known, "others", (json_int_t)r->others, "skipped",
                     (json_int_t)r->skipped);
}

void import_print(FILE *to, const char *source, const plm_import_report *r) {
    fprintf(to, "%s (%s): %zu records added, %zu known already", source, r->format ? r->format : "nothing",
            r->added, r->known);
    if (r->others)
        fprintf(to, ", %zu by other people left out", r->others);
    if (r->skipped)
        fprintf(to, ", %zu skipped", r->skipped);
    fputc('\n', to);
}

int cmd_import(struct args *a) {
    if (!a->n_rest)
        return app_misuse(a, "import", "give at least one SOURCE: a file, a folder or a git repository");
    plm_error err = {0};
    plm_store *store = NULL;
    plm_kinds *kinds = NULL;
    plm_status st = app_kinds(&kinds, a, &err);
    if (st == PLM_OK)
        st = app_store(&store, a, false, &err);
    for (int i = 0; st == PLM_OK && i < a->n_rest; i++) {
        plm_import_report r = {0};
        st = import_source(store, kinds, a->rest[i], a, &r, &err);
        if (st == PLM_OK && a->json)
            app_json(import_json(a->rest[i], &r));
        else if (st == PLM_OK)
            import_print(stdout, a->rest[i], &r);
    }
    plm_store_close(store);
    plm_kinds_close(kinds);
    return st ? app_fail(&err) : EXIT_DONE;
}
