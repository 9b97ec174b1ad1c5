/* gate_arm.c: the gate of `plm personalize` itself, on the view's items, the rows that were kept and the task
 * adapter as what it starts from. */
#include "gate_arm.h"

#include "shared/gate.h"

#include <string.h>

static plm_status load(struct pool_of_data *d, struct cell *c, struct trained *task, plm_error *err) {
    plm_query q = {.user = c->written->user, .kind = c->lab->kind->name};
    d->quiet = true;
    d->model = c->lab->model;
    d->kind = c->lab->kind;
    d->user = c->written->user;
    d->folder = c->lab->adapters;
    memcpy(d->model_sha256, c->lab->school.model_sha256, sizeof d->model_sha256);
    plm_status st = lab_task_adapter(c->lab, 0, task, err);
    d->how.start = task->path[0] ? task->path : NULL;
    d->how.train.seed = d->how.adapter.seed = c->seed;
    d->synthetic = c->written->kept; /* lent */
    return st ? st : records_load(&d->real, c->lab->store, &q, err);
}

plm_status run_gate(struct cell *c, plm_error *err) {
    struct pool_of_data *d = mem_zero(1, sizeof *d);
    struct gate *g = mem_zero(1, sizeof *g);
    struct trained task;
    plm_status st = d && g ? cell_written(c, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        st = load(d, c, &task, err);
    c->lab->doing = "gate";
    if (st == PLM_OK)
        st = gate_plan(g, d, err);
    if (st == PLM_OK)
        st = gate_run(g, d, NULL, 1, err);
    if (st == PLM_OK) {
        const struct candidate *won = g->winner < 0 ? NULL : &g->row[g->winner];
        double scale = won && won->path ? (double)won->scale : 0;
        c->extra = json_pack("{s:{s:s, s:f}}", "gate", "chosen", won && scale > 0 ? won->name : "base",
                             "scale", scale);
        for (size_t i = 0; i < g->n_arms; i++) {
            c->cost.seconds += g->arm[i].seconds;
            c->cost.steps += g->arm[i].steps_done;
            c->cost.tokens += g->arm[i].tokens;
        }
        st = cell_ask(c, won ? won->path : NULL, scale, err);
        if (st == PLM_OK && won && won->prior)
            cell_calibrate(c, won->prior);
    }
    c->used = d && d->synthetic.n ? c->written : NULL;
    if (d)
        records_free(&d->real);
    if (g)
        gate_free(g);
    mem_free(g);
    mem_free(d);
    return st;
}
