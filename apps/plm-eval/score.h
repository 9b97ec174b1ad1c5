/* score.h: the metrics of a file of predictions against a file of golds, both in LaMP's outputs format. */
#ifndef PLM_EVAL_SCORE_H
#define PLM_EVAL_SCORE_H
#include "metric.h"

struct score {
    const struct metric_task *task;
    size_t n, unread; /* answers; those that were no label or no number */
    double value[2];  /* accuracy and F1, MAE and RMSE, or ROUGE-1 and ROUGE-L */
};
/* task NULL: as the golds say. Refused, with one sentence: files that do not hold the same ids once each or
 * are not of that task, golds that are no label or no number. An id or output may be a string or a number. */
plm_status score_files(struct score *out, const char *task, const char *golds, const char *preds,
                       plm_error *err);
#endif
