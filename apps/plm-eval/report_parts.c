/* report_parts.c: what is asked of the numbers: the two hypotheses, retrieval, harm, what filters and guards
 * took out, and what is not there. */
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/str.h"
#include "metric.h"

static const double level = 0.05, harm = 0.02;

/* LaMP's public tasks whose results are expected; LaMP_2N may come on top. */
static const char *const six[] = {"LaMP_1", "LaMP_2M", "LaMP_3", "LaMP_4", "LaMP_5", "LaMP_7"};
enum { SIX = sizeof six / sizeof *six };

/* ---- hypotheses ---- */

struct claim {
    const char *name, *says, *point, *first, *rival[2]; /* the first is below the better rival */
};
static const struct claim claims[] = {
    {"P1", "a person's own adapter is better than other people's", "all", "real-matched", {"shuffled", NULL}},
    {"P2",
     "filtered synthetic data are better than any training on the real items alone",
     "8",
     "real+syn",
     {"real-matched", "real-best"}},
};
enum { CLAIMS = sizeof claims / sizeof *claims };

/* Mean NLL of each of two groups over the users that both have. */
static plm_status common_means(const struct group *a, const struct group *b, double mean[2], plm_error *err) {
    struct user_mean *x = mem_alloc(a->n + b->n, sizeof *x);
    size_t both = 0;
    if (!x)
        return fail(err, PLM_ENOMEM, "out of memory for %zu users", a->n + b->n);
    size_t n = results_users(a, x), m = results_users(b, x + a->n), j = 0;
    const struct user_mean *y = x + a->n;
    mean[0] = mean[1] = 0;
    for (size_t i = 0; i < n; i++) {
        while (j < m && y[j].user < x[i].user)
            j++;
        if (j == m || y[j].user != x[i].user)
            continue;
        mean[0] += x[i].nll;
        mean[1] += y[j].nll;
        both++;
    }
    mem_free(x);
    for (int i = 0; i < 2; i++)
        mean[i] = both ? mean[i] / (double)both : NAN;
    return PLM_OK;
}

/* The rival with the lower mean over users; NULL: neither is there. */
static plm_status better_rival(const struct builder *b, const struct claim *c, const char *task,
                               const char **out, plm_error *err) {
    const struct group *g[2] = {NULL, NULL};
    double mean[2] = {NAN, NAN};
    *out = NULL;
    for (int i = 0; i < 2; i++)
        if (c->rival[i])
            g[i] = side_group(b->s, task, &(struct side){c->rival[i], 0, c->point});
    if (!g[0] || !g[1]) {
        *out = g[0] ? c->rival[0] : g[1] ? c->rival[1] : NULL;
        return PLM_OK;
    }
    plm_status st = common_means(g[0], g[1], mean, err);
    *out = mean[1] < mean[0] ? c->rival[1] : c->rival[0];
    return st;
}

static void note_missing(struct builder *b, json_t *list, const struct claim *c, const char *task) {
    const char *const arms[] = {c->first, c->rival[0], c->rival[1]};
    for (int i = 0; i < 3; i++) {
        char text[120];
        if (!arms[i] || side_group(b->s, task, &(struct side){arms[i], 0, c->point}))
            continue;
        snprintf(text, sizeof text, "%.40s of %.20s at %.10s", arms[i], task, c->point);
        append(b, list, json_string(text));
    }
}

struct family { /* the per-task tests of one claim */
    json_t *result[STAT_GROUPS];
    double p[STAT_GROUPS];
    size_t n;
};

/* Tests that were planned and could not be made count in the family, as not found. */
static void adjust(struct builder *b, struct family *f, size_t planned) {
    double p[STAT_GROUPS];
    size_t n = f->n > planned ? f->n : planned;
    for (size_t i = 0; i < n; i++)
        p[i] = i < f->n ? f->p[i] : 1;
    holm(p, p, n);
    for (size_t i = 0; i < f->n; i++)
        if (json_is_object(f->result[i]))
            put(b, f->result[i], "holm", json_real(p[i]));
}

static plm_status test_units(struct builder *b, json_t **result, double *p, const struct pairs *pairs,
                             double alpha, plm_error *err) {
    plm_status st = pairs_json(result, pairs, err);
    *p = 1;
    if (st == PLM_OK && pairs->n) {
        *p = json_number_value(json_object_get(*result, "p"));
        put(b, *result, "detectable", number(detectable_effect(pairs->unit, pairs->n, alpha)));
    }
    return st;
}

static plm_status claim_on_task(struct builder *b, const struct claim *c, size_t task, json_t *list,
                                struct pairs *all, struct family *f, plm_error *err) {
    const char *rival;
    struct pairs one = {0};
    struct side first = {c->first, 0, c->point}, second = {NULL, 0, c->point};
    json_t *result = NULL;
    plm_status st = better_rival(b, c, b->tasks.v[task], &rival, err);
    second.arm = rival;
    if (st == PLM_OK && rival)
        st = pairs_add(&one, b->s, &b->tasks, task, &first, &second, err);
    if (st == PLM_OK && rival)
        st = pairs_add(all, b->s, &b->tasks, task, &first, &second, err);
    if (st == PLM_OK)
        st = test_units(b, &result, &f->p[f->n], &one, level / SIX, err);
    pairs_free(&one);
    if (st)
        return st;
    f->result[f->n++] = result;
    append(b, list,
           json_pack("{s:s, s:s?, s:o}", "task", b->tasks.v[task], "rival", rival, "result", result));
    return PLM_OK;
}

static json_t *dots(struct builder *b, const struct pairs *p) {
    json_t *list = json_array();
    for (size_t i = 0; i < p->n; i++)
        append(b, list,
               json_pack("{s:s, s:i, s:f}", "task", b->tasks.v[p->unit[i].group], "user", p->user[i],
                         "difference", p->unit[i].value));
    return list;
}

static plm_status report_claim(struct builder *b, const struct claim *c, json_t *list, struct family *both,
                               plm_error *err) {
    json_t *tasks = json_array(), *missing = json_array(), *result = NULL;
    struct pairs all = {0};
    struct family f = {.n = 0};
    plm_status st = PLM_OK;
    json_t *doc = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:o, s:o}", "name", c->name, "says", c->says,
                            "point", c->point, "first", c->first, "rival", c->rival[0], "other_rival",
                            c->rival[1], "tasks", tasks, "missing", missing);
    if (json_array_append_new(list, doc))
        return fail(err, PLM_ENOMEM, "out of memory for a hypothesis");
    for (size_t t = 0; t < b->tasks.n && st == PLM_OK; t++) {
        note_missing(b, missing, c, b->tasks.v[t]);
        st = claim_on_task(b, c, t, tasks, &all, &f, err);
    }
    if (st == PLM_OK)
        st = test_units(b, &result, &both->p[both->n], &all, level / CLAIMS, err);
    if (st == PLM_OK) {
        adjust(b, &f, SIX);
        put(b, doc, "result", result);
        put(b, doc, "users", dots(b, &all));
        both->result[both->n++] = result;
    }
    pairs_free(&all);
    return st;
}

plm_status report_hypotheses(struct builder *b, plm_error *err) {
    json_t *list = json_array();
    struct family both = {.n = 0};
    plm_status st = PLM_OK;
    put(b, b->out, "hypotheses", list);
    for (int i = 0; i < CLAIMS && st == PLM_OK; i++)
        st = report_claim(b, &claims[i], list, &both, err);
    if (st == PLM_OK)
        adjust(b, &both, CLAIMS);
    for (size_t i = 0; i < both.n && st == PLM_OK; i++)
        if (json_is_object(both.result[i]))
            put(b, both.result[i], "found",
                json_boolean(json_number_value(json_object_get(both.result[i], "holm")) < level &&
                             json_number_value(json_object_get(both.result[i], "effect")) < 0));
    return st;
}

/* ---- one arm against another at every point and with every retrieval ---- */

static bool has_arm(const struct builder *b, const char *arm, int bm25) {
    for (size_t i = 0; i < b->n_arms; i++)
        if (b->arm[i].bm25 == bm25 && strcmp(b->arm[i].arm, arm) == 0)
            return true;
    return false;
}

/* Pairs over all tasks of arm against the other-users' adapter at the same point and retrieval. */
static plm_status against_task(struct builder *b, const char *arm, int bm25, const char *point,
                               struct pairs *p, plm_error *err) {
    struct side first = {arm, bm25, point}, second = {"task", bm25, point};
    plm_status st = PLM_OK;
    for (size_t t = 0; t < b->tasks.n && st == PLM_OK; t++)
        st = pairs_add(p, b->s, &b->tasks, t, &first, &second, err);
    return st;
}

static json_t *row(struct builder *b, json_t *list, int bm25, const char *point) {
    json_t *doc = json_pack("{s:i, s:s}", "bm25", bm25, "point", point);
    append(b, list, doc);
    return doc;
}

plm_status report_retrieval(struct builder *b, plm_error *err) {
    json_t *list = json_array();
    put(b, b->out, "retrieval", list);
    for (size_t i = 0; i < b->n_arms; i++) {
        int k = b->arm[i].bm25;
        if (!k || strcmp(b->arm[i].arm, "real+syn") != 0 || !has_arm(b, "task", k))
            continue;
        for (size_t j = 0; j < b->points.n; j++) {
            struct pairs p = {0};
            json_t *result = NULL;
            plm_status st = against_task(b, "real+syn", k, b->points.v[j], &p, err);
            if (st == PLM_OK)
                st = pairs_json(&result, &p, err);
            if (st == PLM_OK && p.n)
                put(b, row(b, list, k, b->points.v[j]), "result", result);
            pairs_free(&p);
            if (st)
                return st;
        }
    }
    return PLM_OK;
}

plm_status report_harm(struct builder *b, plm_error *err) {
    json_t *list = json_array();
    put(b, b->out, "harm", list);
    for (size_t i = 0; i < b->n_arms; i++)
        for (size_t j = 0; j < b->points.n && strcmp(b->arm[i].arm, "gate") == 0; j++) {
            struct pairs p = {0};
            size_t worse = 0;
            plm_status st = against_task(b, "gate", b->arm[i].bm25, b->points.v[j], &p, err);
            for (size_t k = 0; k < p.n; k++)
                worse += p.unit[k].value > harm;
            if (st == PLM_OK && p.n) {
                json_t *doc = row(b, list, b->arm[i].bm25, b->points.v[j]);
                put(b, doc, "users", json_integer((json_int_t)p.n));
                put(b, doc, "worse", json_integer((json_int_t)worse));
                put(b, doc, "share", json_real((double)worse / (double)p.n));
                put(b, doc, "upper", json_real(share_upper(worse, p.n, 1 - level)));
            }
            pairs_free(&p);
            if (st)
                return st;
        }
    return PLM_OK;
}

/* ---- filters and guards ---- */

static double count(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}

static void add(struct builder *b, json_t *to, const char *key, double n) {
    put(b, to, key, json_integer((json_int_t)(count(to, key) + n)));
}

/* What became of the teacher's rows, by task and point, for the system's arm: one run a user and point. */
void report_filters(struct builder *b) {
    json_t *list = json_array();
    put(b, b->out, "filters", list);
    for (size_t i = 0; i < b->s->n; i++) {
        const struct group *g = &b->s->group[i];
        const struct result *c = g->result;
        if (strcmp(c->arm, "real+syn") != 0 || c->bm25 != 0)
            continue;
        json_t *dropped = json_object(), *doc = row(b, list, 0, c->point);
        put(b, doc, "task", json_string(c->task));
        put(b, doc, "dropped", dropped);
        for (size_t k = 0; k < g->n; k++) {
            const json_t *s = json_object_get(g->result[k].at, "synthetic");
            const char *rule;
            json_t *n;
            add(b, doc, "asked", count(s, "asked"));
            add(b, doc, "seen", count(s, "seen"));
            add(b, doc, "kept", count(s, "kept"));
            add(b, doc, "near", count(s, "near"));
            json_object_foreach(json_object_get(s, "dropped"), rule, n)
                add(b, dropped, rule, json_number_value(n));
        }
    }
}

/* A user's near duplicates are counted once, at the point that has most. */
void report_guards(struct builder *b) {
    size_t users = 0, with = 0;
    double items = 0, rows = 0;
    json_t *most = json_object();
    for (size_t i = 0; i < b->s->n; i++)
        for (size_t k = 0; k < b->s->group[i].n; k++) {
            const struct result *c = &b->s->group[i].result[k];
            double near = count(json_object_get(c->at, "guard"), "near");
            char key[80];
            snprintf(key, sizeof key, "%.40s %d", c->task, c->user);
            if (!json_object_get(most, key) || json_number_value(json_object_get(most, key)) < near)
                put(b, most, key, json_real(near));
            if (strcmp(c->arm, "real+syn") == 0 && c->bm25 == 0)
                rows += count(json_object_get(c->at, "synthetic"), "near");
        }
    const char *key;
    json_t *near;
    json_object_foreach(most, key, near) {
        users++;
        with += json_number_value(near) > 0;
        items += json_number_value(near);
    }
    json_decref(most);
    put(b, b->out, "guards",
        json_pack("{s:I, s:I, s:I, s:I}", "users", (json_int_t)users, "users_with", (json_int_t)with, "items",
                  (json_int_t)items, "rows", (json_int_t)rows));
}

/* ---- what is not there ---- */

static void missing_tasks(struct builder *b, json_t *list) {
    for (int i = 0; i < SIX; i++) {
        bool there = false;
        char text[80];
        for (size_t t = 0; t < b->tasks.n; t++) {
            const struct metric_task *m = metric_task(str_of(b->tasks.v[t]));
            there |= m && strcmp(m->name, six[i]) == 0;
        }
        snprintf(text, sizeof text, "%s: no result", six[i]);
        if (!there)
            append(b, list, json_string(text));
    }
}

/* How many users of a task have any result at a point. */
static size_t users_at(const struct builder *b, const char *task, const char *point) {
    size_t most = 0;
    for (size_t i = 0; i < b->s->n; i++) {
        const struct group *g = &b->s->group[i];
        size_t n = 0;
        if (strcmp(g->result->task, task) != 0 || strcmp(g->result->point, point) != 0)
            continue;
        for (size_t k = 0; k < g->n; k++)
            n += k == 0 || g->result[k].user != g->result[k - 1].user;
        most = n > most ? n : most;
    }
    return most;
}

static void missing_users(struct builder *b, json_t *list) {
    for (size_t i = 0; i < b->s->n; i++) {
        const struct group *g = &b->s->group[i];
        const struct result *c = g->result;
        size_t n = 0, most = users_at(b, c->task, c->point);
        char text[200], arm[60];
        for (size_t k = 0; k < g->n; k++)
            n += k == 0 || g->result[k].user != g->result[k - 1].user;
        snprintf(arm, sizeof arm, c->bm25 ? "%.40s@%d" : "%.40s", c->arm, c->bm25);
        snprintf(text, sizeof text, "%.40s: %s at %.20s has %zu of %zu users", c->task, arm, c->point, n,
                 most);
        if (n < most)
            append(b, list, json_string(text));
    }
}

static void missing_arms(struct builder *b, json_t *list) {
    static const char *const needed[] = {"base",      "task",     "real",      "real-matched",
                                         "real-best", "generic",  "synthetic", "real+unfiltered",
                                         "real+syn",  "shuffled", "gate",      "teacher"};
    struct bytes text;
    bytes_init(&text, 4096);
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        bool there = false;
        for (size_t k = 0; k < b->n_arms; k++)
            there |= strcmp(b->arm[k].arm, needed[i]) == 0;
        if (!there)
            bytes_printf(&text, "%s%s", text.len ? ", " : "arms without any result: ", needed[i]);
    }
    if (text.len)
        append(b, list, json_string(text.data));
    bytes_free(&text);
}

void report_missing(struct builder *b) {
    json_t *list = json_array();
    put(b, b->out, "missing", list);
    missing_tasks(b, list);
    missing_arms(b, list);
    missing_users(b, list);
}
