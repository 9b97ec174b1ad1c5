/* config.c: the settings, and where they stand beside the command line: the environment and a file. */
#include "config.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

const struct args config_defaults = {.listen = "127.0.0.1:8443",
                                     .workers = -1,
                                     .drain = 25,
                                     .max_queue = 10000,
                                     .max_examples = 2000,
                                     .minute_requests = 600,
                                     .queued = 20};

#define AT(field) offsetof(struct args, field)
const struct option config_options[] = {
    {"config", 0, "FILE", OPT_TEXT, AT(config), "settings, a line each: name = value"},
    {"db", 0, "DB", OPT_TEXT, AT(db), "sqlite:FILE or postgres://USER@HOST/NAME"},
    {"keys", 0, "FOLDER", OPT_TEXT, AT(keys),
     "the hourly keys, outside the database (default for SQLite: FILE.keys)"},
    {"listen", 0, "ADDRESS:PORT", OPT_TEXT, AT(listen), "where to listen (default: 127.0.0.1:8443)"},
    {"hosts", 0, "NAMES", OPT_TEXT, AT(hosts), "host names that the service goes by, separated by commas"},
    {"tls-cert", 0, "FILE", OPT_TEXT, AT(tls_cert), "the certificate and its chain, PEM"},
    {"tls-key", 0, "FILE", OPT_TEXT, AT(tls_key), "its key, PEM"},
    {"workers", 0, "N", OPT_COUNT, AT(workers), "jobs at once in this process (default: 2; 0: none)"},
    {"teacher", 0, "T", OPT_TEXT, AT(teacher),
     "MODEL.gguf, or the address of an OpenAI-compatible API (.../v1)"},
    {"teacher-model", 0, "NAME", OPT_TEXT, AT(teacher_model), "what the API calls its model"},
    {"teacher-key-file", 0, "FILE", OPT_TEXT, AT(teacher_key_file),
     "the API's key (default: $PLM_CLOUD_TEACHER_KEY)"},
    {"weak-teacher", 0, NULL, OPT_FLAG, AT(weak_teacher),
     "ask for one thing a call, as small models need it"},
    {"terms", 0, "TEXT", OPT_TEXT, AT(terms),
     "what people are told before they agree: whose model it is and what its provider keeps"},
    {"threads", 0, "N", OPT_COUNT, AT(threads), "threads of a GGUF teacher"},
    {"cpu", 0, "NAME", OPT_TEXT, AT(cpu), "kernels of a GGUF teacher"},
    {"cost-in", 0, "X", OPT_AMOUNT, AT(cost_in), "price of a million tokens sent"},
    {"cost-out", 0, "X", OPT_AMOUNT, AT(cost_out), "price of a million tokens received"},
    {"lease", 0, "SECONDS", OPT_COUNT, AT(lease), "how long a silent worker keeps its job (default: 60)"},
    {"attempts", 0, "N", OPT_COUNT, AT(attempts),
     "starts in a row without a new reply before a job is given up (default: 5)"},
    {"retain-hours", 0, "N", OPT_COUNT, AT(retain_hours),
     "jobs and results go after this (default: 20, at most 23)"},
    {"max-queue", 0, "N", OPT_COUNT, AT(max_queue), "jobs waiting, of all tenants (default: 10000)"},
    {"max-examples", 0, "N", OPT_COUNT, AT(max_examples), "examples a request may want (default: 2000)"},
    {"drain", 0, "SECONDS", OPT_COUNT, AT(drain),
     "how long the calls under way may take after SIGTERM (default: 25)"},
    {"open-metrics", 0, NULL, OPT_FLAG, AT(open_metrics), "/metrics for others than this machine"},
    {"day-requests", 0, "N", OPT_COUNT, AT(day_requests), "requests a day; 0: no limit"},
    {"day-tokens", 0, "N", OPT_COUNT, AT(day_tokens), "tokens a day; 0: no limit"},
    {"month-spend", 0, "X", OPT_AMOUNT, AT(month_spend), "money a month; 0: no limit"},
    {"minute-requests", 0, "N", OPT_COUNT, AT(minute_requests),
     "HTTP requests a minute, at each server (default: 600; 0: no limit)"},
    {"queued", 0, "N", OPT_COUNT, AT(queued), "jobs waiting or running at once (default: 20)"},
    {"overlap", 0, "SECONDS", OPT_COUNT, AT(overlap),
     "how long the old key still works after rotate (default: 0)"},
    {"json", 0, NULL, OPT_FLAG, AT(json), "JSON on stdout"},
    {"man", 0, NULL, OPT_FLAG, AT(man), "the manual page, as roff"},
    {"completion", 0, NULL, OPT_FLAG, AT(completion), "what bash completes, as a script"},
    {"help", 'h', NULL, OPT_FLAG, AT(help), "this text"},
    {NULL, 0, NULL, OPT_FLAG, 0, NULL},
};

static struct bytes text; /* of the configuration file */

static bool store(struct args *a, const struct option *o, const char *value) {
    if (o->type == OPT_FLAG) {
        *(bool *)((char *)a + o->at) = strcmp(value, "no") != 0 && strcmp(value, "0") != 0;
        return true;
    }
    return *value && opt_store(a, o, value);
}

static int misuse(const char *command, const char *what, const char *more) {
    fprintf(stderr, "plm-cloud %s: %s%s (see plm-cloud %s --help)\n", command, what, more, command);
    return EXIT_MISUSE;
}

static const struct option *find(struct str name) {
    for (const struct option *o = config_options; o->name; o++) {
        if (str_eq(name, o->name)) {
            return o;
        }
    }
    return NULL;
}

static int read_file(struct args *a, const char *command) {
    plm_error err;
    if (file_read(a->config, 1 << 16, &text, &err)) {
        fprintf(stderr, "plm-cloud: %s\n", err.text);
        return EXIT_FAILED;
    }
    char *at = text.data, *end = at + text.len;
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
        const struct option *o = find(str_trim(name));
        snprintf(where, sizeof where, "line %d of the configuration", number);
        if (!whole || !o) {
            return misuse(command, where, ": no such setting");
        }
        char *value = (char *)(uintptr_t)rest.p; // in our own buffer
        value[rest.n] = 0;
        if (!store(a, o, value)) {
            return misuse(command, where, ": not a value of this setting");
        }
    }
    return EXIT_DONE;
}

static const char *from_environment(const char *setting) {
    char name[64] = "PLM_CLOUD_";
    size_t n = strlen(name);
    for (const char *p = setting; *p; p++) {
        name[n++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    }
    name[n] = 0;
    return getenv(name);
}

int config_elsewhere(struct args *a, const char *command) {
    if (strcmp(command, "help") == 0) {
        return EXIT_DONE;
    }
    if (!a->config) {
        a->config = from_environment("config");
    }
    int rc = a->config && *a->config ? read_file(a, command) : EXIT_DONE;
    for (const struct option *o = config_options; o->name && !rc; o++) {
        const char *value = o->at == AT(help) || o->at == AT(config) ? NULL : from_environment(o->name);
        if (value && *value && !store(a, o, value)) {
            rc = misuse(command, "not a value of this setting: the environment's ", o->name);
        }
    }
    return rc;
}

void config_free(void) {
    bytes_free(&text);
}
