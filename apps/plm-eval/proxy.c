/* proxy.c: bytes are read as they come, kept until they are due, and then sent on. A direction of a
 * connection is a queue of pieces with the time at which each has crossed the network; the end of the bytes
 * is a piece as well. A network's answer to a full queue is not modelled: the proxy only stops reading. */
#include "proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 16, QUEUE_MOST = 1 << 20, PIECE = 16384, STALL_WITHIN = 3, CONNECT_SECONDS = 10 };

struct piece {
    struct piece *next;
    double due;
    size_t len, sent; /* len 0: the end */
    char data[];
};

struct direction {
    struct piece *first, *last;
    size_t queued;
    bool read_out, over; /* no more comes; the end has been passed on */
};

struct connection {
    int client, server; /* -1: free */
    double opened;      /* when its handshake is over */
    double hold;        /* nothing reaches the client before */
    int stall_at;       /* pieces of the answer before it falls silent; -1: never */
    struct direction up, down;
};

struct proxy {
    int listener, port; /* listener -1: connections are refused */
    struct sockaddr_storage target;
    socklen_t target_size;
    struct network net;
    struct rng rng;
    struct connection c[CONNECTIONS];
    size_t stalled;
};

static void direction_clear(struct direction *d) {
    while (d->first) {
        struct piece *next = d->first->next;
        mem_free(d->first);
        d->first = next;
    }
    *d = (struct direction){.first = NULL};
}

static void drop(struct connection *c) {
    if (c->client >= 0)
        close(c->client);
    if (c->server >= 0)
        close(c->server);
    direction_clear(&c->up);
    direction_clear(&c->down);
    c->client = c->server = -1;
}

static plm_status listen_again(struct proxy *p, plm_error *err) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)p->port)};
    socklen_t size = sizeof here;
    int on = 1;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->listener < 0 || setsockopt(p->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        bind(p->listener, (struct sockaddr *)&here, sizeof here) || listen(p->listener, CONNECTIONS) ||
        getsockname(p->listener, (struct sockaddr *)&here, &size))
        return fail_errno(err, errno, "a proxy on 127.0.0.1");
    p->port = ntohs(here.sin_port);
    return PLM_OK;
}

/* Does anybody listen there? */
static bool answers(const struct addrinfo *a) {
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = CONNECT_SECONDS};
    bool good = fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) &&
                !connect(fd, a->ai_addr, a->ai_addrlen);
    int why = errno == EINPROGRESS ? ETIMEDOUT : errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    return good;
}

/* The first of the host's addresses that answers: "localhost" is often two. */
static plm_status look_up(struct proxy *p, const char *host, int port, plm_error *err) {
    struct addrinfo *found = NULL, want = {.ai_socktype = SOCK_STREAM}, *a;
    char name[16], bare[256];
    size_t n = strlen(host);
    bool six = n > 2 && host[0] == '[' && n < sizeof bare;
    snprintf(name, sizeof name, "%d", port);
    snprintf(bare, sizeof bare, "%.*s", (int)(six ? n - 2 : n), host + six);
    int problem = getaddrinfo(bare, name, &want, &found);
    if (problem)
        return fail(err, PLM_EREMOTE, "%s: %s", host, gai_strerror(problem));
    for (a = found; a && !answers(a); a = a->ai_next) {
    }
    plm_status st = a ? PLM_OK : fail(err, PLM_EREMOTE, "%s port %d: %s", host, port, strerror(errno));
    if (a) {
        memcpy(&p->target, a->ai_addr, a->ai_addrlen);
        p->target_size = a->ai_addrlen;
    }
    freeaddrinfo(found);
    return st;
}

plm_status proxy_open(struct proxy **out, const char *host, int port, uint64_t seed, plm_error *err) {
    struct proxy *p = mem_zero(1, sizeof *p);
    if (!p)
        return fail(err, PLM_ENOMEM, "out of memory");
    p->listener = -1;
    for (int i = 0; i < CONNECTIONS; i++)
        p->c[i].client = p->c[i].server = -1;
    rng_seed(&p->rng, seed, 1);
    plm_status st = look_up(p, host, port, err);
    if (st == PLM_OK)
        st = listen_again(p, err);
    if (st)
        proxy_close(p);
    else
        *out = p;
    return st;
}

void proxy_close(struct proxy *p) {
    if (!p)
        return;
    for (int i = 0; i < CONNECTIONS; i++)
        drop(&p->c[i]);
    if (p->listener >= 0)
        close(p->listener);
    mem_free(p);
}

int proxy_port(const struct proxy *p) {
    return p->port;
}

size_t proxy_stalled(const struct proxy *p) {
    return p->stalled;
}

plm_status proxy_set(struct proxy *p, const struct network *n, plm_error *err) {
    for (int i = 0; i < CONNECTIONS; i++)
        drop(&p->c[i]);
    p->net = *n;
    p->stalled = 0;
    if (n->refuses && p->listener >= 0) {
        close(p->listener);
        p->listener = -1;
    }
    return !n->refuses && p->listener < 0 ? listen_again(p, err) : PLM_OK;
}

/* ---- moving bytes ---- */

static bool put(struct direction *d, const char *data, size_t len, double due) {
    struct piece *piece = mem_alloc(1, sizeof *piece + len);
    if (!piece)
        return false;
    *piece = (struct piece){.due = due, .len = len};
    memcpy(piece->data, data, len);
    if (d->first)
        d->last->next = piece;
    else
        d->first = piece;
    d->last = piece;
    d->queued += len;
    return true;
}

/* When bytes that are here now have crossed to the other side. */
static double crossing(struct proxy *p, struct connection *c, bool up, double now) {
    if (up)
        return fmax(now, c->opened) + p->net.round_trip / 2;
    if (c->stall_at == 0) {
        c->hold = now + p->net.round_trip / 2 + p->net.stall;
        p->stalled++;
    }
    if (c->stall_at >= 0)
        c->stall_at--;
    return fmax(now + p->net.round_trip / 2, c->hold);
}

/* False: the connection is broken. */
static bool read_some(struct proxy *p, struct connection *c, bool up, double now) {
    struct direction *d = up ? &c->up : &c->down;
    char data[PIECE];
    while (!d->read_out && d->queued < QUEUE_MOST) {
        ssize_t n = recv(up ? c->client : c->server, data, sizeof data, 0);
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOTCONN;
        d->read_out = n == 0;
        if (!put(d, data, (size_t)n, crossing(p, c, up, now)))
            return false;
    }
    return true;
}

static bool write_some(struct connection *c, bool up, double now) {
    struct direction *d = up ? &c->up : &c->down;
    int to = up ? c->server : c->client;
    while (d->first && d->first->due <= now) {
        struct piece *piece = d->first;
        if (piece->len == 0) {
            d->over = true;
            if (shutdown(to, SHUT_WR) && errno != ENOTCONN)
                return false;
        }
        ssize_t n =
            piece->len ? send(to, piece->data + piece->sent, piece->len - piece->sent, MSG_NOSIGNAL) : 0;
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOTCONN;
        piece->sent += (size_t)n;
        if (piece->sent < piece->len)
            return true;
        d->queued -= piece->len;
        d->first = piece->next;
        mem_free(piece);
    }
    return true;
}

static void accept_one(struct proxy *p, struct connection *c, double now) {
    int on = 1;
    c->client = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (c->client < 0)
        return;
    bool stalls = rng_unit(&p->rng) < p->net.stalls;
    /* Half of the stalls come before the first piece of the answer. */
    int at = rng_below(&p->rng, 2) ? 0 : 1 + (int)rng_below(&p->rng, STALL_WITHIN);
    c->opened = now + p->net.round_trip;
    c->hold = 0;
    c->stall_at = stalls ? at : -1;
    c->server = socket(p->target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool good = c->server >= 0 && !setsockopt(c->client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) &&
                !setsockopt(c->server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!good || (connect(c->server, (struct sockaddr *)&p->target, p->target_size) && errno != EINPROGRESS))
        drop(c);
}

void proxy_step(struct proxy *p) {
    double now = clock_now();
    for (int i = 0; i < CONNECTIONS; i++) {
        struct connection *c = &p->c[i];
        if (c->client < 0 && p->listener >= 0)
            accept_one(p, c, now);
        if (c->client < 0)
            continue;
        bool good = read_some(p, c, true, now) && read_some(p, c, false, now) && write_some(c, true, now) &&
                    write_some(c, false, now);
        if (!good || (c->up.over && c->down.over))
            drop(c);
    }
}

double proxy_wait(const struct proxy *p) {
    double next = INFINITY;
    for (int i = 0; i < CONNECTIONS; i++) {
        if (p->c[i].up.first)
            next = fmin(next, p->c[i].up.first->due);
        if (p->c[i].down.first)
            next = fmin(next, p->c[i].down.first->due);
    }
    return fmax(0, next - clock_now());
}

static short events(const struct direction *from, const struct direction *to, double now) {
    bool due = to->first && to->first->due <= now;
    return (short)((from->read_out || from->queued >= QUEUE_MOST ? 0 : POLLIN) | (due ? POLLOUT : 0));
}

size_t proxy_fds(const struct proxy *p, struct pollfd out[PROXY_FDS]) {
    double now = clock_now();
    size_t n = 0;
    if (p->listener >= 0)
        out[n++] = (struct pollfd){.fd = p->listener, .events = POLLIN};
    for (int i = 0; i < CONNECTIONS; i++) {
        const struct connection *c = &p->c[i];
        if (c->client < 0)
            continue;
        short client = events(&c->up, &c->down, now), server = events(&c->down, &c->up, now);
        if (client)
            out[n++] = (struct pollfd){.fd = c->client, .events = client};
        if (server)
            out[n++] = (struct pollfd){.fd = c->server, .events = server};
    }
    return n;
}
