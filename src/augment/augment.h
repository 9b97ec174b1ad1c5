/* augment.h: the door of augment/ for synth/: the request and the candidate lines as C structs. Everything
 * that crosses the wire (docs/wire.md) is written and checked here, on both sides.
 * The device's side (draft, absorb) is in plm.h. */
#ifndef AUGMENT_AUGMENT_H
#define AUGMENT_AUGMENT_H
#include "base/base.h"
#include "base/json.h"

enum {
    WIRE_VERSION = 1,
    WIRE_TEXT_MAX = 64 << 10,
    WIRE_REQUEST_MAX = 32 << 20,
    WIRE_RECORDS_MAX = 1024,
    WIRE_CANDIDATES_MAX = 32 << 20,
    WIRE_MODES = 5,
    WIRE_JUDGES = 3 /* answers of the judge to one candidate */
};

/* Modes are PLM_MODE_... bits; on the wire they are words. */
const char *mode_name(unsigned mode);  /* "reverse", "rewrite", "new", "label", "pair"; NULL: none */
unsigned mode_named(const char *name); /* 0: none of them */
unsigned mode_at(size_t i);            /* i = 0 .. WIRE_MODES - 1 */

struct wire_range { /* of words */
    double mean;
    int p5, p95;
};

struct wire_record {
    const char *input, *output;
};

struct wire_request {
    json_t *doc; /* owns every string below */
    const char *id, *user, *kind, *task, *instruction, *summary;
    bool summary_only;
    bool single; /* a weak teacher: one record a call, the reply is the text itself */
    uint64_t seed;
    int max_answer_tokens;
    struct wire_range input_words, output_words;
    const char **labels; /* [n_labels]; 0 of them: free text */
    int *label_counts;
    size_t n_labels;
    struct wire_record *records; /* record number i + 1 */
    size_t n_records;
    int *exemplars, *rewrite; /* record numbers: shown as examples, to be rewritten */
    size_t n_exemplars, n_rewrite;
    const char **topics;
    size_t n_topics;
    const char **aspects;
    size_t n_aspects;
    const char *hint, *pair; /* NULL: none */
    plm_checks checks;
    const char **never;   /* that checks points to */
    bool judge;           /* ask whether labels agree */
    int want[WIRE_MODES]; /* accepted examples hoped for, by mode_at */
};

/* Every field is checked; numbers point into records. Freed with wire_request_free. */
plm_status wire_request_parse(struct wire_request *q, const char *text, size_t len, plm_error *err);
void wire_request_free(struct wire_request *q);

struct wire_candidate {
    unsigned mode;
    int source;       /* record number it rewrites; 0: none */
    const int *shown; /* other records quoted in its call */
    size_t n_shown;
    const char *input, *output; /* output is empty in modes A and A' */
    const char *call;           /* hash of the call that made it */
    const char *bad;            /* why there is no candidate in this part of the reply; NULL: there is one */
    const char *rule;           /* with bad: the rule that dropped it; NULL: it could not be read */
    const char *judge[WIRE_JUDGES]; /* what the judge answered; "" where it was nothing of use */
    size_t n_judge;
};

/* A pair's question (mode D). */
struct pair {
    struct str title, first, second;
};
bool pair_form(const char *form); /* has the slots, in order and apart */
bool pair_read(const char *form, const char *input, struct pair *out);
void pair_write(struct bytes *b, const char *form, const struct pair *p);

/* What rules there are against a candidate. */
struct wire_verdict {
    int rule;        /* a PLM_RULE_..., or -1: none */
    const char *why; /* static */
};
/* Candidates in call order, judged by the request alone: all rules but PLM_RULE_DEVICE; that of the quota
 * where most is not 0: more than those are not kept. */
plm_status wire_sieve(const struct wire_request *q, const struct wire_candidate *c, size_t n, size_t most,
                      struct wire_verdict *v, plm_error *err);
/* Could one more answer of the judge change anything? */
bool judge_undecided(const struct wire_request *q, const char *const *answers, size_t n);

/* Bytes of the chat markup that a text begins with ("<|", "[INST]", ...), in any case; 0: none. */
size_t chat_marker(const char *text);

void wire_candidate_put(struct bytes *out, const struct wire_candidate *c);

/* *c points into *doc and *shown, which the caller releases (json_decref, mem_free). */
plm_status wire_candidate_parse(struct wire_candidate *c, json_t **doc, int **shown, const char *line,
                                size_t len, const struct wire_request *q, plm_error *err);
#endif
