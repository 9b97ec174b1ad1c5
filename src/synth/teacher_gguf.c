/* teacher_gguf.c: a teacher in this process: a GGUF model with its own chat template, through plm.h alone.
 * Several calls are at work at once, each in a seat with a session of its own; a pass takes the next step of
 * all, and whoever is done makes room for the next call. Threads that ask at once are guests at one table:
 * one of them makes the passes for all. What a call gets never depends on the others, nor on the calls before
 * it, or a job that was stopped and goes on would get other replies than one that was not. Sums are made in
 * another order where a text is read in other pieces, so every prompt is read in the same three: the system's
 * turn but for its last token, which alone can be kept from call to call; that token; and the rest. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "synth/constrain.h"
#include "synth/inside.h"

enum {
    REPLY_MAX = 256 << 10,
    TOKEN_MAX = 64,
    SEATS = 8,
    CONTEXT_MAX = 4096,
    CONTEXT_STEP = 256,
    HEAD_MIN = 16
};

/* Nothing less likely than this share of the likeliest is drawn: e^-16. */
#define NATS 16

struct likely {
    float logit;
    int32_t id;
};

struct guest { /* a thread with a batch, until all of it is back */
    const struct batch *b;
    plm_teacher_usage *used;
    size_t next, seated; /* calls begun; those at work */
    plm_status st;       /* what ended it, or why nothing more is begun */
    plm_error *err;
    struct guest *after;
};

struct seat { /* a call at work */
    bool taken, done;
    struct guest *guest;
    size_t i; /* of its batch */
    const plm_call *call;
    plm_message asked[3]; /* the last one is for a choice */
    size_t n_asked;
    plm_session *session; /* kept from call to call while it is large enough */
    int context;
    int32_t *ids;            /* [context] */
    size_t n, written, most; /* ids of the prompt, of the reply, and what the reply may have */
    size_t head;             /* ids of the system's turn; 0: too few to be read apart */
    size_t read;             /* of it: nothing, all but the last, all */
    struct form *form;       /* NULL: any text, or a choice */
    struct place place;
    double *logprob;      /* [context] */
    struct likely *score; /* [n_choices] of the choices so far; NULL: no choice */
    size_t scored;
    plm_answer a;
    double from;
};

struct local {
    pthread_mutex_t lock; /* of guests and driven; let go during a pass */
    pthread_cond_t news;  /* a guest may go, or the next may drive */
    struct guest *guests;
    bool driven; /* whoever does alone touches what follows */
    plm_model *model;
    int context, vocab;
    struct seat seat[SEATS];
    size_t seats;
    int32_t *ids, *blank; /* [context] a prompt, and the same with nothing in the user's turn */
    /* The bytes of each token, one after the other; made when a form is first kept to. */
    char *bytes;
    uint32_t *from;        /* [vocab + 1] */
    struct likely *likely; /* [vocab] */
};

static void leave_seat(struct seat *s) {
    form_close(s->form);
    mem_free(s->score);
    plm_free(s->a.text);
    s->form = NULL;
    s->score = NULL;
    s->a.text = NULL;
    s->taken = false;
}

static void close_session(struct seat *s) {
    plm_session_free(s->session);
    mem_free(s->ids);
    mem_free(s->logprob);
    s->session = NULL;
    s->ids = NULL;
    s->logprob = NULL;
    s->context = 0;
    s->head = s->read = 0;
}

plm_status local_open(struct local **out, const plm_teacher_options *opt, char name[80], bool *capable,
                      plm_error *err) {
    struct local *l = mem_zero(1, sizeof *l);
    if (!l) {
        return fail(err, PLM_ENOMEM, "no memory for a teacher");
    }
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->news, NULL);
    plm_model_options how = {.threads = opt->threads, .cpu = opt->cpu, .digest_cache = opt->digest_cache};
    char hex[65];
    plm_status st = plm_model_open(&l->model, opt->spec, &how, err);
    if (!st && !plm_model_describe(l->model)->chat_template) {
        st = fail(err, PLM_ENOTSUP, "%s has no chat template that plm knows; a teacher needs one", opt->spec);
    }
    st = st ? st : plm_model_digest(l->model, hex, err);
    if (!st) {
        int context = plm_model_describe(l->model)->context;
        l->vocab = plm_model_describe(l->model)->vocab;
        l->context = context > 0 && context < CONTEXT_MAX ? context : CONTEXT_MAX;
        l->seats = opt->parallel > 0 && opt->parallel < SEATS ? (size_t)opt->parallel : SEATS;
        l->ids = mem_alloc((size_t)l->context, sizeof *l->ids);
        l->blank = mem_alloc((size_t)l->context, sizeof *l->blank);
        st = l->ids && l->blank ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a teacher");
    }
    if (st) {
        local_close(l);
        return st;
    }
    snprintf(name, 80, "gguf:%s", hex);
    *capable = plm_model_describe(l->model)->parameters >= 3000000000u;
    *out = l;
    return PLM_OK;
}

void local_close(struct local *l) {
    if (l) {
        for (size_t k = 0; k < SEATS; k++) {
            leave_seat(&l->seat[k]);
            close_session(&l->seat[k]);
        }
        plm_model_close(l->model);
        mem_free(l->ids);
        mem_free(l->blank);
        mem_free(l->bytes);
        mem_free(l->from);
        mem_free(l->likely);
        pthread_cond_destroy(&l->news);
        pthread_mutex_destroy(&l->lock);
        mem_free(l);
    }
}

/* ---- a reply that keeps to a form ---- */

static plm_status spell_tokens(struct local *l, plm_error *err) {
    if (l->bytes) {
        return PLM_OK;
    }
    struct bytes b;
    bytes_init(&b, (size_t)l->vocab * TOKEN_MAX);
    l->from = mem_zero((size_t)l->vocab + 1, sizeof *l->from);
    l->likely = mem_zero((size_t)l->vocab, sizeof *l->likely);
    plm_status st = l->from && l->likely ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a vocabulary");
    for (int32_t id = 0; id < l->vocab && !st; id++) {
        char text[TOKEN_MAX];
        size_t n = 0;
        // Control tokens and the very longest have no bytes here, and so are never allowed.
        bool spelt = plm_decode(l->model, &id, 1, false, text, sizeof text, &n, NULL) == PLM_OK;
        bytes_put(&b, text, spelt ? n : 0);
        l->from[id + 1] = (uint32_t)b.len;
    }
    st = st ? st : bytes_status(&b, "a vocabulary", err);
    l->bytes = st ? NULL : bytes_take(&b);
    bytes_free(&b);
    if (!l->bytes) {
        mem_free(l->from);
        mem_free(l->likely);
        l->from = NULL;
        l->likely = NULL;
    }
    return st || l->bytes ? st : fail(err, PLM_ENOMEM, "no memory for a vocabulary");
}

static int by_likelihood(const void *a, const void *b) {
    const struct likely *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit)
                                : (x->id > y->id) - (x->id < y->id);
}

// Temperature and top-p over what the form allows; -1: nothing.
static int32_t draw(struct likely *c, size_t n, const plm_call *how, uint64_t step) {
    if (!n) {
        return -1;
    }
    float best = c[0].logit;
    for (size_t i = 1; i < n; i++) {
        best = c[i].logit > best ? c[i].logit : best;
    }
    double t = how->temperature > .01f ? (double)how->temperature : .01, all = 0, sum = 0;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (((double)best - (double)c[i].logit) / t <= NATS) {
            c[kept++] = c[i];
        }
    }
    qsort(c, kept, sizeof *c, by_likelihood);
    for (size_t i = 0; i < kept; i++) {
        all += exp(((double)c[i].logit - (double)best) / t);
    }
    double limit = how->top_p > 0 && how->top_p < 1 ? (double)how->top_p * all : all;
    size_t last = 0;
    for (; last < kept && sum < limit; last++) {
        sum += exp(((double)c[last].logit - (double)best) / t);
    }
    struct rng r;
    rng_seed(&r, how->seed, step);
    double at = rng_unit(&r) * sum;
    for (size_t i = 0; i < last; i++) {
        at -= exp(((double)c[i].logit - (double)best) / t);
        if (at < 0) {
            return c[i].id;
        }
    }
    return c[0].id;
}

// The next token of a reply that has a form; -1: there is none.
static int32_t draw_in_form(struct local *l, const struct seat *s, const float *logits) {
    size_t allowed = 0;
    for (int32_t id = 0; id < l->vocab; id++) {
        struct place to = s->place;
        size_t len = l->from[id + 1] - l->from[id];
        if (len && isfinite(logits[id]) && form_take(s->form, &to, l->bytes + l->from[id], len) &&
            form_left(s->form, &to) + s->written + 1 <= s->most) {
            l->likely[allowed++] = (struct likely){logits[id], id};
        }
    }
    return draw(l->likely, allowed, s->call, s->written);
}

/* ---- a call ---- */

static plm_status encode(struct local *l, struct seat *s, size_t choice, size_t *n, plm_error *err) {
    size_t asked = s->n_asked;
    if (choice < s->call->n_choices) {
        s->asked[asked++] = (plm_message){"assistant", s->call->choices[choice]};
    }
    return plm_chat_encode(l->model, s->asked, asked, l->ids, NULL, (size_t)l->context, n, err);
}

static plm_status make_room(struct local *l, struct seat *s, size_t need, plm_error *err) {
    if ((size_t)s->context < need) {
        close_session(s);
        size_t context = (need + CONTEXT_STEP - 1) / CONTEXT_STEP * CONTEXT_STEP;
        s->context = context < (size_t)l->context ? (int)context : l->context;
        s->ids = mem_alloc((size_t)s->context, sizeof *s->ids);
        s->logprob = mem_alloc((size_t)s->context, sizeof *s->logprob);
        plm_session_options how = {.context = s->context};
        plm_status st = s->ids && s->logprob ? plm_session_new(&s->session, l->model, &how, err)
                                             : fail(err, PLM_ENOMEM, "no memory for a call");
        if (st) {
            close_session(s);
            return st;
        }
    }
    return PLM_OK;
}

// The prompt, and what of it is there from the call before.
static plm_status lay_out(struct local *l, struct seat *s, plm_error *err) {
    size_t blank = 0, head = 0;
    const char *user = s->asked[s->n_asked - 1].text;
    s->asked[s->n_asked - 1].text = "";
    plm_status st =
        plm_chat_encode(l->model, s->asked, s->n_asked, l->blank, NULL, (size_t)l->context, &blank, err);
    s->asked[s->n_asked - 1].text = user;
    st = st ? st : encode(l, s, SIZE_MAX, &s->n, err);
    if (st) {
        return st;
    }
    while (head < blank && head + 1 < s->n && l->ids[head] == l->blank[head]) {
        head++;
    }
    head = head < HEAD_MIN ? 0 : head;
    bool same = head && s->head == head && s->read == head && !memcmp(s->ids, l->ids, head * sizeof *s->ids);
    s->head = head;
    s->read = same ? head - 1 : 0;
    memcpy(s->ids, l->ids, s->n * sizeof *s->ids);
    return same ? PLM_OK : plm_session_use(s->session, NULL, 0, err);
}

static void end_none(struct seat *s, const char *why) {
    s->a.finish = "none";
    s->a.why = why;
    s->done = true;
}

// How many tokens of context a call needs; *fits false: more than there are.
static plm_status measure(struct local *l, struct seat *s, size_t *need, bool *fits, plm_error *err) {
    const plm_call *c = s->call;
    plm_status st = encode(l, s, SIZE_MAX, &s->n, err);
    size_t room = (size_t)l->context - (st ? 0 : s->n), longest = 0;
    s->a.tokens_in = (int64_t)s->n;
    *fits = !st && room >= 16;
    s->most = c->max_tokens > 0 ? (size_t)c->max_tokens : CALL_TOKENS;
    s->most = s->most < room ? s->most : room;
    for (size_t i = 0; i < c->n_choices && !st && *fits; i++) {
        size_t n = 0;
        st = encode(l, s, i, &n, err);
        longest = n > longest ? n : longest;
    }
    *fits = *fits && !st;
    *need = c->n_choices ? longest : s->n + s->most;
    return st == PLM_ELIMIT ? PLM_OK : st;
}

static plm_status sit_down(struct local *l, struct seat *s, const plm_call *c, size_t i, plm_error *err) {
    s->taken = true;
    s->done = false;
    s->i = i;
    s->call = c;
    s->from = clock_now();
    s->n_asked = 0;
    s->n = s->written = s->scored = 0;
    s->place = (struct place){0};
    s->a = (plm_answer){.finish = "length"};
    if (c->system) {
        s->asked[s->n_asked++] = (plm_message){"system", c->system};
    }
    s->asked[s->n_asked++] = (plm_message){"user", c->user};
    size_t need = 0;
    bool fits = false;
    plm_status st = measure(l, s, &need, &fits, err);
    if (st || !fits) {
        end_none(s, "too long for the teacher");
        return st;
    }
    st = make_room(l, s, need, err);
    st = st ? st : lay_out(l, s, err);
    if (!st && c->n_choices) {
        s->score = mem_zero(c->n_choices, sizeof *s->score);
        return s->score ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a choice");
    }
    if (!st && c->n_fields) {
        st = form_open(&s->form, c, (int)s->most, err);
        st = st ? st : spell_tokens(l, err);
    }
    return st == PLM_ELIMIT ? PLM_OK : st; // no room for a line of the form: any text
}

// The logits are there: one more token.
static plm_status write_token(struct local *l, struct seat *s, plm_error *err) {
    plm_sampling how = {.temperature = s->call->temperature, .top_p = s->call->top_p, .seed = s->call->seed};
    int32_t id =
        s->form ? draw_in_form(l, s, plm_session_logits(s->session)) : plm_session_sample(s->session, &how);
    if (id < 0 && !s->form) {
        return fail(err, PLM_EFORMAT, "the teacher's output is not a number: the file is damaged");
    }
    if (id < 0) { // a vocabulary without single bytes
        s->done = true;
        return PLM_OK;
    }
    if (!s->form && plm_is_end(l->model, id)) {
        s->a.tokens_out = 1;
        s->a.finish = "stop";
        s->done = true;
        return PLM_OK;
    }
    s->ids[s->n + s->written++] = id;
    if (s->form) {
        form_take(s->form, &s->place, l->bytes + l->from[id], l->from[id + 1] - l->from[id]);
        s->a.finish = form_left(s->form, &s->place) ? "length" : "stop";
    }
    s->done = s->written == s->most || (s->form && !form_left(s->form, &s->place));
    return PLM_OK;
}

// A pass for all that read the system's turn, or write.
static plm_status write_all(struct local *l, plm_error *err) {
    struct seat *who[SEATS];
    plm_session *session[SEATS];
    const int32_t *ids[SEATS];
    size_t n[SEATS], count = 0;
    for (size_t k = 0; k < l->seats; k++) {
        struct seat *s = &l->seat[k];
        if (s->taken && !s->done && (s->read < s->head || !s->score)) {
            who[count] = s;
            session[count] = s->session;
            ids[count] = s->ids;
            n[count++] = s->read < s->head ? (s->read ? s->head : s->head - 1) : s->n + s->written;
        }
    }
    plm_status st = count ? plm_sessions_sync(session, ids, n, count, err) : PLM_OK;
    for (size_t k = 0; k < count && !st; k++) {
        if (who[k]->read < who[k]->head) {
            who[k]->read = n[k];
        } else {
            st = write_token(l, who[k], err);
        }
    }
    return st;
}

/* ---- one of given texts ---- */

// A pass for all that choose: each choice with the likelihood of the whole of it, its end included, so that
// short and long ones compare.
static plm_status choose_all(struct local *l, plm_error *err) {
    plm_scoring scoring[SEATS];
    struct seat *who[SEATS];
    size_t n = 0;
    plm_status st = PLM_OK;
    for (size_t k = 0; k < l->seats && !st; k++) {
        struct seat *s = &l->seat[k];
        if (s->taken && !s->done && s->score && s->read == s->head) {
            size_t len = 0;
            st = encode(l, s, s->scored, &len, err);
            memcpy(s->ids, l->ids, st ? 0 : len * sizeof *s->ids);
            scoring[n] = (plm_scoring){s->session, s->ids, len, s->n, s->logprob};
            who[n++] = s;
        }
    }
    st = st || !n ? st : plm_score_all(scoring, n, err);
    for (size_t k = 0; k < n && !st; k++) {
        struct seat *s = who[k];
        double sum = 0;
        for (size_t at = s->n; at < scoring[k].n; at++) {
            sum += s->logprob[at - s->n];
        }
        s->a.tokens_out += (int64_t)(scoring[k].n - s->n);
        s->score[s->scored] = (struct likely){(float)sum, (int32_t)s->scored};
        s->done = ++s->scored == s->call->n_choices;
    }
    return st;
}

/* ---- the answer ---- */

// Whole characters only; what is no UTF-8 becomes U+FFFD.
static void put_text(struct bytes *out, const char *p, size_t n) {
    n = utf8_whole(p, n);
    for (size_t len; n; p += len, n -= len) {
        char c[4];
        bytes_put(out, c, utf8_put(utf8_next(p, n, &len), c));
    }
}

static plm_status put_reply(const struct local *l, const struct seat *s, struct bytes *out, plm_error *err) {
    size_t n = 0;
    plm_status st = plm_decode(l->model, s->ids + s->n, s->written, false, NULL, 0, &n, err);
    char *raw = st ? NULL : mem_alloc(n + 1, 1);
    if (raw) {
        st = plm_decode(l->model, s->ids + s->n, s->written, false, raw, n + 1, &n, err);
        put_text(out, raw, st ? 0 : n);
    }
    mem_free(raw);
    return st || raw ? st : fail(err, PLM_ENOMEM, "no memory for a reply");
}

// *out takes the text.
static plm_status answer(struct local *l, struct seat *s, plm_answer *out, plm_error *err) {
    struct bytes b;
    plm_status st = PLM_OK;
    bytes_init(&b, REPLY_MAX);
    if (s->score) {
        bytes_puts(&b, s->call->choices[draw(s->score, s->scored, s->call, 0)]);
        s->a.finish = "stop";
    } else if (!s->a.why) {
        s->a.tokens_out += (int64_t)s->written;
        st = put_reply(l, s, &b, err);
    }
    st = b.st == PLM_ENOMEM ? fail(err, PLM_ENOMEM, "no memory for a reply") : st;
    if (!st) {
        if (!s->a.why && (b.st || !b.len)) {
            end_none(s, "no text");
        }
        s->a.seconds = clock_now() - s->from;
        s->a.text = s->a.why ? mem_dupz("") : bytes_take(&b);
        st = s->a.text ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a reply");
    }
    *out = s->a;
    s->a.text = NULL;
    bytes_free(&b);
    return st;
}

/* ---- many calls ---- */

static plm_status check(const plm_call *c, plm_error *err) {
    bool odd = !(c->temperature >= 0) || !isfinite(c->temperature) || !(c->top_p >= 0 && c->top_p <= 1);
    return odd ? fail(err, PLM_EINVAL, "a call's temperature is from 0 and its top_p from 0 to 1") : PLM_OK;
}

// The guest that has calls to begin and the fewest at work; of those the one that came first.
static struct guest *who_sits(const struct local *l) {
    struct guest *best = NULL;
    for (struct guest *g = l->guests; g; g = g->after) {
        if (!g->st && g->next < g->b->n && (!best || g->seated < best->seated)) {
            best = g;
        }
    }
    return best;
}

static void stand_up(struct seat *s) {
    s->guest->seated--;
    leave_seat(s);
}

static void seat_more(struct local *l) {
    struct guest *g;
    for (size_t k = 0; k < l->seats; k++) {
        while (!l->seat[k].taken && (g = who_sits(l))) {
            size_t i = g->next++;
            g->st = check(&g->b->calls[i], g->err);
            g->st = g->st ? g->st : g->b->leaving(g->b->ctx, i, g->err);
            if (!g->st) {
                l->seat[k].guest = g;
                g->seated++;
                g->st = sit_down(l, &l->seat[k], &g->b->calls[i], i, g->err);
                if (g->st) {
                    stand_up(&l->seat[k]);
                }
            }
        }
    }
}

// A failure that ends a guest's calls at work too. What it said first stays said.
static void send_away(struct local *l, struct guest *g, plm_status st, const plm_error *why) {
    if (!g->st && g->err && why) {
        *g->err = *why;
    }
    g->st = g->st ? g->st : st;
    for (size_t k = 0; k < l->seats; k++) {
        if (l->seat[k].taken && l->seat[k].guest == g) {
            stand_up(&l->seat[k]);
        }
    }
}

static void hand_over(struct local *l) {
    for (size_t k = 0; k < l->seats; k++) {
        struct seat *s = &l->seat[k];
        struct guest *g = s->guest;
        plm_error err = {0};
        plm_answer a = {0};
        if (!s->taken || !s->done) {
            continue;
        }
        plm_status st = answer(l, s, &a, &err);
        if (!st) {
            g->used->calls++;
            g->used->tokens_in += a.tokens_in;
            g->used->tokens_out += a.tokens_out;
            st = g->b->arrived(g->b->ctx, s->i, &a, &err);
        }
        stand_up(s);
        if (st) {
            send_away(l, g, st, &err);
        }
    }
}

// What may not begin any more does not end what is at work, unless somebody wants to stop.
static void pass(struct local *l) {
    plm_error err = {0};
    seat_more(l);
    for (struct guest *g = l->guests; g; g = g->after) {
        if (g->st == PLM_ESTOPPED) {
            send_away(l, g, PLM_ESTOPPED, NULL);
        }
    }
    pthread_mutex_unlock(&l->lock);
    plm_status st = write_all(l, &err);
    st = st ? st : choose_all(l, &err);
    pthread_mutex_lock(&l->lock);
    for (struct guest *g = l->guests; g && st; g = g->after) {
        send_away(l, g, st, &err);
    }
    hand_over(l);
    pthread_cond_broadcast(&l->news);
}

static bool is_over(const struct guest *g) {
    return !g->seated && (g->st || g->next == g->b->n);
}

plm_status local_ask_all(struct local *l, const struct batch *b, plm_teacher_usage *used, plm_error *err) {
    struct guest g = {.b = b, .used = used, .err = err}, **at = &l->guests;
    pthread_mutex_lock(&l->lock);
    while (*at) {
        at = &(*at)->after;
    }
    *at = &g;
    while (!is_over(&g)) {
        if (l->driven) {
            pthread_cond_wait(&l->news, &l->lock);
            continue;
        }
        l->driven = true;
        while (!is_over(&g)) {
            pass(l);
        }
        l->driven = false;
    }
    for (at = &l->guests; *at != &g;) {
        at = &(*at)->after;
    }
    *at = g.after;
    pthread_cond_broadcast(&l->news);
    pthread_mutex_unlock(&l->lock);
    return g.st;
}
