/* sieve.c: the rules as far as whoever runs the recipe can apply them: it has the request alone. The device
 * applies them again to what it gets, with all its records, and trusts nothing that was said here. */
#include "augment/inside.h"

#include <string.h>

struct sieve {
    plm_kind kind;
    plm_augment_policy policy;
    struct reals reals;
    struct filter f;
};

static plm_status sieve_open(struct sieve *s, const struct wire_request *q, size_t n, plm_error *err) {
    s->kind = (plm_kind){.name = q->kind,
                         .task = q->task,
                         .instruction = q->instruction,
                         .labels = q->n_labels ? q->labels : NULL,
                         .n_labels = q->n_labels,
                         .pair = q->pair,
                         .checks = q->checks};
    s->policy = (plm_augment_policy){.kind = &s->kind, .unredacted = true};
    s->f = (struct filter){.policy = &s->policy, .request = q, .reals = &s->reals};
    s->reals.r = mem_zero(q->n_records + 1, sizeof *s->reals.r);
    s->f.c = mem_zero(n + 1, sizeof *s->f.c);
    if (!s->reals.r || !s->f.c) {
        return fail(err, PLM_ENOMEM, "no memory to filter candidates");
    }
    for (size_t i = 0; i < q->n_records; i++) {
        // Borrowed and only read: the request owns its texts.
        s->reals.r[i] = (struct real){.id = (int64_t)i + 1,
                                      .input = (char *)q->records[i].input,
                                      .output = (char *)q->records[i].output};
    }
    s->reals.n = q->n_records;
    return PLM_OK;
}

static void sieve_close(struct sieve *s) {
    for (size_t i = 0; i < s->f.n; i++) {
        candidate_free(&s->f.c[i]);
    }
    mem_free(s->f.c);
    mem_free(s->reals.r);
}

plm_status wire_sieve(const struct wire_request *q, const struct wire_candidate *c, size_t n, size_t most,
                      struct wire_verdict *v, plm_error *err) {
    struct sieve s = {0};
    plm_status st = sieve_open(&s, q, n, err);
    for (size_t i = 0; i < n && !st; i++) {
        struct candidate *to = &s.f.c[s.f.n++];
        *to = (struct candidate){.wire = c[i], .verdict = VERDICT_NONE, .trust = 1};
        if (c[i].bad) {
            to->verdict = PLM_RULE_PARSE;
            to->why = c[i].bad;
            continue;
        }
        to->parent = c[i].source ? &s.reals.r[c[i].source - 1] : NULL;
        st = candidate_restore(to, q, NULL, &s.reals, true, err);
    }
    st = st ? st : filter_run(&s.f, err);
    st = st || !most ? st : pick_best(&s.f, most, err);
    for (size_t i = 0; i < n && !st; i++) {
        v[i] = (struct wire_verdict){s.f.c[i].verdict, s.f.c[i].why};
    }
    sieve_close(&s);
    return st;
}
