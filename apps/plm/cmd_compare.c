/* cmd_compare.c: held-out rows under the base, the base with retrieved examples (BM25), and adapters. */
#include "base/text.h"
#include "app.h"
#include "shared/device.h"
#include "shared/records.h"

#include <stdio.h>
#include <string.h>

enum { RETRIEVED = 4, MAX_ROWS = 10000, MAX_LINE = 1 << 20 };

struct pair {
    char *input, *output;
};

struct pairs {
    struct pair *v;
    size_t n;
};

static void pairs_free(struct pairs *p) {
    for (size_t i = 0; i < p->n; i++) {
        mem_free(p->v[i].input);
        mem_free(p->v[i].output);
    }
    mem_free(p->v);
    *p = (struct pairs){0};
}

static plm_status take_pair(struct pairs *p, const plm_kind *kind, const char *line, size_t len,
                            const char *what, plm_error *err) {
    json_t *doc = NULL;
    if (!line || p->n == MAX_ROWS)
        return fail(err, PLM_ELIMIT, "%s: longer than 1 MiB, or more than %d rows", what, MAX_ROWS);
    plm_status st = json_parse(&doc, line, len, what, err);
    const char *input = json_text(doc, kind->input_field), *output = json_text(doc, kind->output_field);
    input = input ? input : json_text(doc, "prompt");
    output = output ? output : json_text(doc, "answer");
    if (st == PLM_OK && (!input || !output || !*output))
        st = fail(err, PLM_EFORMAT, "%s: a row needs the texts \"%s\" and \"%s\"", what, kind->input_field,
                  kind->output_field);
    struct pair *v = st || (p->n & (p->n - 1)) ? p->v : mem_grow(p->v, p->n ? 2 * p->n : 1, sizeof *v);
    if (st == PLM_OK && v) {
        p->v = v;
        v[p->n] = (struct pair){mem_dupz(input), mem_dupz(output)};
        if (v[p->n].input && v[p->n].output)
            p->n++;
        else
            st = fail(err, PLM_ENOMEM, "out of memory");
    } else if (st == PLM_OK) {
        st = fail(err, PLM_ENOMEM, "out of memory");
    }
    json_decref(doc);
    return st;
}

static plm_status pairs_read(struct pairs *p, const plm_kind *kind, const char *path, plm_error *err) {
    struct lines *lines = NULL;
    plm_status st = lines_open(&lines, path, MAX_LINE, err);
    while (st == PLM_OK) {
        const char *line;
        size_t len, number;
        bool more;
        char what[300];
        st = lines_next(lines, &line, &len, &number, &more, err);
        if (st || !more)
            break;
        snprintf(what, sizeof what, "%.240s line %zu", path, number);
        if (!line || str_trim((struct str){line, len}).n)
            st = take_pair(p, kind, line, len, what, err);
    }
    lines_close(lines);
    if (st == PLM_OK && !p->n)
        st = fail(err, PLM_EFORMAT, "%s: no rows", path);
    return st;
}

struct table {
    const struct args *a;
    const plm_kind *kind;
    struct pairs held;
    struct records known;
    struct device device;
    double base;
    json_t *rows;
};

static void add_row(struct table *t, const char *name, double nll, double wins) {
    if (t->base == 0)
        t->base = nll;
    json_array_append_new(t->rows, json_pack("{s:s, s:f, s:f, s:f}", "arm", name, "target_nll", nll,
                                             "against_base", nll / t->base - 1, "wins", wins));
    if (!t->a->json) {
        printf("  %-24s %7.4f  %+6.1f %%\n", name, nll, 100 * (nll / t->base - 1));
        fflush(stdout);
    }
}

/* Each row under what the session uses now; first (may be NULL) is what its wins are counted against. */
static plm_status score_plain(struct table *t, const char *name, double *each, const double *first,
                              plm_error *err) {
    double sum = 0, wins = 0;
    struct progress bar;
    progress_start(&bar, t->a->quiet, name);
    for (size_t i = 0, n; i < t->held.n; i += n) {
        const char *in[SCORED_AT_ONCE], *out[SCORED_AT_ONCE];
        n = t->held.n - i < SCORED_AT_ONCE ? t->held.n - i : SCORED_AT_ONCE;
        for (size_t k = 0; k < n; k++) {
            in[k] = t->held.v[i + k].input;
            out[k] = t->held.v[i + k].output;
        }
        plm_status st = device_scores(&t->device, in, out, n, &each[i], err);
        if (st)
            return st;
        progress_at(&bar, (double)(i + n), (double)t->held.n, NULL);
    }
    for (size_t i = 0; i < t->held.n; i++) {
        sum += each[i];
        wins += first && each[i] < first[i];
    }
    progress_end(&bar);
    add_row(t, name, sum / (double)t->held.n, first ? wins / (double)t->held.n : 0);
    return PLM_OK;
}

/* The k best records by BM25 over the inputs, as turns before the question, best last. */
static plm_status score_with_examples(struct table *t, const struct bm25 *index, const struct pair *row,
                                      double *scores, double *nll, plm_error *err) {
    plm_message turns[2 * RETRIEVED + 2];
    char *prompts[RETRIEVED + 1] = {NULL};
    size_t best[RETRIEVED], k = 0, n = 0, tokens = 0;
    struct words query;
    struct encoded e = {0};
    plm_status st = words_split(&query, row->input, strlen(row->input), WORDS_SPACE, err);
    if (st)
        return st;
    st = bm25_scores(index, &query, scores, err);
    words_free(&query);
    for (; st == PLM_OK && k < RETRIEVED && k < t->known.n; k++) {
        best[k] = 0;
        for (size_t i = 1; i < t->known.n; i++)
            if (scores[i] > scores[best[k]])
                best[k] = i;
        scores[best[k]] = -1e300;
    }
    for (size_t i = k; st == PLM_OK && i-- > 0;) {
        st = plm_kind_prompt(t->kind, t->known.v[best[i]].input, &prompts[i], err);
        turns[n++] = (plm_message){"user", prompts[i]};
        turns[n++] = (plm_message){"assistant", t->known.v[best[i]].output};
    }
    if (st == PLM_OK)
        st = plm_kind_prompt(t->kind, row->input, &prompts[RETRIEVED], err);
    turns[n++] = (plm_message){"user", prompts[RETRIEVED]};
    turns[n++] = (plm_message){"assistant", row->output};
    if (st == PLM_OK)
        st = encode_messages(&e, t->device.model, turns, n, err);
    if (st == PLM_OK)
        st = answer_nll(t->device.scorer.s[0], &e, nll, &tokens, err);
    if (st == PLM_OK)
        *nll /= (double)tokens;
    encoded_free(&e);
    for (size_t i = 0; i <= RETRIEVED; i++)
        plm_free(prompts[i]);
    return st;
}

static plm_status index_records(struct table *t, struct bm25 **index, plm_error *err) {
    struct words *docs = mem_zero(t->known.n, sizeof *docs);
    plm_status st = docs ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; st == PLM_OK && i < t->known.n; i++)
        st = words_split(&docs[i], t->known.v[i].input, strlen(t->known.v[i].input), WORDS_SPACE, err);
    if (st == PLM_OK)
        st = bm25_open(index, docs, t->known.n, err);
    for (size_t i = 0; docs && i < t->known.n; i++)
        words_free(&docs[i]);
    mem_free(docs);
    return st;
}

static plm_status score_bm25(struct table *t, plm_error *err) {
    struct bm25 *index = NULL;
    struct progress bar;
    double sum = 0, nll, *scores = mem_zero(t->known.n ? t->known.n : 1, sizeof *scores);
    plm_status st = !scores      ? fail(err, PLM_ENOMEM, "out of memory")
                    : t->known.n ? index_records(t, &index, err)
                                 : PLM_OK;
    progress_start(&bar, t->a->quiet, "base + BM25");
    for (size_t i = 0; st == PLM_OK && t->known.n && i < t->held.n; i++) {
        st = score_with_examples(t, index, &t->held.v[i], scores, &nll, err);
        sum += nll;
        progress_at(&bar, (double)i + 1, (double)t->held.n, NULL);
    }
    progress_end(&bar);
    if (st == PLM_OK && t->known.n)
        add_row(t, "base + BM25", sum / (double)t->held.n, 0);
    bm25_close(index);
    mem_free(scores);
    return st;
}

/* --adapter "NAME=FILE", or FILE alone; "NAME=" is a row that was not run. */
static plm_status score_adapter(struct table *t, const char *spec, double *each, const double *first,
                                plm_error *err) {
    const char *equals = strchr(spec, '='), *path = equals ? equals + 1 : spec;
    char name[80];
    struct loras loras = {.n = 0};
    snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - spec < 70 ? equals - spec : 70) : 70,
             equals               ? spec
             : strrchr(spec, '/') ? strrchr(spec, '/') + 1
                                  : spec);
    if (equals && !*path) {
        json_array_append_new(t->rows, json_pack("{s:s, s:n}", "arm", name, "target_nll"));
        if (!t->a->json)
            printf("  %-24s not run\n", name);
        return PLM_OK;
    }
    plm_status st = loras_add(&loras, t->device.model, path, 1, err);
    if (st == PLM_OK)
        st = scorer_use(&t->device.scorer, loras.use, loras.n, err);
    if (st == PLM_OK)
        st = score_plain(t, name, each, first, err);
    plm_status back = scorer_use(&t->device.scorer, NULL, 0, NULL);
    loras_close(&loras);
    return st ? st : back;
}

static plm_status fill(struct table *t, plm_error *err) {
    double *base = mem_zero(t->held.n, sizeof *base), *each = mem_zero(t->held.n, sizeof *each);
    plm_status st = base && each ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    if (!t->a->json)
        printf("%s, %zu held-out rows of %s (nats a token, lower is better)\n", t->a->rest[0], t->held.n,
               t->kind->name);
    if (st == PLM_OK)
        st = score_plain(t, "base", base, NULL, err);
    if (st == PLM_OK)
        st = score_bm25(t, err);
    for (int i = 0; st == PLM_OK && i < t->a->adapters.n; i++)
        st = score_adapter(t, t->a->adapters.v[i], each, base, err);
    mem_free(base);
    mem_free(each);
    return st;
}

int cmd_compare(struct args *a) {
    if (a->n_rest != 1)
        return app_misuse(a, "compare", "give one FILE.jsonl of held-out rows");
    plm_error err = {0};
    plm_kinds *kinds = NULL;
    plm_store *store = NULL;
    plm_model *model = NULL;
    struct table t = {.a = a, .rows = json_array()};
    plm_status st = app_kinds(&kinds, a, &err);
    t.kind = st ? NULL : plm_kind_find(kinds, a->task ? a->task : "note");
    if (st == PLM_OK && !t.kind)
        st = fail(&err, PLM_ENOTFOUND, "no kind \"%s\"", a->task);
    if (st == PLM_OK)
        st = pairs_read(&t.held, t.kind, a->rest[0], &err);
    if (st == PLM_OK)
        st = app_store(&store, a, true, &err);
    if (st == PLM_OK) {
        plm_query q = {.user = app_user(a), .kind = t.kind->name};
        st = records_load(&t.known, store, &q, &err);
    }
    if (st == PLM_OK)
        st = app_model(&model, a, &err);
    if (st == PLM_OK)
        st = device_open(&t.device, model, t.kind, &err);
    if (st == PLM_OK)
        st = fill(&t, &err);
    if (st == PLM_OK && a->json)
        app_json(json_pack("{s:s, s:s, s:I, s:O}", "user", app_user(a), "task", t.kind->name, "held_out",
                           (json_int_t)t.held.n, "rows", t.rows));
    json_decref(t.rows);
    device_close(&t.device);
    plm_model_close(model);
    records_free(&t.known);
    pairs_free(&t.held);
    plm_store_close(store);
    plm_kinds_close(kinds);
    return st ? app_fail(&err) : EXIT_DONE;
}
