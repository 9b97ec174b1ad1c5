/* cmd_score.c: `plm-eval score`: LaMP's metrics of two files on stdout. */
#include "args.h"
#include "score.h"

#include <stdio.h>

int cmd_score(struct args *a) {
    struct score s;
    plm_error err = {0};
    if (!a->golds || !a->preds || a->n_rest)
        return eval_misuse("score", "it takes --golds FILE and --preds FILE");
    if (score_files(&s, a->task, a->golds, a->preds, &err) != PLM_OK)
        return eval_fail(&err);
    const char *first = metric_name(s.task, 0), *second = metric_name(s.task, 1);
    if (a->json) {
        printf("{\"task\":\"%s\",\"n\":%zu,\"%s\":%.9g,\"%s\":%.9g", s.task->name, s.n, first, s.value[0],
               second, s.value[1]);
        if (s.task->kind != METRIC_TEXT)
            printf(",\"unread\":%zu", s.unread);
        puts("}");
        return EXIT_DONE;
    }
    printf("%s, %zu answers\n%-9s %.4f\n%-9s %.4f\n", s.task->name, s.n, first, s.value[0], second,
           s.value[1]);
    if (s.unread)
        printf("%zu were no %s of the task\n", s.unread, s.task->kind == METRIC_LABEL ? "label" : "rating");
    return EXIT_DONE;
}
