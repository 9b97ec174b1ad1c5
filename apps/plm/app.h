/* app.h: what the commands share: paths, opening things by option, messages and progress. The environment is
 * read here and nowhere below. */
#ifndef PLM_APP_H
#define PLM_APP_H
#include "base/json.h"
#include "opt.h"
#include "plm.h"

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
struct loras {
    plm_adapter *adapter[16];
    plm_lora use[16];
    size_t n;
};
plm_status app_loras(struct loras *l, const struct args *a, const plm_model *m, plm_error *err);
plm_status loras_add(struct loras *l, const plm_model *m, const char *path, float scale, plm_error *err);
void loras_close(struct loras *l);
/* --max-length and --kv; --lookup */
plm_status app_session_options(plm_session_options *out, const struct args *a, plm_error *err);
plm_status app_lookup(plm_lookup *out, const struct args *a, plm_error *err);

/* ---- output ---- */
/* One object on one line of stdout; takes over doc. Returns EXIT_DONE or EXIT_FAILED. */
int app_json(json_t *doc);

/* A bar with time left, on stderr and only on a terminal. */
struct progress {
    const char *label;
    double start, shown;
    bool on;
};
void progress_start(struct progress *p, const struct args *a, const char *label);
void progress_at(struct progress *p, double done, double total, const char *note); /* note may be NULL */
void progress_end(struct progress *p);                                             /* clears the line */

/* ---- encoding ---- */
struct encoded { /* ids of a prompt, or of a prompt and its answer */
    int32_t *ids;
    size_t n, n_prompt;
};
/* A {"prompt","answer"} row: chat turns of the template, or raw text. answer NULL: only the prompt. */
plm_status app_encode(struct encoded *out, const plm_model *m, const char *system, const char *prompt,
                      const char *answer, bool raw, plm_error *err);
plm_status app_encode_messages(struct encoded *out, const plm_model *m, const plm_message *messages, size_t n,
                               plm_error *err);
void encoded_free(struct encoded *e);
/* The sum of -ln p of the answer's ids, and how many. */
plm_status app_answer_nll(plm_session *s, const struct encoded *e, double *nll, size_t *tokens,
                          plm_error *err);
/* Several rows scored at once. */
enum { SCORED_AT_ONCE = 8 };
struct scorer {
    plm_session *s[SCORED_AT_ONCE];
};
plm_status scorer_open(struct scorer *c, const plm_model *m, const plm_session_options *opt, plm_error *err);
void scorer_close(struct scorer *c);
plm_status scorer_use(struct scorer *c, const plm_lora *uses, size_t n, plm_error *err);
/* The mean of -ln p over the ids of each answer, for n <= SCORED_AT_ONCE. */
plm_status scorer_run(struct scorer *c, const struct encoded *e, size_t n, double *nll, plm_error *err);
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
