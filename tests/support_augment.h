/* support_augment.h: a desk of one person: a store, a request drafted from it, and candidate lines written by
 * hand, as a hostile service would. */
#ifndef SUPPORT_AUGMENT_H
#define SUPPORT_AUGMENT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail

#include "augment/inside.h"

struct desk {
    char folder[64];
    plm_store *store;
    plm_kinds *kinds;
    plm_augment_policy p;
    char *request;
    struct wire_request q;
    struct bytes lines;
    plm_absorb_report r;
    char *audit;
};

void desk_open(struct desk *d, const char *kind);
void desk_close(struct desk *d);
int64_t add(struct desk *d, const char *input, const char *output);
enum { NOTES = 8 };
extern const char *const notes[NOTES][2];
extern const char *const fresh;  /* an input that is near none of them */
extern const char *const a_call; /* a hash */
void add_notes(struct desk *d);
void draft(struct desk *d);
int number_of_note(const struct desk *d, const char *input);
void say(struct desk *d, unsigned mode, int source, const char *input, const char *output); /* a line more */
void absorb_with(struct desk *d, plm_nll_fn nll, void *ctx);
/* One candidate absorbed alone: the rule that drops it, or "kept". */
const char *verdict(struct desk *d, unsigned mode, int source, const char *input, const char *output);

#define EXPECT(want, ...)                                                            \
    do {                                                                             \
        const char *got = verdict(__VA_ARGS__);                                      \
        if (strcmp(got, want) != 0)                                                  \
            print_message("line %d: %s, %s", __LINE__, got, d.audit ? d.audit : ""); \
        assert_string_equal(got, want);                                              \
    } while (0)
#endif
