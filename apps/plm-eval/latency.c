/* latency.c: times are of a clock that runs, faults are drawn from the seed. Questions are asked one after
 * the other; each starts cold: nothing of the one before is kept on the device, and the endpoint sees a new
 * connection. */
#include "latency.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUTAGE = 10 /* connections are refused for one question in so many, in the middle */ };

/* ---- the device ---- */

static plm_status open_device(struct latency *l, plm_error *err) {
    double from = clock_now();
    plm_model_options opt = {.threads = l->threads, .cpu = l->cpu};
    plm_status st = plm_model_open(&l->m, l->model, &opt, err);
    if (st == PLM_OK && l->adapter)
        st = loras_add(&l->loras, l->m, l->adapter, 1, err);
    if (st == PLM_OK)
        st = plm_session_new(&l->session, l->m, NULL, err);
    if (st == PLM_OK && l->loras.n) {
        const char *template = plm_adapter_get(l->loras.adapter[0], "plm.template");
        l->raw = template && strcmp(template, "raw") == 0;
    }
    l->load_s = clock_now() - from;
    return st;
}

struct hearing {
    double from, first;
};

static int on_token(void *ctx, int32_t id, const char *text, size_t len) {
    struct hearing *h = ctx;
    (void)id;
    (void)text;
    if (len && isnan(h->first))
        h->first = clock_now() - h->from;
    return 0;
}

static plm_status ask_device(struct latency *l, const char *question, struct asked *out, plm_error *err) {
    struct encoded e = {0};
    plm_generation g = {0};
    plm_generate_options opt = {.max_tokens = l->max_tokens};
    /* To choose the adapters again forgets the last question. */
    plm_status st = plm_session_use(l->session, l->loras.use, l->loras.n, err);
    struct hearing h = {clock_now(), NAN};
    if (st == PLM_OK)
        st = encode_turn(&e, l->m, NULL, question, NULL, l->raw, err);
    if (st == PLM_OK)
        st = plm_generate(l->session, e.ids, e.n, &opt, on_token, &h, &g, err);
    encoded_free(&e);
    double whole = clock_now() - h.from;
    *out = (struct asked){.first = isnan(h.first) ? whole : h.first, .whole = whole, .pieces = (int)g.n_new};
    return st;
}

/* ---- the rows ---- */

static struct row *add_row(struct latency *l, enum where where, double round_trip) {
    struct row *r = &l->row[l->n_rows++];
    *r = (struct row){.where = where, .net = {.round_trip = round_trip}};
    return r;
}

/* "20,100,300" as seconds; how many, 0 where it makes no sense. */
static size_t round_trips(const char *list, double out[ROUND_TRIPS]) {
    struct str rest = str_of(list ? list : "20,100,300"), one;
    size_t n = 0;
    while (str_cut(&rest, ',', &one)) {
        if (n == ROUND_TRIPS || !parse_f64(str_trim(one), &out[n]) || out[n] < 0 || out[n] > 1e4)
            return 0;
        out[n++] /= 1e3;
    }
    return n;
}

static plm_status plan_rows(struct latency *l, plm_error *err) {
    double trip[ROUND_TRIPS];
    size_t n = round_trips(l->rtt, trip);
    if (!n)
        return fail(err, PLM_EINVAL, "--rtt takes up to %d numbers of milliseconds, not \"%.80s\"",
                    ROUND_TRIPS, l->rtt);
    if (l->model)
        snprintf(add_row(l, DEVICE, 0)->name, 80, "this device");
    if (l->endpoint_url) {
        double middle = trip[n / 2];
        snprintf(add_row(l, DIRECT, 0)->name, 80, "endpoint, directly");
        for (size_t i = 0; i < n; i++)
            snprintf(add_row(l, NETWORK, trip[i])->name, 80, "  %g ms away", trip[i] * 1e3);
        struct row *r = add_row(l, NETWORK, middle);
        r->net.stalls = l->stalls / 100;
        r->net.stall = l->stall;
        snprintf(r->name, 80, "  %g ms, %g %% stall", middle * 1e3, l->stalls);
        r = add_row(l, NETWORK, middle);
        r->out_n = (l->q.n + OUTAGE - 1) / OUTAGE;
        r->out_from = (l->q.n - r->out_n) / 2;
        snprintf(r->name, 80, "  %g ms, an outage", middle * 1e3);
    }
    for (size_t i = 0; i < l->n_rows; i++) {
        l->row[i].each = mem_zero(l->q.n, sizeof *l->row[i].each);
        if (!l->row[i].each)
            return fail(err, PLM_ENOMEM, "out of memory");
    }
    return PLM_OK;
}

static plm_status ask(struct latency *l, struct row *r, size_t round, size_t i, plm_error *err) {
    if (r->where == DEVICE)
        return ask_device(l, l->q.v[i], &r->each[i], err);
    if (r->where == DIRECT)
        return endpoint_ask(l->endpoint, NULL, l->q.v[i], &r->each[i], err);
    struct network net = r->net;
    net.refuses = round >= r->out_from && round < r->out_from + r->out_n;
    plm_status st = proxy_set(l->proxy, &net, err);
    if (st == PLM_OK)
        st = endpoint_ask(l->endpoint, l->proxy, l->q.v[i], &r->each[i], err);
    r->stalled += proxy_stalled(l->proxy);
    return st;
}

/* The first answer of a model that was just opened pays for pages and packing, and so may an endpoint's. */
static plm_status warm_up(struct latency *l, plm_error *err) {
    struct asked first = {0};
    plm_status st = l->m ? ask_device(l, l->q.v[0], &first, err) : PLM_OK;
    if (st == PLM_OK && l->endpoint) {
        st = endpoint_ask(l->endpoint, NULL, l->q.v[0], &first, err);
        if (st == PLM_OK && first.outcome != ANSWERED)
            st = fail(err, PLM_EREMOTE, "%s", first.why);
    }
    return st;
}

/* Row by row in turn, so that what else the machine does falls on all rows alike; and each with another
 * question, for servers remember the last one. */
static plm_status run_rows(struct latency *l, plm_error *err) {
    progress_start(&l->bar, l->quiet, "latency");
    plm_status st = warm_up(l, err);
    for (size_t round = 0; st == PLM_OK && round < l->q.n; round++) {
        for (size_t k = 0; st == PLM_OK && k < l->n_rows; k++) {
            progress_at(&l->bar, (double)l->done++, (double)(l->n_rows * l->q.n), l->row[k].name);
            st = ask(l, &l->row[k], round, (round + k) % l->q.n, err);
        }
    }
    progress_end(&l->bar);
    return st;
}

/* ---- the whole ---- */

static plm_status open_endpoint(struct latency *l, plm_error *err) {
    plm_status st = endpoint_open(&l->endpoint, l->endpoint_url, l->endpoint_model, l->key_file, l->ca_file,
                                  l->max_tokens, l->timeout, err);
    if (st == PLM_OK)
        st = proxy_open(&l->proxy, endpoint_host(l->endpoint), endpoint_port(l->endpoint), l->seed, err);
    if (st == PLM_OK && !endpoint_is_here(l->endpoint) && !l->quiet)
        fprintf(stderr, "the questions go to %s\n", endpoint_host(l->endpoint));
    return st;
}

plm_status latency_run(struct latency *l, plm_error *err) {
    plm_status st = plan_rows(l, err);
    if (st == PLM_OK && l->model)
        st = open_device(l, err);
    if (st == PLM_OK && l->endpoint_url)
        st = open_endpoint(l, err);
    return st ? st : run_rows(l, err);
}

void latency_close(struct latency *l) {
    for (size_t k = 0; k < l->n_rows; k++)
        mem_free(l->row[k].each);
    proxy_close(l->proxy);
    endpoint_close(l->endpoint);
    plm_session_free(l->session);
    loras_close(&l->loras);
    plm_model_close(l->m);
    questions_free(&l->q);
}

/* ---- the numbers ---- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double percentile(double *v, size_t n, double share) {
    if (!n)
        return NAN;
    qsort(v, n, sizeof *v, by_value);
    size_t rank = (size_t)ceil(share * (double)n - 1e-9);
    return v[rank ? rank - 1 : 0];
}

static const struct row *direct_row(const struct latency *l) {
    for (size_t k = 0; k < l->n_rows; k++)
        if (l->row[k].where == DIRECT)
            return &l->row[k];
    return NULL;
}

plm_status figures_of(const struct latency *l, const struct row *r, struct figures *f, plm_error *err) {
    const struct row *direct = r->where == NETWORK ? direct_row(l) : NULL;
    double *first = mem_alloc(l->q.n, 3 * sizeof *first), pieces = 0;
    if (!first)
        return fail(err, PLM_ENOMEM, "out of memory");
    double *whole = first + l->q.n, *added = whole + l->q.n;
    size_t n_added = 0;
    *f = (struct figures){.pieces = NAN};
    for (size_t i = 0; i < l->q.n; i++) {
        const struct asked *a = &r->each[i];
        f->outcome[a->outcome]++;
        if (a->outcome != ANSWERED)
            continue;
        first[f->answered] = a->first * 1e3;
        whole[f->answered++] = a->whole * 1e3;
        pieces += a->pieces;
        if (direct && direct->each[i].outcome == ANSWERED)
            added[n_added++] = (a->whole - direct->each[i].whole) * 1e3;
    }
    for (int k = 0; k < 2; k++) {
        f->first[k] = percentile(first, f->answered, k ? 0.95 : 0.5);
        f->whole[k] = percentile(whole, f->answered, k ? 0.95 : 0.5);
    }
    f->added = percentile(added, n_added, 0.5);
    if (f->answered)
        f->pieces = pieces / (double)f->answered;
    mem_free(first);
    return PLM_OK;
}
