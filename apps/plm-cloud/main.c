/* main.c: plm-cloud, the augmentation service: the table of commands. */
#include "commands.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

plm_status open_ledger(struct ledger **out, const struct args *c, plm_error *err) {
    char keys[4096];
    if (!c->db) {
        return fail(err, PLM_EINVAL, "no database: --db sqlite:FILE or postgres://...");
    }
    bool file = strncmp(c->db, "sqlite:", 7) == 0;
    if (!c->keys && !file) {
        return fail(err, PLM_EINVAL, "no folder for the keys: --keys FOLDER, the same for all processes");
    }
    if (snprintf(keys, sizeof keys, "%s.keys", file ? c->db + 7 : "") >= (int)sizeof keys) {
        return fail(err, PLM_ELIMIT, "the name of the database is too long");
    }
    struct ledger_options opt = {.db = c->db,
                                 .keys = c->keys ? c->keys : keys,
                                 .retain_s = (int)(c->retain_hours > 100 ? 360000 : c->retain_hours * 3600),
                                 .lease_s = (int)(c->lease > 86400 ? 86400 : c->lease),
                                 .attempts = (int)(c->attempts > 1000000 ? 1000000 : c->attempts)};
    return ledger_open(out, &opt, err);
}

int say_failure(const plm_error *err) {
    fprintf(stderr, "plm-cloud: %s\n", err->text);
    return EXIT_FAILED;
}

int say_misuse(const char *command, const char *sentence) {
    fprintf(stderr, "plm-cloud %s: %s (see plm-cloud %s --help)\n", command, sentence, command);
    return EXIT_MISUSE;
}

#define AT(field) offsetof(struct args, field)
#define TEACHER                                                                                       \
    "workers teacher teacher-model teacher-key-file weak-teacher threads cpu cost-in cost-out lease " \
    "attempts "                                                                                       \
    "retain-hours drain "

static const struct command commands[] = {
    {"serve", "[options]", "answers devices over HTTP, and does their jobs",
     "It listens to others than this machine only with a certificate and a name.",
     "plm-cloud serve --db sqlite:ledger.db --teacher http://127.0.0.1:8000/v1",
     TEACHER "listen hosts tls-cert tls-key terms max-queue max-examples open-metrics", cmd_serve},
    {"worker", "[options]", "does jobs for a service on the same PostgreSQL", NULL,
     "plm-cloud worker --config /etc/plm-cloud.conf", TEACHER, cmd_worker},
    {"tenant", "add|limit|rotate|suspend|resume|delete NAME, or list", "who may use the service", NULL,
     "plm-cloud tenant add ada --db sqlite:ledger.db --day-tokens 2000000",
     "day-requests day-tokens month-spend minute-requests queued overlap json", cmd_tenant},
    {"status", "[--json]", "what the queue looks like", NULL, "plm-cloud status --db sqlite:ledger.db",
     "json", cmd_status},
    {"help", "[COMMAND] [--man|--completion]", "usage of a command, or the manual page", NULL,
     "plm-cloud help serve", "man completion", cmd_help},
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};

static const struct program cloud_program = {
    .name = "plm-cloud",
    .what = "writes examples for devices that ask, with a larger model",
    .first = "Each option may stand in a file (--config) or the environment (PLM_CLOUD_NAME).",
    .files = "/etc/plm-cloud.conf: settings of the service under systemd.",
    .shared = "config db keys help",
    .commands = commands,
    .options = config_options,
    .args_size = sizeof(struct args),
    .defaults = &config_defaults,
    .elsewhere = config_elsewhere,
    .rest = AT(rest),
    .n_rest = AT(n_rest),
    .help = AT(help),
};

int cmd_help(struct args *a) {
    return opt_help(&cloud_program, a->n_rest ? a->rest[0] : NULL, a->man, a->completion);
}

int main(int argc, char **argv) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); // a core would hold bodies and keys
    int rc = program_main(&cloud_program, argc, argv);
    config_free();
    return rc;
}
