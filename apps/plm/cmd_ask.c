/* cmd_ask.c: one question, one answer, with no network. */
#include "answer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_QUESTION = 1 << 20, MAX_TEXTS = 64 };

struct reply {
    struct bytes text;
    bool stream;
};

static int on_token(void *ctx, int32_t id, const char *text, size_t len) {
    struct reply *r = ctx;
    (void)id;
    bytes_put(&r->text, text, len);
    if (r->stream) {
        fwrite(text, 1, len, stdout);
        fflush(stdout);
    }
    return 0;
}

/* What a person wrote of this kind, newest first: where an answer's words may come from. */
struct texts {
    char *v[MAX_TEXTS];
    size_t n;
};

static int take_text(void *ctx, const plm_record *r) {
    struct texts *t = ctx;
    if (t->n < MAX_TEXTS && (t->v[t->n] = mem_dupz(r->output)))
        t->n++;
    return 0;
}

static void read_texts(struct texts *t, const struct args *a, const struct answerer *w) {
    plm_store *store = NULL;
    plm_query q = {.user = app_user(a),
                   .kind = w->kind ? w->kind->name : NULL,
                   .newest_first = true,
                   .limit = MAX_TEXTS};
    if (app_store(&store, a, true, NULL) == PLM_OK)
        (void)!plm_store_find(store, &q, take_text, t, NULL); /* without them it only takes longer */
    plm_store_close(store);
}

static plm_generate_options options(const struct args *a, const struct answerer *w,
                                    const char *const stop[1]) {
    bool one_line = w->kind && w->kind->max_answer_tokens <= 64;
    int longest = a->max_tokens ? a->max_tokens : w->kind ? w->kind->max_answer_tokens : 512;
    return (plm_generate_options){.max_tokens = longest,
                                  .stop = stop,
                                  .n_stop = one_line,
                                  .sampling = {.temperature = (float)a->temperature,
                                               .top_p = (float)a->top_p,
                                               .min_p = (float)a->min_p,
                                               .top_k = a->top_k,
                                               .seed = a->seed}};
}

static plm_status generate(const struct args *a, struct answerer *w, const char *question, plm_error *err) {
    static const char *const newline[] = {"\n"};
    struct encoded e = {0};
    struct reply r = {.stream = !a->json};
    plm_generation g = {0};
    plm_generate_options opt = options(a, w, newline);
    struct texts texts = {.n = 0};
    bytes_init(&r.text, 16 << 20);
    plm_status st = app_lookup(&opt.lookup, a, err);
    if (st == PLM_OK && opt.lookup == PLM_LOOKUP_ON)
        read_texts(&texts, a, w);
    opt.texts = (const char *const *)texts.v;
    opt.n_texts = texts.n;
    if (st == PLM_OK)
        st = answerer_encode(w, a->system, question, &e, err);
    if (st == PLM_OK)
        st = plm_generate(w->session, e.ids, e.n, &opt, on_token, &r, &g, err);
    if (st == PLM_OK && a->json) {
        struct str text = str_trim((struct str){r.text.data ? r.text.data : "", r.text.len});
        json_t *answer = json_stringn(text.p, text.n);
        app_json(json_pack("{s:o, s:s, s:I, s:I, s:f, s:I, s:I}", "answer", answer ? answer : json_string(""),
                           "with", w->with, "prompt_tokens", (json_int_t)g.n_prompt, "answer_tokens",
                           (json_int_t)g.n_new, "first_token_ms", g.first_token_s * 1e3, "drafted",
                           (json_int_t)g.drafted, "accepted", (json_int_t)g.accepted));
    } else if (st == PLM_OK) {
        putchar('\n');
    }
    for (size_t i = 0; i < texts.n; i++)
        mem_free(texts.v[i]);
    encoded_free(&e);
    bytes_free(&r.text);
    return st;
}

static plm_status choose(const struct args *a, struct answerer *w, const char *question, plm_error *err) {
    const char *best = NULL;
    double probability = 0;
    plm_status st = answerer_label(w, a->system, question, &best, &probability, err);
    if (st)
        return st;
    if (a->json)
        app_json(json_pack("{s:s, s:s, s:f}", "answer", best, "with", w->with, "probability", probability));
    else
        puts(best);
    return PLM_OK;
}

static plm_status read_question(const struct args *a, struct bytes *question, plm_error *err) {
    if (a->n_rest) {
        bytes_init(question, MAX_QUESTION);
        for (int i = 0; i < a->n_rest; i++)
            bytes_printf(question, "%s%s", i ? " " : "", a->rest[i]);
    } else {
        plm_status st = app_read("-", MAX_QUESTION, question, err);
        if (st)
            return st;
    }
    if (str_trim((struct str){question->data ? question->data : "", question->len}).n == 0)
        return fail(err, PLM_EINVAL, "the question is empty");
    if (memchr(question->data, 0, question->len) || !utf8_valid(question->data, question->len, NULL))
        return fail(err, PLM_EFORMAT, "the question is not UTF-8 text");
    return bytes_status(question, "the question", err);
}

int cmd_ask(struct args *a) {
    plm_error err = {0};
    struct answerer w = {0};
    struct bytes question;
    bytes_init(&question, MAX_QUESTION);
    plm_status st = read_question(a, &question, &err);
    if (st == PLM_OK)
        st = answerer_open(&w, a, &err);
    if (st == PLM_OK) {
        if (isatty(STDERR_FILENO) || a->verbose)
            app_say(a, "(%s)\n", w.with);
        st = w.kind && w.kind->labels ? choose(a, &w, question.data, &err)
                                      : generate(a, &w, question.data, &err);
    }
    bytes_free(&question);
    answerer_close(&w);
    return st ? app_fail(&err) : EXIT_DONE;
}
