/* synthetic.c: the product's own way, draft, write and absorb, on a store that holds nothing but the items of
 * one view under a name of its own. */
#include "synthetic.h"

#include "base/json.h"
#include "shared/device.h"

#include <stdio.h>
#include <string.h>

static plm_status add_items(struct lab *l, const char *user, const struct item *const *items, size_t n,
                            plm_error *err) {
    plm_status st = plm_store_begin(l->store, err);
    if (st)
        return st;
    for (size_t i = 0; st == PLM_OK && i < n; i++) {
        plm_record r = {.when = (int64_t)i + 1,
                        .user = user,
                        .kind = l->kind->name,
                        .input = items[i]->input,
                        .output = items[i]->output,
                        .source = "evaluation"};
        int64_t id;
        st = plm_store_add(l->store, &r, &id, NULL, err);
    }
    plm_status end = plm_store_end(l->store, st == PLM_OK, st ? NULL : err);
    return st ? st : end;
}

static int on_progress(void *ctx, size_t done, size_t total, size_t candidates) {
    struct lab *l = ctx;
    char note[80];
    snprintf(note, sizeof note, "teacher, call %zu of %zu, %zu rows", done, total, candidates);
    progress_at(&l->bar, l->done, l->total, note);
    return 0;
}

/* The device model that judges acceptance is the one that will learn: the student with the task adapter. */
static plm_status absorb(struct lab *l, const plm_augment_policy *p, const char *request,
                         const char *candidates, const char *task, plm_absorb_report *report,
                         plm_error *err) {
    struct device device = {0};
    struct loras loras = {.n = 0};
    plm_status st = device_open(&device, l->model, l->kind, err);
    if (st == PLM_OK && *task)
        st = loras_add(&loras, l->model, task, 1, err);
    if (st == PLM_OK)
        st = scorer_use(&device.scorer, loras.use, loras.n, err);
    if (st == PLM_OK)
        st = plm_augment_absorb(l->store, p, request, candidates, strlen(candidates), lab_teacher_name(l),
                                device_nll, &device, NULL, report, err);
    device_close(&device);
    loras_close(&loras);
    return st;
}

/* ---- what was counted, kept in the store beside the rows ---- */

static plm_status save_counts(struct lab *l, const char *name, const char *judge, const struct written *w,
                              plm_error *err) {
    json_t *dropped = json_array();
    for (int i = 0; i < PLM_RULES; i++)
        json_array_append_new(dropped, json_integer((json_int_t)w->filter.dropped[i]));
    json_t *doc =
        json_pack("{s:s, s:I, s:I, s:I, s:f, s:I, s:I, s:o}", "judge", judge, "asked", (json_int_t)w->asked,
                  "in", (json_int_t)w->tokens_in, "out", (json_int_t)w->tokens_out, "seconds", w->seconds,
                  "seen", (json_int_t)w->filter.seen, "kept", (json_int_t)w->filter.kept, "dropped", dropped);
    char *text = NULL;
    plm_status st = doc ? json_write(doc, &text, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        st = plm_store_set(l->store, name, text, err);
    plm_free(text);
    json_decref(doc);
    return st;
}

/* False where the rows were not yet filtered with this judge. */
static bool load_counts(struct written *w, const char *judge, const char *text) {
    const char *by = "";
    json_t *doc = NULL, *dropped = NULL;
    json_int_t asked, in, out, seen, kept;
    bool good = json_parse(&doc, text, strlen(text), "counts", NULL) == PLM_OK &&
                json_unpack(doc, "{s:s, s:I, s:I, s:I, s:F, s:I, s:I, s:o}", "judge", &by, "asked", &asked,
                            "in", &in, "out", &out, "seconds", &w->seconds, "seen", &seen, "kept", &kept,
                            "dropped", &dropped) == 0;
    if (good) {
        w->asked = (size_t)asked;
        w->tokens_in = in;
        w->tokens_out = out;
        w->filter.seen = (size_t)seen;
        w->filter.kept = (size_t)kept;
        for (int i = 0; i < PLM_RULES; i++)
            w->filter.dropped[i] = (size_t)json_integer_value(json_array_get(dropped, (size_t)i));
        good = strcmp(by, judge) == 0;
    }
    json_decref(doc);
    return good;
}

/* ---- the run ---- */

static plm_status write_rows(struct written *w, struct lab *l, const char *user, const char *setting,
                             const char *judge, const struct item *const *items, size_t n, uint64_t seed,
                             plm_error *err) {
    plm_augment_policy p = {.user = user,
                            .kind = l->kind,
                            .unredacted = plm_teacher_is_local(l->teacher),
                            .capable = plm_teacher_is_capable(l->teacher),
                            .seed = seed};
    /* The data of an evaluation is sent because whoever runs it named the endpoint: consent 1. */
    plm_augment_run run = {.user = user, .consent = 1, .progress = on_progress, .ctx = l};
    char *request = NULL, *candidates = NULL;
    plm_status st = add_items(l, user, items, n, err);
    if (st == PLM_OK)
        st = plm_augment_draft(l->store, &p, &request, err);
    if (st == PLM_OK)
        st = plm_augment_write(l->store, request, l->teacher, &run, &candidates, err);
    if (run.asked || !w->asked) { /* else all were kept replies, whose cost is known already */
        w->asked = run.calls;
        w->tokens_in = run.tokens_in;
        w->tokens_out = run.tokens_out;
        w->seconds = run.seconds;
    }
    if (st == PLM_OK)
        st = plm_store_begin(l->store, err);
    if (st == PLM_OK) {
        st = plm_store_clear_synthetic(l->store, user, l->kind->name, err);
        if (st == PLM_OK)
            st = absorb(l, &p, request, candidates, judge, &w->filter, err);
        if (st == PLM_OK)
            st = save_counts(l, setting, judge, w, err);
        plm_status end = plm_store_end(l->store, st == PLM_OK, st ? NULL : err);
        st = st ? st : end;
    }
    if (st == PLM_OK)
        st = plm_teacher_settle(l->teacher, err);
    plm_free(request);
    plm_free(candidates);
    return st;
}

/* Drops rows near a query of the view. */
static plm_status guard_rows(struct synthetics *s, const struct lab *l, const struct view *v, size_t *near,
                             plm_error *err) {
    size_t kept = 0;
    plm_status st = PLM_OK;
    for (size_t i = 0; st == PLM_OK && i < s->n; i++) {
        bool leaks = false;
        st = view_leaks(v, &l->dev, s->v[i].input, &leaks, err);
        if (leaks) {
            ++*near;
            continue;
        }
        plm_synthetic one = s->v[kept];
        s->v[kept++] = s->v[i];
        s->v[i] = one; /* the texts of a dropped one stay owned, behind the end */
    }
    if (st == PLM_OK)
        synthetics_cut(s, kept);
    return st;
}

plm_status written_open(struct written *w, struct lab *l, const char *what, const struct item *const *items,
                        size_t n, const struct view *guard, uint64_t seed, plm_error *err) {
    char setting[300], *counts = NULL;
    struct trained task;
    const char *user = w->user;
    *w = (struct written){0};
    plm_status st = lab_teacher(l, err);
    if (st == PLM_OK)
        st = lab_task_adapter(l, 0, &task, err);
    if (st)
        return st;
    snprintf(w->user, sizeof w->user, "%.100s/%llu", what, (unsigned long long)seed);
    snprintf(setting, sizeof setting, "counts/%s", user);
    st = plm_store_get(l->store, setting, &counts, err);
    if (st == PLM_OK && (!counts || !load_counts(w, task.path, counts)))
        st = write_rows(w, l, user, setting, task.path, items, n, seed, err);
    plm_free(counts);
    if (st == PLM_OK)
        st = synthetics_load(&w->kept, l->store, user, l->kind->name, true, err);
    if (st == PLM_OK)
        st = synthetics_load(&w->raw, l->store, user, l->kind->name, false, err);
    size_t ignored = 0;
    if (st == PLM_OK && guard && l->guard)
        st = guard_rows(&w->kept, l, guard, &w->near, err);
    if (st == PLM_OK && guard && l->guard)
        st = guard_rows(&w->raw, l, guard, &ignored, err);
    if (st)
        written_close(w);
    return st;
}

plm_status written_records(const struct written *w, const struct lab *l, struct records *out,
                           plm_error *err) {
    plm_query q = {.user = w->user, .kind = l->kind->name};
    return records_load(out, l->store, &q, err);
}

bool written_from(const plm_synthetic *row, const struct records *records, const struct view *v,
                  const bool *held) {
    for (size_t k = 0; k < row->n_sources; k++)
        for (size_t r = 0; r < records->n; r++)
            for (size_t i = 0; records->v[r].id == row->sources[k] && i < v->n; i++)
                if (held[i] && strcmp(v->items[i]->input, records->v[r].input) == 0)
                    return true;
    return false;
}

void written_close(struct written *w) {
    synthetics_free(&w->kept);
    synthetics_free(&w->raw);
}
