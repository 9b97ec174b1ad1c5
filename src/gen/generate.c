/* generate.c: continues a conversation token by token and hands out text as it becomes certain: whole
 * characters only, always valid UTF-8, and nothing that may still turn out to begin a stop text. */
#include <string.h>
#include "gen/session.h"

enum { MAX_TOKENS = 256, STOP_MAX = 4096 };
static const plm_generate_options defaults;

/* Text on its way out. */
struct stream {
    const char *const *stop;
    size_t n_stop;
    char part[8]; /* the beginning of a character */
    size_t n_part;
    struct bytes held; /* text not handed out yet; its first `sure` bytes may go now */
    size_t sure;
    bool stopped; /* a stop text was found: what follows `sure` never goes out */
};

static void put_characters(struct bytes *out, const char *p, size_t n) {
    for (size_t len; n; p += len, n -= len) {
        char c[4];
        bytes_put(out, c, utf8_put(utf8_next(p, n, &len), c)); /* what is no UTF-8 becomes U+FFFD */
    }
}

static void stream_bytes(struct stream *t, struct str s) {
    while (s.n) {
        size_t room = sizeof t->part - t->n_part, more = room < s.n ? room : s.n;
        memcpy(t->part + t->n_part, s.p, more);
        t->n_part += more;
        s.p += more;
        s.n -= more;
        size_t whole = utf8_whole(t->part, t->n_part);
        put_characters(&t->held, t->part, whole);
        t->n_part -= whole;
        memmove(t->part, t->part + whole, t->n_part);
    }
}

/* The place of the earliest stop text in held, SIZE_MAX: none. */
static size_t find_stop(const struct stream *t) {
    size_t first = SIZE_MAX;
    for (size_t i = 0; i < t->n_stop; i++) {
        const char *at = memmem(t->held.data, t->held.len, t->stop[i], strlen(t->stop[i]));
        if (at && (size_t)(at - t->held.data) < first) {
            first = (size_t)(at - t->held.data);
        }
    }
    return first;
}

/* Length of held's longest end that begins a stop text. */
static size_t may_stop(const struct stream *t) {
    size_t longest = 0;
    for (size_t i = 0; i < t->n_stop; i++) {
        size_t most = strlen(t->stop[i]) - 1;
        for (size_t n = most < t->held.len ? most : t->held.len; n > longest; n--) {
            if (!memcmp(t->held.data + t->held.len - n, t->stop[i], n)) {
                longest = n;
            }
        }
    }
    return longest;
}

/* Adds a token's bytes and decides what may go out; last: nothing will follow, and a character that
 * was only begun is left out. */
static void stream_token(struct stream *t, struct str s, bool last) {
    memmove(t->held.data, t->held.data + t->sure, t->held.len - t->sure);
    t->held.len -= t->sure;
    stream_bytes(t, s);
    size_t stop = find_stop(t);
    t->stopped = stop != SIZE_MAX;
    t->sure = t->stopped ? stop : last ? t->held.len : t->held.len - may_stop(t);
}

static plm_status check(const plm_session *s, const int32_t *ids, size_t n, const plm_generate_options *opt,
                        plm_error *err) {
    if (!s || !ids || !n) {
        return fail(err, PLM_EINVAL, "plm_generate needs a session and at least one token");
    }
    if (n > (size_t)s->kv.context) {
        return fail(err, PLM_ELIMIT, "%zu tokens do not fit into a context of %d", n, s->kv.context);
    }
    if (opt->max_tokens < 0 || (!opt->stop && opt->n_stop)) {
        return fail(err, PLM_EINVAL, "plm_generate: at most %d tokens, or no stop texts", opt->max_tokens);
    }
    for (size_t i = 0; i < opt->n_stop; i++) {
        if (!opt->stop[i] || !*opt->stop[i] || strlen(opt->stop[i]) > STOP_MAX) {
            return fail(err, PLM_EINVAL, "stop text %zu is empty or longer than %d bytes", i + 1, STOP_MAX);
        }
    }
    if ((int)opt->lookup < PLM_LOOKUP_AUTO || opt->lookup > PLM_LOOKUP_OFF || (!opt->texts && opt->n_texts)) {
        return fail(err, PLM_EINVAL, "plm_generate: no such lookup, or no texts for it");
    }
    for (size_t i = 0; i < opt->n_texts; i++) {
        if (!opt->texts[i]) {
            return fail(err, PLM_EINVAL, "text %zu to look up is not there", i + 1);
        }
    }
    if (opt->lookup == PLM_LOOKUP_ON && opt->sampling.temperature > 0) {
        return fail(err, PLM_EINVAL, "lookup guesses greedy answers: it can't be on with a temperature");
    }
    plm_status st = sampling_check(&opt->sampling, err);
    return st ? st : session_check_ids(s, ids, n, err);
}

struct run {
    plm_session *s;
    const plm_generate_options *opt;
    plm_token_fn on_token;
    void *ctx;
    struct stream text;
    plm_generation *report;
    double start;
    int most;   /* tokens that may be written */
    int32_t id; /* the last one written */
    struct lookup *lookup;
    int guessed, right; /* of the guesses in hand */
};

/* Samples one token and hands its text out. *done: nothing follows; report->finish says why. */
static plm_status write_token(struct run *r, bool *done, plm_error *err) {
    const plm_model *m = r->s->m;
    int32_t id = r->id = plm_session_sample(r->s, &r->opt->sampling);
    if (id < 0) {
        return fail(err, PLM_EFORMAT, "the model's output is not a number: the file is damaged");
    }
    if (!r->report->n_new++) {
        r->report->first_token_s = clock_now() - r->start;
    }
    bool end = vocab_is_end(m->vocab, id), full = r->report->n_new >= (size_t)r->most;
    char tmp[8];
    stream_token(&r->text, vocab_bytes(m->vocab, id, false, tmp), end || full);
    plm_status st = bytes_status(&r->text.held, "the answer", err);
    if (st) {
        return st;
    }
    *done = end || full || r->text.stopped;
    r->report->finish = r->text.stopped ? PLM_FINISH_STOP : end ? PLM_FINISH_END : PLM_FINISH_LENGTH;
    if (r->on_token && r->on_token(r->ctx, id, r->text.held.data, r->text.sure)) {
        r->report->finish = PLM_FINISH_CALLER;
        return fail(err, PLM_ESTOPPED, "stopped by the caller");
    }
    return PLM_OK;
}

/* What was guessed is now known. */
static void settle(struct run *r) {
    if (r->guessed) {
        lookup_learned(r->lookup, r->guessed, r->right);
        r->report->accepted += (size_t)r->right;
    }
    r->guessed = r->right = 0;
}

/* Appends the token just written, which may have been computed ahead. */
static plm_status go_on(struct run *r, plm_error *err) {
    if (!r->lookup) {
        return session_append(r->s, &r->id, 1, err);
    }
    if (session_take_drafted(r->s, r->id)) {
        r->right++;
        return PLM_OK;
    }
    settle(r);
    int32_t guess[DRAFT];
    int n = lookup_guess(r->lookup, r->s, r->id, r->most - (int)r->report->n_new - 1, guess);
    double from = clock_now();
    plm_status st =
        n ? session_append_drafted(r->s, r->id, guess, n, err) : session_append(r->s, &r->id, 1, err);
    lookup_timed(r->lookup, 1 + n, clock_now() - from);
    r->guessed = n;
    r->report->drafted += (size_t)n;
    return st;
}

static void run_open(struct run *r, plm_session *s, size_t n, const plm_generate_options *opt,
                     plm_token_fn on_token, void *ctx, plm_generation *report) {
    *report = (plm_generation){.n_prompt = n};
    *r = (struct run){
        .s = s, .opt = opt, .on_token = on_token, .ctx = ctx, .report = report, .start = clock_now()};
    r->text = (struct stream){.stop = opt->stop, .n_stop = opt->n_stop};
    bytes_init(&r->text.held, INT32_MAX);
    int room = s->kv.context - (int)n + 1; /* the last token needs no place */
    r->most = opt->max_tokens ? opt->max_tokens : MAX_TOKENS;
    r->most = r->most < room ? r->most : room;
}

plm_status plm_generate(plm_session *s, const int32_t *ids, size_t n, const plm_generate_options *opt,
                        plm_token_fn on_token, void *ctx, plm_generation *report, plm_error *err) {
    opt = opt ? opt : &defaults;
    plm_status st = check(s, ids, n, opt, err);
    if (st) {
        return st;
    }
    plm_generation own, *out = report ? report : &own;
    struct run r;
    int held = 0;
    run_open(&r, s, n, opt, on_token, ctx, out);
    st = lookup_open(&r.lookup, s, opt, err);
    st = st ? st : session_reach(s, ids, (int)n, &held, err);
    out->n_cached = (size_t)held;
    out->prefill_s = clock_now() - r.start;
    for (bool done = false; !done && !st;) {
        st = write_token(&r, &done, err);
        st = st || done ? st : go_on(&r, err);
    }
    if (r.lookup) {
        settle(&r);
    }
    out->decode_s = clock_now() - r.start - out->prefill_s;
    lookup_close(r.lookup);
    bytes_free(&r.text.held);
    return st;
}

/* ---- several at once ---- */

static plm_status check_all(plm_request *q, size_t n, plm_error *err) {
    plm_session *sessions[PLM_MAX_SESSIONS] = {NULL};
    if (n > PLM_MAX_SESSIONS) {
        return fail(err, PLM_ELIMIT, "%zu answers at once, at most %d", n, PLM_MAX_SESSIONS);
    }
    plm_status st = PLM_OK;
    for (size_t i = 0; i < n && !st; i++) {
        sessions[i] = q[i].session;
        st = check(q[i].session, q[i].ids, q[i].n, q[i].options ? q[i].options : &defaults, err);
    }
    return st ? st : sessions_check(sessions, n, err);
}

static plm_status prefill_all(const plm_request *q, struct run *r, size_t n, plm_error *err) {
    plm_session *sessions[PLM_MAX_SESSIONS] = {NULL};
    const int32_t *ids[PLM_MAX_SESSIONS];
    size_t len[PLM_MAX_SESSIONS];
    for (size_t i = 0; i < n; i++) {
        sessions[i] = q[i].session;
        ids[i] = q[i].ids;
        len[i] = q[i].n;
        int most = q[i].session->kv.n < (int)q[i].n ? q[i].session->kv.n : (int)q[i].n, same = 0;
        while (same < most && q[i].session->ids[same] == q[i].ids[same]) {
            same++;
        }
        bool all = same == (int)q[i].n && !(q[i].session->ready && q[i].session->kv.n == same);
        r[i].report->n_cached = (size_t)(all ? same - 1 : same);
    }
    plm_status st = plm_sessions_sync(sessions, ids, len, n, err);
    for (size_t i = 0; i < n; i++) {
        r[i].report->prefill_s = clock_now() - r[i].start;
    }
    return st;
}

/* A token of each that goes on; *left: how many do. */
static plm_status step_all(struct run *r, bool *done, size_t n, int *left, plm_error *err) {
    struct growth g[PLM_MAX_SESSIONS];
    plm_status st = PLM_OK;
    *left = 0;
    for (size_t i = 0; i < n && !st; i++) {
        if (done[i]) {
            continue;
        }
        st = write_token(&r[i], &done[i], err);
        if (st == PLM_ESTOPPED) {
            done[i] = true;
            st = PLM_OK;
        }
        if (done[i]) {
            r[i].report->decode_s = clock_now() - r[i].start - r[i].report->prefill_s;
        } else {
            g[(*left)++] = (struct growth){.s = r[i].s, .ids = &r[i].id, .n = 1};
        }
    }
    return st || !*left ? st : sessions_append(g, *left, err);
}

plm_status plm_generate_all(plm_request *requests, size_t n, plm_error *err) {
    if (!requests && n) {
        return fail(err, PLM_EINVAL, "plm_generate_all needs requests");
    }
    plm_status st = check_all(requests, n, err);
    if (st || !n) {
        return st;
    }
    struct run r[PLM_MAX_SESSIONS];
    bool done[PLM_MAX_SESSIONS] = {false};
    for (size_t i = 0; i < n; i++) {
        plm_request *q = &requests[i];
        run_open(&r[i], q->session, q->n, q->options ? q->options : &defaults, q->on_token, q->ctx,
                 &q->report);
    }
    st = prefill_all(requests, r, n, err);
    for (int left = 1; left && !st;) {
        st = step_all(r, done, n, &left, err);
    }
    for (size_t i = 0; i < n; i++) {
        bytes_free(&r[i].text.held);
    }
    return st;
}
