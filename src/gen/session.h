/* session.h: inside gen/. What one conversation holds, and the steps that sessions, generation and
 * scoring share. kv.n tokens are held and are ids[0 .. kv.n); logits are those after the last one
 * while ready is set. */
#ifndef GEN_SESSION_H
#define GEN_SESSION_H
#include "base/base.h"
#include "model/model.h"

enum { SESSION_CHUNK = 256, SESSION_CONTEXT = 4096, SESSION_USES = 16 };

struct candidate {
    float logit;
    int32_t id;
};

struct plm_session {
    const plm_model *m;
    struct kv_cache kv;
    struct runner *runner;
    int32_t *ids;                /* [context] */
    float *logits;               /* [V] */
    struct candidate *candidate; /* [V] scratch of sampling */
    bool ready;
    plm_lora use[SESSION_USES];
    size_t n_use;
};

plm_status session_check_ids(const struct plm_session *s, const int32_t *ids, size_t n, plm_error *err);
/* Keeps the longest common prefix of what is held and ids, at most `most` tokens; returns its length. */
int session_keep(struct plm_session *s, const int32_t *ids, int most);
/* Appends n <= SESSION_CHUNK tokens. x [n, C]: their final hidden states, borrowed until the next step. */
plm_status session_step(struct plm_session *s, const int32_t *ids, int n, const float **x, plm_error *err);
/* Appends any n >= 1 tokens that fit; logits are ready after it. */
plm_status session_append(struct plm_session *s, const int32_t *ids, int n, plm_error *err);
/* plm_session_sync that says how many tokens it already held. n >= 1, ids checked. */
plm_status session_reach(struct plm_session *s, const int32_t *ids, int n, int *held, plm_error *err);

plm_status sampling_check(const plm_sampling *how, plm_error *err);
/* The next id by these logits, -1 when they are not numbers. The same seed and step give the same id. */
int32_t sample_logits(const float *logits, int n, struct candidate *scratch, const plm_sampling *how,
                      uint64_t step);
#endif
