/* config.h: what the program was told. A setting comes from the command line, else from the environment
 * (PLM_CLOUD_NAME), else from the configuration file (name = value), else it has its default. */
#ifndef PLM_CLOUD_CONFIG_H
#define PLM_CLOUD_CONFIG_H
#include "base/base.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSE = 2, HOSTS_MAX = 16 };

struct config { /* all texts are borrowed from argv, the environment or the file */
    const char *config, *listen, *db, *keys, *hosts, *tls_cert, *tls_key;
    const char *teacher, *teacher_model, *teacher_key_file, *terms, *cpu;
    bool weak_teacher, open_metrics, json, help;
    int64_t workers, threads, lease, retain_hours, attempts, max_queue, max_examples, drain, overlap;
    double cost_in, cost_out;
    int64_t day_requests, day_tokens, minute_requests, queued;
    double month_spend;

    const char *rest[8]; /* what is no option, after the command */
    int n_rest;
    struct bytes file; /* the configuration's text */
};

/* EXIT_MISUSE after one sentence on stderr. words: after the command's name. */
int settings_read(struct config *c, const char *command, int argc, char **argv);
void settings_free(struct config *c);
void settings_usage(const char *command); /* NULL: all */
#endif
