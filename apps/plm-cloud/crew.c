/* crew.c: threads that do jobs, and one that beats for them: it extends their leases, notices jobs that were
 * taken away, asks a long job to make room when others wait, and sweeps the ledger. */
#include "crew.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "shared/key.h"
#include "synth/synth.h"

enum { SLICE_S = 30, SWEEP_S = 5, HANDS_MAX = 256, KEEP_S = 30 };

struct hand { /* one worker */
    struct crew *crew;
    pthread_t thread;
    char name[100];
    plm_teacher *teacher; /* its own, or the one GGUF of all */
    pthread_mutex_t lock; /* of work and working, for the beat */
    struct work work;
    bool working, quota;
    double since;
    atomic_bool lost, yield;
    atomic_llong done, total, examples;
};

struct crew {
    const struct args *config;
    struct ledger *ledger;
    struct hand *hands;
    size_t n, running;
    pthread_t beat;
    bool beating;
    pthread_mutex_t lock; /* of the conditions */
    pthread_cond_t wake, halt;
    atomic_bool stop;
    atomic_llong busy, jobs_done, jobs_failed, calls, calls_shared, teacher_errors;
};

// Until somebody has news for this condition, or the time is over.
static void pause_for(struct crew *c, pthread_cond_t *news, double seconds) {
    pthread_mutex_lock(&c->lock);
    clock_cond_wait(news, &c->lock, seconds);
    pthread_mutex_unlock(&c->lock);
}

void crew_wake(struct crew *c) {
    if (c) {
        pthread_mutex_lock(&c->lock);
        pthread_cond_broadcast(&c->wake);
        pthread_mutex_unlock(&c->lock);
    }
}

/* ---- a job's hooks ---- */

static plm_status on_find(void *ctx, const char *hash, char **text, char **finish, plm_error *err) {
    struct hand *h = ctx;
    bool shared = false;
    plm_status st = reply_find(h->crew->ledger, &h->work, hash, text, finish, &shared, err);
    atomic_fetch_add(&h->crew->calls_shared, shared);
    return st;
}

int64_t crew_price(const struct args *c, int64_t in, int64_t out) {
    return (int64_t)((double)in * c->cost_in + (double)out * c->cost_out + .5); // millionths
}

static bool passes(plm_status st) {
    return st == PLM_EBUSY || st == PLM_EIO;
}

// The attempt before may have been stored without our hearing of it.
static plm_status keep_again(struct hand *h, const char *hash, const plm_answer *a, int64_t in, int64_t out,
                             int64_t spend, plm_error *err) {
    char *text = NULL, *finish = NULL;
    bool shared;
    struct work own = h->work;
    own.teacher = NULL; // this call was paid, whatever another job has by now
    plm_status st = reply_find(h->crew->ledger, &own, hash, &text, &finish, &shared, err);
    bool there = text != NULL;
    plm_free(text);
    plm_free(finish);
    return st || there ? st
                       : reply_keep(h->crew->ledger, &h->work, hash, a->text, a->finish, in, out, spend, err);
}

static plm_status on_keep(void *ctx, const char *hash, const char *body, const plm_answer *a,
                          const int64_t *sources, size_t n, plm_error *err) {
    struct hand *h = ctx;
    (void)body, (void)sources, (void)n;
    int64_t in = a->tokens_in > 0 ? a->tokens_in : 0, out = a->tokens_out > 0 ? a->tokens_out : 0;
    atomic_fetch_add(&h->crew->calls, 1);
    int64_t spend = crew_price(h->crew->config, in, out);
    plm_status st = reply_keep(h->crew->ledger, &h->work, hash, a->text, a->finish, in, out, spend, err);
    // What is paid is worth a wait for a ledger that restarts or whose disk is full.
    for (double until = clock_now() + KEEP_S; passes(st) && !h->lost && clock_now() < until;) {
        nanosleep(&(struct timespec){0, 200000000}, NULL);
        st = keep_again(h, hash, a, in, out, spend, err);
    }
    return st;
}

static plm_status on_leaving(void *ctx, const char *body, size_t len, plm_error *err) {
    struct hand *h = ctx;
    (void)body, (void)len;
    if (h->lost) {
        return fail(err, PLM_ESTOPPED, "stopped");
    }
    if (h->yield || h->crew->stop) { // no failure of ours: the calls under way are paid and waited for
        return fail(err, PLM_EBUSY, "%s", h->yield ? "making room for others" : "the service is stopping");
    }
    plm_status st = job_may_call(h->crew->ledger, &h->work, err);
    h->quota = st == PLM_ELIMIT;
    return st;
}

static int on_progress(void *ctx, size_t done, size_t total, size_t examples) {
    struct hand *h = ctx;
    h->done = (long long)done;
    h->total = (long long)total;
    h->examples = (long long)examples;
    return h->lost;
}

static int on_waiting(void *ctx, const char *why, double seconds) {
    struct hand *h = ctx;
    (void)why, (void)seconds;
    atomic_fetch_add(&h->crew->teacher_errors, 1);
    return h->lost || h->crew->stop;
}

/* ---- a job ---- */

static void tell(const struct hand *h, const char *level, const char *event, const char *why) {
    struct log_line l;
    log_begin(&l, level, event);
    log_text(&l, "job", h->work.id);
    log_text(&l, "tenant", h->work.tenant);
    log_text(&l, "worker", h->name);
    log_int(&l, "calls", h->done);
    log_real(&l, "seconds", clock_now() - h->since);
    if (why) {
        log_text(&l, "why", why);
    }
    log_end(&l);
}

// What may be written down of a teacher's failure: up to its status code, behind which the teacher speaks.
static void safe_reason(char out[244], const char *text) {
    size_t n = strcspn(text, ")");
    snprintf(out, 244, "%.*s", (int)(text[n] ? n + 1 : n > 120 ? 120 : n), text);
}

// Lines that hold an example. (Within a text the quotes of "bad" would be escaped.)
static int64_t count_examples(const char *candidates) {
    struct str rest = str_of(candidates), line;
    int64_t n = 0;
    while (str_cut(&rest, '\n', &line)) {
        n += line.n && !memmem(line.p, line.n, "\"bad\":", 6);
    }
    return n;
}

static plm_status settle(struct hand *h, plm_status st, const char *candidates, size_t calls,
                         const plm_error *why) {
    struct ledger *l = h->crew->ledger;
    plm_error err = {0};
    char reason[244];
    if (!st) {
        st = job_finish(l, &h->work, plm_teacher_name(h->teacher), candidates, (int64_t)calls,
                        count_examples(candidates), &err);
        atomic_fetch_add(&h->crew->jobs_done, !st);
        tell(h, st ? "error" : "info", st ? "job_not_stored" : "job_done", st ? err.text : NULL);
        return st;
    }
    if (st == PLM_ESTOPPED || passes(st)) { // ours to stop, or the ledger's trouble
        plm_status back = job_release(l, &h->work, NULL);
        tell(h, "info", back ? "job_lost" : "job_released", st == PLM_ESTOPPED ? NULL : why->text);
        return st;
    }
    atomic_fetch_add(&h->crew->jobs_failed, 1);
    if (h->quota || (st == PLM_ELIMIT && h->work.may_spend >= 0)) {
        job_fail(l, &h->work, why->text, true, false, NULL);
        tell(h, "info", "job_over_quota", NULL);
    } else if (st == PLM_EREMOTE) {
        safe_reason(reason, why->text);
        job_fail(l, &h->work, "the service's teacher does not answer as it should", true, true, NULL);
        tell(h, "warn", "job_put_off", reason);
    } else {
        job_fail(l, &h->work, "the service could not do this job", false, false, NULL);
        tell(h, "error", "job_failed", plm_status_name(st));
    }
    return st;
}

static plm_status work_on(struct hand *h) {
    // Nothing left is found out before the first call (job_may_call).
    struct synth_hooks hooks = {.ctx = h,
                                .max_cost = h->work.may_spend > 0 ? (double)h->work.may_spend / 1e6 : 0,
                                .find = on_find,
                                .keep = on_keep,
                                .leaving = on_leaving,
                                .progress = on_progress};
    plm_error err = {0};
    char *candidates = NULL;
    size_t calls = 0;
    tell(h, "info", "job_started", NULL);
    plm_status st = synth_run(h->work.request, h->teacher, &hooks, &candidates, &calls, &err);
    st = settle(h, st, candidates ? candidates : "", calls, &err);
    if (candidates) {
        explicit_bzero(candidates, strlen(candidates));
    }
    plm_free(candidates);
    return st;
}

static bool take_job(struct hand *h) {
    struct work w;
    plm_error err = {0};
    bool found = false;
    plm_status st = job_claim(h->crew->ledger, h->name, &w, &found, &err);
    if (st) {
        struct log_line l;
        log_begin(&l, "error", "no_claim");
        log_text(&l, "why", err.text);
        log_end(&l);
    }
    if (!found) {
        return false;
    }
    w.teacher = plm_teacher_name(h->teacher);
    h->lost = h->yield = h->quota = false;
    h->done = h->total = h->examples = 0;
    pthread_mutex_lock(&h->lock);
    h->work = w;
    h->working = true;
    h->since = clock_now();
    pthread_mutex_unlock(&h->lock);
    return true;
}

static void *work(void *ctx) {
    struct hand *h = ctx;
    while (!h->crew->stop) {
        if (!take_job(h)) {
            pause_for(h->crew, &h->crew->wake, .5);
            continue;
        }
        atomic_fetch_add(&h->crew->busy, 1);
        plm_status st = work_on(h);
        atomic_fetch_sub(&h->crew->busy, 1);
        pthread_mutex_lock(&h->lock);
        h->working = false;
        work_free(&h->work);
        pthread_mutex_unlock(&h->lock);
        if (passes(st) && !h->yield) {
            pause_for(h->crew, &h->crew->wake, 1);
        }
    }
    return NULL;
}

/* ---- the beat ---- */

static void beat_for(struct hand *h, bool others_wait) {
    pthread_mutex_lock(&h->lock);
    if (h->working) {
        plm_status st = job_beat(h->crew->ledger, &h->work, h->done, h->total, h->examples, NULL);
        h->lost = h->lost || st == PLM_ESTOPPED;
        // Whoever is asked for room goes back into the queue with all replies kept.
        h->yield = h->yield || (others_wait && clock_now() - h->since > SLICE_S);
    }
    pthread_mutex_unlock(&h->lock);
}

static void sweep(struct crew *c) {
    struct sweep s;
    plm_error err = {0};
    plm_status st = ledger_sweep(c->ledger, &s, &err);
    if (st || s.requeued || s.given_up || s.expired || s.keys_destroyed) {
        struct log_line l;
        log_begin(&l, st ? "error" : "info", "sweep");
        log_int(&l, "requeued", s.requeued);
        log_int(&l, "given_up", s.given_up);
        log_int(&l, "expired", s.expired);
        log_int(&l, "keys_destroyed", s.keys_destroyed);
        if (st) {
            log_text(&l, "why", err.text);
        }
        log_end(&l);
    }
}

static void *beat(void *ctx) {
    struct crew *c = ctx;
    double lease = c->config->lease > 0 ? (double)c->config->lease : 60, swept = 0;
    double every = lease / 4 < 2 ? lease / 4 : 2, sweep_s = lease / 2 < SWEEP_S ? lease / 2 : SWEEP_S;
    while (!c->stop || c->busy > 0) {
        struct ledger_stats stats = {0};
        bool wait = c->busy > 0 && !ledger_stats(c->ledger, &stats, NULL) && stats.queued > 0;
        for (size_t i = 0; i < c->n; i++) {
            beat_for(&c->hands[i], wait);
        }
        if (clock_now() - swept > sweep_s) {
            sweep(c);
            swept = clock_now();
        }
        pause_for(c, &c->halt, c->stop ? .05 : every);
    }
    return NULL;
}

/* ---- starting and stopping ---- */

static bool is_remote(const struct args *c) {
    return c->teacher && strstr(c->teacher, "://");
}

static plm_status hire(struct crew *c, struct hand *h, size_t number, const char *key, plm_error *err) {
    char host[40] = "";
    gethostname(host, sizeof host - 1);
    snprintf(h->name, sizeof h->name, "%s/%ld/%zu", host, (long)getpid(), number);
    h->crew = c;
    pthread_mutex_init(&h->lock, NULL);
    if (number > 1 && !is_remote(c->config)) {
        h->teacher = c->hands[0].teacher;
        return PLM_OK;
    }
    plm_teacher_options opt = {.spec = c->config->teacher,
                               .model_name = c->config->teacher_model,
                               .key = *key ? key : NULL,
                               .threads = (int)c->config->threads,
                               .cpu = c->config->cpu,
                               .cost_in = c->config->cost_in,
                               .cost_out = c->config->cost_out,
                               .waiting = on_waiting,
                               .ctx = h};
    return plm_teacher_open(&h->teacher, &opt, err);
}

static size_t how_many(const struct args *c) {
    int64_t n = c->workers >= 0 ? c->workers : c->teacher ? 2 : 0;
    return (size_t)(n > HANDS_MAX ? HANDS_MAX : n);
}

plm_status crew_start(struct crew **out, const struct args *config, struct ledger *l, plm_error *err) {
    struct bytes key = {0};
    struct crew *c = mem_zero(1, sizeof *c);
    if (!c) {
        return fail(err, PLM_ENOMEM, "no memory for workers");
    }
    c->config = config;
    c->ledger = l;
    pthread_mutex_init(&c->lock, NULL);
    clock_cond_init(&c->wake);
    clock_cond_init(&c->halt);
    size_t wanted = how_many(config);
    plm_status st = PLM_OK;
    if (wanted && !config->teacher) {
        st = fail(err, PLM_EINVAL, "workers need a teacher: --teacher MODEL.gguf or an address");
    }
    st = st ? st : teacher_key(&key, config->teacher_key_file, "PLM_CLOUD_TEACHER_KEY", err);
    c->hands = wanted ? mem_zero(wanted, sizeof *c->hands) : NULL;
    if (!st && wanted && !c->hands) {
        st = fail(err, PLM_ENOMEM, "no memory for workers");
    }
    while (!st && c->n < wanted) {
        st = hire(c, &c->hands[c->n], c->n + 1, key.data ? key.data : "", err);
        c->n++;
    }
    while (!st && c->running < c->n) {
        struct hand *h = &c->hands[c->running];
        st = pthread_create(&h->thread, NULL, work, h) ? fail(err, PLM_ENOMEM, "no thread for a worker")
                                                       : PLM_OK;
        c->running += !st;
    }
    c->beating = !st && !pthread_create(&c->beat, NULL, beat, c);
    if (key.data) {
        explicit_bzero(key.data, key.len);
    }
    bytes_free(&key);
    if (!st && !c->beating) {
        st = fail(err, PLM_ENOMEM, "no thread for the beat");
    }
    if (st) {
        crew_stop(c, 0);
        return st;
    }
    *out = c;
    return PLM_OK;
}

void crew_stop(struct crew *c, double seconds) {
    if (!c) {
        return;
    }
    double until = clock_now() + seconds;
    c->stop = true;
    crew_wake(c);
    pthread_cond_signal(&c->halt);
    while (c->busy > 0 && clock_now() < until) {
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    if (c->busy > 0) {
        return; // a call that does not end: the process does, and the lease gives the job back
    }
    for (size_t i = 0; i < c->running; i++) {
        pthread_join(c->hands[i].thread, NULL);
    }
    if (c->beating) {
        pthread_join(c->beat, NULL);
    }
    for (size_t i = 0; i < c->n; i++) {
        if (!i || c->hands[i].teacher != c->hands[0].teacher) {
            plm_teacher_close(c->hands[i].teacher);
        }
        pthread_mutex_destroy(&c->hands[i].lock);
    }
    pthread_cond_destroy(&c->wake);
    pthread_cond_destroy(&c->halt);
    pthread_mutex_destroy(&c->lock);
    mem_free(c->hands);
    mem_free(c);
}

const char *crew_teacher(const struct crew *c) {
    return c->n ? plm_teacher_name(c->hands[0].teacher) : "";
}

bool crew_is_capable(const struct crew *c) {
    return !c->config->weak_teacher &&
           (!c->n || is_remote(c->config) || plm_teacher_is_capable(c->hands[0].teacher));
}

void crew_count(struct crew *c, struct crew_counts *out) {
    *out = (struct crew_counts){.workers = (int64_t)c->n,
                                .busy = c->busy,
                                .jobs_done = c->jobs_done,
                                .jobs_failed = c->jobs_failed,
                                .calls = c->calls,
                                .calls_shared = c->calls_shared,
                                .teacher_errors = c->teacher_errors};
}
