/* net.h: the door of net/. HTTP and nothing about language models: thin over libcurl. */
#ifndef NET_NET_H
#define NET_NET_H
#include "base/base.h"

struct http_options {
    const char *method;         /* NULL: POST; GET and DELETE send no body */
    const char *const *headers; /* further "Name: value" lines, ended by NULL; NULL: none */
    const char *ca_file;        /* PEM of the authorities to trust; NULL: those of the system */
    const char *bearer; /* Authorization: Bearer; NULL: none. Never logged, never sent to another host */
    double connect_s, first_byte_s, total_s; /* 0: 5, 60, 120 */
    size_t max_reply;                        /* 0: 1 MiB */
    int attempts;                            /* 0: 4; a 429 that says when to come back is not one */
    double retry_s; /* first wait between attempts, doubled each time up to 30; 0: 1 */
    uint64_t seed;  /* of the retry jitter */
    /* each attempt's story on one line, and how long it will wait; may be NULL; nonzero stops */
    int (*waiting)(void *ctx, const char *why, double seconds);
    void *ctx;
};

struct http_reply {
    int status;
    struct bytes body;
    double seconds;
    int attempts;
};

/* Sends a JSON body, or none. Retries 408, 409, 429, 500, 502, 503, 504, 529 and transport failures with
 * jitter, honouring Retry-After (at most 10 minutes). Redirects are not followed. https, or http to loopback
 * only. PLM_EREMOTE names the host and what it said; the reply is freed with http_reply_free either way. */
plm_status http_send(const char *url, const char *body, size_t len, const struct http_options *opt,
                     struct http_reply *out, plm_error *err);
/* https, or http to this machine; no user name in it. loopback (may be NULL): is it this machine? */
plm_status http_check_url(const char *url, bool *loopback, plm_error *err);
void http_reply_free(struct http_reply *r);

/* ---- several at once, from one thread ---- */

struct http_many;
struct http_done {
    void *tag;
    int status;
    bool good, passing;          /* a 2xx; a failure that may pass */
    double seconds, retry_after; /* what the host asked for; negative: nothing */
    struct bytes body;
    char story[800]; /* what went wrong, for people */
};
plm_status http_many_open(struct http_many **out, plm_error *err);
void http_many_close(struct http_many *m); /* cancels what is under way */
/* One attempt; body stays the caller's until it is done or cancelled. */
plm_status http_many_start(struct http_many *m, const char *url, const char *body, size_t len,
                           const struct http_options *opt, void *tag, plm_error *err);
void http_many_cancel(struct http_many *m, const void *tag);
/* The next one that is done, within so many seconds; *any false: none. Freed with http_done_free. */
plm_status http_many_wait(struct http_many *m, double seconds, struct http_done *done, bool *any,
                          plm_error *err);
void http_done_free(struct http_done *d);
#endif
