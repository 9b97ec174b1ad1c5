/* session.h: inside gen/. What one conversation holds, and the steps that sessions, generation and
 * scoring share. kv.n tokens are held and are ids[0 .. kv.n); logits are those after the last one
 * while ready is set. Rows of the cache behind kv.n may hold drafted tokens: see draft. */
#ifndef GEN_SESSION_H
#define GEN_SESSION_H
#include "base/base.h"
#include "model/model.h"

/* DRAFT: guessed tokens in a step at most; with the token before them a step is one of few rows, whose
 * numbers are those of single steps. */
enum { SESSION_CHUNK = 256, SESSION_CONTEXT = 4096, SESSION_USES = 16, DRAFT = 6 };

struct candidate {
    float logit;
    int32_t id;
    float weight; /* exp((logit - best) / temperature) */
};

/* Tokens that were computed ahead: ids[at .. n) would stand at kv.n .., and logits [n, V] follow each. */
struct draft {
    int32_t ids[DRAFT];
    int at, n;
    float *logits; /* [1 + DRAFT, V]; NULL: not yet needed */
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
    int chunk; /* tokens that the runner takes at a time */
    struct draft draft;
    float *shared; /* logits of several sessions, [n_shared, V] */
    size_t n_shared;
};

plm_status session_check_ids(const struct plm_session *s, const int32_t *ids, size_t n, plm_error *err);
/* Keeps the longest common prefix of what is held and ids, at most `most` tokens; returns its length. */
int session_keep(struct plm_session *s, const int32_t *ids, int most);
/* Appends any n >= 1 tokens that fit; logits are ready after it. */
plm_status session_append(struct plm_session *s, const int32_t *ids, int n, plm_error *err);
/* plm_session_sync that says how many tokens it already held. n >= 1, ids checked. */
plm_status session_reach(struct plm_session *s, const int32_t *ids, int n, int *held, plm_error *err);
/* Appends id, and computes n <= DRAFT guesses behind it. */
plm_status session_append_drafted(struct plm_session *s, int32_t id, const int32_t *guess, int n,
                                  plm_error *err);
/* Whether id was the next guess: then it is appended, and logits are ready. */
bool session_take_drafted(struct plm_session *s, int32_t id);

/* ---- several at once ---- */

/* What is to be appended to a session. x: hidden states of tokens from `want` on are given to `each`. */
struct growth {
    struct plm_session *s;
    const int32_t *ids;
    int n, at; /* at: of them already appended */
    int want;
};
/* Called with hidden states x [rows, C] for tokens from .. from + rows of growth i, all of a pass together.
 */
struct grown {
    int growth, from, rows;
};
typedef plm_status (*grown_fn)(void *ctx, struct plm_session *host, const struct grown *g, int n,
                               const float *x, plm_error *err);
plm_status sessions_grow(struct growth *g, int n, grown_fn each, void *ctx, plm_error *err);
/* Logits after the last id of each; n >= 1 ids in each. */
plm_status sessions_append(struct growth *g, int n, plm_error *err);
/* One model, nobody twice, not too many. */
plm_status sessions_check(plm_session *const *s, size_t n, plm_error *err);

plm_status sampling_check(const plm_sampling *how, plm_error *err);
/* The next id by these logits, -1 when they are not numbers. The same seed and step give the same id. */
int32_t sample_logits(const float *logits, int n, struct candidate *scratch, const plm_sampling *how,
                      uint64_t step);

/* ---- lookup.c ---- */

struct lookup;
/* texts become tokens of the session's model; NULL where lookup is off. */
plm_status lookup_open(struct lookup **out, const plm_session *s, const plm_generate_options *opt,
                       plm_error *err);
void lookup_close(struct lookup *l);
/* Guesses what follows id behind the session's tokens; returns how many, at most DRAFT and `most`. */
int lookup_guess(struct lookup *l, const plm_session *s, int32_t id, int most, int32_t *guess);
/* What a step of `rows` tokens took, and how many of its guesses were right once that is known. */
void lookup_timed(struct lookup *l, int rows, double seconds);
void lookup_learned(struct lookup *l, int guessed, int right);
#endif
