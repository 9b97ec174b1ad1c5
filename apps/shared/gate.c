/* gate.c: the do-no-harm gate.
 * It never sees what was trained on: either the newest records are held out, or, where there are few, each
 * record is scored by arms that were trained without it. Ties go to less. */
#include "shared/gate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { HELD_OUT_FROM = 20, CROSS_FIT_FROM = 5, FOLDS = 4, FORCED_STEPS = 15 };
static const float scales[ARM_SCALES] = {0, 0.25f, 0.5f, 0.75f, 1};
static const double tie = 1e-3, most_harm = 1.05;

plm_status gate_plan(struct gate *g, const struct pool_of_data *d, plm_error *err) {
    size_t n = d->real.n;
    memset(g, 0, sizeof *g);
    g->winner = -1;
    g->held = mem_zero(n ? n : 1, sizeof *g->held);
    if (!g->held)
        return fail(err, PLM_ENOMEM, "out of memory");
    int *label = mem_zero(n + 1, sizeof *label);
    if (!label)
        return fail(err, PLM_ENOMEM, "out of memory");
    g->labels = arm_labels(d, label);
    mem_free(label);
    g->way = n >= HELD_OUT_FROM ? GATE_HELD_OUT : n >= CROSS_FIT_FROM ? GATE_CROSS_FIT : GATE_NONE;
    if (g->way != GATE_HELD_OUT)
        return PLM_OK;
    g->n_held = (n * 15 + 99) / 100;
    if (g->n_held < 5)
        g->n_held = 5;
    for (size_t i = n - g->n_held; i < n; i++)
        g->held[i] = true;
    return PLM_OK;
}

static double mean(const double *v, const bool *which, size_t n) {
    double sum = 0;
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (which[i]) {
            sum += v[i];
            k++;
        }
    return k ? sum / (double)k : 0;
}

static void add_row(struct gate *g, const char *name, const char *path, float scale, double nll) {
    g->row[g->n++] = (struct candidate){.name = name, .nll = nll, .scale = scale, .path = path};
}

/* A row of the g->n_arms-th arm. */
static void add_arm_row(struct gate *g, const char *path, float scale, double nll) {
    struct arm *arm = &g->arm[g->n_arms - 1];
    add_row(g, arm->name, path, scale, nll);
    g->row[g->n - 1].arm = arm;
}

/* The same arm, calibrated to how often the person gives each label: labels [records, labels] is what it said
 * of the records with which[i] set, which it did not learn. */
static plm_status add_prior_row(struct gate *g, const struct pool_of_data *d, const char *path,
                                const double *labels, const bool *which, plm_error *err) {
    size_t all = d->kind->n_labels, n = 0, count[PRIOR_LABELS] = {0};
    struct prior *p = &g->prior[g->n_arms - 1];
    int *label = mem_zero(2 * d->real.n + 1, sizeof *label), *gold = label ? label + d->real.n : NULL;
    double *nats = mem_zero(d->real.n * all + 1, sizeof *nats);
    plm_status st = label && nats ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK && arm_labels(d, label)) {
        for (size_t i = 0; i < d->real.n; i++) {
            count[label[i]]++;
            if (!which[i])
                continue;
            memcpy(nats + n * all, labels + i * all, all * sizeof *nats);
            gold[n++] = label[i];
        }
        st = prior_fit(p, nats, gold, n, count, all, err);
    }
    if (st == PLM_OK && p->n > 1) {
        add_arm_row(g, path, 1, p->nll);
        g->row[g->n - 1].name = g->arm[g->n_arms - 1].with_synthetic ? "real+syn+prior" : "real+prior";
        g->row[g->n - 1].prior = p;
    }
    mem_free(label);
    mem_free(nats);
    return st;
}

/* Rows stand in the order of "less": base first. A later one wins only by more than a tie. */
static void choose(struct gate *g) {
    g->winner = 0;
    for (size_t i = 1; i < g->n; i++)
        if (!g->row[i].harmful && g->row[i].nll < g->row[g->winner].nll - tie)
            g->winner = (int)i;
}

static plm_status mark_harm(struct gate *g, const struct pool_of_data *d, plm_error *err) {
    double base, with = 0;
    plm_status st = general_nll(d, NULL, 0, &base, err);
    for (size_t i = 1; st == PLM_OK && i < g->n; i++) { /* behind base */
        if (!g->row[i].path || g->row[i].scale == 0)
            continue;
        bool known = g->row[i].path == g->row[i - 1].path && g->row[i].scale == g->row[i - 1].scale;
        if (!known) /* a prior changes nothing about general text */
            st = general_nll(d, g->row[i].path, g->row[i].scale, &with, err);
        g->row[i].harmful = !(with <= base * most_harm);
    }
    return st;
}

static plm_status score_row(struct gate *g, const struct pool_of_data *d, const char *name, const char *path,
                            float scale, double *nll, plm_error *err) {
    plm_status st = arm_score(d, path, scale, g->held, nll, NULL, err);
    if (st == PLM_OK)
        add_row(g, name, path, scale, mean(nll, g->held, d->real.n));
    return st;
}

static void name_arm(struct arm *arm, bool with_synthetic, int fold) {
    memset(arm, 0, sizeof *arm);
    arm->with_synthetic = with_synthetic;
    if (fold < 0)
        snprintf(arm->name, sizeof arm->name, "real%s", with_synthetic ? "+syn" : "");
    else
        snprintf(arm->name, sizeof arm->name, "real%s.fold%d", with_synthetic ? "+syn" : "", fold + 1);
}

/* Trains an arm on what is not held out and scores it on what is. */
static plm_status score_arm(struct gate *g, const struct pool_of_data *d, bool with_synthetic, double *nll,
                            double *labels, plm_error *err) {
    struct arm *arm = &g->arm[g->n_arms++];
    name_arm(arm, with_synthetic, -1);
    plm_status st = arm_train(arm, d, g->held, err);
    if (st == PLM_OK)
        st = arm_score(d, arm->path, 1, g->held, nll, labels, err);
    if (st == PLM_OK)
        add_arm_row(g, arm->path, 1, mean(nll, g->held, d->real.n));
    if (st == PLM_OK && g->labels)
        st = add_prior_row(g, d, arm->path, labels, g->held, err);
    return st;
}

static plm_status held_out(struct gate *g, const struct pool_of_data *d, const char *installed,
                           float installed_scale, plm_error *err) {
    double *nll = mem_zero(d->real.n, sizeof *nll);
    double *labels = g->labels ? mem_zero(d->real.n * d->kind->n_labels, sizeof *labels) : NULL;
    plm_status st = nll && (labels || !g->labels) ? score_row(g, d, "base", NULL, 0, nll, err)
                                                  : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK && installed)
        st = score_row(g, d, "installed", installed, installed_scale, nll, err);
    for (int synthetic = 0; st == PLM_OK && synthetic <= (d->synthetic.n > 0); synthetic++)
        st = score_arm(g, d, synthetic, nll, labels, err);
    if (st == PLM_OK)
        st = mark_harm(g, d, err);
    if (st == PLM_OK)
        choose(g);
    mem_free(nll);
    mem_free(labels);
    return st;
}

/* ---- few records: cross-fitting ---- */

struct fitted { /* per arm: the NLL of each record at each scale, from the fold that did not see it */
    double *nll[ARM_SCALES];
    double *labels; /* and what it says of all labels, at scale 1; NULL: there are none */
    int steps;      /* sum of best steps over the folds */
};

static plm_status fit_fold(struct fitted *f, const struct pool_of_data *d, bool with_synthetic, int fold,
                           bool *held, plm_error *err) {
    struct arm arm;
    name_arm(&arm, with_synthetic, fold);
    for (size_t i = 0; i < d->real.n; i++)
        held[i] = i % FOLDS == (size_t)fold;
    plm_status st = arm_train(&arm, d, held, err);
    for (int s = 1; st == PLM_OK && s < ARM_SCALES; s++)
        st = arm_score(d, arm.path, scales[s], held, f->nll[s], scales[s] == 1 ? f->labels : NULL, err);
    f->steps += arm.best_step + 1;
    arm_free(&arm);
    return st;
}

static plm_status fit(struct gate *g, const struct pool_of_data *d, bool with_synthetic, plm_error *err) {
    struct fitted f = {0};
    size_t n = d->real.n;
    bool *held = mem_zero(n, sizeof *held), *all = mem_zero(n, sizeof *all);
    plm_status st = held && all ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    for (int s = 0; st == PLM_OK && s < ARM_SCALES; s++) {
        f.nll[s] = mem_zero(n, sizeof *f.nll[s]);
        if (!f.nll[s])
            st = fail(err, PLM_ENOMEM, "out of memory");
    }
    if (g->labels && !(f.labels = mem_zero(n * d->kind->n_labels, sizeof *f.labels)))
        st = fail(err, PLM_ENOMEM, "out of memory");
    for (int fold = 0; st == PLM_OK && fold < FOLDS; fold++)
        st = fit_fold(&f, d, with_synthetic, fold, held, err);
    if (st == PLM_OK) {
        struct arm *arm = &g->arm[g->n_arms++];
        name_arm(arm, with_synthetic, -1);
        arm->steps = (f.steps + FOLDS / 2) / FOLDS;
        memset(all, 1, n);
        for (int s = 1; s < ARM_SCALES; s++)
            add_arm_row(g, NULL, scales[s], mean(f.nll[s], all, n));
        if (g->labels)
            st = add_prior_row(g, d, NULL, f.labels, all, err);
    }
    for (int s = 0; s < ARM_SCALES; s++)
        mem_free(f.nll[s]);
    mem_free(f.labels);
    mem_free(held);
    mem_free(all);
    return st;
}

static plm_status cross_fit(struct gate *g, const struct pool_of_data *d, const char *installed,
                            float installed_scale, plm_error *err) {
    size_t n = d->real.n;
    double *nll = mem_zero(n, sizeof *nll);
    bool *nothing = mem_zero(n, sizeof *nothing);
    plm_status st = nll && nothing ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    memset(g->held, 1, n);
    if (st == PLM_OK)
        st = score_row(g, d, "base", NULL, 0, nll, err);
    if (st == PLM_OK && installed)
        st = score_row(g, d, "installed", installed, installed_scale, nll, err);
    for (int synthetic = 0; st == PLM_OK && synthetic <= (d->synthetic.n > 0); synthetic++)
        st = fit(g, d, synthetic, err);
    memset(g->held, 0, n);
    if (st == PLM_OK)
        choose(g);
    struct arm *arm = st == PLM_OK ? gate_arm(g) : NULL;
    if (arm) { /* the chosen recipe, on all records */
        st = arm_train(arm, d, nothing, err);
        if (st == PLM_OK) {
            g->row[g->winner].path = arm->path;
            st = mark_harm(g, d, err);
        }
        if (st == PLM_OK && g->row[g->winner].harmful)
            g->winner = 0;
    }
    mem_free(nll);
    mem_free(nothing);
    return st;
}

static plm_status untested(struct gate *g, const struct pool_of_data *d, plm_error *err) {
    if (!d->force)
        return PLM_OK;
    struct arm *arm = &g->arm[g->n_arms++];
    name_arm(arm, d->synthetic.n > 0, -1);
    arm->steps = FORCED_STEPS;
    plm_status st = arm_train(arm, d, g->held, err);
    if (st == PLM_OK) {
        add_arm_row(g, arm->path, 1, NAN);
        g->winner = 0;
    }
    return st;
}

plm_status gate_run(struct gate *g, const struct pool_of_data *d, const char *installed,
                    float installed_scale, plm_error *err) {
    if (g->way == GATE_NONE)
        return untested(g, d, err);
    if (g->way == GATE_CROSS_FIT)
        return cross_fit(g, d, installed, installed_scale, err);
    return held_out(g, d, installed, installed_scale, err);
}

struct arm *gate_arm(struct gate *g) {
    return g->winner < 0 ? NULL : g->row[g->winner].arm;
}

void gate_free(struct gate *g) {
    for (size_t i = 0; i < g->n_arms; i++)
        arm_free(&g->arm[i]);
    mem_free(g->held);
    memset(g, 0, sizeof *g);
}
