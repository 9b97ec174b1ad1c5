/* cmd_serve.c: the service and the lone worker: from the settings to running threads, and back down on
 * SIGTERM. The first signal drains; the second ends the process where it stands, which loses nothing either.
 */
#include "commands.h"
#include "routes.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "log.h"

struct service {
    const struct args *config;
    struct ledger *ledger;
    struct crew *crew;
    struct front *front;
    struct server *server;
    struct bytes cert, key;
    char address[64], names[1024];
    const char *hosts[HOSTS_MAX + 1];
    int port;
};

/* ---- where to listen ---- */

static plm_status read_listen(struct service *s, plm_error *err) {
    const char *text = s->config->listen, *colon = strrchr(text, ':');
    int64_t port;
    size_t n = colon ? (size_t)(colon - text) : 0;
    if (!colon || !n || n >= sizeof s->address || !parse_i64(str_of(colon + 1), &port) || port < 0 ||
        port > 65535) {
        return fail(err, PLM_EINVAL, "--listen takes a numeric address and a port, like 127.0.0.1:8443");
    }
    bool brackets = text[0] == '[' && text[n - 1] == ']';
    snprintf(s->address, sizeof s->address, "%.*s", (int)(n - 2 * brackets), text + brackets);
    s->port = (int)port;
    return PLM_OK;
}

static plm_status read_hosts(struct service *s, plm_error *err) {
    size_t n = 0;
    if (!s->config->hosts) {
        return PLM_OK;
    }
    if (snprintf(s->names, sizeof s->names, "%s", s->config->hosts) >= (int)sizeof s->names) {
        return fail(err, PLM_ELIMIT, "--hosts is too long");
    }
    for (char *at = s->names, *comma; *at && n < HOSTS_MAX; at = comma ? comma + 1 : at + strlen(at)) {
        comma = strchr(at, ',');
        if (comma) {
            *comma = 0;
        }
        s->hosts[n++] = at;
    }
    return PLM_OK;
}

// Whoever listens to others has a certificate and a name. Keys are asked for always.
static plm_status check_public(const struct service *s, plm_error *err) {
    const struct args *c = s->config;
    bool any = strcmp(s->address, "0.0.0.0") == 0 || strcmp(s->address, "::") == 0;
    if (!c->tls_cert != !c->tls_key) {
        return fail(err, PLM_EINVAL, "--tls-cert and --tls-key belong together");
    }
    if (!address_is_loopback(s->address) && !c->tls_cert) {
        return fail(err, PLM_EINVAL, "%s can be reached from elsewhere: that needs --tls-cert and --tls-key",
                    s->address);
    }
    if (any && !c->hosts) {
        return fail(err, PLM_EINVAL, "--hosts says the names that devices know this service by");
    }
    return PLM_OK;
}

static plm_status open_server(struct service *s, plm_error *err) {
    const struct args *c = s->config;
    plm_status st = PLM_OK;
    if (c->tls_cert) {
        st = file_read(c->tls_cert, 1 << 20, &s->cert, err);
        st = st ? st : file_read(c->tls_key, 1 << 20, &s->key, err);
    }
    struct server_options opt = {.address = s->address,
                                 .port = s->port,
                                 .cert = c->tls_cert ? s->cert.data : NULL,
                                 .key = c->tls_cert ? s->key.data : NULL,
                                 .hosts = s->hosts,
                                 .routes = front_routes,
                                 .admit = front_admit,
                                 .ctx = s->front,
                                 .log = front_log};
    return st ? st : server_open(&s->server, &opt, err);
}

/* ---- signals ---- */

static void block_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigprocmask(SIG_BLOCK, set, NULL); // every thread made later inherits it
}

static void wait_for_signal(const sigset_t *set) {
    int number;
    while (sigwait(set, &number)) {
    }
}

static void at_second_signal(int number) {
    (void)number;
    _exit(EXIT_FAILED);
}

static void drain(struct service *s, sigset_t *set) {
    struct log_line l;
    log_begin(&l, "info", "draining");
    log_end(&l);
    signal(SIGTERM, at_second_signal);
    signal(SIGINT, at_second_signal);
    sigprocmask(SIG_UNBLOCK, set, NULL);
    double until = clock_now() + (double)s->config->drain;
    if (s->front) {
        front_drain(s->front);
    }
    if (s->server) {
        server_drain(s->server, 5);
    }
    double left = until - clock_now();
    struct crew_counts counts;
    crew_count(s->crew, &counts);
    log_begin(&l, "info", "stopped");
    log_int(&l, "busy", counts.busy);
    server_close(s->server);
    crew_stop(s->crew, left > 0 ? left : 0);
    log_end(&l);
}

static int run(struct service *s, const char *what) {
    sigset_t set;
    plm_error err = {0};
    block_signals(&set);
    plm_status st = open_ledger(&s->ledger, s->config, &err);
    if (!st && strcmp(what, "worker") == 0 && !ledger_is_shared(s->ledger)) {
        st = fail(&err, PLM_EINVAL, "a worker of its own needs PostgreSQL; with SQLite, serve does the jobs");
    }
    st = st ? st : ledger_own(s->ledger, &err);
    st = st ? st : crew_start(&s->crew, s->config, s->ledger, &err);
    if (!st && s->address[0]) {
        st = front_open(&s->front, s->config, s->ledger, s->crew, &err);
        st = st ? st : open_server(s, &err);
    }
    if (!st) {
        struct log_line l;
        log_begin(&l, "info", "started");
        log_text(&l, "what", what);
        log_text(&l, "teacher", crew_teacher(s->crew));
        if (s->server) {
            log_text(&l, "address", s->address);
            log_int(&l, "port", server_port(s->server));
            log_text(&l, "scheme", s->config->tls_cert ? "https" : "http");
        }
        log_end(&l);
        wait_for_signal(&set);
        drain(s, &set);
        s->server = NULL;
        // What is left belongs to threads that may still run; the process takes it with it.
        exit(EXIT_DONE);
    }
    server_close(s->server);
    crew_stop(s->crew, 0);
    front_close(s->front);
    ledger_close(s->ledger);
    return say_failure(&err);
}

int cmd_serve(struct args *c) {
    struct service s = {.config = c};
    plm_error err = {0};
    if (c->n_rest) {
        return say_misuse("serve", "it takes options alone");
    }
    plm_status st = read_listen(&s, &err);
    st = st ? st : read_hosts(&s, &err);
    st = st ? st : check_public(&s, &err);
    int rc = st ? say_failure(&err) : run(&s, "serve");
    bytes_free(&s.cert);
    bytes_free(&s.key);
    return rc;
}

int cmd_worker(struct args *c) {
    struct service s = {.config = c};
    return c->n_rest ? say_misuse("worker", "it takes options alone") : run(&s, "worker");
}
