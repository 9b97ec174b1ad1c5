/* report.c: the numbers of a report: for each configuration its tasks, points and arms, and each arm on each
 * task. What is asked of them (hypotheses, harm, filters, guards) is in report_parts.c. */
#include "report.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "metric.h"

/* Every arm, in the order in which they are shown, and what each is measured against. */
static const struct {
    const char *arm, *base;
} ladder[] = {
    {"majority", NULL},
    {"histogram", NULL},
    {"copy", NULL},
    {"base", NULL},
    {"task", "base"},
    {"task+prior", "task"},
    {"task+fit", "histogram"},
    {"real+prior", "histogram"},
    {"real", "task"},
    {"real-matched", "task"},
    {"real-best", "task"},
    {"real-dropout", "real-matched"},
    {"real+nearest", "real-matched"},
    {"generic", "real-matched"},
    {"synthetic", "task"},
    {"real+unfiltered", "real-matched"},
    {"real+syn", "real-matched"},
    {"real+syn+prior", "real+prior"},
    {"real+syn/2", "real-matched"},
    {"real+chosen", "real+syn/2"},
    {"shuffled", "task"},
    {"gate", "task"},
    {"mixture", "task"},
    {"teacher", NULL},
};
enum { LADDER = sizeof ladder / sizeof *ladder };

/* "real+syn:0.5" stands where "real+syn" does. */
static size_t rank_of(const char *arm) {
    size_t n = strcspn(arm, ":");
    for (size_t i = 0; i < LADDER; i++)
        if (strlen(ladder[i].arm) == n && strncmp(ladder[i].arm, arm, n) == 0)
            return i;
    return LADDER;
}

bool arm_base(const struct side *arm, struct side *base) {
    size_t rank = rank_of(arm->arm);
    const char *name = rank < LADDER ? ladder[rank].base : "task";
    *base = (struct side){name, arm->bm25, arm->point};
    if (arm->bm25 && (!name || strcmp(arm->arm, "task") == 0))
        *base = (struct side){arm->arm, 0, arm->point}; /* retrieval against none */
    return base->arm != NULL;
}

void put(struct builder *b, json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value))
        b->failed = true;
}

void append(struct builder *b, json_t *list, json_t *value) {
    if (json_array_append_new(list, value))
        b->failed = true;
}

json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

/* ---- what there is ---- */

static plm_status add_name(struct names *names, const char *name, plm_error *err) {
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->v[i], name) == 0)
            return PLM_OK;
    if (names->n == STAT_GROUPS)
        return fail(err, PLM_ELIMIT, "a report holds at most %d tasks and as many points; %s is one more",
                    STAT_GROUPS, name);
    names->v[names->n++] = name;
    return PLM_OK;
}

static double point_order(const char *point) {
    int64_t n;
    return parse_i64(str_of(point), &n) ? (double)n : INFINITY;
}

static int by_point(const void *a, const void *b) {
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    double d = point_order(x) - point_order(y);
    return d < 0 ? -1 : d > 0 ? 1 : strcmp(x, y);
}

static int by_rank(const void *a, const void *b) {
    const struct side *x = a, *y = b;
    size_t i = rank_of(x->arm), j = rank_of(y->arm);
    if (i != j)
        return i < j ? -1 : 1;
    int c = strcmp(x->arm, y->arm);
    return c ? c : x->bm25 - y->bm25;
}

static plm_status add_arm(struct builder *b, const struct result *c, plm_error *err) {
    for (size_t i = 0; i < b->n_arms; i++)
        if (strcmp(b->arm[i].arm, c->arm) == 0 && b->arm[i].bm25 == c->bm25)
            return PLM_OK;
    if (b->n_arms == sizeof b->arm / sizeof *b->arm)
        return fail(err, PLM_ELIMIT, "a report holds at most 64 arms; %s is one more", c->arm);
    b->arm[b->n_arms++] = (struct side){c->arm, c->bm25, NULL};
    return PLM_OK;
}

static void choose_main(struct builder *b) {
    size_t n = 0;
    for (size_t i = 0; i < b->points.n; i++)
        if (strcmp(b->points.v[i], "8") == 0 || strcmp(b->points.v[i], "all") == 0)
            b->main_points[n++] = b->points.v[i];
    if (n == 0)
        b->main_points[0] = b->points.v[b->points.n - 1];
}

static plm_status survey(struct builder *b, plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; i < b->s->n && st == PLM_OK; i++) {
        const struct result *c = b->s->group[i].result;
        st = add_name(&b->tasks, c->task, err);
        if (st == PLM_OK)
            st = add_name(&b->points, c->point, err);
        if (st == PLM_OK)
            st = add_arm(b, c, err);
    }
    qsort(b->points.v, b->points.n, sizeof *b->points.v, by_point);
    qsort(b->arm, b->n_arms, sizeof *b->arm, by_rank);
    choose_main(b);
    return st;
}

static json_t *names_json(const struct names *names) {
    json_t *list = json_array();
    for (size_t i = 0; i < names->n; i++)
        json_array_append_new(list, json_string(names->v[i]));
    return list;
}

static json_t *teachers(const struct section *s) {
    json_t *list = json_array();
    for (size_t i = 0; i < s->n; i++) {
        const char *t = s->group[i].result->teacher;
        bool known = !*t;
        for (size_t k = 0; k < json_array_size(list); k++)
            known |= strcmp(json_string_value(json_array_get(list, k)), t) == 0;
        if (!known)
            json_array_append_new(list, json_string(t));
    }
    return list;
}

/* ---- one arm on one task ---- */

/* The answers of one seed, pooled over users: two numbers a query, label and gold, or ROUGE-1 and ROUGE-L. */
struct answers {
    double *x, *y;
    int *a, *b; /* the same as whole numbers */
    size_t n;
};

static void gather(struct answers *w, const struct group *g, int seed, bool text) {
    w->n = 0;
    for (size_t i = 0; i < g->n; i++) {
        const struct result *c = &g->result[i];
        const json_t *m = json_object_get(c->at, "metric"), *x = json_object_get(m, text ? "rouge1" : "pred"),
                     *y = json_object_get(m, text ? "rougeL" : "gold");
        if (c->seed != seed || json_array_size(x) != (size_t)c->queries ||
            json_array_size(y) != (size_t)c->queries)
            continue;
        for (size_t k = 0; k < (size_t)c->queries; k++, w->n++) {
            w->x[w->n] = json_number_value(json_array_get(x, k));
            w->y[w->n] = json_number_value(json_array_get(y, k));
            w->a[w->n] = (int)w->x[w->n];
            w->b[w->n] = (int)w->y[w->n];
        }
    }
}

static void pooled(struct answers *w, const struct metric_task *t, double value[2]) {
    if (t->kind == METRIC_LABEL) {
        struct metric_labels m = metric_labels(w->a, w->b, w->n, t->n_labels);
        value[0] += m.accuracy;
        value[1] += m.f1;
        return;
    }
    if (t->kind == METRIC_RATING) {
        for (size_t i = 0; i < w->n; i++) { /* label 0 is the rating 1 */
            w->y[i] += 1;
            w->x[i] = w->a[i] >= 0 ? w->x[i] + 1 : metric_rating(STR(""), w->y[i], NULL);
        }
        struct metric_ratings m = metric_ratings(w->x, w->y, w->n);
        value[0] += m.mae;
        value[1] += m.rmse;
        return;
    }
    for (size_t i = 0; i < w->n; i++) {
        value[0] += w->x[i] / (double)w->n;
        value[1] += w->y[i] / (double)w->n;
    }
}

/* LaMP's metrics, the mean over seeds: {"accuracy","f1"}, {"MAE","RMSE"}, {"rouge-1","rouge-L"}; null without
 * answers. */
static json_t *metric_json(const struct group *g, plm_status *st, plm_error *err) {
    const struct metric_task *t = metric_task(str_of(g->result->task));
    size_t room = 0;
    double value[2] = {0, 0};
    int seeds = 0, last = -1;
    for (size_t i = 0; i < g->n; i++)
        room += (size_t)g->result[i].queries;
    struct answers w = {.x = mem_alloc(2 * room, sizeof *w.x), .a = mem_alloc(2 * room, sizeof *w.a)};
    if (!w.x || !w.a)
        *st = fail(err, PLM_ENOMEM, "out of memory for %zu answers", room);
    for (bool more = t && w.x && w.a; more;) { /* each seed once, ascending */
        int seed = INT_MAX;
        for (size_t i = 0; i < g->n; i++)
            if (g->result[i].seed > last && g->result[i].seed < seed)
                seed = g->result[i].seed;
        more = seed < INT_MAX;
        w.y = w.x + room;
        w.b = w.a + room;
        gather(&w, g, seed, t->kind == METRIC_TEXT);
        if (w.n) {
            pooled(&w, t, value);
            seeds++;
        }
        last = seed;
    }
    mem_free(w.x);
    mem_free(w.a);
    if (!seeds)
        return json_null();
    return json_pack("{s:f, s:f}", metric_name(t, 0), value[0] / seeds, metric_name(t, 1), value[1] / seeds);
}

/* The mean of each number of the lines' "cost", over those that have it. */
static json_t *cost_json(const struct group *g) {
    static const char *const keys[] = {"train_s",        "steps",       "train_tokens", "adapter_bytes",
                                       "teacher_in",     "teacher_out", "teacher_s",    "prompt_tokens",
                                       "first_token_ms", "answer_ms"};
    json_t *out = json_object();
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        double sum = 0;
        size_t n = 0;
        for (size_t i = 0; i < g->n; i++) {
            const json_t *v = json_object_get(json_object_get(g->result[i].at, "cost"), keys[k]);
            n += json_is_number(v);
            sum += json_number_value(v);
        }
        json_object_set_new(out, keys[k], n ? json_real(sum / (double)n) : json_null());
    }
    return out;
}

static plm_status difference(json_t **out, struct builder *b, size_t from, size_t to,
                             const struct side *first, const struct side *second, plm_error *err) {
    struct pairs p = {0};
    plm_status st = PLM_OK;
    for (size_t t = from; t < to && st == PLM_OK; t++)
        st = pairs_add(&p, b->s, &b->tasks, t, first, second, err);
    if (st == PLM_OK)
        st = pairs_json(out, &p, err);
    pairs_free(&p);
    return st;
}

static plm_status arm_on_task(struct builder *b, json_t *list, const struct side *arm, size_t task,
                              double *nll, plm_error *err) {
    const struct group *g = results_group(b->s, b->tasks.v[task], arm->arm, arm->bm25, arm->point);
    struct side base;
    json_t *change = json_null();
    plm_status st = PLM_OK;
    *nll = NAN;
    if (!g)
        return PLM_OK;
    struct user_mean *u = mem_alloc(g->n, sizeof *u);
    if (!u)
        return fail(err, PLM_ENOMEM, "out of memory for %zu users", g->n);
    size_t n = results_users(g, u), queries = 0, seeds = 0;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += u[i].nll / (double)n;
        queries += (size_t)u[i].queries;
        seeds = (size_t)u[i].seeds > seeds ? (size_t)u[i].seeds : seeds;
    }
    mem_free(u);
    *nll = sum;
    bool based = arm_base(arm, &base);
    if (based)
        st = difference(&change, b, task, task + 1, arm, &base, err);
    json_t *metric = metric_json(g, &st, err);
    if (st) {
        json_decref(change);
        json_decref(metric);
        return st;
    }
    append(b, list,
           json_pack("{s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "arm", arm->arm, "bm25",
                     arm->bm25, "point", arm->point, "task", b->tasks.v[task], "users", (json_int_t)n,
                     "queries", (json_int_t)queries, "seeds", (json_int_t)seeds, "nll", number(sum),
                     "against",
                     based ? json_pack("{s:s, s:i}", "arm", base.arm, "bm25", base.bm25) : json_null(),
                     "difference", change, "metric", metric, "cost", cost_json(g)));
    return PLM_OK;
}

/* An arm over all tasks: against what it builds on, and against the adapter of other users, the same for all.
 */
static plm_status arm_overall(struct builder *b, json_t *list, const struct side *arm, double nll,
                              size_t tasks, plm_error *err) {
    struct side base, task = {"task", 0, arm->point};
    json_t *change = json_null(), *from_task = json_null();
    plm_status st = PLM_OK;
    if (arm_base(arm, &base))
        st = difference(&change, b, 0, b->tasks.n, arm, &base, err);
    if (st == PLM_OK && base.arm && strcmp(base.arm, "task") == 0 && base.bm25 == 0)
        from_task = json_incref(change);
    else if (st == PLM_OK)
        st = difference(&from_task, b, 0, b->tasks.n, arm, &task, err);
    if (st == PLM_OK)
        append(b, list,
               json_pack("{s:s, s:i, s:s, s:I, s:o, s:o, s:o}", "arm", arm->arm, "bm25", arm->bm25, "point",
                         arm->point, "tasks", (json_int_t)tasks, "nll", number(nll), "difference", change,
                         "from_task", from_task));
    else {
        json_decref(change);
        json_decref(from_task);
    }
    return st;
}

static plm_status report_arms(struct builder *b, plm_error *err) {
    json_t *each = json_array(), *overall = json_array();
    plm_status st = PLM_OK;
    put(b, b->out, "arms", each);
    put(b, b->out, "overall", overall);
    for (size_t p = 0; p < b->points.n; p++)
        for (size_t i = 0; i < b->n_arms; i++) {
            struct side arm = {b->arm[i].arm, b->arm[i].bm25, b->points.v[p]};
            double sum = 0, nll;
            size_t tasks = 0, there = json_array_size(each);
            for (size_t t = 0; t < b->tasks.n && st == PLM_OK; t++) {
                st = arm_on_task(b, each, &arm, t, &nll, err);
                if (isfinite(nll)) {
                    sum += nll;
                    tasks++;
                }
            }
            if (st == PLM_OK && json_array_size(each) > there)
                st = arm_overall(b, overall, &arm, sum / (double)tasks, tasks, err);
            if (st)
                return st;
        }
    return PLM_OK;
}

/* ---- the document ---- */

static plm_status build_section(json_t **out, const struct section *s, plm_error *err) {
    const struct result *first = s->group->result;
    struct builder b = {.s = s};
    plm_status st = survey(&b, err);
    if (st)
        return st;
    b.out = json_pack("{s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:[ss?]}", "split", first->split, "student",
                      first->student, "config", first->config, "guarded", first->guarded, "teachers",
                      teachers(s), "tasks", names_json(&b.tasks), "points", names_json(&b.points),
                      "main_points", b.main_points[0], b.main_points[1]);
    if (!b.out)
        return fail(err, PLM_ENOMEM, "out of memory for the report");
    st = report_arms(&b, err);
    if (st == PLM_OK)
        st = report_hypotheses(&b, err);
    if (st == PLM_OK)
        st = report_retrieval(&b, err);
    if (st == PLM_OK)
        st = report_harm(&b, err);
    if (st == PLM_OK) {
        report_filters(&b);
        report_guards(&b);
        report_missing(&b);
        st = b.failed ? fail(err, PLM_ENOMEM, "out of memory for the report") : PLM_OK;
    }
    if (st)
        json_decref(b.out);
    else
        *out = b.out;
    return st;
}

/* How many configurations have seen the test queries: each look makes a chance finding likelier. */
static size_t dev_configurations(const struct results *r) {
    size_t n = 0;
    for (size_t i = 0; i < r->n_sections; i++) {
        const struct result *c = r->section[i].group->result;
        bool known = strcmp(c->split, "dev") != 0;
        for (size_t k = 0; k < i; k++) {
            const struct result *d = r->section[k].group->result;
            known |= strcmp(d->split, "dev") == 0 && strcmp(d->config, c->config) == 0;
        }
        n += !known;
    }
    return n;
}

plm_status report_build(json_t **out, const struct results *r, plm_error *err) {
    json_t *sections = json_array(), *files = json_array();
    plm_status st = PLM_OK;
    for (size_t i = 0; i < r->n_files; i++)
        json_array_append_new(files, json_pack("{s:s, s:I, s:b}", "path", r->file[i].path, "lines",
                                               (json_int_t)r->file[i].lines, "torn", r->file[i].torn));
    *out = json_pack("{s:s, s:o, s:I, s:I, s:I, s:o}", "plm", plm_version(), "files", files, "results",
                     (json_int_t)r->n, "repeated", (json_int_t)r->repeated, "dev_configurations",
                     (json_int_t)dev_configurations(r), "sections", sections);
    if (!*out)
        return fail(err, PLM_ENOMEM, "out of memory for the report");
    for (size_t i = 0; i < r->n_sections && st == PLM_OK; i++) {
        json_t *one;
        st = build_section(&one, &r->section[i], err);
        if (st == PLM_OK && json_array_append_new(sections, one))
            st = fail(err, PLM_ENOMEM, "out of memory for the report");
    }
    if (st) {
        json_decref(*out);
        *out = NULL;
    }
    return st;
}
