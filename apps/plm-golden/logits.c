/* logits.c: what the model says of given texts, and what it would say next. Texts run through plm_score,
 * greedy continuations token by token through plm_session_sync, so that prompt and decode are both checked.
 */
#include "golden.h"
#include <string.h>

/* What the README of the values allows. */
static const double NLL_EXACT = 2e-3, L2_EXACT = 1e-3, RATIO_MEAN = 1.1, RATIO_ONE = 1.6, MEAN_FAST = 0.01;
static const double MARGIN_EXACT = 0.01, MARGIN_FAST = 0.5;

struct worst {
    double nll, top, l2;                      /* exact rules */
    double ratio, ratio_sum, mean, mean_want; /* fast rules; the means are sums over texts */
    int texts;
};

static double logit_of(const float *logits, int id, double lse) {
    return (double)logits[id] - lse;
}

static double log_sum_exp(const float *x, int n) {
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++)
        if ((double)x[i] > most)
            most = (double)x[i];
    for (int i = 0; i < n; i++)
        sum += exp((double)x[i] - most);
    return most + log(sum);
}

static void compare_last(const struct golden *g, struct worst *w, const json_t *text, const float *logits) {
    int V = plm_model_describe(g->model)->vocab;
    double lse = log_sum_exp(logits, V), sum = 0, want = number_of(text, "last_logits_l2");
    size_t i;
    json_t *pair;
    json_array_foreach(json_object_get(text, "last_top"), i, pair) {
        int id = (int)json_integer_value(json_array_get(pair, 0));
        double p = json_number_value(json_array_get(pair, 1));
        if (id >= 0 && id < V)
            w->top = most_of(w->top, fabs(logit_of(logits, id, lse) - p));
    }
    for (int j = 0; j < V; j++)
        sum += (double)logits[j] * (double)logits[j];
    w->l2 = most_of(w->l2, fabs(sqrt(sum) - want) / want);
}

static plm_status compare_text(const struct golden *g, plm_session *s, const json_t *text, struct worst *w,
                               plm_error *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    plm_status st = ids_of(json_object_get(text, "ids"), &ids, &n, err);
    double *logprob = st ? NULL : mem_alloc(n + 1, sizeof *logprob);
    if (!st && !logprob)
        st = fail(err, PLM_ENOMEM, "no memory for %zu values", n);
    if (!st)
        st = plm_score(s, ids, n, 1, logprob, err);
    if (!st)
        st = plm_session_sync(s, ids, n, err);
    if (!st) {
        const json_t *want = json_object_get(text, "nll");
        double sum = 0, mean = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            double off = fabs(-logprob[i] - json_number_value(json_array_get(want, i)));
            w->nll = most_of(w->nll, off);
            sum += off;
            mean -= logprob[i];
        }
        double ratio = sum / (double)(n - 1) / number_of(json_object_get(text, "llama_cpp"), "mean_abs");
        w->ratio = most_of(w->ratio, ratio);
        w->ratio_sum += ratio;
        w->mean += mean / (double)(n - 1);
        w->mean_want += number_of(text, "mean_nll");
        w->texts++;
        compare_last(g, w, text, plm_session_logits(s));
    }
    mem_free(logprob);
    mem_free(ids);
    return st;
}

static int argmax(const float *x, int n) {
    int best = 0;
    for (int i = 1; i < n; i++) {
        if (x[i] > x[best])
            best = i;
    }
    return best;
}

/* Follows the reference's answer and counts the steps at which another token would have been chosen. */
static plm_status compare_greedy(const struct golden *g, plm_session *s, const json_t *row, int *wrong,
                                 plm_error *err) {
    int32_t *prompt = NULL, *out = NULL, *ids = NULL;
    size_t n_prompt = 0, n_out = 0;
    const json_t *margin = json_object_get(row, "margin");
    plm_status st = ids_of(json_object_get(row, "prompt"), &prompt, &n_prompt, err);
    if (!st)
        st = ids_of(json_object_get(row, "out"), &out, &n_out, err);
    if (!st)
        ids = mem_alloc(n_prompt + n_out + 1, sizeof *ids);
    if (!st && !ids)
        st = fail(err, PLM_ENOMEM, "no memory for a prompt");
    if (!st)
        memcpy(ids, prompt, n_prompt * sizeof *ids), memcpy(ids + n_prompt, out, n_out * sizeof *ids);
    for (size_t i = 0; !st && i < n_out; i++) {
        st = plm_session_sync(s, ids, n_prompt + i, err);
        if (st || json_number_value(json_array_get(margin, i)) < (g->exact ? MARGIN_EXACT : MARGIN_FAST))
            continue;
        *wrong += argmax(plm_session_logits(s), plm_model_describe(g->model)->vocab) != out[i];
    }
    mem_free(ids);
    mem_free(prompt);
    mem_free(out);
    return st;
}

static void report_texts(struct golden *g, const struct worst *w) {
    if (g->exact) {
        report_most(g, "logits.nll", w->nll, NLL_EXACT);
        report_most(g, "logits.last_top", w->top, NLL_EXACT);
        report_most(g, "logits.last_l2", w->l2, L2_EXACT);
    } else {
        report_most(g, "logits.ratio_mean", w->ratio_sum / w->texts, RATIO_MEAN);
        report_most(g, "logits.ratio_one", w->ratio, RATIO_ONE);
        report_most(g, "logits.mean_nll", fabs(w->mean / w->mean_want - 1), MEAN_FAST);
    }
}

plm_status check_logits(struct golden *g, plm_error *err) {
    json_t *doc = NULL, *row;
    plm_session *s = NULL;
    struct worst worst = {0};
    int wrong = 0;
    size_t i;
    plm_status st = load_json(g, "logits-", g->name, ".json", &doc, err);
    if (!st)
        st = plm_session_new(&s, g->model, NULL, err);
    if (st)
        goto out;
    json_array_foreach(json_object_get(doc, "texts"), i, row) {
        st = compare_text(g, s, row, &worst, err);
        if (st)
            goto out;
    }
    if (worst.texts)
        report_texts(g, &worst);
    json_array_foreach(json_object_get(doc, "greedy"), i, row) {
        st = compare_greedy(g, s, row, &wrong, err);
        if (st)
            goto out;
    }
    report_most(g, "logits.greedy", wrong, 0);
out:
    plm_session_free(s);
    json_decref(doc);
    return st;
}
