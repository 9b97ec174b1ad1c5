/* inside.h: what the files of synth/ share with each other and with nobody else. */
#ifndef SYNTH_INSIDE_H
#define SYNTH_INSIDE_H
#include "augment/augment.h"
#include "synth/synth.h"

/* ---- recipe.c: what one call asks for, in words ---- */

enum { ASK_MAX = 6, SHOW_MAX = 8 };

struct task {
    unsigned mode;
    bool outputs;        /* the second call of mode B: the inputs are there, their outputs are asked for */
    bool strict;         /* a later round: says the format twice */
    size_t n;            /* how many things are asked for */
    int number[ASK_MAX]; /* A, A': records to rewrite */
    const char *label[ASK_MAX]; /* C: borrowed from the request */
    char *input[ASK_MAX];       /* B, second call: owned */
    int shown[SHOW_MAX];        /* exemplars */
    size_t n_shown;
    const char *topic, *aspect; /* NULL: none */
    const char *judged;         /* whose label is asked for; borrowed. NULL: this call writes something */
    size_t about;               /* with judged: the candidate */
    int words, variation;
    const struct prompt *sent; /* what was asked, once it was */
    uint64_t fence;            /* marks where a record's text begins and ends */
};
void task_free(struct task *t);

/* Draws what is left to chance: exemplars, topic, length. */
void task_draw(struct task *t, const struct wire_request *q, struct rng *r);

/* Our own words in a call, normalised; *out is the caller's (plm_free). */
plm_status recipe_own_words(const struct task *t, bool single, char **out, plm_error *err);
/* Is a run of six words of this among them? */
plm_status recipe_quoted(const char *text, const char *own, bool *quoted, plm_error *err);

/* system and user are the caller's (plm_free). */
struct prompt {
    char *system, *user;
    float temperature;
    int max_tokens;
};
plm_status recipe_write(struct prompt *out, const struct wire_request *q, const struct task *t,
                        plm_error *err);
void prompt_free(struct prompt *p);
/* What the reply must look like; points into the request and static text. */
void recipe_form(plm_call *out, const struct wire_request *q, const struct task *t);

/* ---- reply.c: a reply as the texts that were asked for ---- */

struct piece {
    char *text;      /* NULL: none, see bad */
    char *other;     /* mode D: what does not go with the title; text does */
    const char *bad; /* static */
};
void piece_free(struct piece *p);
/* n = task's n pieces, in the task's order; extra things in the reply are added to *surplus. */
plm_status reply_read(struct piece *pieces, size_t *surplus, const struct task *t, bool single,
                      const char *text, const char *finish, plm_error *err);
/* An OpenAI-compatible completion. Whatever is wrong with it, the answer says so ("none" and why). */
plm_status completion_read(plm_answer *out, const char *body, size_t len, plm_error *err);

/* ---- plan.c: which calls a round makes ---- */

struct plan {                                /* by mode_at */
    int asked[WIRE_MODES], good[WIRE_MODES]; /* things asked for so far; those that survived */
};
/* How many things of a mode to ask for now: by what is wanted and the share that survived so far. */
int plan_count(const struct plan *p, const struct wire_request *q, size_t slot, int round);
/* The next call, for up to left things; counts them as asked. Freed with task_free. */
struct task plan_task(struct plan *p, const struct wire_request *q, size_t slot, int round, int left);

/* ---- calls.c: many calls made and kept, in any order; replies handed over in the order of the calls ---- */

struct calls {
    const struct wire_request *q;
    plm_teacher *teacher;
    const struct synth_hooks *hooks;
    const char *name;                         /* of the teacher, asked or replayed */
    plm_augment_forecast *forecast;           /* a preview: bodies are counted and shown, nothing is asked */
    int (*each)(void *ctx, const char *body); /* NULL: counted alone */
    void *each_ctx;
    size_t number, planned, kept, candidates; /* calls so far, foreseen, with a kept reply; for progress */
};
/* read gets every task with the text of its reply and its hash. */
typedef plm_status (*reply_fn)(void *ctx, const struct task *t, const char *hash, const char *text,
                               const char *finish, plm_error *err);
plm_status calls_make(struct calls *c, struct task *tasks, size_t n, reply_fn read, void *ctx,
                      plm_error *err);

/* ---- teacher.c ---- */

enum { CALL_TOKENS = 256 }; /* of a reply, where a call names no number */

struct batch {
    const plm_call *calls; /* [n], with the body of each */
    char *const *bodies;
    size_t n;
    void *ctx;
    /* Both are called while the caller waits, by its thread or by that of another caller of the same teacher:
     * before bytes of call i leave, and with its answer, whose text the callee takes. After an error nothing
     * more is sent; what is under way is still waited for. */
    plm_status (*leaving)(void *ctx, size_t i, plm_error *err);
    plm_status (*arrived)(void *ctx, size_t i, plm_answer *a, plm_error *err);
};
plm_status teacher_ask_all(plm_teacher *t, const struct batch *b, plm_error *err);

/* The body for a teacher known by its name alone. */
plm_status body_write(const char *teacher, const plm_call *c, char **body, plm_error *err);

struct remote;
struct cap {           /* on what is spent from a moment on */
    double most, from; /* most 0: none; from: what had been spent by then */
};
/* loopback: are all its addresses on this machine? */
plm_status remote_open(struct remote **out, const plm_teacher_options *opt, const char *name, bool *loopback,
                       plm_error *err);
void remote_close(struct remote *r);
plm_status remote_ask_all(struct remote *r, const struct batch *b, plm_error *err);
/* teacher_batch.c: answers from the file in (NULL: none); the others are written to out, or made (NULL). */
plm_status batch_ask_all(struct remote *r, const char *out, const char *in, const struct batch *b,
                         plm_error *err);
double remote_price(const struct remote *r, int64_t tokens_in, int64_t tokens_out);
void remote_usage(const struct remote *r, plm_teacher_usage *out);
struct cap *remote_cap(struct remote *r);

/* cloud.c: a service that runs the recipe itself. *name: of its teacher, the caller's. */
struct cloud;
bool cloud_spec(const char *spec);
plm_status cloud_open(struct cloud **out, const plm_teacher_options *opt, char **name, bool *loopback,
                      bool *capable, plm_error *err);
void cloud_close(struct cloud *c);
const char *cloud_terms(const struct cloud *c);
double cloud_price(const struct cloud *c, int64_t tokens_in, int64_t tokens_out); /* at what it asks */
void cloud_usage(const struct cloud *c, plm_teacher_usage *out);
plm_status cloud_run(struct cloud *c, const char *request, const struct synth_hooks *h, char **candidates,
                     size_t *calls, plm_error *err);
plm_status cloud_settle(struct cloud *c, plm_error *err);
struct cloud *teacher_cloud(const plm_teacher *t);                                 /* NULL: t answers calls */
double teacher_price(const plm_teacher *t, int64_t tokens_in, int64_t tokens_out); /* 0: it has none */
/* At first on what it costs in all its life; NULL: it knows no money. */
struct cap *teacher_cap(plm_teacher *t);

struct local;
plm_status local_open(struct local **out, const plm_teacher_options *opt, char name[80], bool *capable,
                      plm_error *err);
void local_close(struct local *l);
plm_status local_ask_all(struct local *l, const struct batch *b, plm_teacher_usage *used, plm_error *err);
#endif
