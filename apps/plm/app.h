/* app.h: what the commands share: paths, opening things by option, messages and progress. The environment is
 * read here and nowhere below. */
#ifndef PLM_APP_H
#define PLM_APP_H
#include "base/json.h"
#include "args.h"
#include "plm.h"
#include "shared/encode.h"
#include "shared/learn.h"
#include "shared/progress.h"

/* "plm: SENTENCE" on stderr; EXIT_FAILED (EXIT_MISUSE for PLM_EINVAL when misuse is set). */
int app_fail(const plm_error *err);
int app_misuse(const struct args *a, const char *command, const char *sentence);
/* Talk on stderr, unless --quiet. */
void app_say(const struct args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- paths (XDG); the caller's, plm_free ---- */
enum place { PLACE_DATA, PLACE_CACHE };
char *app_path(enum place place, const char *tail); /* NULL: no memory */
char *path_join(const char *folder, const char *name);

/* ---- opening ---- */
plm_status app_model(plm_model **out, const struct args *a, plm_error *err);
plm_status app_store(plm_store **out, const struct args *a, bool read_only, plm_error *err);
plm_status app_kinds(plm_kinds **out, const struct args *a, plm_error *err);
const char *app_user(const struct args *a);

/* The adapters of --adapter FILE[:SCALE]. */
plm_status app_loras(struct loras *l, const struct args *a, const plm_model *m, plm_error *err);
/* --max-length and --kv; --lookup */
plm_status app_session_options(plm_session_options *out, const struct args *a, plm_error *err);
plm_status app_lookup(plm_lookup *out, const struct args *a, plm_error *err);

/* How to train, as a person said it, for both train and personalize. */
plm_status app_learn(struct learn *l, const struct args *a, plm_error *err);

/* ---- output ---- */
/* One object on one line of stdout; takes over doc. Returns EXIT_DONE or EXIT_FAILED. */
int app_json(json_t *doc);

plm_status app_read(const char *path, size_t max, struct bytes *out, plm_error *err);

/* ---- commands, one file each ---- */
int cmd_personalize(struct args *a);
int cmd_import(struct args *a);
int cmd_records(struct args *a);
int cmd_augment(struct args *a);
int cmd_train(struct args *a);
int cmd_ask(struct args *a);
int cmd_chat(struct args *a);
int cmd_score(struct args *a);
int cmd_generate(struct args *a);
int cmd_adapter(struct args *a);
int cmd_model(struct args *a);
int cmd_tokenize(struct args *a);
int cmd_bench(struct args *a);
int cmd_doctor(struct args *a);
int cmd_compare(struct args *a);
int cmd_help(struct args *a);
#endif
