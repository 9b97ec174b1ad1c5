/* fleet.h: several addresses of one service, and many calls over them. For teacher_http.c and
 * teacher_batch.c. */
#ifndef SYNTH_FLEET_H
#define SYNTH_FLEET_H
#include "net/net.h"
#include "synth/inside.h"

enum { ADDRESSES_MAX = 16, LATENCIES = 32 };

struct address {
    char *chat, *models; /* where calls go; what shows that it is alive */
    double weight;
    int flying;
    /* As many calls at once as bring more: one more for each good reply until the first trouble, then one
     * more a round; half as many after trouble; none more while replies take twice as long as the quickest.
     */
    double window, cut_at, quickest; /* seconds a token */
    bool past_first_cut;
    /* The breaker. After FAILURES_MAX failures in a row nothing is sent until a probe is answered, and then
     * one call alone until it is. */
    int failures;
    bool open, trying, dead; /* dead: refuses for good */
    double open_until, cool;
    double paused_until; /* by Retry-After */
    int schema;          /* does it take response_format? 0: not known, 1: yes, -1: no */
    size_t sent;
};

struct remote {
    char *name, *key;
    struct address a[ADDRESSES_MAX];
    size_t n;
    int parallel;
    struct cap cap;
    double cost_in, cost_out;
    double retry_s;
    plm_teacher_usage used;
    double latency[LATENCIES];
    size_t n_latency;
    int (*waiting)(void *ctx, const char *why, double seconds);
    void *ctx;
    struct http_many *many;
};

/* The reply of a service, or its refusal of this one call. */
plm_status remote_read(struct remote *r, const struct http_done *d, size_t sent, plm_answer *out,
                       plm_error *err);
double remote_reserve(const struct remote *r, size_t len, int max_tokens); /* what a call may cost */
plm_status fleet_ask(struct remote *r, const struct batch *b, plm_error *err);
#endif
