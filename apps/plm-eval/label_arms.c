/* label_arms.c: what a person's label counts know, alone and together with an adapter. */
#include "label_arms.h"

#include "shared/prior.h"

#include <math.h>
#include <string.h>

static const plm_kind *kind(const struct cell *c) {
    return c->lab->kind;
}

/* ---- no model ---- */

static void count_labels(const struct cell *c, size_t count[PRIOR_LABELS]) {
    memset(count, 0, PRIOR_LABELS * sizeof *count);
    for (size_t i = 0; i < c->view->n; i++) {
        int l = plm_kind_label(kind(c), c->view->items[i]->output);
        if (l >= 0)
            count[l]++;
    }
}

/* The user's label counts + 0.5, as shares; ties of the best go to the latest. */
static int histogram(const struct cell *c, double *p) {
    size_t count[PRIOR_LABELS];
    int best = 0;
    count_labels(c, count);
    for (size_t i = c->view->n; i-- > 0;) {
        int l = plm_kind_label(kind(c), c->view->items[i]->output);
        if (l >= 0 && count[l] > count[best])
            best = l;
    }
    prior_shares(p, count, kind(c)->n_labels);
    return best;
}

static plm_status answer_labels(struct cell *c, const double *p, int best, plm_error *err) {
    plm_status st = cell_room(c, p != NULL, err);
    for (size_t i = 0; st == PLM_OK && i < c->view->n_queries; i++) {
        struct reply *r = &c->replies[i];
        r->bytes = 1;
        r->pred = best;
        r->gold = plm_kind_label(kind(c), c->view->queries[i].gold);
        if (r->gold < 0)
            return fail(err, PLM_EFORMAT, "the gold answer \"%.60s\" is none of the task's",
                        c->view->queries[i].gold);
        if (p)
            c->nll[i] = r->nats = -log(p[r->gold]);
    }
    c->answers = st == PLM_OK;
    return st;
}

plm_status run_majority(struct cell *c, plm_error *err) {
    double p[PRIOR_LABELS];
    int best = histogram(c, p);
    return answer_labels(c, NULL, best, err);
}

plm_status run_histogram(struct cell *c, plm_error *err) {
    double p[PRIOR_LABELS];
    int best = histogram(c, p);
    return answer_labels(c, p, best, err);
}

/* ---- calibrated adapters ---- */

/* The adapter of c->cost at the scale, its probabilities calibrated. */
static plm_status ask_with_prior(struct cell *c, double scale, const struct prior *p, plm_error *err) {
    plm_status st = cell_ask(c, c->cost.path, scale, err);
    if (st == PLM_OK)
        cell_calibrate(c, p);
    return st;
}

/* p(label | input) of the task adapter times how much commoner the label is with this user than with others.
 */
plm_status run_task_prior(struct cell *c, plm_error *err) {
    double own[PRIOR_LABELS], share[PRIOR_LABELS];
    size_t others[PRIOR_LABELS] = {0}, labels = kind(c)->n_labels;
    struct prior p;
    for (size_t u = 0; u < c->lab->pool.n; u++)
        for (size_t i = 0; i < c->lab->pool.users[u].n_queries; i++) {
            int l = plm_kind_label(kind(c), c->lab->pool.users[u].queries[i].gold);
            if (l >= 0)
                others[l]++;
        }
    histogram(c, own);
    prior_shares(share, others, labels);
    for (size_t l = 0; l < labels; l++)
        share[l] = log(own[l] / share[l]);
    prior_bias(&p, share, labels);
    plm_status st = lab_task_adapter(c->lab, c->arm->k, &c->cost, err);
    return st ? st : ask_with_prior(c, 1, &p, err);
}

/* The newest items are what the weight is fitted on: more would cost more than they say. */
enum { FITTED_ON = 32, FOLDS = 2 };

struct seen {     /* what adapters said of items that they never saw */
    double *nats; /* [FITTED_ON, labels] */
    int gold[FITTED_ON];
    size_t n;
};

/* Adds the held ones among the newest items. */
static plm_status ask_held(struct cell *c, struct seen *out, const char *path, double scale, const bool *held,
                           plm_error *err) {
    const struct view *v = c->view;
    size_t labels = kind(c)->n_labels, n = 0, first = v->n > FITTED_ON ? v->n - FITTED_ON : 0;
    char *prompts[FITTED_ON] = {NULL};
    const char *golds[FITTED_ON];
    struct reply *replies = mem_zero(FITTED_ON, sizeof *replies);
    struct retriever r = {0};
    struct loras l = {.n = 0};
    struct pace pace;
    plm_status st = replies ? retriever_open(&r, c->lab->task, v->items, c->arm->k ? v->n : 0, err)
                            : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = first; st == PLM_OK && i < v->n; i++)
        if (!held || held[i]) {
            golds[n] = v->items[i]->output;
            st = cell_item_prompt(c, &r, v, i, &prompts[n], err);
            n += st == PLM_OK;
        }
    if (st == PLM_OK)
        st = cell_loras(c, &l, path, scale, err);
    if (st == PLM_OK)
        st = student_ask(&c->lab->student, l.use, l.n, (const char *const *)prompts, golds, n, 0, replies,
                         &pace, err);
    for (size_t i = 0; st == PLM_OK && i < n; i++, out->n++) {
        memcpy(out->nats + out->n * labels, replies[i].label, labels * sizeof *out->nats);
        out->gold[out->n] = replies[i].gold;
    }
    for (size_t i = 0; i < n; i++)
        plm_free(prompts[i]);
    if (replies)
        replies_free(replies, n);
    mem_free(replies);
    loras_close(&l);
    retriever_close(&r);
    return st;
}

static plm_status fit(struct cell *c, struct prior *p, const struct seen *seen, plm_error *err) {
    size_t count[PRIOR_LABELS];
    count_labels(c, count);
    plm_status st = prior_fit(p, seen->nats, seen->gold, seen->n, count, kind(c)->n_labels, err);
    if (st == PLM_OK)
        c->extra = json_pack("{s:{s:f, s:f, s:f, s:I}}", "prior", "weight", prior_weight(p), "nll", p->nll,
                             "plain", p->plain, "items", (json_int_t)seen->n);
    return st;
}

static plm_status seen_open(struct seen *s, const struct cell *c, plm_error *err) {
    *s = (struct seen){.nats = mem_zero(FITTED_ON * kind(c)->n_labels, sizeof *s->nats)};
    return s->nats ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
}

plm_status run_task_fit(struct cell *c, plm_error *err) {
    struct seen seen;
    struct prior p;
    plm_status st = seen_open(&seen, c, err);
    if (st == PLM_OK)
        st = lab_task_adapter(c->lab, c->arm->k, &c->cost, err);
    if (st == PLM_OK)
        st = ask_held(c, &seen, c->cost.path, 1, NULL, err);
    if (st == PLM_OK)
        st = fit(c, &p, &seen, err);
    if (st == PLM_OK)
        st = ask_with_prior(c, 1, &p, err);
    mem_free(seen.nats);
    return st;
}

static void add_cost(struct trained *to, const struct trained *more) {
    to->seconds += more->seconds;
    to->steps += more->steps;
    to->tokens += more->tokens;
}

/* Trains on what is not held, and asks about what is. */
static plm_status run_fold(struct cell *c, struct seen *seen, const struct records *records, const bool *held,
                           size_t n_held, plm_error *err) {
    const struct tuning *how = &c->lab->recipe.user;
    struct samples s = {0};
    struct trained half;
    struct synthetics some = {.v = NULL};
    plm_status st = cell_add_real(c, c->view, held, &s, err);
    if (st == PLM_OK && records) {
        some.v = mem_zero(c->written->kept.n + 1, sizeof *some.v); /* lent */
        if (!some.v)
            st = fail(err, PLM_ENOMEM, "out of memory");
        for (size_t i = 0; st == PLM_OK && i < c->written->kept.n; i++)
            if (!written_from(&c->written->kept.v[i], records, c->view, held))
                some.v[some.n++] = c->written->kept.v[i];
        if (st == PLM_OK)
            st = cell_add_rows(c, &s, &some, SIZE_MAX, err);
        mem_free(some.v);
    }
    if (st == PLM_OK)
        st = cell_study(c, &s, how, tuning_steps(how, c->view->n - n_held), &half, err);
    if (st == PLM_OK) {
        add_cost(&c->cost, &half);
        st = ask_held(c, seen, half.path, c->arm->scale * how->scale, held, err);
    }
    samples_free(&s);
    return st;
}

/* Every second item is held, then the others: each is judged by an adapter that never saw it. */
static plm_status run_folds(struct cell *c, struct seen *seen, const struct records *records,
                            plm_error *err) {
    size_t n = c->view->n;
    bool *held = mem_zero(n + 1, sizeof *held);
    plm_status st = held ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t fold = 0; st == PLM_OK && n >= PRIOR_LEAST && fold < FOLDS; fold++) {
        size_t n_held = 0;
        for (size_t i = 0; i < n; i++)
            n_held += held[i] = i % FOLDS == fold;
        st = run_fold(c, seen, records, held, n_held, err);
    }
    mem_free(held);
    return st;
}

static plm_status run_fitted(struct cell *c, const struct records *records, plm_error *err) {
    const struct tuning *how = &c->lab->recipe.user;
    struct seen seen;
    struct samples s = {0};
    struct trained whole;
    struct prior p;
    plm_status st = seen_open(&seen, c, err);
    if (st == PLM_OK)
        st = run_folds(c, &seen, records, err);
    if (st == PLM_OK)
        st = fit(c, &p, &seen, err);
    if (st == PLM_OK)
        st = cell_add_real(c, c->view, NULL, &s, err);
    if (st == PLM_OK && records)
        st = cell_add_rows(c, &s, &c->written->kept, SIZE_MAX, err);
    if (st == PLM_OK)
        st = cell_study(c, &s, how, cell_steps(c), &whole, err);
    if (st == PLM_OK) {
        add_cost(&whole, &c->cost);
        c->cost = whole;
        st = ask_with_prior(c, c->arm->scale * how->scale, &p, err);
    }
    samples_free(&s);
    mem_free(seen.nats);
    return st;
}

plm_status run_real_prior(struct cell *c, plm_error *err) {
    return run_fitted(c, NULL, err);
}

plm_status run_system_prior(struct cell *c, plm_error *err) {
    struct records records = {0};
    plm_status st = cell_written(c, err);
    if (st == PLM_OK)
        st = written_records(c->written, c->lab, &records, err);
    c->used = c->written;
    if (st == PLM_OK)
        st = run_fitted(c, &records, err);
    records_free(&records);
    return st;
}
