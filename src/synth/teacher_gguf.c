/* teacher_gguf.c: a teacher in this process: a GGUF model with its own chat template, through plm.h alone.
 * Each call starts from an empty session: with a prefix kept from the call before, sums would be made in
 * another order, and a job that was stopped and goes on would get other replies than one that was not. */
#include <stdio.h>
#include <string.h>

#include "synth/inside.h"

enum { REPLY_MAX = 256 << 10 };

struct local {
    plm_model *model;
    plm_session *session;
    int context;
    int32_t *ids; /* [context] */
};

plm_status local_open(struct local **out, const struct teacher_options *opt, char name[80], bool *capable,
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
        mem_free(l);
    }
}

static int on_token(void *ctx, int32_t id, const char *text, size_t len) {
    struct bytes *b = ctx;
    (void)id;
    bytes_put(b, text, len);
    return b->st != PLM_OK;
}

plm_status local_ask(struct local *l, const struct call *c, struct answer *out, plm_error *err) {
    plm_message m[2] = {{"system", c->system ? c->system : ""}, {"user", c->user}};
    size_t skip = !c->system, n = 0;
    double from = clock_now();
    plm_status st = plm_chat_encode(l->model, m + skip, 2 - skip, l->ids, NULL, (size_t)l->context, &n, err);
    bool too_long = st == PLM_ELIMIT || (!st && n + 16 > (size_t)l->context);
    if (st && !too_long) {
        return st;
    }
    struct bytes b;
    bytes_init(&b, REPLY_MAX);
    plm_generation report = {0};
    st = PLM_OK;
    if (!too_long) {
        size_t room = (size_t)l->context - n;
        plm_generate_options how = {
            .sampling = {.temperature = c->temperature, .top_p = c->top_p, .seed = c->seed},
            .max_tokens = (size_t)c->max_tokens < room ? c->max_tokens : (int)room};
        st = plm_session_use(l->session, NULL, 0, err);
        if (!st)
            st = plm_generate(l->session, l->ids, n, &how, on_token, &b, &report, err);
        st = b.st == PLM_ENOMEM ? fail(err, PLM_ENOMEM, "no memory for a reply") : st;
        st = b.st == PLM_ELIMIT ? PLM_OK : st;
    }
    if (!st) {
        bool whole = report.finish == PLM_FINISH_END || report.finish == PLM_FINISH_STOP;
        out->why = too_long ? "too long for the teacher" : b.st || !b.len ? "no text" : NULL;
        out->finish = out->why ? "none" : whole ? "stop" : "length";
        out->tokens_in = (int64_t)n;
        out->tokens_out = (int64_t)report.n_new;
        out->seconds = clock_now() - from;
        out->text = out->why ? mem_dupz("") : bytes_take(&b);
        st = out->text ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a reply");
    }
    bytes_free(&b);
    return st;
}
