/* encode.h: questions and answers as ids, adapters in use, and the NLL of answers. */
#ifndef SHARED_ENCODE_H
#define SHARED_ENCODE_H
#include "base/base.h"
#include "plm.h"

struct encoded { /* ids of a prompt, or of a prompt and its answer */
    int32_t *ids;
    size_t n, n_prompt;
};
/* A {"prompt","answer"} row: chat turns of the template, or raw text. answer NULL: only the prompt. */
plm_status encode_turn(struct encoded *out, const plm_model *m, const char *system, const char *prompt,
                       const char *answer, bool raw, plm_error *err);
plm_status encode_messages(struct encoded *out, const plm_model *m, const plm_message *messages, size_t n,
                           plm_error *err);
void encoded_free(struct encoded *e);
/* The sum of -ln p of the answer's ids, and how many. */
plm_status answer_nll(plm_session *s, const struct encoded *e, double *nll, size_t *tokens, plm_error *err);
/* Several rows scored at once. */
enum { SCORED_AT_ONCE = 8 };
struct scorer {
    plm_session *s[SCORED_AT_ONCE];
};
plm_status scorer_open(struct scorer *c, const plm_model *m, const plm_session_options *opt, plm_error *err);
void scorer_close(struct scorer *c);
plm_status scorer_use(struct scorer *c, const plm_lora *uses, size_t n, plm_error *err);
/* The mean of -ln p over the ids of each answer, for n <= SCORED_AT_ONCE. */
plm_status scorer_run(struct scorer *c, const struct encoded *e, size_t n, double *nll, plm_error *err);
/* -ln p of each label with its end behind each of n <= SCORED_AT_ONCE prompts: nats [n, labels], as they are.
 * A prompt is computed once. prompt_tokens (NULL: not wanted): [n]. */
plm_status scorer_labels(struct scorer *c, const plm_model *m, const plm_kind *kind,
                         const char *const *prompts, size_t n, double *nats, size_t *prompt_tokens,
                         plm_error *err);

/* Adapters in use, owned. */
struct loras {
    plm_adapter *adapter[16];
    plm_lora use[16];
    size_t n;
};
plm_status loras_add(struct loras *l, const plm_model *m, const char *path, float scale, plm_error *err);
void loras_close(struct loras *l);
#endif
