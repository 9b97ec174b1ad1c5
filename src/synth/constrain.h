/* constrain.h: which bytes may come next in a reply of a given form. For teacher_gguf.c and its tests. */
#ifndef SYNTH_CONSTRAIN_H
#define SYNTH_CONSTRAIN_H
#include "synth/synth.h"

struct form; /* lines of JSON: fixed text, and places where any text may stand */
struct place {
    size_t at;    /* in the form */
    size_t taken; /* bytes of the text that is being written */
    unsigned char inside, low, high;
    bool shown; /* it has a byte that is no blank */
};

/* As many of the call's lines as fit into max_tokens. PLM_ELIMIT: not even one. */
plm_status form_open(struct form **out, const plm_call *c, int max_tokens, plm_error *err);
void form_close(struct form *f);
/* Goes on by these bytes; false: they may not come, and p is as it was. */
bool form_take(const struct form *f, struct place *p, const char *bytes, size_t n);
/* The fewest bytes that lead from here to the end; 0: this is it. */
size_t form_left(const struct form *f, const struct place *p);
#endif
