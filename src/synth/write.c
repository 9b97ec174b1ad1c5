/* write.c: a request run on behalf of a person: replies are found in the person's store and kept there, with
 * the records that their calls quoted, and the ledger has its line before anything leaves. */
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "synth/inside.h"

struct writing {
    plm_store *store;
    const char *request, *kind;
    const plm_teacher *teacher;
    plm_augment_run *run;
};

struct found {
    char *text, *finish;
};

static int take_reply(void *ctx, const plm_reply *r) {
    struct found *f = ctx;
    f->text = mem_dupz(r->text);
    f->finish = mem_dupz(r->finish);
    return !f->text || !f->finish;
}

static plm_status on_find(void *ctx, const char *hash, char **text, char **finish, plm_error *err) {
    struct writing *w = ctx;
    struct found f = {0};
    bool found = false;
    plm_status st = plm_store_find_reply(w->store, w->run->user, hash, take_reply, &f, &found, err);
    if (st) {
        mem_free(f.text);
        mem_free(f.finish);
        return st == PLM_ESTOPPED ? fail(err, PLM_ENOMEM, "no memory for a kept reply") : st;
    }
    w->run->replayed += found;
    *text = f.text;
    *finish = f.finish;
    return PLM_OK;
}

static plm_status on_keep(void *ctx, const char *hash, const char *body, const plm_answer *a,
                          const int64_t *numbers, size_t n, plm_error *err) {
    struct writing *w = ctx;
    (void)body;
    int64_t *ids = mem_zero(n + 1, sizeof *ids), id;
    plm_status st = ids ? plm_augment_sources(w->store, w->request, numbers, n, ids, err)
                        : fail(err, PLM_ENOMEM, "no memory for a reply");
    if (!st) {
        plm_reply r = {.when = clock_wall(),
                       .user = w->run->user,
                       .kind = w->kind,
                       .teacher = plm_teacher_name(w->teacher),
                       .call_hash = hash,
                       .text = a->text,
                       .finish = a->finish,
                       .sources = ids,
                       .n_sources = n,
                       .tokens_in = a->tokens_in,
                       .tokens_out = a->tokens_out,
                       .seconds = a->seconds};
        st = plm_store_add_reply(w->store, &r, &id, err);
    }
    w->run->asked++;
    w->run->tokens_in += a->tokens_in;
    w->run->tokens_out += a->tokens_out;
    mem_free(ids);
    return st;
}

static plm_status on_leaving(void *ctx, const char *body, size_t len, plm_error *err) {
    struct writing *w = ctx;
    char hash[65];
    int64_t id;
    if (plm_teacher_is_local(w->teacher)) {
        return PLM_OK;
    }
    sha256_of(body, len, hash);
    plm_egress e = {.when = clock_wall(),
                    .consent = w->run->consent,
                    .user = w->run->user,
                    .endpoint = plm_teacher_endpoint(w->teacher),
                    .sha256 = hash,
                    .bytes = len};
    plm_status st = plm_store_add_egress(w->store, &e, &id, err);
    w->run->bytes_sent += st ? 0 : len;
    return st;
}

static int on_progress(void *ctx, size_t done, size_t total, size_t candidates) {
    const struct writing *w = ctx;
    return w->run->progress ? w->run->progress(w->run->ctx, done, total, candidates) : 0;
}

static plm_status may_run(const plm_teacher *t, const plm_augment_run *run, plm_error *err) {
    if (!run || !run->user || (!t && !run->replay_of)) {
        return fail(err, PLM_EINVAL, "a run needs a user, and a teacher or the name of one to replay");
    }
    if (t && !plm_teacher_is_local(t) && run->consent <= 0) {
        return fail(err, PLM_EINVAL, "nothing was sent: there is no consent to send records to %s",
                    plm_teacher_endpoint(t));
    }
    return PLM_OK;
}

plm_status plm_augment_write(plm_store *store, const char *request, plm_teacher *t, plm_augment_run *run,
                             char **candidates, plm_error *err) {
    struct wire_request q;
    plm_status st = may_run(t, run, err);
    st = st ? st : wire_request_parse(&q, request, strlen(request), err);
    if (st) {
        return st;
    }
    run->calls = run->replayed = run->asked = 0;
    run->tokens_in = run->tokens_out = 0;
    run->bytes_sent = 0;
    double start = clock_now();
    plm_teacher_usage before = t ? plm_teacher_used(t) : (plm_teacher_usage){0}, after = before;
    struct writing w = {.store = store, .request = request, .kind = q.kind, .teacher = t, .run = run};
    struct synth_hooks hooks = {.ctx = &w,
                                .replay_of = run->replay_of,
                                .find = on_find,
                                .keep = on_keep,
                                .leaving = on_leaving,
                                .progress = on_progress};
    st = synth_run(request, t, &hooks, candidates, &run->calls, err);
    run->seconds = clock_now() - start;
    after = t ? plm_teacher_used(t) : after;
    run->spent = after.spent - before.spent;
    if (teacher_cloud(t)) { // makes the calls itself, and says what they took
        run->tokens_in = after.tokens_in - before.tokens_in;
        run->tokens_out = after.tokens_out - before.tokens_out;
    }
    wire_request_free(&q);
    return st;
}
