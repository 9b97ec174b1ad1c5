/* teacher_http.c: a teacher behind an OpenAI-compatible API. Knows its costs, stops before the cap, and
 * treats a refused call as that call's failure, an unreachable service as the run's. */
#include <stdio.h>
#include <string.h>

#include "net/net.h"
#include "synth/inside.h"

struct remote {
    char *url, *key;
    double max_cost, cost_in, cost_out, spent;
    int (*waiting)(void *ctx, const char *why, double seconds);
    void *ctx;
};

plm_status remote_open(struct remote **out, const struct teacher_options *opt, plm_error *err) {
    static const char path[] = "/chat/completions";
    struct remote *r = mem_zero(1, sizeof *r);
    size_t n = strlen(opt->spec);
    bool whole = str_ends(str_of(opt->spec), path);
    while (n && opt->spec[n - 1] == '/') {
        n--;
    }
    if (r) {
        r->url = mem_alloc(n + sizeof path, 1);
        r->key = opt->key ? mem_dupz(opt->key) : NULL;
    }
    if (!r || !r->url || (opt->key && !r->key)) {
        remote_close(r);
        return fail(err, PLM_ENOMEM, "no memory for a teacher");
    }
    snprintf(r->url, n + sizeof path, "%.*s%s", (int)n, opt->spec, whole ? "" : path);
    r->max_cost = opt->max_cost;
    r->cost_in = opt->cost_in;
    r->cost_out = opt->cost_out;
    r->waiting = opt->waiting;
    r->ctx = opt->ctx;
    *out = r;
    return PLM_OK;
}

void remote_close(struct remote *r) {
    if (r) {
        if (r->key) {
            explicit_bzero(r->key, strlen(r->key));
        }
        mem_free(r->key);
        mem_free(r->url);
        mem_free(r);
    }
}

// What a call cost; where the service does not say, or says nonsense, three bytes are taken for a token.
static void count_cost(struct remote *r, struct answer *a, size_t sent) {
    a->tokens_in = a->tokens_in >= 0 ? a->tokens_in : (int64_t)(sent / 3 + 1);
    a->tokens_out = a->tokens_out >= 0 ? a->tokens_out : (int64_t)(strlen(a->text) / 3 + 1);
    r->spent += ((double)a->tokens_in * r->cost_in + (double)a->tokens_out * r->cost_out) / 1e6;
}

static plm_status refused(struct answer *out, int status, plm_error *err) {
    out->why = status == 413 ? "too long for the teacher" : "refused by the service";
    out->finish = "none";
    out->tokens_in = out->tokens_out = -1;
    out->text = mem_dupz("");
    return out->text ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a reply");
}

plm_status remote_ask(struct remote *r, const char *body, const struct call *c, struct answer *out,
                      plm_error *err) {
    if (r->max_cost > 0 && r->spent >= r->max_cost) {
        return fail(err, PLM_ELIMIT, "the cap of %g for this run is spent (%.4f)", r->max_cost, r->spent);
    }
    struct http_options how = {.bearer = r->key, .seed = c->seed, .waiting = r->waiting, .ctx = r->ctx};
    struct http_reply reply;
    size_t len = strlen(body);
    plm_status st = http_send(r->url, body, len, &how, &reply, err);
    bool this_call = reply.status == 400 || reply.status == 413 || reply.status == 422;
    if (!st) {
        st = completion_read(out, reply.body.data, reply.body.len, err);
    } else if (st == PLM_EREMOTE && this_call) {
        st = refused(out, reply.status, err);
    }
    if (!st) {
        out->seconds = reply.seconds;
        count_cost(r, out, len);
    }
    http_reply_free(&reply);
    return st;
}
