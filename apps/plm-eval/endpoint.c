/* endpoint.c: libcurl and server-sent events. No retries, no redirects, no proxy of the environment, and a
 * new connection for every question, as for one that is asked now and then. */
#include "endpoint.h"

#include "base/json.h"

#include <curl/curl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LINE_MOST = 1 << 20, KEY_MOST = 4096, CURL_FDS = PROXY_FDS };

const char *const outcome_names[OUTCOMES] = {"answered", "refused", "timed out", "cut", "rejected"};

struct endpoint {
    CURLM *multi;
    struct curl_slist *headers;
    char url[2048], host[256], *model, *ca;
    int port, max_tokens;
    bool here;
    double timeout;
};

/* ---- one answer ---- */

struct answer {
    struct asked *out;
    struct bytes line, whole; /* of an event stream; of a reply that is none */
    double asked_at, heard_at;
    bool events, finished;
    char trouble[200];
};

static void take_text(struct answer *a, const json_t *choice, const char *part) {
    const json_t *text = json_object_get(json_object_get(choice, part), "content");
    const json_t *finish = json_object_get(choice, "finish_reason");
    if (json_is_string(text) && json_string_length(text)) {
        if (a->out->pieces++ == 0)
            a->out->first = clock_now() - a->asked_at;
    }
    if (json_is_string(finish))
        a->finished = true;
}

/* A piece of an event stream has its text in "delta", a whole reply in "message". */
static void take_document(struct answer *a, const char *text, size_t len, const char *part) {
    json_t *doc = NULL;
    plm_error err;
    if (json_parse(&doc, text, len, "the reply", &err)) {
        snprintf(a->trouble, sizeof a->trouble, "%.190s", err.text);
        return;
    }
    const json_t *problem = json_object_get(doc, "error"), *choices = json_object_get(doc, "choices");
    if (problem) {
        const char *message = json_text(problem, "message");
        snprintf(a->trouble, sizeof a->trouble, "%.190s", message ? message : "an error object");
    } else if (!json_is_array(choices)) {
        snprintf(a->trouble, sizeof a->trouble, "a reply without choices");
    } else if (json_array_size(choices)) {
        take_text(a, json_array_get(choices, 0), part);
    }
    json_decref(doc);
}

static void take_line(struct answer *a) {
    struct str line = str_trim((struct str){a->line.data, a->line.len});
    if (str_starts(line, "data:")) {
        struct str data = str_trim((struct str){line.p + 5, line.n - 5});
        if (str_eq(data, "[DONE]"))
            a->finished = true;
        else if (data.n)
            take_document(a, data.p, data.n, "delta");
    }
    bytes_clear(&a->line);
}

static size_t on_bytes(char *data, size_t one, size_t n, void *ctx) {
    struct answer *a = ctx;
    (void)one;
    a->heard_at = clock_now();
    if (!a->events) {
        bytes_put(&a->whole, data, n);
        return a->whole.st ? 0 : n;
    }
    for (size_t i = 0; i < n; i++) {
        if (data[i] == '\n')
            take_line(a);
        else
            bytes_putc(&a->line, data[i]);
    }
    return a->line.st ? 0 : n;
}

static size_t on_header(char *data, size_t one, size_t n, void *ctx) {
    struct answer *a = ctx;
    static const char type[] = "content-type:", stream[] = "text/event-stream";
    (void)one;
    a->heard_at = clock_now();
    if (n > sizeof type && strncasecmp(data, type, sizeof type - 1) == 0) {
        struct str value = str_trim((struct str){data + sizeof type - 1, n - sizeof type + 1});
        a->events = value.n >= sizeof stream - 1 && strncasecmp(value.p, stream, sizeof stream - 1) == 0;
    }
    return n;
}

/* ---- the wait for it ---- */

/* One turn: the network moves, curl moves, and both wait for what comes next. */
static CURLMcode turn(struct endpoint *e, struct proxy *through, int *running) {
    struct pollfd fds[PROXY_FDS];
    struct curl_waitfd also[CURL_FDS];
    CURLMcode code = curl_multi_perform(e->multi, running);
    if (through)
        proxy_step(through);
    if (code || !*running)
        return code;
    size_t n = through ? proxy_fds(through, fds) : 0;
    for (size_t i = 0; i < n; i++)
        also[i] = (struct curl_waitfd){.fd = fds[i].fd,
                                       .events = (short)((fds[i].events & POLLIN ? CURL_WAIT_POLLIN : 0) |
                                                         (fds[i].events & POLLOUT ? CURL_WAIT_POLLOUT : 0))};
    /* Rounded down: a piece that is due within the millisecond is worth a spin. */
    double wait = fmin(0.05, through ? proxy_wait(through) : 1);
    code = curl_multi_poll(e->multi, also, (unsigned)n, (int)(wait * 1e3), NULL);
    if (through)
        proxy_step(through);
    return code;
}

/* *result is curl's verdict, CURLE_OPERATION_TIMEDOUT also after our own silence. */
static plm_status wait_for_end(struct endpoint *e, struct proxy *through, struct answer *a, CURLcode *result,
                               plm_error *err) {
    int running = 1, left;
    while (running) {
        CURLMcode code = turn(e, through, &running);
        if (code)
            return fail(err, PLM_EIO, "libcurl: %s", curl_multi_strerror(code));
        if (running && clock_now() - a->heard_at > e->timeout) {
            *result = CURLE_OPERATION_TIMEDOUT;
            return PLM_OK;
        }
    }
    CURLMsg *message = curl_multi_info_read(e->multi, &left);
    *result = message ? message->data.result : CURLE_FAILED_INIT;
    return PLM_OK;
}

static bool set_up(const struct endpoint *e, CURL *c, struct curl_slist *to, struct answer *a,
                   const char *body) {
    const char *allowed = e->here ? "http,https" : "https";
    return !curl_easy_setopt(c, CURLOPT_URL, e->url) && !curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) &&
           !curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, allowed) && !curl_easy_setopt(c, CURLOPT_PROXY, "") &&
           !curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) &&
           !curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
           !curl_easy_setopt(c, CURLOPT_FORBID_REUSE, 1L) &&
           !curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L) &&
           !curl_easy_setopt(c, CURLOPT_HTTPHEADER, e->headers) &&
           !curl_easy_setopt(c, CURLOPT_CONNECT_TO, to) && !curl_easy_setopt(c, CURLOPT_POSTFIELDS, body) &&
           (!e->ca || !curl_easy_setopt(c, CURLOPT_CAINFO, e->ca)) &&
           !curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes) &&
           !curl_easy_setopt(c, CURLOPT_WRITEDATA, a) &&
           !curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header) &&
           !curl_easy_setopt(c, CURLOPT_HEADERDATA, a);
}

static void judge(struct answer *a, CURLcode result, long status, const char *host) {
    struct asked *out = a->out;
    out->whole = clock_now() - a->asked_at;
    if (!result && !a->events && a->whole.len)
        take_document(a, a->whole.data, a->whole.len, "message");
    if (!a->events || !out->pieces)
        out->first = out->whole; /* it came in one piece, or it is empty */
    const char *why = curl_easy_strerror(result);
    if (result == CURLE_OPERATION_TIMEDOUT)
        out->outcome = SILENT;
    else if (result == CURLE_COULDNT_CONNECT || result == CURLE_COULDNT_RESOLVE_HOST)
        out->outcome = REFUSED;
    else if (status && status / 100 != 2)
        out->outcome = REJECTED;
    else if (a->trouble[0])
        out->outcome = REJECTED;
    else if (result || !a->finished)
        out->outcome = CUT;
    if (out->outcome == ANSWERED)
        return;
    if (out->outcome == REJECTED && a->trouble[0])
        why = a->trouble;
    else if (out->outcome == CUT && !result)
        why = "the stream ended before the answer did";
    snprintf(out->why, sizeof out->why, "%.100s: status %ld, %.150s", host, status, why);
    out->first = out->whole = NAN;
}

static plm_status write_body(const struct endpoint *e, const char *question, char **body, plm_error *err) {
    json_t *doc = json_pack("{s:[{s:s, s:s}], s:i, s:i, s:b}", "messages", "role", "user", "content",
                            question, "max_tokens", e->max_tokens, "temperature", 0, "stream", 1);
    if (doc && e->model && json_object_set_new(doc, "model", json_string(e->model))) {
        json_decref(doc);
        doc = NULL;
    }
    if (!doc)
        return fail(err, PLM_EINVAL, "a question is not UTF-8 text, or there is no memory for it");
    plm_status st = json_write(doc, body, err);
    json_decref(doc);
    return st;
}

plm_status endpoint_ask(struct endpoint *e, struct proxy *through, const char *question, struct asked *out,
                        plm_error *err) {
    char *body = NULL, route[600];
    *out = (struct asked){.first = NAN, .whole = NAN};
    struct answer a = {.out = out};
    struct curl_slist *to = NULL;
    CURLcode result = CURLE_OK;
    long status = 0;
    plm_status st = write_body(e, question, &body, err);
    if (st)
        return st;
    bytes_init(&a.line, LINE_MOST);
    bytes_init(&a.whole, LINE_MOST);
    snprintf(route, sizeof route, "::127.0.0.1:%d", through ? proxy_port(through) : 0);
    CURL *c = curl_easy_init();
    if (!c || (through && !(to = curl_slist_append(NULL, route))) || !set_up(e, c, to, &a, body)) {
        st = fail(err, PLM_ENOMEM, "libcurl could not be set up");
    } else {
        a.asked_at = a.heard_at = clock_now();
        CURLMcode code = curl_multi_add_handle(e->multi, c);
        st = code ? fail(err, PLM_EIO, "libcurl: %s", curl_multi_strerror(code))
                  : wait_for_end(e, through, &a, &result, err);
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
        if (st == PLM_OK)
            judge(&a, result, status, e->host);
        curl_multi_remove_handle(e->multi, c);
    }
    curl_easy_cleanup(c);
    curl_slist_free_all(to);
    bytes_free(&a.line);
    bytes_free(&a.whole);
    plm_free(body);
    return st;
}

/* ---- opening ---- */

static plm_status read_url(struct endpoint *e, const char *url, plm_error *err) {
    char *host = NULL, *port = NULL, *scheme = NULL, *user = NULL;
    int64_t number = 0;
    size_t end = strlen(url);
    CURLU *u = curl_url();
    while (end && url[end - 1] == '/')
        end--;
    int n = snprintf(e->url, sizeof e->url, "%.*s/chat/completions", (int)end, url);
    plm_status st = PLM_OK;
    if (!u)
        st = fail(err, PLM_ENOMEM, "out of memory");
    else if (n >= (int)sizeof e->url || curl_url_set(u, CURLUPART_URL, e->url, 0) ||
             curl_url_get(u, CURLUPART_HOST, &host, 0) || curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) ||
             curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) || !parse_i64(str_of(port), &number))
        st = fail(err, PLM_EINVAL, "--endpoint takes a URL such as http://127.0.0.1:8000/v1");
    else if (!curl_url_get(u, CURLUPART_USER, &user, 0))
        st = fail(err, PLM_EINVAL, "a user name in --endpoint would be shown: use --endpoint-key");
    if (st == PLM_OK) {
        snprintf(e->host, sizeof e->host, "%s", host);
        e->port = (int)number;
        e->here =
            strcmp(host, "localhost") == 0 || strcmp(host, "127.0.0.1") == 0 || strcmp(host, "[::1]") == 0;
        if (!e->here && strcmp(scheme, "https") != 0)
            st = fail(err, PLM_EINVAL, "%s is another machine: questions go there by https alone", host);
    }
    curl_free(host);
    curl_free(port);
    curl_free(scheme);
    curl_free(user);
    curl_url_cleanup(u);
    return st;
}

static plm_status read_key(struct endpoint *e, const char *file, plm_error *err) {
    struct bytes key;
    char line[KEY_MOST + 64];
    plm_status st = file_read(file, KEY_MOST, &key, err);
    if (st)
        return st;
    struct str one = str_trim((struct str){key.data ? key.data : "", key.len});
    snprintf(line, sizeof line, "Authorization: Bearer %.*s", (int)one.n, one.p);
    struct curl_slist *longer =
        one.n && !memchr(one.p, '\n', one.n) ? curl_slist_append(e->headers, line) : NULL;
    if (longer)
        e->headers = longer;
    else
        st = fail(err, PLM_EFORMAT, "%s: a key is one line", file);
    bytes_free(&key);
    return st;
}

plm_status endpoint_open(struct endpoint **out, const char *url, const char *model, const char *key_file,
                         const char *ca_file, int max_tokens, double timeout, plm_error *err) {
    struct endpoint *e = mem_zero(1, sizeof *e);
    if (!e)
        return fail(err, PLM_ENOMEM, "out of memory");
    e->max_tokens = max_tokens;
    e->timeout = timeout;
    plm_status st = read_url(e, url, err);
    if (st == PLM_OK &&
        (curl_global_init(CURL_GLOBAL_DEFAULT) || !(e->multi = curl_multi_init()) ||
         !(e->headers = curl_slist_append(NULL, "Content-Type: application/json")) ||
         (model && !(e->model = mem_dupz(model))) || (ca_file && !(e->ca = mem_dupz(ca_file)))))
        st = fail(err, PLM_ENOMEM, "libcurl could not be set up");
    if (st == PLM_OK && key_file)
        st = read_key(e, key_file, err);
    if (st)
        endpoint_close(e);
    else
        *out = e;
    return st;
}

void endpoint_close(struct endpoint *e) {
    if (!e)
        return;
    curl_multi_cleanup(e->multi);
    curl_slist_free_all(e->headers);
    mem_free(e->model);
    mem_free(e->ca);
    mem_free(e);
}

const char *endpoint_host(const struct endpoint *e) {
    return e->host;
}

int endpoint_port(const struct endpoint *e) {
    return e->port;
}

bool endpoint_is_here(const struct endpoint *e) {
    return e->here;
}
