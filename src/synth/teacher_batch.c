/* teacher_batch.c: a service that is not called but handed a file of calls, and hands back a file of replies
 * (the Batch format of OpenAI's API). A call is named by the hash of its body, so a result fits whatever run
 * asks for the same. What the results do not hold is written down for the service and ends the run, or is
 * called. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "synth/fleet.h"

enum { LINE_MAX_BYTES = 16 << 20 };

struct file_batch {
    struct remote *r;
    const struct batch *b;
    char (*name)[65]; /* [n] of each call */
    bool *answered;   /* [n] */
};

/* ---- results ---- */

// A failure that may pass leaves the call unanswered.
static bool may_pass(int status) {
    return status == 408 || status == 409 || status == 429 || status >= 500;
}

static plm_status take_result(struct file_batch *f, size_t i, const json_t *response, plm_error *err) {
    const json_t *body = json_object_get(response, "body");
    struct http_done d = {.status = (int)json_integer_value(json_object_get(response, "status_code"))};
    if (!body || may_pass(d.status)) {
        return PLM_OK;
    }
    d.good = d.status == 200;
    plm_answer a = {0};
    char *text = NULL;
    plm_status st = json_write(body, &text, err);
    if (!st) {
        d.body.data = text;
        d.body.len = strlen(text);
        st = remote_read(f->r, &d, strlen(f->b->bodies[i]), &a, err);
    }
    plm_free(text);
    if (!st) {
        f->r->used.calls++;
        f->answered[i] = true;
        st = f->b->arrived(f->b->ctx, i, &a, err);
    }
    return st;
}

static plm_status read_line(struct file_batch *f, const char *line, size_t len, const char *where,
                            plm_error *err) {
    json_t *doc = NULL;
    plm_status st = line ? json_parse(&doc, line, len, where, err)
                         : fail(err, PLM_EFORMAT, "%s is longer than any reply", where);
    const char *name = st ? NULL : json_text(doc, "custom_id");
    if (!st && !name) {
        st = fail(err, PLM_EFORMAT, "%s is no result of a batch: it has no \"custom_id\"", where);
    }
    for (size_t i = 0; i < f->b->n && !st; i++) {
        if (!f->answered[i] && strcmp(f->name[i], name) == 0) {
            st = take_result(f, i, json_object_get(doc, "response"), err);
        }
    }
    json_decref(doc);
    return st;
}

static plm_status read_results(struct file_batch *f, const char *path, plm_error *err) {
    struct lines *l = NULL;
    plm_status st = lines_open(&l, path, LINE_MAX_BYTES, err);
    for (bool more = !st; more && !st;) {
        const char *line;
        char where[300];
        size_t len, number;
        st = lines_next(l, &line, &len, &number, &more, err);
        if (!st && more && (!line || len)) {
            snprintf(where, sizeof where, "%.250s:%zu", path, number);
            st = read_line(f, line, len, where, err);
        }
    }
    lines_close(l);
    return st;
}

/* ---- calls ---- */

static plm_status put_call(struct writer *w, const char *name, const char *body, plm_error *err) {
    char head[200];
    int n = snprintf(
        head, sizeof head,
        "{\"custom_id\":\"%s\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":", name);
    plm_status st = writer_put(w, head, (size_t)n, err);
    st = st ? st : writer_put(w, body, strlen(body), err);
    return st ? st : writer_put(w, "}\n", 2, err);
}

static plm_status write_calls(const struct file_batch *f, const char *path, plm_error *err) {
    const struct remote *r = f->r;
    struct writer *w = NULL;
    size_t written = 0;
    double cost = r->used.spent - r->cap.from;
    plm_status st = writer_open(&w, path, err);
    for (size_t i = 0; i < f->b->n && !st; i++) {
        if (f->answered[i]) {
            continue;
        }
        cost += remote_reserve(r, strlen(f->b->bodies[i]), f->b->calls[i].max_tokens);
        if (r->cap.most > 0 && cost > r->cap.most) {
            st = fail(err, PLM_ELIMIT, "the cap of %g for this run is under what the batch may cost",
                      r->cap.most);
        }
        st = st ? st : f->b->leaving(f->b->ctx, i, err);
        st = st ? st : put_call(w, f->name[i], f->b->bodies[i], err);
        written++;
    }
    if (st) {
        writer_abort(w);
        return st;
    }
    st = writer_commit(w, err);
    return st ? st
              : fail(
                    err, PLM_EREMOTE,
                    "%zu calls are in %.150s for the service: the same words and its result go on from there",
                    written, path);
}

struct rest {
    const struct batch *b;
    size_t *at; /* of each call left, in b */
};

static plm_status rest_leaving(void *ctx, size_t i, plm_error *err) {
    struct rest *r = ctx;
    return r->b->leaving(r->b->ctx, r->at[i], err);
}

static plm_status rest_arrived(void *ctx, size_t i, plm_answer *a, plm_error *err) {
    struct rest *r = ctx;
    return r->b->arrived(r->b->ctx, r->at[i], a, err);
}

// Those that are left are called.
static plm_status call_rest(struct file_batch *f, plm_error *err) {
    size_t n = 0, all = f->b->n;
    plm_call *calls = mem_zero(all, sizeof *calls);
    char **bodies = mem_zero(all, sizeof *bodies);
    struct rest rest = {.b = f->b, .at = mem_zero(all, sizeof *rest.at)};
    plm_status st = calls && bodies && rest.at ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for calls");
    for (size_t i = 0; i < all && !st; i++) {
        if (!f->answered[i]) {
            calls[n] = f->b->calls[i];
            bodies[n] = f->b->bodies[i];
            rest.at[n++] = i;
        }
    }
    struct batch b = {.calls = calls,
                      .bodies = bodies,
                      .n = n,
                      .ctx = &rest,
                      .leaving = rest_leaving,
                      .arrived = rest_arrived};
    st = st || !n ? st : remote_ask_all(f->r, &b, err);
    mem_free(calls);
    mem_free(bodies);
    mem_free(rest.at);
    return st;
}

plm_status batch_ask_all(struct remote *r, const char *out, const char *in, const struct batch *b,
                         plm_error *err) {
    struct file_batch f = {.r = r,
                           .b = b,
                           .name = mem_zero(b->n + 1, sizeof *f.name),
                           .answered = mem_zero(b->n + 1, sizeof *f.answered)};
    plm_status st = f.name && f.answered ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for calls");
    bool all = true;
    for (size_t i = 0; i < b->n && !st; i++) {
        sha256_of(b->bodies[i], strlen(b->bodies[i]), f.name[i]);
    }
    st = st || !in ? st : read_results(&f, in, err);
    for (size_t i = 0; i < b->n && !st; i++) {
        all = all && f.answered[i];
    }
    st = st || all ? st : out ? write_calls(&f, out, err) : call_rest(&f, err);
    mem_free(f.name);
    mem_free(f.answered);
    return st;
}
