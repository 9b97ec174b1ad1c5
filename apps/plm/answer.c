/* answer.c: chooses the adapter, refuses one whose prompts were made another way, and encodes questions the
 * way the adapter learned them. */
#include "answer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct active {
    char *path;
    double scale;
    char with[200];
};

static int take_active(void *ctx, const plm_installed *row) {
    struct active *found = ctx;
    if (strcmp(row->state, "active") != 0)
        return 0;
    found->path = mem_dupz(row->path);
    found->scale = row->scale;
    snprintf(found->with, sizeof found->with, "%s adapter %lld of %s (%s)", row->kind, (long long)row->id,
             row->user, row->arm);
    return found->path ? 0 : 1;
}

static bool store_exists(const struct args *a) {
    char *path = a->store ? NULL : app_path(PLACE_DATA, "plm.db");
    bool there = file_exists(a->store ? a->store : path ? path : "");
    plm_free(path);
    return there;
}

static plm_status use_installed(struct answerer *w, const struct args *a, plm_error *err) {
    struct active found = {0};
    plm_store *store = NULL;
    if (!store_exists(a))
        return PLM_OK;
    plm_status st = app_store(&store, a, true, err);
    if (st == PLM_OK)
        st = plm_store_list_adapters(store, app_user(a), w->kind ? w->kind->name : "chat", take_active,
                                     &found, err);
    if (st == PLM_ESTOPPED)
        st = fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK && found.path) {
        st = loras_add(&w->loras, w->model, found.path, (float)found.scale, err);
        snprintf(w->with, sizeof w->with, "%s", found.with);
    }
    mem_free(found.path);
    plm_store_close(store);
    return st;
}

/* An adapter answers only to prompts made as those it learned. */
static plm_status check_recipe(struct answerer *w, const struct args *a, const plm_adapter *ad,
                               plm_error *err) {
    const char *template = plm_adapter_get(ad, "plm.template"), *kind = plm_adapter_get(ad, "plm.kind");
    const char *now = plm_model_describe(w->model)->chat_template;
    if (template && strcmp(template, "raw") == 0)
        w->raw = true;
    else if (template && (a->raw || !now || strcmp(template, now) != 0))
        return fail(err, PLM_EINVAL,
                    "the adapter was trained with the %s template, not with %s: the answer would be wrong",
                    template,
                    a->raw ? "raw text"
                    : now  ? now
                           : "none");
    if (kind && !w->kind && !a->task) {
        w->kind = plm_kind_find(w->kinds, kind);
        if (!w->kind)
            return fail(err, PLM_ENOTFOUND,
                        "the adapter was trained for the kind \"%s\", which --kinds has to describe", kind);
    }
    if (kind && w->kind && strcmp(kind, w->kind->name) != 0)
        return fail(err, PLM_EINVAL, "the adapter was trained for the task %s, not %s", kind, w->kind->name);
    const char *instruction = plm_adapter_get(ad, "plm.instruction");
    if (instruction && w->kind && strcmp(instruction, w->kind->instruction) != 0)
        return fail(err, PLM_EINVAL, "the kind %s words its prompt in another way than the adapter learned",
                    w->kind->name);
    return PLM_OK;
}

static plm_status choose_adapters(struct answerer *w, const struct args *a, plm_error *err) {
    plm_status st;
    snprintf(w->with, sizeof w->with, "the base model");
    prior_none(&w->prior);
    if (a->base)
        return PLM_OK;
    if (a->adapters.n) {
        st = app_loras(&w->loras, a, w->model, err);
        snprintf(w->with, sizeof w->with, "%.180s", a->adapters.v[0]);
    } else {
        st = use_installed(w, a, err);
    }
    for (size_t i = 0; st == PLM_OK && i < w->loras.n; i++)
        st = check_recipe(w, a, w->loras.adapter[i], err);
    if (st == PLM_OK)
        st = loras_prior(&w->loras, w->kind, &w->prior, err);
    return st;
}

plm_status answerer_open(struct answerer *w, const struct args *a, plm_error *err) {
    memset(w, 0, sizeof *w);
    w->raw = a->raw;
    plm_session_options opt;
    plm_status st = app_session_options(&opt, a, err);
    if (st == PLM_OK)
        st = app_kinds(&w->kinds, a, err);
    if (st == PLM_OK && a->task) {
        w->kind = plm_kind_find(w->kinds, a->task);
        if (!w->kind)
            st =
                fail(err, PLM_ENOTFOUND, "no task \"%s\"; plm records stats lists the kinds in use", a->task);
    }
    if (st == PLM_OK)
        st = app_model(&w->model, a, err);
    if (st == PLM_OK)
        st = choose_adapters(w, a, err);
    if (st == PLM_OK)
        st = plm_session_new(&w->session, w->model, &opt, err);
    if (st == PLM_OK)
        st = plm_session_use(w->session, w->loras.use, w->loras.n, err);
    if (st)
        answerer_close(w);
    return st;
}

void answerer_close(struct answerer *w) {
    plm_session_free(w->session);
    loras_close(&w->loras);
    plm_kinds_close(w->kinds);
    plm_model_close(w->model);
    memset(w, 0, sizeof *w);
}

plm_status answerer_encode(const struct answerer *w, const char *system, const char *question,
                           struct encoded *out, plm_error *err) {
    char *prompt = NULL;
    plm_status st = w->kind ? plm_kind_prompt(w->kind, question, &prompt, err) : PLM_OK;
    if (st == PLM_OK)
        st = encode_turn(out, w->model, system, prompt ? prompt : question, NULL, w->raw, err);
    plm_free(prompt);
    return st;
}

static plm_status label_nll(const struct answerer *w, const char *system, const char *prompt,
                            const char *label, double *nll, plm_error *err) {
    struct encoded e;
    size_t tokens;
    plm_status st = encode_turn(&e, w->model, system, prompt, label, w->raw, err);
    if (st == PLM_OK)
        st = answer_nll(w->session, &e, nll, &tokens, err);
    encoded_free(&e);
    return st;
}

plm_status answerer_label(const struct answerer *w, const char *system, const char *question,
                          const char **best, double *probability, plm_error *err) {
    size_t n = w->kind->n_labels;
    char *prompt = NULL;
    double *nats = mem_zero(n, sizeof *nats);
    plm_status st =
        nats ? plm_kind_prompt(w->kind, question, &prompt, err) : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; st == PLM_OK && i < n; i++)
        st = label_nll(w, system, prompt, w->kind->labels[i], &nats[i], err);
    if (st == PLM_OK) {
        int top = prior_apply(&w->prior, nats, n);
        *best = w->kind->labels[top];
        *probability = exp(-nats[top]);
    }
    plm_free(prompt);
    mem_free(nats);
    return st;
}
