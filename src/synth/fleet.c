/* fleet.c: many calls over several addresses of one service: how many at once, where, when again, and when
 * not any more. Answers are handed over as they come; what becomes of them never depends on their order. */
#include "synth/fleet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    ATTEMPTS = 4,     /* of a call, where the service does not say when to come back */
    THROTTLED = 20,   /* times that it may say so */
    FAILURES_MAX = 5, /* in a row, until the breaker opens */
    COOL_MAX = 60,
    WAIT_MAX = 30,
    HEDGE_AFTER = 8, /* latencies known */
    NOWHERE = ADDRESSES_MAX
};

struct shot {        /* one call on its way to one address, or a probe */
    struct job *job; /* NULL: a probe */
    size_t at;
    double started, reserved;
    bool schema;
    struct shot *next;
};

struct job {
    size_t i; /* of the batch */
    int attempts, throttled, flying;
    bool done, hedged, plain; /* plain: without a schema, to see whether that was it */
    double not_before;
    size_t failed_at; /* the address that it failed at last */
    char *plain_body;
    struct rng rng;
};

struct fleet {
    struct remote *r;
    const struct batch *b;
    struct job *jobs;
    size_t done, hedges;
    struct shot *shots;
    plm_status st; /* the first failure: nothing more is sent */
    plm_error *err;
};

static void give_up(struct fleet *f, plm_status st, const char *why) {
    if (!f->st) {
        f->st = why ? fail(f->err, st, "%s", why) : st;
    }
}

/* ---- where ---- */

// Calls at once that an address may have: what it turned out to take, and no more for its weight than the
// heaviest of those alive.
static int room_of(const struct remote *r, const struct address *a) {
    const struct address *heaviest = a;
    for (size_t i = 0; i < r->n; i++) {
        bool alive = !r->a[i].dead && !r->a[i].open;
        heaviest = alive && r->a[i].weight > heaviest->weight ? &r->a[i] : heaviest;
    }
    double share = ceil((int)heaviest->window * a->weight / heaviest->weight);
    return (int)(a->window < share ? a->window : share);
}

static bool may_take(const struct remote *r, const struct address *a, double now) {
    return !a->dead && !a->open && now >= a->paused_until && (!a->trying || !a->flying) &&
           a->flying < room_of(r, a);
}

// What an address has to do, and what it failed at lately, for its weight.
static double burden(const struct address *a) {
    return (a->flying + a->failures + 1) / a->weight;
}

// The one with the least burden; the one given only where no other is alive.
static struct address *choose(struct fleet *f, size_t not, double now) {
    struct address *best = NULL;
    bool others = false;
    for (size_t i = 0; i < f->r->n; i++) {
        struct address *a = &f->r->a[i];
        others = others || (i != not &&!a->dead && !a->open);
        if (i != not &&may_take(f->r, a, now) && (!best || burden(a) < burden(best))) {
            best = a;
        }
    }
    bool same = !others && not < f->r->n && may_take(f->r, &f->r->a[not ], now);
    return same ? &f->r->a[not ] : best;
}

/* ---- sending ---- */

static const char *body_for(struct fleet *f, struct job *j, bool schema) {
    const plm_call *c = &f->b->calls[j->i];
    if (schema || !c->n_fields) {
        return f->b->bodies[j->i];
    }
    if (!j->plain_body) {
        plm_call plain = *c;
        plain.n_fields = 0;
        plm_status st = body_write(f->r->name, &plain, &j->plain_body, f->st ? NULL : f->err);
        if (st) {
            give_up(f, st, NULL);
        }
    }
    return j->plain_body;
}

static bool shoot(struct fleet *f, struct job *j, struct address *a) {
    const plm_call *c = j ? &f->b->calls[j->i] : NULL;
    struct shot *s = mem_zero(1, sizeof *s);
    bool schema = c && c->n_fields && a->schema >= 0 && !j->plain;
    const char *body = j ? body_for(f, j, schema) : NULL;
    struct http_options how = {
        .method = j ? NULL : "GET", .bearer = f->r->key, .first_byte_s = j ? 0 : 5, .total_s = j ? 0 : 5};
    if (!s || (j && !body)) {
        mem_free(s);
        give_up(f, PLM_ENOMEM, "no memory for a call");
        return false;
    }
    *s = (struct shot){.job = j, .at = (size_t)(a - f->r->a), .started = clock_now(), .schema = schema};
    plm_status st = j ? f->b->leaving(f->b->ctx, j->i, f->err) : PLM_OK;
    st = st ? st
            : http_many_start(f->r->many, j ? a->chat : a->models, body, body ? strlen(body) : 0, &how, s,
                              f->err);
    if (st) {
        mem_free(s);
        give_up(f, st, NULL);
        return false;
    }
    s->next = f->shots;
    f->shots = s;
    if (j) {
        s->reserved = remote_reserve(f->r, strlen(body), c->max_tokens);
        f->r->used.sent++;
        a->sent++;
        a->flying++;
        j->flying++;
    }
    return true;
}

static void forget_shot(struct fleet *f, struct shot *s) {
    struct shot **at = &f->shots;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    if (s->job) {
        f->r->a[s->at].flying--;
        s->job->flying--;
    }
    mem_free(s);
}

// 1: there is money for it, 0: perhaps when others are back, -1: no.
static int affordable(const struct fleet *f, const struct job *j) {
    const struct remote *r = f->r;
    double next = remote_reserve(r, strlen(f->b->bodies[j->i]), f->b->calls[j->i].max_tokens);
    double reserved = 0; // added up anew, since what adding and taking away leaves is seldom nothing
    for (const struct shot *s = f->shots; s; s = s->next) {
        reserved += s->reserved;
    }
    double spent = r->used.spent - r->cap.from;
    return !(r->cap.most > 0) || spent + reserved + next <= r->cap.most ? 1 : reserved > 0 ? 0 : -1;
}

static void send_waiting(struct fleet *f, double now) {
    for (size_t i = 0; i < f->b->n && !f->st; i++) {
        struct job *j = &f->jobs[i];
        if (j->done || j->flying || now < j->not_before) {
            continue;
        }
        int money = affordable(f, j);
        struct address *a = money > 0 ? choose(f, j->failed_at, now) : NULL;
        if (money < 0) {
            f->st = fail(f->err, PLM_ELIMIT, "the cap of %g for this run is spent (%.4f)", f->r->cap.most,
                         f->r->used.spent - f->r->cap.from);
        }
        if (!a || !shoot(f, j, a)) {
            return;
        }
    }
}

static void send_probes(struct fleet *f, double now) {
    for (size_t i = 0; i < f->r->n && !f->st; i++) {
        struct address *a = &f->r->a[i];
        bool on_its_way = false;
        for (struct shot *s = f->shots; s; s = s->next) {
            on_its_way = on_its_way || (!s->job && s->at == i);
        }
        if (a->open && !a->dead && now >= a->open_until && !on_its_way && !shoot(f, NULL, a)) {
            return;
        }
    }
}

static int by_number(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Half as long again as nineteen of twenty replies took.
static double straggles_after(const struct remote *r) {
    double v[LATENCIES];
    size_t n = r->n_latency < LATENCIES ? r->n_latency : LATENCIES;
    if (n < HEDGE_AFTER) {
        return INFINITY;
    }
    memcpy(v, r->latency, n * sizeof *v);
    qsort(v, n, sizeof *v, by_number);
    double late = 1.5 * v[(n - 1) * 19 / 20];
    return late > .25 ? late : .25;
}

// A call that takes far longer than others is asked a second time; one in twenty may be.
static void send_hedges(struct fleet *f, double now) {
    double late = straggles_after(f->r);
    struct shot *next;
    for (struct shot *s = f->shots; s && !f->st; s = next) {
        next = s->next;
        bool slow = s->job && s->job->flying == 1 && !s->job->hedged && now - s->started > late;
        if (!slow || f->hedges > f->done / 20 || affordable(f, s->job) <= 0) {
            continue;
        }
        struct address *a = choose(f, s->at, now);
        if (a && shoot(f, s->job, a)) {
            s->job->hedged = true;
            f->hedges++;
            f->r->used.hedged++;
        }
    }
}

/* ---- what came back ---- */

static void went_well(struct fleet *f, struct address *a, double seconds, int64_t tokens) {
    double each = seconds / (double)(tokens > 0 ? tokens + 32 : 32);
    a->quickest = a->quickest > 0 && a->quickest < each ? a->quickest : each;
    if (each <= 2 * a->quickest) {
        a->window += a->past_first_cut ? 1 / a->window : 1;
    }
    a->window = a->window > f->r->parallel ? f->r->parallel : a->window;
    a->failures = 0;
    a->trying = false;
    a->cool = 0;
    f->r->latency[f->r->n_latency++ % LATENCIES] = seconds;
}

static void went_wrong(struct address *a, const struct shot *s, double now, bool told) {
    if (s->started >= a->cut_at) { // those sent before the last cut say nothing new
        a->window = a->window / 2 > 1 ? a->window / 2 : 1;
        a->cut_at = now;
        a->past_first_cut = true;
    }
    a->failures += !told;
    if (a->trying || a->failures >= FAILURES_MAX) {
        a->cool = a->cool > 0 ? (2 * a->cool < COOL_MAX ? 2 * a->cool : COOL_MAX) : 1;
        a->open = true;
        a->trying = false;
        a->open_until = now + a->cool;
    }
}

static void try_again(struct fleet *f, struct job *j, const struct http_done *d, bool told, double now) {
    j->attempts += !told;
    j->throttled += told;
    if (j->attempts >= ATTEMPTS || j->throttled >= THROTTLED) {
        give_up(f, PLM_EREMOTE, d->story);
        return;
    }
    // Equal jitter: half of the doubled step for certain, half by chance; at once, where another may take it.
    double step = ldexp(f->r->retry_s, j->attempts > 0 ? j->attempts - 1 : 0);
    step = step > WAIT_MAX ? WAIT_MAX : step;
    double wait = choose(f, NOWHERE, now) && f->r->n > 1 ? 0 : step / 2 + rng_unit(&j->rng) * step / 2;
    wait = told && f->r->n == 1 && d->retry_after > wait ? d->retry_after : wait;
    j->not_before = now + wait;
    if (f->r->waiting && f->r->waiting(f->r->ctx, d->story, wait)) {
        give_up(f, PLM_ESTOPPED, "stopped while waiting for the teacher");
    }
}

static void hand_over(struct fleet *f, struct job *j, plm_answer *a) {
    j->done = true;
    f->done++;
    f->r->used.calls++;
    for (struct shot *s = f->shots, *next; s; s = next) { // the slower one of two
        next = s->next;
        if (s->job == j) {
            http_many_cancel(f->r->many, s);
            forget_shot(f, s);
        }
    }
    plm_status st = f->b->arrived(f->b->ctx, j->i, a, f->st ? NULL : f->err);
    if (st) {
        give_up(f, st, NULL);
    }
}

static void take_probe(struct fleet *f, struct address *a, const struct http_done *d, double now) {
    bool alive = d->status && !(d->status == 429 || (d->status >= 500 && d->status != 501));
    if (alive) {
        a->open = false;
        a->trying = true;
        return;
    }
    a->cool = 2 * a->cool < COOL_MAX ? 2 * a->cool : COOL_MAX;
    a->open_until = now + a->cool;
    for (size_t i = 0; i < f->r->n; i++) {
        if (!f->r->a[i].open && !f->r->a[i].dead) {
            return;
        }
    }
    // Nobody is left: a probe without an answer is an attempt of the call that waits longest.
    for (size_t i = 0; i < f->b->n; i++) {
        if (!f->jobs[i].done) {
            try_again(f, &f->jobs[i], d, false, now);
            return;
        }
    }
}

static void take_reply(struct fleet *f, struct shot *s, const struct http_done *d) {
    struct address *a = &f->r->a[s->at];
    struct job *j = s->job;
    double now = clock_now();
    struct shot was = *s;
    forget_shot(f, s);
    if (!j) {
        take_probe(f, a, d, now);
        return;
    }
    bool this_call = d->status == 400 || d->status == 413 || d->status == 422;
    bool schema_to_blame = !d->good && was.schema && a->schema < 1 && (this_call || d->status == 501);
    if (schema_to_blame) {
        j->plain = true; // seen in the next attempt
    } else if (d->good || this_call) {
        plm_answer answer = {0};
        size_t len = strlen(f->b->bodies[j->i]);
        plm_status st = remote_read(f->r, d, len, &answer, f->st ? NULL : f->err);
        if (st) {
            give_up(f, st, NULL);
            return;
        }
        if (d->good) {
            went_well(f, a, d->seconds, answer.tokens_out);
            a->schema = was.schema ? 1 : j->plain && a->schema == 0 ? -1 : a->schema;
        }
        hand_over(f, j, &answer);
    } else if (d->passing) {
        bool told = d->status == 429 && d->retry_after >= 0;
        a->paused_until = d->retry_after >= 0 ? now + d->retry_after : a->paused_until;
        went_wrong(a, &was, now, told);
        j->failed_at = was.at;
        if (!j->flying) {
            try_again(f, j, d, told, now);
        }
    } else {
        bool others = false;
        a->dead = true;
        for (size_t i = 0; i < f->r->n; i++) {
            others = others || !f->r->a[i].dead;
        }
        if (!others) {
            give_up(f, PLM_EREMOTE, d->story);
        }
    }
}

/* ---- the loop ---- */

static bool calls_under_way(const struct fleet *f) {
    for (const struct shot *s = f->shots; s; s = s->next) {
        if (s->job) {
            return true;
        }
    }
    return false;
}

// After a failure what is under way is still waited for, since it is paid; not when the person wants to stop.
static bool goes_on(const struct fleet *f) {
    return f->st ? f->st != PLM_ESTOPPED && calls_under_way(f) : f->done < f->b->n;
}

static void run_fleet(struct fleet *f) {
    while (goes_on(f)) {
        double now = clock_now();
        if (!f->st) {
            send_probes(f, now);
            send_waiting(f, now);
            send_hedges(f, now);
        }
        struct http_done d;
        bool any;
        plm_status st = http_many_wait(f->r->many, .02, &d, &any, f->st ? NULL : f->err);
        if (st) {
            give_up(f, st, NULL);
            return;
        }
        if (any) {
            take_reply(f, d.tag, &d);
            http_done_free(&d);
        }
    }
}

plm_status fleet_ask(struct remote *r, const struct batch *b, plm_error *err) {
    struct fleet f = {.r = r, .b = b, .err = err, .jobs = mem_zero(b->n + 1, sizeof *f.jobs)};
    if (!f.jobs) {
        return fail(err, PLM_ENOMEM, "no memory for calls");
    }
    for (size_t i = 0; i < b->n; i++) {
        f.jobs[i].i = i;
        f.jobs[i].failed_at = NOWHERE;
        rng_seed(&f.jobs[i].rng, b->calls[i].seed, 77);
    }
    run_fleet(&f);
    while (f.shots) {
        http_many_cancel(r->many, f.shots);
        forget_shot(&f, f.shots);
    }
    for (size_t i = 0; i < b->n; i++) {
        plm_free(f.jobs[i].plain_body);
    }
    mem_free(f.jobs);
    return f.st;
}
