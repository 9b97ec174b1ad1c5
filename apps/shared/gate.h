/* gate.h: which adapter, if any, a person is given: by target NLL on records that nothing was trained on. */
#ifndef SHARED_GATE_H
#define SHARED_GATE_H
#include "shared/arm.h"

struct candidate {    /* a row of the gate's table */
    const char *name; /* "base", "real", "real+syn", "installed", "real+prior", "real+syn+prior" */
    double nll;       /* mean over the gate's records, as arm_score measures it */
    float scale;
    bool harmful;              /* raises the general text's NLL by over 5 % */
    const char *path;          /* the adapter file, its arm's or the installed one's; NULL: base */
    struct arm *arm;           /* that it stands for; NULL: base or the installed one */
    const struct prior *prior; /* calibrates it to the person's label counts; NULL: nothing does */
};

enum { GATE_MOST = 16 };
enum gate_way { GATE_HELD_OUT, GATE_CROSS_FIT, GATE_NONE };

struct gate {
    enum gate_way way;
    bool *held; /* [records]: the held-out ones (GATE_HELD_OUT) */
    size_t n_held;
    struct candidate row[GATE_MOST];
    size_t n;
    int winner;        /* index into row; -1: none was tested */
    struct arm arm[2]; /* real, real+syn: as trained for installation */
    struct prior prior[2];
    size_t n_arms;
    bool labels; /* NLL is of a label among the labels, not of a token */
};

/* Chooses the way and the held-out records by their number alone: from 20 the newest max(5, 15 %); from 5
 * cross-fitting. */
plm_status gate_plan(struct gate *g, const struct pool_of_data *d, plm_error *err);
/* Trains the arms and fills the table. installed (NULL: none): an adapter that competes. */
plm_status gate_run(struct gate *g, const struct pool_of_data *d, const char *installed,
                    float installed_scale, plm_error *err);
/* The arm behind the winner; NULL: base or the installed one. */
struct arm *gate_arm(struct gate *g);
void gate_free(struct gate *g);
#endif
