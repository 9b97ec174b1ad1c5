/* arms.c: each arm is a function of a few lines: which examples, how long, which adapters, which prompts. */
#include "arms.h"

#include "base/text.h"
#include "chosen_arms.h"
#include "gate_arm.h"
#include "label_arms.h"
#include "teacher_arm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- floors: no model ---- */

static plm_status run_copy(struct cell *c, plm_error *err) {
    struct bytes b;
    plm_status st = cell_room(c, false, err);
    bytes_init(&b, 1 << 20);
    for (size_t i = 0; st == PLM_OK && i < c->view->n_queries; i++) {
        st = task_query_text(c->lab->task, c->view->queries[i].prompt, &b, err);
        c->replies[i].text = st ? NULL : mem_dupz(b.data);
        c->replies[i].gold = c->replies[i].pred = -1;
        if (st == PLM_OK && !c->replies[i].text)
            st = fail(err, PLM_ENOMEM, "out of memory");
    }
    c->answers = st == PLM_OK;
    bytes_free(&b);
    return st;
}

/* ---- without an adapter of the user's own ---- */

static plm_status run_base(struct cell *c, plm_error *err) {
    return cell_ask_student(c, &c->lab->student, NULL, 0, err);
}

static plm_status run_task(struct cell *c, plm_error *err) {
    plm_status st = lab_task_adapter(c->lab, c->arm->k, &c->cost, err);
    return st ? st : cell_ask(c, c->cost.path, 1, err);
}

/* ---- real data alone ---- */

static plm_status run_real_for(struct cell *c, const struct tuning *how, int steps, plm_error *err) {
    struct samples s = {0};
    plm_status st = cell_add_real(c, c->view, NULL, &s, err);
    if (st == PLM_OK)
        st = cell_study_and_ask(c, &s, how, steps, err);
    samples_free(&s);
    return st;
}

static plm_status run_real(struct cell *c, plm_error *err) {
    const struct tuning *how = &c->lab->recipe.user;
    struct tuning natural = *how;
    natural.least_steps = 1;
    return run_real_for(c, how, tuning_steps(&natural, c->view->n), err);
}

static plm_status run_real_matched(struct cell *c, plm_error *err) {
    return run_real_for(c, &c->lab->recipe.user, cell_steps(c), err);
}

static plm_status run_real_best(struct cell *c, plm_error *err) {
    const struct tuning *how = &c->lab->recipe.best;
    return run_real_for(c, how, tuning_steps(how, c->view->n), err);
}

/* How many examples go with n real ones: the product's rule for synthetic rows. */
static size_t amount(size_t n) {
    double rho = n < 16 ? 3 : n < 64 ? 2 : n < 256 ? 1 : .25;
    double want = round(rho * (double)n);
    return want < 8 ? 8 : want > 128 ? 128 : (size_t)want;
}

/* Each word of the user's turn behind the instruction goes with this chance. */
static plm_status drop_words(struct bytes *out, const char *prompt, const char *input, double share,
                             struct rng *rng, plm_error *err) {
    size_t len = strlen(prompt), tail = strlen(input);
    bool at_end = tail <= len && strcmp(prompt + len - tail, input) == 0;
    const char *from = at_end ? prompt + len - tail : prompt;
    struct str rest = str_of(from), word;
    bool first = true;
    bytes_clear(out);
    bytes_put(out, prompt, (size_t)(from - prompt));
    while (str_cut(&rest, ' ', &word)) {
        if (rng_unit(rng) < share)
            continue;
        if (!first)
            bytes_putc(out, ' ');
        bytes_put(out, word.p, word.n);
        first = false;
    }
    return bytes_status(out, "a prompt", err);
}

static plm_status run_real_dropout(struct cell *c, plm_error *err) {
    struct samples s = {0};
    struct bytes b;
    struct rng rng;
    rng_seed(&rng, c->seed, 77);
    bytes_init(&b, 1 << 20);
    plm_status st = cell_add_real(c, c->view, NULL, &s, err);
    for (size_t i = 0; st == PLM_OK && c->view->n && i < amount(c->view->n); i++) {
        const struct item *it = c->view->items[i % c->view->n];
        st = drop_words(&b, it->prompt, it->input, c->lab->recipe.dropout, &rng, err);
        if (st == PLM_OK)
            st = cell_add_other(c, &s, b.data, it->output, err);
    }
    if (st == PLM_OK)
        st = cell_study_and_ask(c, &s, &c->lab->recipe.user, cell_steps(c), err);
    bytes_free(&b);
    samples_free(&s);
    return st;
}

struct near {
    double score;
    const struct query *q;
};

/* The highest BM25 scores of other users' questions against each of the user's items, added up. */
static plm_status nearest_questions(struct cell *c, struct near *all, size_t n, plm_error *err) {
    struct words *docs = mem_zero(n ? n : 1, sizeof *docs), query;
    double *scores = mem_zero(n ? n : 1, sizeof *scores);
    struct bm25 *index = NULL;
    struct bytes b;
    plm_status st = docs && scores ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    bytes_init(&b, 1 << 20);
    for (size_t i = 0; st == PLM_OK && i < n; i++) {
        st = task_query_text(c->lab->task, all[i].q->prompt, &b, err);
        if (st == PLM_OK)
            st = words_split(&docs[i], b.data, b.len, WORDS_SPACE, err);
    }
    if (st == PLM_OK && n)
        st = bm25_open(&index, docs, n, err);
    for (size_t k = 0; st == PLM_OK && n && k < c->view->n; k++) {
        st = words_split(&query, c->view->items[k]->doc, strlen(c->view->items[k]->doc), WORDS_SPACE, err);
        if (st)
            break;
        st = bm25_scores(index, &query, scores, err);
        words_free(&query);
        for (size_t i = 0; st == PLM_OK && i < n; i++)
            all[i].score += scores[i];
    }
    for (size_t i = 0; docs && i < n; i++)
        words_free(&docs[i]);
    bm25_close(index);
    bytes_free(&b);
    mem_free(docs);
    mem_free(scores);
    return st;
}

static plm_status run_real_nearest(struct cell *c, plm_error *err) {
    struct samples s = {0};
    size_t n = 0, want = amount(c->view->n);
    for (size_t u = 0; u < c->lab->pool.n; u++)
        n += c->lab->pool.users[u].n_queries;
    struct near *all = mem_zero(n ? n : 1, sizeof *all);
    plm_status st = all ? cell_add_real(c, c->view, NULL, &s, err) : fail(err, PLM_ENOMEM, "out of memory");
    n = 0;
    for (size_t u = 0; all && u < c->lab->pool.n; u++)
        for (size_t i = 0; i < c->lab->pool.users[u].n_queries; i++)
            all[n++].q = &c->lab->pool.users[u].queries[i];
    if (st == PLM_OK)
        st = nearest_questions(c, all, n, err);
    for (size_t i = 0; st == PLM_OK && i < want && i < n; i++) {
        size_t best = 0;
        for (size_t k = 1; k < n; k++)
            if (all[k].score > all[best].score)
                best = k;
        all[best].score = -INFINITY;
        st = cell_add_other(c, &s, all[best].q->prompt, all[best].q->gold, err);
    }
    if (st == PLM_OK)
        st = cell_study_and_ask(c, &s, &c->lab->recipe.user, cell_steps(c), err);
    mem_free(all);
    samples_free(&s);
    return st;
}

/* ---- synthetic data ---- */

static plm_status run_rows(struct cell *c, bool real, const struct written *from,
                           const struct synthetics *rows, size_t most, plm_error *err) {
    struct samples s = {0};
    plm_status st = real ? cell_add_real(c, c->view, NULL, &s, err) : PLM_OK;
    if (st == PLM_OK)
        st = cell_add_rows(c, &s, rows, most, err);
    c->used = from;
    if (st == PLM_OK)
        st = cell_study_and_ask(c, &s, &c->lab->recipe.user, cell_steps(c), err);
    samples_free(&s);
    return st;
}

static plm_status run_system(struct cell *c, plm_error *err) {
    plm_status st = cell_written(c, err);
    return st ? st : run_rows(c, true, c->written, &c->written->kept, SIZE_MAX, err);
}

static plm_status run_synthetic(struct cell *c, plm_error *err) {
    plm_status st = cell_written(c, err);
    return st ? st : run_rows(c, false, c->written, &c->written->kept, SIZE_MAX, err);
}

/* As many rows as were wanted, as they came. */
static plm_status run_unfiltered(struct cell *c, plm_error *err) {
    plm_status st = cell_written(c, err);
    return st ? st : run_rows(c, true, c->written, &c->written->raw, amount(c->view->n), err);
}

/* What the teacher writes when it sees other people's items: the task, and nothing of the user. */
static plm_status run_generic(struct cell *c, plm_error *err) {
    const struct dataset *pool = &c->lab->pool;
    size_t n = 0, want = c->view->n;
    const struct item **items = mem_zero(want ? want : 1, sizeof *items);
    char what[60];
    if (!items)
        return fail(err, PLM_ENOMEM, "out of memory");
    for (size_t turn = 0; n < want && turn < 64; turn++)
        for (size_t u = 0; n < want && u < pool->n; u++)
            if (pool->users[u].n > turn)
                items[n++] = &pool->users[u].items[turn];
    snprintf(what, sizeof what, "generic/%zu", want);
    plm_status st = written_open(&c->others_rows, c->lab, what, items, n, c->view, c->seed, err);
    if (st == PLM_OK)
        st = run_rows(c, true, &c->others_rows, &c->others_rows.kept, SIZE_MAX, err);
    mem_free(items);
    return st;
}

/* ---- controls ---- */

/* Other users' "real-matched" adapters: the mean of the NLL over donors. What is answered is the first
 * donor's. */
static plm_status run_shuffled(struct cell *c, plm_error *err) {
    const struct dataset *d = &c->lab->dev;
    size_t donors = (size_t)c->lab->recipe.donors, done = 0, n = c->view->n_queries;
    double *sum = mem_zero(n ? n : 1, sizeof *sum);
    plm_status st = sum ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    int point = strcmp(c->point, "all") == 0 ? ALL_ITEMS : (int)c->view->n;
    donors = donors < d->n - 1 ? donors : d->n - 1;
    for (size_t i = 1; st == PLM_OK && i <= donors; i++) {
        struct samples s = {0};
        struct view v;
        struct trained theirs;
        st = view_open(&v, d, (c->view->index + i) % d->n, c->lab->split, point, (size_t)c->lab->a->queries,
                       c->lab->guard, err);
        if (st)
            break;
        st = cell_add_real(c, &v, NULL, &s, err);
        if (st == PLM_OK)
            st = cell_study(c, &s, &c->lab->recipe.user, tuning_steps(&c->lab->recipe.user, v.n), &theirs,
                            err);
        if (st == PLM_OK) {
            struct cell one = *c;
            one.replies = NULL;
            one.nll = NULL;
            one.only_score = done > 0;
            one.time_first = c->time_first && !done;
            st = cell_ask(&one, theirs.path, c->arm->scale * c->lab->recipe.user.scale, err);
            for (size_t q = 0; st == PLM_OK && q < n; q++)
                sum[q] += one.nll[q];
            if (done++ == 0 && st == PLM_OK) {
                c->pace = one.pace;
                c->cost = theirs;
                c->replies = one.replies;
                c->answers = true;
                one.replies = NULL;
            }
            replies_free(one.replies, n);
            mem_free(one.replies);
            mem_free(one.nll);
        }
        samples_free(&s);
        view_close(&v);
    }
    for (size_t q = 0; q < n && sum && done; q++)
        sum[q] /= (double)done;
    c->nll = done ? sum : NULL;
    if (!done)
        mem_free(sum);
    return st == PLM_OK && !done ? fail(err, PLM_EINVAL, "\"shuffled\" needs a second user") : st;
}

/* A mixture of whole answers' probabilities, weighted by what each expert got right so far on this stream:
 * its loss is at most the best expert's + ln K (Vovk 1990), which the line states as "bound". */
static plm_status run_mixture(struct cell *c, plm_error *err) {
    static const char *const experts[] = {"histogram",  "base",         "base@4",          "task",
                                          "task@4",     "task+prior",   "real+syn",        "real+syn:0.5",
                                          "real+syn@4", "real-matched", "real-matched:0.5"};
    enum { MOST = sizeof experts / sizeof *experts };
    const json_t *nll[MOST], *bytes[MOST];
    double lost[MOST] = {0}, mixed = 0, best = INFINITY;
    size_t K = 0, n = c->view->n_queries;
    for (size_t i = 0; i < MOST; i++) {
        const json_t *cell = json_object_get(c->others, experts[i]);
        nll[K] = json_object_get(cell, "nll");
        bytes[K] = json_object_get(cell, "bytes");
        K += json_array_size(nll[K]) == n;
    }
    if (!K)
        return fail(err, PLM_EINVAL, "\"mixture\" mixes other arms, of which none was run before it");
    plm_status st = cell_room(c, true, err);
    for (size_t q = 0; st == PLM_OK && q < n; q++) {
        double top = -INFINITY, sum = 0, all = 0, least = INFINITY, size = 1;
        for (size_t i = 0; i < K; i++)
            least = lost[i] < least ? lost[i] : least;
        for (size_t i = 0; i < K; i++) {
            const json_t *b = json_array_get(bytes[i], q);
            size = b ? json_number_value(b) : size;
        }
        for (size_t i = 0; i < K; i++) {
            double nats = json_number_value(json_array_get(nll[i], q)) * size;
            top = -nats > top ? -nats : top;
        }
        for (size_t i = 0; i < K; i++) {
            double nats = json_number_value(json_array_get(nll[i], q)) * size, weight = exp(least - lost[i]);
            sum += weight * exp(-nats - top);
            all += weight;
            lost[i] += nats;
        }
        double nats = -(top + log(sum / all));
        mixed += nats;
        c->replies[q].nats = nats;
        c->replies[q].bytes = size;
        c->nll[q] = nats / size;
    }
    for (size_t i = 0; i < K; i++)
        best = lost[i] < best ? lost[i] : best;
    c->extra = json_pack("{s:{s:I, s:f, s:f, s:f}}", "mixture", "experts", (json_int_t)K, "loss", mixed,
                         "best", best, "bound", best + log((double)K));
    return st;
}

/* ---- the table ---- */

const struct arm_kind arm_kinds[] = {
    {"majority", "the user's commonest label", false, false, true, false, run_majority},
    {"histogram", "the user's label counts + 0.5, no model", false, false, true, false, run_histogram},
    {"copy", "the query's text as the answer", false, false, false, true, run_copy},
    {"base", "the student as it is", false, false, true, true, run_base},
    {"task", "an adapter of other users only", false, false, true, true, run_task},
    {"task+prior", "the same, calibrated to the user's labels", false, false, true, false, run_task_prior},
    {"task+fit", "the same, weighed and calibrated on the user's items", false, false, true, false,
     run_task_fit},
    {"real+prior", "real-matched, weighed and calibrated to the user's labels", true, false, true, false,
     run_real_prior},
    {"real+syn+prior", "the system, likewise", true, true, true, false, run_system_prior},
    {"real", "the user's items, natural number of steps", true, false, true, true, run_real},
    {"real-matched", "the user's items, as many steps as the system", true, false, true, true,
     run_real_matched},
    {"real-best", "the user's items, tuned for itself", true, false, true, true, run_real_best},
    {"real-dropout", "and copies with words left out", true, false, true, true, run_real_dropout},
    {"real+nearest", "and the nearest items of other users", true, false, true, true, run_real_nearest},
    {"generic", "and rows written from others' items", true, true, true, true, run_generic},
    {"synthetic", "rows written from the user's items alone", true, true, true, true, run_synthetic},
    {"real+unfiltered", "the user's items and rows as they came", true, true, true, true, run_unfiltered},
    {"real+syn", "the system: items and filtered rows", true, true, true, true, run_system},
    {"real+syn/2", "the system with any half of its rows", true, true, true, true, run_half},
    {"real+chosen", "with the half whose gradients agree with real ones'", true, true, true, true,
     run_chosen},
    {"shuffled", "other users' adapters", true, false, true, true, run_shuffled},
    {"gate", "what the product's gate installs", true, true, true, true, run_gate},
    {"mixture", "of the arms before it, weighted by their past", false, false, true, true, run_mixture},
    {"teacher", "the teacher itself (a service: answers, no NLL)", false, false, true, true, run_teacher},
    {NULL, NULL, false, false, false, false, NULL},
};

plm_status arm_parse(struct arm_spec *out, struct str text, plm_error *err) {
    struct str name = text;
    double scale = 1;
    int64_t k = 0;
    char whole[60];
    snprintf(whole, sizeof whole, "%.*s", (int)(text.n < 50 ? text.n : 50), text.p);
    char *at = strchr(whole, '@'), *colon = strchr(whole, ':');
    bool good = (!at || parse_i64(str_of(at + 1), &k)) && k >= 0 && k <= BM25_MOST;
    if (at)
        *at = 0;
    good = good && (!colon || (parse_f64(str_of(colon + 1), &scale) && scale >= 0 && scale <= 1));
    name = (struct str){whole, colon ? (size_t)(colon - whole) : strlen(whole)};
    if (str_eq(name, "bm25")) {
        name = str_of("base");
        k = k ? k : 4;
    }
    *out = (struct arm_spec){.k = (size_t)k, .scale = scale};
    for (const struct arm_kind *a = arm_kinds; a->name; a++)
        if (str_eq(name, a->name))
            out->kind = a;
    if (!out->kind || !good)
        return fail(err, PLM_EINVAL, "\"%.50s\" is no arm (see plm-eval run --help)", whole);
    if (scale < 1)
        snprintf(out->name, sizeof out->name, "%s:%.3g", out->kind->name, scale);
    else
        snprintf(out->name, sizeof out->name, "%s", out->kind->name);
    return PLM_OK;
}
