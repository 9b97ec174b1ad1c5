/* opt.h: the command line as two tables, commands and options. Parsing, usage, nearest names and the
 * man page and completion all come from them. */
#ifndef PLM_OPT_H
#define PLM_OPT_H
#include "base/base.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSE = 2 };

struct strings {
    const char *v[16];
    int n;
};

/* Every option of every command; a command's row says which it takes. Zero is the default. */
struct args {
    const char *model, *store, *cpu, *chat_template, *user, *task, *kinds; /* shared */
    struct strings adapters;
    int threads;
    bool no_repack;
    uint64_t seed;
    bool json, quiet, verbose, help;

    const char *teacher, *teacher_model, *teacher_key_file, *teacher_ca, *share, *me, *format, *out, *data,
        *prompt, *system;
    const char *targets, *schedule, *ids, *message, *report, *type, *kv, *lookup;
    double max_cost, cost_in, cost_out, epsilon, epsilon_budget;
    uint64_t memory;
    int rank, steps, epochs, batch, warmup, patience, max_tokens, context, preview, limit, wanted, top_k;
    int prefill, decode, train, layers;
    double alpha, rate, decay, clip, temperature, top_p, min_p;
    bool yes, force, dry_run, raw, skip_bad, resume, base, special, decode_ids, local_only;
    bool no_teacher, with_records, refuse_long, man, completion, all;

    const char **rest; /* what is not an option, in order */
    int n_rest;
};

enum opt_type { OPT_FLAG, OPT_TEXT, OPT_LIST, OPT_INT, OPT_U64, OPT_SIZE, OPT_REAL };

struct option {
    const char *name;  /* without dashes */
    char letter;       /* 0: none */
    const char *value; /* metavariable; NULL: a flag */
    enum opt_type type;
    size_t at; /* offsetof in struct args */
    const char *help;
};

struct command {
    const char *name;
    const char *usage; /* after "plm NAME" */
    const char *what;  /* one line */
    const char *more;  /* paragraphs for --help; may be NULL */
    const char *example;
    const char *options; /* names of its own options, space separated; shared ones are always taken */
    int (*run)(struct args *a);
};

extern const struct command plm_commands[];
extern const struct option plm_options[];

/* Fills a from argv (after the command's name). EXIT_MISUSE after one sentence on stderr. */
int opt_parse(struct args *a, const struct command *c, int argc, char **argv);
void opt_usage(const struct command *c); /* NULL: all commands */
void opt_man(void);                      /* a man page on stdout */
void opt_completion(void);               /* what bash completes, as a script on stdout */
const struct command *opt_command(const char *name);
const char *opt_nearest_command(const char *name);
#endif
