/* score.c: how likely a model finds given texts. Chunked forward passes, no logits kept. */
#include "gen/session.h"

static plm_status check(const plm_scoring *s, plm_error *err) {
    if (!s->session || !s->ids || !s->logprob || s->from < 1 || s->from > s->n) {
        return fail(err, PLM_EINVAL,
                    "plm_score needs a session, tokens, and a first token to score after the first");
    }
    if (s->n - 1 > (size_t)s->session->kv.context) { /* the last token is only scored, never read */
        return fail(err, PLM_ELIMIT, "%zu tokens do not fit into a context of %d", s->n - 1,
                    s->session->kv.context);
    }
    return session_check_ids(s->session, s->ids, s->n, err);
}

struct scores {
    const plm_scoring *of[PLM_MAX_SESSIONS]; /* of each growth */
    int held[PLM_MAX_SESSIONS];
};

/* x [rows, C] of all: token t of a growth is row held + t of its session and predicts the next. */
static plm_status put_scores(void *ctx, struct plm_session *host, const struct grown *grown, int n,
                             const float *x, plm_error *err) {
    const struct scores *all = ctx;
    int32_t target[SESSION_CHUNK + DRAFT + 1] = {0};
    double nll[SESSION_CHUNK + DRAFT + 1];
    (void)err;
    int rows = 0;
    for (int i = 0; i < n; i++) {
        const plm_scoring *s = all->of[grown[i].growth];
        int at = all->held[grown[i].growth] + grown[i].from;
        for (int t = 0; t < grown[i].rows; t++) {
            target[rows++] = s->ids[at + t + 1];
        }
    }
    model_nll(host->runner, nll, x, target, rows);
    rows = 0;
    for (int i = 0; i < n; i++) {
        const plm_scoring *s = all->of[grown[i].growth];
        size_t at = (size_t)(all->held[grown[i].growth] + grown[i].from + 1) - s->from;
        for (int t = 0; t < grown[i].rows; t++) {
            s->logprob[at + (size_t)t] = -nll[rows++];
        }
    }
    return PLM_OK;
}

plm_status plm_score_all(const plm_scoring *scorings, size_t n, plm_error *err) {
    if (!scorings && n) {
        return fail(err, PLM_EINVAL, "plm_score_all needs something to score");
    }
    plm_session *sessions[PLM_MAX_SESSIONS] = {NULL};
    struct growth g[PLM_MAX_SESSIONS];
    struct scores all;
    plm_status st = n > PLM_MAX_SESSIONS
                        ? fail(err, PLM_ELIMIT, "%zu texts at once, at most %d", n, PLM_MAX_SESSIONS)
                        : PLM_OK;
    for (size_t i = 0; i < n && !st; i++) {
        st = check(&scorings[i], err);
        sessions[i] = scorings[i].session;
    }
    st = st ? st : sessions_check(sessions, n, err);
    int growing = 0;
    for (size_t i = 0; i < n && !st; i++) {
        const plm_scoring *s = &scorings[i];
        if (s->from == s->n) {
            continue;
        }
        int held = session_keep(s->session, s->ids, (int)s->from - 1), want = (int)s->from - 1 - held;
        g[growing] =
            (struct growth){.s = s->session, .ids = s->ids + held, .n = (int)s->n - 1 - held, .want = want};
        all.of[growing] = s;
        all.held[growing++] = held;
    }
    return st || !growing ? st : sessions_grow(g, growing, put_scores, &all, err);
}

plm_status plm_score(plm_session *s, const int32_t *ids, size_t n, size_t from, double *logprob,
                     plm_error *err) {
    return plm_score_all(&(plm_scoring){s, ids, n, from, logprob}, 1, err);
}
