/* session.c: one conversation's state: a cache of keys and values, and which tokens are in it. Moving
 * to another token sequence keeps the common prefix and computes the rest in chunks. */
#include <math.h>
#include <string.h>
#include "gen/session.h"

plm_status plm_session_new(plm_session **out, const plm_model *m, const plm_session_options *opt,
                           plm_error *err) {
    enum cache_form form = m ? kv_usual(m) : CACHE_F32;
    plm_kv kv = opt ? opt->kv : PLM_KV_AUTO;
    if ((int)kv < PLM_KV_AUTO || kv > PLM_KV_F32) {
        return fail(err, PLM_EINVAL, "plm_session_new: %d is no way to keep keys and values", (int)kv);
    }
    if (kv != PLM_KV_AUTO) {
        form = kv == PLM_KV_F32 ? CACHE_F32 : kv == PLM_KV_Q8 ? CACHE_Q8 : CACHE_F16;
    }
    if (!out || !m || (opt && opt->context < 0)) {
        return fail(err, PLM_EINVAL, "plm_session_new needs a model and a context of at least one token");
    }
    int context = opt ? opt->context : 0;
    if (!context) {
        context = m->cfg.context < SESSION_CONTEXT ? m->cfg.context : SESSION_CONTEXT;
    }
    if (context > m->cfg.context) {
        return fail(err, PLM_ELIMIT, "a context of %d tokens; the model's is %d", context, m->cfg.context);
    }
    struct plm_session *s = mem_zero(1, sizeof *s);
    if (!s) {
        return fail(err, PLM_ENOMEM, "no memory for a session");
    }
    s->m = m;
    s->ids = mem_alloc((size_t)context, sizeof *s->ids);
    s->logits = mem_aligned((size_t)m->cfg.vocab, sizeof *s->logits);
    s->candidate = mem_alloc((size_t)m->cfg.vocab, sizeof *s->candidate);
    plm_status st =
        s->ids && s->logits && s->candidate ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a session");
    st = st ? st : kv_open(&s->kv, m, context, form, err);
    s->chunk = context < SESSION_CHUNK ? context : SESSION_CHUNK;
    st = st ? st : runner_open(&s->runner, m, s->chunk > DRAFT ? s->chunk : DRAFT + 1, err);
    if (st) {
        plm_session_free(s);
        return st;
    }
    *out = s;
    return PLM_OK;
}

void plm_session_free(plm_session *s) {
    if (!s) {
        return;
    }
    runner_close(s->runner);
    kv_close(&s->kv);
    mem_free(s->shared);
    mem_free(s->draft.logits);
    mem_free(s->candidate);
    mem_free(s->logits);
    mem_free(s->ids);
    mem_free(s);
}

plm_status plm_session_use(plm_session *s, const plm_lora *uses, size_t n, plm_error *err) {
    if (!s || (!uses && n)) {
        return fail(err, PLM_EINVAL, "plm_session_use needs a session and adapters");
    }
    if (n > SESSION_USES) {
        return fail(err, PLM_ELIMIT, "%zu adapters at once, at most %d", n, SESSION_USES);
    }
    for (size_t i = 0; i < n; i++) {
        if (!uses[i].adapter || uses[i].adapter->model != s->m) {
            return fail(err, PLM_EINVAL, "adapter %zu was not loaded for this model", i + 1);
        }
        if (!isfinite(uses[i].scale)) {
            return fail(err, PLM_EINVAL, "adapter %zu: its strength is not a number", i + 1);
        }
    }
    for (size_t i = 0; i < n; i++) {
        plm_status st = adapter_prepare(uses[i].adapter, err);
        if (st)
            return st;
    }
    s->kv.n = 0; /* even for the same adapter: it may have learned since */
    s->ready = false;
    s->draft.n = s->draft.at = 0;
    if (n) {
        memcpy(s->use, uses, n * sizeof *uses);
    }
    s->n_use = n;
    return PLM_OK;
}

plm_status session_check_ids(const struct plm_session *s, const int32_t *ids, size_t n, plm_error *err) {
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= s->m->cfg.vocab) {
            return fail(err, PLM_EINVAL, "token %zu: %d is no id of a vocabulary of %d", i + 1, ids[i],
                        s->m->cfg.vocab);
        }
    }
    return PLM_OK;
}

int session_keep(struct plm_session *s, const int32_t *ids, int most) {
    int n = 0;
    while (n < most && n < s->kv.n && s->ids[n] == ids[n]) {
        n++;
    }
    s->ready = s->ready && n == s->kv.n;
    s->kv.n = n;
    s->draft.n = s->draft.at = 0;
    return n;
}

plm_status session_append(struct plm_session *s, const int32_t *ids, int n, plm_error *err) {
    struct growth g = {.s = s, .ids = ids, .n = n};
    return sessions_append(&g, 1, err);
}

plm_status session_reach(struct plm_session *s, const int32_t *ids, int n, int *held, plm_error *err) {
    bool same = s->ready && s->kv.n == n && !memcmp(s->ids, ids, (size_t)n * sizeof *ids);
    *held = session_keep(s, ids, same ? n : n - 1); /* the last is computed again: its logits are gone */
    return *held == n ? PLM_OK : session_append(s, ids + *held, n - *held, err);
}

plm_status session_append_drafted(struct plm_session *s, int32_t id, const int32_t *guess, int n,
                                  plm_error *err) {
    struct draft *d = &s->draft;
    const struct config *c = &s->m->cfg;
    size_t vocab = (size_t)c->vocab;
    d->n = d->at = 0;
    if (!d->logits && !(d->logits = mem_aligned((1 + DRAFT) * vocab, sizeof *d->logits))) {
        return fail(err, PLM_ENOMEM, "no memory for logits");
    }
    int32_t ids[1 + DRAFT] = {id};
    memcpy(ids + 1, guess, (size_t)n * sizeof *ids);
    const struct lane lane = {&s->kv, s->use, s->n_use, 1 + n, 1 + n};
    const float *x = NULL;
    int at = s->kv.n;
    s->ready = false;
    plm_status st = model_step(s->runner, &lane, 1, ids, &x, err);
    if (st) {
        return st;
    }
    model_logits(s->runner, d->logits, x, 1 + n);
    s->kv.n = at + 1;
    s->ids[at] = id;
    memcpy(s->logits, d->logits, vocab * sizeof *s->logits);
    memcpy(d->ids, guess, (size_t)n * sizeof *guess);
    d->n = n;
    s->ready = true;
    return PLM_OK;
}

bool session_take_drafted(struct plm_session *s, int32_t id) {
    struct draft *d = &s->draft;
    size_t vocab = (size_t)s->m->cfg.vocab;
    if (d->at >= d->n || d->ids[d->at] != id) {
        d->n = d->at = 0;
        return false;
    }
    s->ids[s->kv.n++] = id;
    memcpy(s->logits, d->logits + (size_t)++d->at * vocab, vocab * sizeof *s->logits);
    return true;
}

plm_status plm_session_sync(plm_session *s, const int32_t *ids, size_t n, plm_error *err) {
    if (!s || !ids || !n) {
        return fail(err, PLM_EINVAL, "plm_session_sync needs a session and at least one token");
    }
    if (n > (size_t)s->kv.context) {
        return fail(err, PLM_ELIMIT, "%zu tokens do not fit into a context of %d", n, s->kv.context);
    }
    int held;
    plm_status st = session_check_ids(s, ids, n, err);
    return st ? st : session_reach(s, ids, (int)n, &held, err);
}

const float *plm_session_logits(const plm_session *s) {
    return s && s->ready ? s->logits : NULL;
}

int32_t plm_session_sample(plm_session *s, const plm_sampling *how) {
    static const plm_sampling greedy;
    if (!s || !s->ready) {
        return -1;
    }
    return sample_logits(s->logits, s->m->cfg.vocab, s->candidate, how ? how : &greedy, (uint64_t)s->kv.n);
}
