/* plan.c: from options and examples to the number of steps, the validation rhythm and the arrays. What the
 * adapter becomes depends on the plan's numbers alone, never on the number of threads. */
#include "train/trainer.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>

/* Tokens a pass: with PASS_LEAST one reading of the weights already keeps every core busy, beyond PASS_MOST
 * nothing is won. SCRATCH is about what a trace needs besides what its tokens keep. */
enum { PASS_LEAST = 128, PASS_MOST = 1024, SCRATCH = 48 << 20 };
enum { STEPS_MOST = 10000000, BATCH_MOST = 1 << 16, EPOCHS_MOST = 1 << 20 };

static plm_status check_options(const struct plm_trainer *t, const plm_train_options *o, plm_error *err) {
    const struct {
        const char *name;
        int value, least, most;
    } whole[] = {
        {"batch", o->batch, 0, BATCH_MOST},
        {"steps", o->steps, 0, STEPS_MOST},
        {"epochs", o->epochs, 0, EPOCHS_MOST},
        {"warm-up", o->warmup, -1, STEPS_MOST},
        {"longest example", o->max_tokens, 0, t->m->cfg.context},
        {"patience", o->patience, 0, INT_MAX},
        {"steps between validations", o->eval_every, 0, STEPS_MOST},
        {"schedule", (int)o->schedule, PLM_LINEAR, PLM_CONSTANT},
    };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        if (whole[i].value < whole[i].least || whole[i].value > whole[i].most) {
            return fail(err, PLM_EINVAL, "%s of %d: it must be between %d and %d", whole[i].name,
                        whole[i].value, whole[i].least, whole[i].most);
        }
    }
    if (o->max_tokens == 1) {
        return fail(err, PLM_EINVAL, "longest example of 1: a prompt and an answer need at least 2 tokens");
    }
    if (!isfinite(o->rate) || o->rate < 0) {
        return fail(err, PLM_EINVAL, "learning rate of %g: it must be positive", (double)o->rate);
    }
    if (!isfinite(o->decay) || !isfinite(o->clip)) {
        return fail(err, PLM_EINVAL, "decay and clip must be finite numbers");
    }
    if (!(o->real_last >= 0 && o->real_last <= 1)) {
        return fail(err, PLM_EINVAL,
                    "share of last steps without synthetic examples of %g: it must be between 0 and 1",
                    (double)o->real_last);
    }
    return PLM_OK;
}

plm_status trainer_options(struct plm_trainer *t, const plm_train_options *given, plm_error *err) {
    plm_train_options o = given ? *given : (plm_train_options){0};
    plm_status st = check_options(t, &o, err);
    if (st) {
        return st;
    }
    o.batch = o.batch ? o.batch : 8;
    o.epochs = o.epochs ? o.epochs : 3;
    if (!o.max_tokens) {
        o.max_tokens = t->m->cfg.context < 1024 ? t->m->cfg.context : 1024;
    }
    if (o.rate == 0) {
        o.rate = t->m->facts.parameters < 1000000000 ? 3e-4f : 1e-4f;
    }
    o.decay = o.decay < 0 ? 0 : o.decay == 0 ? 0.01f : o.decay;
    o.clip = o.clip == 0 ? 1 : o.clip;
    o.memory = o.memory ? o.memory : (uint64_t)1 << 30;
    t->opt = o;
    return PLM_OK;
}

static plm_status plan_steps(struct plm_trainer *t, plm_error *err) {
    plm_train_options *o = &t->opt;
    struct order *order = &t->order;
    size_t n = order->n_all;
    if (n == 0) {
        return fail(err, PLM_EINVAL, "no example to learn from");
    }
    order->batch = (size_t)o->batch < n ? o->batch : (int)n;
    if (!o->steps) {
        size_t total;
        if (!mul_size(n, (size_t)o->epochs, &total) || total / (size_t)order->batch >= STEPS_MOST) {
            return fail(err, PLM_ELIMIT, "%d epochs of %zu examples are over %d steps", o->epochs, n,
                        STEPS_MOST);
        }
        order->limit = total;
        o->steps = (int)((total + (size_t)order->batch - 1) / (size_t)order->batch);
    }
    int last = (int)ceil((double)o->real_last * o->steps - 1e-6);
    order->real_from = o->steps - last;
    if (last && order->n_real == 0) {
        return fail(err, PLM_EINVAL,
                    "the last %d steps are to see no synthetic example, but there is no other", last);
    }
    if (o->warmup == 0) {
        int tenth = o->steps / 10 > 2 ? o->steps / 10 : 2;
        o->warmup = tenth < o->steps ? tenth : o->steps - 1;
    } else if (o->warmup < 0) {
        o->warmup = 0;
    }
    if (o->warmup >= o->steps) {
        return fail(err, PLM_EINVAL, "a warm-up of %d steps leaves none of %d", o->warmup, o->steps);
    }
    if (!o->eval_every) {
        o->eval_every = o->steps / 10 > 4 ? o->steps / 10 : 4;
    }
    return PLM_OK;
}

/* The longest example, and all tokens that one step could hold. */
static void measure(struct plm_trainer *t, int *longest, uint64_t *together) {
    *longest = 1;
    for (size_t i = 0; i < t->n_ex; i++) {
        const struct example *e = &t->ex[i];
        *longest = e->n - 1 > *longest ? e->n - 1 : *longest;
        if (!e->validation) {
            t->facts.examples++;
            t->facts.tokens += (size_t)e->n;
            t->facts.targets += (size_t)e->targets;
        } else {
            t->facts.validation++;
        }
    }
    *together = (uint64_t)*longest * (uint64_t)t->order.batch;
}

static plm_status take_arrays(struct plm_trainer *t, plm_error *err) {
    size_t n = t->lora->parameters, batch = (size_t)t->order.batch, valid = t->facts.validation;
    t->grad = mem_zero(n, sizeof *t->grad);
    t->m1 = mem_zero(n, sizeof *t->m1);
    t->m2 = mem_zero(n, sizeof *t->m2);
    t->best = valid ? mem_alloc(n, sizeof *t->best) : NULL;
    t->share = mem_alloc(batch, sizeof *t->share);
    t->step_ex = mem_alloc(batch, sizeof *t->step_ex);
    t->valid_ex = mem_alloc(valid ? valid : 1, sizeof *t->valid_ex);
    if (!t->grad || !t->m1 || !t->m2 || (valid && !t->best) || !t->share || !t->step_ex || !t->valid_ex) {
        return fail(err, PLM_ENOMEM, "no memory for gradients and moments of %zu parameters", n);
    }
    t->n_valid = 0;
    for (size_t i = 0; i < t->n_ex; i++) {
        if (t->ex[i].validation) {
            t->valid_ex[t->n_valid++] = &t->ex[i];
        }
    }
    return PLM_OK;
}

static uint64_t array_bytes(const struct plm_trainer *t) {
    uint64_t n = t->lora->parameters, batch = (uint64_t)t->order.batch, valid = t->facts.validation;
    return n * sizeof(float) * (valid ? 4 : 3) + batch * (sizeof *t->share + sizeof *t->step_ex) +
           valid * sizeof *t->valid_ex + t->n_ex * (2 * sizeof *t->order.all + sizeof *t->order.perm);
}

/* What only the plan made, so that it can be made anew. */
void trainer_unplan(struct plm_trainer *t) {
    order_close(&t->order);
    below_drop(t);
    mem_free(t->grad);
    mem_free(t->m1);
    mem_free(t->m2);
    mem_free(t->best);
    mem_free(t->share);
    mem_free(t->step_ex);
    mem_free(t->valid_ex);
    t->grad = t->m1 = t->m2 = t->best = t->share = NULL;
    t->step_ex = t->valid_ex = NULL;
    t->array_bytes = 0;
    t->facts.examples = t->facts.validation = t->facts.tokens = t->facts.targets = 0;
}

/* Shorter passes cost less than computing layers again, so passes are as long as the ceiling lets all layers
 * be kept. An estimate, not trace_bytes, because that depends on the number of threads and the result must
 * not. */
static int choose_pass(const struct plm_trainer *t, int longest, uint64_t together) {
    const struct config *c = &t->m->cfg;
    uint64_t attention = (uint64_t)(c->heads + c->kv_heads) * (uint64_t)c->head_width;
    uint64_t token = 2 * (attention * 3 + (uint64_t)c->ffn * 2 + (uint64_t)c->width * 3) *
                     (uint64_t)(c->layers - lora_first_layer(t->lora)); // most of it in f16
    uint64_t taken = t->array_bytes + t->example_bytes + SCRATCH;
    uint64_t room = taken < t->opt.memory ? (t->opt.memory - taken) / (token ? token : 1) : 0;
    int most = together < PASS_MOST ? (int)together : PASS_MOST;
    int least = most < PASS_LEAST ? most : PASS_LEAST;
    int pass = room < (uint64_t)most ? (int)room : most;
    pass = pass < least ? least : pass;
    return pass < longest ? longest : pass;
}

/* Lays out the passes of all steps, to plan for the largest instead of the largest that could be: with that
 * ceiling they come out the same. More steps than one would wait for are not looked at. */
static plm_status shrink_pass(struct plm_trainer *t, int longest, plm_error *err) {
    enum { STEPS = 4096 };
    bool known = t->opt.steps <= STEPS;
    for (size_t i = 0; i < t->n_ex; i++) {
        t->ex[i].uses = known ? 0 : 2;
    }
    if (!known) {
        return PLM_OK;
    }
    const struct example **list = mem_alloc((size_t)t->order.batch, sizeof *list);
    if (!list) {
        return fail(err, PLM_ENOMEM, "no memory for a batch of %d examples", t->order.batch);
    }
    struct packer p;
    plm_status st = packer_open(&p, t->pass_tokens, t->order.batch, err);
    int most = longest;
    for (int step = 0; !st && step < t->opt.steps; step++) {
        int n = order_step(&t->order, step, list);
        for (int i = 0; i < n; i++) {
            t->ex[list[i] - t->ex].uses++;
        }
        packer_plan(&p, list, n, t->pass_tokens);
        for (int i = 0; i < p.passes; i++) {
            int taken = t->pass_tokens - p.left[i], rows = (p.rows[i] + BATCH_ROWS - 1) / BATCH_ROWS;
            taken = rows > taken ? rows : taken;
            most = taken > most ? taken : most;
        }
    }
    if (!st) {
        t->pass_tokens = most;
        packer_close(&p);
    }
    mem_free(list);
    return st;
}

static plm_status plan_room(struct plm_trainer *t, plm_error *err) {
    int longest;
    uint64_t together;
    measure(t, &longest, &together);
    t->array_bytes = array_bytes(t);
    if (t->facts.validation > INT_MAX) {
        return fail(err, PLM_ELIMIT, "%zu validation examples are too many", t->facts.validation);
    }
    int valid = (int)t->facts.validation;
    t->most_examples = t->order.batch > valid ? t->order.batch : valid;
    t->pass_tokens = choose_pass(t, longest, together);
    plm_status st = shrink_pass(t, longest, err);
    if (st) {
        return st;
    }
    trainer_drop_room(t); /* of losses measured before the plan: arrays did not count then */
    st = trainer_room(t, t->pass_tokens, t->most_examples, err);
    if (st == PLM_ELIMIT && t->pass_tokens > longest) {
        t->pass_tokens = longest;
        st = trainer_room(t, longest, t->most_examples, err);
    }
    if (!st) {
        uint64_t taken = trainer_own_bytes(t, t->packer.cap, t->packer.most) + trace_bytes(t->trace);
        st = below_plan(t, taken < t->opt.memory ? t->opt.memory - taken : 0, err);
    }
    return st;
}

plm_status trainer_plan(struct plm_trainer *t, plm_error *err) {
    if (!t) {
        return fail(err, PLM_EINVAL, "there is no trainer");
    }
    if (t->planned) {
        return PLM_OK;
    }
    plm_train_options given = t->opt;
    plm_status st = order_open(&t->order, t->ex, t->n_ex, t->opt.seed, err);
    t->order.as_given = t->opt.in_order;
    if (!st) {
        st = plan_steps(t, err);
    }
    if (!st) {
        st = plan_room(t, err);
    }
    if (!st) {
        st = take_arrays(t, err);
    }
    if (st) {
        trainer_unplan(t);
        t->opt = given;
        return st;
    }
    t->facts.steps = t->opt.steps;
    t->facts.rank = t->lora->rank;
    t->facts.recomputed_layers = trace_recomputed(t->trace);
    t->facts.planned_bytes = trainer_own_bytes(t, t->packer.cap, t->packer.most) + trace_bytes(t->trace);
    t->at.best_step = -1;
    t->planned = true;
    return PLM_OK;
}
