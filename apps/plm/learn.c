/* learn.c: runs a trainer to its end. A checkpoint is written every few steps beside the result, so that a
 * run that was killed goes on and ends with the same bytes. */
#include "learn.h"

#include <string.h>
#include <unistd.h>

enum { CHECKPOINT_SECONDS = 10 };

static plm_status parse_targets(unsigned *out, const char *text, plm_error *err) {
    static const struct {
        const char *name;
        unsigned bit;
    } known[] = {{"q", PLM_Q},       {"k", PLM_K},   {"v", PLM_V},       {"o", PLM_O},
                 {"gate", PLM_GATE}, {"up", PLM_UP}, {"down", PLM_DOWN}, {"all", PLM_ALL_LINEAR}};
    struct str rest = str_of(text), one;
    *out = 0;
    while (str_cut(&rest, ',', &one)) {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && !str_eq(one, known[i].name))
            i++;
        if (i == sizeof known / sizeof *known)
            return fail(err, PLM_EINVAL, "--targets: \"%.*s\" is none of q, k, v, o, gate, up, down, all",
                        (int)one.n, one.p);
        *out |= known[i].bit;
    }
    return PLM_OK;
}

static plm_status parse_schedule(plm_schedule *out, const char *text, plm_error *err) {
    *out = PLM_LINEAR;
    if (!text || strcmp(text, "linear") == 0)
        return PLM_OK;
    *out = strcmp(text, "cosine") == 0 ? PLM_COSINE : PLM_CONSTANT;
    if (*out == PLM_CONSTANT && strcmp(text, "constant") != 0)
        return fail(err, PLM_EINVAL, "--schedule: \"%.40s\" is none of linear, cosine, constant", text);
    return PLM_OK;
}

plm_status learn_options(struct learn *l, const struct args *a, plm_error *err) {
    l->adapter = (plm_adapter_options){.rank = a->rank, .alpha = (float)a->alpha, .seed = a->seed};
    l->train = (plm_train_options){.batch = a->batch,
                                   .steps = a->steps,
                                   .epochs = a->epochs,
                                   .warmup = a->warmup,
                                   .max_tokens = a->context,
                                   .patience = a->patience,
                                   .rate = (float)a->rate,
                                   .decay = (float)a->decay,
                                   .clip = (float)a->clip,
                                   .memory = a->memory,
                                   .seed = a->seed,
                                   .refuse_long = a->refuse_long};
    plm_status st = a->targets ? parse_targets(&l->adapter.targets, a->targets, err) : PLM_OK;
    return st ? st : parse_schedule(&l->train.schedule, a->schedule, err);
}

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

plm_status learn(struct learned *out, const struct learn *l, plm_error *err) {
    memset(out, 0, sizeof *out);
    plm_trainer *t = NULL;
    double start = clock_now();
    plm_status st = plm_adapter_new(&out->adapter, l->model, &l->adapter, err);
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
