/* cmd_score.c: how likely the model finds given answers, or given sequences of ids. */
#include "rows.h"
#include "sequences.h"

#include <stdio.h>
#include <string.h>

static plm_status score_ids(plm_session *s, const int32_t *ids, size_t n, plm_error *err) {
    double *logprob = mem_zero(n ? n : 1, sizeof *logprob), sum = 0;
    if (!logprob)
        return fail(err, PLM_ENOMEM, "out of memory");
    plm_status st = n > 1 ? plm_score(s, ids, n, 1, logprob, err) : PLM_OK;
    if (st == PLM_OK) {
        json_t *nll = json_array();
        for (size_t i = 0; i + 1 < n; i++) {
            json_array_append_new(nll, json_real(-logprob[i]));
            sum -= logprob[i];
        }
        json_t *mean = n > 1 ? json_real(sum / (double)(n - 1)) : json_null();
        app_json(json_pack("{s:o, s:o, s:I}", "nll", nll, "mean_nll", mean, "tokens", (json_int_t)n));
    }
    mem_free(logprob);
    return st;
}

static plm_status score_sequences(struct args *a, const plm_model *m, plm_session *s, plm_error *err) {
    struct sequences q;
    plm_status st = sequences_read(&q, a->ids, plm_model_describe(m)->vocab, err);
    for (size_t i = 0; st == PLM_OK && i < q.n; i++)
        st = score_ids(s, q.ids[i], q.len[i], err);
    sequences_free(&q);
    return st;
}

static void print_row(const struct args *a, const struct row *r, const struct encoded *e, double nll) {
    size_t tokens = e->n - e->n_prompt;
    if (a->json)
        app_json(json_pack("{s:f, s:I, s:I}", "target_nll", nll, "target_tokens", (json_int_t)tokens, "bytes",
                           (json_int_t)strlen(r->message[r->n - 1].text)));
    else
        printf("line %zu\t%.4f nats a token\t%zu tokens\n", r->line, nll, tokens);
}

/* Rows from .. on, n of them; adds to *sum. */
static plm_status score_some(const struct args *a, const plm_model *m, struct scorer *c,
                             const struct row *rows, size_t n, double *sum, plm_error *err) {
    struct encoded e[SCORED_AT_ONCE] = {{0}};
    double nll[SCORED_AT_ONCE];
    plm_status st = PLM_OK;
    for (size_t i = 0; st == PLM_OK && i < n; i++)
        st = row_encode(&e[i], m, &rows[i], a->raw, err);
    if (st == PLM_OK)
        st = scorer_run(c, e, n, nll, err);
    for (size_t i = 0; i < n; i++) {
        if (st == PLM_OK) {
            *sum += nll[i];
            print_row(a, &rows[i], &e[i], nll[i]);
        }
        encoded_free(&e[i]);
    }
    return st;
}

static plm_status score_rows(struct args *a, const plm_model *m, struct scorer *c, plm_error *err) {
    struct rows rows;
    plm_status st = rows_read(&rows, a->rest[0], a->skip_bad, err);
    struct progress p;
    double sum = 0;
    progress_start(&p, a->quiet, "score");
    for (size_t i = 0, n; st == PLM_OK && i < rows.n; i += n) {
        n = rows.n - i < SCORED_AT_ONCE ? rows.n - i : SCORED_AT_ONCE;
        st = score_some(a, m, c, rows.v + i, n, &sum, err);
        progress_at(&p, (double)(i + n), (double)rows.n, NULL);
    }
    progress_end(&p);
    if (st == PLM_OK && a->json)
        app_json(
            json_pack("{s:f, s:I}", "mean_target_nll", sum / (double)rows.n, "rows", (json_int_t)rows.n));
    else if (st == PLM_OK)
        printf("mean\t%.4f nats a token over %zu rows\n", sum / (double)rows.n, rows.n);
    rows_free(&rows);
    return st;
}

int cmd_score(struct args *a) {
    if (!a->ids == !a->n_rest || a->n_rest > 1)
        return app_misuse(a, "score", "give one FILE.jsonl, or --ids FILE.json");
    plm_error err = {0};
    plm_model *m = NULL;
    struct scorer c = {{NULL}};
    struct loras loras = {.n = 0};
    plm_session_options opt;
    plm_status st = app_model(&m, a, &err);
    if (st == PLM_OK)
        st = app_loras(&loras, a, m, &err);
    if (st == PLM_OK)
        st = app_session_options(&opt, a, &err);
    if (st == PLM_OK)
        st = scorer_open(&c, m, &opt, &err);
    if (st == PLM_OK)
        st = scorer_use(&c, loras.use, loras.n, &err);
    if (st == PLM_OK)
        st = a->ids ? score_sequences(a, m, c.s[0], &err) : score_rows(a, m, &c, &err);
    scorer_close(&c);
    loras_close(&loras);
    plm_model_close(m);
    return st ? app_fail(&err) : EXIT_DONE;
}
