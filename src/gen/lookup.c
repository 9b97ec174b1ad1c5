/* lookup.c: guesses what comes next from where the last tokens stood before: in the conversation itself, or
 * in texts that the caller gave. How many guesses a step takes is chosen by what they have been worth: the
 * share that was right against the time of a longer step. That choice changes the time of an answer, never
 * the answer. */
#include <math.h>
#include <string.h>
#include "gen/session.h"

enum { LONGEST = 4, SHORTEST = 2, MOST_IDS = 1 << 18, PROBE = 24 };

struct lookup {
    int32_t *ids; /* of all texts, -1 between them */
    size_t n;
    bool always;
    double right, guessed;     /* fading counts, with what is believed at first */
    double seconds[2 + DRAFT]; /* of steps by their rows; 0: not yet known */
    int idle;                  /* tokens since the last guess that was held back */
};

static const double FIRST_RIGHT = 1.4, FIRST_GUESSED = 2, FADE = .97, SLOPE = .6;

static plm_status add_text(struct lookup *l, const plm_model *m, const char *text, plm_error *err) {
    size_t n = 0, len = strlen(text);
    plm_status st = plm_encode(m, text, len, false, NULL, 0, &n, err);
    if (st && st != PLM_ELIMIT) {
        return st;
    }
    if (l->n + n + 1 > MOST_IDS) {
        return PLM_OK; /* the first ones will do */
    }
    int32_t *more = mem_grow(l->ids, l->n + n + 1, sizeof *more);
    if (!more) {
        return fail(err, PLM_ENOMEM, "no memory for texts to look up");
    }
    l->ids = more;
    st = plm_encode(m, text, len, false, more + l->n, n, &n, err);
    if (!st) {
        l->n += n;
        l->ids[l->n++] = -1;
    }
    return st;
}

plm_status lookup_open(struct lookup **out, const plm_session *s, const plm_generate_options *opt,
                       plm_error *err) {
    *out = NULL;
    if (opt->lookup == PLM_LOOKUP_OFF || (opt->lookup == PLM_LOOKUP_AUTO && opt->sampling.temperature > 0)) {
        return PLM_OK;
    }
    struct lookup *l = mem_zero(1, sizeof *l);
    if (!l) {
        return fail(err, PLM_ENOMEM, "no memory for texts to look up");
    }
    *l = (struct lookup){
        .always = opt->lookup == PLM_LOOKUP_ON, .right = FIRST_RIGHT, .guessed = FIRST_GUESSED};
    plm_status st = PLM_OK;
    for (size_t i = 0; i < opt->n_texts && !st; i++) {
        st = add_text(l, s->m, opt->texts[i], err);
    }
    if (st) {
        lookup_close(l);
        return st;
    }
    *out = l;
    return PLM_OK;
}

void lookup_close(struct lookup *l) {
    if (l) {
        mem_free(l->ids);
        mem_free(l);
    }
}

/* Where the last n tokens of tail stand in ids for the last time with something behind them: the place
 * behind. */
static size_t find_last(const int32_t *ids, size_t n_ids, const int32_t *tail, size_t n) {
    for (size_t at = n_ids; at-- > n;) {
        if (ids[at - 1] == tail[n - 1] && !memcmp(ids + at - n, tail, n * sizeof *ids)) {
            return at;
        }
    }
    return 0;
}

/* How many guesses give the most tokens a second, by what was seen so far. */
static int worth(const struct lookup *l, int most) {
    double p = l->right / l->guessed, one = l->seconds[1], slope = SLOPE, gain = 1, power = 1;
    int best = 0;
    double rate = 1;
    for (int k = 1; k <= most; k++) {
        if (one > 0 && l->seconds[1 + k] > 0) {
            slope = fmax(l->seconds[1 + k] / one - 1, 0) / k;
        }
        power *= p;
        gain += power;
        if (gain / (1 + slope * k) > rate) {
            rate = gain / (1 + slope * k);
            best = k;
        }
    }
    return best;
}

int lookup_guess(struct lookup *l, const plm_session *s, int32_t id, int most, int32_t *guess) {
    int held = s->kv.n, n = 0;
    most = most < DRAFT ? most : DRAFT;
    most = most < s->kv.context - held - 1 ? most : s->kv.context - held - 1;
    if (!l || most < 1 || held < LONGEST) {
        return 0;
    }
    if (!l->always) {
        int k = worth(l, most);
        l->idle = k ? 0 : l->idle + 1;
        most = k ? k : l->idle % PROBE == 0 ? 1 : 0; /* now and then a look whether times have changed */
    }
    int32_t tail[LONGEST];
    memcpy(tail, s->ids + held - (LONGEST - 1), (LONGEST - 1) * sizeof *tail);
    tail[LONGEST - 1] = id;
    for (size_t len = LONGEST; most && !n && len >= SHORTEST; len--) {
        const int32_t *own = s->ids, *last = tail + LONGEST - len;
        size_t at = find_last(own, (size_t)held, last, len), end = (size_t)held;
        if (!at) {
            own = l->ids;
            end = l->n;
            at = find_last(own, end, last, len);
        }
        for (; at && at < end && n < most && own[at] >= 0; at++) {
            guess[n++] = own[at];
        }
    }
    return n;
}

void lookup_timed(struct lookup *l, int rows, double seconds) {
    double *t = &l->seconds[rows];
    *t = *t > 0 ? fmin(seconds, .9 * *t + .1 * seconds) : seconds; /* the best, slowly forgotten */
}

void lookup_learned(struct lookup *l, int guessed, int right) {
    l->right = FADE * l->right + right + (1 - FADE) * FIRST_RIGHT;
    l->guessed = FADE * l->guessed + right + (right < guessed) + (1 - FADE) * FIRST_GUESSED;
}
