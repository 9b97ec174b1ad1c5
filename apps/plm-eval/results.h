/* results.h: the lines of one or several runs' results.jsonl, checked and in order.
 *
 * A result is one line: one user under one arm. Results are sorted by split, student, configuration, guards,
 * task, arm, retrieval, point, user and seed, and no two are alike in all of these. A group is the results of
 * one arm on one task, a section the groups of one configuration: what may be compared with each other.
 */
#ifndef PLM_EVAL_RESULTS_H
#define PLM_EVAL_RESULTS_H
#include "base/json.h"
#include "base/status.h"

struct result { /* texts are borrowed from the line */
    const char *split, *student, *config, *task, *arm, *point, *teacher;
    bool guarded; /* near duplicates of the queries were taken out of what is learned */
    int bm25, user, seed, queries;
    double nll;       /* mean over the queries; NAN for an arm that has none (copying has no likelihood) */
    const json_t *at; /* the whole line */
    int file;
    size_t line;
};

struct group {
    const struct result *result; /* the first names it */
    size_t n;
};

struct section {
    const struct group *group;
    size_t n;
};

struct results_file {
    char *path;
    size_t lines;
    bool torn; /* the last line was cut by a crash, and left out */
};

struct results {
    struct result *result;
    struct group *group;
    struct section *section;
    struct results_file *file;
    size_t n, n_groups, n_sections, n_files;
    size_t repeated; /* lines that say again what another says */
    json_t *lines;
};

/* paths: run folders, or results.jsonl files. Refused with one sentence: a line that is no result, two lines
 * that give one user under one arm different results, one arm with two teachers. results_close is right after
 * failure too. */
plm_status results_open(struct results *r, const char *const *paths, size_t n, plm_error *err);
void results_close(struct results *r);

const struct group *results_group(const struct section *s, const char *task, const char *arm, int bm25,
                                  const char *point); /* NULL: none */

/* A user's mean over seeds. */
struct user_mean {
    int user, queries, seeds;
    double nll;
};
/* The users of a group in order; the caller's array holds g->n. Returns how many. */
size_t results_users(const struct group *g, struct user_mean *out);
#endif
