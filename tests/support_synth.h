/* support_synth.h: a store with a person's records in a folder of its own, and hooks that keep replies in it.
 */
#ifndef SUPPORT_SYNTH_H
#define SUPPORT_SYNTH_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail /* cmocka has one too */

#include "augment/augment.h"
#include "plm.h"
#include "synth/synth.h"

struct person {
    char folder[64], path[100];
    plm_store *store;
    plm_kinds *kinds;
    const plm_kind *kind;
    const char *request; /* of the run under way, for keep */
    size_t found, kept, left;
    size_t fail_after;  /* leaving fails from this call on; 0: never */
    double until;       /* leaving stops the run from this clock_now() on; 0: never */
    struct bytes *sent; /* every body that left, a line each; NULL: not wanted */
    struct bytes *said; /* every reply, with a NUL behind it; NULL: not wanted */
};

void person_open(struct person *p, const char *kind);
void person_close(struct person *p);
int64_t person_add(struct person *p, const char *input, const char *output, bool local_only);
/* Words that mean nothing together; the same for the same seed. */
void invent(char *out, size_t cap, int seed, int words);
/* n records of about 14 words with outputs of three words, of nine (tweet), or a label. */
void person_add_notes(struct person *p, int n);
plm_augment_policy person_policy(const struct person *p);
struct synth_hooks person_hooks(struct person *p);
/* draft, synth_run; the caller frees both. */
plm_status person_generate(struct person *p, const plm_augment_policy *policy, plm_teacher *t, char **request,
                           char **candidates, plm_error *err);
plm_teacher *remote_teacher(const char *base);
#endif
