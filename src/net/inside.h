/* inside.h: what the files of net/ share with each other and with nobody else. */
#ifndef NET_INSIDE_H
#define NET_INSIDE_H
#include <curl/curl.h>

#include "net/net.h"

struct exchange { /* one attempt */
    struct bytes *body;
    double started, first_byte_s;
    bool first_byte, too_slow, too_big;
    char retry_after[80];
};

struct client {
    const char *url;
    char host[300];
    const struct http_options *opt;
    const char *body;
    size_t len;
    struct curl_slist *headers;
    char *auth;
};

/* url, opt, body and len are set; the rest is found. Freed with client_close either way. */
plm_status client_open(struct client *k, plm_error *err);
void client_close(struct client *k);
/* x->body, started and first_byte_s are set. true when every option was taken; curl keeps no copy of the
 * body. */
bool exchange_options(CURL *c, const struct client *k, struct exchange *x);
/* The story of a failed attempt, for people. */
void exchange_tell(const struct client *k, const struct exchange *x, CURLcode code, int status, char *out,
                   size_t cap);
bool passing_status(int status);
bool passing_fault(CURLcode code);
/* Seconds to wait by Retry-After, a number or a date; negative: it says nothing usable. */
double retry_after(const char *text);
double or_default(double value, double usual);
#endif
