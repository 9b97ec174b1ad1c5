/* report_blocks.c: the report's numbers as headings, paragraphs, tables and places for plots, in words that
 * say what was measured and how surely. */
#include "report.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "base/bytes.h"
#include "base/str.h"

struct blocks {
    json_t *list;
    json_t *table; /* the open one */
    json_t *row;
    bool more, failed;
};

static const char *text(const json_t *o, const char *key) {
    const char *t = json_string_value(json_object_get(o, key));
    return t ? t : "";
}

static long long whole(const json_t *o, const char *key) {
    return (long long)json_number_value(json_object_get(o, key));
}

static double real(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* ---- making blocks ---- */

static json_t *formatted(const char *fmt, va_list ap) {
    char line[1200];
    vsnprintf(line, sizeof line, fmt, ap);
    return json_string(line);
}

static void add(struct blocks *b, json_t *block) {
    if (b->more && block)
        json_object_set_new(block, "more", json_true());
    if (json_array_append_new(b->list, block))
        b->failed = true;
}

__attribute__((format(printf, 3, 4))) static void say(struct blocks *b, const char *kind, const char *fmt,
                                                      ...) {
    va_list ap;
    va_start(ap, fmt);
    add(b, json_pack("{s:o}", kind, formatted(fmt, ap)));
    va_end(ap);
}

/* head: columns with '|' between them; the first is text, the others stand to the right. */
static void table(struct blocks *b, const char *head) {
    struct str rest = str_of(head), one;
    json_t *names = json_array();
    while (str_cut(&rest, '|', &one))
        json_array_append_new(names, json_stringn(one.p, one.n));
    b->table = json_pack("{s:o, s:[]}", "head", names, "rows");
    add(b, b->table);
}

static void column(struct blocks *b, const char *name) {
    json_array_append_new(json_object_get(b->table, "head"), json_string(name));
}

static void row(struct blocks *b) {
    b->row = json_array();
    json_array_append_new(json_object_get(b->table, "rows"), b->row);
}

__attribute__((format(printf, 2, 3))) static void put_text(struct blocks *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    if (json_array_append_new(b->row, formatted(fmt, ap)))
        b->failed = true;
    va_end(ap);
}

static void put_number(struct blocks *b, int digits, double x) {
    if (isfinite(x))
        put_text(b, "%.*f", digits, x);
    else
        put_text(b, "-");
}

static void put_p(struct blocks *b, double p) {
    if (isfinite(p))
        put_text(b, p < 0.0001 ? "%.0e" : "%.4f", p);
    else
        put_text(b, "-");
}

/* ---- differences ---- */

/* "-3.1 % [-4.8, -1.2]"; an end is open where there are too few users to bound it. */
static void put_change(struct blocks *b, const json_t *d) {
    char low[24] = "open", high[24] = "open";
    if (!json_is_object(d)) {
        put_text(b, "-");
        return;
    }
    if (isfinite(real(d, "low")))
        snprintf(low, sizeof low, "%+.1f", 100 * real(d, "low"));
    if (isfinite(real(d, "high")))
        snprintf(high, sizeof high, "%+.1f", 100 * real(d, "high"));
    put_text(b, "%+.1f %% [%s, %s]", 100 * real(d, "effect"), low, high);
}

static void put_counts(struct blocks *b, const json_t *d) {
    if (json_is_object(d))
        put_text(b, "%lld/%lld/%lld", whole(d, "wins"), whole(d, "ties"), whole(d, "losses"));
    else
        put_text(b, "-");
}

static void put_arm(struct blocks *b, const json_t *arm) {
    if (whole(arm, "bm25"))
        put_text(b, "%s@%lld", text(arm, "arm"), whole(arm, "bm25"));
    else
        put_text(b, "%s", text(arm, "arm"));
}

/* ---- hypotheses ---- */

static void claim_row(struct blocks *b, const char *name, const char *rival, const json_t *r) {
    row(b);
    put_text(b, "%s", name);
    put_text(b, "%s", *rival ? rival : "-");
    put_number(b, 0, real(r, "users"));
    put_change(b, r);
    put_counts(b, r);
    put_p(b, real(r, "p_less"));
    put_p(b, real(r, "p"));
    put_p(b, real(r, "holm"));
    if (isfinite(real(r, "detectable")))
        put_text(b, "%.1f %%", 100 * real(r, "detectable"));
    else
        put_text(b, "-");
}

static void missing_line(struct blocks *b, const json_t *missing) {
    struct bytes s;
    size_t i;
    json_t *one;
    bytes_init(&s, 1000);
    json_array_foreach(missing, i, one) bytes_printf(&s, "%s%s", i ? "; " : "", json_string_value(one));
    if (s.len)
        say(b, "p", "Missing for it: %s.", s.data);
    bytes_free(&s);
}

static const char *verdict(const json_t *r) {
    if (!json_is_object(r))
        return "there are no results for it.";
    if (json_is_true(json_object_get(r, "found")))
        return "found.";
    return real(r, "effect") > 0 && real(r, "holm") < 0.05 ? "the opposite was found." : "not found.";
}

static void claim_blocks(struct blocks *b, const json_t *c) {
    const json_t *r = json_object_get(c, "result");
    const char *other = text(c, "other_rival");
    char name[40], alt[200];
    size_t i;
    json_t *t;
    say(b, "h", "%s: %s", text(c, "name"), text(c, "says"));
    say(b, "p", "%s below %s%s%s at point %s: %s", text(c, "first"),
        *other ? "the better of " : text(c, "rival"), *other ? text(c, "rival") : "",
        *other ? " and real-best, task by task," : "", text(c, "point"), verdict(r));
    missing_line(b, json_object_get(c, "missing"));
    if (!json_is_object(r))
        return;
    if (whole(r, "unscaled"))
        say(b, "p",
            "%lld users are left out: what they are compared with has no loss at all, and nothing is "
            "relative to that.",
            whole(r, "unscaled"));
    table(b, "|against|users|difference and 95 %|W/T/L|p below|p|Holm|would find");
    claim_row(b, "all tasks", "", r);
    json_array_foreach(json_object_get(c, "tasks"), i, t)
        claim_row(b, text(t, "task"), text(t, "rival"), json_object_get(t, "result"));
    snprintf(name, sizeof name, "users-%s", text(c, "name"));
    snprintf(alt, sizeof alt, "%s: each user's difference, by task", text(c, "name"));
    add(b, json_pack("{s:s, s:s, s:s}", "plot", "users", "of", text(c, "name"), "alt", alt));
}

/* ---- arms ---- */

static const json_t *arm_at(const json_t *list, const json_t *arm, const char *point, const char *task) {
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) if (strcmp(text(one, "arm"), text(arm, "arm")) == 0 &&
                                         whole(one, "bm25") == whole(arm, "bm25") &&
                                         strcmp(text(one, "point"), point) == 0 &&
                                         (!task || strcmp(text(one, "task"), task) == 0)) return one;
    return NULL;
}

static void nll_table(struct blocks *b, const json_t *s, const char *point) {
    const json_t *overall = json_object_get(s, "overall"), *arms = json_object_get(s, "arms");
    size_t i, k;
    json_t *o, *task;
    table(b, "NLL");
    json_array_foreach(json_object_get(s, "tasks"), k, task) column(b, json_string_value(task));
    column(b, "all tasks");
    column(b, "from task");
    json_array_foreach(overall, i, o) {
        if (strcmp(text(o, "point"), point) != 0)
            continue;
        row(b);
        put_arm(b, o);
        json_array_foreach(json_object_get(s, "tasks"), k, task)
            put_number(b, 4, real(arm_at(arms, o, point, json_string_value(task)), "nll"));
        put_number(b, 4, whole(o, "tasks") == (long long)k ? real(o, "nll") : NAN);
        put_change(b, json_object_get(o, "from_task"));
    }
}

static void task_table(struct blocks *b, const json_t *s, const char *point, const char *task) {
    const json_t *arms = json_object_get(s, "arms"), *against;
    size_t i;
    json_t *a, *v;
    const char *name;
    bool open = false;
    json_array_foreach(arms, i, a) {
        if (strcmp(text(a, "point"), point) != 0 || strcmp(text(a, "task"), task) != 0)
            continue;
        if (!open) {
            char head[120];
            snprintf(head, sizeof head, "%.40s|users|NLL|against|difference and 95 %%|W/T/L", task);
            table(b, head);
            json_object_foreach(json_object_get(a, "metric"), name, v) column(b, name);
            open = true;
        }
        row(b);
        put_arm(b, a);
        put_number(b, 0, real(a, "users"));
        put_number(b, 4, real(a, "nll"));
        against = json_object_get(a, "against");
        if (json_is_object(against))
            put_arm(b, against);
        else
            put_text(b, "-");
        put_change(b, json_object_get(a, "difference"));
        put_counts(b, json_object_get(a, "difference"));
        json_object_foreach(json_object_get(a, "metric"), name, v) put_number(b, 3, json_number_value(v));
    }
}

/* What an arm costs, the mean over tasks. */
static void cost_table(struct blocks *b, const json_t *s, const char *point) {
    static const struct {
        const char *key;
        double unit;
        int digits;
    } columns[] = {{"train_s", 1, 1},         {"steps", 1, 0},         {"train_tokens", 1, 0},
                   {"adapter_bytes", 1e6, 2}, {"teacher_in", 1, 0},    {"teacher_out", 1, 0},
                   {"teacher_s", 1, 1},       {"prompt_tokens", 1, 0}, {"first_token_ms", 1, 0},
                   {"answer_ms", 1, 0}};
    size_t i, k;
    json_t *o, *a;
    table(b,
          "cost a user|train s|steps|tokens|adapter MB|teacher in|out|teacher s|prompt tokens|first token ms|"
          "answer ms");
    json_array_foreach(json_object_get(s, "overall"), i, o) {
        if (strcmp(text(o, "point"), point) != 0)
            continue;
        row(b);
        put_arm(b, o);
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
            double sum = 0;
            size_t n = 0;
            json_array_foreach(json_object_get(s, "arms"), k, a) {
                double x = real(json_object_get(a, "cost"), columns[c].key);
                if (strcmp(text(a, "arm"), text(o, "arm")) != 0 || whole(a, "bm25") != whole(o, "bm25") ||
                    strcmp(text(a, "point"), point) != 0 || !isfinite(x))
                    continue;
                sum += x;
                n++;
            }
            put_number(b, columns[c].digits, n ? sum / (double)n / columns[c].unit : NAN);
        }
    }
}

static void point_blocks(struct blocks *b, const json_t *s, const char *point) {
    size_t k;
    json_t *task;
    say(b, "h", "Arms at point %s", point);
    say(b, "p",
        "Mean NLL over users: nats of the label among the labels, or nats a byte of text; lower is better. "
        "\"From task\": the mean of the users' relative differences from the adapter of other users.");
    nll_table(b, s, point);
    add(b, json_pack("{s:s, s:s, s:s}", "plot", "arms", "of", point, "alt",
                     "relative difference of each arm from the adapter of other users, with 95 % intervals"));
    say(b, "p",
        "By task, each against the arm that it builds on; W/T/L: users better, equal, worse. The metrics "
        "beside it are LaMP's, and descriptive.");
    json_array_foreach(json_object_get(s, "tasks"), k, task) task_table(b, s, point, json_string_value(task));
    cost_table(b, s, point);
}

static bool is_main(const json_t *s, const char *point) {
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(s, "main_points"), i,
                       one) if (json_is_string(one) &&
                                strcmp(json_string_value(one), point) == 0) return true;
    return false;
}

/* ---- scarcity ---- */

static void scarcity_blocks(struct blocks *b, const json_t *s) {
    const json_t *overall = json_object_get(s, "overall"), *points = json_object_get(s, "points");
    json_t *known, *o, *point;
    size_t i, k;
    bool any = false;
    json_array_foreach(overall, i, o) any |= json_is_object(json_object_get(o, "from_task"));
    if (json_array_size(points) < 2 || !any)
        return;
    say(b, "h", "How much history");
    say(b, "p",
        "Relative difference from the adapter of other users at each number of known items, over tasks.");
    table(b, "items");
    json_array_foreach(points, k, point) column(b, json_string_value(point));
    known = json_object();
    for (size_t p = json_array_size(points); p-- > 0;) /* with most items there are most arms */
        json_array_foreach(overall, i, o) {
            char name[80];
            snprintf(name, sizeof name, "%.40s@%lld", text(o, "arm"), whole(o, "bm25"));
            if (strcmp(text(o, "point"), json_string_value(json_array_get(points, p))) != 0 ||
                json_object_get(known, name) || !json_is_object(json_object_get(o, "from_task")) ||
                strcmp(name, "task@0") == 0)
                continue;
            json_object_set_new(known, name, json_true());
            row(b);
            put_arm(b, o);
            json_array_foreach(points, k, point) put_change(
                b, json_object_get(arm_at(overall, o, json_string_value(point), NULL), "from_task"));
        }
    json_decref(known);
    add(b, json_pack("{s:s, s:s, s:s}", "plot", "scarcity", "of", "", "alt",
                     "relative difference from the adapter of other users by number of known items"));
}

/* ---- the rest ---- */

static void retrieval_blocks(struct blocks *b, const json_t *s) {
    size_t i;
    json_t *r;
    say(b, "h", "With retrieval: the system and BM25 against the task adapter and BM25");
    if (!json_array_size(json_object_get(s, "retrieval"))) {
        say(b, "p", "There are no results for it.");
        return;
    }
    table(b, "|users|difference and 95 %|W/T/L|p");
    json_array_foreach(json_object_get(s, "retrieval"), i, r) {
        const json_t *d = json_object_get(r, "result");
        row(b);
        put_text(b, "%lld items, point %s", whole(r, "bm25"), text(r, "point"));
        put_number(b, 0, real(d, "users"));
        put_change(b, d);
        put_counts(b, d);
        put_p(b, real(d, "p"));
    }
}

static void harm_blocks(struct blocks *b, const json_t *s) {
    size_t i;
    json_t *r;
    say(b, "h", "Do no harm: the gate against the task adapter");
    if (!json_array_size(json_object_get(s, "harm"))) {
        say(b, "p", "There are no results of the gate.");
        return;
    }
    say(b, "p", "Users more than 2 %% worse off than without a personal adapter, with the same retrieval.");
    table(b, "|users|worse|share|at most (95 %)");
    json_array_foreach(json_object_get(s, "harm"), i, r) {
        row(b);
        put_text(b, "BM25 %lld, point %s", whole(r, "bm25"), text(r, "point"));
        put_number(b, 0, real(r, "users"));
        put_number(b, 0, real(r, "worse"));
        put_text(b, "%.1f %%", 100 * real(r, "share"));
        put_text(b, "%.1f %%", 100 * real(r, "upper"));
    }
}

/* The rules that dropped anything, in the order of the filter. */
static void rules(const json_t *filters, struct names *out) {
    out->n = 0;
    for (int i = 0; i < PLM_RULES; i++) {
        size_t k;
        json_t *f;
        bool used = false;
        json_array_foreach(filters, k, f) used |= real(json_object_get(f, "dropped"), plm_rule_name(i)) > 0;
        if (used && out->n < sizeof out->v / sizeof *out->v)
            out->v[out->n++] = plm_rule_name(i);
    }
}

static void filter_blocks(struct blocks *b, const json_t *s) {
    const json_t *filters = json_object_get(s, "filters");
    struct names used;
    size_t i;
    json_t *f;
    say(b, "h", "What the filters took out of the teacher's rows");
    if (!json_array_size(filters)) {
        say(b, "p", "There are no results of the system.");
        return;
    }
    rules(filters, &used);
    table(b, "|point|asked|seen|kept|near a query");
    for (size_t k = 0; k < used.n; k++)
        column(b, used.v[k]);
    json_array_foreach(filters, i, f) {
        row(b);
        put_text(b, "%s", text(f, "task"));
        put_text(b, "%s", text(f, "point"));
        put_number(b, 0, real(f, "asked"));
        put_number(b, 0, real(f, "seen"));
        put_number(b, 0, real(f, "kept"));
        put_number(b, 0, real(f, "near"));
        for (size_t k = 0; k < used.n; k++)
            put_text(b, "%lld", whole(json_object_get(f, "dropped"), used.v[k]));
    }
    add(b, json_pack("{s:s, s:s, s:s}", "plot", "filters", "of", "", "alt",
                     "rows kept, and dropped by each rule"));
}

static const json_t *claim(const json_t *s, size_t i) {
    return json_object_get(json_array_get(json_object_get(s, "hypotheses"), i), "result");
}

/* Runs with the guards beside runs without them, of all configurations. */
static void guard_blocks(struct blocks *b, const json_t *doc) {
    size_t i;
    json_t *s;
    say(b, "h", "Leak guards");
    say(b, "p",
        "Items of a user's history that are near duplicates of a query, and teacher's rows that are. With "
        "guards they were taken out. P1 and P2 beside it: a finding that goes with the guards was a leak.");
    table(b, "configuration|split|guards|users|with any|items|rows|P1|P2");
    json_array_foreach(json_object_get(doc, "sections"), i, s) {
        const json_t *g = json_object_get(s, "guards");
        row(b);
        put_text(b, "%s", text(s, "config"));
        put_text(b, "%s", text(s, "split"));
        put_text(b, json_is_true(json_object_get(s, "guarded")) ? "on" : "off");
        put_number(b, 0, real(g, "users"));
        put_number(b, 0, real(g, "users_with"));
        put_number(b, 0, real(g, "items"));
        put_number(b, 0, real(g, "rows"));
        put_change(b, claim(s, 0));
        put_change(b, claim(s, 1));
    }
}

static void missing_blocks(struct blocks *b, const json_t *s) {
    const json_t *list = json_object_get(s, "missing");
    size_t i;
    json_t *one;
    bool before = b->more;
    say(b, "h", "What is missing");
    if (!json_array_size(list))
        say(b, "p", "Nothing.");
    json_array_foreach(list, i, one) {
        b->more = before || i >= 12;
        say(b, "p", "%s.", json_string_value(one));
    }
    b->more = before;
    if (json_array_size(list) > 12)
        say(b, "p", "(%zu lines in all: --json has them.)", json_array_size(list));
}

static void section_blocks(struct blocks *b, const json_t *s) {
    const json_t *teachers = json_object_get(s, "teachers");
    const char *teacher = json_string_value(json_array_get(teachers, 0));
    size_t i;
    json_t *c, *point;
    say(b, "title", "%s on %s%s", text(s, "student"), text(s, "split"),
        json_is_true(json_object_get(s, "guarded")) ? "" : ", without leak guards");
    say(b, "p", "Configuration %s, teacher %s, %zu of LaMP's tasks.", text(s, "config"),
        teacher ? teacher : "none", json_array_size(json_object_get(s, "tasks")));
    say(b, "p",
        "Differences are relative: each user's NLL under one arm against the other, the mean over the "
        "users of a task and then over tasks; below zero the first is better. p: the signs of the users "
        "flipped. Intervals: the effects that this test does not refuse. \"Would find\": the effect that "
        "4 of 5 such experiments would find at the level that Holm's first step asks.");
    json_array_foreach(json_object_get(s, "hypotheses"), i, c) claim_blocks(b, c);
    retrieval_blocks(b, s);
    harm_blocks(b, s);
    scarcity_blocks(b, s);
    json_array_foreach(json_object_get(s, "points"), i, point) {
        b->more = !is_main(s, json_string_value(point));
        point_blocks(b, s, json_string_value(point));
    }
    b->more = false;
    filter_blocks(b, s);
    missing_blocks(b, s);
}

plm_status report_blocks(json_t **out, const json_t *doc, plm_error *err) {
    struct blocks b = {.list = json_array()};
    size_t i, torn = 0;
    json_t *one;
    json_array_foreach(json_object_get(doc, "files"), i, one) torn +=
        json_is_true(json_object_get(one, "torn"));
    say(&b, "p",
        "%lld results of %zu file%s (%lld said twice, %zu cut off by a crash and left out). The test queries "
        "were "
        "looked at with %lld frozen configuration%s.",
        whole(doc, "results"), i, i == 1 ? "" : "s", whole(doc, "repeated"), torn,
        whole(doc, "dev_configurations"), whole(doc, "dev_configurations") == 1 ? "" : "s");
    json_array_foreach(json_object_get(doc, "sections"), i, one) {
        size_t first = json_array_size(b.list);
        section_blocks(&b, one);
        for (; first < json_array_size(b.list); first++) /* plots are of their section */
            json_object_set_new(json_array_get(b.list, first), "section", json_integer((json_int_t)i));
    }
    guard_blocks(&b, doc);
    if (b.failed) {
        json_decref(b.list);
        return fail(err, PLM_ENOMEM, "out of memory for the report");
    }
    *out = b.list;
    return PLM_OK;
}
