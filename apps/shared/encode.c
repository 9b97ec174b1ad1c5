/* encode.c: questions and answers as ids, and how likely a model with adapters finds the answers. */
#include "shared/encode.h"

#include <string.h>

plm_status loras_add(struct loras *l, const plm_model *m, const char *path, float scale, plm_error *err) {
    if (l->n == sizeof l->use / sizeof *l->use)
        return fail(err, PLM_ELIMIT, "at most %zu adapters at once", l->n);
    plm_status st = plm_adapter_load(&l->adapter[l->n], m, path, err);
    if (st)
        return st;
    l->use[l->n] = (plm_lora){l->adapter[l->n], scale};
    l->n++;
    return PLM_OK;
}

void loras_close(struct loras *l) {
    for (size_t i = 0; i < l->n; i++)
        plm_adapter_free(l->adapter[i]);
    l->n = 0;
}

void encoded_free(struct encoded *e) {
    mem_free(e->ids);
    *e = (struct encoded){0};
}

static plm_status encode_raw(struct encoded *out, const plm_model *m, const char *prompt, const char *answer,
                             plm_error *err) {
    size_t n = 0;
    plm_status st = plm_raw_encode(m, prompt, answer, NULL, 0, &n, NULL, err);
    if (st && st != PLM_ELIMIT)
        return st;
    out->ids = mem_alloc(n ? n : 1, sizeof *out->ids);
    if (!out->ids)
        return fail(err, PLM_ENOMEM, "out of memory");
    return plm_raw_encode(m, prompt, answer, out->ids, n, &out->n, &out->n_prompt, err);
}

plm_status encode_messages(struct encoded *out, const plm_model *m, const plm_message *messages,
                           size_t n_messages, plm_error *err) {
    *out = (struct encoded){0};
    size_t n = 0;
    plm_status st = plm_chat_encode(m, messages, n_messages, NULL, NULL, 0, &n, err);
    if (st && st != PLM_ELIMIT)
        return st;
    uint8_t *target = mem_zero(n ? n : 1, 1);
    out->ids = mem_alloc(n ? n : 1, sizeof *out->ids);
    if (!out->ids || !target)
        st = fail(err, PLM_ENOMEM, "out of memory");
    else
        st = plm_chat_encode(m, messages, n_messages, out->ids, target, n, &out->n, err);
    out->n_prompt = out->n;
    /* The last span of targets is the answer; what the template puts after its end token is not scored. */
    if (st == PLM_OK && n_messages && strcmp(messages[n_messages - 1].role, "assistant") == 0) {
        while (out->n && !target[out->n - 1])
            out->n--;
        out->n_prompt = out->n;
        while (out->n_prompt && target[out->n_prompt - 1])
            out->n_prompt--;
    }
    mem_free(target);
    if (st)
        encoded_free(out);
    return st;
}

plm_status encode_turn(struct encoded *out, const plm_model *m, const char *system, const char *prompt,
                       const char *answer, bool raw, plm_error *err) {
    *out = (struct encoded){0};
    if (raw || !plm_model_describe(m)->chat_template) {
        plm_status st = encode_raw(out, m, prompt, answer, err);
        if (st)
            encoded_free(out);
        return st;
    }
    plm_message messages[3];
    size_t n = 0;
    if (system)
        messages[n++] = (plm_message){"system", system};
    messages[n++] = (plm_message){"user", prompt};
    if (answer)
        messages[n++] = (plm_message){"assistant", answer};
    return encode_messages(out, m, messages, n, err);
}

plm_status answer_nll(plm_session *s, const struct encoded *e, double *nll, size_t *tokens, plm_error *err) {
    size_t n = e->n - e->n_prompt;
    double *logprob = mem_alloc(n ? n : 1, sizeof *logprob);
    if (!logprob)
        return fail(err, PLM_ENOMEM, "out of memory");
    plm_status st = plm_score(s, e->ids, e->n, e->n_prompt, logprob, err);
    *nll = 0;
    *tokens = n;
    for (size_t i = 0; st == PLM_OK && i < n; i++)
        *nll -= logprob[i];
    mem_free(logprob);
    return st;
}

plm_status scorer_open(struct scorer *c, const plm_model *m, const plm_session_options *opt, plm_error *err) {
    plm_status st = PLM_OK;
    *c = (struct scorer){{NULL}};
    for (size_t i = 0; st == PLM_OK && i < SCORED_AT_ONCE; i++)
        st = plm_session_new(&c->s[i], m, opt, err);
    if (st)
        scorer_close(c);
    return st;
}

void scorer_close(struct scorer *c) {
    for (size_t i = 0; i < SCORED_AT_ONCE; i++)
        plm_session_free(c->s[i]);
    *c = (struct scorer){{NULL}};
}

plm_status scorer_use(struct scorer *c, const plm_lora *uses, size_t n, plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; st == PLM_OK && i < SCORED_AT_ONCE; i++)
        st = plm_session_use(c->s[i], uses, n, err);
    return st;
}

plm_status scorer_run(struct scorer *c, const struct encoded *e, size_t n, double *nll, plm_error *err) {
    plm_scoring all[SCORED_AT_ONCE];
    size_t total = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        total += e[i].n - e[i].n_prompt;
    double *logprob = mem_zero(total ? total : 1, sizeof *logprob);
    if (!logprob)
        return fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; at += e[i].n - e[i].n_prompt, i++)
        all[i] = (plm_scoring){c->s[i], e[i].ids, e[i].n, e[i].n_prompt, logprob + at};
    plm_status st = plm_score_all(all, n, err);
    at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t tokens = e[i].n - e[i].n_prompt;
        nll[i] = 0;
        for (size_t t = 0; t < tokens; t++)
            nll[i] -= logprob[at++];
        nll[i] /= (double)tokens;
    }
    mem_free(logprob);
    return st;
}

plm_status scorer_labels(struct scorer *c, const plm_model *m, const plm_kind *kind,
                         const char *const *prompts, size_t n, double *nats, size_t *prompt_tokens,
                         plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t l = 0; st == PLM_OK && l < kind->n_labels; l++) {
        struct encoded e[SCORED_AT_ONCE] = {{0}};
        double mean[SCORED_AT_ONCE];
        for (size_t i = 0; st == PLM_OK && i < n; i++)
            st = encode_turn(&e[i], m, NULL, prompts[i], kind->labels[l], false, err);
        if (st == PLM_OK)
            st = scorer_run(c, e, n, mean, err);
        for (size_t i = 0; i < n; i++) {
            if (st == PLM_OK)
                nats[i * kind->n_labels + l] = mean[i] * (double)(e[i].n - e[i].n_prompt);
            if (prompt_tokens)
                prompt_tokens[i] = e[i].n_prompt;
            encoded_free(&e[i]);
        }
    }
    return st;
}
