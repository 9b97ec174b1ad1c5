/* server.c: routes, limits and answers over libmicrohttpd, which reads the requests. Every limit stands in
 * the tables below. A connection is watched from its first byte: whoever is slow to ask, to send a body or to
 * read the answer is cut off, however busily it drips. */
#include "net/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 16 << 10, STACK_BYTES = 512 << 10, ANSWER_MAX = 64 << 20, RETRY_AFTER_S = 5 };
static const struct server_limits usual = {.connections = 512,
                                           .per_address = 256,
                                           .busy = 128,
                                           .head_s = 10,
                                           .body_s = 30,
                                           .answer_s = 60,
                                           .stream_s = 900,
                                           .bodies = (size_t)128 << 20};
enum { STREAM_BEAT_S = 2 };

enum phase { PHASE_HEAD, PHASE_BODY, PHASE_HANDLING, PHASE_ANSWER, PHASE_STREAM };

struct line { /* a connection that is being watched */
    struct line *next, **at;
    int fd;
    enum phase phase;
    double since;
};

struct server {
    struct MHD_Daemon *daemon;
    struct server_options opt;
    char address[64];
    int port, listening;
    pthread_mutex_t lock; /* of lines and stop */
    pthread_cond_t wake;
    struct line *lines;
    pthread_t watchman;
    bool watched, stop;
    atomic_int busy;
    atomic_size_t bodies;
    atomic_bool draining;
};

struct exchange {
    struct server *server;
    struct MHD_Connection *connection;
    struct line *line;
    const char *method;
    const struct route *route;
    char part[65];
    struct bytes body;
    unsigned seen; /* headers that may be there once, a bit each */
    int refused;   /* a status that was decided before the body was read; 0: none */
    const char *why;
    bool counted; /* among the busy ones */
    double started;
    int64_t retry_after;
    int status;
    const char *type;
    struct bytes answer;
    bool (*next)(void *ctx, struct bytes *out);
    void (*done)(void *ctx);
    void *stream_ctx;
    struct bytes pending; /* of the stream: written, not yet sent */
    size_t sent;
    bool ended;
    double spoke;
};

/* ---- names and addresses ---- */

bool address_is_loopback(const char *address) {
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1) {
        return (ntohl(v4.s_addr) >> 24) == 127;
    }
    return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool name_is(struct str host, const char *name) {
    return host.n == strlen(name) && strncasecmp(host.p, name, host.n) == 0;
}

bool host_allowed(const char *host, const char *address, const char *const *hosts) {
    struct str name = str_of(host);
    const char *colon = strrchr(host, ':'), *bracket = strchr(host, ']');
    if (host[0] == '[' && bracket) {
        name = (struct str){host + 1, (size_t)(bracket - host - 1)};
        if (bracket[1] && bracket[1] != ':') {
            return false;
        }
        colon = bracket[1] ? bracket + 1 : NULL;
    } else if (colon) {
        name.n = (size_t)(colon - host);
    }
    int64_t port;
    if (!name.n || (colon && (!parse_i64(str_of(colon + 1), &port) || port < 1 || port > 65535))) {
        return false;
    }
    bool any = name_is(name, address);
    if (address_is_loopback(address)) {
        any = any || name_is(name, "localhost") || name_is(name, "127.0.0.1") || name_is(name, "::1");
    }
    for (size_t i = 0; !any && hosts && hosts[i]; i++) {
        any = name_is(name, hosts[i]);
    }
    return any;
}

static bool peer_is_local(const struct sockaddr *a) {
    if (a && a->sa_family == AF_INET) {
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    }
    return a && a->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

bool route_matches(const char *pattern, const char *path, char part[65]) {
    part[0] = 0;
    const char *hole = strstr(pattern, "{}");
    if (!hole) {
        return strcmp(pattern, path) == 0;
    }
    size_t head = (size_t)(hole - pattern);
    if (strncmp(pattern, path, head) != 0) {
        return false;
    }
    size_t n = strspn(path + head, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
    if (!n || n > 64 || strcmp(path + head + n, hole + 2) != 0) {
        return false;
    }
    memcpy(part, path + head, n);
    part[n] = 0;
    return true;
}

/* ---- watching connections ---- */

static void line_phase(struct server *s, struct line *l, enum phase phase) {
    if (l) {
        pthread_mutex_lock(&s->lock);
        l->phase = phase;
        l->since = clock_now();
        pthread_mutex_unlock(&s->lock);
    }
}

static double allowed(const struct server *s, const struct line *l) {
    const struct server_limits *m = &s->opt.limits;
    switch (l->phase) {
    case PHASE_HEAD:
        return m->head_s;
    case PHASE_BODY:
        return m->body_s;
    case PHASE_ANSWER:
        return m->answer_s;
    case PHASE_STREAM:
        return m->stream_s;
    default:
        return 1e9; // the handler's own time
    }
}

static void *watch(void *ctx) {
    struct server *s = ctx;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        clock_cond_wait(&s->wake, &s->lock, 1);
        double now = clock_now();
        for (struct line *l = s->lines; l; l = l->next) {
            if (l->fd >= 0 && now - l->since > allowed(s, l)) {
                shutdown(l->fd, SHUT_RDWR);
                l->fd = -1;
            }
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void on_connection(void *ctx, struct MHD_Connection *c, void **slot,
                          enum MHD_ConnectionNotificationCode what) {
    struct server *s = ctx;
    struct line *l = *slot;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        l = info ? mem_zero(1, sizeof *l) : NULL;
        *slot = l;
        if (!l) {
            return; // unwatched, and refused at its first request
        }
        *l = (struct line){.fd = info->connect_fd, .since = clock_now()};
        pthread_mutex_lock(&s->lock);
        l->next = s->lines;
        l->at = &s->lines;
        if (l->next) {
            l->next->at = &l->next;
        }
        s->lines = l;
        pthread_mutex_unlock(&s->lock);
    } else if (l) {
        pthread_mutex_lock(&s->lock);
        *l->at = l->next;
        if (l->next) {
            l->next->at = l->at;
        }
        pthread_mutex_unlock(&s->lock);
        mem_free(l);
        *slot = NULL;
    }
}

/* ---- the request ---- */

const char *exchange_method(const struct exchange *x) {
    return x->method;
}

const char *exchange_part(const struct exchange *x) {
    return x->part;
}

const char *exchange_header(const struct exchange *x, const char *name) {
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

const char *exchange_query(const struct exchange *x, const char *name) {
    return MHD_lookup_connection_value(x->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *exchange_body(const struct exchange *x, size_t *len) {
    *len = x->body.len;
    return x->body.data ? x->body.data : "";
}

const char *exchange_bearer(const struct exchange *x) {
    const char *a = exchange_header(x, "Authorization");
    return a && strncasecmp(a, "Bearer ", 7) == 0 && a[7] ? a + 7 : NULL;
}

bool exchange_is_local(const struct exchange *x) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info && peer_is_local(info->client_addr);
}

/* ---- the answer ---- */

void exchange_text(struct exchange *x, int status, const char *type, const char *text, size_t len) {
    x->status = status;
    x->type = type;
    bytes_clear(&x->answer);
    bytes_put(&x->answer, text, len);
}

void exchange_json(struct exchange *x, int status, const char *json, size_t len) {
    exchange_text(x, status, "application/json", json, len);
}

static const char *type_of(int status) {
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 409:
        return "conflict_error";
    case 429:
        return "rate_limit_error";
    case 503:
        return "unavailable_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

void exchange_error(struct exchange *x, int status, const char *fmt, ...) {
    char text[512];
    struct bytes b;
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    bytes_init(&b, 1 << 14);
    bytes_printf(&b, "{\"error\":{\"code\":%d,\"message\":", status);
    bytes_json(&b, text, strlen(text));
    bytes_printf(&b, ",\"type\":\"%s\"}}\n", type_of(status));
    exchange_json(x, status, b.data ? b.data : "", b.st ? 0 : b.len);
    bytes_free(&b);
}

void exchange_retry_after(struct exchange *x, int64_t seconds) {
    x->retry_after = seconds < 1 ? 1 : seconds;
}

void exchange_stream(struct exchange *x, bool (*next)(void *ctx, struct bytes *out), void (*done)(void *ctx),
                     void *ctx) {
    x->status = 200;
    x->type = "text/event-stream";
    x->next = next;
    x->done = done;
    x->stream_ctx = ctx;
}

static ssize_t read_stream(void *ctx, uint64_t pos, char *buf, size_t max) {
    struct exchange *x = ctx;
    (void)pos;
    while (x->sent == x->pending.len) {
        bytes_clear(&x->pending);
        x->sent = 0;
        if (x->ended || x->server->draining || x->pending.st) {
            return x->pending.st ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
        }
        x->ended = !x->next(x->stream_ctx, &x->pending);
        // A write is the only way to learn that the reader has gone.
        if (!x->pending.len && !x->ended && clock_now() - x->spoke >= STREAM_BEAT_S) {
            bytes_puts(&x->pending, ": \n\n");
        }
        if (x->pending.len) {
            x->spoke = clock_now();
        }
    }
    size_t n = x->pending.len - x->sent < max ? x->pending.len - x->sent : max;
    memcpy(buf, x->pending.data + x->sent, n);
    x->sent += n;
    return (ssize_t)n;
}

static enum MHD_Result send_answer(struct exchange *x) {
    if (!x->next && (x->answer.st || !x->status)) {
        exchange_error(x, 500, "the answer could not be written");
    }
    struct MHD_Response *r =
        x->next ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, read_stream, x, NULL)
                : MHD_create_response_from_buffer(x->answer.len, x->answer.data ? x->answer.data : "",
                                                  MHD_RESPMEM_PERSISTENT);
    if (!r) {
        return MHD_NO;
    }
    char seconds[24];
    bool wait = x->retry_after > 0 || x->status == 429 || x->status == 503;
    snprintf(seconds, sizeof seconds, "%lld",
             (long long)(x->retry_after > 0 ? x->retry_after : RETRY_AFTER_S));
    bool ok = (!x->type || MHD_add_response_header(r, "Content-Type", x->type)) &&
              MHD_add_response_header(r, "Cache-Control", "no-store") &&
              MHD_add_response_header(r, "X-Content-Type-Options", "nosniff") &&
              (!wait || MHD_add_response_header(r, "Retry-After", seconds)) &&
              (x->refused != 400 || MHD_add_response_header(r, "Connection", "close")) &&
              (x->status != 401 || MHD_add_response_header(r, "WWW-Authenticate", "Bearer"));
    line_phase(x->server, x->line, x->next ? PHASE_STREAM : PHASE_ANSWER);
    enum MHD_Result sent = ok ? MHD_queue_response(x->connection, (unsigned)x->status, r) : MHD_NO;
    MHD_destroy_response(r);
    return sent;
}

/* ---- from one to the other ---- */

static void refuse(struct exchange *x, int status, const char *why) {
    if (!x->refused) {
        x->refused = status;
        x->why = why;
    }
}

static const struct route *find_route(struct exchange *x, const char *path) {
    bool known = false;
    for (const struct route *r = x->server->opt.routes; r->method; r++) {
        if (route_matches(r->path, path, x->part)) {
            known = true;
            if (strcmp(r->method, x->method) == 0) {
                return r;
            }
        }
    }
    refuse(x, known ? 405 : 404, known ? "this address does not take that method" : "no such address");
    return NULL;
}

static bool is_json(const char *type) {
    static const char name[] = "application/json";
    size_t n = sizeof name - 1;
    return type && strncasecmp(type, name, n) == 0 && (!type[n] || type[n] == ';' || type[n] == ' ');
}

// What a proxy in front might read otherwise than we do ends the connection.
static enum MHD_Result judge_header(void *ctx, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                    const char *value, size_t len) {
    static const char *const once[] = {"Host",
                                       "Authorization",
                                       "Content-Length",
                                       "Content-Type",
                                       "Transfer-Encoding",
                                       "Idempotency-Key",
                                       "Max-Spend",
                                       "Origin"};
    struct exchange *x = ctx;
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~");
    (void)kind;
    if (!n || n != name_len || (value && strlen(value) != len)) {
        refuse(x, 400, "a header is not as it must be");
    }
    for (unsigned i = 0; i < sizeof once / sizeof *once; i++) {
        if (strcasecmp(name, once[i]) == 0) {
            if (x->seen & 1u << i) {
                refuse(x, 400, "a header that may be there once is there twice");
            }
            x->seen |= 1u << i;
        }
    }
    return MHD_YES;
}

// Everything that the head alone decides. Host first: behind a wrong one stands a page of somebody else's.
static void judge_head(struct exchange *x, const char *path) {
    const struct server_options *o = &x->server->opt;
    const char *host = exchange_header(x, "Host"), *length = exchange_header(x, "Content-Length"),
               *type = exchange_header(x, "Content-Type"), *coding = exchange_header(x, "Transfer-Encoding");
    uint64_t n = 0;
    MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, judge_header, x);
    if (coding && (length || strcasecmp(coding, "chunked") != 0)) {
        refuse(x, 400, "a body comes with a Content-Length or in chunks");
    }
    if (!x->line) {
        refuse(x, 503, "no memory for this connection");
    }
    if (!host || !host_allowed(host, x->server->address, o->hosts)) {
        refuse(x, 421, "this service does not go by that name");
    }
    if (exchange_header(x, "Origin")) {
        refuse(x, 403, "web pages may not call this service");
    }
    x->route = find_route(x, path);
    if (length && !parse_u64(str_of(length), &n)) {
        refuse(x, 400, "Content-Length is no number");
    }
    if (x->route && x->route->body_max && !is_json(type)) {
        refuse(x, 415, "the body must be application/json");
    }
    if (exchange_header(x, "Content-Encoding")) {
        refuse(x, 415, "the body may not be compressed");
    }
    size_t most = x->route ? x->route->body_max : 0;
    bytes_init(&x->body, most ? most : 1);
    if (n > most) {
        refuse(x, 413, most ? "the body is too large" : "this address takes no body");
    }
}

static struct exchange *exchange_new(struct server *s, struct MHD_Connection *c, const char *method) {
    struct exchange *x = mem_zero(1, sizeof *x);
    if (x) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        x->server = s;
        x->connection = c;
        x->line = info ? info->socket_context : NULL;
        x->method = method;
        x->started = x->spoke = clock_now();
        bytes_init(&x->answer, ANSWER_MAX);
        bytes_init(&x->pending, 1 << 20);
    }
    return x;
}

static void serve(struct exchange *x) {
    struct server *s = x->server;
    x->counted = true;
    if (atomic_fetch_add(&s->busy, 1) >= s->opt.limits.busy || s->draining) {
        exchange_error(x, 503, s->draining ? "the service is stopping" : "too many requests at once");
        return;
    }
    line_phase(s, x->line, PHASE_HANDLING);
    x->route->serve(s->opt.ctx, x);
}

static void drop_body(struct exchange *x) {
    atomic_fetch_sub(&x->server->bodies, x->body.len);
    bytes_free(&x->body);
}

static void take_body(struct exchange *x, const char *upload, size_t len) {
    size_t before = x->body.len;
    bytes_put(&x->body, upload, len);
    size_t all = atomic_fetch_add(&x->server->bodies, x->body.len - before) + x->body.len - before;
    if (x->body.st) {
        refuse(x, x->body.st == PLM_ENOMEM ? 503 : 413, "the body is too large");
    } else if (all > x->server->opt.limits.bodies) {
        refuse(x, 503, "too many large requests at once");
    }
    if (x->refused) {
        drop_body(x);
    }
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *path, const char *method,
                                  const char *version, const char *upload, size_t *upload_len, void **slot) {
    struct server *s = ctx;
    struct exchange *x = *slot;
    (void)version;
    if (!x) {
        x = exchange_new(s, c, method);
        if (!x) {
            return MHD_NO;
        }
        *slot = x;
        line_phase(s, x->line, PHASE_BODY);
        judge_head(x, path);
        if (x->refused == 413 || x->refused == 400) {
            exchange_error(x, x->refused, "%s", x->why); // nothing more is read of it
            return send_answer(x);
        }
        bool stranger = !x->refused && x->route->body_max && s->opt.admit && !s->opt.admit(s->opt.ctx, x);
        return stranger ? send_answer(x) : MHD_YES;
    }
    if (*upload_len) {
        if (!x->refused) {
            take_body(x, upload, *upload_len);
        } else if (x->refused == 413) {
            return MHD_NO; // a chunked body without end
        }
        *upload_len = 0;
        return MHD_YES;
    }
    if (x->refused) {
        exchange_error(x, x->refused, "%s", x->why);
    } else {
        serve(x);
    }
    return send_answer(x);
}

static void on_completed(void *ctx, struct MHD_Connection *c, void **slot,
                         enum MHD_RequestTerminationCode how) {
    struct server *s = ctx;
    struct exchange *x = *slot;
    (void)c, (void)how;
    if (!x) {
        return;
    }
    if (x->counted) {
        atomic_fetch_sub(&s->busy, 1);
    }
    if (x->done) {
        x->done(x->stream_ctx);
    }
    if (s->opt.log) {
        s->opt.log(s->opt.ctx, x->method, x->route ? x->route->path : "", x->status, x->answer.len,
                   clock_now() - x->started);
    }
    line_phase(s, x->line, PHASE_HEAD);
    drop_body(x);
    bytes_free(&x->answer);
    bytes_free(&x->pending);
    mem_free(x);
    *slot = NULL;
}

/* ---- opening and closing ---- */

static int or_usual(int value, int other) {
    return value > 0 ? value : other;
}

static plm_status read_address(const struct server_options *o, struct sockaddr_storage *out, socklen_t *len,
                               plm_error *err) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)o->port)};
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, o->address, &v4.sin_addr) == 1) {
        memcpy(out, &v4, sizeof v4);
        *len = sizeof v4;
        return PLM_OK;
    }
    if (inet_pton(AF_INET6, o->address, &v6.sin6_addr) == 1) {
        memcpy(out, &v6, sizeof v6);
        *len = sizeof v6;
        return PLM_OK;
    }
    return fail(err, PLM_EINVAL, "%s is no numeric address to listen at", o->address);
}

static plm_status listen_at(struct server *s, plm_error *err) {
    struct sockaddr_storage a;
    socklen_t len = 0;
    int on = 1;
    plm_status st = read_address(&s->opt, &a, &len, err);
    if (st) {
        return st;
    }
    int fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        (a.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on)) ||
        bind(fd, (struct sockaddr *)&a, len) || listen(fd, 512) ||
        getsockname(fd, (struct sockaddr *)&a, &len)) {
        st = fail(err, PLM_EIO, "can't listen at %s port %d: %s", s->opt.address, s->opt.port,
                  strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return st;
    }
    s->listening = fd;
    s->port = ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)(void *)&a)->sin_port
                                           : ((struct sockaddr_in6 *)(void *)&a)->sin6_port);
    return PLM_OK;
}

static plm_status start(struct server *s, plm_error *err) {
    const struct server_limits *m = &s->opt.limits;
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_ITC |
                     (s->opt.cert ? MHD_USE_TLS : 0u);
    int silent = m->head_s > m->answer_s ? m->head_s : m->answer_s;
    struct MHD_OptionItem options[16] = {
        {MHD_OPTION_LISTEN_SOCKET, s->listening, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, m->connections, NULL},
        {MHD_OPTION_PER_IP_CONNECTION_LIMIT, m->per_address, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEAD_BYTES * 2, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, silent, NULL},
        {MHD_OPTION_THREAD_STACK_SIZE, STACK_BYTES, NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, s},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, s},
        {MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, NULL},
    };
    size_t n = 10;
    if (s->opt.cert) {
        union {
            const char *in;
            void *out;
        } cert = {s->opt.cert}, key = {s->opt.key},
          tls = {"SECURE128:%SERVER_PRECEDENCE:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, cert.out};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, key.out};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, tls.out};
    }
    options[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    s->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, on_request, s, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    if (!s->daemon) {
        return fail(err, PLM_EIO, "the server at %s port %d can't be started%s", s->opt.address, s->port,
                    s->opt.cert ? "; are certificate and key PEM files that fit each other?" : "");
    }
    s->listening = -1; // the daemon's now
    s->watched = pthread_create(&s->watchman, NULL, watch, s) == 0;
    return s->watched ? PLM_OK : fail(err, PLM_ENOMEM, "no thread for the server");
}

plm_status server_open(struct server **out, const struct server_options *opt, plm_error *err) {
    struct server *s = mem_zero(1, sizeof *s);
    if (!s) {
        return fail(err, PLM_ENOMEM, "no memory for a server");
    }
    s->opt = *opt;
    s->listening = -1;
    snprintf(s->address, sizeof s->address, "%s", opt->address);
    struct server_limits *m = &s->opt.limits;
    m->connections = or_usual(m->connections, usual.connections);
    m->per_address = or_usual(m->per_address, usual.per_address);
    m->busy = or_usual(m->busy, usual.busy);
    m->head_s = or_usual(m->head_s, usual.head_s);
    m->body_s = or_usual(m->body_s, usual.body_s);
    m->answer_s = or_usual(m->answer_s, usual.answer_s);
    m->stream_s = or_usual(m->stream_s, usual.stream_s);
    pthread_mutex_init(&s->lock, NULL);
    m->bodies = m->bodies ? m->bodies : usual.bodies;
    clock_cond_init(&s->wake);
    plm_status st = listen_at(s, err);
    st = st ? st : start(s, err);
    if (st) {
        server_close(s);
        return st;
    }
    *out = s;
    return PLM_OK;
}

int server_port(const struct server *s) {
    return s->port;
}

void server_drain(struct server *s, double seconds) {
    double until = clock_now() + seconds;
    s->draining = true;
    int fd = MHD_quiesce_daemon(s->daemon);
    if (fd >= 0) {
        close(fd);
    }
    while (atomic_load(&s->busy) > 0 && clock_now() < until) {
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
}

void server_close(struct server *s) {
    if (!s) {
        return;
    }
    s->draining = true;
    if (s->daemon) {
        MHD_stop_daemon(s->daemon);
    }
    if (s->watched) {
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_signal(&s->wake);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->watchman, NULL);
    }
    if (s->listening >= 0) {
        close(s->listening);
    }
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}
