/* config.c: settings by a table, from the command line, the environment and a file. */
#include "config.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum kind { FLAG, WORD, NUMBER, REAL };

static const struct setting {
    const char *name, *value; /* value: metavariable; NULL: a flag */
    enum kind kind;
    size_t at;
    const char *commands, *help;
} settings[] = {
#define AT(field) offsetof(struct config, field)
    {"config", "FILE", WORD, AT(config), "*", "settings, a line each: name = value"},
    {"db", "DB", WORD, AT(db), "*", "sqlite:FILE or postgres://USER@HOST/NAME"},
    {"keys", "FOLDER", WORD, AT(keys), "*",
     "the hourly keys, outside the database (default for SQLite: FILE.keys)"},
    {"listen", "ADDRESS:PORT", WORD, AT(listen), "serve", "where to listen (default: 127.0.0.1:8443)"},
    {"hosts", "NAMES", WORD, AT(hosts), "serve", "host names that the service goes by, separated by commas"},
    {"tls-cert", "FILE", WORD, AT(tls_cert), "serve", "the certificate and its chain, PEM"},
    {"tls-key", "FILE", WORD, AT(tls_key), "serve", "its key, PEM"},
    {"workers", "N", NUMBER, AT(workers), "serve worker",
     "jobs at once in this process (default: 2; 0: none)"},
    {"teacher", "T", WORD, AT(teacher), "serve worker",
     "MODEL.gguf, or the address of an OpenAI-compatible API (.../v1)"},
    {"teacher-model", "NAME", WORD, AT(teacher_model), "serve worker", "what the API calls its model"},
    {"teacher-key-file", "FILE", WORD, AT(teacher_key_file), "serve worker",
     "the API's key (default: $PLM_CLOUD_TEACHER_KEY)"},
    {"weak-teacher", NULL, FLAG, AT(weak_teacher), "serve worker",
     "ask for one thing a call, as small models need it"},
    {"terms", "TEXT", WORD, AT(terms), "serve",
     "what people are told before they agree: whose model it is and what its provider keeps"},
    {"threads", "N", NUMBER, AT(threads), "serve worker", "threads of a GGUF teacher"},
    {"cpu", "NAME", WORD, AT(cpu), "serve worker", "kernels of a GGUF teacher"},
    {"cost-in", "X", REAL, AT(cost_in), "serve worker", "price of a million tokens sent"},
    {"cost-out", "X", REAL, AT(cost_out), "serve worker", "price of a million tokens received"},
    {"lease", "SECONDS", NUMBER, AT(lease), "serve worker",
     "how long a silent worker keeps its job (default: 60)"},
    {"attempts", "N", NUMBER, AT(attempts), "serve worker",
     "starts in a row without a new reply before a job is given up (default: 5)"},
    {"retain-hours", "N", NUMBER, AT(retain_hours), "serve worker",
     "jobs and results go after this (default: 20, at most 23)"},
    {"max-queue", "N", NUMBER, AT(max_queue), "serve", "jobs waiting, of all tenants (default: 10000)"},
    {"max-examples", "N", NUMBER, AT(max_examples), "serve", "examples a request may want (default: 2000)"},
    {"drain", "SECONDS", NUMBER, AT(drain), "serve worker",
     "how long the calls under way may take after SIGTERM (default: 25)"},
    {"open-metrics", NULL, FLAG, AT(open_metrics), "serve", "/metrics for others than this machine"},
    {"day-requests", "N", NUMBER, AT(day_requests), "tenant", "requests a day; 0: no limit"},
    {"day-tokens", "N", NUMBER, AT(day_tokens), "tenant", "tokens a day; 0: no limit"},
    {"month-spend", "X", REAL, AT(month_spend), "tenant", "money a month; 0: no limit"},
    {"minute-requests", "N", NUMBER, AT(minute_requests), "tenant",
     "HTTP requests a minute, at each server (default: 600; 0: no limit)"},
    {"queued", "N", NUMBER, AT(queued), "tenant", "jobs waiting or running at once (default: 20)"},
    {"overlap", "SECONDS", NUMBER, AT(overlap), "tenant",
     "how long the old key still works after rotate (default: 0)"},
    {"json", NULL, FLAG, AT(json), "tenant status", "JSON on stdout"},
    {"help", NULL, FLAG, AT(help), "*", "this text"},
#undef AT
};
enum { N_SETTINGS = sizeof settings / sizeof *settings };

static bool takes(const struct setting *s, const char *command) {
    struct str rest = str_of(s->commands), one;
    while (str_cut(&rest, ' ', &one)) {
        if (str_eq(one, "*") || str_eq(one, command)) {
            return true;
        }
    }
    return false;
}

static const struct setting *find(const char *command, struct str name) {
    for (size_t i = 0; i < N_SETTINGS; i++) {
        if (str_eq(name, settings[i].name) && (!command || takes(&settings[i], command))) {
            return &settings[i];
        }
    }
    return NULL;
}

static bool store(struct config *c, const struct setting *s, const char *value) {
    void *field = (char *)c + s->at;
    int64_t i;
    double d;
    switch (s->kind) {
    case FLAG:
        *(bool *)field = strcmp(value, "no") != 0 && strcmp(value, "0") != 0;
        return true;
    case WORD:
        *(const char **)field = value;
        return *value != 0;
    case NUMBER:
        if (!parse_i64(str_of(value), &i) || i < 0 || i > 1000000000000000) {
            return false;
        }
        *(int64_t *)field = i;
        return true;
    default:
        if (!parse_f64(str_of(value), &d) || d < 0 || d > 1e9) {
            return false;
        }
        *(double *)field = d;
        return true;
    }
}

static int misuse(const char *command, const char *what, const char *more) {
    fprintf(stderr, "plm-cloud %s: %s%s (see plm-cloud %s --help)\n", command, what, more, command);
    return EXIT_MISUSE;
}

/* ---- the file and the environment ---- */

static int read_file(struct config *c, const char *command) {
    plm_error err;
    if (file_read(c->config, 1 << 16, &c->file, &err)) {
        fprintf(stderr, "plm-cloud: %s\n", err.text);
        return EXIT_FAILED;
    }
    char *at = c->file.data, *end = at + c->file.len;
    for (int number = 1; at < end; number++) {
        char *stop = memchr(at, '\n', (size_t)(end - at)), where[60];
        stop = stop ? stop : end;
        *stop = 0; // the buffer has a NUL past its end
        struct str rest = str_trim(str_of(at)), name;
        at = stop + 1;
        if (!rest.n || *rest.p == '#') {
            continue;
        }
        bool whole = memchr(rest.p, '=', rest.n) != NULL;
        str_cut(&rest, '=', &name);
        rest = str_trim(rest);
        const struct setting *s = find(NULL, str_trim(name));
        snprintf(where, sizeof where, "line %d of the configuration", number);
        if (!whole || !s) {
            return misuse(command, where, ": no such setting");
        }
        char *value = (char *)(uintptr_t)rest.p; // in our own buffer
        value[rest.n] = 0;
        if (!store(c, s, value)) {
            return misuse(command, where, ": not a value of this setting");
        }
    }
    return EXIT_DONE;
}

static const char *from_environment(const struct setting *s) {
    char name[64] = "PLM_CLOUD_";
    size_t n = strlen(name);
    for (const char *p = s->name; *p; p++) {
        name[n++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    }
    name[n] = 0;
    return getenv(name);
}

static int read_environment(struct config *c, const char *command) {
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const char *value = from_environment(&settings[i]);
        if (value && *value && strcmp(settings[i].name, "help") != 0 && !store(c, &settings[i], value)) {
            return misuse(command, "not a value of this setting: the environment's ", settings[i].name);
        }
    }
    return EXIT_DONE;
}

/* ---- the command line ---- */

static int read_word(struct config *c, const char *command, int argc, char **argv, int *i) {
    const char *arg = argv[*i], *value = "yes", *equals = strchr(arg, '=');
    struct str name = {arg + 2, equals ? (size_t)(equals - arg - 2) : strlen(arg + 2)};
    const struct setting *s = find(command, name);
    if (!s) {
        return misuse(command, "no option ", arg);
    }
    if (s->value && !equals && *i + 1 >= argc) {
        return misuse(command, "a value is missing after ", arg);
    }
    if (equals) {
        value = equals + 1;
    } else if (s->value) {
        value = argv[++*i];
    }
    return store(c, s, value) ? EXIT_DONE : misuse(command, "not a value of ", arg);
}

static int read_words(struct config *c, const char *command, int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        int rc = EXIT_DONE;
        if (strncmp(argv[i], "--", 2) == 0) {
            rc = read_word(c, command, argc, argv, &i);
        } else if (c->n_rest < (int)(sizeof c->rest / sizeof *c->rest)) {
            c->rest[c->n_rest++] = argv[i];
        } else {
            rc = misuse(command, "too many words", "");
        }
        if (rc) {
            return rc;
        }
    }
    return EXIT_DONE;
}

int settings_read(struct config *c, const char *command, int argc, char **argv) {
    *c = (struct config){.listen = "127.0.0.1:8443",
                         .workers = -1,
                         .drain = 25,
                         .max_queue = 10000,
                         .max_examples = 2000,
                         .minute_requests = 600,
                         .queued = 20};
    const struct config defaults = *c;
    // Once for the name of the file, and once more so that the words stand above it.
    int rc = read_environment(c, command);
    rc = rc ? rc : read_words(c, command, argc, argv);
    if (!rc && c->config && !c->help) {
        const char *file = c->config;
        *c = defaults;
        c->config = file;
        rc = read_file(c, command);
        rc = rc ? rc : read_environment(c, command);
        rc = rc ? rc : read_words(c, command, argc, argv);
    }
    return rc;
}

void settings_free(struct config *c) {
    bytes_free(&c->file);
}

void settings_usage(const char *command) {
    static const char *const commands[][3] = {
        {"serve", "", "answers devices over HTTP, and does their jobs"},
        {"worker", "", "does jobs for a service on the same PostgreSQL"},
        {"tenant", "add|limit|rotate|suspend|resume|delete NAME, or list", "who may use the service"},
        {"status", "", "what the queue looks like"},
    };
    if (!command) {
        printf("plm-cloud %s: writes examples for devices that ask, with a larger model\n\n"
               "usage: plm-cloud COMMAND [options]\n\n",
               plm_version());
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (!command) {
            printf("  %-8s %s\n", commands[i][0], commands[i][2]);
        } else if (strcmp(command, commands[i][0]) == 0) {
            printf("usage: plm-cloud %s%s%s [options]\n\n%s\n\n", command, *commands[i][1] ? " " : "",
                   commands[i][1], commands[i][2]);
            for (size_t k = 0; k < N_SETTINGS; k++) {
                char left[48];
                snprintf(left, sizeof left, "--%s %s", settings[k].name,
                         settings[k].value ? settings[k].value : "");
                if (takes(&settings[k], command)) {
                    printf("  %-24s %s\n", left, settings[k].help);
                }
            }
        }
    }
    printf("\nEach setting may stand in a file (--config) or in the environment as PLM_CLOUD_NAME.\n"
           "docs/cloud.md goes from nothing to a running service.\n");
}
