/* records.c: a user's records of one kind, loaded once for a draft or an absorb. Excluded records (the
 * gate's) are never loaded, so nothing here can show or use them. */
#include "augment/inside.h"

#include <stdlib.h>
#include <string.h>

struct loading {
    struct reals *to;
    const plm_augment_policy *p;
    bool no_memory;
};

static bool excluded(const plm_augment_policy *p, int64_t id) {
    for (size_t i = 0; i < p->n_exclude; i++) {
        if (p->exclude[i] == id) {
            return true;
        }
    }
    return false;
}

static int load_one(void *ctx, const plm_record *r) {
    struct loading *l = ctx;
    struct reals *a = l->to;
    const char *input = r->input ? r->input : "", *output = r->output ? r->output : "";
    if (excluded(l->p, r->id) || !*output || strlen(input) > WIRE_TEXT_MAX ||
        strlen(output) > WIRE_TEXT_MAX || (l->p->kind->labels && plm_kind_label(l->p->kind, output) < 0)) {
        return 0;
    }
    if (a->n == a->cap) {
        size_t cap = a->cap ? a->cap * 2 : 64;
        struct real *more = mem_grow(a->r, cap, sizeof *more);
        if (!more) {
            l->no_memory = true;
            return 1;
        }
        a->r = more;
        a->cap = cap;
    }
    struct real x = {r->id, r->when, mem_dupz(input), mem_dupz(output), r->local_only};
    if (!x.input || !x.output) {
        mem_free(x.input);
        mem_free(x.output);
        l->no_memory = true;
        return 1;
    }
    a->r[a->n++] = x;
    return a->n == REALS_MAX; // newest come first
}

plm_status reals_load(struct reals *out, plm_store *st, const plm_augment_policy *p, plm_error *err) {
    *out = (struct reals){0};
    struct loading l = {out, p, false};
    plm_query q = {.user = p->user, .kind = p->kind->name, .newest_first = true};
    plm_status status = plm_store_find(st, &q, load_one, &l, err);
    if (l.no_memory) {
        status = fail(err, PLM_ENOMEM, "no memory for the records of %s", p->user);
    } else if (status == PLM_ESTOPPED) {
        status = PLM_OK;
    }
    if (status) {
        reals_free(out);
        return status;
    }
    for (size_t i = 0; i < out->n / 2; i++) {
        struct real x = out->r[i];
        out->r[i] = out->r[out->n - 1 - i];
        out->r[out->n - 1 - i] = x;
    }
    return PLM_OK;
}

void reals_free(struct reals *a) {
    for (size_t i = 0; i < a->n; i++) {
        mem_free(a->r[i].input);
        mem_free(a->r[i].output);
    }
    mem_free(a->r);
    *a = (struct reals){0};
}

const struct real *reals_find(const struct reals *a, int64_t id) {
    for (size_t i = 0; i < a->n; i++) {
        if (a->r[i].id == id) {
            return &a->r[i];
        }
    }
    return NULL;
}

static int clip(double x, int lo, int hi) {
    return x < lo ? lo : x > hi ? hi : (int)(x + .5);
}

int amount_wanted(size_t n_all, size_t n_new, bool first_time) {
    double each = n_all < 16 ? 3 : n_all < 64 ? 2 : n_all < 256 ? 1 : .25;
    int n = clip(each * (double)n_new, first_time ? 8 : 1, 128);
    // More than four for each real one would drown the person.
    return n_new == 0 ? 0 : n > 4 * (int)n_new ? 4 * (int)n_new : n;
}
