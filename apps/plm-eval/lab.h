/* lab.h: everything that is open while one task is evaluated, and the adapter that its other users made. */
#ifndef PLM_EVAL_LAB_H
#define PLM_EVAL_LAB_H
#include "args.h"
#include "prompt.h"
#include "recipe.h"
#include "samples.h"
#include "shared/progress.h"
#include "student.h"
#include "view.h"

enum { BM25_MOST = 64 }; /* items in front of a prompt */

struct lab {
    const struct args *a;
    struct recipe recipe;
    const struct task *task;
    plm_kinds *kinds;
    const plm_kind *kind;
    struct dataset dev, pool; /* pool: other users; n 0: there is none */
    enum split split;
    bool guard;
    plm_model *model, *big; /* big: the teacher as a student, for the ceiling */
    struct school school;
    struct student student, teacher_student;
    char out[3000], private[3100], adapters[3200];
    struct trained *task_adapter[BM25_MOST + 1]; /* by k; NULL: not asked for yet */
    plm_store *store;                            /* of synthetic rows and the replies they come from */
    plm_teacher *teacher;
    struct progress bar;
    const char *doing;
    double done, total; /* cells */
};

plm_status lab_open(struct lab *l, const struct args *a, plm_error *err);
void lab_close(struct lab *l);
/* The task adapter, made from other users' queries with k items of their own histories in front. Without such
 * users: path "" (the base). */
plm_status lab_task_adapter(struct lab *l, size_t k, struct trained *out, plm_error *err);
/* The model that teaches, a GGUF on this machine, as a student. */
plm_status lab_teacher_student(struct lab *l, plm_error *err);
plm_status lab_teacher(struct lab *l, plm_error *err); /* opens teacher and store */
const char *lab_teacher_name(const struct lab *l);     /* "": none open */
#endif
