/* rows.h: training and scoring rows, {"prompt","answer"[,"weight"]} or {"messages":[...]} a line. */
#ifndef PLM_ROWS_H
#define PLM_ROWS_H
#include "app.h"

struct row {
    size_t line;
    json_t *doc; /* owns the texts below */
    plm_message message[64];
    size_t n;                    /* messages; the last is the assistant's */
    const char *prompt, *answer; /* set where the row is one question and its answer */
    float weight;
};

struct rows {
    struct row *v;
    size_t n, bad;
};

/* The first bad row fails with its line, unless skip_bad: then it is counted and said on stderr. */
plm_status rows_read(struct rows *out, const char *path, bool skip_bad, plm_error *err);
void rows_free(struct rows *r);
plm_status row_encode(struct encoded *out, const plm_model *m, const struct row *r, bool raw, plm_error *err);
#endif
