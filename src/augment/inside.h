/* inside.h: what the files of augment/ share with each other and with nobody else. */
#ifndef AUGMENT_INSIDE_H
#define AUGMENT_INSIDE_H
#include "augment/augment.h"
#include "base/text.h"

/* ---- wire.c ---- */

/* The request as JSON with its id, which is taken from the rest; q->doc and q->id are not read. */
plm_status wire_request_write(const struct wire_request *q, char **out, char id[33], plm_error *err);

/* ---- records.c: a user's records of one kind, as augment/ sees them ---- */

struct real {
    int64_t id, when;
    char *input, *output;
    bool local_only;
};

struct reals { /* oldest first */
    struct real *r;
    size_t n, cap;
};

enum { REALS_MAX = 2000 }; /* the newest; older ones are neither shown nor compared with */

/* All records of (user, kind) but the excluded ones. */
plm_status reals_load(struct reals *out, plm_store *st, const plm_augment_policy *p, plm_error *err);
void reals_free(struct reals *a);
const struct real *reals_find(const struct reals *a, int64_t id); /* NULL: not there */

/* How many synthetic examples n records ask for (docs/method): few records ask for more each. */
int amount_wanted(size_t n_all, size_t n_new, bool first_time);

/* ---- redact.c ---- */

struct secret { /* a place in a text that must not leave the device */
    size_t at, len;
    const char *type; /* "EMAIL" */
};

/* All of them, in order, none overlapping. Freed with mem_free. */
plm_status secrets_find(const char *text, size_t len, struct secret **out, size_t *n, plm_error *err);
/* The next "[TYPE_12]" at or after *at; false: none. */
bool placeholder_next(const char *text, size_t len, size_t *at, size_t *n);

struct hidden { /* what a placeholder stands for: a place in a record, never the text itself */
    int64_t record;
    bool in_output;
    size_t at, len;
};

struct redactor { /* one job's placeholders: equal texts get equal ones */
    struct slot {
        char *placeholder, *text;
        struct hidden where;
    } * slots;
    size_t n, cap;
};

void redactor_free(struct redactor *r);
plm_status redact_text(struct redactor *r, int64_t record, bool in_output, const char *text, char **out,
                       plm_error *err);

/* ---- map.c: what stays on the device of a request, as a setting of the store ---- */

struct legend {
    char request[33];
    int64_t *records; /* id of record number i + 1 */
    size_t n_records;
    struct mapped {
        char name[24];
        struct hidden where;
    } * hidden;
    size_t n_hidden;
};

plm_status map_keep(plm_store *st, const char *request, const int64_t *records, size_t n_records,
                    const struct redactor *r, plm_error *err);
plm_status map_load(struct legend *out, plm_store *st, const char *request, plm_error *err);
void map_free(struct legend *m);

/* ---- summary.c ---- */

/* At most 80 words about how the person writes, from counts alone. */
plm_status style_summary(const plm_kind *kind, const struct reals *a, const size_t *use, size_t n, char **out,
                         plm_error *err);
/* Words that stand for the person's topics, best first. common_only: those that any person uses (words.c) and
 * that at least three records hold. texts: redacted. */
plm_status topics_find(const char *const *texts, size_t n, bool common_only, size_t max, char ***out,
                       size_t *n_out, plm_error *err);
void topics_free(char **topics, size_t n);
struct wire_range range_of(const char *const *texts, size_t n); /* empty texts are left out */

/* ---- noise.c ---- */

/* The count with the noise of one record's protection; never under 0. */
int noise_add(int count, double epsilon);
/* Counts as they may be sent, by the policy's epsilon. PLM_ELIMIT: the budget is spent. */
plm_status noise_counts(plm_store *store, const plm_augment_policy *p, int *counts, size_t n, plm_error *err);

/* ---- words.c ---- */
bool word_is_common(struct str lower);
bool word_is_empty(struct str lower); /* "the", "and": says nothing about a topic */

/* ---- restore.c ---- */

struct candidate;
void candidate_free(struct candidate *c); /* what it owns */
/* The candidate's texts with what its placeholders stand for; m NULL: with the placeholders, on the
 * side that has no more. Sets lost where one is unknown or missing. */
plm_status candidate_restore(struct candidate *c, const struct wire_request *q, const struct legend *m,
                             const struct reals *reals, bool unredacted, plm_error *err);

/* ---- pair.c, judge.c ---- */

/* NULL: fine, else what is wrong with an input of mode D. */
const char *pair_objection(const char *form, const char *input, const char *source);
/* 1: the judge agrees, .5: nearly, 0: it does not. */
double judge_trust(const plm_kind *kind, const struct wire_candidate *c);

/* ---- text_rules.c: what can be said of one text alone ---- */

enum { SCRIPTS = 8 };
struct scripts { /* letters by writing system */
    size_t count[SCRIPTS], all;
};
void scripts_add(struct scripts *s, const char *text);
bool code_in(const char *text);
const char *check_objection(const plm_checks *k, const char *input, const char *output);
/* NULL: fine, else why not. allowed: the texts that it was made from; what stands there may stand here. */
const char *text_objection(const char *text, const char *allowed, const struct scripts *usual);

/* ---- docs.c: texts prepared for comparison ---- */

struct doc {
    struct words words;
    uint64_t *bag; /* sorted hashes of the words */
};
plm_status doc_open(struct doc *d, const char *text, plm_error *err);
void doc_close(struct doc *d);

struct runs { /* eight words in a row, and where */
    struct run_of {
        uint64_t hash;
        size_t doc;
    } * v;
    size_t n;
};
plm_status runs_open(struct runs *r, const struct doc *docs, size_t n, plm_error *err);
void runs_close(struct runs *r);
/* Has this a run that stands in exactly one of them? */
bool runs_from_one(const struct runs *r, const struct doc *d);

/* ROUGE-L F, or 0 where the words in common already say that it is not over floor. */
double doc_likeness(const struct doc *a, const struct doc *b, double floor);

/* ---- crowd.c: many texts that one is compared with ---- */

enum { CROWD_ALL = 2000 }; /* up to here, with every one of them */

struct crowd {
    struct member {
        const struct doc *doc; /* borrowed */
        bool real;
    } * m;
    size_t n, most, heads;
    uint32_t *head, *link; /* texts by MinHash value; NULL: most is not over CROWD_ALL */
    uint32_t *seen, round;
};
plm_status crowd_open(struct crowd *c, size_t most, plm_error *err); /* room for most of them */
void crowd_close(struct crowd *c);
void crowd_add(struct crowd *c, const struct doc *d, bool real);
/* The highest ROUGE-L F over floor, or 0. */
double crowd_nearest(struct crowd *c, const struct doc *d, bool real_too, double floor);

/* ---- filter.c ---- */

enum { VERDICT_NONE = -1 };

struct candidate {
    struct wire_candidate wire;
    json_t *doc;
    int *shown;
    char *input, *output; /* restored; in modes A and A' the output is the real one */
    const struct real *parent;
    int verdict;     /* a PLM_RULE_..., or VERDICT_NONE: nothing against it */
    const char *why; /* static, for the audit */
    bool lost;       /* a placeholder is unknown or lost */
    bool gone;       /* a record it was made from was forgotten meanwhile */
    char *plain;     /* normalised input */
    struct doc text; /* of the input */
    double near;     /* ROUGE-L F with the nearest text compared with */
    double trust;    /* part of the usual weight, by the judge */
    double nll, z;   /* 0 where there is no model to ask */
};

struct filter {
    const plm_augment_policy *policy;
    const struct wire_request *request;
    const struct reals *reals;
    struct candidate *c;
    size_t n;
    char **old; /* inputs of synthetic examples kept by earlier jobs */
    size_t n_old;
    plm_nll_fn nll;
    void *ctx;
};

/* Gives a verdict to every candidate that a rule is against, rule after rule, each in call order. */
plm_status filter_run(struct filter *f, plm_error *err);

/* pick.c: quotas and diversity: what is left over gets PLM_RULE_QUOTA. */
plm_status pick_best(struct filter *f, size_t wanted, plm_error *err);
#endif
