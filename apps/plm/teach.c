/* teach.c: opens the teacher and asks the person before anything leaves the machine. */
#include "teach.h"

#include "shared/key.h"

#include "models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int on_waiting(void *ctx, const char *why, double seconds) {
    struct teaching *t = ctx;
    progress_end(&t->bar);
    app_say(t->args, "teacher: %s; trying again in %.0f s\n", why, seconds);
    return 0;
}

static int on_progress(void *ctx, size_t done, size_t total, size_t candidates) {
    struct teaching *t = ctx;
    char note[40];
    snprintf(note, sizeof note, "%zu written", candidates);
    progress_at(&t->bar, (double)done, (double)total, note);
    return 0;
}

static plm_status open_teacher(struct teaching *t, const char *spec, plm_error *err) {
    struct bytes key;
    char *digests = app_path(PLACE_CACHE, "digests");
    plm_status st = digests ? teacher_key(&key, t->args->teacher_key_file, "PLM_TEACHER_KEY", err)
                            : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK) {
        plm_teacher_options opt = {.spec = spec,
                                   .model_name = t->args->teacher_model,
                                   .threads = t->args->threads,
                                   .key = key.len ? key.data : NULL,
                                   .cpu = t->args->cpu,
                                   .digest_cache = digests,
                                   .ca_file = t->args->teacher_ca,
                                   .batch_out = t->args->batch_out,
                                   .batch_in = t->args->batch_in,
                                   .max_cost = t->args->max_cost,
                                   .cost_in = t->args->cost_in,
                                   .cost_out = t->args->cost_out,
                                   .waiting = on_waiting,
                                   .ctx = t};
        st = plm_teacher_open(&t->teacher, &opt, err);
        bytes_free(&key);
    }
    plm_free(digests);
    return st;
}

plm_status teach_open(struct teaching *t, const struct args *a, plm_store *store, const plm_kind *kind,
                      plm_error *err) {
    *t = (struct teaching){.args = a, .store = store, .kind = kind};
    t->run = (plm_augment_run){.user = app_user(a), .progress = on_progress, .ctx = t};
    if (a->no_teacher)
        return PLM_OK;
    if (a->teacher)
        return open_teacher(t, a->teacher, err);
    char *fetched = known_model_path(known_teacher());
    plm_status st = fetched && file_exists(fetched) ? open_teacher(t, fetched, err) : PLM_OK;
    plm_free(fetched);
    return st;
}

void teach_close(struct teaching *t) {
    plm_teacher_close(t->teacher);
    t->teacher = NULL;
}

plm_augment_policy teach_policy(const struct teaching *t) {
    const struct args *a = t->args;
    return (plm_augment_policy){.user = app_user(a),
                                .kind = t->kind,
                                .wanted = a->wanted,
                                .seed = a->seed,
                                .epsilon = a->epsilon,
                                .epsilon_budget = a->epsilon_budget > 0 ? a->epsilon_budget : 1,
                                .summary_only = a->share && strcmp(a->share, "summary") == 0,
                                .unredacted = t->teacher && plm_teacher_is_local(t->teacher),
                                .capable = t->teacher && plm_teacher_is_capable(t->teacher)};
}

/* ---- what it will take ---- */

static void forecast_words(const struct teaching *t, char out[200]) {
    const struct args *a = t->args;
    const plm_augment_forecast *f = &t->forecast;
    size_t n = (size_t)snprintf(out, 200, "about %zu calls of %lld tokens in and %lld out", f->calls,
                                (long long)f->tokens_in, (long long)f->tokens_out);
    if (f->cost > 0)
        n += (size_t)snprintf(out + n, 200 - n, ", %.3g at the given prices", f->cost);
    if (a->max_cost > 0)
        snprintf(out + n, 200 - n, ", never over %.3g", a->max_cost);
}

plm_status teach_forecast(struct teaching *t, const char *request, int (*each)(void *ctx, const char *body),
                          plm_error *err) {
    return plm_augment_preview(request, t->teacher, each, NULL, &t->forecast, err);
}

void teach_say_forecast(const struct teaching *t) {
    char words[200];
    forecast_words(t, words);
    if (!plm_teacher_is_local(t->teacher))
        app_say(t->args, "teacher: %s\n", words);
}

json_t *forecast_json(const plm_augment_forecast *f) {
    return json_pack("{s:I, s:I, s:I, s:I, s:f}", "calls", (json_int_t)f->calls, "tokens_in",
                     (json_int_t)f->tokens_in, "tokens_out", (json_int_t)f->tokens_out, "bytes",
                     (json_int_t)f->bytes, "cost", f->cost);
}

/* ---- consent ---- */

static void consent_text(const struct teaching *t, const char *request, const char *share,
                         struct bytes *out) {
    bytes_printf(
        out,
        "To write more examples for %s, plm would send %zu bytes of your %s records (%s) to %s. E-mail "
        "addresses, phone numbers, card and account numbers, web addresses and keys are replaced by "
        "placeholders first; names and everything else go as they are. The provider keeps what it keeps; "
        "deleting here deletes nothing there.%s%s",
        app_user(t->args), strlen(request), t->kind->name,
        strcmp(share, "summary") == 0 ? "numbers and common words only, no text" : "the text itself",
        plm_teacher_endpoint(t->teacher), *plm_teacher_terms(t->teacher) ? " The service says: " : "",
        plm_teacher_terms(t->teacher));
}

static bool agreed(const struct args *a, const char *text, const char *forecast) {
    char answer[16] = "";
    if (a->yes)
        return true;
    if (!isatty(STDIN_FILENO))
        return false;
    fprintf(stderr, "%s\nThat is %s. (plm augment --dry-run shows every byte.) Agree? [y/N] ", text,
            forecast);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

plm_status teach_consent(struct teaching *t, const char *request, plm_error *err) {
    const char *share = t->args->share ? t->args->share : "exemplars", *endpoint;
    if (!t->teacher || plm_teacher_is_local(t->teacher))
        return PLM_OK;
    endpoint = plm_teacher_endpoint(t->teacher);
    plm_status st =
        plm_store_find_consent(t->store, app_user(t->args), endpoint, share, &t->run.consent, err);
    if (st || t->run.consent)
        return st;
    struct bytes text;
    char words[200];
    forecast_words(t, words);
    bytes_init(&text, 1 << 16);
    consent_text(t, request, share, &text);
    st = bytes_status(&text, "the consent", err);
    if (st == PLM_OK && !agreed(t->args, text.data, words))
        st = fail(err, PLM_ESTOPPED,
                  "nothing was sent: --yes agrees to sending records to %.200s in %s; --dry-run shows them",
                  endpoint, words);
    if (st == PLM_OK) {
        plm_consent c = {.when = clock_wall(),
                         .user = app_user(t->args),
                         .endpoint = endpoint,
                         .share = share,
                         .text = text.data};
        st = plm_store_add_consent(t->store, &c, &t->run.consent, err);
    }
    bytes_free(&text);
    return st;
}

/* ---- the run ---- */

plm_status teach_generate(struct teaching *t, const plm_augment_policy *p, char **request, char **candidates,
                          plm_error *err) {
    plm_status st = plm_augment_draft(t->store, p, request, err);
    if (st == PLM_OK)
        st = teach_forecast(t, *request, NULL, err);
    if (st == PLM_OK)
        st = teach_consent(t, *request, err);
    if (st == PLM_OK) {
        teach_say_forecast(t);
        progress_start(&t->bar, t->args->quiet, "teacher");
        st = plm_augment_write(t->store, *request, t->teacher, &t->run, candidates, err);
        progress_end(&t->bar);
    }
    return st;
}

void teach_settle(struct teaching *t) {
    plm_error err = {0};
    if (plm_teacher_settle(t->teacher, &err))
        app_say(t->args, "teacher: %s; the service deletes the job by itself later\n", err.text);
}
