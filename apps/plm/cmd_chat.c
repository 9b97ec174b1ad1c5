/* cmd_chat.c: a conversation on the terminal. What was said is kept in the session's cache, so each turn
 * computes only what is new. */
#include "answer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_TURNS = 512, MAX_LINE = 64 << 10 };

struct talk {
    plm_message turn[2 * MAX_TURNS + 1];
    size_t n;
    struct bytes answer;
};

static int on_token(void *ctx, int32_t id, const char *text, size_t len) {
    struct talk *t = ctx;
    (void)id;
    bytes_put(&t->answer, text, len);
    fwrite(text, 1, len, stdout);
    fflush(stdout);
    return 0;
}

static plm_status say(struct talk *t, const char *role, const char *text, plm_error *err) {
    char *own = mem_dupz(text);
    if (!own)
        return fail(err, PLM_ENOMEM, "out of memory");
    t->turn[t->n++] = (plm_message){role, own};
    return PLM_OK;
}

static plm_status one_turn(struct talk *t, const struct args *a, struct answerer *w, const char *line,
                           plm_error *err) {
    struct encoded e = {0};
    plm_generation g;
    plm_generate_options opt = {.max_tokens = a->max_tokens ? a->max_tokens : 512,
                                .sampling = {.temperature = (float)a->temperature,
                                             .top_p = (float)a->top_p,
                                             .min_p = (float)a->min_p,
                                             .top_k = a->top_k,
                                             .seed = a->seed}};
    bytes_clear(&t->answer);
    plm_status st = say(t, "user", line, err);
    if (st == PLM_OK)
        st = encode_messages(&e, w->model, t->turn, t->n, err);
    if (st == PLM_OK)
        st = app_lookup(&opt.lookup, a, err);
    if (st == PLM_OK)
        st = plm_generate(w->session, e.ids, e.n, &opt, on_token, t, &g, err);
    encoded_free(&e);
    putchar('\n');
    return st ? st : say(t, "assistant", t->answer.data ? t->answer.data : "", err);
}

static plm_status converse(struct talk *t, const struct args *a, struct answerer *w, plm_error *err) {
    struct lines *lines = NULL;
    bool tty = isatty(STDIN_FILENO);
    plm_status st = lines_open(&lines, "-", MAX_LINE, err);
    while (st == PLM_OK && t->n + 2 <= 2 * MAX_TURNS) {
        const char *line;
        size_t len, number;
        bool more;
        if (tty)
            fputs("> ", stdout);
        fflush(stdout);
        st = lines_next(lines, &line, &len, &number, &more, err);
        if (st || !more || (line && len == 0))
            break;
        if (!line || memchr(line, 0, len) || !utf8_valid(line, len, NULL))
            st =
                fail(err, PLM_EFORMAT, "line %zu is no UTF-8 text of at most %d KiB", number, MAX_LINE >> 10);
        else
            st = one_turn(t, a, w, line, err);
    }
    lines_close(lines);
    return st;
}

int cmd_chat(struct args *a) {
    plm_error err = {0};
    struct answerer w = {0};
    struct talk *t = mem_zero(1, sizeof *t);
    plm_status st = t ? answerer_open(&w, a, &err) : fail(&err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK && !plm_model_describe(w.model)->chat_template)
        st = fail(&err, PLM_ENOTSUP, "this model has no chat template; --chat-template NAME gives it one");
    if (st == PLM_OK) {
        app_say(a, "(%s; an empty line ends)\n", w.with);
        bytes_init(&t->answer, 1 << 20);
        if (a->system)
            st = say(t, "system", a->system, &err);
        if (st == PLM_OK)
            st = converse(t, a, &w, &err);
        bytes_free(&t->answer);
    }
    for (size_t i = 0; t && i < t->n; i++)
        mem_free((void *)(uintptr_t)t->turn[i].text);
    mem_free(t);
    answerer_close(&w);
    return st ? app_fail(&err) : EXIT_DONE;
}
