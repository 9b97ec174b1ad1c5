/* golden.h: what the checks of plm-golden share. A check reads its reference values, computes its own, and
 * reports the worst difference against the limit that the values' README sets. */
#ifndef PLM_GOLDEN_H
#define PLM_GOLDEN_H
#include "base/base.h"
#include "base/json.h"
#include <math.h>

struct golden {
    const char *dir; /* the reference values */
    const char *cpu; /* as asked for */
    bool json;
    int ran, failed;
    /* the model under test */
    const char *name; /* "": none */
    plm_model *model;
    bool exact; /* reference kernels: their rules hold, else those of the fast ones */
};

/* The larger, or the smaller, of two; what is not a number stays, so that it can't pass. */
static inline double most_of(double a, double b) {
    return isnan(a) || b <= a ? a : b;
}
static inline double least_of(double a, double b) {
    return isnan(a) || b >= a ? a : b;
}

/* One line for a check. */
void report(struct golden *g, const char *check, double worst, double limit, bool pass);
void report_most(struct golden *g, const char *check, double worst, double most);   /* worst <= most */
void report_least(struct golden *g, const char *check, double worst, double least); /* worst >= least */
/* Counts and shows a check that could not be made. */
void report_error(struct golden *g, const char *check, const plm_error *err);

/* DIR/prefix + name + suffix as JSON; a new reference. */
plm_status load_json(const struct golden *g, const char *prefix, const char *name, const char *suffix,
                     json_t **out, plm_error *err);
bool has_file(const struct golden *g, const char *prefix, const char *name, const char *suffix);
void path_of(const struct golden *g, char path[4096], const char *prefix, const char *name,
             const char *suffix);
/* An array of integers as ids; freed with mem_free. */
plm_status ids_of(const json_t *array, int32_t **ids, size_t *n, plm_error *err);
double number_of(const json_t *object, const char *key);

plm_status check_tokens(struct golden *g, plm_error *err);
plm_status check_logits(struct golden *g, plm_error *err);
plm_status check_lora(struct golden *g, plm_error *err);
plm_status check_quant(struct golden *g, plm_error *err);
#endif
