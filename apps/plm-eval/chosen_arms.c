/* chosen_arms.c: a row is judged by the cosine of its gradient, at the task adapter, with that of real items.
 * It would agree with the item that it was made from whatever it is worth, so the items are split in two and
 * a row is judged by the half that it was not made from. */
#include "chosen_arms.h"

#include <math.h>
#include <string.h>

enum { FOLDS = 2 };

struct gradients {
    plm_adapter *adapter;
    plm_trainer *trainer;
    size_t n;           /* parameters */
    float *fold[FOLDS]; /* of the real items in it */
    float *row;
};

static void gradients_close(struct gradients *g) {
    for (int f = 0; f < FOLDS; f++)
        mem_free(g->fold[f]);
    mem_free(g->row);
    plm_trainer_free(g->trainer);
    plm_adapter_free(g->adapter);
}

static plm_status gradients_open(struct gradients *g, struct cell *c, plm_error *err) {
    const struct recipe *how = &c->lab->recipe;
    plm_adapter_options shape = {
        .rank = how->rank, .targets = PLM_ALL_LINEAR, .layers = how->layers, .seed = c->seed};
    plm_train_options quiet = {.steps = 1};
    struct trained task;
    *g = (struct gradients){.n = 0};
    plm_status st = lab_task_adapter(c->lab, c->arm->k, &task, err);
    if (st == PLM_OK)
        st = task.path[0] ? plm_adapter_load(&g->adapter, c->lab->model, task.path, err)
                          : plm_adapter_new(&g->adapter, c->lab->model, &shape, err);
    if (st == PLM_OK)
        st = plm_trainer_new(&g->trainer, c->lab->model, g->adapter, &quiet, err);
    if (st)
        return st;
    g->n = plm_adapter_describe(g->adapter)->parameters;
    g->row = mem_zero(g->n, sizeof *g->row);
    bool room = g->row != NULL;
    for (int f = 0; f < FOLDS; f++)
        room &= (g->fold[f] = mem_zero(g->n, sizeof *g->fold[f])) != NULL;
    return room ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
}

static double cosine(const float *a, const float *b, size_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

/* The gradient of every second item, and of the others. held: room for the view's items. */
static plm_status fold_gradients(struct gradients *g, struct cell *c, bool *held, plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t f = 0; st == PLM_OK && f < FOLDS; f++) {
        struct samples s = {0};
        for (size_t i = 0; i < c->view->n; i++)
            held[i] = i % FOLDS != f;
        st = cell_add_real(c, c->view, held, &s, err);
        if (st == PLM_OK && s.n)
            st = plm_trainer_gradient(g->trainer, s.v, s.n, g->fold[f], err);
        samples_free(&s);
    }
    return st;
}

static plm_status score_row(struct gradients *g, struct cell *c, const struct synthetics *row,
                            const struct records *records, bool *held, double *score, plm_error *err) {
    struct samples s = {0};
    double sum = 0, judges = 0, all = 0;
    plm_status st = cell_add_rows(c, &s, row, 1, err);
    if (st == PLM_OK)
        st = plm_trainer_gradient(g->trainer, s.v, s.n, g->row, err);
    for (size_t f = 0; st == PLM_OK && f < FOLDS; f++) {
        double likeness = cosine(g->row, g->fold[f], g->n);
        for (size_t i = 0; i < c->view->n; i++)
            held[i] = i % FOLDS == f;
        bool own = written_from(&row->v[0], records, c->view, held);
        sum += own ? 0 : likeness;
        judges += !own;
        all += likeness;
    }
    *score = judges > 0 ? sum / judges : all / FOLDS;
    samples_free(&s);
    return st;
}

plm_status chosen_scores(struct cell *c, const struct synthetics *rows, const struct records *records,
                         double *score, plm_error *err) {
    struct gradients g;
    bool *held = mem_zero(c->view->n + 1, sizeof *held);
    plm_status st = held ? gradients_open(&g, c, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (!held)
        return st;
    if (st == PLM_OK)
        st = fold_gradients(&g, c, held, err);
    for (size_t i = 0; st == PLM_OK && i < rows->n; i++)
        st = score_row(&g, c, &(struct synthetics){rows->v + i, 1}, records, held, &score[i], err);
    gradients_close(&g);
    mem_free(held);
    return st;
}

/* Real items and the better half of the rows, in the order in which they were written. */
static plm_status study_half(struct cell *c, const double *score, plm_error *err) {
    const struct synthetics *rows = &c->written->kept;
    struct synthetics half = {.v = mem_zero(rows->n + 1, sizeof *half.v)}; /* lent */
    struct samples s = {0};
    double kept = 0, dropped = 0;
    plm_status st =
        half.v ? cell_add_real(c, c->view, NULL, &s, err) : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; half.v && i < rows->n; i++) {
        size_t better = 0;
        for (size_t k = 0; k < rows->n; k++)
            better += score[k] > score[i] || (score[k] == score[i] && k < i);
        if (better < (rows->n + 1) / 2) {
            half.v[half.n++] = rows->v[i];
            kept += score[i];
        } else {
            dropped += score[i];
        }
    }
    if (st == PLM_OK)
        st = cell_add_rows(c, &s, &half, SIZE_MAX, err);
    c->used = c->written;
    c->extra = json_pack("{s:{s:I, s:f, s:f}}", "rows", "kept", (json_int_t)half.n, "score",
                         half.n ? kept / (double)half.n : 0, "score_dropped",
                         rows->n > half.n ? dropped / (double)(rows->n - half.n) : 0);
    if (st == PLM_OK)
        st = cell_study_and_ask(c, &s, &c->lab->recipe.user, cell_steps(c), err);
    samples_free(&s);
    mem_free(half.v);
    return st;
}

static plm_status score_room(struct cell *c, double **score, plm_error *err) {
    plm_status st = cell_written(c, err);
    *score = NULL;
    if (st)
        return st;
    *score = mem_zero(c->written->kept.n + 1, sizeof **score);
    return *score ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
}

plm_status run_chosen(struct cell *c, plm_error *err) {
    double *score = NULL, from = clock_now();
    struct records records = {0};
    plm_status st = score_room(c, &score, err);
    if (st == PLM_OK)
        st = written_records(c->written, c->lab, &records, err);
    if (st == PLM_OK)
        st = chosen_scores(c, &c->written->kept, &records, score, err);
    double seconds = clock_now() - from;
    if (st == PLM_OK)
        st = study_half(c, score, err);
    c->cost.seconds += seconds;
    records_free(&records);
    mem_free(score);
    return st;
}

plm_status run_half(struct cell *c, plm_error *err) {
    double *score = NULL;
    struct rng rng;
    rng_seed(&rng, c->seed, 78);
    plm_status st = score_room(c, &score, err);
    for (size_t i = 0; st == PLM_OK && i < c->written->kept.n; i++)
        score[i] = rng_unit(&rng);
    if (st == PLM_OK)
        st = study_half(c, score, err);
    mem_free(score);
    return st;
}
