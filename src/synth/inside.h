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
    const char *topic; /* NULL: none */
    int words, variation;
    uint64_t fence; /* marks where a record's text begins and ends */
};
void task_free(struct task *t);

/* Draws what is left to chance: exemplars, topic, length. */
void task_draw(struct task *t, const struct wire_request *q, struct rng *r);

/* system and user are the caller's (plm_free). */
struct prompt {
    char *system, *user;
    float temperature;
    int max_tokens;
};
plm_status recipe_write(struct prompt *out, const struct wire_request *q, const struct task *t,
                        plm_error *err);
void prompt_free(struct prompt *p);

/* ---- reply.c: a reply as the texts that were asked for ---- */

struct piece {
    char *text;      /* NULL: none, see bad */
    const char *bad; /* static */
};
/* n = task's n pieces, in the task's order; extra things in the reply are added to *surplus. */
plm_status reply_read(struct piece *pieces, size_t *surplus, const struct task *t, bool single,
                      const char *text, const char *finish, plm_error *err);
/* An OpenAI-compatible completion. Whatever is wrong with it, the answer says so ("none" and why). */
plm_status completion_read(struct answer *out, const char *body, size_t len, plm_error *err);

/* ---- teacher.c ---- */

/* The body for a teacher known by its name alone. */
plm_status body_write(const char *teacher, const struct call *c, char **body, plm_error *err);

struct remote;
plm_status remote_open(struct remote **out, const struct teacher_options *opt, plm_error *err);
void remote_close(struct remote *r);
plm_status remote_ask(struct remote *r, const char *body, const struct call *c, struct answer *out,
                      plm_error *err);

struct local;
plm_status local_open(struct local **out, const struct teacher_options *opt, char name[80], bool *capable,
                      plm_error *err);
void local_close(struct local *l);
plm_status local_ask(struct local *l, const struct call *c, struct answer *out, plm_error *err);
#endif
