/* main.c: plm-cloud, the augmentation service: finds the command and reads its settings. */
#include "commands.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

plm_status open_ledger(struct ledger **out, const struct config *c, plm_error *err) {
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

static const struct {
    const char *name;
    int (*run)(struct config *c);
} commands[] = {{"serve", cmd_serve}, {"worker", cmd_worker}, {"tenant", cmd_tenant}, {"status", cmd_status}};

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); // a core would hold bodies and keys
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        settings_usage(NULL);
        return argc < 2 ? EXIT_MISUSE : EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("plm-cloud %s\n", plm_version());
        return EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            struct config c;
            int rc = settings_read(&c, argv[1], argc - 2, argv + 2);
            if (!rc && c.help) {
                settings_usage(argv[1]);
            } else if (!rc) {
                rc = commands[i].run(&c);
            }
            settings_free(&c);
            return rc;
        }
    }
    fprintf(stderr, "plm-cloud: no command \"%s\" (see plm-cloud --help)\n", argv[1]);
    return EXIT_MISUSE;
}
