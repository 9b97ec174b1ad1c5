/* config.h: what the program was told. A setting comes from the command line, else from the environment
 * (PLM_CLOUD_NAME), else from the configuration file (name = value), else it has its default. */
#ifndef PLM_CLOUD_CONFIG_H
#define PLM_CLOUD_CONFIG_H
#include "base/base.h"
#include "shared/opt.h"

enum { HOSTS_MAX = 16 };

struct args { /* all texts are borrowed from argv, the environment or the file */
    const char *config, *listen, *db, *keys, *hosts, *tls_cert, *tls_key;
    const char *teacher, *teacher_model, *teacher_key_file, *terms, *cpu;
    bool weak_teacher, open_metrics, json, help, man, completion;
    int64_t workers, threads, lease, retain_hours, attempts, max_queue, max_examples, drain, overlap;
    double cost_in, cost_out;
    int64_t day_requests, day_tokens, minute_requests, queued;
    double month_spend;

    const char **rest; /* what is no option, after the command */
    int n_rest;
};

extern const struct args config_defaults;
extern const struct option config_options[];

/* Sets what the environment and the configuration file say; see struct program. */
int config_elsewhere(struct args *a, const char *command);
void config_free(void); /* the file's text */
#endif
