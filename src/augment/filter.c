/* filter.c: the rules, in the order of docs/wire.md: each looks only at what the rules before it let through,
 * in call order, so that the same candidates always get the same verdicts. A refused candidate is never
 * repaired: relabelling or rewording drifts towards the teacher's own habits. */
#include "augment/inside.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NEAR_MAX 0.7 /* ROUGE-L with any other input */
#define OWN_MAX 0.9  /* of a rewrite with its own source */
#define SAME_MIN 0.2 /* ROUGE-1 of a rewrite with its own source: below it says something else */
#define Z_MAX 2.5

enum { REAL_NLLS_MAX = 64, TOO_FEW_FOR_Z = 5 };

static const char *const rule_names[PLM_RULES] = {"parse", "schema",      "length", "exact",  "near",
                                                  "label", "placeholder", "judge",  "device", "quota"};

const char *plm_rule_name(int rule) {
    return rule >= 0 && rule < PLM_RULES ? rule_names[rule] : NULL;
}

static void drop(struct candidate *c, int rule, const char *why) {
    c->verdict = rule;
    c->why = why;
}

static bool rewrites(const struct candidate *c) {
    return c->wire.mode == PLM_MODE_REVERSE || c->wire.mode == PLM_MODE_REWRITE;
}

static bool sourced(const struct candidate *c) {
    return rewrites(c) || c->wire.mode == PLM_MODE_PAIR;
}

/* ---- rules about one candidate alone ---- */

// Everything real that the candidate was made from.
static plm_status allowed_texts(const struct filter *f, const struct candidate *c, struct bytes *out,
                                plm_error *err) {
    bytes_init(out, (size_t)WIRE_REQUEST_MAX);
    if (c->parent) {
        bytes_printf(out, "%s\n%s\n", c->parent->input, c->parent->output);
        bytes_puts(out, c->wire.mode == PLM_MODE_PAIR ? f->policy->kind->pair : "");
    }
    for (size_t i = 0; i < c->wire.n_shown && f->policy->unredacted; i++) {
        const struct wire_record *r = &f->request->records[c->wire.shown[i] - 1];
        bytes_printf(out, "%s\n%s\n", r->input, r->output);
    }
    return bytes_status(out, "the texts of a call", err);
}

// The raw text of the reply is judged, placeholders unrestored: only there is a secret out of nowhere
// visible.
static plm_status rule_schema(const struct filter *f, struct candidate *c, const struct scripts *usual,
                              bool lines, plm_error *err) {
    struct bytes allowed;
    plm_status st = allowed_texts(f, c, &allowed, err);
    const char *why = st ? NULL : text_objection(c->wire.input, allowed.data, usual);
    if (!st && !why && !rewrites(c)) {
        why = text_objection(c->wire.output, allowed.data, usual);
        why = !why && !lines && strchr(str_trim(str_of(c->output)).p, '\n') ? "an output of several lines"
                                                                            : why;
    }
    const plm_kind *kind = f->policy->kind;
    if (!st && !why && !rewrites(c) && (code_in(c->wire.input) || code_in(c->wire.output))) {
        why = "a code of letters and digits in an invented text";
    }
    why = st || why ? why : check_objection(&kind->checks, c->input, rewrites(c) ? NULL : c->output);
    if (!st && !why && c->wire.mode == PLM_MODE_PAIR && !c->gone) {
        why = pair_objection(kind->pair, c->input, c->parent->input);
    }
    const char *instruction = f->request->instruction, *task = f->request->task;
    if (!st && !why &&
        ((strlen(instruction) > 20 && strcasestr(c->input, instruction)) ||
         (strlen(task) > 20 && strcasestr(c->input, task)))) {
        why = "the prompt itself";
    }
    char *in = NULL, *out = NULL;
    if (!st && !why) {
        st = text_normalise(c->input, strlen(c->input), &in, err);
        st = st ? st : text_normalise(c->output, strlen(c->output), &out, err);
        why = !st && strcmp(in, out) == 0 ? "input and output are the same" : why;
    }
    why = !st && !why && c->gone ? "a record it was made from is gone" : why;
    if (!st && why) {
        drop(c, PLM_RULE_SCHEMA, why);
    }
    mem_free(in);
    mem_free(out);
    bytes_free(&allowed);
    return st;
}

static bool out_of_range(const char *text, const struct wire_range *r, double least) {
    double n = (double)words_count(text, strlen(text));
    return n < least || n < .5 * r->p5 || (r->p95 && n > 2.0 * r->p95);
}

static plm_status rules_alone(struct filter *f, plm_error *err) {
    size_t n = f->reals->n;
    const char **texts = mem_zero(n + 1, sizeof *texts);
    if (!texts) {
        return fail(err, PLM_ENOMEM, "no memory to filter candidates");
    }
    struct scripts usual = {0};
    bool lines = false;
    for (size_t i = 0; i < n; i++) {
        texts[i] = f->reals->r[i].output;
        scripts_add(&usual, f->reals->r[i].input);
        scripts_add(&usual, texts[i]);
        lines = lines || strchr(str_trim(str_of(texts[i])).p, '\n') != NULL;
    }
    struct wire_range out = n ? range_of(texts, n) : f->request->output_words, in = f->request->input_words;
    mem_free(texts);
    for (size_t i = 0; i < f->n; i++) {
        struct candidate *c = &f->c[i];
        if (c->verdict != VERDICT_NONE) {
            continue;
        }
        plm_status st = rule_schema(f, c, &usual, lines, err);
        if (st) {
            return st;
        }
        if (c->verdict != VERDICT_NONE) {
            continue;
        }
        if (f->policy->kind->labels && plm_kind_label(f->policy->kind, c->output) < 0) {
            drop(c, PLM_RULE_LABEL, "not one of the labels");
        } else if (c->lost) {
            drop(c, PLM_RULE_PLACEHOLDER, "a placeholder is unknown or lost");
        } else if (out_of_range(c->input, &in, 3)) {
            drop(c, PLM_RULE_LENGTH, "input too short or too long");
        } else if (!rewrites(c) && !f->policy->kind->labels && out_of_range(c->output, &out, 1)) {
            drop(c, PLM_RULE_LENGTH, "output too short or too long");
        }
    }
    return PLM_OK;
}

/* ---- exact duplicates ---- */

static uint64_t hash_of(const char *text) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++) {
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    }
    return h;
}

struct known { /* hashes of normalised inputs of everything that is already there */
    uint64_t *h;
    size_t n;
};

static int by_hash(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static plm_status known_open(struct known *k, const struct filter *f, plm_error *err) {
    size_t n = f->reals->n + f->n_old;
    k->n = 0;
    k->h = mem_alloc(n + 1, sizeof *k->h);
    if (!k->h) {
        return fail(err, PLM_ENOMEM, "no memory to filter candidates");
    }
    for (size_t i = 0; i < n; i++) {
        const char *text = i < f->reals->n ? f->reals->r[i].input : f->old[i - f->reals->n];
        char *plain = NULL;
        plm_status st = text_normalise(text, strlen(text), &plain, err);
        if (st) {
            return st;
        }
        k->h[k->n++] = hash_of(plain);
        mem_free(plain);
    }
    qsort(k->h, k->n, sizeof *k->h, by_hash);
    return PLM_OK;
}

// One input with two outputs says that the teacher guessed: all of them go, and so do plain repetitions.
static void drop_equal(struct filter *f, size_t i) {
    bool conflict = false;
    for (size_t j = i + 1; j < f->n; j++) {
        struct candidate *b = &f->c[j];
        if (b->verdict == VERDICT_NONE && strcmp(b->plain, f->c[i].plain) == 0) {
            conflict = conflict || strcmp(b->output, f->c[i].output) != 0;
            drop(b, PLM_RULE_EXACT, "the same input again");
        }
    }
    if (conflict) {
        drop(&f->c[i], PLM_RULE_EXACT, "the same input with another output");
    }
}

static plm_status rule_exact(struct filter *f, plm_error *err) {
    struct known known = {0};
    plm_status st = known_open(&known, f, err);
    for (size_t i = 0; i < f->n && !st; i++) {
        struct candidate *c = &f->c[i];
        if (c->verdict == VERDICT_NONE) {
            st = text_normalise(c->input, strlen(c->input), &c->plain, err);
        }
    }
    for (size_t i = 0; i < f->n && !st; i++) {
        struct candidate *c = &f->c[i];
        if (c->verdict != VERDICT_NONE) {
            continue;
        }
        uint64_t h = hash_of(c->plain);
        if (bsearch(&h, known.h, known.n, sizeof h, by_hash)) {
            drop(c, PLM_RULE_EXACT, "the person's own or an earlier input");
        } else {
            drop_equal(f, i);
        }
    }
    mem_free(known.h);
    return st;
}

/* ---- near duplicates ---- */

struct others { /* what inputs are compared with, besides each other */
    struct doc *real, *old;
    size_t n_real, n_old;
};

// What of an input is compared: of a pair the two halves, since its wording is always the same.
static plm_status open_text(struct doc *d, const plm_kind *kind, const char *input, plm_error *err) {
    struct pair p;
    if (!kind->pair || !pair_read(kind->pair, input, &p)) {
        return doc_open(d, input, err);
    }
    bool swap = p.first.n > p.second.n; // in whichever order they stand
    struct str a = swap ? p.second : p.first, b = swap ? p.first : p.second;
    struct bytes both;
    bytes_init(&both, (size_t)2 * WIRE_TEXT_MAX + 2);
    bytes_put(&both, a.p, a.n);
    bytes_putc(&both, ' ');
    bytes_put(&both, b.p, b.n);
    plm_status st = bytes_status(&both, "a pair", err);
    st = st ? st : doc_open(d, both.data, err);
    bytes_free(&both);
    return st;
}

static plm_status others_open(struct others *o, const struct filter *f, plm_error *err) {
    o->real = mem_zero(f->reals->n + 1, sizeof *o->real);
    o->old = mem_zero(f->n_old + 1, sizeof *o->old);
    plm_status st = o->real && o->old ? PLM_OK : fail(err, PLM_ENOMEM, "no memory to filter candidates");
    for (; !st && o->n_real < f->reals->n; o->n_real += !st) {
        st = open_text(&o->real[o->n_real], f->policy->kind, f->reals->r[o->n_real].input, err);
    }
    for (; !st && o->n_old < f->n_old; o->n_old += !st) {
        st = open_text(&o->old[o->n_old], f->policy->kind, f->old[o->n_old], err);
    }
    return st;
}

static void others_close(struct others *o) {
    for (size_t i = 0; i < o->n_real; i++) {
        doc_close(&o->real[i]);
    }
    for (size_t i = 0; i < o->n_old; i++) {
        doc_close(&o->old[i]);
    }
    mem_free(o->real);
    mem_free(o->old);
}

static bool has_word(const struct doc *d, struct str w) {
    for (size_t i = 0; i < d->words.n; i++) {
        if (d->words.w[i].n == w.n && memcmp(d->words.w[i].p, w.p, w.n) == 0) {
            return true;
        }
    }
    return false;
}

static bool holds_digit(struct str w) {
    for (size_t i = 0; i < w.n; i++) {
        if (w.p[i] >= '0' && w.p[i] <= '9') {
            return true;
        }
    }
    return false;
}

// Numbers are facts that need no understanding: none may be new, and those the real output uses must be
// there.
static bool numbers_agree(const struct doc *rewrite, const struct doc *source, const struct doc *output) {
    for (size_t i = 0; i < rewrite->words.n; i++) {
        struct str w = rewrite->words.w[i];
        if (holds_digit(w) && !has_word(source, w) && !has_word(output, w)) {
            return false;
        }
    }
    for (size_t i = 0; i < output->words.n; i++) {
        struct str w = output->words.w[i];
        if (holds_digit(w) && has_word(source, w) && !has_word(rewrite, w)) {
            return false;
        }
    }
    return true;
}

static const char *rewrite_fault(const struct doc *text, const struct doc *source, const struct doc *output,
                                 double *near) {
    double same = rouge_n(&source->words, &text->words, 1).f;
    *near = doc_likeness(text, source, 0);
    if (*near > OWN_MAX) {
        return "a copy of its source";
    }
    *near = same;
    return same < SAME_MIN                       ? "says something else than its source"
           : numbers_agree(text, source, output) ? NULL
                                                 : "a number was lost or made up";
}

// A rewrite must say what its source says without being a copy; so must the paraphrase of an output.
static plm_status rule_own_source(const struct filter *f, const struct others *o, struct candidate *c,
                                  plm_error *err) {
    struct doc out;
    const char *why;
    plm_status st = doc_open(&out, c->output, err);
    if (st) {
        return st;
    }
    if (c->wire.mode == PLM_MODE_REWRITE) {
        why = rewrite_fault(&c->text, &o->real[c->parent - f->reals->r], &out, &c->near);
    } else {
        c->near = rouge_n(&out.words, &c->text.words, 1).f;
        why = c->near < SAME_MIN ? "says something else than the output"
              : c->near > .95    ? "a copy of the output"
                                 : NULL;
    }
    if (why) {
        drop(c, PLM_RULE_NEAR, why);
    }
    doc_close(&out);
    return PLM_OK;
}

static plm_status rule_near(struct filter *f, plm_error *err) {
    struct others o = {0};
    struct crowd crowd = {0};
    struct runs runs = {0};
    plm_status st = others_open(&o, f, err);
    st = st ? st : runs_open(&runs, o.real, o.n_real, err);
    st = st ? st : crowd_open(&crowd, o.n_real + o.n_old + f->n, err);
    for (size_t i = 0; i < o.n_real + o.n_old && !st; i++) {
        crowd_add(&crowd, i < o.n_real ? &o.real[i] : &o.old[i - o.n_real], i < o.n_real);
    }
    for (size_t i = 0; i < f->n && !st; i++) {
        struct candidate *c = &f->c[i];
        if (c->verdict != VERDICT_NONE) {
            continue;
        }
        st = open_text(&c->text, f->policy->kind, c->input, err);
        c->near = st ? 0 : crowd_nearest(&crowd, &c->text, !sourced(c), NEAR_MAX);
        if (c->near > NEAR_MAX) {
            drop(c, PLM_RULE_NEAR, "too like another input");
        } else if (!st && rewrites(c)) {
            st = rule_own_source(f, &o, c, err);
        } else if (!st && !sourced(c) && runs_from_one(&runs, &c->text)) {
            // It was written down and not invented. What stands in several records is how the person writes.
            drop(c, PLM_RULE_NEAR, "holds a piece of a record");
        }
        if (!st && c->verdict == VERDICT_NONE) {
            crowd_add(&crowd, &c->text, false);
        }
    }
    runs_close(&runs);
    crowd_close(&crowd);
    others_close(&o);
    return st;
}

/* ---- the judge ---- */

static void rule_judge(struct filter *f) {
    for (size_t i = 0; i < f->n; i++) {
        struct candidate *c = &f->c[i];
        if (c->verdict != VERDICT_NONE || c->wire.mode != PLM_MODE_LABEL || !c->wire.n_judge) {
            continue;
        }
        c->trust = judge_trust(f->policy->kind, &c->wire);
        if (!(c->trust > 0)) {
            drop(c, PLM_RULE_JUDGE, "its label is not what the judge would give");
        }
    }
}

/* ---- the device's own model ---- */

static plm_status ask_nll(const struct filter *f, const char *input, const char *output, double *nll,
                          plm_error *err) {
    *nll = NAN;
    return f->nll(f->ctx, input, output, nll)
               ? fail(err, PLM_ESTOPPED, "stopped while candidates were measured")
               : PLM_OK;
}

// Mean and standard deviation over real items, evenly spread over time.
static plm_status real_nlls(const struct filter *f, double *mean, double *sd, size_t *n, plm_error *err) {
    double sum = 0, squares = 0;
    size_t all = f->reals->n, max = all < REAL_NLLS_MAX ? all : REAL_NLLS_MAX;
    *n = 0;
    for (size_t i = 0; i < max; i++) {
        const struct real *r = &f->reals->r[i * all / max];
        double nll;
        plm_status st = ask_nll(f, r->input, r->output, &nll, err);
        if (st) {
            return st;
        }
        if (isfinite(nll)) {
            sum += nll;
            squares += nll * nll;
            ++*n;
        }
    }
    *mean = *n ? sum / (double)*n : 0;
    double var = *n > 1 ? (squares - sum * *mean) / (double)(*n - 1) : 0;
    *sd = var > 1e-6 ? sqrt(var) : 1e-3;
    return PLM_OK;
}

static int by_number(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// With hardly any real items there is no scale: the highest tenth goes.
static plm_status drop_tail(struct filter *f, plm_error *err) {
    double *v = mem_alloc(f->n + 1, sizeof *v);
    if (!v) {
        return fail(err, PLM_ENOMEM, "no memory to filter candidates");
    }
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++) {
        if (f->c[i].verdict == VERDICT_NONE && !f->c[i].parent) {
            v[n++] = f->c[i].nll;
        }
    }
    qsort(v, n, sizeof *v, by_number);
    size_t away = n / 10;
    for (size_t i = f->n; i-- > 0 && away;) {
        struct candidate *c = &f->c[i];
        if (c->verdict == VERDICT_NONE && !c->parent && c->nll >= v[n - n / 10]) {
            drop(c, PLM_RULE_DEVICE, "among the least likely tenth");
            away--;
        }
    }
    mem_free(v);
    return PLM_OK;
}

// An output that is the person's own can't be unlike them, however hard it is to guess from its new input.
static plm_status rule_device(struct filter *f, plm_error *err) {
    double mean, sd;
    size_t n;
    plm_status st = real_nlls(f, &mean, &sd, &n, err);
    for (size_t i = 0; i < f->n && !st; i++) {
        struct candidate *c = &f->c[i];
        if (c->verdict != VERDICT_NONE) {
            continue;
        }
        st = ask_nll(f, c->input, c->output, &c->nll, err);
        c->z = n >= TOO_FEW_FOR_Z ? (c->nll - mean) / sd : 0;
        if (!st && !isfinite(c->nll)) {
            c->nll = c->z = 0;
            drop(c, PLM_RULE_DEVICE, "the device's model can't read it");
        } else if (!st && !c->parent && c->z > Z_MAX) {
            drop(c, PLM_RULE_DEVICE, "far less likely than the person's own");
        }
    }
    return !st && n < TOO_FEW_FOR_Z ? drop_tail(f, err) : st;
}

plm_status filter_run(struct filter *f, plm_error *err) {
    plm_status st = rules_alone(f, err);
    st = st ? st : rule_exact(f, err);
    st = st ? st : rule_near(f, err);
    if (!st) {
        rule_judge(f);
    }
    return st || !f->nll ? st : rule_device(f, err);
}
