/* latency.h: the same questions answered on this device and by an endpoint, through networks from good to
 * none, as rows of a table. */
#ifndef PLM_EVAL_LATENCY_H
#define PLM_EVAL_LATENCY_H
#include "endpoint.h"
#include "questions.h"
#include "shared/encode.h"
#include "shared/progress.h"

enum { ROUND_TRIPS = 6, ROWS = ROUND_TRIPS + 4 };

enum where { DEVICE, DIRECT, NETWORK };

struct row {
    enum where where;
    char name[80];
    struct network net;
    size_t out_from, out_n; /* the rounds during which connections are refused */
    struct asked *each;     /* [questions] */
    size_t stalled;
};

struct latency { /* what is set before latency_run: */
    const char *model, *cpu, *adapter, *endpoint_url, *endpoint_model, *key_file, *ca_file; /* NULL: none */
    int threads, max_tokens;
    const char *rtt;               /* "20,100,300" ms; NULL: these */
    double stall, stalls, timeout; /* seconds, percent, seconds */
    uint64_t seed;
    bool quiet;
    struct questions q; /* owned */
    /* and what it owns and fills: */
    double load_s; /* of the model */
    struct row row[ROWS];
    size_t n_rows, done;
    struct progress bar;
    plm_model *m;
    plm_session *session;
    struct loras loras;
    bool raw;
    struct endpoint *endpoint;
    struct proxy *proxy;
};
/* Asks every question in every row. What goes wrong at the endpoint is counted; only what is wrong here, or a
 * first question that the endpoint does not answer, is an error. */
plm_status latency_run(struct latency *l, plm_error *err);
void latency_close(struct latency *l);

struct figures {               /* milliseconds, of the questions that were answered; NAN: there is none */
    double first[2], whole[2]; /* p50, p95 */
    double added;              /* p50 of the whole answer's time less the same question's directly */
    double pieces;             /* mean */
    size_t answered, outcome[OUTCOMES];
};
plm_status figures_of(const struct latency *l, const struct row *r, struct figures *f, plm_error *err);
/* The smallest value that at least `share` of the values do not pass; NAN: there is none. Sorts v. */
double percentile(double *v, size_t n, double share);
#endif
