/* proxy.h: a TCP proxy on loopback that makes a network of seeded faults: round trips, stalls and refused
 * connections. It has no thread: whoever waits for a reply waits for proxy_fds as well, and calls proxy_step.
 */
#ifndef PLM_EVAL_PROXY_H
#define PLM_EVAL_PROXY_H
#include "base/base.h"

#include <poll.h>

struct network {
    double round_trip; /* seconds; opening a connection takes one, each way of the bytes half of one */
    double stalls;     /* share of the connections that fall silent once, with an answer under way */
    double stall;      /* for so many seconds */
    bool refuses;      /* connections are refused */
};

struct proxy;
/* To the first address of host that answers on port. seed: of which connections stall, and when in their
 * answer. */
plm_status proxy_open(struct proxy **out, const char *host, int port, uint64_t seed, plm_error *err);
void proxy_close(struct proxy *p);
int proxy_port(const struct proxy *p); /* on 127.0.0.1, the same for ever */
/* For the connections from now on; those that are open are dropped. */
plm_status proxy_set(struct proxy *p, const struct network *n, plm_error *err);

enum { PROXY_FDS = 33 };
/* What to wait for. Returns how many. */
size_t proxy_fds(const struct proxy *p, struct pollfd out[PROXY_FDS]);
double proxy_wait(const struct proxy *p);    /* and so many seconds at most */
void proxy_step(struct proxy *p);            /* moves what is ready and due; never waits */
size_t proxy_stalled(const struct proxy *p); /* connections that have stalled since proxy_set */
#endif
