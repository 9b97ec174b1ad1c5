/* many.c: several exchanges at once in one thread, over curl's multi interface. One attempt each: whether and
 * where to try again is the caller's affair. */
#include "net/inside.h"

#include <stdio.h>
#include <string.h>

struct flight {
    struct flight *next;
    struct client client;
    struct http_options opt;
    struct exchange x;
    struct bytes body;
    CURL *curl;
    char *url;
    void *tag;
};

struct http_many {
    CURLM *multi;
    struct flight *first;
};

plm_status http_many_open(struct http_many **out, plm_error *err) {
    struct http_many *m = mem_zero(1, sizeof *m);
    if (m && !(m->multi = curl_multi_init())) {
        mem_free(m);
        m = NULL;
    }
    if (!m) {
        return fail(err, PLM_ENOMEM, "no memory for calls");
    }
    *out = m;
    return PLM_OK;
}

static void land(struct http_many *m, struct flight *f) {
    struct flight **at = &m->first;
    while (*at && *at != f) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = f->next;
    }
    if (f->curl) {
        curl_multi_remove_handle(m->multi, f->curl);
        curl_easy_cleanup(f->curl);
    }
    client_close(&f->client);
    bytes_free(&f->body);
    mem_free(f->url);
    mem_free(f);
}

void http_many_close(struct http_many *m) {
    if (m) {
        while (m->first) {
            land(m, m->first);
        }
        curl_multi_cleanup(m->multi);
        mem_free(m);
    }
}

plm_status http_many_start(struct http_many *m, const char *url, const char *body, size_t len,
                           const struct http_options *opt, void *tag, plm_error *err) {
    struct flight *f = mem_zero(1, sizeof *f);
    if (!f) {
        return fail(err, PLM_ENOMEM, "no memory for a call");
    }
    f->next = m->first;
    m->first = f;
    f->tag = tag;
    f->opt = *opt;
    f->url = mem_dupz(url);
    f->client = (struct client){.url = f->url, .opt = &f->opt, .body = body, .len = len};
    bytes_init(&f->body, opt->max_reply ? opt->max_reply : 1 << 20);
    f->x = (struct exchange){
        .body = &f->body, .started = clock_now(), .first_byte_s = or_default(opt->first_byte_s, 60)};
    plm_status st = f->url ? client_open(&f->client, err) : fail(err, PLM_ENOMEM, "no memory for a call");
    f->curl = st ? NULL : curl_easy_init();
    if (!st && (!f->curl || !exchange_options(f->curl, &f->client, &f->x) ||
                curl_easy_setopt(f->curl, CURLOPT_PRIVATE, f) || curl_multi_add_handle(m->multi, f->curl))) {
        st = fail(err, PLM_ENOMEM, "no memory for a call");
    }
    if (st) {
        land(m, f);
    }
    return st;
}

void http_many_cancel(struct http_many *m, const void *tag) {
    struct flight *f = m->first;
    while (f && f->tag != tag) {
        f = f->next;
    }
    if (f) {
        land(m, f);
    }
}

static plm_status take(struct http_many *m, const CURLMsg *msg, struct http_done *done, plm_error *err) {
    struct flight *f = NULL;
    CURLcode code = msg->data.result;
    long status = 0;
    curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &f);
    curl_easy_getinfo(msg->easy_handle, CURLINFO_RESPONSE_CODE, &status);
    *done = (struct http_done){.tag = f->tag, .status = (int)status, .seconds = clock_now() - f->x.started};
    bool no_memory = f->body.st == PLM_ENOMEM || code == CURLE_OUT_OF_MEMORY;
    done->good = !code && status >= 200 && status < 300;
    done->passing = !f->x.too_big && (code ? passing_fault(code) : passing_status((int)status));
    done->retry_after = code ? -1 : retry_after(f->x.retry_after);
    if (!done->good) {
        exchange_tell(&f->client, &f->x, code, (int)status, done->story, sizeof done->story);
    }
    done->body = f->body;
    f->body = (struct bytes){0};
    land(m, f);
    if (no_memory) {
        http_done_free(done);
        return fail(err, PLM_ENOMEM, "no memory for a reply");
    }
    return PLM_OK;
}

plm_status http_many_wait(struct http_many *m, double seconds, struct http_done *done, bool *any,
                          plm_error *err) {
    double until = clock_now() + seconds;
    *any = false;
    for (;;) {
        int running, queued;
        if (curl_multi_perform(m->multi, &running)) {
            return fail(err, PLM_ENOMEM, "libcurl can't go on");
        }
        const CURLMsg *msg;
        while ((msg = curl_multi_info_read(m->multi, &queued))) {
            if (msg->msg == CURLMSG_DONE) {
                *any = true;
                return take(m, msg, done, err);
            }
        }
        double left = until - clock_now();
        if (left <= 0) {
            return PLM_OK;
        }
        // Never longer than a tenth of a second: the limits of time are looked at between.
        curl_multi_poll(m->multi, NULL, 0, left < .1 ? (int)(left * 1000) + 1 : 100, NULL);
    }
}

void http_done_free(struct http_done *d) {
    bytes_free(&d->body);
}
