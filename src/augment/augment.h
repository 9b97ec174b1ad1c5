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
    WIRE_MODES = 4
};

/* Modes are PLM_MODE_... bits; on the wire they are words. */
const char *mode_name(unsigned mode);  /* "reverse", "rewrite", "new", "label"; NULL: none of them */
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
};

void wire_candidate_put(struct bytes *out, const struct wire_candidate *c);

/* *c points into *doc and *shown, which the caller releases (json_decref, mem_free). */
plm_status wire_candidate_parse(struct wire_candidate *c, json_t **doc, int **shown, const char *line,
                                size_t len, const struct wire_request *q, plm_error *err);
#endif
