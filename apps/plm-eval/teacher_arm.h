/* teacher_arm.h: the ceiling: the teacher answers the queries itself. */
#ifndef PLM_EVAL_TEACHER_ARM_H
#define PLM_EVAL_TEACHER_ARM_H
#include "arms.h"
plm_status run_teacher(struct cell *c, plm_error *err);
/* What an answer from elsewhere says: its first line without space round it, in place. Of labels: which; -1:
 * none. */
void reply_said(struct reply *r, const plm_kind *kind, char *text);
#endif
