/* args.h: what a person can tell plm. */
#ifndef PLM_ARGS_H
#define PLM_ARGS_H
#include "shared/opt.h"

/* Every option of every command; a command's row says which it takes. Zero is the default. */
struct args {
    const char *model, *store, *cpu, *chat_template, *user, *task, *kinds; /* shared */
    struct strings adapters;
    int threads;
    bool no_repack;
    uint64_t seed;
    bool json, quiet, verbose, help;

    const char *teacher, *teacher_model, *teacher_key_file, *teacher_ca, *batch_out, *batch_in, *share, *me,
        *format, *out, *data, *prompt, *system;
    const char *targets, *schedule, *ids, *message, *report, *type, *kv, *lookup;
    double max_cost, cost_in, cost_out, epsilon, epsilon_budget;
    uint64_t memory;
    int rank, steps, epochs, batch, warmup, patience, max_tokens, context, preview, limit, wanted, top_k;
    int prefill, decode, train, layers;
    double alpha, rate, decay, clip, temperature, top_p, min_p;
    bool yes, force, dry_run, raw, skip_bad, resume, base, special, decode_ids, local_only;
    bool no_teacher, with_records, refuse_long, in_order, man, completion, all, explain;

    const char **rest; /* what is not an option, in order */
    int n_rest;
};

extern const struct program plm_program;
#endif
