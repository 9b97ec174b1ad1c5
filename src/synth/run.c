/* run.c: a request turned into calls, and their replies into candidate lines, in rounds: each asks for what
 * the rounds before did not bring. Calls are numbered in the order in which they are made; body and number
 * decide the seed and the hash, so that a run with the same replies is the same run, wherever it was broken
 * off. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "synth/inside.h"

enum { ROUNDS = 3, NONSENSE_MAX = 5, CANDIDATES_MAX = WIRE_CANDIDATES_MAX };

struct pending { /* a reply without a text, kept once the teacher makes sense again */
    char hash[65], *body;
    struct task task;
    int64_t tokens_in, tokens_out;
    double seconds;
};

struct run {
    struct wire_request q;
    int (*each)(void *ctx, const char *body); /* a preview: bodies are shown, nothing is asked */
    void *each_ctx;
    struct teacher *teacher;
    const struct synth_hooks *hooks;
    const char *name; /* of the teacher, asked or replayed */
    struct bytes out;
    size_t number, planned, done, good;     /* calls so far, foreseen, with a kept reply; candidates */
    int got[WIRE_MODES], asked[WIRE_MODES]; /* things by mode */
    struct task *drafts;                    /* second calls of mode B of this round */
    size_t n_drafts;
    struct pending pending[NONSENSE_MAX];
    size_t n_pending;
};

/* ---- asking ---- */

static size_t sources_of(const struct task *t, int64_t *v) {
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (t->number[i]) {
            v[n++] = t->number[i];
        }
    }
    for (size_t i = 0; i < t->n_shown; i++) {
        v[n++] = t->shown[i];
    }
    return n;
}

static plm_status keep(struct run *r, const char *hash, const char *body, const struct task *t,
                       const struct answer *a, plm_error *err) {
    int64_t sources[ASK_MAX + SHOW_MAX];
    size_t n = sources_of(t, sources);
    return r->hooks->keep ? r->hooks->keep(r->hooks->ctx, hash, body, a, sources, n, err) : PLM_OK;
}

static plm_status keep_pending(struct run *r, plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; i < r->n_pending; i++) {
        struct pending *p = &r->pending[i];
        char nothing[] = "";
        struct answer a = {.text = nothing,
                           .finish = "none",
                           .tokens_in = p->tokens_in,
                           .tokens_out = p->tokens_out,
                           .seconds = p->seconds};
        st = st ? st : keep(r, p->hash, p->body, &p->task, &a, err);
        plm_free(p->body);
    }
    r->n_pending = 0;
    return st;
}

// A service that talks nonsense again and again is as good as down: the run stops and nothing of it is kept.
static plm_status set_aside(struct run *r, const char *hash, char **body, const struct task *t,
                            const struct answer *a, plm_error *err) {
    struct pending *p = &r->pending[r->n_pending++];
    *p = (struct pending){.body = *body,
                          .task = *t,
                          .tokens_in = a->tokens_in,
                          .tokens_out = a->tokens_out,
                          .seconds = a->seconds};
    memcpy(p->hash, hash, sizeof p->hash);
    *body = NULL;
    if (r->n_pending < NONSENSE_MAX) {
        return PLM_OK;
    }
    return fail(err, PLM_EREMOTE, "the teacher's last %d replies hold nothing of use (%s)", NONSENSE_MAX,
                a->why);
}

static plm_status ask_teacher(struct run *r, const struct call *c, const struct task *t, const char *hash,
                              char **body, char **text, const char **finish, plm_error *err) {
    if (!r->teacher) {
        return fail(err, PLM_EREMOTE, "call %zu is not among the kept replies", r->number);
    }
    plm_status st = r->hooks->leaving ? r->hooks->leaving(r->hooks->ctx, *body, strlen(*body), err) : PLM_OK;
    struct answer a = {0};
    st = st ? st : teacher_ask(r->teacher, c, &a, err);
    if (!st && strcmp(a.finish, "none") == 0) {
        st = set_aside(r, hash, body, t, &a, err);
    } else if (!st) {
        st = keep_pending(r, err);
        st = st ? st : keep(r, hash, *body, t, &a, err);
    }
    if (st) {
        plm_free(a.text);
        return st;
    }
    *text = a.text;
    *finish = a.finish;
    return PLM_OK;
}

// Finds the reply to a call, or asks for it. *text is the caller's.
static plm_status reply_to(struct run *r, const struct task *t, char hash[65], char **text,
                           const char **finish, plm_error *err) {
    struct prompt p;
    char *body = NULL, *kept_finish = NULL;
    struct rng rng;
    plm_status st = recipe_write(&p, &r->q, t, err);
    rng_seed(&rng, r->q.seed, 1000 + r->number);
    struct call c = {p.system, p.user, p.temperature, .95f, p.max_tokens, rng_next(&rng) >> 33};
    st = st ? st : body_write(r->name, &c, &body, err);
    if (!st) {
        struct sha256 h;
        char number[32];
        sha256_start(&h);
        sha256_add(&h, body, strlen(body));
        sha256_add(&h, number, (size_t)snprintf(number, sizeof number, "\n%zu", r->number));
        sha256_hex(&h, hash);
        *text = NULL;
        *finish = "none";
        if (r->each) {
            *text = mem_dupz("");
            st = r->each(r->each_ctx, body) ? fail(err, PLM_ESTOPPED, "stopped") : PLM_OK;
        } else if (r->hooks->find) {
            st = r->hooks->find(r->hooks->ctx, hash, text, &kept_finish, err);
        }
    }
    if (!st && *text && kept_finish) {
        *finish = strcmp(kept_finish, "stop") == 0     ? "stop"
                  : strcmp(kept_finish, "length") == 0 ? "length"
                                                       : "none";
    } else if (!st && !*text) {
        st = ask_teacher(r, &c, t, hash, &body, text, finish, err);
    }
    r->number++;
    r->done += !st;
    plm_free(kept_finish);
    plm_free(body);
    prompt_free(&p);
    return st;
}

/* ---- replies to candidates ---- */

static size_t slot_of(unsigned mode) {
    size_t i = 0;
    while (mode_at(i) != mode) {
        i++;
    }
    return i;
}

static void put_candidate(struct run *r, const struct task *t, size_t i, const struct piece *piece,
                          const char *hash) {
    struct wire_candidate c = {.mode = t->mode,
                               .call = hash,
                               .source = t->number[i],
                               .bad = piece->bad,
                               .shown = t->shown,
                               .n_shown = t->n_shown};
    if (!piece->bad) {
        c.input = t->outputs ? t->input[i] : piece->text;
        c.output = t->outputs ? piece->text : t->mode == PLM_MODE_LABEL ? t->label[i] : "";
        r->good++;
        r->got[slot_of(t->mode)]++;
    }
    wire_candidate_put(&r->out, &c);
}

// The inputs that a first call of mode B brought become the task of a second call with the same exemplars.
static plm_status put_draft(struct run *r, const struct task *t, struct piece *pieces, plm_error *err) {
    struct task *more = mem_grow(r->drafts, r->n_drafts + 1, sizeof *more);
    if (!more) {
        return fail(err, PLM_ENOMEM, "no memory for drafts");
    }
    r->drafts = more;
    struct task *d = &more[r->n_drafts];
    *d = *t;
    d->outputs = true;
    d->n = 0;
    memset(d->input, 0, sizeof d->input);
    for (size_t i = 0; i < t->n; i++) {
        if (pieces[i].text) {
            d->input[d->n++] = pieces[i].text;
            pieces[i].text = NULL;
        }
    }
    r->n_drafts += d->n > 0;
    return PLM_OK;
}

static plm_status run_task(struct run *r, const struct task *t, plm_error *err) {
    struct piece pieces[ASK_MAX] = {0};
    char hash[65], *text = NULL;
    const char *finish = "none";
    size_t surplus = 0;
    plm_status st = reply_to(r, t, hash, &text, &finish, err);
    st = st || r->each ? st : reply_read(pieces, &surplus, t, r->q.single, text, finish, err);
    bool first_of_two = t->mode == PLM_MODE_NEW && !t->outputs;
    for (size_t i = 0; !st && !r->each && i < t->n; i++) {
        if (pieces[i].bad || !first_of_two) {
            put_candidate(r, t, i, &pieces[i], hash);
        }
    }
    for (size_t i = 0; !st && i < surplus; i++) {
        put_candidate(r, t, 0, &(struct piece){.bad = "a line that was not asked for"}, hash);
    }
    st = st || r->each || !first_of_two ? st : put_draft(r, t, pieces, err);
    for (size_t i = 0; i < t->n; i++) {
        mem_free(pieces[i].text);
    }
    plm_free(text);
    st = st ? st : bytes_status(&r->out, "the candidates", err);
    if (!st && r->hooks && r->hooks->progress &&
        r->hooks->progress(r->hooks->ctx, r->number, r->planned > r->number ? r->planned : r->number,
                           r->good)) {
        st = fail(err, PLM_ESTOPPED, "stopped after %zu calls", r->number);
    }
    return st;
}

/* ---- planning ---- */

// Twice what is wanted: the filters drop about half.
static int target(const struct run *r, size_t slot) {
    return r->q.want[slot] * 2;
}

// How many more things a round asks for.
static int missing(const struct run *r, size_t slot, int round) {
    int lack = target(r, slot) - r->got[slot];
    return round == 0 ? target(r, slot) : lack * 4 <= target(r, slot) ? 0 : lack;
}

// Labels in the person's own share, smoothed: dealt out evenly and never drawn to one side by chance.
static const char *label_for(const struct run *r, int nth) {
    size_t best = 0;
    double best_lack = -1e300, all = 0;
    int dealt[1000] = {0};
    for (size_t i = 0; i < r->q.n_labels; i++) {
        all += r->q.label_counts[i] + .5;
    }
    for (int k = 0; k <= nth; k++) {
        best_lack = -1e300;
        for (size_t i = 0; i < r->q.n_labels; i++) {
            double lack = (r->q.label_counts[i] + .5) / all * (k + 1) - dealt[i];
            if (lack > best_lack) {
                best = i;
                best_lack = lack;
            }
        }
        dealt[best]++;
    }
    return r->q.labels[best];
}

static struct task plan_task(struct run *r, size_t slot, int round, int left) {
    unsigned mode = mode_at(slot);
    struct task t = {.mode = mode, .strict = round > 0};
    int max = r->q.single ? 1 : ASK_MAX;
    t.n = (size_t)(left < max ? left : max);
    for (size_t i = 0; i < t.n; i++) {
        int nth = r->asked[slot]++;
        if (mode == PLM_MODE_REVERSE || mode == PLM_MODE_REWRITE) {
            t.number[i] = r->q.rewrite[(size_t)nth % r->q.n_rewrite];
            t.variation = nth / (int)r->q.n_rewrite;
        } else if (mode == PLM_MODE_LABEL) {
            t.label[i] = label_for(r, nth);
        }
        // Two rewrites of one record belong into two calls.
        for (size_t k = 0; k < i; k++) {
            if (t.number[i] && t.number[k] == t.number[i]) {
                r->asked[slot]--;
                t.number[i] = 0;
                t.n = i;
            }
        }
    }
    struct rng rng;
    rng_seed(&rng, r->q.seed, (uint64_t)1000000 * (slot + 1) + (uint64_t)r->asked[slot]);
    task_draw(&t, &r->q, &rng);
    return t;
}

static plm_status run_round(struct run *r, int round, plm_error *err) {
    int lack[WIRE_MODES], per_call = r->q.single ? 1 : ASK_MAX;
    plm_status st = PLM_OK;
    for (size_t s = 0; s < WIRE_MODES; s++) {
        lack[s] = missing(r, s, round);
        size_t calls = (size_t)((lack[s] + per_call - 1) / per_call);
        r->planned += mode_at(s) == PLM_MODE_NEW ? 2 * calls : calls;
    }
    for (size_t s = 0; s < WIRE_MODES; s++) {
        while (lack[s] > 0 && !st) {
            struct task t = plan_task(r, s, round, lack[s]);
            lack[s] -= (int)t.n;
            st = run_task(r, &t, err);
        }
    }
    for (size_t i = 0; i < r->n_drafts; i++) {
        st = st ? st : run_task(r, &r->drafts[i], err);
        task_free(&r->drafts[i]);
    }
    r->n_drafts = 0;
    return st;
}

static void run_close(struct run *r) {
    for (size_t i = 0; i < r->n_drafts; i++) {
        task_free(&r->drafts[i]);
    }
    for (size_t i = 0; i < r->n_pending; i++) {
        plm_free(r->pending[i].body);
    }
    mem_free(r->drafts);
    bytes_free(&r->out);
    wire_request_free(&r->q);
}

// A broken run says what is safe and how to go on.
static plm_status how_to_go_on(const struct run *r, plm_status st, plm_error *err) {
    if ((st != PLM_EREMOTE && st != PLM_ELIMIT) || !err || !r->teacher) {
        return st;
    }
    char why[sizeof err->text];
    memcpy(why, err->text, sizeof why);
    why[380] = 0;
    return fail(err, st, "%s; %zu of about %zu calls are done: the same command goes on from there", why,
                r->done > r->n_pending ? r->done - r->n_pending : 0, r->planned);
}

plm_status synth_run(const char *request, struct teacher *t, const struct synth_hooks *h, char **candidates,
                     size_t *calls, plm_error *err) {
    static const struct synth_hooks none = {0};
    struct run r = {.teacher = t, .hooks = h ? h : &none};
    plm_status st = wire_request_parse(&r.q, request, strlen(request), err);
    if (st) {
        return st;
    }
    r.name = t ? teacher_name(t) : r.hooks->replay_of ? r.hooks->replay_of : "";
    bytes_init(&r.out, CANDIDATES_MAX);
    for (int round = 0; round < ROUNDS && !st; round++) {
        st = run_round(&r, round, err);
    }
    st = st ? how_to_go_on(&r, st, err) : keep_pending(&r, err);
    if (!st) {
        *candidates = r.out.len ? bytes_take(&r.out) : mem_dupz("");
        st = *candidates ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for the candidates");
    }
    if (calls) {
        *calls = r.number;
    }
    run_close(&r);
    return st;
}

plm_status synth_preview(const char *request, const struct teacher *t,
                         int (*each)(void *ctx, const char *body), void *ctx, plm_error *err) {
    struct run r = {.each = each, .each_ctx = ctx};
    plm_status st = wire_request_parse(&r.q, request, strlen(request), err);
    if (st) {
        return st;
    }
    r.name = t ? teacher_name(t) : "";
    bytes_init(&r.out, CANDIDATES_MAX);
    st = run_round(&r, 0, err);
    run_close(&r);
    return st;
}
