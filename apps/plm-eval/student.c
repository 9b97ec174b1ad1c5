/* student.c: eight queries at a time. Labels are scored as whole strings with their end, one after the other
 * behind a prompt that is computed once. */
#include "student.h"

#include "shared/prior.h"

#include <math.h>
#include <string.h>

plm_status student_open(struct student *s, plm_model *m, const plm_kind *kind, plm_error *err) {
    int context = plm_model_describe(m)->context;
    plm_session_options opt = {.context = context > 0 && context < 2048 ? context : 2048};
    *s = (struct student){.model = m, .kind = kind};
    return scorer_open(&s->scorer, m, &opt, err);
}

void student_close(struct student *s) {
    scorer_close(&s->scorer);
}

void replies_free(struct reply *r, size_t n) {
    for (size_t i = 0; r && i < n; i++) {
        mem_free(r[i].label);
        mem_free(r[i].text);
        r[i] = (struct reply){0};
    }
}

/* -ln p of one answer a prompt, each in its session. */
static plm_status score(struct student *s, const char *const *prompts, const char *const *answers, size_t n,
                        double *nats, struct reply *out, plm_error *err) {
    struct encoded e[SCORED_AT_ONCE] = {{0}};
    plm_status st = PLM_OK;
    for (size_t i = 0; st == PLM_OK && i < n; i++)
        st = encode_turn(&e[i], s->model, NULL, prompts[i], answers[i], false, err);
    if (st == PLM_OK)
        st = scorer_run(&s->scorer, e, n, nats, err);
    for (size_t i = 0; i < n; i++) {
        nats[i] *= (double)(e[i].n - e[i].n_prompt);
        out[i].prompt_tokens = e[i].n_prompt;
        encoded_free(&e[i]);
    }
    return st;
}

plm_status reply_labels(struct reply *r, const plm_kind *kind, const double *nats, const char *gold,
                        plm_error *err) {
    r->label = mem_alloc(kind->n_labels, sizeof *r->label);
    if (!r->label)
        return fail(err, PLM_ENOMEM, "out of memory");
    memcpy(r->label, nats, kind->n_labels * sizeof *nats);
    r->pred = label_renormalise(r->label, kind->n_labels);
    r->gold = plm_kind_label(kind, gold);
    if (r->gold < 0)
        return fail(err, PLM_EFORMAT, "the gold answer \"%.60s\" is none of the task's", gold);
    r->nats = r->label[r->gold];
    r->bytes = 1;
    return PLM_OK;
}

static plm_status choose(struct student *s, const char *const *prompts, const char *const *golds, size_t n,
                         struct reply *out, plm_error *err) {
    const plm_kind *k = s->kind;
    size_t tokens[SCORED_AT_ONCE];
    double *nats = mem_zero(SCORED_AT_ONCE * k->n_labels, sizeof *nats); /* [n, labels] */
    plm_status st = nats ? scorer_labels(&s->scorer, s->model, k, prompts, n, nats, tokens, err)
                         : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; st == PLM_OK && i < n; i++) {
        out[i].prompt_tokens = tokens[i];
        st = reply_labels(&out[i], k, nats + i * k->n_labels, golds[i], err);
    }
    mem_free(nats);
    return st;
}

static int take_text(void *ctx, int32_t id, const char *text, size_t len) {
    struct bytes *b = ctx;
    (void)id;
    bytes_put(b, text, len);
    return b->st != PLM_OK;
}

static plm_status write(struct student *s, const char *const *prompts, size_t n, struct reply *out,
                        plm_error *err) {
    static const char *const stops[] = {"\n"};
    plm_generate_options how = {.max_tokens = s->kind->max_answer_tokens, .stop = stops, .n_stop = 1};
    plm_request request[SCORED_AT_ONCE];
    struct encoded e[SCORED_AT_ONCE] = {{0}};
    struct bytes text[SCORED_AT_ONCE];
    plm_status st = PLM_OK;
    for (size_t i = 0; i < n; i++)
        bytes_init(&text[i], 1 << 16);
    for (size_t i = 0; st == PLM_OK && i < n; i++) {
        st = encode_turn(&e[i], s->model, NULL, prompts[i], NULL, false, err);
        request[i] = (plm_request){.session = s->scorer.s[i],
                                   .ids = e[i].ids,
                                   .n = e[i].n,
                                   .options = &how,
                                   .on_token = take_text,
                                   .ctx = &text[i]};
    }
    if (st == PLM_OK)
        st = plm_generate_all(request, n, err);
    for (size_t i = 0; i < n; i++) {
        out[i].text = st ? NULL : text[i].len ? bytes_take(&text[i]) : mem_dupz("");
        if (st == PLM_OK && !out[i].text)
            st = fail(err, PLM_ENOMEM, "out of memory");
        bytes_free(&text[i]);
        encoded_free(&e[i]);
    }
    return st;
}

/* A prompt from nothing to the logits behind it. */
static plm_status time_first(struct student *s, const plm_lora *uses, size_t n_uses, const char *prompt,
                             double *seconds, plm_error *err) {
    struct encoded e = {0};
    plm_status st = encode_turn(&e, s->model, NULL, prompt, NULL, false, err);
    if (st == PLM_OK)
        st = plm_session_use(s->scorer.s[0], uses, n_uses, err);
    double from = clock_now();
    if (st == PLM_OK)
        st = plm_session_sync(s->scorer.s[0], e.ids, e.n, err);
    *seconds = clock_now() - from;
    encoded_free(&e);
    return st;
}

plm_status student_ask(struct student *s, const plm_lora *uses, size_t n_uses, const char *const *prompts,
                       const char *const *golds, size_t n, unsigned what, struct reply *out,
                       struct pace *pace, plm_error *err) {
    double from = clock_now();
    memset(out, 0, n * sizeof *out);
    plm_status st = scorer_use(&s->scorer, uses, n_uses, err);
    for (size_t i = 0, k; st == PLM_OK && i < n; i += k) {
        double nats[SCORED_AT_ONCE];
        k = n - i < SCORED_AT_ONCE ? n - i : SCORED_AT_ONCE;
        if (s->kind->labels) {
            st = choose(s, prompts + i, golds + i, k, out + i, err);
            continue;
        }
        st = score(s, prompts + i, golds + i, k, nats, out + i, err);
        if (st == PLM_OK && (what & ASK_ANSWERS))
            st = write(s, prompts + i, k, out + i, err);
        for (size_t j = 0; j < k; j++) {
            out[i + j].nats = nats[j];
            out[i + j].bytes = (double)strlen(golds[i + j]);
            out[i + j].gold = out[i + j].pred = -1;
        }
    }
    pace->seconds = clock_now() - from;
    pace->first_token = 0;
    if (st == PLM_OK && n && (what & ASK_FIRST_TOKEN))
        st = time_first(s, uses, n_uses, prompts[0], &pace->first_token, err);
    if (st)
        replies_free(out, n);
    return st;
}
