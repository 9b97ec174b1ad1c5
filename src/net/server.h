/* server.h: the second door of net/: an HTTP server, thin over libmicrohttpd, that knows routes and limits
 * and nothing of what is served. Each connection has a thread of its own, so a handler may wait; a watchman
 * shuts connections that take too long to ask or to read. Whatever is refused is a JSON error object:
 * {"error": {"code": 429, "message": "...", "type": "..."}}. */
#ifndef NET_SERVER_H
#define NET_SERVER_H
#include "base/base.h"

/* ---- a request and its answer ---- */
struct exchange;
const char *exchange_method(const struct exchange *x);
/* What stands in the path for the route's {}: 1 to 64 letters, digits, '-' and '_'. "" where it has none. */
const char *exchange_part(const struct exchange *x);
const char *exchange_header(const struct exchange *x, const char *name); /* NULL: absent */
const char *exchange_query(const struct exchange *x, const char *name);  /* NULL: absent */
const char *exchange_body(const struct exchange *x, size_t *len);        /* NUL-terminated */
/* The token of "Authorization: Bearer"; NULL: none. */
const char *exchange_bearer(const struct exchange *x);
bool exchange_is_local(const struct exchange *x); /* the peer is this machine */

/* One answer an exchange; the last one stands. Bodies are copied. */
void exchange_json(struct exchange *x, int status, const char *json, size_t len);
void exchange_text(struct exchange *x, int status, const char *type, const char *text, size_t len);
void exchange_error(struct exchange *x, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* "Retry-After: seconds" beside whatever is answered; 429 and 503 get one of 5 by themselves. */
void exchange_retry_after(struct exchange *x, int64_t seconds);
/* A stream of text/event-stream. next appends what there is to say now and may wait up to a second; it
 * returns false after the last of it. A comment keeps silent streams alive. done gets ctx in any case, once.
 */
void exchange_stream(struct exchange *x, bool (*next)(void *ctx, struct bytes *out), void (*done)(void *ctx),
                     void *ctx);

/* ---- the server ---- */
struct route {
    const char *method, *path; /* a path of the table's own, "/v1/jobs/{}/events"; {}: one segment */
    void (*serve)(void *ctx, struct exchange *x);
    size_t body_max; /* 0: takes no body. Bodies are application/json */
};

/* Zero: the default behind it. */
struct server_limits {
    int connections, per_address; /* 512, 256 */
    int busy; /* requests that are being handled at once, streams too: 128; more get 503 */
    int head_s, body_s, answer_s, stream_s; /* 10, 30, 60, 900 */
    size_t bodies; /* bytes of all bodies that are being read or handled: 128 MiB; more get 503 */
};

struct server_options {
    const char *address;        /* numeric, "127.0.0.1" or "::1" */
    int port;                   /* 0: any free one */
    const char *cert, *key;     /* PEM texts; NULL: no TLS */
    const char *const *hosts;   /* names a Host header may have, ended by NULL, beside those of a loopback
                                   address; NULL: none */
    const struct route *routes; /* ended by a NULL method; outlives the server */
    /* Before a body is read: may whoever sends it? false: it has been answered. NULL: everybody may. */
    bool (*admit)(void *ctx, struct exchange *x);
    void *ctx; /* of every handler */
    /* each finished request; may be NULL. route: its path in the table, or "" */
    void (*log)(void *ctx, const char *method, const char *route, int status, size_t bytes, double seconds);
    struct server_limits limits;
};

struct server;
plm_status server_open(struct server **out, const struct server_options *opt, plm_error *err);
int server_port(const struct server *s);
/* Takes no new connections, ends streams, and waits up to that long for what is being handled. */
void server_drain(struct server *s, double seconds);
void server_close(struct server *s);

/* Is this a loopback address ("127.x.y.z", "::1")? */
bool address_is_loopback(const char *address);
/* Host headers: does name (without its port) stand for this address or one of hosts? */
bool host_allowed(const char *host, const char *address, const char *const *hosts);
/* Does the path match the pattern? part gets what stands for {}. */
bool route_matches(const char *pattern, const char *path, char part[65]);
#endif
