/* inside.h: what the readers of import/ share: the sink that every row goes to, and small parsers.
 * A reader returns a failure only where the source as a whole can't be read; a bad row goes to sink_skip. */
#ifndef IMPORT_INSIDE_H
#define IMPORT_INSIDE_H
#include "base/base.h"
#include "base/json.h"
#include "import/import.h"
#include "kind/kind.h"
#include "store/store.h"

enum {
    ROW_MAX = 1 << 20, /* bytes of a line, a CSV row or a Markdown file */
    WHERE_MAX = 512,
};

struct sink {
    plm_store *st;
    const plm_kinds *kinds;
    const plm_kind *kind; /* the kind of every row; NULL: the row or the format says */
    const plm_import_options *opt;
    const char *source;
    plm_import_report *report;
    plm_skip_fn skipped;
    void *ctx;
    char first_bad[WHERE_MAX + 256]; /* where and why the first skipped row was */
};

/* One row: counted, checked against its kind, stored unless known. A bad one is skipped. */
plm_status sink_take(struct sink *s, const plm_kind *kind, const plm_record *r, const char *where,
                     plm_error *err);
void sink_skip(struct sink *s, const char *where, const char *why); /* counts it as seen */
void sink_other(struct sink *s);                                    /* a row of somebody else */
bool sink_is_me(const struct sink *s, const char *author);          /* also without --me */
/* Text from outside that is to become a C string: UTF-8 without NUL. The reason it is not, or NULL. */
const char *text_fault(const char *text, size_t len);

/* A JSON object as a row: the kind's own fields, or a common pair of names, or messages. */
plm_status row_take(struct sink *s, const plm_kind *kind, const json_t *row, const char *where,
                    plm_error *err);
/* "2026-01-02", "2026-01-02T03:04:05+01:00", "2026-01", "20260102", seconds since 1970; 0: none of these. */
int64_t when_of(const char *text);

plm_status read_jsonl(struct sink *s, const char *path, plm_error *err);
plm_status read_csv(struct sink *s, const char *path, plm_error *err);
plm_status read_markdown(struct sink *s, const char *path, plm_error *err);
plm_status read_git(struct sink *s, const char *path, plm_error *err);
plm_status read_lamp(struct sink *s, const char *path, plm_error *err);
#endif
