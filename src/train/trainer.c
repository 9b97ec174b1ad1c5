/* trainer.c: the public trainer: examples in, steps, validation, the best adapter out. The adapter's weights
 * change in plm_trainer_step, _resume and _finish alone, and never take values that are not finite numbers
 * unnoticed. */
#include "train/trainer.h"
#include "base/hash.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { GROUP = 16 }; /* foreign examples measured at once */

plm_status plm_trainer_new(plm_trainer **out, const plm_model *m, plm_adapter *a,
                           const plm_train_options *opt, plm_error *err) {
    if (!out || !m || !a) {
        return fail(err, PLM_EINVAL, "a trainer needs a model and an adapter");
    }
    if (a->model != m) {
        return fail(err, PLM_EINVAL, "the adapter was made for another model than the one to train on");
    }
    struct plm_trainer *t = mem_zero(1, sizeof *t);
    if (!t) {
        return fail(err, PLM_ENOMEM, "no memory for a trainer");
    }
    t->m = m;
    t->a = a;
    t->lora = a->lora;
    t->at.best_step = -1;
    plm_status st = trainer_options(t, opt, err);
    if (st) {
        plm_trainer_free(t);
        return st;
    }
    *out = t;
    return PLM_OK;
}

void plm_trainer_free(plm_trainer *t) {
    if (!t) {
        return;
    }
    trainer_unplan(t);
    trainer_drop_room(t);
    for (size_t i = 0; i < t->n_ex; i++) {
        example_free(&t->ex[i]);
    }
    mem_free(t->ex);
    mem_free(t);
}

plm_status plm_trainer_add(plm_trainer *t, const plm_example *ex, plm_error *err) {
    if (!t || !ex) {
        return fail(err, PLM_EINVAL, "plm_trainer_add needs a trainer and an example");
    }
    if (t->planned) {
        return fail(err, PLM_EINVAL, "examples are added before the plan is made");
    }
    if (t->n_ex == t->room) {
        size_t room = t->room ? t->room * 2 : 64;
        struct example *more = mem_grow(t->ex, room, sizeof *more);
        if (!more) {
            return fail(err, PLM_ENOMEM, "no memory for %zu examples", room);
        }
        t->ex = more;
        t->room = room;
    }
    bool cut;
    struct example e;
    plm_status st = example_make(&e, t->m, ex, t->n_ex, t->opt.max_tokens, t->opt.refuse_long, &cut, err);
    if (st) {
        return st;
    }
    t->ex[t->n_ex++] = e;
    t->example_bytes += example_bytes(&e);
    t->facts.cut += cut;
    return PLM_OK;
}

plm_status plm_trainer_plan(plm_trainer *t, plm_train_facts *facts, plm_error *err) {
    plm_status st = trainer_plan(t, err);
    if (!st && facts) {
        *facts = t->facts;
    }
    return st;
}

static bool is_done(const struct plm_trainer *t) {
    return t->at.step >= t->opt.steps || (t->opt.patience && t->at.stale >= t->opt.patience);
}

/* Why no step can be made. */
static plm_status refuse_step(const struct plm_trainer *t, plm_error *err) {
    if (t->finished) {
        return fail(err, PLM_EINVAL, "the training is finished");
    }
    if (t->broken[0]) {
        return fail(err, PLM_EINVAL, "%s", t->broken);
    }
    if (is_done(t)) {
        return fail(err, PLM_EINVAL, "no step is left after %d", (int)t->at.step);
    }
    return PLM_OK;
}

/* The weights can't be trusted from now on: nothing of them is saved. */
static plm_status become_broken(struct plm_trainer *t, const char *why, plm_error *err) {
    snprintf(t->broken, sizeof t->broken, "%s", why);
    return fail(err, PLM_EINVAL, "%s", t->broken);
}

static plm_status validate(struct plm_trainer *t, double *mean, plm_error *err) {
    plm_error local = {0};
    plm_status st = trainer_pass(t, t->valid_ex, t->n_valid, t->pass_tokens, NULL, NULL, &local);
    double sum = 0;
    for (int i = 0; !st && i < t->n_valid; i++) {
        sum += t->loss[i];
    }
    if (!st && !isfinite(sum)) {
        st = trainer_blame(t, t->valid_ex, t->n_valid, &local);
    }
    if (st) {
        return become_broken(t, local.text, err);
    }
    *mean = sum / t->n_valid;
    if (t->at.best_step < 0 || *mean < t->at.best) {
        memcpy(t->best, t->lora->values, t->lora->parameters * sizeof *t->best);
        t->at.best = *mean;
        t->at.best_step = t->at.step - 1;
        t->at.stale = 0;
    } else {
        t->at.stale++;
    }
    return PLM_OK;
}

/* Loss and gradient of the step's examples; the weights are as before whatever happens. */
static plm_status learn(struct plm_trainer *t, plm_train_report *r, plm_error *err) {
    int n = order_step(&t->order, (int)t->at.step, t->step_ex);
    double weights = 0;
    for (int i = 0; i < n; i++) {
        weights += (double)t->step_ex[i]->weight;
        r->tokens += (size_t)t->step_ex[i]->n;
    }
    for (int i = 0; i < n; i++) {
        t->share[i] = (float)(t->step_ex[i]->weight / weights);
    }
    memset(t->grad, 0, t->lora->parameters * sizeof *t->grad);
    plm_status st = trainer_pass(t, t->step_ex, n, t->pass_tokens, t->share, t->grad, err);
    if (st) {
        return st;
    }
    for (int i = 0; i < n; i++) {
        r->loss += t->step_ex[i]->weight / weights * t->loss[i];
    }
    r->grad_norm = grad_norm(t->grad, t->lora->parameters);
    if (!isfinite(r->loss) || !isfinite(r->grad_norm)) {
        return trainer_blame(t, t->step_ex, n, err);
    }
    return PLM_OK;
}

plm_status plm_trainer_step(plm_trainer *t, plm_train_report *report, plm_error *err) {
    double start = clock_now();
    plm_status st = trainer_plan(t, err);
    if (!st) {
        st = refuse_step(t, err);
    }
    if (!st) { /* it is there, unless plm_trainer_loss wanted more than there is */
        st = trainer_room(t, t->pass_tokens, t->most_examples, err);
    }
    if (st) {
        return st;
    }
    const plm_train_options *o = &t->opt;
    plm_train_report r = {.step = (int)t->at.step};
    r.rate = rate_at(o->schedule, (double)o->rate, r.step, o->steps, o->warmup);
    st = learn(t, &r, err);
    if (st) {
        return st;
    }
    struct adamw how = {.rate = r.rate,
                        .decay = (double)o->decay,
                        .scale = grad_scale(r.grad_norm, (double)o->clip),
                        .step = t->at.step + 1};
    bool finite = adamw_step(t->lora->values, t->m1, t->m2, t->grad, t->lora->parameters, &how);
    t->lora->edits++;
    t->at.step++;
    if (!finite) {
        char why[120];
        snprintf(why, sizeof why,
                 "step %d made a weight that is not finite; the learning rate may be too high", r.step);
        return become_broken(t, why, err);
    }
    if (t->n_valid && (t->at.step % o->eval_every == 0 || t->at.step == o->steps)) {
        st = validate(t, &r.validation, err);
        if (st) {
            return st;
        }
        r.validated = true;
    }
    r.done = is_done(t);
    r.seconds = clock_now() - start;
    if (report) {
        *report = r;
    }
    return PLM_OK;
}

plm_status plm_trainer_finish(plm_trainer *t, int *best_step, double *best, plm_error *err) {
    if (!t) {
        return fail(err, PLM_EINVAL, "plm_trainer_finish needs a trainer");
    }
    bool validated = t->at.best_step >= 0;
    if (t->broken[0] && !validated) {
        return fail(err, PLM_EINVAL, "%s", t->broken);
    }
    if (validated) {
        memcpy(t->lora->values, t->best, t->lora->parameters * sizeof *t->best);
        t->lora->edits++;
    }
    t->finished = true;
    if (best_step) {
        *best_step = (int)(validated ? t->at.best_step : t->at.step - 1);
    }
    if (best) {
        *best = validated ? t->at.best : -1; // no NLL is negative
    }
    return PLM_OK;
}

/* Foreign examples, up to GROUP of them: made, measured, freed. share not NULL: share times the gradient of
 * each loss is added to gradient. */
static plm_status measure(struct plm_trainer *t, const plm_example *ex, size_t base, int n,
                          const float *share, float *gradient, plm_error *err) {
    struct example made[GROUP];
    const struct example *list[GROUP];
    plm_status st = PLM_OK;
    int have = 0, longest = 1;
    for (; !st && have < n; have += !st) {
        bool cut;
        st = example_make(&made[have], t->m, &ex[have], base + (size_t)have, t->opt.max_tokens,
                          t->opt.refuse_long, &cut, err);
        if (!st) {
            longest = made[have].n - 1 > longest ? made[have].n - 1 : longest;
            list[have] = &made[have];
        }
    }
    if (!st) {
        st = trainer_room(t, longest, n, err);
    }
    if (!st) {
        st = trainer_pass(t, list, n, t->packer.cap, share, gradient, err);
    }
    for (int i = 0; i < have; i++) {
        example_free(&made[i]);
    }
    return st;
}

plm_status plm_trainer_loss(plm_trainer *t, const plm_example *ex, size_t n, double *loss, plm_error *err) {
    if (!t || (n && (!ex || !loss))) {
        return fail(err, PLM_EINVAL,
                    "plm_trainer_loss needs a trainer, examples and a place for their losses");
    }
    plm_status st = PLM_OK;
    for (size_t i = 0; !st && i < n; i += GROUP) {
        int group = n - i < GROUP ? (int)(n - i) : GROUP;
        st = measure(t, ex + i, i, group, NULL, NULL, err);
        for (int k = 0; k < group && !st; k++) {
            loss[i + (size_t)k] = t->loss[k];
        }
    }
    return st;
}

plm_status plm_trainer_gradient(plm_trainer *t, const plm_example *ex, size_t n, float *gradient,
                                plm_error *err) {
    if (!t || !ex || !n || !gradient) {
        return fail(err, PLM_EINVAL,
                    "plm_trainer_gradient needs a trainer, examples and a place for their gradient");
    }
    float share[GROUP];
    plm_status st = PLM_OK;
    for (int i = 0; i < GROUP; i++) {
        share[i] = 1 / (float)n;
    }
    memset(gradient, 0, t->lora->parameters * sizeof *gradient);
    for (size_t i = 0; !st && i < n; i += GROUP) {
        int group = n - i < GROUP ? (int)(n - i) : GROUP;
        st = measure(t, ex + i, i, group, share, gradient, err);
        for (int k = 0; k < group && !st; k++) {
            if (!isfinite(t->loss[k])) {
                st = fail(err, PLM_EINVAL, "the loss of example %zu is not finite", i + (size_t)k + 1);
            }
        }
    }
    if (!st && !isfinite(grad_norm(gradient, t->lora->parameters))) {
        st = fail(err, PLM_EINVAL, "the gradient of %zu examples is not finite", n);
    }
    return st;
}

void trainer_digest(const struct plm_trainer *t, char hex[65]) {
    struct sha256 h;
    sha256_start(&h);
    for (size_t i = 0; i < t->n_ex; i++) {
        const struct example *e = &t->ex[i];
        uint8_t flags[2] = {e->synthetic, e->validation};
        sha256_add(&h, &e->n, sizeof e->n);
        sha256_add(&h, &e->weight, sizeof e->weight);
        sha256_add(&h, flags, sizeof flags);
        sha256_add(&h, e->ids, (size_t)e->n * sizeof *e->ids);
        sha256_add(&h, e->learn, (size_t)e->n);
    }
    sha256_hex(&h, hex);
}
