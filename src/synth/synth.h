/* synth.h: the door of synth/. A request in, candidates out: plans the calls of each mode, asks a teacher,
 * and reads its replies line by line. Knows nothing of the store: replies are found and kept through hooks.
 */
#ifndef SYNTH_SYNTH_H
#define SYNTH_SYNTH_H
#include "base/base.h"

/* ---- teachers ---- */
struct shape { /* what a reply may look like */
    /* lines {"n": 1 .. lines, and these fields, all of them texts}; none: anything */
    const char *const *fields;
    size_t n_fields, lines;
    /* or one of these texts */
    const char *const *choices;
    size_t n_choices;
};
struct call { /* one chat completion */
    const char *system, *user;
    float temperature, top_p;
    int max_tokens;
    uint64_t seed;
    const struct shape *shape; /* NULL: anything */
};
struct answer {
    char *text;         /* the caller's, plm_free */
    const char *finish; /* "stop", "length", or "none": no text that could be used; static */
    const char *why;    /* with "none": the reason, static */
    int64_t tokens_in, tokens_out;
    double seconds;
};
struct teacher;
/* spec: MODEL.gguf, or an http(s) address of an OpenAI-compatible API (".../v1"), or several of the same
 * model, with weights: "URL*3,URL"; or "plm+https://HOST:PORT", a plm-cloud service that makes the calls
 * itself. model_name: what the API calls it. */
struct teacher_options {
    const char *spec, *model_name, *key; /* key: bearer token */
    const char *ca_file;                 /* of a plm-cloud service: PEM to trust; NULL: the system's */
    int threads;
    const char *cpu, *digest_cache;
    int parallel;             /* calls at once to an address, at most; 0: 16 */
    double max_cost;          /* in money units; 0: no cap */
    double cost_in, cost_out; /* per million tokens */
    int (*waiting)(void *ctx, const char *why, double seconds);
    void *ctx;
};
plm_status teacher_open(struct teacher **out, const struct teacher_options *opt, plm_error *err);
void teacher_close(struct teacher *t);
const char *teacher_name(const struct teacher *t); /* stable: "gguf:sha256..." or "url model" */
bool teacher_is_local(const struct teacher *t);    /* nothing leaves this machine */
bool teacher_is_capable(
    const struct teacher *t); /* a service elsewhere, or a GGUF of 3 billion weights or more */
const char *teacher_endpoint(const struct teacher *t);
/* What a plm-cloud service says of its teacher's provider; "" for other teachers. */
const char *teacher_terms(const struct teacher *t);
/* What the last run brought is stored: a plm-cloud service may delete it now. Nothing for other teachers. */
plm_status teacher_settle(struct teacher *t, plm_error *err);
/* The exact HTTP body for a call (also the text that call hashes are taken of, for GGUF teachers too). */
plm_status teacher_body(const struct teacher *t, const struct call *c, char **body, plm_error *err);
struct teacher_usage {
    size_t calls, sent, hedged; /* answered; bodies sent, with those sent again; sent twice to be quicker */
    int64_t tokens_in, tokens_out;
    double spent;
};
/* What it took so far; a teacher in this process knows no money. */
struct teacher_usage teacher_used(const struct teacher *t);
plm_status teacher_ask(struct teacher *t, const struct call *c, struct answer *out, plm_error *err);

/* ---- the run ---- */
struct synth_hooks {
    void *ctx;
    const char *replay_of; /* with no teacher: the teacher_name whose kept replies are replayed */
    /* *text NULL: not known. Both may be NULL hooks. hash: sha256 of body and call number. sources: the
     * request's record numbers quoted in the call; plm_augment_sources turns them into ids. */
    plm_status (*find)(void *ctx, const char *hash, char **text, char **finish, plm_error *err);
    plm_status (*keep)(void *ctx, const char *hash, const char *body, const struct answer *a,
                       const int64_t *sources, size_t n_sources, plm_error *err);
    /* before bytes leave: the egress ledger; an error stops the call */
    plm_status (*leaving)(void *ctx, const char *body, size_t len, plm_error *err);
    int (*progress)(void *ctx, size_t done, size_t total, size_t candidates);
};
/* request: the JSON of plm_augment_draft. candidates: JSON lines in call order, for plm_augment_absorb.
 * The same request, seed and replies give the same candidates. t NULL: replay from hooks.find alone. */
plm_status synth_run(const char *request, struct teacher *t, const struct synth_hooks *h, char **candidates,
                     size_t *calls, plm_error *err);
/* The bodies of the first round, in order, each given to each. */
plm_status synth_preview(const char *request, const struct teacher *t,
                         int (*each)(void *ctx, const char *body), void *ctx, plm_error *err);
#endif
