/* cmd_generate.c: continues a prompt, or sequences of ids, and says how fast. */
#include "sequences.h"

#include <stdio.h>

struct collected {
    json_t *ids;
    struct bytes text;
    bool stream;
};

static int on_token(void *ctx, int32_t id, const char *text, size_t len) {
    struct collected *c = ctx;
    if (c->ids)
        json_array_append_new(c->ids, json_integer(id));
    bytes_put(&c->text, text, len);
    if (c->stream) {
        fwrite(text, 1, len, stdout);
        fflush(stdout);
    }
    return 0;
}

static double speed(size_t n, double seconds) {
    return seconds > 0 ? (double)n / seconds : 0;
}

static plm_status continue_one(struct args *a, plm_session *s, const int32_t *ids, size_t n, plm_error *err) {
    plm_generate_options opt = {.max_tokens = a->max_tokens,
                                .sampling = {.temperature = (float)a->temperature,
                                             .top_p = (float)a->top_p,
                                             .min_p = (float)a->min_p,
                                             .top_k = a->top_k,
                                             .seed = a->seed}};
    struct collected c = {.ids = a->json ? json_array() : NULL, .stream = !a->json};
    plm_generation g = {0};
    bytes_init(&c.text, 64 << 20);
    plm_status st = app_lookup(&opt.lookup, a, err);
    if (st == PLM_OK)
        st = plm_generate(s, ids, n, &opt, on_token, &c, &g, err);
    if (st == PLM_OK && a->json) {
        json_t *text = json_stringn(c.text.data ? c.text.data : "", c.text.len);
        if (!text) { /* bytes that are no UTF-8 can't stand in JSON as they are */
            struct bytes quoted;
            bytes_init(&quoted, 512 << 20);
            bytes_json(&quoted, c.text.data, c.text.len);
            text = json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY, NULL);
            bytes_free(&quoted);
        }
        app_json(json_pack(
            "{s:O, s:o, s:f, s:f, s:f, s:I, s:I}", "ids", c.ids, "text", text ? text : json_string(""),
            "prefill_tok_s", speed(g.n_prompt - g.n_cached, g.prefill_s), "decode_tok_s",
            speed(g.n_new ? g.n_new - 1 : 0, g.decode_s), "first_token_ms", g.first_token_s * 1e3, "drafted",
            (json_int_t)g.drafted, "accepted", (json_int_t)g.accepted));
    } else if (st == PLM_OK) {
        putchar('\n');
        if (a->verbose)
            fprintf(stderr, "%zu prompt tokens at %.0f tok/s, %zu new at %.1f tok/s\n", g.n_prompt,
                    speed(g.n_prompt - g.n_cached, g.prefill_s), g.n_new,
                    speed(g.n_new ? g.n_new - 1 : 0, g.decode_s));
    }
    json_decref(c.ids);
    bytes_free(&c.text);
    return st;
}

static plm_status generate_prompt(struct args *a, const plm_model *m, plm_session *s, plm_error *err) {
    struct encoded e;
    plm_status st = encode_turn(&e, m, a->system, a->prompt, NULL, a->raw, err);
    if (st == PLM_OK && e.n == 0)
        st = fail(err, PLM_EINVAL, "the prompt is empty");
    if (st == PLM_OK)
        st = continue_one(a, s, e.ids, e.n, err);
    encoded_free(&e);
    return st;
}

static plm_status generate_sequences(struct args *a, const plm_model *m, plm_session *s, plm_error *err) {
    struct sequences q;
    plm_status st = sequences_read(&q, a->ids, plm_model_describe(m)->vocab, err);
    for (size_t i = 0; st == PLM_OK && i < q.n; i++) {
        if (q.len[i] == 0)
            st = fail(err, PLM_EFORMAT, "%s: sequence %zu is empty", a->ids, i);
        else
            st = continue_one(a, s, q.ids[i], q.len[i], err);
    }
    sequences_free(&q);
    return st;
}

int cmd_generate(struct args *a) {
    if (!a->prompt == !a->ids || a->n_rest)
        return app_misuse(a, "generate", "give -p PROMPT or --ids FILE.json");
    plm_error err = {0};
    plm_model *m = NULL;
    plm_session *s = NULL;
    struct loras loras = {.n = 0};
    plm_session_options opt;
    plm_status st = app_model(&m, a, &err);
    if (st == PLM_OK)
        st = app_loras(&loras, a, m, &err);
    if (st == PLM_OK)
        st = app_session_options(&opt, a, &err);
    if (st == PLM_OK)
        st = plm_session_new(&s, m, &opt, &err);
    if (st == PLM_OK)
        st = plm_session_use(s, loras.use, loras.n, &err);
    if (st == PLM_OK)
        st = a->ids ? generate_sequences(a, m, s, &err) : generate_prompt(a, m, s, &err);
    plm_session_free(s);
    loras_close(&loras);
    plm_model_close(m);
    return st ? app_fail(&err) : EXIT_DONE;
}
