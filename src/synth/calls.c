/* calls.c: the calls of a round. Each is found among the kept replies or asked for; a reply is kept as soon
 * as it is there, so that a run that breaks off pays for nothing twice, and read in the order of the calls,
 * so that the same replies make the same run whatever came first. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "synth/inside.h"

enum { AT_ONCE = 256, NONSENSE_MAX = 5 };
enum { SAMPLE = 64 }; /* calls written to foretell what more of them take */

struct making { /* up to AT_ONCE calls */
    struct calls *c;
    struct task *tasks;
    size_t n;
    struct each_call {
        struct prompt prompt;
        char hash[65], *body, *text;
        const char *finish;
        plm_answer none; /* a reply without text, kept once the teacher makes sense again */
        bool held;
    } * k;
    size_t *asked, n_asked; /* those not found */
    size_t read, in_a_row;  /* replies looked at in order; without text */
};

static plm_status keep(struct making *m, size_t i, const plm_answer *a, plm_error *err) {
    int64_t sources[ASK_MAX + SHOW_MAX];
    size_t n = 0;
    const struct task *t = &m->tasks[i];
    for (size_t k = 0; k < t->n; k++) {
        if (t->number[k]) {
            sources[n++] = t->number[k];
        }
    }
    for (size_t k = 0; k < t->n_shown; k++) {
        sources[n++] = t->shown[k];
    }
    const struct synth_hooks *h = m->c->hooks;
    plm_status st = h->keep ? h->keep(h->ctx, m->k[i].hash, m->k[i].body, a, sources, n, err) : PLM_OK;
    m->c->kept += !st;
    return st;
}

// A service that talks nonsense again and again is as good as down: the run stops and nothing of it is kept.
static plm_status look_at_order(struct making *m, plm_error *err) {
    for (; m->read < m->n && m->k[m->read].text; m->read++) {
        struct each_call *k = &m->k[m->read];
        m->in_a_row = k->held ? m->in_a_row + 1 : 0;
        if (m->in_a_row == NONSENSE_MAX) {
            return fail(err, PLM_EREMOTE, "the teacher's last %d replies hold nothing of use (%s)",
                        NONSENSE_MAX, k->none.why);
        }
    }
    return PLM_OK;
}

static plm_status keep_held(struct making *m, plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; i < m->n && !st; i++) {
        struct each_call *k = &m->k[i];
        if (k->held) {
            k->none.text = k->text;
            st = keep(m, i, &k->none, err);
            k->held = false;
        }
    }
    return st;
}

static plm_status on_leaving(void *ctx, size_t a, plm_error *err) {
    struct making *m = ctx;
    const struct synth_hooks *h = m->c->hooks;
    const char *body = m->k[m->asked[a]].body;
    return h->leaving ? h->leaving(h->ctx, body, strlen(body), err) : PLM_OK;
}

static plm_status tell_progress(struct calls *c, plm_error *err) {
    size_t total = c->planned > c->number ? c->planned : c->number;
    if (c->hooks->progress && c->hooks->progress(c->hooks->ctx, c->number, total, c->candidates)) {
        return fail(err, PLM_ESTOPPED, "stopped after %zu calls", c->number);
    }
    return PLM_OK;
}

static plm_status on_arrived(void *ctx, size_t a, plm_answer *answer, plm_error *err) {
    struct making *m = ctx;
    size_t i = m->asked[a];
    struct each_call *k = &m->k[i];
    k->text = answer->text;
    k->finish = answer->finish;
    k->held = strcmp(answer->finish, "none") == 0;
    k->none = *answer;
    plm_status st = k->held ? PLM_OK : keep(m, i, answer, err);
    m->c->number++;
    st = st ? st : look_at_order(m, err);
    return st ? st : tell_progress(m->c, err);
}

// The exact text of a call, and under which name its reply is kept.
static plm_status prepare(struct making *m, size_t i, plm_call *call, plm_error *err) {
    struct each_call *k = &m->k[i];
    size_t number = m->c->number + i;
    struct rng rng;
    plm_status st = recipe_write(&k->prompt, m->c->q, &m->tasks[i], err);
    m->tasks[i].sent = &k->prompt;
    rng_seed(&rng, m->c->q->seed, 1000 + number);
    *call = (plm_call){.system = k->prompt.system,
                       .user = k->prompt.user,
                       .temperature = k->prompt.temperature,
                       .top_p = .95f,
                       .max_tokens = k->prompt.max_tokens,
                       .seed = rng_next(&rng) >> 33};
    recipe_form(call, m->c->q, &m->tasks[i]);
    st = st ? st : body_write(m->c->name, call, &k->body, err);
    if (!st) {
        struct sha256 h;
        char text[32];
        sha256_start(&h);
        sha256_add(&h, k->body, strlen(k->body));
        sha256_add(&h, text, (size_t)snprintf(text, sizeof text, "\n%zu", number));
        sha256_hex(&h, k->hash);
    }
    return st;
}

static plm_status find(struct making *m, size_t i, plm_error *err) {
    const struct synth_hooks *h = m->c->hooks;
    struct each_call *k = &m->k[i];
    char *finish = NULL;
    plm_status st = h->find ? h->find(h->ctx, k->hash, &k->text, &finish, err) : PLM_OK;
    k->finish = finish && strcmp(finish, "stop") == 0     ? "stop"
                : finish && strcmp(finish, "length") == 0 ? "length"
                                                          : "none";
    plm_free(finish);
    m->c->kept += !st && k->text;
    return st;
}

static plm_status ask(struct making *m, plm_call *calls, char **bodies, plm_error *err) {
    struct calls *c = m->c;
    for (size_t a = 0; a < m->n_asked; a++) {
        calls[a] = calls[m->asked[a]];
        bodies[a] = m->k[m->asked[a]].body;
    }
    c->number += m->n - m->n_asked;
    if (!m->n_asked) {
        return tell_progress(c, err);
    }
    if (!c->teacher) {
        return fail(err, PLM_EREMOTE, "call %zu is not among the kept replies",
                    c->number - m->n + m->asked[0]);
    }
    struct batch b = {.calls = calls,
                      .bodies = bodies,
                      .n = m->n_asked,
                      .ctx = m,
                      .leaving = on_leaving,
                      .arrived = on_arrived};
    return teacher_ask_all(c->teacher, &b, err);
}

static plm_status show(struct calls *c, const plm_call *call, const char *body, plm_error *err) {
    c->forecast->tokens_in += (int64_t)((strlen(call->system) + strlen(call->user)) / 4 + 1);
    c->forecast->tokens_out += call->max_tokens / 2;
    c->forecast->bytes += strlen(body);
    return c->each && c->each(c->each_ctx, body) ? fail(err, PLM_ESTOPPED, "stopped") : PLM_OK;
}

static plm_status make(struct making *m, plm_call *calls, char **bodies, plm_error *err) {
    struct calls *c = m->c;
    plm_status st = PLM_OK;
    for (size_t i = 0; i < m->n && !st; i++) {
        st = prepare(m, i, &calls[i], err);
        if (!st && c->forecast) {
            st = show(c, &calls[i], m->k[i].body, err);
        } else if (!st) {
            st = find(m, i, err);
            if (!st && !m->k[i].text) {
                m->asked[m->n_asked++] = i;
            }
        }
    }
    if (c->forecast) {
        c->number += m->n;
        return st;
    }
    st = st ? st : look_at_order(m, err);
    st = st ? st : ask(m, calls, bodies, err);
    return st ? st : keep_held(m, err);
}

static plm_status make_some(struct calls *c, struct task *tasks, size_t n, reply_fn read, void *ctx,
                            plm_error *err) {
    struct making m = {.c = c, .tasks = tasks, .n = n};
    plm_call *calls = mem_zero(n, sizeof *calls);
    char **bodies = mem_zero(n, sizeof *bodies);
    m.k = mem_zero(n, sizeof *m.k);
    m.asked = mem_zero(n, sizeof *m.asked);
    plm_status st = calls && bodies && m.k && m.asked ? make(&m, calls, bodies, err)
                                                      : fail(err, PLM_ENOMEM, "no memory for calls");
    for (size_t i = 0; m.k && i < n; i++) {
        struct each_call *k = &m.k[i];
        st = st || c->forecast ? st : read(ctx, &tasks[i], k->hash, k->text, k->finish, err);
        prompt_free(&k->prompt);
        tasks[i].sent = NULL;
        plm_free(k->body);
        plm_free(k->text);
    }
    mem_free(calls);
    mem_free(bodies);
    mem_free(m.k);
    mem_free(m.asked);
    return st;
}

// All are written where somebody wants to see them, else some from begin to end.
static plm_status foretell(struct calls *c, struct task *tasks, size_t n, plm_error *err) {
    plm_augment_forecast *f = c->forecast, before = *f;
    size_t written = c->each || n < SAMPLE ? n : SAMPLE, first = c->number;
    plm_status st = PLM_OK;
    for (size_t i = 0; i < written && !st; i++) {
        c->number = first + i * n / written;
        st = make_some(c, &tasks[i * n / written], 1, NULL, NULL, err);
    }
    c->number = first + n;
    double times = written ? (double)n / (double)written : 1;
    f->tokens_in = before.tokens_in + (int64_t)((double)(f->tokens_in - before.tokens_in) * times);
    f->tokens_out = before.tokens_out + (int64_t)((double)(f->tokens_out - before.tokens_out) * times);
    f->bytes = before.bytes + (uint64_t)((double)(f->bytes - before.bytes) * times);
    return st;
}

plm_status calls_make(struct calls *c, struct task *tasks, size_t n, reply_fn read, void *ctx,
                      plm_error *err) {
    plm_status st = c->forecast ? foretell(c, tasks, n, err) : PLM_OK;
    for (size_t i = 0; i < n && !st && !c->forecast; i += AT_ONCE) {
        st = make_some(c, tasks + i, n - i < AT_ONCE ? n - i : AT_ONCE, read, ctx, err);
    }
    return st;
}
