/* gate_arm.h: the arm that lets the product's own gate choose. */
#ifndef PLM_EVAL_GATE_ARM_H
#define PLM_EVAL_GATE_ARM_H
#include "arms.h"
plm_status run_gate(struct cell *c, plm_error *err);
#endif
