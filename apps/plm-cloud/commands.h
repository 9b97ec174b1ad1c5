/* commands.h: one function a command; each returns the exit status. */
#ifndef PLM_CLOUD_COMMANDS_H
#define PLM_CLOUD_COMMANDS_H
#include "config.h"
#include "store/ledger.h"

int cmd_serve(struct args *c);
int cmd_worker(struct args *c);
int cmd_tenant(struct args *c);
int cmd_status(struct args *c);
int cmd_help(struct args *a);
/* The ledger that the settings name. */
plm_status open_ledger(struct ledger **out, const struct args *c, plm_error *err);
int say_failure(const plm_error *err); /* one sentence on stderr; EXIT_FAILED */
int say_misuse(const char *command, const char *sentence);
#endif
