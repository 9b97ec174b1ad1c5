/* draft.c: the request: which records are shown, which are to be rewritten, how many examples of each mode
 * are wanted. What it writes is exactly what may leave the device: nothing of an excluded or local-only
 * record, no secret that secrets.c can find, no name of the user. */
#include "augment/inside.h"

#include <stdio.h>
#include <string.h>

enum {
    EXEMPLARS_MAX = 12,
    TOPICS_MAX = 12,
    RECORD_TEXT_MAX = 8 << 10,
    REWRITES_MAX = 512,
    WANTED_MAX = 1024,
    OVER_ASK = 2
};

struct draft {
    const plm_augment_policy *p;
    struct reals reals;
    size_t *use, n_use;     /* what may be shown, oldest first: indices into reals */
    size_t *fresh, n_fresh; /* of them, what is asked about */
    size_t *shown, n_shown; /* exemplars */
    size_t *rewrite, n_rewrite;
    size_t *numbered, n_numbered; /* record number i + 1 */
    struct redactor redactor;
    char **texts; /* redacted: input and output of each numbered record */
    struct wire_request q;
    char *summary, **topics;
    char user[32];
};

static const struct real *real_at(const struct draft *d, size_t i) {
    return &d->reals.r[i];
}

static bool fits(const struct real *r) {
    return strlen(r->input) <= RECORD_TEXT_MAX && strlen(r->output) <= RECORD_TEXT_MAX;
}

static plm_status choose_usable(struct draft *d, plm_error *err) {
    size_t n = d->reals.n;
    d->use = mem_alloc(n + 1, sizeof(size_t));
    d->fresh = mem_alloc(n + 1, sizeof(size_t));
    d->rewrite = mem_alloc(n + 1, sizeof(size_t));
    d->numbered = mem_alloc(n + 1, sizeof(size_t));
    d->shown = mem_alloc(n + EXEMPLARS_MAX + 1, sizeof(size_t));
    if (!d->use || !d->fresh || !d->rewrite || !d->numbered || !d->shown) {
        return fail(err, PLM_ENOMEM, "no memory for a request");
    }
    for (size_t i = 0; i < n; i++) {
        const struct real *r = real_at(d, i);
        if ((!r->local_only || d->p->unredacted) && fits(r)) {
            d->use[d->n_use++] = i;
            if (r->id > d->p->newer_than) {
                d->fresh[d->n_fresh++] = i;
            }
        }
    }
    if (!d->n_use) {
        return fail(err, PLM_ENOTFOUND, "%s has no %s records that may be shown to a teacher", d->p->user,
                    d->p->kind->name);
    }
    return d->n_fresh ? PLM_OK
                      : fail(err, PLM_ENOTFOUND, "%s has no new %s records to ask about", d->p->user,
                             d->p->kind->name);
}

/* ---- exemplars: the newest, and those farthest from what is chosen ---- */

static bool chosen(const struct draft *d, size_t i) {
    for (size_t k = 0; k < d->n_shown; k++) {
        if (d->shown[k] == i) {
            return true;
        }
    }
    return false;
}

// Each label that the person has given stands among the exemplars, in the place of the last pick that can go.
static void cover_labels(struct draft *d, size_t max) {
    const plm_kind *kind = d->p->kind;
    for (size_t label = 0; label < kind->n_labels; label++) {
        size_t newest = SIZE_MAX;
        bool there = false;
        for (size_t k = 0; k < d->n_use; k++) {
            if (plm_kind_label(kind, real_at(d, d->use[k])->output) == (int)label) {
                newest = d->use[k];
                there = there || chosen(d, newest);
            }
        }
        if (there || newest == SIZE_MAX) {
            continue;
        }
        if (d->n_shown < max) {
            d->shown[d->n_shown++] = newest;
            continue;
        }
        for (size_t k = d->n_shown; k-- > 0;) {
            int mine = plm_kind_label(kind, real_at(d, d->shown[k])->output), same = 0;
            for (size_t j = 0; j < d->n_shown; j++) {
                same += plm_kind_label(kind, real_at(d, d->shown[j])->output) == mine;
            }
            if (same > 1) {
                d->shown[k] = newest;
                break;
            }
        }
    }
}

static void choose_farthest(struct draft *d, const struct tfidf *t, size_t max) {
    while (d->n_shown < max) {
        size_t best = SIZE_MAX;
        double best_far = -1;
        for (size_t k = 0; k < d->n_use; k++) {
            double near = 0;
            for (size_t j = 0; j < d->n_shown; j++) {
                double c = tfidf_cosine(t, d->use[k], d->shown[j]);
                near = c > near ? c : near;
            }
            if (!chosen(d, d->use[k]) && 1 - near > best_far) {
                best = d->use[k];
                best_far = 1 - near;
            }
        }
        if (best == SIZE_MAX) {
            return;
        }
        d->shown[d->n_shown++] = best;
    }
}

static plm_status choose_exemplars(struct draft *d, plm_error *err) {
    size_t n = d->reals.n, max = d->n_use < EXEMPLARS_MAX ? d->n_use : EXEMPLARS_MAX;
    struct words *docs = mem_zero(n + 1, sizeof *docs);
    struct tfidf *t = NULL;
    plm_status st = docs ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a request");
    for (size_t i = 0; i < n && !st; i++) {
        const struct real *r = real_at(d, i);
        const char *text = *r->input ? r->input : r->output;
        st = words_split(&docs[i], text, strlen(text), WORDS_UNICODE, err);
    }
    if (!st) {
        st = tfidf_open(&t, docs, n, err);
    }
    if (!st) {
        for (size_t k = 0; k < (max + 1) / 2; k++) {
            d->shown[d->n_shown++] = d->use[d->n_use - 1 - k];
        }
        choose_farthest(d, t, max);
        cover_labels(d, max);
    }
    tfidf_close(t);
    for (size_t i = 0; docs && i < n; i++) {
        words_free(&docs[i]);
    }
    mem_free(docs);
    return st;
}

/* ---- how many of what ---- */

static size_t mode_slot(unsigned mode) {
    size_t i = 0;
    while (mode_at(i) != mode) {
        i++;
    }
    return i;
}

static plm_status share_modes(struct draft *d, int wanted, plm_error *err) {
    const plm_augment_policy *p = d->p;
    unsigned modes = p->kind->modes & (unsigned)~(p->kind->labels ? PLM_MODE_NEW : PLM_MODE_LABEL);
    modes &= p->summary_only ? ~(unsigned)PLM_MODE_PAIR : ~0u;
    unsigned keep = PLM_MODE_REVERSE | PLM_MODE_REWRITE;
    bool inputs = false;
    for (size_t k = 0; k < d->n_fresh; k++) {
        inputs = inputs || *real_at(d, d->fresh[k])->input;
    }
    modes &= p->summary_only ? ~keep : ~0u;
    modes &= inputs ? ~0u : ~(unsigned)PLM_MODE_REWRITE;
    // What a small teacher invents is neither new nor like the person; what it rewrites keeps the real
    // output.
    modes &= p->unredacted && !p->capable && modes & keep ? keep : ~0u;
    if (!modes) {
        return fail(err, PLM_ENOTSUP,
                    p->summary_only ? "records of the kind %s can only be rewritten, which a summary "
                                      "alone does not allow"
                                    : "the kind %s names no way of making new examples",
                    p->kind->name);
    }
    int rewriting = modes & keep ? (modes & ~keep ? (wanted * 6 + 5) / 10 : wanted) : 0;
    int inventing = wanted - rewriting;
    bool both = (modes & keep) == keep;
    if (modes & PLM_MODE_REWRITE) {
        d->q.want[mode_slot(PLM_MODE_REWRITE)] = both ? (rewriting + 1) / 2 : rewriting;
    }
    if (modes & PLM_MODE_REVERSE) {
        d->q.want[mode_slot(PLM_MODE_REVERSE)] = both ? rewriting / 2 : rewriting;
    }
    if (modes & ~keep) {
        d->q.want[mode_slot(modes & PLM_MODE_PAIR    ? PLM_MODE_PAIR
                            : modes & PLM_MODE_LABEL ? PLM_MODE_LABEL
                                                     : PLM_MODE_NEW)] = inventing;
    }
    return PLM_OK;
}

// As many different records as can be used; a seeded choice where there are more.
static plm_status choose_rewrites(struct draft *d, plm_error *err) {
    int rewriting = d->q.want[mode_slot(PLM_MODE_REWRITE)] + d->q.want[mode_slot(PLM_MODE_REVERSE)];
    int pairs = d->q.want[mode_slot(PLM_MODE_PAIR)];
    bool need_input = d->q.want[mode_slot(PLM_MODE_REWRITE)] > 0;
    struct pair found;
    rewriting += pairs;
    size_t max = (size_t)rewriting * OVER_ASK, n = 0;
    max = max < REWRITES_MAX ? max : REWRITES_MAX;
    size_t *order = mem_alloc(d->n_fresh + 1, sizeof *order);
    if (!order) {
        return fail(err, PLM_ENOMEM, "no memory for a request");
    }
    for (size_t k = 0; k < d->n_fresh; k++) {
        const char *input = real_at(d, d->fresh[k])->input;
        if ((*input || !need_input) && (!pairs || pair_read(d->p->kind->pair, input, &found))) {
            order[n++] = d->fresh[k];
        }
    }
    struct rng r;
    rng_seed(&r, d->p->seed, 3);
    rng_shuffle(&r, order, n);
    for (size_t k = 0; k < n && k < max; k++) {
        d->rewrite[d->n_rewrite++] = order[k];
    }
    mem_free(order);
    return !pairs || d->n_rewrite ? PLM_OK
                                  : fail(err, PLM_ENOTFOUND,
                                         "no %s record is worded like its kind's \"pair\"", d->p->kind->name);
}

/* ---- putting it together ---- */

static bool in_list(const size_t *v, size_t n, size_t x) {
    for (size_t i = 0; i < n; i++) {
        if (v[i] == x) {
            return true;
        }
    }
    return false;
}

static int number_of(const struct draft *d, size_t real) {
    for (size_t i = 0; i < d->n_numbered; i++) {
        if (d->numbered[i] == real) {
            return (int)i + 1;
        }
    }
    return 0;
}

static plm_status write_records(struct draft *d, plm_error *err) {
    for (size_t k = 0; k < d->n_use; k++) {
        size_t i = d->use[k];
        if (in_list(d->shown, d->n_shown, i) || in_list(d->rewrite, d->n_rewrite, i)) {
            d->numbered[d->n_numbered++] = i;
        }
    }
    size_t n = d->n_numbered;
    d->texts = mem_zero(2 * n + 1, sizeof *d->texts);
    d->q.records = mem_zero(n + 1, sizeof *d->q.records);
    d->q.exemplars = mem_zero(n + 1, sizeof(int));
    d->q.rewrite = mem_zero(n + 1, sizeof(int));
    if (!d->texts || !d->q.records || !d->q.exemplars || !d->q.rewrite) {
        return fail(err, PLM_ENOMEM, "no memory for a request");
    }
    for (size_t i = 0; i < n; i++) {
        const struct real *r = real_at(d, d->numbered[i]);
        for (int side = 0; side < 2; side++) {
            const char *text = side ? r->output : r->input;
            char **to = &d->texts[2 * i + (size_t)side];
            plm_status st = PLM_OK;
            if (!d->p->unredacted) {
                st = redact_text(&d->redactor, r->id, side, text, to, err);
            } else if (!(*to = mem_dupz(text))) {
                st = fail(err, PLM_ENOMEM, "no memory for a request");
            }
            if (st) {
                return st;
            }
        }
        d->q.records[i] = (struct wire_record){d->texts[2 * i], d->texts[2 * i + 1]};
    }
    d->q.n_records = n;
    for (size_t k = 0; k < d->n_shown; k++) {
        d->q.exemplars[d->q.n_exemplars++] = number_of(d, d->shown[k]);
    }
    for (size_t k = 0; k < d->n_rewrite; k++) {
        d->q.rewrite[d->q.n_rewrite++] = number_of(d, d->rewrite[k]);
    }
    return PLM_OK;
}

static plm_status write_labels(struct draft *d, plm_error *err) {
    const plm_kind *kind = d->p->kind;
    size_t n = kind->labels ? kind->n_labels : 0;
    d->q.labels = mem_zero(n + 1, sizeof *d->q.labels);
    d->q.label_counts = mem_zero(n + 1, sizeof(int));
    if (!d->q.labels || !d->q.label_counts) {
        return fail(err, PLM_ENOMEM, "no memory for a request");
    }
    for (size_t i = 0; i < n; i++) {
        d->q.labels[i] = kind->labels[i];
    }
    d->q.n_labels = n;
    for (size_t k = 0; n && k < d->n_use; k++) {
        d->q.label_counts[plm_kind_label(kind, real_at(d, d->use[k])->output)]++;
    }
    return PLM_OK;
}

// Ranges and topics are of everything that may be shown; topics of what is shown are read off redacted text.
static plm_status write_statistics(struct draft *d, plm_error *err) {
    size_t n = d->n_use;
    const char **texts = mem_zero(n + d->n_numbered + 1, sizeof *texts);
    if (!texts) {
        return fail(err, PLM_ENOMEM, "no memory for a request");
    }
    for (size_t k = 0; k < n; k++) {
        texts[k] = real_at(d, d->use[k])->output;
    }
    d->q.output_words = range_of(texts, n);
    for (size_t k = 0; k < n; k++) {
        texts[k] = real_at(d, d->use[k])->input;
    }
    d->q.input_words = range_of(texts, n);
    if (d->q.input_words.p95 == 0) {
        d->q.input_words = d->q.output_words; // records without inputs: a neutral wording is about as long
    }
    size_t n_texts = n;
    if (!d->p->summary_only) {
        n_texts = d->n_numbered;
        for (size_t i = 0; i < n_texts; i++) {
            texts[i] = *d->texts[2 * i] ? d->texts[2 * i] : d->texts[2 * i + 1];
        }
    }
    if (d->p->epsilon > 0) { // words and shares count records too, and without noise
        d->summary = mem_dupz("");
        mem_free(texts);
        return d->summary ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a request");
    }
    plm_status st =
        topics_find(texts, n_texts, d->p->summary_only, TOPICS_MAX, &d->topics, &d->q.n_topics, err);
    if (!st) {
        st = style_summary(d->p->kind, &d->reals, d->use, n, &d->summary, err);
    }
    mem_free(texts);
    return st;
}

static plm_status draft(struct draft *d, plm_store *store, char **request, plm_error *err) {
    const plm_augment_policy *p = d->p;
    plm_status st = reals_load(&d->reals, store, p, err);
    if (!st) {
        st = choose_usable(d, err);
    }
    if (!st) {
        int wanted = p->wanted ? p->wanted : amount_wanted(d->n_use, d->n_fresh, p->newer_than == 0);
        st = share_modes(d, wanted < WANTED_MAX ? wanted : WANTED_MAX, err);
    }
    if (!st && !p->summary_only) {
        st = choose_exemplars(d, err);
        st = st ? st : choose_rewrites(d, err);
        st = st ? st : write_records(d, err);
    }
    st = st ? st : write_labels(d, err);
    st = st || !(p->epsilon > 0) ? st : noise_counts(store, p, d->q.label_counts, d->q.n_labels, err);
    st = st ? st : write_statistics(d, err);
    if (st) {
        return st;
    }
    struct rng r;
    rng_seed(&r, p->seed, 1);
    d->q.seed = rng_next(&r) >> 11;
    snprintf(d->user, sizeof d->user, "u%016llx", (unsigned long long)rng_next(&r));
    d->q.user = d->user;
    d->q.kind = p->kind->name;
    d->q.task = p->kind->task;
    d->q.instruction = p->kind->instruction;
    d->q.summary = d->summary;
    d->q.topics = (const char **)d->topics;
    d->q.summary_only = p->summary_only;
    d->q.single = p->unredacted && !p->capable;
    d->q.hint = p->kind->hint;
    d->q.aspects = (const char **)p->kind->aspects;
    d->q.n_aspects = p->kind->n_aspects;
    d->q.checks = p->kind->checks;
    d->q.pair = d->q.want[mode_slot(PLM_MODE_PAIR)] ? p->kind->pair : NULL;
    // What a small teacher would judge says little, and three calls for each example are many on a device.
    d->q.judge = d->q.want[mode_slot(PLM_MODE_LABEL)] && !d->q.single;
    d->q.max_answer_tokens = p->kind->max_answer_tokens > 0 ? p->kind->max_answer_tokens : 64;
    char id[33], *text = NULL;
    int64_t *ids = mem_alloc(d->n_numbered + 1, sizeof *ids);
    st = ids ? wire_request_write(&d->q, &text, id, err) : fail(err, PLM_ENOMEM, "no memory for a request");
    for (size_t i = 0; !st && i < d->n_numbered; i++) {
        ids[i] = real_at(d, d->numbered[i])->id;
    }
    st = st ? st : map_keep(store, id, ids, d->n_numbered, &d->redactor, err);
    mem_free(ids);
    if (st) {
        plm_free(text);
        return st;
    }
    *request = text;
    return PLM_OK;
}

plm_status plm_augment_draft(plm_store *store, const plm_augment_policy *p, char **request, plm_error *err) {
    if (!store || !p || !p->user || !p->kind || !request) {
        return fail(err, PLM_EINVAL, "a request needs a store, a user and a kind");
    }
    if (p->wanted < 0) {
        return fail(err, PLM_EINVAL, "the number of examples wanted is negative");
    }
    if (p->epsilon != 0 && (!(p->epsilon >= .001) || !(p->epsilon <= 100) || !(p->epsilon_budget > 0) ||
                            !p->summary_only || !p->kind->labels)) {
        return fail(
            err, PLM_EINVAL,
            "epsilon, from .001 to 100 and with a budget, is for the label counts of a shared summary");
    }
    struct draft *d = mem_zero(1, sizeof *d);
    if (!d) {
        return fail(err, PLM_ENOMEM, "no memory for a request");
    }
    d->p = p;
    plm_status st = draft(d, store, request, err);
    for (size_t i = 0; d->texts && i < 2 * d->n_numbered; i++) {
        mem_free(d->texts[i]);
    }
    topics_free(d->topics, d->q.n_topics);
    plm_free(d->summary);
    mem_free(d->texts);
    mem_free(d->q.records);
    mem_free(d->q.exemplars);
    mem_free(d->q.rewrite);
    mem_free(d->q.labels);
    mem_free(d->q.label_counts);
    mem_free(d->use);
    mem_free(d->fresh);
    mem_free(d->shown);
    mem_free(d->rewrite);
    mem_free(d->numbered);
    redactor_free(&d->redactor);
    reals_free(&d->reals);
    mem_free(d);
    return st;
}
