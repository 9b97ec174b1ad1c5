/* cloud.c: a teacher that is a plm-cloud service: the request goes there as it stands, the service makes the
 * calls, and the candidates come back. The request's id names the job, so that whoever is stopped and starts
 * again finds the job it began. The service may delete the job once the candidates are stored here
 * (cloud_settle), and does so by itself after its retention. What it says is hostile until read. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "net/net.h"
#include "synth/inside.h"

enum { POLL_MS = 300, POLL_MAX_MS = 5000, ATTEMPTS = 6, PATH_MAX_BYTES = 200 };

struct cloud {
    char *url, *key, *ca_file; /* url: "https://host:port", nothing behind it */
    char job[65];              /* of the last run; "": none */
    char *terms;
    bool capable;
    double max_cost, cost_in, cost_out; /* cap on all runs; what a million tokens cost there */
    plm_teacher_usage used, now;        /* in all; of the job under way */
    int (*waiting)(void *ctx, const char *why, double seconds);
    void *ctx;
};

bool cloud_spec(const char *spec) {
    return str_starts(str_of(spec), "plm+http");
}

/* ---- one request ---- */

static plm_status send(struct cloud *c, const char *method, const char *path, const char *body,
                       const char *const *headers, size_t max, struct http_reply *out, plm_error *err) {
    char url[1024];
    if (snprintf(url, sizeof url, "%s%s", c->url, path) >= (int)sizeof url) {
        return fail(err, PLM_ELIMIT, "the service's address is too long");
    }
    struct http_options how = {.method = method,
                               .headers = headers,
                               .ca_file = c->ca_file,
                               .bearer = c->key,
                               .attempts = ATTEMPTS,
                               .max_reply = max,
                               .waiting = c->waiting,
                               .ctx = c->ctx};
    return http_send(url, body, body ? strlen(body) : 0, &how, out, err);
}

static plm_status send_json(struct cloud *c, const char *method, const char *path, const char *body,
                            const char *const *headers, json_t **doc, plm_error *err) {
    struct http_reply reply;
    plm_status st = send(c, method, path, body, headers, 0, &reply, err);
    *doc = NULL;
    if (!st) {
        st = json_parse(doc, reply.body.data ? reply.body.data : "", reply.body.len, "the service's answer",
                        err);
    }
    if (!st && !json_is_object(*doc)) {
        st = fail(err, PLM_EREMOTE, "the service's answer is no object");
    }
    http_reply_free(&reply);
    return st == PLM_EFORMAT ? PLM_EREMOTE : st;
}

/* ---- opening: what service is it? ---- */

static plm_status meet(struct cloud *c, char **name, plm_error *err) {
    json_t *doc;
    plm_status st = send_json(c, "GET", "/v1/service", NULL, NULL, &doc, err);
    if (st) {
        return st;
    }
    const char *teacher = json_text(doc, "teacher"), *terms = json_text(doc, "terms");
    const json_t *version = json_object_get(doc, "version"), *in = json_object_get(doc, "cost_in"),
                 *out = json_object_get(doc, "cost_out");
    if (!json_is_integer(version) || json_integer_value(version) != WIRE_VERSION || !teacher ||
        strlen(teacher) > 256) {
        st = fail(err, PLM_EREMOTE, "this is no plm-cloud service of version %d", WIRE_VERSION);
    } else if (c->max_cost > 0 && !(json_is_number(in) && json_is_number(out))) {
        st = fail(err, PLM_ENOTSUP, "the service names no prices, and so can't hold a cap on costs");
    } else {
        c->cost_in = json_number_value(in);
        c->cost_out = json_number_value(out);
        c->capable = json_is_true(json_object_get(doc, "capable"));
        *name = mem_dupz(*teacher ? teacher : "plm-cloud");
        c->terms = mem_dup(terms ? terms : "", terms ? utf8_whole(terms, strnlen(terms, 1000)) : 0);
        st = *name && c->terms ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a teacher");
    }
    json_decref(doc);
    return st;
}

plm_status cloud_open(struct cloud **out, const plm_teacher_options *opt, char **name, bool *loopback,
                      bool *capable, plm_error *err) {
    const char *url = opt->spec + 4; // behind "plm+"
    size_t n = strlen(url);
    plm_status st = http_check_url(url, loopback, err);
    if (st) {
        return st;
    }
    while (n && url[n - 1] == '/') {
        n--;
    }
    if (!opt->key) {
        return fail(err, PLM_EINVAL, "the service at %s needs a key: --teacher-key FILE or $PLM_TEACHER_KEY",
                    url);
    }
    struct cloud *c = mem_zero(1, sizeof *c);
    if (c) {
        c->url = mem_dup(url, n);
        c->key = mem_dupz(opt->key);
        c->ca_file = opt->ca_file ? mem_dupz(opt->ca_file) : NULL;
        c->max_cost = opt->max_cost;
        c->waiting = opt->waiting;
        c->ctx = opt->ctx;
    }
    bool whole = c && c->url && c->key && (!opt->ca_file || c->ca_file);
    st = whole ? meet(c, name, err) : fail(err, PLM_ENOMEM, "no memory for a teacher");
    if (st) {
        cloud_close(c);
        return st;
    }
    *capable = c->capable;
    *out = c;
    return PLM_OK;
}

void cloud_close(struct cloud *c) {
    if (c) {
        if (c->key) {
            explicit_bzero(c->key, strlen(c->key));
        }
        mem_free(c->key);
        mem_free(c->url);
        mem_free(c->ca_file);
        mem_free(c->terms);
        mem_free(c);
    }
}

const char *cloud_terms(const struct cloud *c) {
    return c->terms;
}

double cloud_price(const struct cloud *c, int64_t tokens_in, int64_t tokens_out) {
    return ((double)tokens_in * c->cost_in + (double)tokens_out * c->cost_out) / 1e6;
}

void cloud_usage(const struct cloud *c, plm_teacher_usage *out) {
    *out = c->used;
}

/* ---- a job ---- */

static plm_status submit(struct cloud *c, const char *request, json_t **job, plm_error *err) {
    struct wire_request q;
    char line[100], cap[60];
    const char *headers[] = {line, c->max_cost > 0 ? cap : NULL, NULL};
    plm_status st = wire_request_parse(&q, request, strlen(request), err);
    if (st) {
        return st;
    }
    snprintf(line, sizeof line, "Idempotency-Key: %.64s", q.id);
    wire_request_free(&q);
    double left = c->max_cost - c->used.spent;
    if (c->max_cost > 0 && left < 1e-6) {
        return fail(err, PLM_ELIMIT, "the cap of %g for this run is spent (%.4f)", c->max_cost,
                    c->used.spent);
    }
    snprintf(cap, sizeof cap, "Max-Spend: %.6f", left);
    st = send_json(c, "POST", "/v1/jobs", request, headers, job, err);
    const char *id = st ? NULL : json_text(*job, "id");
    size_t n = id ? strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") : 0;
    if (!st && (!n || n > 64 || id[n])) {
        json_decref(*job);
        *job = NULL;
        st = fail(err, PLM_EREMOTE, "the service's answer names no job");
    }
    if (!st) {
        snprintf(c->job, sizeof c->job, "%s", id);
    }
    return st;
}

static size_t count_of(const json_t *job, const char *key) {
    json_int_t n = json_integer_value(json_object_get(job, key));
    return n > 0 && n < 100000000 ? (size_t)n : 0;
}

static void read_usage(struct cloud *c, const json_t *job) {
    double spend = json_number_value(json_object_get(job, "spend"));
    c->now = (plm_teacher_usage){.calls = count_of(job, "calls_done"),
                                 .tokens_in = (int64_t)count_of(job, "tokens_in"),
                                 .tokens_out = (int64_t)count_of(job, "tokens_out"),
                                 .spent = spend > 0 ? spend : 0};
}

// true: over, *st says how.
static bool job_over(struct cloud *c, const json_t *job, plm_status *st, plm_error *err) {
    const char *state = json_text(job, "state"), *why = json_text(json_object_get(job, "error"), "message");
    if (state && strcmp(state, "done") == 0) {
        *st = PLM_OK;
        return true;
    }
    if (state && (strcmp(state, "queued") == 0 || strcmp(state, "running") == 0)) {
        return false;
    }
    bool passes = json_is_true(json_object_get(json_object_get(job, "error"), "may_retry"));
    *st = fail(err, PLM_EREMOTE, "the service gave the job up: %.200s",
               why     ? why
               : state ? state
                       : "no reason");
    if (!passes) { // the next run starts anew
        plm_error ignored;
        cloud_settle(c, &ignored);
    }
    return true;
}

static plm_status wait_for(struct cloud *c, json_t *job, const struct synth_hooks *h, plm_error *err) {
    char path[PATH_MAX_BYTES];
    plm_status st = PLM_OK;
    int pause = POLL_MS;
    snprintf(path, sizeof path, "/v1/jobs/%s", c->job);
    for (read_usage(c, job); !job_over(c, job, &st, err); read_usage(c, job)) {
        size_t done = count_of(job, "calls_done"), total = count_of(job, "calls_total");
        if (h->progress &&
            h->progress(h->ctx, done, total > done ? total : done + 1, count_of(job, "examples"))) {
            st = fail(err, PLM_ESTOPPED, "stopped; the service goes on with the job");
            break;
        }
        nanosleep(&(struct timespec){pause / 1000, (pause % 1000) * 1000000L}, NULL);
        pause = pause * 5 / 4 < POLL_MAX_MS ? pause * 5 / 4 : POLL_MAX_MS;
        json_decref(job);
        job = NULL;
        st = send_json(c, "GET", path, NULL, NULL, &job, err);
        if (st) {
            break;
        }
    }
    json_decref(job);
    return st;
}

static plm_status fetch(struct cloud *c, char **candidates, plm_error *err) {
    struct http_reply reply;
    char path[PATH_MAX_BYTES];
    snprintf(path, sizeof path, "/v1/jobs/%s/candidates", c->job);
    plm_status st = send(c, "GET", path, NULL, NULL, WIRE_CANDIDATES_MAX, &reply, err);
    if (!st && reply.body.len && memchr(reply.body.data, 0, reply.body.len)) {
        st = fail(err, PLM_EREMOTE, "the service's candidates hold a NUL");
    }
    if (!st) {
        *candidates = reply.body.len ? bytes_take(&reply.body) : mem_dupz("");
        st = *candidates ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for the candidates");
    }
    http_reply_free(&reply);
    return st;
}

plm_status cloud_run(struct cloud *c, const char *request, const struct synth_hooks *h, char **candidates,
                     size_t *calls, plm_error *err) {
    json_t *job = NULL;
    plm_status st = h->leaving ? h->leaving(h->ctx, request, strlen(request), err) : PLM_OK;
    c->job[0] = 0;
    c->now = (plm_teacher_usage){0};
    st = st ? st : submit(c, request, &job, err);
    if (calls && !st) {
        *calls = 1;
    }
    st = st ? st : wait_for(c, job, h, err);
    c->used.calls += c->now.calls;
    c->used.tokens_in += c->now.tokens_in;
    c->used.tokens_out += c->now.tokens_out;
    c->used.spent += c->now.spent;
    st = st ? st : fetch(c, candidates, err);
    if (st == PLM_EREMOTE && err) {
        char why[sizeof err->text];
        memcpy(why, err->text, sizeof why);
        why[380] = 0;
        return fail(err, st, "%s; the same command goes on from there", why);
    }
    return st;
}

plm_status cloud_settle(struct cloud *c, plm_error *err) {
    struct http_reply reply;
    char path[PATH_MAX_BYTES];
    if (!c->job[0]) {
        return PLM_OK;
    }
    snprintf(path, sizeof path, "/v1/jobs/%s", c->job);
    plm_status st = send(c, "DELETE", path, NULL, NULL, 0, &reply, err);
    bool gone = reply.status == 404; // expired, or deleted by a run before
    http_reply_free(&reply);
    c->job[0] = 0;
    return gone ? PLM_OK : st;
}
