/* teacher_gguf.c: a teacher in this process: a GGUF model with its own chat template, through plm.h alone.
 * Each call starts from an empty session: with a prefix kept from the call before, sums would be made in
 * another order, and a job that was stopped and goes on would get other replies than one that was not. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "synth/constrain.h"
#include "synth/inside.h"

enum { REPLY_MAX = 256 << 10, TOKEN_MAX = 64 };

/* Nothing less likely than this share of the likeliest is drawn: e^-16. */
#define NATS 16

struct local {
    plm_model *model;
    plm_session *session;
    int context, vocab;
    int32_t *ids; /* [context] */
    /* The bytes of each token, one after the other; made when a form is first kept to. */
    char *bytes;
    uint32_t *from; /* [vocab + 1] */
    struct likely {
        float logit;
        int32_t id;
    } * likely; /* [vocab] */
};

plm_status local_open(struct local **out, const plm_teacher_options *opt, char name[80], bool *capable,
                      plm_error *err) {
    struct local *l = mem_zero(1, sizeof *l);
    if (!l) {
        return fail(err, PLM_ENOMEM, "no memory for a teacher");
    }
    plm_model_options how = {.threads = opt->threads, .cpu = opt->cpu, .digest_cache = opt->digest_cache};
    char hex[65];
    plm_status st = plm_model_open(&l->model, opt->spec, &how, err);
    if (!st && !plm_model_describe(l->model)->chat_template) {
        st = fail(err, PLM_ENOTSUP, "%s has no chat template that plm knows; a teacher needs one", opt->spec);
    }
    st = st ? st : plm_model_digest(l->model, hex, err);
    if (!st) {
        int context = plm_model_describe(l->model)->context;
        l->vocab = plm_model_describe(l->model)->vocab;
        l->context = context > 0 && context < 4096 ? context : 4096;
        l->ids = mem_alloc((size_t)l->context, sizeof *l->ids);
        st = l->ids
                 ? plm_session_new(&l->session, l->model, &(plm_session_options){.context = l->context}, err)
                 : fail(err, PLM_ENOMEM, "no memory for a teacher");
    }
    if (st) {
        local_close(l);
        return st;
    }
    snprintf(name, 80, "gguf:%s", hex);
    *capable = plm_model_describe(l->model)->parameters >= 3000000000u;
    *out = l;
    return PLM_OK;
}

void local_close(struct local *l) {
    if (l) {
        plm_session_free(l->session);
        plm_model_close(l->model);
        mem_free(l->ids);
        mem_free(l->bytes);
        mem_free(l->from);
        mem_free(l->likely);
        mem_free(l);
    }
}

static int on_token(void *ctx, int32_t id, const char *text, size_t len) {
    struct bytes *b = ctx;
    (void)id;
    bytes_put(b, text, len);
    return b->st != PLM_OK;
}

/* ---- a reply that keeps to a form ---- */

static plm_status spell_tokens(struct local *l, plm_error *err) {
    if (l->bytes) {
        return PLM_OK;
    }
    struct bytes b;
    bytes_init(&b, (size_t)l->vocab * TOKEN_MAX);
    l->from = mem_zero((size_t)l->vocab + 1, sizeof *l->from);
    l->likely = mem_zero((size_t)l->vocab, sizeof *l->likely);
    plm_status st = l->from && l->likely ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a vocabulary");
    for (int32_t id = 0; id < l->vocab && !st; id++) {
        char text[TOKEN_MAX];
        size_t n = 0;
        // Control tokens and the very longest have no bytes here, and so are never allowed.
        bool spelt = plm_decode(l->model, &id, 1, false, text, sizeof text, &n, NULL) == PLM_OK;
        bytes_put(&b, text, spelt ? n : 0);
        l->from[id + 1] = (uint32_t)b.len;
    }
    st = st ? st : bytes_status(&b, "a vocabulary", err);
    l->bytes = st ? NULL : bytes_take(&b);
    bytes_free(&b);
    return st || l->bytes ? st : fail(err, PLM_ENOMEM, "no memory for a vocabulary");
}

static int by_likelihood(const void *a, const void *b) {
    const struct likely *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit)
                                : (x->id > y->id) - (x->id < y->id);
}

// Temperature and top-p over what the form allows; -1: nothing.
static int32_t draw(struct likely *c, size_t n, const plm_call *how, uint64_t step) {
    if (!n) {
        return -1;
    }
    float best = c[0].logit;
    for (size_t i = 1; i < n; i++) {
        best = c[i].logit > best ? c[i].logit : best;
    }
    double t = how->temperature > .01f ? (double)how->temperature : .01, all = 0, sum = 0;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (((double)best - (double)c[i].logit) / t <= NATS) {
            c[kept++] = c[i];
        }
    }
    qsort(c, kept, sizeof *c, by_likelihood);
    for (size_t i = 0; i < kept; i++) {
        all += exp(((double)c[i].logit - (double)best) / t);
    }
    double limit = how->top_p > 0 && how->top_p < 1 ? (double)how->top_p * all : all;
    size_t last = 0;
    for (; last < kept && sum < limit; last++) {
        sum += exp(((double)c[last].logit - (double)best) / t);
    }
    struct rng r;
    rng_seed(&r, how->seed, step);
    double at = rng_unit(&r) * sum;
    for (size_t i = 0; i < last; i++) {
        at -= exp(((double)c[i].logit - (double)best) / t);
        if (at < 0) {
            return c[i].id;
        }
    }
    return c[0].id;
}

static plm_status write_form(struct local *l, const struct form *f, const plm_call *c, size_t n, size_t most,
                             struct bytes *out, plm_answer *a, plm_error *err) {
    struct place p = {0};
    size_t written = 0;
    plm_status st = spell_tokens(l, err);
    while (!st && form_left(f, &p) && written < most) {
        st = plm_session_sync(l->session, l->ids, n + written, err);
        const float *logits = st ? NULL : plm_session_logits(l->session);
        size_t allowed = 0;
        for (int32_t id = 0; id < l->vocab && !st; id++) {
            struct place to = p;
            size_t len = l->from[id + 1] - l->from[id];
            if (len && isfinite(logits[id]) && form_take(f, &to, l->bytes + l->from[id], len) &&
                form_left(f, &to) + written + 1 <= most) {
                l->likely[allowed++] = (struct likely){logits[id], id};
            }
        }
        int32_t id = st ? -1 : draw(l->likely, allowed, c, written);
        if (id < 0) {
            break; // a vocabulary without single bytes
        }
        form_take(f, &p, l->bytes + l->from[id], l->from[id + 1] - l->from[id]);
        bytes_put(out, l->bytes + l->from[id], l->from[id + 1] - l->from[id]);
        l->ids[n + written++] = id;
    }
    a->finish = form_left(f, &p) ? "length" : "stop";
    a->tokens_out = (int64_t)written;
    return st;
}

/* ---- one of given texts ---- */

// Each with the likelihood of the whole of it, its end included, so that short and long ones compare.
static plm_status choose(struct local *l, const plm_call *c, const plm_message *asked, size_t n_asked,
                         size_t n, struct bytes *out, plm_answer *a, plm_error *err) {
    plm_message m[3] = {asked[0], n_asked > 1 ? asked[1] : asked[0]};
    double *logprob = mem_alloc((size_t)l->context, sizeof *logprob);
    struct likely *all = mem_zero(c->n_choices, sizeof *all);
    plm_status st = logprob && all ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a choice");
    for (size_t i = 0; i < c->n_choices && !st; i++) {
        size_t len = 0;
        double sum = 0;
        m[n_asked] = (plm_message){"assistant", c->choices[i]};
        st = plm_chat_encode(l->model, m, n_asked + 1, l->ids, NULL, (size_t)l->context, &len, err);
        st = st ? st : plm_score(l->session, l->ids, len, n, logprob, err);
        for (size_t k = n; k < len && !st; k++) {
            sum += logprob[k - n];
        }
        all[i] = (struct likely){(float)sum, (int32_t)i};
        a->tokens_out += st ? 0 : (int64_t)(len - n);
    }
    if (!st) {
        bytes_puts(out, c->choices[draw(all, c->n_choices, c, 0)]);
        a->finish = "stop";
    }
    mem_free(logprob);
    mem_free(all);
    return st;
}

static plm_status write_freely(struct local *l, const plm_call *c, size_t n, int most, struct bytes *b,
                               plm_answer *a, plm_error *err) {
    plm_generation report = {0};
    plm_generate_options how = {
        .sampling = {.temperature = c->temperature, .top_p = c->top_p, .seed = c->seed}, .max_tokens = most};
    plm_status st = plm_generate(l->session, l->ids, n, &how, on_token, b, &report, err);
    bool whole = report.finish == PLM_FINISH_END || report.finish == PLM_FINISH_STOP;
    a->finish = whole ? "stop" : "length";
    a->tokens_out = (int64_t)report.n_new;
    return st;
}

plm_status local_ask(struct local *l, const plm_call *c, plm_answer *out, plm_error *err) {
    plm_message m[2] = {{"system", c->system ? c->system : ""}, {"user", c->user}};
    size_t skip = !c->system, n = 0;
    double from = clock_now();
    plm_status st = plm_chat_encode(l->model, m + skip, 2 - skip, l->ids, NULL, (size_t)l->context, &n, err);
    bool too_long = st == PLM_ELIMIT || (!st && n + 16 > (size_t)l->context);
    if (st && !too_long) {
        return st;
    }
    struct bytes b;
    struct form *form = NULL;
    bytes_init(&b, REPLY_MAX);
    *out = (plm_answer){.finish = "none", .tokens_in = (int64_t)n};
    st = too_long ? PLM_OK : plm_session_use(l->session, NULL, 0, err);
    if (!st && !too_long) {
        size_t room = (size_t)l->context - n;
        int most = (size_t)c->max_tokens < room ? c->max_tokens : (int)room;
        bool lines = c->n_fields && form_open(&form, c, most, NULL) == PLM_OK;
        st = c->n_choices ? choose(l, c, m + skip, 2 - skip, n, &b, out, err)
             : lines      ? write_form(l, form, c, n, (size_t)most, &b, out, err)
                          : write_freely(l, c, n, most, &b, out, err);
        st = b.st == PLM_ENOMEM ? fail(err, PLM_ENOMEM, "no memory for a reply") : st;
        st = b.st == PLM_ELIMIT ? PLM_OK : st;
        too_long = st == PLM_ELIMIT; // a choice behind the prompt
        st = too_long ? PLM_OK : st;
    }
    form_close(form);
    if (!st) {
        out->why = too_long ? "too long for the teacher" : b.st || !b.len ? "no text" : NULL;
        out->finish = out->why ? "none" : out->finish;
        out->seconds = clock_now() - from;
        out->text = out->why ? mem_dupz("") : bytes_take(&b);
        st = out->text ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a reply");
    }
    bytes_free(&b);
    return st;
}
