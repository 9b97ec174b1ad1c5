/* session.c: one conversation's state: a cache of keys and values, and which tokens are in it. Moving
 * to another token sequence keeps the common prefix and computes the rest in chunks. */
#include <math.h>
#include <string.h>
#include "gen/session.h"

plm_status plm_session_new(plm_session **out, const plm_model *m, const plm_session_options *opt,
                           plm_error *err) {
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
    st = st ? st : kv_open(&s->kv, m, context, err);
    st = st ? st : runner_open(&s->runner, m, context < SESSION_CHUNK ? context : SESSION_CHUNK, err);
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
    s->kv.n = 0; /* even for the same adapter: it may have learned since */
    s->ready = false;
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
    return n;
}

plm_status session_step(struct plm_session *s, const int32_t *ids, int n, const float **x, plm_error *err) {
    int32_t pos[SESSION_CHUNK], first[SESSION_CHUNK] = {0};
    int at = s->kv.n;
    for (int i = 0; i < n; i++) {
        pos[i] = at + i;
    }
    s->ready = false;
    struct batch batch = {.T = n, .ids = ids, .pos = pos, .first = first};
    plm_status st = model_forward(s->runner, &batch, &s->kv, s->use, s->n_use, x, err);
    if (!st) {
        memcpy(s->ids + at, ids, (size_t)n * sizeof *ids);
    }
    return st;
}

plm_status session_append(struct plm_session *s, const int32_t *ids, int n, plm_error *err) {
    plm_status st = PLM_OK;
    for (int at = 0, part; at < n && !st; at += part) {
        const float *x = NULL;
        part = n - at < SESSION_CHUNK ? n - at : SESSION_CHUNK;
        st = session_step(s, ids + at, part, &x, err);
        if (!st && at + part == n) {
            model_logits(s->runner, s->logits, x + (size_t)(part - 1) * (size_t)s->m->cfg.width, 1);
            s->ready = true;
        }
    }
    return st;
}

plm_status session_reach(struct plm_session *s, const int32_t *ids, int n, int *held, plm_error *err) {
    bool same = s->ready && s->kv.n == n && !memcmp(s->ids, ids, (size_t)n * sizeof *ids);
    *held = session_keep(s, ids, same ? n : n - 1); /* the last is computed again: its logits are gone */
    return session_append(s, ids + *held, n - *held, err);
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
