/* exchange.c: one request and its reply over libcurl, with every limit stated: time to connect, to the first
 * byte and in all, bytes of the reply. Certificates are always checked, redirects and proxies never followed,
 * and the key goes to the host of the address and into no message. */
#include "net/inside.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { RETRY_AFTER_MAX = 600, SNIPPET = 200 };

static CURLcode started;

static void start_curl(void) {
    started = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- the address ---- */

static bool is_loopback(const char *host) {
    size_t n = strlen(host);
    bool v4 = strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == n;
    return v4 || strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 || strcmp(host, "::1") == 0;
}

static plm_status check_url(CURLU *u, const char *url, char host[300], plm_error *err) {
    for (const char *c = url; *c; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7F) {
            return fail(err, PLM_EINVAL, "the address of the service holds a blank or a control character");
        }
    }
    char *scheme = NULL, *name = NULL, *user = NULL;
    bool parsed = curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                  curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                  curl_url_get(u, CURLUPART_HOST, &name, 0) == CURLUE_OK;
    bool with_user = parsed && curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK;
    plm_status st = PLM_OK;
    if (!parsed || strlen(name) >= 290) {
        st = fail(err, PLM_EINVAL, "%s is no address of a service", url);
    } else if (with_user) {
        st = fail(err, PLM_EINVAL, "an address with a user name or password in it is not used");
    } else if (strcmp(scheme, "https") != 0 && !(strcmp(scheme, "http") == 0 && is_loopback(name))) {
        st = fail(err, PLM_EINVAL, "%s: only https is used, or http to this machine", name);
    } else {
        strcpy(host, name);
    }
    curl_free(scheme);
    curl_free(name);
    curl_free(user);
    return st;
}

plm_status http_check_url(const char *url, bool *loopback, plm_error *err) {
    char host[300] = "";
    CURLU *u = curl_url();
    plm_status st = u ? check_url(u, url, host, err) : fail(err, PLM_ENOMEM, "no memory for an address");
    if (!st && loopback) {
        *loopback = is_loopback(host);
    }
    curl_url_cleanup(u);
    return st;
}

/* ---- one attempt ---- */

static size_t on_body(char *data, size_t size, size_t n, void *ctx) {
    struct exchange *x = ctx;
    size_t len = size * n;
    x->first_byte = true;
    if (len > x->body->max - x->body->len) {
        x->too_big = true;
        return 0;
    }
    bytes_put(x->body, data, len);
    return x->body->st ? 0 : len;
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx) {
    static const char name[] = "retry-after:";
    struct exchange *x = ctx;
    size_t len = size * n, at = sizeof name - 1;
    x->first_byte = true;
    if (len > at && strncasecmp(data, name, at) == 0) {
        struct str v = str_trim((struct str){data + at, len - at});
        size_t keep = v.n < sizeof x->retry_after ? v.n : 0;
        memcpy(x->retry_after, v.p, keep);
        x->retry_after[keep] = 0;
    }
    return len;
}

static int on_progress(void *ctx, curl_off_t dt, curl_off_t dn, curl_off_t ut, curl_off_t un) {
    struct exchange *x = ctx;
    (void)dt, (void)dn, (void)ut, (void)un;
    x->too_slow = !x->first_byte && clock_now() - x->started > x->first_byte_s;
    return x->too_slow;
}

double or_default(double value, double usual) {
    return value > 0 ? value : usual;
}

// true when every option was taken; curl keeps no copy of the body.
bool exchange_options(CURL *c, const struct client *k, struct exchange *x) {
    const struct http_options *o = k->opt;
    long connect_ms = lround(or_default(o->connect_s, 5) * 1000),
         total_ms = lround(or_default(o->total_s, 120) * 1000);
    bool ok = !curl_easy_setopt(c, CURLOPT_URL, k->url) &&
              !curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    ok = ok && !curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L) &&
         !curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) && !curl_easy_setopt(c, CURLOPT_PROXY, "") &&
         !curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) &&
         !curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L) &&
         !curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L) &&
         !curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
         !curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, connect_ms) &&
         !curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, total_ms) &&
         !curl_easy_setopt(c, CURLOPT_HTTPHEADER, k->headers);
    if (o->method && strcmp(o->method, "POST") != 0) {
        ok = ok && !curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, o->method);
    } else {
        ok = ok && !curl_easy_setopt(c, CURLOPT_POST, 1L) &&
             !curl_easy_setopt(c, CURLOPT_POSTFIELDS, k->body) &&
             !curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)k->len);
    }
    ok = ok && (!o->ca_file || !curl_easy_setopt(c, CURLOPT_CAINFO, o->ca_file)) &&
         !curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) && !curl_easy_setopt(c, CURLOPT_WRITEDATA, x) &&
         !curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header) &&
         !curl_easy_setopt(c, CURLOPT_HEADERDATA, x) &&
         !curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress) &&
         !curl_easy_setopt(c, CURLOPT_XFERINFODATA, x) && !curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    return ok;
}

/* ---- what it means ---- */

bool passing_status(int status) {
    return status == 408 || status == 409 || status == 429 || status == 500 || status == 502 ||
           status == 503 || status == 504 || status == 529;
}

bool passing_fault(CURLcode code) {
    return code != CURLE_OUT_OF_MEMORY && code != CURLE_FAILED_INIT &&
           code != CURLE_PEER_FAILED_VERIFICATION && code != CURLE_SSL_CACERT_BADFILE &&
           code != CURLE_UNSUPPORTED_PROTOCOL && code != CURLE_URL_MALFORMAT && code != CURLE_WRITE_ERROR;
}

// Seconds to wait by Retry-After, a number or a date; negative: it says nothing usable.
double retry_after(const char *text) {
    int64_t seconds;
    if (!*text) {
        return -1;
    }
    if (parse_i64(str_of(text), &seconds)) {
        return seconds < 0 ? -1 : seconds > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : (double)seconds;
    }
    time_t date = isalpha((unsigned char)*text) ? curl_getdate(text, NULL) : -1;
    if (date == -1) {
        return -1;
    }
    int64_t wait = (int64_t)date - clock_wall();
    return wait < 0 ? 0 : wait > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : (double)wait;
}

// What the host said, on one line and without the key.
static void snippet(const struct client *k, const struct bytes *body, char out[SNIPPET + 8]) {
    size_t n = 0;
    const char *key = k->opt->bearer;
    size_t key_len = key ? strlen(key) : 0;
    for (size_t i = 0; i < body->len && n < SNIPPET; i++) {
        if (key_len >= 4 && body->len - i >= key_len && memcmp(body->data + i, key, key_len) == 0) {
            memcpy(out + n, "...", 3);
            n += 3;
            i += key_len - 1;
            continue;
        }
        unsigned char c = (unsigned char)body->data[i];
        bool blank = c <= ' ' || c == 0x7F;
        if (!blank || (n && out[n - 1] != ' ')) {
            out[n++] = blank ? ' ' : (char)c;
        }
    }
    n = utf8_whole(out, n);
    out[n] = 0;
}

static const char *status_means(int status) {
    switch (status) {
    case 400:
        return "does not accept the request";
    case 401:
    case 403:
        return "does not accept the key";
    case 404:
        return "does not know this address or model";
    case 413:
        return "says that the request is too large";
    case 429:
        return "asks for fewer requests";
    default:
        return status >= 300 && status < 400 ? "points to another address, which is not followed"
               : status >= 500               ? "has a fault of its own"
                                             : "refuses";
    }
}

// The story of a failed attempt, for people.
void exchange_tell(const struct client *k, const struct exchange *x, CURLcode code, int status, char *out,
                   size_t cap) {
    if (x->too_big) {
        snprintf(out, cap, "%s sent more than %zu KiB", k->host, x->body->max >> 10);
    } else if (x->too_slow || (code == CURLE_OPERATION_TIMEDOUT && status)) {
        snprintf(out, cap, "%s took too long to answer", k->host);
    } else if (code) {
        snprintf(out, cap, "%s: %s", k->host, curl_easy_strerror(code));
    } else {
        char said[SNIPPET + 8];
        snippet(k, x->body, said);
        snprintf(out, cap, "%s %s (%d)%s%s", k->host, status_means(status), status, *said ? ": " : "", said);
    }
}

/* ---- before it ---- */

static plm_status prepare(struct client *k, CURLU *u, plm_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    if (started || !u) {
        return fail(err, PLM_ENOMEM, "libcurl can't be started");
    }
    plm_status st = check_url(u, k->url, k->host, err);
    const char *key = k->opt->bearer;
    for (const char *c = key; !st && c && *c; c++) {
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7F) {
            st = fail(err, PLM_EINVAL, "the key holds a character that no key has");
        }
    }
    if (st) {
        return st;
    }
    struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
    struct curl_slist *more = list ? curl_slist_append(list, "Expect:") : NULL;
    k->headers = list;
    if (more && key) {
        size_t n = strlen(key) + 32;
        k->auth = mem_alloc(n, 1);
        if (k->auth) {
            snprintf(k->auth, n, "Authorization: Bearer %s", key);
        }
        more = k->auth ? curl_slist_append(list, k->auth) : NULL;
    }
    for (size_t i = 0; more && k->opt->headers && k->opt->headers[i]; i++) {
        more = curl_slist_append(list, k->opt->headers[i]);
    }
    return more ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a request");
}

plm_status client_open(struct client *k, plm_error *err) {
    CURLU *u = curl_url();
    plm_status st = prepare(k, u, err);
    curl_url_cleanup(u);
    return st;
}

void client_close(struct client *k) {
    curl_slist_free_all(k->headers);
    if (k->auth) {
        explicit_bzero(k->auth, strlen(k->auth));
    }
    mem_free(k->auth);
    k->headers = NULL;
    k->auth = NULL;
}
