/* student.h: a model with adapters that is asked a user's queries: how likely it finds the gold answers, and
 * what it answers itself. */
#ifndef PLM_EVAL_STUDENT_H
#define PLM_EVAL_STUDENT_H
#include "shared/encode.h"

struct student {
    plm_model *model; /* borrowed */
    const plm_kind *kind;
    struct scorer scorer;
};

struct reply {
    double nats;   /* -ln p of the gold answer with its end: for labels renormalised over all of them */
    double bytes;  /* of the gold answer; 1 for labels. The primary metric is nats / bytes */
    int gold;      /* index of the label; -1: free text */
    int pred;      /* likeliest label */
    double *label; /* [labels] -ln p, renormalised; NULL: free text */
    char *text;    /* the answer written, greedily; NULL: labels */
    size_t prompt_tokens;
};

plm_status student_open(struct student *s, plm_model *m, const plm_kind *kind, plm_error *err);
void student_close(struct student *s);
struct pace {
    double seconds;     /* of all answers, eight at a time */
    double first_token; /* seconds from one question, asked alone, to its first token; 0: not measured */
};
/* What is wanted beside the gold answers' NLL: texts written (labels cost nothing more), a look at the clock.
 */
enum { ASK_ANSWERS = 1, ASK_FIRST_TOKEN = 2 };
/* Asks n prompts under the adapters (n_uses 0: the base). */
plm_status student_ask(struct student *s, const plm_lora *uses, size_t n_uses, const char *const *prompts,
                       const char *const *golds, size_t n, unsigned what, struct reply *out,
                       struct pace *pace, plm_error *err);
/* nats of each label, as they are, into a reply. Refused: a gold answer that is none of them. */
plm_status reply_labels(struct reply *r, const plm_kind *kind, const double *nats, const char *gold,
                        plm_error *err);
void replies_free(struct reply *r, size_t n);
#endif
