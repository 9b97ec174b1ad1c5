/* run.c: a request turned into candidates, in rounds: each asks for what the rounds before did not bring, and
 * every round ends with the filters, so that a good teacher is asked little and a poor one more. Bodies,
 * seeds and hashes depend on the request and on earlier replies alone: a run with the same replies is the
 * same run, wherever it was broken off. */
#include <stdio.h>
#include <string.h>

#include "synth/inside.h"

enum { ROUNDS = 4, MOST = 3 /* halves of what is wanted that are sent back */ };

struct made { /* a candidate; what it points to is its own, the request's or static */
    struct wire_candidate c;
    char hash[65], *input, *output, *judge[WIRE_JUDGES];
    int shown[SHOW_MAX];
    struct wire_verdict verdict;
};

struct list { /* tasks of a stage; owned */
    struct task *t;
    size_t n;
};

struct run {
    struct wire_request q;
    struct calls calls;
    struct plan plan;
    struct made *made;
    size_t n_made;
    struct list drafts; /* second calls of mode B of this round */
};

static size_t slot_of(unsigned mode) {
    size_t i = 0;
    while (mode_at(i) != mode) {
        i++;
    }
    return i;
}

static plm_status list_add(struct list *l, const struct task *t, plm_error *err) {
    struct task *more = mem_grow(l->t, l->n + 1, sizeof *more);
    if (!more) {
        return fail(err, PLM_ENOMEM, "no memory for calls");
    }
    l->t = more;
    more[l->n++] = *t;
    return PLM_OK;
}

static void list_free(struct list *l) {
    for (size_t i = 0; i < l->n; i++) {
        task_free(&l->t[i]);
    }
    mem_free(l->t);
    *l = (struct list){0};
}

/* ---- replies to candidates ---- */

static plm_status pair_question(const struct run *r, const struct task *t, size_t i, struct piece *p,
                                plm_error *err) {
    struct pair source;
    struct bytes b;
    if (!pair_read(r->q.pair, r->q.records[t->number[i] - 1].input, &source)) {
        return fail(err, PLM_EFORMAT, "a record is not worded like \"pair\"");
    }
    bool first = t->label[i] == r->q.labels[0];
    source.first = str_of(first ? p->text : p->other);
    source.second = str_of(first ? p->other : p->text);
    bytes_init(&b, (size_t)4 * WIRE_TEXT_MAX);
    pair_write(&b, r->q.pair, &source);
    plm_status st = bytes_status(&b, "a pair", err);
    char *text = st ? NULL : bytes_take(&b);
    bytes_free(&b);
    if (!text) {
        return st ? st : fail(err, PLM_ENOMEM, "no memory for a candidate");
    }
    mem_free(p->text);
    p->text = text;
    return PLM_OK;
}

// Takes the piece's text.
static plm_status put_made(struct run *r, const struct task *t, size_t i, struct piece *piece,
                           const char *hash, plm_error *err) {
    struct made *more = mem_grow(r->made, r->n_made + 1, sizeof *more);
    if (!more) {
        return fail(err, PLM_ENOMEM, "no memory for candidates");
    }
    r->made = more;
    struct made *m = &more[r->n_made];
    *m = (struct made){.verdict = {-1, NULL}};
    m->c = (struct wire_candidate){
        .mode = t->mode, .source = t->number[i], .bad = piece->bad, .n_shown = t->n_shown};
    memcpy(m->hash, hash, sizeof m->hash);
    memcpy(m->shown, t->shown, sizeof m->shown);
    if (!piece->bad) {
        bool deals = t->mode == PLM_MODE_LABEL || t->mode == PLM_MODE_PAIR;
        plm_status st = t->mode == PLM_MODE_PAIR ? pair_question(r, t, i, piece, err) : PLM_OK;
        if (st) {
            return st;
        }
        m->input = t->outputs ? mem_dupz(t->input[i]) : piece->text;
        m->output = t->outputs ? piece->text : mem_dupz(deals ? t->label[i] : "");
        piece->text = NULL;
    }
    r->n_made++;
    r->calls.candidates += !piece->bad;
    return piece->bad || (m->input && m->output) ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for candidates");
}

// The inputs that a first call of mode B brought become the task of a second call with the same exemplars.
static plm_status put_draft(struct run *r, const struct task *t, struct piece *pieces, plm_error *err) {
    struct task d = *t;
    d.outputs = true;
    d.n = 0;
    memset(d.input, 0, sizeof d.input);
    for (size_t i = 0; i < t->n; i++) {
        if (pieces[i].text) {
            d.input[d.n++] = pieces[i].text;
            pieces[i].text = NULL;
        }
    }
    plm_status st = d.n ? list_add(&r->drafts, &d, err) : PLM_OK;
    if (st) {
        task_free(&d);
    }
    return st;
}

static plm_status read_candidates(void *ctx, const struct task *t, const char *hash, const char *text,
                                  const char *finish, plm_error *err) {
    struct run *r = ctx;
    struct piece pieces[ASK_MAX] = {0};
    size_t surplus = 0;
    plm_status st = reply_read(pieces, &surplus, t, r->q.single, text, finish, err);
    bool first_of_two = t->mode == PLM_MODE_NEW && !t->outputs;
    for (size_t i = 0; i < t->n && !st; i++) {
        if (pieces[i].bad || !first_of_two) {
            st = put_made(r, t, i, &pieces[i], hash, err);
        }
    }
    for (size_t i = 0; i < surplus && !st; i++) {
        st = put_made(r, t, 0, &(struct piece){.bad = "a line that was not asked for"}, hash, err);
    }
    st = st || !first_of_two ? st : put_draft(r, t, pieces, err);
    for (size_t i = 0; i < t->n; i++) {
        piece_free(&pieces[i]);
    }
    return st;
}

static plm_status read_judgement(void *ctx, const struct task *t, const char *hash, const char *text,
                                 const char *finish, plm_error *err) {
    struct run *r = ctx;
    struct made *m = &r->made[t->about];
    struct piece p = {0};
    size_t surplus = 0;
    (void)hash;
    plm_status st = reply_read(&p, &surplus, t, r->q.single, text, finish, err);
    size_t n = p.text ? strlen(p.text) : 0;
    // "[2]." for "[2]"
    while (n && strchr(".!\"'", p.text[n - 1])) {
        p.text[--n] = 0;
    }
    if (!st && m->c.n_judge < WIRE_JUDGES) {
        m->judge[m->c.n_judge] = mem_dupz(n <= 200 && p.text ? p.text : "");
        st = m->judge[m->c.n_judge++] ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a judgement");
    }
    piece_free(&p);
    return st;
}

/* ---- the filters ---- */

static plm_status sieve(struct run *r, size_t most, plm_error *err) {
    struct wire_candidate *c = mem_alloc(r->n_made + 1, sizeof *c);
    struct wire_verdict *v = mem_alloc(r->n_made + 1, sizeof *v);
    for (size_t i = 0; c && i < r->n_made; i++) {
        struct made *m = &r->made[i];
        m->c.call = m->hash;
        m->c.input = m->input;
        m->c.output = m->output;
        m->c.shown = m->shown;
        for (size_t k = 0; k < m->c.n_judge; k++) {
            m->c.judge[k] = m->judge[k];
        }
        c[i] = m->c;
    }
    plm_status st = c && v ? wire_sieve(&r->q, c, r->n_made, most, v, err)
                           : fail(err, PLM_ENOMEM, "no memory to filter candidates");
    memset(r->plan.good, 0, sizeof r->plan.good);
    for (size_t i = 0; i < r->n_made && !st; i++) {
        r->made[i].verdict = v[i];
        r->plan.good[slot_of(c[i].mode)] += v[i].rule < 0;
    }
    mem_free(c);
    mem_free(v);
    return st;
}

// Two answers to every candidate that got so far, and a third where those leave it open.
static plm_status judge(struct run *r, plm_error *err) {
    plm_status st = PLM_OK;
    for (int pass = 0; pass < 2 && !st; pass++) {
        struct list tasks = {0};
        for (size_t i = 0; i < r->n_made && !st; i++) {
            struct made *m = &r->made[i];
            size_t n = m->c.n_judge;
            bool open = m->c.mode == PLM_MODE_LABEL && m->verdict.rule < 0 && n == (pass ? 2 : 0) &&
                        judge_undecided(&r->q, (const char *const *)m->judge, n);
            for (int k = pass; open && k < 2 && !st; k++) {
                struct task t = {.mode = PLM_MODE_LABEL, .judged = m->input, .about = i, .n = 1};
                struct rng rng;
                rng_seed(&rng, r->q.seed, 9000000 + i);
                task_draw(&t, &r->q, &rng);
                st = list_add(&tasks, &t, err);
            }
        }
        r->calls.planned += tasks.n;
        st = st ? st : calls_make(&r->calls, tasks.t, tasks.n, read_judgement, r, err);
        list_free(&tasks);
    }
    return st;
}

/* ---- rounds ---- */

static plm_status run_round(struct run *r, int round, bool *enough, plm_error *err) {
    struct list tasks = {0};
    plm_status st = PLM_OK;
    for (size_t s = 0; s < WIRE_MODES; s++) {
        size_t before = tasks.n;
        for (int left = plan_count(&r->plan, &r->q, s, round); left > 0 && !st;) {
            struct task t = plan_task(&r->plan, &r->q, s, round, left);
            left -= (int)t.n;
            st = list_add(&tasks, &t, err);
        }
        r->calls.planned += (tasks.n - before) * (mode_at(s) == PLM_MODE_NEW ? 2 : 1);
        int judged = mode_at(s) == PLM_MODE_LABEL && r->q.judge ? r->q.want[s] * 2 : 0;
        r->calls.planned += round ? 0 : (size_t)judged;
    }
    *enough = tasks.n == 0;
    st = st ? st : calls_make(&r->calls, tasks.t, tasks.n, read_candidates, r, err);
    st = st ? st : calls_make(&r->calls, r->drafts.t, r->drafts.n, read_candidates, r, err);
    list_free(&tasks);
    list_free(&r->drafts);
    if (st || *enough || r->calls.forecast) {
        return st;
    }
    st = sieve(r, 0, err);
    if (!st && r->q.judge) {
        st = judge(r, err);
        st = st ? st : sieve(r, 0, err);
    }
    return st;
}

static void run_close(struct run *r) {
    for (size_t i = 0; i < r->n_made; i++) {
        mem_free(r->made[i].input);
        mem_free(r->made[i].output);
        for (size_t k = 0; k < WIRE_JUDGES; k++) {
            mem_free(r->made[i].judge[k]);
        }
    }
    list_free(&r->drafts);
    mem_free(r->made);
    wire_request_free(&r->q);
}

static plm_status run_open(struct run *r, const char *request, const plm_teacher *t, plm_error *err) {
    plm_status st = wire_request_parse(&r->q, request, strlen(request), err);
    r->calls.q = &r->q;
    r->calls.name = t                                             ? plm_teacher_name(t)
                    : r->calls.hooks && r->calls.hooks->replay_of ? r->calls.hooks->replay_of
                                                                  : "";
    return st;
}

// What was dropped goes back without its text: why, and by which rule, so that the device can count.
static plm_status write_candidates(struct run *r, char **out, plm_error *err) {
    size_t wanted = 0;
    for (size_t i = 0; i < WIRE_MODES; i++) {
        wanted += (size_t)r->q.want[i];
    }
    struct bytes b;
    bytes_init(&b, WIRE_CANDIDATES_MAX);
    plm_status st = sieve(r, (wanted * MOST + 1) / 2, err);
    for (size_t i = 0; i < r->n_made && !st; i++) {
        struct wire_candidate c = r->made[i].c;
        const struct wire_verdict *v = &r->made[i].verdict;
        if (v->rule >= 0) {
            c.input = c.output = NULL;
            c.n_judge = 0;
            c.bad = c.bad ? c.bad : v->why;
            c.rule = plm_rule_name(v->rule);
        }
        wire_candidate_put(&b, &c);
    }
    st = st ? st : bytes_status(&b, "the candidates", err);
    if (!st) {
        *out = b.len ? bytes_take(&b) : mem_dupz("");
        st = *out ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for the candidates");
    }
    bytes_free(&b);
    return st;
}

// A broken run says what is safe and how to go on.
static plm_status how_to_go_on(const struct run *r, plm_status st, plm_error *err) {
    if ((st != PLM_EREMOTE && st != PLM_ELIMIT) || !err || !r->calls.teacher) {
        return st;
    }
    char why[sizeof err->text];
    memcpy(why, err->text, sizeof why);
    why[380] = 0;
    return fail(err, st, "%s; %zu of about %zu calls are done: the same command goes on from there", why,
                r->calls.kept, r->calls.planned);
}

plm_status synth_run(const char *request, plm_teacher *t, const struct synth_hooks *h, char **candidates,
                     size_t *calls, plm_error *err) {
    static const struct synth_hooks none = {0};
    if (teacher_cloud(t)) {
        return cloud_run(teacher_cloud(t), request, h ? h : &none, candidates, calls, err);
    }
    struct run r = {.calls = {.teacher = t, .hooks = h ? h : &none}};
    struct cap *cap = teacher_cap(t), usual = cap ? *cap : (struct cap){0};
    plm_status st = run_open(&r, request, t, err);
    if (st) {
        return st;
    }
    if (cap && h && h->max_cost > 0) {
        *cap = (struct cap){h->max_cost, plm_teacher_used(t).spent};
    }
    bool enough = false;
    for (int round = 0; round < ROUNDS && !st && !enough; round++) {
        st = run_round(&r, round, &enough, err);
    }
    st = st ? how_to_go_on(&r, st, err) : write_candidates(&r, candidates, err);
    if (cap) {
        *cap = usual;
    }
    if (calls) {
        *calls = r.calls.number;
    }
    run_close(&r);
    return st;
}

// Calls that depend on replies, second ones and judgements, are taken to be like those of the first round.
static void foresee_all(const struct calls *c, const plm_teacher *t) {
    plm_augment_forecast *f = c->forecast;
    double more = c->number ? (double)c->planned / (double)c->number : 0;
    f->calls = c->planned;
    f->tokens_in = (int64_t)((double)f->tokens_in * more);
    f->tokens_out = (int64_t)((double)f->tokens_out * more);
    f->bytes = (uint64_t)((double)f->bytes * more);
    f->cost = t ? teacher_price(t, f->tokens_in, f->tokens_out) : 0;
}

plm_status plm_augment_preview(const char *request, const plm_teacher *t,
                               int (*each)(void *ctx, const char *body), void *ctx,
                               plm_augment_forecast *forecast, plm_error *err) {
    static const struct synth_hooks none = {0};
    plm_augment_forecast own, *f = forecast ? forecast : &own;
    bool whole = teacher_cloud(t);
    struct run r = {.calls = {.hooks = &none, .forecast = f, .each = whole ? NULL : each, .each_ctx = ctx}};
    *f = (plm_augment_forecast){0};
    plm_status st = run_open(&r, request, t, err);
    bool enough;
    st = st ? st : run_round(&r, 0, &enough, err);
    if (!st) {
        foresee_all(&r.calls, t);
    }
    if (!st && whole) {
        f->bytes = strlen(request);
        st = each && each(ctx, request) ? fail(err, PLM_ESTOPPED, "stopped") : PLM_OK;
    }
    run_close(&r);
    return st;
}
