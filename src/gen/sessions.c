/* sessions.c: several sessions growing in common passes. Each is cut into the chunks that it would have
 * alone, and a pass takes the next chunk of as many as fit: what a session gets depends on its own tokens
 * only. */
#include <string.h>
#include "gen/session.h"

_Static_assert((int)PLM_MAX_SESSIONS == (int)MAX_LANES, "a pass has a lane for each");

plm_status sessions_check(plm_session *const *s, size_t n, plm_error *err) {
    if (n > PLM_MAX_SESSIONS) {
        return fail(err, PLM_ELIMIT, "%zu sessions at once, at most %d", n, PLM_MAX_SESSIONS);
    }
    for (size_t i = 0; i < n; i++) {
        if (!s[i]) {
            return fail(err, PLM_EINVAL, "session %zu is not there", i + 1);
        }
        if (s[i]->m != s[0]->m) {
            return fail(err, PLM_EINVAL, "sessions 1 and %zu are of different models", i + 1);
        }
        for (size_t j = 0; j < i; j++) {
            if (s[i] == s[j]) {
                return fail(err, PLM_EINVAL, "sessions %zu and %zu are the same", j + 1, i + 1);
            }
        }
    }
    return PLM_OK;
}

/* The session whose scratch a pass uses: one that takes the longest chunks. */
static struct plm_session *host_of(const struct growth *g, int n) {
    struct plm_session *host = g[0].s;
    for (int i = 1; i < n; i++) {
        host = g[i].s->chunk > host->chunk ? g[i].s : host;
    }
    return host;
}

static int chunk_of(const struct growth *g) {
    return g->n - g->at < g->s->chunk ? g->n - g->at : g->s->chunk;
}

/* Of tokens at .. at + n the last so many are wanted. */
static int wanted_of(const struct growth *g, int n) {
    int skip = g->want > g->at ? g->want - g->at : 0;
    return skip < n ? n - skip : 0;
}

struct pass {
    struct lane lane[MAX_LANES];
    struct grown grown[MAX_LANES];
    int32_t ids[SESSION_CHUNK + DRAFT + 1];
    int lanes, growns, tokens;
};

static void take(struct pass *p, struct growth *g, int i) {
    int n = chunk_of(g), want = wanted_of(g, n);
    p->lane[p->lanes] = (struct lane){&g->s->kv, g->s->use, g->s->n_use, n, want};
    if (want) {
        p->grown[p->growns++] = (struct grown){i, g->at + n - want, want};
    }
    memcpy(p->ids + p->tokens, g->ids + g->at, (size_t)n * sizeof *p->ids);
    p->lanes++;
    p->tokens += n;
}

plm_status sessions_grow(struct growth *g, int n, grown_fn each, void *ctx, plm_error *err) {
    struct plm_session *host = host_of(g, n);
    plm_status st = PLM_OK;
    for (int i = 0; i < n; i++) {
        g[i].s->ready = false;
        g[i].s->draft.n = g[i].s->draft.at = 0;
    }
    while (!st) {
        struct pass p = {.lanes = 0};
        bool taken[MAX_LANES] = {false};
        for (int i = 0; i < n; i++) {
            int part = chunk_of(&g[i]);
            if (part && p.tokens + part <= host->chunk && p.lanes < MAX_LANES) {
                take(&p, &g[i], i);
                taken[i] = true;
            }
        }
        if (!p.lanes) {
            return PLM_OK;
        }
        const float *x = NULL;
        st = model_step(host->runner, p.lane, p.lanes, p.ids, &x, err);
        for (int i = 0; i < n && !st; i++) {
            int part = chunk_of(&g[i]);
            if (taken[i]) {
                memcpy(g[i].s->ids + g[i].s->kv.n - part, g[i].ids + g[i].at, (size_t)part * sizeof *p.ids);
                g[i].at += part;
            }
        }
        st = st || !p.growns ? st : each(ctx, host, p.grown, p.growns, x, err);
    }
    return st;
}

/* x: the last hidden state of each. */
static plm_status put_logits(void *ctx, struct plm_session *host, const struct grown *grown, int n,
                             const float *x, plm_error *err) {
    struct growth *g = ctx;
    size_t vocab = (size_t)host->m->cfg.vocab;
    if (n == 1) {
        struct plm_session *s = g[grown->growth].s;
        model_logits(host->runner, s->logits, x, 1);
        s->ready = true;
        return PLM_OK;
    }
    if ((size_t)n > host->n_shared) {
        float *more = mem_aligned((size_t)n * vocab, sizeof *more);
        if (!more) {
            return fail(err, PLM_ENOMEM, "no memory for logits");
        }
        mem_free(host->shared);
        host->shared = more;
        host->n_shared = (size_t)n;
    }
    model_logits(host->runner, host->shared, x, n);
    for (int i = 0; i < n; i++) {
        struct plm_session *s = g[grown[i].growth].s;
        memcpy(s->logits, host->shared + (size_t)i * vocab, vocab * sizeof *s->logits);
        s->ready = true;
    }
    return PLM_OK;
}

plm_status sessions_append(struct growth *g, int n, plm_error *err) {
    for (int i = 0; i < n; i++) {
        g[i].want = g[i].n - 1;
    }
    return sessions_grow(g, n, put_logits, g, err);
}

plm_status plm_sessions_sync(plm_session *const *sessions, const int32_t *const *ids, const size_t *n,
                             size_t n_sessions, plm_error *err) {
    if (!sessions || !ids || !n || !n_sessions) {
        return fail(err, PLM_EINVAL, "plm_sessions_sync needs sessions and their tokens");
    }
    plm_status st = sessions_check(sessions, n_sessions, err);
    struct growth g[PLM_MAX_SESSIONS];
    int growing = 0;
    for (size_t i = 0; i < n_sessions && !st; i++) {
        if (!ids[i] || !n[i]) {
            st = fail(err, PLM_EINVAL, "session %zu needs at least one token", i + 1);
        } else if (n[i] > (size_t)sessions[i]->kv.context) {
            st = fail(err, PLM_ELIMIT, "%zu tokens do not fit into a context of %d", n[i],
                      sessions[i]->kv.context);
        } else {
            st = session_check_ids(sessions[i], ids[i], n[i], err);
        }
    }
    for (size_t i = 0; i < n_sessions && !st; i++) {
        plm_session *s = sessions[i];
        int all = (int)n[i];
        bool same = s->ready && s->kv.n == all && !memcmp(s->ids, ids[i], n[i] * sizeof *ids[i]);
        int held = session_keep(s, ids[i], same ? all : all - 1);
        if (held < all) {
            g[growing++] = (struct growth){.s = s, .ids = ids[i] + held, .n = all - held};
        }
    }
    return st || !growing ? st : sessions_append(g, growing, err);
}
