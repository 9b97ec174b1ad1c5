/* cmd_records.c: looking at, searching, exporting and forgetting what is stored. */
#include "app.h"

#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct listing {
    const struct args *a;
    size_t n;
    bool whole;
};

/* The first line of a text, at most width bytes of it. */
static struct str head_of(const char *text, size_t width) {
    size_t n = strcspn(text, "\n");
    return (struct str){text, n <= width ? n : utf8_whole(text, width)};
}

static int show(void *ctx, const plm_record *r) {
    struct listing *l = ctx;
    l->n++;
    char when[21] = "-";
    if (r->when)
        clock_iso(r->when, when);
    if (l->a->json) {
        app_json(json_pack("{s:I, s:s, s:s, s:I, s:s, s:s, s:s, s:b}", "id", (json_int_t)r->id, "user",
                           r->user, "kind", r->kind, "when", (json_int_t)r->when, "input", r->input, "output",
                           r->output, "source", r->source ? r->source : "", "local_only", r->local_only));
    } else if (l->whole) {
        printf("record %lld  %s  %s  %.10s  %s%s\n\n%s\n\n%s\n", (long long)r->id, r->user, r->kind, when,
               r->source ? r->source : "", r->local_only ? "  (never leaves this machine)" : "", r->input,
               r->output);
    } else {
        struct str out = head_of(r->output, 60), in = head_of(r->input, 50);
        printf("%6lld  %-8.8s %-8.8s %.10s  %.*s  <- %.*s\n", (long long)r->id, r->user, r->kind, when,
               (int)out.n, out.p, (int)in.n, in.p);
    }
    return 0;
}

/* words to match, or id:N, or source:TEXT */
static plm_status parse_query(plm_query *q, const char *text, plm_error *err) {
    if (strncmp(text, "id:", 3) == 0) {
        if (!parse_i64(str_of(text + 3), &q->id) || q->id <= 0)
            return fail(err, PLM_EINVAL, "\"%s\" is no record id", text);
    } else if (strncmp(text, "source:", 7) == 0) {
        q->source = text + 7;
    } else {
        q->match = text;
    }
    return PLM_OK;
}

static int list(struct args *a, plm_store *st, const char *words, const char *id) {
    plm_error err = {0};
    plm_query q = {.user = a->user,
                   .kind = a->task,
                   .limit = a->limit ? a->limit
                            : words  ? 20
                                     : 50,
                   .newest_first = !words,
                   .match = words};
    struct listing l = {.a = a, .whole = id != NULL};
    if (id && (!parse_i64(str_of(id), &q.id) || q.id <= 0))
        return app_misuse(a, "records", "show takes a record's number");
    plm_status s = plm_store_find(st, &q, show, &l, &err);
    if (s == PLM_OK && !l.n && id)
        s = fail(&err, PLM_ENOTFOUND, "no record %s", id);
    if (s)
        return app_fail(&err);
    if (!l.n)
        app_say(a, "nothing found\n");
    return EXIT_DONE;
}

struct tally {
    char user[100], kind[60];
    size_t n;
    int64_t first, last;
};

struct stats {
    struct tally row[256];
    size_t n, records;
};

static int count(void *ctx, const plm_record *r) {
    struct stats *s = ctx;
    size_t i = 0;
    s->records++;
    while (i < s->n && (strcmp(s->row[i].user, r->user) != 0 || strcmp(s->row[i].kind, r->kind) != 0))
        i++;
    if (i == sizeof s->row / sizeof *s->row)
        return 0;
    struct tally *t = &s->row[i];
    if (i == s->n) {
        s->n++;
        snprintf(t->user, sizeof t->user, "%s", r->user);
        snprintf(t->kind, sizeof t->kind, "%s", r->kind);
        t->first = r->when;
    }
    t->n++;
    t->first = r->when < t->first ? r->when : t->first;
    t->last = r->when > t->last ? r->when : t->last;
    return 0;
}

static int stats(struct args *a, plm_store *st) {
    plm_error err = {0};
    plm_query q = {.user = a->user, .kind = a->task};
    struct stats *s = mem_zero(1, sizeof *s);
    plm_status rc = s ? plm_store_find(st, &q, count, s, &err) : fail(&err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; rc == PLM_OK && i < s->n; i++) {
        const struct tally *t = &s->row[i];
        char first[21] = "-", last[21] = "-";
        if (t->first)
            clock_iso(t->first, first);
        if (t->last)
            clock_iso(t->last, last);
        if (a->json)
            app_json(json_pack("{s:s, s:s, s:I, s:I, s:I}", "user", t->user, "kind", t->kind, "records",
                               (json_int_t)t->n, "first", (json_int_t)t->first, "last", (json_int_t)t->last));
        else
            printf("%-16s %-10s %6zu records  %.10s .. %.10s\n", t->user, t->kind, t->n, first, last);
    }
    if (rc == PLM_OK && !s->records)
        app_say(a, "nothing is stored yet: plm import SOURCE puts records there\n");
    mem_free(s);
    return rc ? app_fail(&err) : EXIT_DONE;
}

static int remove_file(void *ctx, const char *path) {
    (void)ctx;
    return unlink(path) && file_exists(path);
}

/* Unfinished jobs hold adapters that learned the records and what was written from them: they go as a whole.
 */
static plm_status remove_jobs(plm_error *err) {
    char *folder = app_path(PLACE_DATA, "jobs"), *const roots[] = {folder, NULL};
    FTS *tree = folder && dir_exists(folder) ? fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL) : NULL;
    plm_status st = folder ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    for (FTSENT *e; tree && st == PLM_OK && (e = fts_read(tree));)
        if (e->fts_info != FTS_D && remove(e->fts_accpath))
            st = fail(err, PLM_EIO, "%s can't be deleted", e->fts_path);
    if (tree)
        fts_close(tree);
    plm_free(folder);
    return st;
}

static bool agree(const struct args *a, size_t n) {
    char answer[16] = "";
    if (a->yes)
        return true;
    if (!isatty(STDIN_FILENO))
        return false;
    fprintf(stderr, "Forget %zu records, what was made from them, and the adapters that learned them? [y/N] ",
            n);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int forget(struct args *a, plm_store *st, const char *text) {
    plm_error err = {0};
    plm_query q = {.user = a->user, .kind = a->task};
    plm_forgotten gone = {0};
    size_t n = 0;
    plm_status s = parse_query(&q, text, &err);
    if (s == PLM_OK)
        s = plm_store_count(st, &q, &n, &err);
    if (s == PLM_OK && n == 0)
        s = fail(&err, PLM_ENOTFOUND, "no record matches \"%s\"", text);
    if (s == PLM_OK && !agree(a, n))
        s = fail(&err, PLM_ESTOPPED, "nothing was forgotten: %zu records match; --yes says that you mean it",
                 n);
    if (s == PLM_OK)
        s = remove_jobs(&err);
    if (s == PLM_OK)
        s = plm_store_forget(st, &q, &gone, remove_file, NULL, &err);
    if (s)
        return app_fail(&err);
    if (a->json)
        return app_json(json_pack("{s:I, s:I, s:I, s:I}", "records", (json_int_t)gone.records, "synthetic",
                                  (json_int_t)gone.synthetic, "replies", (json_int_t)gone.replies, "adapters",
                                  (json_int_t)gone.adapters));
    printf("forgot %zu records, %zu synthetic examples, %zu replies; retired %zu adapters\n", gone.records,
           gone.synthetic, gone.replies, gone.adapters);
    return EXIT_DONE;
}

static int export(struct args *a, plm_store *st, const char *path) {
    plm_error err = {0};
    plm_status s = plm_store_export(st, app_user(a), path, &err);
    if (s)
        return app_fail(&err);
    app_say(a, "everything of %s is in %s\n", app_user(a), path);
    return EXIT_DONE;
}

int cmd_records(struct args *a) {
    const char *verb = a->n_rest ? a->rest[0] : "list", *word = a->n_rest > 1 ? a->rest[1] : NULL;
    bool known = strcmp(verb, "list") == 0 || strcmp(verb, "stats") == 0;
    bool with_word = strcmp(verb, "search") == 0 || strcmp(verb, "show") == 0 ||
                     strcmp(verb, "forget") == 0 || strcmp(verb, "export") == 0;
    if (!known && !with_word)
        return app_misuse(a, "records", "the verbs are list, search, show, stats, forget and export");
    if (with_word ? a->n_rest != 2 : a->n_rest > 1)
        return app_misuse(a, "records",
                          with_word ? "this verb takes one argument" : "this verb takes no argument");
    plm_error err = {0};
    plm_store *st = NULL;
    if (app_store(&st, a, strcmp(verb, "forget") != 0, &err))
        return app_fail(&err);
    int rc = strcmp(verb, "list") == 0     ? list(a, st, NULL, NULL)
             : strcmp(verb, "search") == 0 ? list(a, st, word, NULL)
             : strcmp(verb, "show") == 0   ? list(a, st, NULL, word)
             : strcmp(verb, "stats") == 0  ? stats(a, st)
             : strcmp(verb, "forget") == 0 ? forget(a, st, word)
                                           : export(a, st, word);
    plm_store_close(st);
    return rc;
}
