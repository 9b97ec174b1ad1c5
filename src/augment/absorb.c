/* absorb.c: what comes back: candidate lines in, synthetic examples with their verdicts out. Everything of
 * one call happens in one transaction, and the same candidates are absorbed once. */
#include "augment/inside.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"

enum { LINES_MAX = 10000 };

#define WEIGHT 0.5      /* of a synthetic example beside a real one */
#define WEIGHT_NEW 0.25 /* where the output is the teacher's own */

struct absorbing {
    plm_store *store;
    const plm_augment_policy *p;
    struct wire_request q;
    struct legend map;
    struct reals reals;
    struct filter f;
    size_t cap, old_cap;
    const char *teacher;
    bool no_memory;
};

/* ---- reading ---- */

static struct candidate *new_candidate(struct absorbing *a, plm_error *err) {
    struct filter *f = &a->f;
    if (f->n == LINES_MAX) {
        fail(err, PLM_ELIMIT, "there are over %d candidates", LINES_MAX);
        return NULL;
    }
    if (f->n == a->cap) {
        size_t cap = a->cap ? a->cap * 2 : 64;
        struct candidate *more = mem_grow(f->c, cap, sizeof *more);
        if (!more) {
            fail(err, PLM_ENOMEM, "no memory for candidates");
            return NULL;
        }
        f->c = more;
        a->cap = cap;
    }
    f->c[f->n] = (struct candidate){.verdict = VERDICT_NONE, .trust = 1};
    return &f->c[f->n++];
}

// A rule named by the other side; one that only this side has is no reason.
static int rule_named(const char *name) {
    for (int i = 0; name && i < PLM_RULES; i++) {
        if (i != PLM_RULE_DEVICE && strcmp(plm_rule_name(i), name) == 0) {
            return i;
        }
    }
    return PLM_RULE_PARSE;
}

static plm_status read_line(struct absorbing *a, struct str line, plm_error *err) {
    struct candidate *c = new_candidate(a, err);
    if (!c) {
        return a->f.n == LINES_MAX ? PLM_ELIMIT : PLM_ENOMEM;
    }
    plm_status st = wire_candidate_parse(&c->wire, &c->doc, &c->shown, line.p, line.n, &a->q, err);
    if (st == PLM_ENOMEM) {
        return st;
    }
    if (st || c->wire.bad) {
        c->verdict = st ? PLM_RULE_PARSE : rule_named(c->wire.rule);
        c->why = c->verdict == PLM_RULE_PARSE ? "not what was asked for" : "dropped where it was written";
        c->wire.mode = st ? 0 : c->wire.mode;
        return PLM_OK;
    }
    if (c->wire.source) {
        c->parent = reals_find(&a->reals, a->map.records[c->wire.source - 1]);
        c->gone = !c->parent;
    }
    for (size_t i = 0; i < c->wire.n_shown; i++) {
        c->gone = c->gone || !reals_find(&a->reals, a->map.records[c->wire.shown[i] - 1]);
    }
    return candidate_restore(c, &a->q, &a->map, &a->reals, a->p->unredacted, err);
}

static plm_status read_candidates(struct absorbing *a, const char *text, size_t len, plm_error *err) {
    if (len > WIRE_CANDIDATES_MAX) {
        return fail(err, PLM_ELIMIT, "the candidates are over %d MiB", WIRE_CANDIDATES_MAX >> 20);
    }
    struct str rest = {text, len}, line;
    while (str_cut(&rest, '\n', &line)) {
        if (str_trim(line).n) {
            plm_status st = read_line(a, line, err);
            if (st) {
                return st;
            }
        }
    }
    return PLM_OK;
}

static int take_old(void *ctx, const plm_synthetic *s) {
    struct absorbing *a = ctx;
    if (a->f.n_old == a->old_cap) {
        size_t cap = a->old_cap ? a->old_cap * 2 : 64;
        char **more = mem_grow(a->f.old, cap, sizeof *more);
        if (!more) {
            a->no_memory = true;
            return 1;
        }
        a->f.old = more;
        a->old_cap = cap;
    }
    a->f.old[a->f.n_old] = mem_dupz(s->input);
    a->no_memory = !a->f.old[a->f.n_old];
    a->f.n_old += !a->no_memory;
    return a->no_memory;
}

static plm_status load(struct absorbing *a, const char *request, plm_error *err) {
    plm_status st = wire_request_parse(&a->q, request, strlen(request), err);
    if (!st && strcmp(a->q.kind, a->p->kind->name) != 0) {
        st = fail(err, PLM_EINVAL, "the request is about the kind %s, not %s", a->q.kind, a->p->kind->name);
    }
    st = st ? st : map_load(&a->map, a->store, a->q.id, err);
    if (!st && a->map.n_records != a->q.n_records) {
        st = fail(err, PLM_EFORMAT, "the store's map of this request is damaged; draft it again.");
    }
    st = st ? st : reals_load(&a->reals, a->store, a->p, err);
    if (!st) {
        st = plm_store_find_synthetic(a->store, a->p->user, a->p->kind->name, true, take_old, a, err);
        st = a->no_memory ? fail(err, PLM_ENOMEM, "no memory for candidates") : st;
    }
    a->f.policy = a->p;
    a->f.request = &a->q;
    a->f.reals = &a->reals;
    return st;
}

/* ---- writing ---- */

static int take_id(void *ctx, const plm_reply *r) {
    *(int64_t *)ctx = r->id;
    return 0;
}

static plm_status store_one(const struct absorbing *a, const struct candidate *c, plm_error *err) {
    int64_t *sources = mem_zero(c->wire.n_shown + 2, sizeof *sources), reply = 0, id;
    bool found = false;
    size_t n = 0;
    if (!sources) {
        return fail(err, PLM_ENOMEM, "no memory for a candidate");
    }
    if (c->parent) {
        sources[n++] = c->parent->id;
    }
    for (size_t i = 0; i < c->wire.n_shown; i++) {
        if (c->wire.shown[i] != c->wire.source) {
            sources[n++] = a->map.records[c->wire.shown[i] - 1];
        }
    }
    plm_status st = plm_store_find_reply(a->store, a->p->user, c->wire.call, take_id, &reply, &found, err);
    if (!st) {
        plm_synthetic s = {.reply = reply,
                           .user = a->p->user,
                           .kind = a->p->kind->name,
                           .mode = mode_name(c->wire.mode),
                           .input = c->input,
                           .output = c->output,
                           .verdict = c->verdict == VERDICT_NONE ? "kept" : plm_rule_name(c->verdict),
                           .teacher = a->teacher,
                           .sources = sources,
                           .n_sources = n,
                           .weight = c->trust * (c->wire.mode == PLM_MODE_NEW ? WEIGHT_NEW : WEIGHT),
                           .nll = c->nll,
                           .z = c->z};
        st = plm_store_add_synthetic(a->store, &s, &id, err);
    }
    mem_free(sources);
    return st;
}

static void audit_line(struct bytes *b, size_t number, const struct candidate *c) {
    const char *mode = mode_name(c->wire.mode);
    bytes_printf(b, "{\"n\":%zu,\"mode\":\"%s\",\"verdict\":\"%s\"", number, mode ? mode : "",
                 c->verdict == VERDICT_NONE ? "kept" : plm_rule_name(c->verdict));
    const char *const names[] = {"why", "input", "output", "bad"};
    const char *const values[] = {c->why, c->input, c->output, c->wire.bad};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (values[i]) {
            bytes_printf(b, ",\"%s\":", names[i]);
            bytes_json(b, values[i], strlen(values[i]));
        }
    }
    if (c->parent) {
        bytes_printf(b, ",\"record\":%lld", (long long)c->parent->id);
    }
    bytes_printf(b, ",\"near\":%.3f,\"nll\":%.4f,\"z\":%.3f}\n", c->near, c->nll, c->z);
}

static plm_status write_audit(const struct absorbing *a, const char *path, plm_error *err) {
    struct bytes b;
    bytes_init(&b, (size_t)8 * WIRE_CANDIDATES_MAX);
    for (size_t i = 0; i < a->f.n; i++) {
        audit_line(&b, i + 1, &a->f.c[i]);
    }
    plm_status st = bytes_status(&b, path, err);
    st = st ? st : file_replace(path, b.data, b.len, err);
    bytes_free(&b);
    return st;
}

static void count(const struct absorbing *a, plm_absorb_report *r) {
    *r = (plm_absorb_report){.seen = a->f.n};
    for (size_t i = 0; i < a->f.n; i++) {
        if (a->f.c[i].verdict == VERDICT_NONE) {
            r->kept++;
        } else {
            r->dropped[a->f.c[i].verdict]++;
        }
    }
}

/* ---- once ---- */

// The report of an earlier absorb of the same bytes, as "seen kept d0 d1 ...", under a name made of them.
static void done_name(const struct absorbing *a, const char *text, size_t len, char name[96]) {
    struct sha256 h;
    char hex[65];
    sha256_start(&h);
    sha256_add(&h, a->q.id, strlen(a->q.id));
    sha256_add(&h, a->p->user, strlen(a->p->user));
    sha256_add(&h, text, len);
    sha256_hex(&h, hex);
    snprintf(name, 96, "augment.done.%.64s", hex);
}

static plm_status find_done(const struct absorbing *a, const char *name, plm_absorb_report *r, bool *done,
                            plm_error *err) {
    char *text = NULL;
    *done = false;
    plm_status st = plm_store_get(a->store, name, &text, err);
    if (st || !text) {
        return st;
    }
    struct str rest = str_of(text), word;
    uint64_t v[PLM_RULES + 2] = {0};
    size_t n = 0;
    while (n < PLM_RULES + 2 && str_cut(&rest, ' ', &word) && parse_u64(word, &v[n])) {
        n++;
    }
    plm_free(text);
    // Cleared since: do it again.
    if (n == PLM_RULES + 2 && a->f.n_old >= v[1]) {
        *r = (plm_absorb_report){.seen = v[0], .kept = v[1]};
        for (int i = 0; i < PLM_RULES; i++) {
            r->dropped[i] = v[i + 2];
        }
        *done = true;
    }
    return PLM_OK;
}

static plm_status keep_all(const struct absorbing *a, const char *name, const plm_absorb_report *r,
                           plm_error *err) {
    char text[256];
    int at = snprintf(text, sizeof text, "%zu %zu", r->seen, r->kept);
    for (int i = 0; i < PLM_RULES; i++) {
        at += snprintf(text + at, sizeof text - (size_t)at, " %zu", r->dropped[i]);
    }
    plm_status st = plm_store_begin(a->store, err);
    if (st) {
        return st;
    }
    for (size_t i = 0; i < a->f.n && !st; i++) {
        // A line that could not be read has no text to keep, and what came of a forgotten record is not kept.
        const struct candidate *c = &a->f.c[i];
        st = c->input && c->output && !c->gone ? store_one(a, c, err) : PLM_OK;
    }
    st = st ? st : plm_store_set(a->store, name, text, err);
    plm_status end = plm_store_end(a->store, st == PLM_OK, st ? NULL : err);
    return st ? st : end;
}

static void absorb_close(struct absorbing *a) {
    for (size_t i = 0; i < a->f.n; i++) {
        candidate_free(&a->f.c[i]);
    }
    for (size_t i = 0; i < a->f.n_old; i++) {
        mem_free(a->f.old[i]);
    }
    mem_free(a->f.c);
    mem_free(a->f.old);
    map_free(&a->map);
    reals_free(&a->reals);
    wire_request_free(&a->q);
}

static size_t wanted(const struct absorbing *a) {
    size_t n = 0;
    for (size_t i = 0; i < WIRE_MODES; i++) {
        n += (size_t)a->q.want[i];
    }
    return n;
}

plm_status plm_augment_absorb(plm_store *store, const plm_augment_policy *p, const char *request,
                              const char *candidates, size_t len, const char *teacher, plm_nll_fn nll,
                              void *ctx, const char *audit, plm_absorb_report *report, plm_error *err) {
    if (!store || !p || !p->user || !p->kind || !request || (!candidates && len)) {
        return fail(err, PLM_EINVAL, "absorbing needs a store, a user, a kind, the request and candidates");
    }
    struct absorbing a = {
        .store = store, .p = p, .teacher = teacher ? teacher : "", .f = {.nll = nll, .ctx = ctx}};
    plm_absorb_report r = {0};
    char name[96];
    bool done = false;
    plm_status st = load(&a, request, err);
    if (!st) {
        done_name(&a, candidates, len, name);
        st = find_done(&a, name, &r, &done, err);
    }
    if (!st && !done) {
        st = read_candidates(&a, candidates, len, err);
        st = st ? st : filter_run(&a.f, err);
        st = st ? st : pick_best(&a.f, wanted(&a), err);
        count(&a, &r);
        st = st || !audit ? st : write_audit(&a, audit, err);
        st = st ? st : keep_all(&a, name, &r, err);
    }
    if (!st && report) {
        *report = r;
    }
    absorb_close(&a);
    return st;
}
