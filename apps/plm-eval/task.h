/* task.h: LaMP's tasks, and data sets in its format as users with a history and queries. */
#ifndef PLM_EVAL_TASK_H
#define PLM_EVAL_TASK_H
#include "base/base.h"
#include "plm.h"

struct task {
    const char *name, *also;            /* "LaMP_2", and how others write it: "LaMP_2M" */
    const char *kind;                   /* the recipe in plm's own table: "lamp-2" */
    const char *mark;                   /* in a prompt the text itself stands behind this: "description:" */
    const char *input, *output, *title; /* fields of a profile item; title: part of what BM25 looks into */
};
extern const struct task lamp_tasks[]; /* ended by a row without a name */
const struct task *task_find(const char *name);

struct item { /* of a history; texts belong to the data set */
    const char *input, *output;
    const char *title, *text; /* as retrieval words it: fields of the item */
    const char *reference;    /* LaMP-1: what the paper cites; NULL: not known */
    const char *doc;          /* what BM25 looks into */
    const char *prompt;       /* the user's turn, in the test's format */
    bool made;                /* input or prompt were made here: the item has no test format of its own */
};

struct query {
    const char *id, *prompt, *gold;
};

struct user {
    const char *id;
    struct item *items; /* oldest first */
    size_t n;
    struct query *queries; /* oldest first */
    size_t n_queries;
};

struct dataset {
    const struct task *task;
    const plm_kind *kind;
    struct user *users;
    size_t n;
    char **texts; /* owned */
    size_t n_texts, cap_texts;
};

/* DIR/LaMP_4/SPLIT_questions.json and SPLIT_outputs.json (or in DIR itself). Numbers count as texts. Items
 * without what the task needs are left out and counted in *skipped. Users come in the order of the file. */
plm_status dataset_read(struct dataset *out, const struct task *task, const plm_kind *kind, const char *dir,
                        const char *split, size_t *skipped, plm_error *err);
void dataset_free(struct dataset *d);
/* A copy that lives as long as the data set; NULL: no memory. */
const char *dataset_keep(struct dataset *d, const char *text);

/* What BM25 asks with for a prompt: lamp.md's rule for the task; into out. */
plm_status task_query_text(const struct task *t, const char *prompt, struct bytes *out, plm_error *err);
#endif
