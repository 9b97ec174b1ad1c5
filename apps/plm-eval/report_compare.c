/* report_compare.c: which users have both arms, and the difference for each. */
#include "report.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

const struct group *side_group(const struct section *s, const char *task, const struct side *side) {
    static const char *const impersonal[] = {"base", "task", "copy", "teacher"};
    const struct group *g = results_group(s, task, side->arm, side->bm25, side->point);
    bool any = false;
    for (size_t i = 0; i < sizeof impersonal / sizeof *impersonal; i++)
        any |= side->bm25 == 0 && strcmp(side->arm, impersonal[i]) == 0;
    for (size_t i = 0; any && !g && i < s->n; i++) {
        const struct result *c = s->group[i].result;
        if (c->bm25 == 0 && strcmp(c->arm, side->arm) == 0 && strcmp(c->task, task) == 0)
            g = &s->group[i];
    }
    return g;
}

static plm_status room_for(struct pairs *p, size_t more, plm_error *err) {
    struct unit *unit = mem_grow(p->unit, p->n + more, sizeof *unit);
    if (unit)
        p->unit = unit;
    int *user = mem_grow(p->user, p->n + more, sizeof *user);
    if (user)
        p->user = user;
    return unit && user ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory for %zu users", p->n + more);
}

static void pair(struct pairs *p, const struct user_mean *a, const struct user_mean *b, size_t task) {
    if (!(isfinite(a->nll) && isfinite(b->nll)) || a->queries == 0 || a->queries != b->queries)
        return;
    if (b->nll <= 0 && a->nll != b->nll) {
        p->unscaled++;
        return;
    }
    double d = a->nll == b->nll ? 0 : (a->nll - b->nll) / b->nll;
    p->wins += d < 0;
    p->ties += d == 0;
    p->losses += d > 0;
    p->unit[p->n] = (struct unit){d, (int)task};
    p->user[p->n++] = a->user;
}

plm_status pairs_add(struct pairs *p, const struct section *s, const struct names *tasks, size_t task,
                     const struct side *first, const struct side *second, plm_error *err) {
    const struct group *a = side_group(s, tasks->v[task], first), *b = side_group(s, tasks->v[task], second);
    if (!a || !b)
        return PLM_OK;
    struct user_mean *x = mem_alloc(a->n + b->n, sizeof *x), *y = x ? x + a->n : NULL;
    plm_status st = x ? room_for(p, a->n, err) : fail(err, PLM_ENOMEM, "out of memory for %zu users", a->n);
    if (st == PLM_OK) {
        size_t n = results_users(a, x), m = results_users(b, y), j = 0;
        for (size_t i = 0; i < n; i++) {
            while (j < m && y[j].user < x[i].user)
                j++;
            if (j < m && y[j].user == x[i].user)
                pair(p, &x[i], &y[j], task);
        }
    }
    mem_free(x);
    return st;
}

void pairs_free(struct pairs *p) {
    mem_free(p->unit);
    mem_free(p->user);
    *p = (struct pairs){0};
}

plm_status pairs_json(json_t **out, const struct pairs *p, plm_error *err) {
    struct sign_test t;
    bool seen[STAT_GROUPS] = {false};
    size_t tasks = 0;
    *out = NULL;
    if (!p->n) {
        *out = json_null();
        return PLM_OK;
    }
    plm_status st = sign_test(&t, p->unit, p->n, 1, err);
    if (st)
        return st;
    for (size_t i = 0; i < p->n; i++) {
        tasks += !seen[p->unit[i].group];
        seen[p->unit[i].group] = true;
    }
    *out = json_pack("{s:I, s:I, s:f, s:o, s:o, s:f, s:f, s:b, s:I, s:I, s:I, s:I}", "users",
                     (json_int_t)p->n, "tasks", (json_int_t)tasks, "effect", t.effect, "low", number(t.low),
                     "high", number(t.high), "p", t.p, "p_less", t.p_less, "exact", t.exact, "wins",
                     (json_int_t)p->wins, "ties", (json_int_t)p->ties, "losses", (json_int_t)p->losses,
                     "unscaled", (json_int_t)p->unscaled);
    return *out ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory for a comparison");
}
