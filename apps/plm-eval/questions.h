/* questions.h: questions for `plm-eval latency`, from a questions file of LaMP or a text file. */
#ifndef PLM_EVAL_QUESTIONS_H
#define PLM_EVAL_QUESTIONS_H
#include "base/base.h"

struct questions {
    char **v;
    size_t n;
};
/* The first `most` of them: the inputs of a JSON list of {"input"}, or lines that are not blank. */
plm_status questions_read(struct questions *out, const char *path, size_t most, plm_error *err);
void questions_free(struct questions *q);
#endif
