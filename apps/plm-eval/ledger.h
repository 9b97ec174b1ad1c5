/* ledger.h: RUN/results.jsonl: a line a finished cell, numbers alone, appended and synced. */
#ifndef PLM_EVAL_LEDGER_H
#define PLM_EVAL_LEDGER_H
#include "base/json.h"

struct ledger {
    int fd;
    json_t *cells; /* key -> line */
};
/* Reads what is there and cuts a torn last line off. */
plm_status ledger_open(struct ledger *l, const char *path, plm_error *err);
void ledger_close(struct ledger *l);
/* What makes a line the same cell. */
void ledger_key(char out[400], const json_t *line);
const json_t *ledger_find(const struct ledger *l, const char *key);    /* NULL: not there */
plm_status ledger_add(struct ledger *l, json_t *line, plm_error *err); /* keeps a reference */
#endif
