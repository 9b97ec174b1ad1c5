/* report.h: what a run did: what was imported, what left the machine, what was kept and why, losses, time,
 * memory, the gate's table, hashes. On the terminal, as JSON and as one self-contained page. */
#ifndef PLM_REPORT_H
#define PLM_REPORT_H
#include "shared/gate.h"
#include "import.h"
#include "teach.h"

struct report {
    const struct args *args;
    json_t *doc;
    double start;
    bool nothing_new;
};

void report_start(struct report *r, const struct args *a);
void report_close(struct report *r);
void report_import(struct report *r, const char *source, const plm_import_report *i);
void report_augment(struct report *r, const struct teaching *t, const plm_absorb_report *a);
void report_gate(struct report *r, const struct pool_of_data *d, struct gate *g);
const json_t *report_gate_json(const struct report *r); /* the gate's table, borrowed */
void report_installed(struct report *r, int64_t id, const char *path, const char *sha256);
void report_kept(struct report *r, const char *name); /* base, or the one installed before */
/* Adds time and memory and writes report.json and report.html into the folder. */
plm_status report_finish(struct report *r, const struct pool_of_data *d, const char *folder, plm_error *err);
void report_print(const struct report *r, FILE *to);
/* Members of a report: 0 and "" where there are none. */
long long report_whole(const json_t *o, const char *key);
double report_real(const json_t *o, const char *key);
const char *report_text(const json_t *o, const char *key);
/* The page; report_page.c */
plm_status report_page(const json_t *doc, char **html, plm_error *err);
#endif
