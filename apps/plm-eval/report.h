/* report.h: what the results say, in three steps: numbers (one JSON document), then blocks of text and
 * tables, then a terminal's text or a page. */
#ifndef PLM_EVAL_REPORT_H
#define PLM_EVAL_REPORT_H
#include <stdio.h>

#include "results.h"
#include "stats.h"

/* ---- pairs of arms; report_compare.c ---- */

struct side {
    const char *arm;
    int bm25;
    const char *point;
};

/* Users under both sides, as relative differences of NLL: below 0, the first side is better. */
struct pairs {
    struct unit *unit; /* group: the number of the task */
    int *user;
    size_t n;
    size_t wins, ties, losses;
    size_t unscaled; /* users whose NLL under the second side is 0: a share of nothing */
};

struct names { /* distinct texts, in order */
    const char *v[64];
    size_t n;
};

/* The group of a side; for an arm that knows nothing of the user, of any point. NULL: none. */
const struct group *side_group(const struct section *s, const char *task, const struct side *side);
/* Adds the users of one task. OK and nothing added where a group is missing. */
plm_status pairs_add(struct pairs *p, const struct section *s, const struct names *tasks, size_t task,
                     const struct side *first, const struct side *second, plm_error *err);
void pairs_free(struct pairs *p);
/* {"users","tasks","effect","low","high","p","p_less","exact","wins","ties","losses","unscaled"}, null where
 * there is no pair. */
plm_status pairs_json(json_t **out, const struct pairs *p, plm_error *err);

/* ---- numbers; report.c, report_parts.c ---- */

struct builder {
    const struct section *s;
    struct names tasks, points; /* points: numbers ascending, then "all" */
    struct side arm[64];        /* point NULL; in the order of the arms' table */
    size_t n_arms;
    const char *main_points[2]; /* "all" and "8" where there are such; NULL: none */
    json_t *out;
    bool failed; /* some part did not fit into memory */
};

plm_status report_build(json_t **out, const struct results *r, plm_error *err);
/* What an arm is measured against; false: nothing. */
bool arm_base(const struct side *arm, struct side *base);
void put(struct builder *b, json_t *object, const char *key, json_t *value); /* takes value over */
void append(struct builder *b, json_t *list, json_t *value);                 /* the same for a list */
json_t *number(double x);                                                    /* null unless finite */
plm_status report_hypotheses(struct builder *b, plm_error *err);
plm_status report_retrieval(struct builder *b, plm_error *err);
plm_status report_harm(struct builder *b, plm_error *err);
void report_filters(struct builder *b);
void report_guards(struct builder *b);
void report_missing(struct builder *b);

/* ---- blocks; report_blocks.c ----
 * A list of {"h":heading}, {"p":text}, {"head":[...],"rows":[[...]]}, {"plot":name,"alt":text}; with "more":
 * true what a terminal need not show. */
plm_status report_blocks(json_t **out, const json_t *doc, plm_error *err);

/* ---- ways out ---- */
void report_print(const json_t *blocks, FILE *to);
plm_status report_page(const json_t *blocks, const json_t *doc, char **html, plm_error *err);
/* Each plot as N-NAME.svg and N-NAME-dark.svg, N being the section. */
plm_status report_plots(const json_t *blocks, const json_t *doc, const char *folder, plm_error *err);
#endif
