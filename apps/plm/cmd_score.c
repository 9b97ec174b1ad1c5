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

static plm_status score_rows(struct args *a, const plm_model *m, plm_session *s, plm_error *err) {
    struct rows rows;
    plm_status st = rows_read(&rows, a->rest[0], a->skip_bad, err);
    struct progress p;
    double sum = 0;
    size_t scored = 0;
    progress_start(&p, a, "score");
    for (size_t i = 0; st == PLM_OK && i < rows.n; i++) {
        struct encoded e;
        double nll;
        size_t tokens;
        st = row_encode(&e, m, &rows.v[i], a->raw, err);
        if (st == PLM_OK)
            st = app_answer_nll(s, &e, &nll, &tokens, err);
        encoded_free(&e);
        if (st)
            break;
        nll /= (double)tokens;
        sum += nll;
        scored++;
        size_t bytes = strlen(rows.v[i].message[rows.v[i].n - 1].text);
        progress_at(&p, (double)i + 1, (double)rows.n, NULL);
        if (a->json)
            app_json(json_pack("{s:f, s:I, s:I}", "target_nll", nll, "target_tokens", (json_int_t)tokens,
                               "bytes", (json_int_t)bytes));
        else
            printf("line %zu\t%.4f nats a token\t%zu tokens\n", rows.v[i].line, nll, tokens);
    }
    progress_end(&p);
    if (st == PLM_OK && a->json)
        app_json(
            json_pack("{s:f, s:I}", "mean_target_nll", sum / (double)scored, "rows", (json_int_t)scored));
    else if (st == PLM_OK)
        printf("mean\t%.4f nats a token over %zu rows\n", sum / (double)scored, scored);
    rows_free(&rows);
    return st;
}

int cmd_score(struct args *a) {
    if (!a->ids == !a->n_rest || a->n_rest > 1)
        return app_misuse(a, "score", "give one FILE.jsonl, or --ids FILE.json");
    plm_error err = {0};
    plm_model *m = NULL;
    plm_session *s = NULL;
    struct loras loras = {.n = 0};
    plm_session_options opt = {.context = a->context};
    plm_status st = app_model(&m, a, &err);
    if (st == PLM_OK)
        st = app_loras(&loras, a, m, &err);
    if (st == PLM_OK)
        st = plm_session_new(&s, m, &opt, &err);
    if (st == PLM_OK)
        st = plm_session_use(s, loras.use, loras.n, &err);
    if (st == PLM_OK)
        st = a->ids ? score_sequences(a, m, s, &err) : score_rows(a, m, s, &err);
    plm_session_free(s);
    loras_close(&loras);
    plm_model_close(m);
    return st ? app_fail(&err) : EXIT_DONE;
}
