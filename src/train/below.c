/* below.c: what the layers below the adapter's first give for an example. They never change, so it is kept
 * from the first time on, for as many examples as the ceiling leaves room for: those that are measured, then
 * those that are learned more than once, in their order. The others' is computed again for each pass. Either
 * way each example is computed by itself, so neither the ceiling nor the order of a run changes a bit. */
#include "train/trainer.h"
#include <assert.h>
#include <string.h>

static size_t row_bytes(const struct plm_trainer *t) {
    return (size_t)t->m->cfg.width * sizeof(float);
}

static uint64_t bytes_of(const struct plm_trainer *t, const struct example *e) {
    return (uint64_t)(e->n - 1) * row_bytes(t);
}

uint64_t below_spare_bytes(const struct plm_trainer *t, int tokens) {
    return lora_first_layer(t->lora) ? (uint64_t)BATCH_ROWS * (uint64_t)tokens * row_bytes(t) : 0;
}

plm_status below_spare(struct plm_trainer *t, int tokens, plm_error *err) {
    uint64_t bytes = below_spare_bytes(t, tokens);
    if (bytes && !(t->below.spare = mem_alloc(bytes, 1)))
        return fail(err, PLM_ENOMEM, "no memory for what %d tokens give below the adapter", tokens);
    return PLM_OK;
}

static bool is_wanted(const struct example *e, bool validation) {
    return e->validation == validation && (validation || e->uses > 1);
}

plm_status below_plan(struct plm_trainer *t, uint64_t room, plm_error *err) {
    size_t n = 0;
    uint64_t taken = 0;
    if (!lora_first_layer(t->lora))
        return PLM_OK;
    below_drop(t);
    t->below.have = mem_zero(t->n_ex, sizeof *t->below.have);
    for (int validation = 1; t->below.have && validation >= 0; validation--)
        for (size_t i = 0; i < t->n_ex; i++) {
            uint64_t bytes = bytes_of(t, &t->ex[i]);
            if (!is_wanted(&t->ex[i], validation))
                continue;
            t->facts.frozen_anew++;
            if (bytes > room - taken)
                continue;
            t->ex[i].have = &t->below.have[n++];
            taken += bytes;
        }
    t->facts.frozen_kept = n;
    t->facts.frozen_anew -= n;
    if (n)
        t->below.rows = mem_alloc(taken, 1);
    if (!t->below.have || (n && !t->below.rows)) {
        below_drop(t);
        return fail(err, PLM_ENOMEM, "no memory to keep what %zu examples give below the adapter", n);
    }
    t->below.bytes = taken;
    unsigned char *at = t->below.rows;
    for (size_t i = 0; i < t->n_ex; i++) {
        if (t->ex[i].have) {
            t->ex[i].below = (float *)(void *)at;
            at += bytes_of(t, &t->ex[i]);
        }
    }
    return PLM_OK;
}

void below_drop(struct plm_trainer *t) {
    for (size_t i = 0; i < t->n_ex; i++) {
        t->ex[i].have = NULL;
        t->ex[i].below = NULL;
    }
    mem_free(t->below.rows);
    mem_free(t->below.have);
    t->below.rows = NULL;
    t->below.have = NULL;
    t->below.bytes = 0;
    t->facts.frozen_kept = t->facts.frozen_anew = 0;
}

/* A group of examples whose rows are wanted next. */
struct group {
    struct below s[BELOW_MOST];
    uint8_t *have[BELOW_MOST];
    int n, tokens;
};

static plm_status compute(struct plm_trainer *t, struct group *g, plm_error *err) {
    plm_status st = g->n ? model_below(t->trace, g->s, g->n, err) : PLM_OK;
    for (int i = 0; !st && i < g->n; i++) {
        if (g->have[i])
            *g->have[i] = 1;
    }
    g->n = g->tokens = 0;
    return st;
}

plm_status below_of_pass(struct plm_trainer *t, int pass, plm_error *err) {
    struct packer *p = &t->packer;
    struct group g = {.n = 0};
    size_t spare = 0, C = (size_t)t->m->cfg.width;
    if (!trace_frozen(t->trace))
        return PLM_OK;
    for (int i = 0; i < p->n; i++) {
        const struct example *e = p->ex[i];
        if (p->pass[i] != pass)
            continue;
        p->rows_of[i] = e->have ? e->below : t->below.spare + spare;
        if (!e->have)
            spare += (size_t)(e->n - 1) * C;
        if (e->have && *e->have)
            continue;
        if (g.n == BELOW_MOST || g.tokens + e->n - 1 > p->cap) {
            plm_status st = compute(t, &g, err);
            if (st)
                return st;
        }
        g.have[g.n] = e->have;
        g.s[g.n++] = (struct below){e->ids, e->n - 1, p->rows_of[i]};
        g.tokens += e->n - 1;
    }
    for (int k = 0; k < p->batch.T; k++)
        p->below[k] = p->rows_of[p->of[k]] + (size_t)p->pos[k] * C;
    p->batch.below = p->below;
    return compute(t, &g, err);
}
