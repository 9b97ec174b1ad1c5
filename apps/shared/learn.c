/* learn.c: runs a trainer to its end. A checkpoint is written every few steps beside the result, so that a
 * run that was killed goes on and ends with the same bytes. */
#include "shared/learn.h"

#include <string.h>
#include <unistd.h>

enum { CHECKPOINT_SECONDS = 10 };

static plm_status add_examples(plm_trainer *t, const struct learn *l, plm_error *err) {
    for (size_t i = 0; i < l->n; i++) {
        plm_status st = plm_trainer_add(t, &l->examples[i], err);
        if (st)
            return st;
    }
    return PLM_OK;
}

static plm_status run_steps(struct learned *out, plm_trainer *t, const struct learn *l, plm_error *err) {
    plm_train_report r = {0};
    double saved = clock_now();
    while (!r.done) {
        plm_status st = plm_trainer_step(t, &r, err);
        if (st)
            return st;
        out->steps = r.step + 1;
        out->tokens += r.tokens;
        if (l->on_step && l->on_step(l->ctx, &out->facts, &r))
            return fail(err, PLM_ESTOPPED, "training was stopped after step %d", r.step);
        if (l->checkpoint && !r.done && clock_now() - saved > CHECKPOINT_SECONDS) {
            st = plm_trainer_save(t, l->checkpoint, err);
            if (st)
                return st;
            saved = clock_now();
        }
    }
    return plm_trainer_finish(t, &out->best_step, &out->best, err);
}

void learn_settings(struct bytes *out, const struct learn *l) {
    const plm_adapter_options *a = &l->adapter;
    const plm_train_options *t = &l->train;
    bytes_printf(out, "%d %.9g %u %llu %d / %d %d %d %d %d %d %d %d %.9g %.9g %.9g %.9g %d", a->rank,
                 (double)a->alpha, a->targets, (unsigned long long)a->seed, a->layers, t->batch, t->steps,
                 t->epochs, t->warmup, t->max_tokens, t->patience, t->eval_every, (int)t->schedule,
                 (double)t->rate, (double)t->decay, (double)t->clip, (double)t->real_last, t->in_order);
}

plm_status learn(struct learned *out, const struct learn *l, plm_error *err) {
    memset(out, 0, sizeof *out);
    plm_trainer *t = NULL;
    double start = clock_now();
    plm_status st = l->start ? plm_adapter_load(&out->adapter, l->model, l->start, err)
                             : plm_adapter_new(&out->adapter, l->model, &l->adapter, err);
    if (st == PLM_OK)
        st = plm_trainer_new(&t, l->model, out->adapter, &l->train, err);
    if (st == PLM_OK)
        st = add_examples(t, l, err);
    if (st == PLM_OK)
        st = plm_trainer_plan(t, &out->facts, err);
    if (st == PLM_OK && l->resume && l->checkpoint) {
        plm_error none;
        st = plm_trainer_resume(t, l->checkpoint, &none);
        if (st == PLM_ENOTFOUND)
            st = PLM_OK;
        else if (st)
            fail(err, st, "%s", none.text);
    }
    if (st == PLM_OK)
        st = run_steps(out, t, l, err);
    out->seconds = clock_now() - start;
    plm_trainer_free(t);
    if (st) {
        plm_adapter_free(out->adapter);
        out->adapter = NULL;
    }
    return st;
}
