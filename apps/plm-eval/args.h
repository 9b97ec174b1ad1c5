/* args.h: what a person can tell plm-eval, and its commands. */
#ifndef PLM_EVAL_ARGS_H
#define PLM_EVAL_ARGS_H
#include "plm.h"
#include "shared/opt.h"

/* Every option of every command; a command's row says which it takes. Zero is the default. */
struct args {
    const char **rest; /* what is not an option, in order */
    int n_rest;
    bool help, json, quiet;

    const char *model, *teacher, *teacher_model, *teacher_key_file, *cpu; /* models */
    int threads;
    const char *task, *data, *arms, *points, *out, *cache, *split, *shard, *recipe; /* run */
    int users, queries, seeds;
    bool no_guard;
    double hours;
    uint64_t seed;
    const char *golds, *preds;                                                 /* score */
    const char *html, *svg;                                                    /* report */
    const char *endpoint, *endpoint_model, *endpoint_ca, *adapter, *questions; /* latency */
    const char *rtt;
    int limit, max_tokens;
    double stall, stalls, timeout;
};

extern const struct program plm_eval_program;
int cmd_run(struct args *a);
int cmd_report(struct args *a);
int cmd_score(struct args *a);
int cmd_latency(struct args *a);
/* "plm-eval: SENTENCE" on stderr; EXIT_FAILED, or EXIT_MISUSE. */
int eval_fail(const plm_error *err);
int eval_misuse(const char *command, const char *sentence);
#endif
