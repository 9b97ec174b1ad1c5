/* metric.h: LaMP's metrics as its evaluator computes them: texts are stripped as Python strips them, a label
 * counts only when it is written exactly, a rating that is no number becomes the worst one, ROUGE is
 * rouge-score's without stemming. One difference: ROUGE is the plain mean, where the evaluator takes the
 * middle of a bootstrap (about 1e-4 apart). */
#ifndef PLM_EVAL_METRIC_H
#define PLM_EVAL_METRIC_H
#include "base/status.h"
#include "base/str.h"

enum metric_kind { METRIC_LABEL, METRIC_RATING, METRIC_TEXT };

struct metric_task {
    const char *name; /* "LaMP_2M" */
    enum metric_kind kind;
    const char *const *labels; /* of METRIC_LABEL and METRIC_RATING, in the order of LaMP's evaluator */
    int n_labels;
};
/* LaMP_1, LaMP_2M (LaMP_2 is the same), LaMP_2N, LaMP_3 to LaMP_7; NULL: none of them. */
const struct metric_task *metric_task(struct str name);

/* The evaluator's names of a task's two metrics: accuracy and f1, MAE and RMSE, rouge-1 and rouge-L. */
const char *metric_name(const struct metric_task *t, int which);

/* The label that an answer is; -1: none. */
int metric_label(const struct metric_task *t, struct str answer);
/* The number that an answer is, as Python's float() reads it, without limits to 1..5. What is no finite
 * number is the farther of 1 and 5 from gold (5 for 3); *read, which may be NULL, says whether it was one. */
double metric_rating(struct str answer, double gold, bool *read);
bool metric_number(struct str text, double *out);

struct metric_labels {
    double accuracy, f1;
};
/* Labels by index, -1 for what is none. f1: the mean over all n_labels classes; one that is in neither pred
 * nor gold counts as 0. */
struct metric_labels metric_labels(const int *pred, const int *gold, size_t n, int n_labels);

struct metric_ratings {
    double mae, rmse;
};
struct metric_ratings metric_ratings(const double *pred, const double *gold, size_t n);

struct metric_rouge {
    double rouge1, rougel; /* F */
};
plm_status metric_rouge(struct metric_rouge *out, struct str pred, struct str gold, plm_error *err);
#endif
