/* routes.c: what each address does. Who asks is known by the key alone, and every question to the ledger
 * carries that tenant's id: a job of somebody else does not exist. */
#include "routes.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "augment/augment.h"
#include "log.h"

enum {
    BODY_MAX = 8 << 20,
    STREAMS_MAX = 64,
    LARGE = 256 << 10, /* bytes of a request */
    STREAMS_OF_ONE = 16,
    BUCKETS = 4096,
    NEIGHBOURS = 8,
    QUOTA_WAIT_S = 3600
};

struct bucket { /* requests that a tenant may still make this minute */
    char tenant[LEDGER_ID];
    double left, since;
};

struct front {
    const struct args *config;
    struct ledger *ledger;
    struct crew *crew;
    atomic_bool draining;
    char streams[STREAMS_MAX][LEDGER_ID]; /* the tenant of each open one; "": free */
    atomic_llong answers[6], refused_rate, bytes_out;
    pthread_mutex_t lock; /* of buckets and streams */
    pthread_mutex_t desk; /* one large request at a time is read: it takes a while and much memory */
    struct bucket *buckets;
    double started;
};

plm_status front_open(struct front **out, const struct args *c, struct ledger *l, struct crew *crew,
                      plm_error *err) {
    struct front *f = mem_zero(1, sizeof *f);
    if (f) {
        f->buckets = mem_zero(BUCKETS, sizeof *f->buckets);
    }
    if (!f || !f->buckets) {
        mem_free(f);
        return fail(err, PLM_ENOMEM, "no memory for the service");
    }
    f->config = c;
    f->ledger = l;
    f->crew = crew;
    f->started = clock_now();
    pthread_mutex_init(&f->lock, NULL);
    pthread_mutex_init(&f->desk, NULL);
    *out = f;
    return PLM_OK;
}

void front_close(struct front *f) {
    if (f) {
        pthread_mutex_destroy(&f->lock);
        pthread_mutex_destroy(&f->desk);
        mem_free(f->buckets);
        mem_free(f);
    }
}

void front_drain(struct front *f) {
    f->draining = true;
}

void front_log(void *ctx, const char *method, const char *route, int status, size_t bytes, double seconds) {
    struct front *f = ctx;
    int class = status / 100;
    atomic_fetch_add(&f->answers[class >= 1 && class <= 5 ? class : 0], 1);
    atomic_fetch_add(&f->bytes_out, (long long)bytes);
    // Probes and polls by the thousand say nothing.
    if (status < 400 && strcmp(method, "GET") == 0) {
        return;
    }
    struct log_line l;
    log_begin(&l, status >= 500 ? "error" : "info", "request");
    log_text(&l, "method", strlen(method) < 16 ? method : "");
    log_text(&l, "route", route);
    log_int(&l, "status", status);
    log_int(&l, "bytes", (int64_t)bytes);
    log_real(&l, "seconds", seconds);
    log_end(&l);
}

/* ---- who asks ---- */

// A tenant's bucket. One that is not there yet takes the place of the one that rested longest of its
// neighbours, which by then is most likely full again.
static struct bucket *bucket_of(struct front *f, const char *tenant, double full) {
    struct bucket *best = NULL;
    size_t at = 0;
    for (const char *p = tenant; *p; p++) {
        at = at * 31 + (unsigned char)*p;
    }
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        struct bucket *b = &f->buckets[(at + i) % BUCKETS];
        if (strcmp(b->tenant, tenant) == 0) {
            return b;
        }
        best = !best || b->since < best->since ? b : best;
    }
    *best = (struct bucket){.left = full, .since = clock_now()};
    snprintf(best->tenant, sizeof best->tenant, "%s", tenant);
    return best;
}

// Seconds to wait; 0: go on. A bucket refills with the minute.
static int64_t over_rate(struct front *f, const struct tenant *t) {
    int64_t limit = t->limits.minute_requests;
    double wait = 0;
    if (limit <= 0) {
        return 0;
    }
    pthread_mutex_lock(&f->lock);
    struct bucket *b = bucket_of(f, t->id, (double)limit);
    double now = clock_now();
    b->left += (now - b->since) * (double)limit / 60;
    b->left = b->left > (double)limit ? (double)limit : b->left;
    b->since = now;
    if (b->left >= 1) {
        b->left -= 1;
    } else {
        wait = (1 - b->left) * 60 / (double)limit;
    }
    pthread_mutex_unlock(&f->lock);
    return wait > 0 ? (int64_t)wait + 1 : 0;
}

// A failure of the ledger, as an answer. Its sentence names our database and is for the log alone.
static void answer_failure(struct exchange *x, plm_status st, const plm_error *err) {
    if (st == PLM_ENOTFOUND) {
        exchange_error(x, 404, "there is no such job");
        return;
    }
    struct log_line l;
    log_begin(&l, "error", "ledger");
    log_text(&l, "why", err->text);
    log_end(&l);
    bool passes = st == PLM_EBUSY || st == PLM_ENOMEM || st == PLM_EIO; // a disk may have room again
    exchange_error(x, passes ? 503 : 500, "the service has a fault of its own");
}

// Whose key is it? false: nobody's who may ask, and answered.
static bool known(struct front *f, struct exchange *x, struct tenant *t) {
    const char *key = exchange_bearer(x);
    plm_error err = {0};
    plm_status st = key ? tenant_by_key(f->ledger, key, t, &err) : PLM_ENOTFOUND;
    if (st == PLM_ENOTFOUND) {
        exchange_error(x, 401, key ? "this key is not known" : "a key is needed: Authorization: Bearer");
    } else if (st) {
        answer_failure(x, st, &err);
    } else if (!t->active) {
        exchange_error(x, 403, "this key is suspended");
    } else {
        return true;
    }
    return false;
}

bool front_admit(void *ctx, struct exchange *x) {
    struct tenant t;
    return known(ctx, x, &t);
}

static bool admit(struct front *f, struct exchange *x, struct tenant *t) {
    if (!known(f, x, t)) {
        return false;
    }
    int64_t wait = over_rate(f, t);
    if (wait) {
        atomic_fetch_add(&f->refused_rate, 1);
        exchange_retry_after(x, wait);
        exchange_error(x, 429, "too many requests a minute");
    }
    return !wait;
}

/* ---- jobs ---- */

static void put_cost(struct bytes *b, const struct job_cost *c) {
    bytes_printf(b, "{\"calls\":%lld,\"tokens_in\":%lld,\"tokens_out\":%lld,\"spend\":%.6f}",
                 (long long)c->calls, (long long)c->tokens_in, (long long)c->tokens_out,
                 (double)c->spend / 1e6);
}

static void put_job(struct bytes *b, const struct job *j) {
    bytes_printf(
        b,
        "{\"id\":\"%s\",\"state\":\"%s\",\"created\":%lld,\"expires\":%lld,\"calls_done\":%lld,"
        "\"calls_total\":%lld,\"examples\":%lld,\"tokens_in\":%lld,\"tokens_out\":%lld,\"spend\":%.6f,"
        "\"teacher\":",
        j->id, job_state_name(j->state), (long long)j->created, (long long)j->expires,
        (long long)j->calls_done, (long long)j->calls_total, (long long)j->examples, (long long)j->tokens_in,
        (long long)j->tokens_out, (double)j->spend / 1e6);
    bytes_json(b, j->teacher, strlen(j->teacher));
    bytes_puts(b, ",\"estimate\":");
    put_cost(b, &j->estimate);
    if (j->max_spend) {
        bytes_printf(b, ",\"max_spend\":%.6f", (double)j->max_spend / 1e6);
    }
    if (j->error[0]) {
        bytes_puts(b, ",\"error\":{\"message\":");
        bytes_json(b, j->error, strlen(j->error));
        bytes_printf(b, ",\"may_retry\":%s}", j->may_retry ? "true" : "false");
    }
    bytes_puts(b, "}");
}

static void answer_bytes(struct exchange *x, int status, const char *type, struct bytes *b) {
    if (b->st) {
        exchange_error(x, 503, "no memory for the answer");
    } else {
        exchange_text(x, status, type, b->data ? b->data : "", b->len);
    }
    bytes_free(b);
}

static void answer_job(struct exchange *x, int status, const struct job *j) {
    struct bytes b;
    bytes_init(&b, 1 << 14);
    put_job(&b, j);
    bytes_putc(&b, '\n');
    answer_bytes(x, status, "application/json", &b);
}

// What a request will take if most of the first replies are of use; false: it was refused.
static bool judge_request(struct front *f, struct exchange *x, struct job_cost *out) {
    struct wire_request q;
    plm_augment_forecast forecast;
    plm_error err = {0};
    size_t len;
    const char *body = exchange_body(x, &len);
    int64_t want = 0;
    bool large = len > LARGE;
    if (large) {
        pthread_mutex_lock(&f->desk);
    }
    plm_status st = wire_request_parse(&q, body, len, &err);
    for (size_t i = 0; i < WIRE_MODES && !st; i++) {
        want += q.want[i];
    }
    if (!st) {
        wire_request_free(&q);
    }
    if (!st && (want < 1 || want > f->config->max_examples)) {
        st = fail(&err, PLM_EINVAL, "a request wants 1 to %lld examples", (long long)f->config->max_examples);
    }
    st = st ? st : plm_augment_preview(body, NULL, NULL, NULL, &forecast, &err);
    if (large) {
        pthread_mutex_unlock(&f->desk);
    }
    if (st) {
        exchange_error(x, st == PLM_ENOMEM ? 503 : st == PLM_ELIMIT ? 413 : 400, "%s", err.text);
        return false;
    }
    *out = (struct job_cost){.calls = (int64_t)forecast.calls,
                             .tokens_in = forecast.tokens_in,
                             .tokens_out = forecast.tokens_out,
                             .spend = crew_price(f->config, forecast.tokens_in, forecast.tokens_out)};
    return true;
}

// The cap that a submission names, in millionths; 0: none. false: it was refused.
static bool read_cap(struct exchange *x, const struct job_cost *e, int64_t *out) {
    const char *text = exchange_header(x, "Max-Spend");
    double cap = 0;
    *out = 0;
    if (!text) {
        return true;
    }
    if (!parse_f64(str_of(text), &cap) || !(cap >= 1e-6 && cap <= 1e9)) {
        exchange_error(x, 400, "Max-Spend is an amount of money over 0");
        return false;
    }
    *out = (int64_t)(cap * 1e6 + .5);
    if (e->spend > *out) {
        exchange_error(x, 402, "about %.6f will be needed, over the Max-Spend of %.6f: nothing was spent",
                       (double)e->spend / 1e6, cap);
        return false;
    }
    return true;
}

static void post_estimate(void *ctx, struct exchange *x) {
    struct front *f = ctx;
    struct tenant t;
    struct job_cost e;
    struct bytes b;
    if (admit(f, x, &t) && judge_request(f, x, &e)) {
        bytes_init(&b, 1 << 10);
        put_cost(&b, &e);
        bytes_putc(&b, '\n');
        answer_bytes(x, 200, "application/json", &b);
    }
}

static void post_job(void *ctx, struct exchange *x) {
    struct front *f = ctx;
    struct tenant t;
    struct job j;
    struct ledger_stats stats;
    plm_error err = {0};
    size_t len;
    bool fresh;
    struct job_cost estimate;
    int64_t cap, wait = 0;
    if (!admit(f, x, &t)) {
        return;
    }
    const char *body = exchange_body(x, &len), *key = exchange_header(x, "Idempotency-Key");
    if (!key) {
        exchange_error(x, 400, "the header Idempotency-Key is missing");
        return;
    }
    if (!judge_request(f, x, &estimate) || !read_cap(x, &estimate, &cap)) {
        return;
    }
    if (!ledger_stats(f->ledger, &stats, NULL) && stats.queued >= f->config->max_queue) {
        exchange_retry_after(x, 60);
        exchange_error(x, 503, "the queue is full");
        return;
    }
    plm_status st = job_submit(f->ledger, &t, key, body, len, &estimate, cap, &j, &fresh, &wait, &err);
    if (st == PLM_EINVAL || st == PLM_EFORMAT) {
        exchange_error(x, st == PLM_EFORMAT ? 422 : 400, "%s", err.text);
    } else if (st == PLM_ELIMIT) {
        exchange_retry_after(x, wait > QUOTA_WAIT_S ? QUOTA_WAIT_S : wait);
        exchange_error(x, 429, "%s", err.text);
    } else if (st) {
        answer_failure(x, st, &err);
    } else {
        crew_wake(f->crew);
        answer_job(x, fresh ? 202 : 200, &j);
    }
}

/* What looking at a job and cancelling it share: the job as it is afterwards. */
static void answer_with(struct front *f, struct exchange *x,
                        plm_status (*verb)(struct ledger *, const char *, const char *, struct job *,
                                           plm_error *)) {
    struct tenant t;
    struct job j;
    plm_error err = {0};
    if (!admit(f, x, &t)) {
        return;
    }
    plm_status st = verb(f->ledger, t.id, exchange_part(x), &j, &err);
    if (st) {
        answer_failure(x, st, &err);
    } else {
        answer_job(x, 200, &j);
    }
}

static void get_job(void *ctx, struct exchange *x) {
    answer_with(ctx, x, job_look);
}

static void delete_job(void *ctx, struct exchange *x) {
    struct front *f = ctx;
    struct tenant t;
    plm_error err = {0};
    if (!admit(f, x, &t)) {
        return;
    }
    plm_status st = job_drop(f->ledger, t.id, exchange_part(x), &err);
    if (st) {
        answer_failure(x, st, &err);
    } else {
        exchange_text(x, 204, NULL, "", 0);
    }
}

static void cancel_job(void *ctx, struct exchange *x) {
    answer_with(ctx, x, job_cancel);
}

static void get_candidates(void *ctx, struct exchange *x) {
    struct front *f = ctx;
    struct tenant t;
    plm_error err = {0};
    char *candidates = NULL;
    if (!admit(f, x, &t)) {
        return;
    }
    plm_status st = job_result(f->ledger, t.id, exchange_part(x), &candidates, &err);
    if (st == PLM_EINVAL) {
        exchange_error(x, 409, "%s", err.text);
    } else if (st) {
        answer_failure(x, st, &err);
    } else {
        exchange_text(x, 200, "application/x-ndjson", candidates, strlen(candidates));
        explicit_bzero(candidates, strlen(candidates));
    }
    mem_free(candidates);
}

static int put_call(void *ctx, int64_t number, const char *finish, int64_t in, int64_t out) {
    bytes_printf(ctx, "{\"call\":%lld,\"finish\":\"%s\",\"tokens_in\":%lld,\"tokens_out\":%lld}\n",
                 (long long)number, finish, (long long)in, (long long)out);
    return 0;
}

static void get_audit(void *ctx, struct exchange *x) {
    struct front *f = ctx;
    struct tenant t;
    struct bytes b;
    plm_error err = {0};
    if (!admit(f, x, &t)) {
        return;
    }
    bytes_init(&b, 16 << 20);
    plm_status st = job_audit(f->ledger, t.id, exchange_part(x), put_call, &b, &err);
    if (st) {
        bytes_free(&b);
        answer_failure(x, st, &err);
    } else {
        answer_bytes(x, 200, "application/x-ndjson", &b);
    }
}

/* ---- events ---- */

struct listener {
    struct front *front;
    int stream;
    char tenant[LEDGER_ID], job[LEDGER_ID];
    struct bytes last;
    bool begun;
};

static bool next_event(void *ctx, struct bytes *out) {
    struct listener *l = ctx;
    struct job j;
    struct bytes now;
    if (l->begun) {
        nanosleep(&(struct timespec){0, 500000000}, NULL);
    }
    l->begun = true;
    plm_status st = job_look(l->front->ledger, l->tenant, l->job, &j, NULL);
    if (st == PLM_ENOTFOUND) {
        bytes_puts(out, "event: gone\ndata: {}\n\n");
        return false;
    }
    if (st) {
        return true; // the next look may go better
    }
    bytes_init(&now, 1 << 14);
    put_job(&now, &j);
    bool over = j.state > JOB_RUNNING;
    if (over || now.len != l->last.len || memcmp(now.data, l->last.data, now.len) != 0) {
        bytes_printf(out, "event: %s\ndata: %s\n\n", over ? "end" : "progress", now.data);
        bytes_free(&l->last);
        l->last = now;
    } else {
        bytes_free(&now);
    }
    return !over;
}

static void end_events(void *ctx) {
    struct listener *l = ctx;
    pthread_mutex_lock(&l->front->lock);
    l->front->streams[l->stream][0] = 0;
    pthread_mutex_unlock(&l->front->lock);
    bytes_free(&l->last);
    mem_free(l);
}

// A place for one more stream of this tenant; -1: it or all have enough of them.
static int take_stream(struct front *f, const char *tenant) {
    int place = -1, own = 0;
    pthread_mutex_lock(&f->lock);
    for (int i = 0; i < STREAMS_MAX; i++) {
        own += strcmp(f->streams[i], tenant) == 0;
        place = f->streams[i][0] ? place : i;
    }
    place = own < STREAMS_OF_ONE ? place : -1;
    if (place >= 0) {
        snprintf(f->streams[place], LEDGER_ID, "%s", tenant);
    }
    pthread_mutex_unlock(&f->lock);
    return place;
}

static int count_streams(struct front *f) {
    int n = 0;
    pthread_mutex_lock(&f->lock);
    for (int i = 0; i < STREAMS_MAX; i++) {
        n += f->streams[i][0] != 0;
    }
    pthread_mutex_unlock(&f->lock);
    return n;
}

static void get_events(void *ctx, struct exchange *x) {
    struct front *f = ctx;
    struct tenant t;
    struct job j;
    plm_error err = {0};
    if (!admit(f, x, &t)) {
        return;
    }
    plm_status st = job_look(f->ledger, t.id, exchange_part(x), &j, &err);
    if (st) {
        answer_failure(x, st, &err);
        return;
    }
    struct listener *l = mem_zero(1, sizeof *l);
    int place = l ? take_stream(f, t.id) : -1;
    if (place < 0) {
        mem_free(l);
        exchange_error(x, 503, "too many streams at once; polling works");
        return;
    }
    l->front = f;
    l->stream = place;
    memcpy(l->tenant, t.id, sizeof l->tenant);
    memcpy(l->job, j.id, sizeof l->job);
    bytes_init(&l->last, 1 << 14);
    exchange_stream(x, next_event, end_events, l);
}

/* ---- the service itself ---- */

static void get_service(void *ctx, struct exchange *x) {
    struct front *f = ctx;
    struct tenant t;
    struct bytes b;
    if (!admit(f, x, &t)) {
        return;
    }
    const char *teacher = crew_teacher(f->crew), *terms = f->config->terms ? f->config->terms : "";
    bytes_init(&b, 1 << 16);
    bytes_printf(&b, "{\"version\":%d,\"software\":\"plm-cloud %s\",\"teacher\":", WIRE_VERSION,
                 plm_version());
    bytes_json(&b, teacher, strlen(teacher));
    bytes_printf(&b, ",\"capable\":%s,\"retain_hours\":%lld,\"max_examples\":%lld,\"terms\":",
                 crew_is_capable(f->crew) ? "true" : "false",
                 (long long)(f->config->retain_hours ? f->config->retain_hours : 20),
                 (long long)f->config->max_examples);
    bytes_json(&b, terms, strlen(terms));
    bytes_printf(&b, ",\"cost_in\":%.10g,\"cost_out\":%.10g}\n", f->config->cost_in, f->config->cost_out);
    answer_bytes(x, 200, "application/json", &b);
}

static void get_health(void *ctx, struct exchange *x) {
    (void)ctx;
    exchange_json(x, 200, "{\"status\":\"ok\"}\n", 16);
}

static void get_ready(void *ctx, struct exchange *x) {
    struct front *f = ctx;
    struct ledger_stats s;
    plm_status st = ledger_stats(f->ledger, &s, NULL);
    if (f->draining || st) {
        exchange_error(x, 503, f->draining ? "the service is stopping" : "the ledger does not answer");
    } else {
        exchange_json(x, 200, "{\"status\":\"ready\"}\n", 19);
    }
}

static void put_metric(struct bytes *b, const char *name, const char *type, const char *help, double value) {
    bytes_printf(b, "# HELP plm_cloud_%s %s\n# TYPE plm_cloud_%s %s\nplm_cloud_%s %.10g\n", name, help, name,
                 type, name, value);
}

static void get_metrics(void *ctx, struct exchange *x) {
    struct front *f = ctx;
    struct ledger_stats s;
    struct crew_counts c;
    struct bytes b;
    plm_error err = {0};
    if (!exchange_is_local(x) && !f->config->open_metrics) {
        exchange_error(x, 403, "metrics are for this machine alone (--open-metrics)");
        return;
    }
    plm_status st = ledger_stats(f->ledger, &s, &err);
    if (st) {
        answer_failure(x, st, &err);
        return;
    }
    crew_count(f->crew, &c);
    bytes_init(&b, 1 << 16);
    bytes_printf(&b, "# HELP plm_cloud_jobs Jobs by state.\n# TYPE plm_cloud_jobs gauge\n");
    const int64_t jobs[] = {s.queued, s.running, s.done, s.failed, s.cancelled};
    for (int i = 0; i <= JOB_CANCELLED; i++) {
        bytes_printf(&b, "plm_cloud_jobs{state=\"%s\"} %lld\n", job_state_name((enum job_state)i),
                     (long long)jobs[i]);
    }
    bytes_printf(&b, "# HELP plm_cloud_answers_total Answers by class of status.\n"
                     "# TYPE plm_cloud_answers_total counter\n");
    for (int i = 1; i <= 5; i++) {
        bytes_printf(&b, "plm_cloud_answers_total{class=\"%dxx\"} %lld\n", i, (long long)f->answers[i]);
    }
    put_metric(&b, "oldest_queued_seconds", "gauge", "Age of the oldest waiting job.",
               (double)s.oldest_queued_s);
    put_metric(&b, "tenants", "gauge", "Tenants.", (double)s.tenants);
    put_metric(&b, "rate_refusals_total", "counter", "Requests over a tenant's rate.",
               (double)f->refused_rate);
    put_metric(&b, "streams", "gauge", "Open event streams.", (double)count_streams(f));
    put_metric(&b, "workers", "gauge", "Workers of this process.", (double)c.workers);
    put_metric(&b, "workers_busy", "gauge", "Workers with a job.", (double)c.busy);
    put_metric(&b, "jobs_done_total", "counter", "Jobs done by this process.", (double)c.jobs_done);
    put_metric(&b, "jobs_failed_total", "counter", "Jobs failed or put off by this process.",
               (double)c.jobs_failed);
    put_metric(&b, "calls_total", "counter", "Teacher's replies stored by this process.", (double)c.calls);
    put_metric(&b, "calls_shared_total", "counter",
               "Calls that this process answered from another job of the tenant.", (double)c.calls_shared);
    put_metric(&b, "teacher_errors_total", "counter", "Failed attempts at the teacher.",
               (double)c.teacher_errors);
    put_metric(&b, "tokens_in_today", "gauge", "Tokens sent to teachers today, by all.",
               (double)s.tokens_in_today);
    put_metric(&b, "tokens_out_today", "gauge", "Tokens received from teachers today, by all.",
               (double)s.tokens_out_today);
    put_metric(&b, "resident_bytes", "gauge", "Resident memory.", (double)process_rss());
    put_metric(&b, "uptime_seconds", "counter", "Since the start.", clock_now() - f->started);
    answer_bytes(x, 200, "text/plain; version=0.0.4", &b);
}

const struct route front_routes[] = {
    {"POST", "/v1/jobs", post_job, BODY_MAX},
    {"POST", "/v1/estimate", post_estimate, BODY_MAX},
    {"GET", "/v1/jobs/{}", get_job, 0},
    {"DELETE", "/v1/jobs/{}", delete_job, 0},
    {"POST", "/v1/jobs/{}/cancel", cancel_job, 0},
    {"GET", "/v1/jobs/{}/events", get_events, 0},
    {"GET", "/v1/jobs/{}/candidates", get_candidates, 0},
    {"GET", "/v1/jobs/{}/audit", get_audit, 0},
    {"GET", "/v1/service", get_service, 0},
    {"GET", "/healthz", get_health, 0},
    {"GET", "/readyz", get_ready, 0},
    {"GET", "/metrics", get_metrics, 0},
    {NULL, NULL, NULL, 0},
};
