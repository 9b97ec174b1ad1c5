/* client.c: one request at a time, tried again where that may help. */
#include "net/inside.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { THROTTLED_MAX = 20 };

static CURLcode attempt(const struct client *k, struct exchange *x, struct http_reply *out) {
    CURL *c = curl_easy_init();
    long status = 0;
    if (!c) {
        return CURLE_OUT_OF_MEMORY;
    }
    bytes_clear(x->body);
    CURLcode code = exchange_options(c, k, x) ? curl_easy_perform(c) : CURLE_FAILED_INIT;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    out->status = (int)status;
    curl_easy_cleanup(c);
    return code;
}

static void sleep_for(double seconds) {
    struct timespec t = {(time_t)seconds, (long)(fmod(seconds, 1) * 1e9)};
    while (nanosleep(&t, &t)) {
    }
}

// Equal jitter: half of the doubled step for certain, half by chance; at least what the host asked for.
static double wait_time(const struct client *k, struct rng *r, int failures, double asked) {
    double step = ldexp(or_default(k->opt->retry_s, 1), failures - 1);
    step = step > 30 ? 30 : step;
    double wait = step / 2 + rng_unit(r) * step / 2;
    return asked > wait ? asked : wait;
}

static plm_status post(const struct client *k, struct http_reply *out, plm_error *err) {
    int left = k->opt->attempts > 0 ? k->opt->attempts : 4, throttled = 0;
    struct rng r;
    rng_seed(&r, k->opt->seed, 77);
    for (;;) {
        struct exchange x = {
            .body = &out->body, .started = clock_now(), .first_byte_s = or_default(k->opt->first_byte_s, 60)};
        CURLcode code = attempt(k, &x, out);
        out->attempts++;
        if (!code && out->status >= 200 && out->status < 300) {
            return PLM_OK;
        }
        char story[800];
        double asked = retry_after(x.retry_after);
        exchange_tell(k, &x, code, out->status, story, sizeof story);
        if (out->body.st == PLM_ENOMEM || code == CURLE_OUT_OF_MEMORY) {
            return fail(err, PLM_ENOMEM, "no memory for a reply of %s", k->host);
        }
        // To be told when to come back is no failure, within reason.
        bool told = !code && out->status == 429 && asked >= 0 && throttled++ < THROTTLED_MAX;
        left -= !told;
        if (!(code ? passing_fault(code) : passing_status(out->status)) || x.too_big || left <= 0) {
            return fail(err, PLM_EREMOTE, "%s", story);
        }
        double wait = wait_time(k, &r, out->attempts, asked);
        if (k->opt->waiting && k->opt->waiting(k->opt->ctx, story, wait)) {
            return fail(err, PLM_ESTOPPED, "stopped while waiting for %s", k->host);
        }
        sleep_for(wait);
    }
}

plm_status http_send(const char *url, const char *body, size_t len, const struct http_options *opt,
                     struct http_reply *out, plm_error *err) {
    static const struct http_options usual = {0};
    struct client k = {.url = url, .opt = opt ? opt : &usual, .body = body, .len = len};
    double from = clock_now();
    *out = (struct http_reply){0};
    bytes_init(&out->body, k.opt->max_reply ? k.opt->max_reply : 1 << 20);
    plm_status st = client_open(&k, err);
    st = st ? st : post(&k, out, err);
    out->seconds = clock_now() - from;
    client_close(&k);
    return st;
}

void http_reply_free(struct http_reply *r) {
    bytes_free(&r->body);
    *r = (struct http_reply){0};
}
