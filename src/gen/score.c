/* score.c: how likely a model finds a given text. One chunked forward, no logits kept. */
#include "gen/session.h"

plm_status plm_score(plm_session *s, const int32_t *ids, size_t n, size_t from, double *logprob,
                     plm_error *err) {
    if (!s || !ids || !logprob || from < 1 || from > n) {
        return fail(err, PLM_EINVAL,
                    "plm_score needs a session, tokens, and a first token to score after the first");
    }
    if (n - 1 > (size_t)s->kv.context) { /* the last token is only scored, never read */
        return fail(err, PLM_ELIMIT, "%zu tokens do not fit into a context of %d", n - 1, s->kv.context);
    }
    plm_status st = session_check_ids(s, ids, n, err);
    if (st || from == n) {
        return st;
    }
    int last = (int)n - 1, at = session_keep(s, ids, (int)from - 1);
    while (at < last && !st) {
        int part = last - at < SESSION_CHUNK ? last - at : SESSION_CHUNK;
        const float *x = NULL;
        st = session_step(s, ids + at, part, &x, err);
        int skip = (int)from - 1 > at ? (int)from - 1 - at : 0; /* rows that predict what is not asked for */
        if (!st && skip < part) {
            double *nll = logprob + (size_t)(at + skip + 1) - from;
            model_nll(s->runner, nll, x + (size_t)skip * (size_t)s->m->cfg.width, ids + at + skip + 1,
                      part - skip);
            for (int i = 0; i < part - skip; i++) {
                nll[i] = -nll[i];
            }
        }
        at += part;
    }
    return st;
}
