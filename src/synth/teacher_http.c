/* teacher_http.c: a teacher behind one or several addresses of an OpenAI-compatible API: "URL", or
 * "URL*WEIGHT,URL*WEIGHT". Knows its costs, stops before the cap, and treats a refused call as that call's
 * failure, an unreachable service as the run's. */
#include <stdio.h>
#include <string.h>

#include "synth/fleet.h"

enum { AT_ONCE = 16 };

static const char chat_path[] = "/chat/completions";

static plm_status add_address(struct remote *r, struct str spec, plm_error *err) {
    const char *star = memrchr(spec.p, '*', spec.n);
    double weight = 1;
    if (star) {
        struct str number = {star + 1, spec.n - (size_t)(star + 1 - spec.p)};
        if (!parse_f64(number, &weight) || !(weight > 0) || weight > 1000) {
            return fail(err, PLM_EINVAL, "%.*s is no weight of an address", (int)number.n, number.p);
        }
        spec.n = (size_t)(star - spec.p);
    }
    while (spec.n && spec.p[spec.n - 1] == '/') {
        spec.n--;
    }
    if (str_ends(spec, chat_path)) {
        spec.n -= sizeof chat_path - 1;
    }
    if (r->n == ADDRESSES_MAX) {
        return fail(err, PLM_ELIMIT, "a teacher has over %d addresses", ADDRESSES_MAX);
    }
    struct address *a = &r->a[r->n++];
    *a = (struct address){.weight = weight, .window = 2};
    a->chat = mem_alloc(spec.n + sizeof chat_path, 1);
    a->models = mem_alloc(spec.n + sizeof "/models", 1);
    if (!a->chat || !a->models) {
        return fail(err, PLM_ENOMEM, "no memory for a teacher");
    }
    snprintf(a->chat, spec.n + sizeof chat_path, "%.*s%s", (int)spec.n, spec.p, chat_path);
    snprintf(a->models, spec.n + sizeof "/models", "%.*s/models", (int)spec.n, spec.p);
    return http_check_url(a->chat, NULL, err);
}

plm_status remote_open(struct remote **out, const plm_teacher_options *opt, const char *name, bool *loopback,
                       plm_error *err) {
    struct remote *r = mem_zero(1, sizeof *r);
    if (r) {
        r->name = mem_dupz(name);
        r->key = opt->key ? mem_dupz(opt->key) : NULL;
    }
    if (!r || !r->name || (opt->key && !r->key)) {
        remote_close(r);
        return fail(err, PLM_ENOMEM, "no memory for a teacher");
    }
    struct str rest = str_of(opt->spec), one;
    plm_status st = http_many_open(&r->many, err);
    *loopback = true;
    while (!st && str_cut(&rest, ',', &one)) {
        bool here = false;
        st = add_address(r, str_trim(one), err);
        st = st ? st : http_check_url(r->a[r->n - 1].chat, &here, err);
        *loopback = *loopback && here;
    }
    if (st) {
        remote_close(r);
        return st;
    }
    r->parallel = opt->parallel > 0 ? opt->parallel : AT_ONCE;
    r->retry_s = 1;
    r->cap.most = opt->max_cost;
    r->cost_in = opt->cost_in;
    r->cost_out = opt->cost_out;
    r->waiting = opt->waiting;
    r->ctx = opt->ctx;
    *out = r;
    return PLM_OK;
}

void remote_close(struct remote *r) {
    if (r) {
        http_many_close(r->many);
        if (r->key) {
            explicit_bzero(r->key, strlen(r->key));
        }
        for (size_t i = 0; i < r->n; i++) {
            mem_free(r->a[i].chat);
            mem_free(r->a[i].models);
        }
        mem_free(r->key);
        mem_free(r->name);
        mem_free(r);
    }
}

double remote_price(const struct remote *r, int64_t tokens_in, int64_t tokens_out) {
    return ((double)tokens_in * r->cost_in + (double)tokens_out * r->cost_out) / 1e6;
}

double remote_reserve(const struct remote *r, size_t len, int max_tokens) {
    return remote_price(r, (int64_t)(len / 2), max_tokens);
}

// What a call cost; where the service does not say, or says nonsense, three bytes are taken for a token.
static void count_cost(struct remote *r, plm_answer *a, size_t sent) {
    a->tokens_in = a->tokens_in >= 0 ? a->tokens_in : (int64_t)(sent / 3 + 1);
    a->tokens_out = a->tokens_out >= 0 ? a->tokens_out : (int64_t)(strlen(a->text) / 3 + 1);
    r->used.tokens_in += a->tokens_in;
    r->used.tokens_out += a->tokens_out;
    r->used.spent += remote_price(r, a->tokens_in, a->tokens_out);
}

plm_status remote_read(struct remote *r, const struct http_done *d, size_t sent, plm_answer *out,
                       plm_error *err) {
    plm_status st = PLM_OK;
    if (d->good) {
        st = completion_read(out, d->body.data ? d->body.data : "", d->body.len, err);
    } else {
        out->why = d->status == 413 ? "too long for the teacher" : "refused by the service";
        out->finish = "none";
        out->tokens_in = out->tokens_out = -1;
        out->text = mem_dupz("");
        st = out->text ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a reply");
    }
    if (!st) {
        out->seconds = d->seconds;
        count_cost(r, out, sent);
    }
    return st;
}

void remote_usage(const struct remote *r, plm_teacher_usage *out) {
    *out = r->used;
}

struct cap *remote_cap(struct remote *r) {
    return &r->cap;
}

plm_status remote_ask_all(struct remote *r, const struct batch *b, plm_error *err) {
    return fleet_ask(r, b, err);
}
