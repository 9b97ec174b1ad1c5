/* view.c: histories cut to a point in time, and the guard against queries that are in them. */
#include "view.h"

#include "base/text.h"

#include <string.h>

enum { TRIPLE = 3, RUN = 8, TEXT_MAX = 1 << 20 };
static const double alike = 0.6;

bool split_of(const char *name, enum split *out) {
    static const char *const names[] = {"dev", "pseudo", "rolling"};
    for (int i = 0; i < 3; i++)
        if (!name || strcmp(name, names[i]) == 0) {
            *out = (enum split)i;
            return true;
        }
    return false;
}

/* ---- near duplicates ---- */

/* Are the n words at a and b the same? */
static bool same_words(const struct words *x, size_t a, const struct words *y, size_t b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (x->w[a + i].n != y->w[b + i].n || memcmp(x->w[a + i].p, y->w[b + i].p, x->w[a + i].n) != 0)
            return false;
    return true;
}

/* Is the triple at a the first of its kind in x? */
static bool first_triple(const struct words *x, size_t a) {
    for (size_t i = 0; i < a; i++)
        if (same_words(x, i, x, a, TRIPLE))
            return false;
    return true;
}

static bool has_run(const struct words *x, size_t a, const struct words *y, size_t n) {
    for (size_t b = 0; b + n <= y->n; b++)
        if (same_words(x, a, y, b, n))
            return true;
    return false;
}

static bool near_words(const struct words *x, const struct words *y) {
    if (x->n && x->n == y->n && same_words(x, 0, y, 0, x->n))
        return true;
    for (size_t a = 0; a + RUN <= x->n; a++)
        if (has_run(x, a, y, RUN))
            return true;
    size_t mine = 0, theirs = 0, both = 0;
    for (size_t a = 0; a + TRIPLE <= x->n; a++)
        if (first_triple(x, a)) {
            mine++;
            both += has_run(x, a, y, TRIPLE);
        }
    for (size_t b = 0; b + TRIPLE <= y->n; b++)
        theirs += first_triple(y, b);
    size_t either = mine + theirs - both;
    return either && (double)both >= alike * (double)either;
}

/* The words of a prompt's own text: without the instruction, which all of them share. Of a question about a
 * paper: of the paper's title (part 0), or of the references (part 1). */
static plm_status own_words(const struct task *t, const char *prompt, int part, struct words *out,
                            plm_error *err) {
    const char *open = strchr(prompt, '"'), *close = open ? strchr(open + 1, '"') : NULL;
    struct bytes b;
    bytes_init(&b, TEXT_MAX);
    plm_status st = PLM_OK;
    if (part == 0 && !t->mark && close)
        bytes_put(&b, open + 1, (size_t)(close - open - 1));
    else
        st = task_query_text(t, prompt, &b, err);
    if (st == PLM_OK)
        st = bytes_status(&b, "a question", err);
    if (st == PLM_OK)
        st = words_split(out, b.data ? b.data : "", b.len, WORDS_UNICODE, err);
    bytes_free(&b);
    return st;
}

static plm_status leaks(const struct view *v, const struct task *t, const char *prompt, bool *out,
                        plm_error *err) {
    plm_status st = PLM_OK;
    *out = false;
    for (int part = 0; st == PLM_OK && part < (t->mark ? 1 : 2); part++) {
        struct words mine, theirs;
        st = own_words(t, prompt, part, &mine, err);
        if (st)
            return st;
        for (size_t i = 0; st == PLM_OK && i < v->n_queries && !*out; i++) {
            st = own_words(t, v->queries[i].prompt, part, &theirs, err);
            if (st == PLM_OK) {
                *out = near_words(&mine, &theirs);
                words_free(&theirs);
            }
        }
        words_free(&mine);
    }
    return st;
}

plm_status view_leaks(const struct view *v, const struct dataset *d, const char *input, bool *out,
                      plm_error *err) {
    char *prompt = NULL;
    plm_status st = plm_kind_prompt(d->kind, input, &prompt, err);
    if (st == PLM_OK)
        st = leaks(v, d->task, prompt, out, err);
    plm_free(prompt);
    return st;
}

/* ---- views ---- */

/* Items [from, to) stand in as queries. */
static plm_status items_as_queries(struct view *v, size_t from, size_t to, plm_error *err) {
    v->own = mem_zero(to > from ? to - from : 1, sizeof *v->own);
    if (!v->own)
        return fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = from; i < to; i++)
        v->own[i - from] = (struct query){NULL, v->user->items[i].prompt, v->user->items[i].output};
    v->queries = v->own;
    v->n_queries = to > from ? to - from : 0;
    return PLM_OK;
}

plm_status view_open(struct view *v, const struct dataset *d, size_t user, enum split split, int point,
                     size_t most, bool guard, plm_error *err) {
    const struct user *u = &d->users[user];
    size_t before = u->n;
    plm_status st = PLM_OK;
    *v = (struct view){.user = u, .index = user, .queries = u->queries, .n_queries = u->n_queries};
    if (split == SPLIT_PSEUDO) {
        before = u->n > PSEUDO ? u->n - PSEUDO : 0;
        st = items_as_queries(v, before, u->n, err);
    } else if (split == SPLIT_ROLLING) {
        before = u->n < PSEUDO ? u->n : PSEUDO;
        st = items_as_queries(v, before, u->n, err);
    }
    if (most && v->n_queries > most)
        v->n_queries = most;
    size_t n = point == ALL_ITEMS || (size_t)point > before ? before : (size_t)point;
    v->items = mem_zero(n ? n : 1, sizeof *v->items);
    v->from = before - n;
    if (st == PLM_OK && !v->items)
        st = fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = before - n; st == PLM_OK && i < before; i++) {
        bool near = false;
        if (guard)
            st = leaks(v, d->task, u->items[i].prompt, &near, err);
        if (near)
            v->near++;
        else
            v->items[v->n++] = &u->items[i];
    }
    if (st)
        view_close(v);
    return st;
}

void view_close(struct view *v) {
    mem_free(v->items);
    mem_free(v->own);
    *v = (struct view){0};
}
