/* example.c: one example as ids with a mask of targets. Owns what is refused (no target, nothing but targets,
 * bad ids, bad weights, targets that do not fit) and how a long one is cut: inside its longest stretch of
 * plain prompt, so that control ids, and with them the template's turns, stay whole. */
#include "train/trainer.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A cut stretch keeps its beginning (a turn's header and instruction; nothing of raw ids) and its end. */
enum { CUT_HEAD = 32, CUT_TAIL = 8, IDS_MOST = 1 << 28 };

void example_free(struct example *e) {
    mem_free(e->ids);
    mem_free(e->learn);
    mem_free(e->name);
    *e = (struct example){0};
}

uint64_t example_bytes(const struct example *e) {
    return (uint64_t)e->n * (sizeof *e->ids + sizeof *e->learn) + strlen(e->name) + 1 + sizeof *e;
}

static plm_status take_room(struct example *e, size_t n, plm_error *err) {
    if (n > IDS_MOST) {
        return fail(err, PLM_ELIMIT, "%s: %zu tokens are too many for one example", e->name, n);
    }
    e->ids = mem_alloc(n ? n : 1, sizeof *e->ids);
    e->learn = mem_zero(n ? n : 1, sizeof *e->learn);
    if (!e->ids || !e->learn) {
        return fail(err, PLM_ENOMEM, "%s: no memory for %zu tokens", e->name, n);
    }
    e->n = (int)n;
    return PLM_OK;
}

static plm_status take_ids(struct example *e, const plm_model *m, const plm_example *from, plm_error *err) {
    plm_status st = take_room(e, from->n_ids, err);
    if (st) {
        return st;
    }
    if (from->n_prompt > from->n_ids) {
        return fail(err, PLM_EINVAL, "%s: a prompt of %zu ids in an example of %zu", e->name, from->n_prompt,
                    from->n_ids);
    }
    for (int i = 0; i < e->n; i++) {
        int32_t id = from->ids[i];
        if (id < 0 || id >= m->cfg.vocab) {
            return fail(err, PLM_EINVAL, "%s: id %d is outside the vocabulary of %d", e->name, (int)id,
                        m->cfg.vocab);
        }
        e->ids[i] = id;
        e->learn[i] = (size_t)i >= from->n_prompt;
    }
    return PLM_OK;
}

static plm_status take_messages(struct example *e, const plm_model *m, const plm_example *from,
                                plm_error *err) {
    size_t n = 0;
    plm_status st = plm_chat_encode(m, from->messages, from->n_messages, NULL, NULL, 0, &n, err);
    if (st) {
        return fail_in(err, st, e->name);
    }
    st = take_room(e, n, err);
    if (st) {
        return st;
    }
    st = plm_chat_encode(m, from->messages, from->n_messages, e->ids, e->learn, n, &n, err);
    return st ? fail_in(err, st, e->name) : PLM_OK;
}

/* The longest stretch of ids that are neither targets nor control ids. */
static int longest_plain(const struct example *e, const struct vocab *v, int *from) {
    int best = 0, run = 0;
    for (int i = 0; i < e->n; i++) {
        run = e->learn[i] || vocab_is_control(v, e->ids[i]) ? 0 : run + 1;
        if (run > best) {
            best = run;
            *from = i + 1 - run;
        }
    }
    return best;
}

static bool cut_to(struct example *e, const struct vocab *v, int most, int head) {
    while (e->n > most) {
        int from = 0, run = longest_plain(e, v, &from);
        int kept = run / 4 < head ? run / 4 : head;
        int spare = run - kept - CUT_TAIL;
        if (spare <= 0) {
            return false;
        }
        int gone = e->n - most < spare ? e->n - most : spare;
        int at = from + kept;
        size_t rest = (size_t)(e->n - at - gone);
        memmove(e->ids + at, e->ids + at + gone, rest * sizeof *e->ids);
        memmove(e->learn + at, e->learn + at + gone, rest * sizeof *e->learn);
        e->n -= gone;
    }
    return true;
}

static plm_status check_mask(struct example *e, plm_error *err) {
    int end = 0;
    for (int i = 0; i < e->n; i++) {
        if (e->learn[i]) {
            e->learn[i] = 1;
            e->targets++;
            end = i + 1;
        }
    }
    if (e->targets == 0) {
        return fail(err, PLM_EINVAL, "%s: nothing to learn, no token of it is an answer", e->name);
    }
    if (e->targets == e->n || e->learn[0]) {
        return fail(err, PLM_EINVAL, "%s: no prompt stands before its answer", e->name);
    }
    e->n = end;
    return PLM_OK;
}

static plm_status fit(struct example *e, const plm_model *m, int most, int head, bool refuse_long, bool *cut,
                      plm_error *err) {
    int whole = e->n;
    *cut = whole > most;
    if (!*cut) {
        return PLM_OK;
    }
    if (refuse_long) {
        return fail(err, PLM_ELIMIT, "%s: %d tokens, over the limit of %d", e->name, whole, most);
    }
    if (e->targets >= most) {
        return fail(err, PLM_ELIMIT,
                    "%s: its answer has %d tokens and is never cut, but the limit with its prompt is %d",
                    e->name, e->targets, most);
    }
    if (!cut_to(e, m->vocab, most, head)) {
        return fail(err, PLM_ELIMIT,
                    "%s: %d tokens, over the limit of %d, and too few of them are prompt to be cut", e->name,
                    whole, most);
    }
    return PLM_OK;
}

plm_status example_make(struct example *e, const plm_model *m, const plm_example *from, size_t number,
                        int max_tokens, bool refuse_long, bool *cut, plm_error *err) {
    *e = (struct example){.weight = from->weight == 0 ? 1 : from->weight,
                          .synthetic = from->synthetic,
                          .validation = from->validation};
    char numbered[40];
    snprintf(numbered, sizeof numbered, "example %zu", number + 1);
    e->name = mem_dupz(from->name ? from->name : numbered);
    if (!e->name) {
        return fail(err, PLM_ENOMEM, "no memory for %s", numbered);
    }
    plm_status st = PLM_OK;
    bool messages = from->messages && from->n_messages;
    if (!isfinite(e->weight) || e->weight < 0) {
        st = fail(err, PLM_EINVAL, "%s: a weight of %g; it must be positive", e->name, (double)e->weight);
    } else if (messages == (from->ids && from->n_ids)) {
        st = fail(err, PLM_EINVAL, "%s: an example is either messages or ids", e->name);
    } else if (messages) {
        st = take_messages(e, m, from, err);
    } else {
        st = take_ids(e, m, from, err);
    }
    if (!st) {
        st = check_mask(e, err);
    }
    if (!st) {
        st = fit(e, m, max_tokens, messages ? CUT_HEAD : 0, refuse_long, cut, err);
    }
    if (st) {
        example_free(e);
    }
    return st;
}
