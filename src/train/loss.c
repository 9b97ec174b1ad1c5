/* loss.c: the loss of examples, with or without gradients, over packed passes. The loss of an example is the
 * mean of -ln p over its targets; a step's is sum share[i] * loss[i], where share is weight over summed
 * weight. */
#include "train/trainer.h"
#include <math.h>
#include <stdio.h>

uint64_t trainer_own_bytes(const struct plm_trainer *t, int tokens, int examples) {
    return t->array_bytes + t->example_bytes + packer_bytes(tokens, examples) + t->below.bytes +
           below_spare_bytes(t, tokens) + (uint64_t)examples * sizeof *t->loss;
}

static plm_status open_trace(struct plm_trainer *t, int tokens, int examples, plm_error *err) {
    uint64_t own = trainer_own_bytes(t, tokens, examples), most = t->opt.memory;
    plm_status st = trace_open(&t->trace, t->m, tokens, t->lora, own < most ? most - own : 0, err);
    if (st == PLM_ELIMIT) {
        char what[160];
        snprintf(what, sizeof what,
                 "a ceiling of %.1f MiB is too low when gradients, moments and examples take %.1f MiB",
                 (double)most / 1048576, (double)own / 1048576);
        return fail_in(err, st, what);
    }
    return st;
}

void trainer_drop_room(struct plm_trainer *t) {
    trace_close(t->trace);
    t->trace = NULL;
    packer_close(&t->packer);
    mem_free(t->loss);
    mem_free(t->below.spare);
    t->loss = NULL;
    t->below.spare = NULL;
}

plm_status trainer_room(struct plm_trainer *t, int tokens, int examples, plm_error *err) {
    if (t->trace && tokens <= t->packer.cap && examples <= t->packer.most) {
        return PLM_OK;
    }
    if (t->trace) {
        tokens = tokens > t->packer.cap ? tokens : t->packer.cap;
        examples = examples > t->packer.most ? examples : t->packer.most;
    }
    trainer_drop_room(t);
    plm_status st = open_trace(t, tokens, examples, err);
    if (st == PLM_ELIMIT && t->below.bytes) {
        below_drop(t); // longer passes than the plan's come first
        st = open_trace(t, tokens, examples, err);
    }
    if (!st) {
        st = below_spare(t, tokens, err);
    }
    if (!st) {
        st = packer_open(&t->packer, tokens, examples, err);
    }
    if (!st) {
        t->loss = mem_alloc((size_t)examples, sizeof *t->loss);
        st = t->loss ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for the losses of %d examples", examples);
    }
    if (st) {
        trainer_drop_room(t);
    }
    return st;
}

plm_status trainer_pass(struct plm_trainer *t, const struct example **ex, int n, int cap, const float *share,
                        float *grad, plm_error *err) {
    struct packer *p = &t->packer;
    packer_plan(p, ex, n, cap);
    for (int i = 0; i < n; i++) {
        t->loss[i] = 0;
    }
    for (int pass = 0; pass < p->passes; pass++) {
        packer_lay(p, pass, share);
        plm_status st = below_of_pass(t, pass, err);
        if (!st) {
            st = model_train(t->trace, &p->batch, p->at, p->target, share ? p->weight : NULL, p->targets,
                             t->lora, grad, p->nll, err);
        }
        if (st) {
            return st;
        }
        for (int i = 0; i < p->targets; i++) {
            t->loss[p->owner[i]] += p->nll[i];
        }
    }
    for (int i = 0; i < n; i++) {
        t->loss[i] /= ex[i]->targets;
    }
    return PLM_OK;
}

plm_status trainer_blame(struct plm_trainer *t, const struct example **ex, int n, plm_error *err) {
    for (int i = 0; i < n; i++) {
        float whole = 1;
        for (size_t k = 0; k < t->lora->parameters; k++) {
            t->grad[k] = 0;
        }
        plm_status st = trainer_pass(t, &ex[i], 1, t->pass_tokens, &whole, t->grad, err);
        if (st) {
            return st;
        }
        if (!isfinite(t->loss[0])) {
            return fail(err, PLM_EINVAL,
                        "step %d: the loss of %s is not finite; the learning rate may be too high",
                        (int)t->at.step, ex[i]->name);
        }
        if (!isfinite(grad_norm(t->grad, t->lora->parameters))) {
            return fail(err, PLM_EINVAL,
                        "step %d: the gradient of %s is not finite; the learning rate may be too high",
                        (int)t->at.step, ex[i]->name);
        }
    }
    return fail(err, PLM_EINVAL, "step %d: the gradient of %s and %d more examples together is not finite",
                (int)t->at.step, ex[0]->name, n - 1);
}
