/* cmd_run.c: users x points x seeds x arms, each a cell that is computed once and written down. Stopped
 * anywhere, the same command goes on. */
#include "arms.h"
#include "ledger.h"
#include "metric.h"

#include <stdio.h>
#include <string.h>

enum { ARMS_MAX = 48, POINTS_MAX = 12 };

struct plan {
    struct arm_spec arm[ARMS_MAX];
    size_t n_arms;
    char point[POINTS_MAX][8];
    int items[POINTS_MAX];
    size_t n_points;
    size_t shard, shards; /* user u belongs to shard u % shards + 1 */
};

struct run {
    struct lab lab;
    struct plan plan;
    struct ledger ledger;
    double until;         /* clock_now at which no further cell starts; 0: never */
    bool timed[ARMS_MAX]; /* the time to this arm's first token was measured: once a run is enough */
    size_t new_cells, known_cells;
};

/* ---- what was asked for ---- */

static plm_status parse_points(struct plan *p, const char *text, plm_error *err) {
    struct str rest = str_of(text), one;
    while (str_cut(&rest, ',', &one)) {
        int64_t n = ALL_ITEMS;
        if (p->n_points == POINTS_MAX ||
            (!str_eq(one, "all") && (!parse_i64(one, &n) || n < 0 || n > 100000)))
            return fail(err, PLM_EINVAL, "--points are numbers of items or \"all\", such as 0,4,8,16,all");
        snprintf(p->point[p->n_points], sizeof p->point[0], "%.*s", (int)(one.n < 7 ? one.n : 7), one.p);
        p->items[p->n_points++] = (int)n;
    }
    return PLM_OK;
}

static plm_status parse_arms(struct plan *p, const char *text, plm_error *err) {
    struct str rest = str_of(text), one;
    while (str_cut(&rest, ',', &one)) {
        if (p->n_arms == ARMS_MAX)
            return fail(err, PLM_ELIMIT, "at most %d arms at once", ARMS_MAX);
        plm_status st = arm_parse(&p->arm[p->n_arms++], one, err);
        if (st)
            return st;
    }
    return PLM_OK;
}

static plm_status parse_shard(struct plan *p, const char *text, plm_error *err) {
    struct str rest = str_of(text), head;
    uint64_t i = 1, n = 1;
    if (text && (!str_cut(&rest, '/', &head) || !parse_u64(head, &i) || !parse_u64(rest, &n) || !i || i > n))
        return fail(err, PLM_EINVAL, "--shard is I/N, such as 2/8");
    p->shard = (size_t)i;
    p->shards = (size_t)n;
    return PLM_OK;
}

static plm_status plan_read(struct plan *p, const struct args *a, plm_error *err) {
    plm_status st = parse_points(p, a->points ? a->points : "all", err);
    if (st == PLM_OK)
        st = parse_arms(p, a->arms ? a->arms : "base,base@4,task,real-matched,real-best,shuffled", err);
    return st ? st : parse_shard(p, a->shard, err);
}

static bool ours(const struct run *r, size_t user) {
    size_t users = (size_t)r->lab.a->users;
    return user % r->plan.shards == r->plan.shard - 1 && (!users || user < users);
}

/* Does this arm make sense here? Arms that learn need something to learn from, floors of labels need labels.
 */
static bool applies(const struct lab *l, const struct arm_spec *arm, int items) {
    return (l->kind->labels ? arm->kind->labels : arm->kind->text) && (!arm->kind->learns || items != 0);
}

/* ---- a line ---- */

/* Which teacher, without the folder that it lies in. */
static const char *teacher_label(const struct args *a) {
    const char *slash = a->teacher && !strstr(a->teacher, "://") ? strrchr(a->teacher, '/') : NULL;
    return slash ? slash + 1 : a->teacher ? a->teacher : "";
}

static json_t *line_start(const struct run *r, const struct arm_spec *arm, size_t user, const char *point,
                          uint64_t seed) {
    const struct lab *l = &r->lab;
    bool teaches = arm->kind->synthetic || strcmp(arm->kind->name, "teacher") == 0;
    return json_pack("{s:i, s:s, s:s, s:I, s:s, s:I, s:s, s:I, s:s, s:s, s:s, s:b}", "v", 1, "task",
                     l->task->name, "split", l->a->split ? l->a->split : "dev", "user", (json_int_t)user,
                     "arm", arm->name, "bm25", (json_int_t)arm->k, "point", point, "seed", (json_int_t)seed,
                     "config", l->recipe.hash, "teacher", teaches ? teacher_label(l->a) : "", "student",
                     plm_model_describe(l->model)->name, "guarded", l->guard);
}

static plm_status put_answers(json_t *line, const struct cell *c, plm_error *err) {
    json_t *pred = json_array(), *gold = json_array(), *one = json_array(), *longest = json_array();
    plm_status st = PLM_OK;
    for (size_t i = 0; st == PLM_OK && i < c->view->n_queries; i++) {
        const struct reply *r = &c->replies[i];
        struct metric_rouge rouge;
        if (c->lab->kind->labels) {
            json_array_append_new(pred, json_integer(r->pred));
            json_array_append_new(gold, json_integer(r->gold));
            continue;
        }
        st = metric_rouge(&rouge, str_of(r->text), str_of(c->view->queries[i].gold), err);
        json_array_append_new(one, json_real(rouge.rouge1));
        json_array_append_new(longest, json_real(rouge.rougel));
    }
    json_object_set_new(line, "metric",
                        c->lab->kind->labels ? json_pack("{s:O, s:O}", "pred", pred, "gold", gold)
                                             : json_pack("{s:O, s:O}", "rouge1", one, "rougeL", longest));
    json_decref(pred);
    json_decref(gold);
    json_decref(one);
    json_decref(longest);
    return st;
}

static json_t *dropped_json(const struct written *w) {
    json_t *doc = json_object();
    for (int i = 0; i < PLM_RULES; i++)
        if (w->filter.dropped[i])
            json_object_set_new(doc, plm_rule_name(i), json_integer((json_int_t)w->filter.dropped[i]));
    return doc;
}

static plm_status line_finish(json_t *line, const struct cell *c, plm_error *err) {
    size_t n = c->view->n_queries;
    json_t *nll = json_array(), *bytes = json_array();
    double tokens = 0;
    for (size_t i = 0; c->nll && i < n; i++) {
        json_array_append_new(nll, json_real(c->nll[i]));
        json_array_append_new(bytes,
                              json_real(c->replies && c->replies[i].bytes > 0 ? c->replies[i].bytes : 1));
    }
    for (size_t i = 0; c->replies && i < n; i++)
        tokens += (double)c->replies[i].prompt_tokens;
    json_object_set_new(line, "queries", json_integer((json_int_t)n));
    json_object_set_new(line, "history", json_integer((json_int_t)c->view->n));
    if (c->nll) {
        json_object_set(line, "nll", nll);
        json_object_set(line, "bytes", bytes);
    }
    json_decref(nll);
    json_decref(bytes);
    plm_status st = c->answers ? put_answers(line, c, err) : PLM_OK;
    json_object_set_new(line, "cost",
                        json_pack("{s:f, s:i, s:I, s:I, s:f, s:f}", "train_s", c->cost.seconds, "steps",
                                  c->cost.steps, "train_tokens", (json_int_t)c->cost.tokens, "adapter_bytes",
                                  (json_int_t)c->cost.bytes, "prompt_tokens", n ? tokens / (double)n : 0,
                                  "answer_ms", n ? 1e3 * c->pace.seconds / (double)n : 0));
    if (c->pace.first_token > 0)
        json_object_set_new(json_object_get(line, "cost"), "first_token_ms",
                            json_real(1e3 * c->pace.first_token));
    if (c->used) {
        const struct written *w = c->used;
        json_object_set_new(line, "synthetic",
                            json_pack("{s:I, s:I, s:I, s:I, s:o}", "asked", (json_int_t)w->asked, "seen",
                                      (json_int_t)w->filter.seen, "kept", (json_int_t)w->filter.kept, "near",
                                      (json_int_t)w->near, "dropped", dropped_json(w)));
        json_t *cost = json_object_get(line, "cost");
        json_object_set_new(cost, "teacher_in", json_integer(w->tokens_in));
        json_object_set_new(cost, "teacher_out", json_integer(w->tokens_out));
        json_object_set_new(cost, "teacher_s", json_real(w->seconds));
    }
    json_object_set_new(line, "guard", json_pack("{s:I}", "near", (json_int_t)c->view->near));
    if (c->extra)
        json_object_update(line, c->extra);
    return st;
}

/* ---- the loops ---- */

static void keep_name(char out[70], const struct arm_spec *arm) {
    if (arm->k)
        snprintf(out, 70, "%.40s@%zu", arm->name, arm->k);
    else
        snprintf(out, 70, "%s", arm->name);
}

static plm_status run_cell(struct run *r, struct cell *c, json_t *others, plm_error *err) {
    char key[400], name[70];
    json_t *line = line_start(r, c->arm, c->view->index, c->point, c->seed);
    if (!line)
        return fail(err, PLM_ENOMEM, "out of memory");
    ledger_key(key, line);
    keep_name(name, c->arm);
    const json_t *known = ledger_find(&r->ledger, key);
    plm_status st = PLM_OK;
    if (known) {
        r->known_cells++;
        json_object_set(others, name, (json_t *)(uintptr_t)known);
    } else {
        r->lab.doing = c->arm->name;
        progress_at(&r->lab.bar, r->lab.done, r->lab.total, name);
        st = c->arm->kind->run(c, err);
        if (st == PLM_OK)
            st = line_finish(line, c, err);
        if (st == PLM_OK)
            st = ledger_add(&r->ledger, line, err);
        if (st == PLM_OK)
            json_object_set(others, name, line);
        r->new_cells += st == PLM_OK;
        cell_free(c);
    }
    r->lab.done++;
    json_decref(line);
    return st;
}

/* All arms of one user, point and seed. */
static plm_status run_view(struct run *r, size_t user, size_t point, uint64_t seed, plm_error *err) {
    struct view v;
    struct written w = {.asked = 0};
    struct memory memory = {.n = 0};
    json_t *others = json_object();
    plm_status st = view_open(&v, &r->lab.dev, user, r->lab.split, r->plan.items[point],
                              (size_t)r->lab.a->queries, r->lab.guard, err);
    if (st) {
        json_decref(others);
        return st;
    }
    for (size_t i = 0; st == PLM_OK && i < r->plan.n_arms; i++) {
        if (!applies(&r->lab, &r->plan.arm[i], r->plan.items[point]) || !v.n_queries)
            continue;
        if (r->until > 0 && clock_now() > r->until) {
            st = PLM_ESTOPPED;
            break;
        }
        struct cell c = {.lab = &r->lab,
                         .arm = &r->plan.arm[i],
                         .view = &v,
                         .point = r->plan.point[point],
                         .seed = seed,
                         .written = &w,
                         .memory = &memory,
                         .time_first = !r->timed[i],
                         .others = others};
        st = run_cell(r, &c, others, err);
        r->timed[i] |= c.pace.first_token > 0;
    }
    memory_free(&memory);
    written_close(&w);
    view_close(&v);
    json_decref(others);
    return st;
}

static double count_cells(const struct run *r) {
    double n = 0;
    for (size_t p = 0; p < r->plan.n_points; p++)
        for (size_t i = 0; i < r->plan.n_arms; i++)
            n += applies(&r->lab, &r->plan.arm[i], r->plan.items[p]);
    double users = 0;
    for (size_t u = 0; u < r->lab.dev.n; u++)
        users += ours(r, u);
    return n * users * (r->lab.a->seeds ? r->lab.a->seeds : 1);
}

/* Users outermost: a run that is cut short has whole users, not whole arms. */
static plm_status run_all(struct run *r, plm_error *err) {
    plm_status st = PLM_OK;
    uint64_t seeds = r->lab.a->seeds > 0 ? (uint64_t)r->lab.a->seeds : 1;
    r->lab.total = count_cells(r);
    for (uint64_t s = 0; st == PLM_OK && s < seeds; s++)
        for (size_t u = 0; st == PLM_OK && u < r->lab.dev.n; u++)
            for (size_t p = 0; st == PLM_OK && ours(r, u) && p < r->plan.n_points; p++)
                st = run_view(r, u, p, r->lab.a->seed + s, err);
    return st;
}

int cmd_run(struct args *a) {
    plm_error err = {0};
    struct run *r = mem_zero(1, sizeof *r);
    char path[3200];
    if (!a->task || !a->data || !a->model) {
        mem_free(r);
        return eval_misuse("run", "--task, --data and --model are needed");
    }
    if (!r) {
        fail(&err, PLM_ENOMEM, "out of memory");
        return eval_fail(&err);
    }
    r->ledger.fd = -1;
    double from = clock_now();
    r->until = a->hours > 0 ? from + 3600 * a->hours : 0;
    plm_status st = plan_read(&r->plan, a, &err);
    if (st == PLM_OK)
        st = lab_open(&r->lab, a, &err);
    if (st == PLM_OK) {
        snprintf(path, sizeof path, "%s/results.jsonl", r->lab.out);
        st = ledger_open(&r->ledger, path, &err);
    }
    if (st == PLM_OK)
        st = run_all(r, &err);
    lab_close(&r->lab);
    ledger_close(&r->ledger);
    bool stopped = st == PLM_ESTOPPED;
    if (st == PLM_OK || stopped) {
        st = PLM_OK;
        if (a->json)
            printf("{\"new\":%zu,\"known\":%zu,\"stopped\":%s,\"seconds\":%.1f}\n", r->new_cells,
                   r->known_cells, stopped ? "true" : "false", clock_now() - from);
        else
            printf("%s: %zu cells new, %zu known, %.0f s%s\n", path, r->new_cells, r->known_cells,
                   clock_now() - from, stopped ? "; time is up, the same command goes on" : "");
    }
    mem_free(r);
    return st ? eval_fail(&err) : EXIT_DONE;
}
