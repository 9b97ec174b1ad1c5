/* pick.c: which of the good candidates stay when there are more than wanted: each label in the person's own
 * share, each mode in the share asked for, no source over-used, and then whatever lies farthest from all that
 * is there already (greedy k-centre on TF-IDF cosine, real inputs first). */
#include "augment/inside.h"

#include <math.h>
#include <string.h>

#define Z_USUAL 1.5

struct picking {
    struct filter *f;
    size_t wanted, kept;
    size_t *left, n_left; /* candidates not yet kept */
    double *near;         /* [n_left] highest cosine with anything there */
    int *label_room;      /* [n_labels] */
    int mode_room[WIRE_MODES];
    int *source_room; /* [n_records] */
    struct tfidf *tfidf;
};

static size_t mode_slot(unsigned mode) {
    size_t i = 0;
    while (mode_at(i) != mode) {
        i++;
    }
    return i;
}

static void make_room(struct picking *p) {
    const struct wire_request *q = p->f->request;
    double all = 0, want = 0, rewriting = 0;
    for (size_t i = 0; i < q->n_labels; i++) {
        all += q->label_counts[i] + .5;
    }
    for (size_t i = 0; i < q->n_labels; i++) {
        p->label_room[i] = (int)ceil((q->label_counts[i] + .5) / all * (double)p->wanted) + 1;
    }
    for (size_t i = 0; i < WIRE_MODES; i++) {
        want += q->want[i];
    }
    for (size_t i = 0; i < WIRE_MODES; i++) {
        p->mode_room[i] = (int)(q->want[i] / (want > 0 ? want : 1) * (double)p->wanted + .5);
        bool sourced = mode_at(i) != PLM_MODE_NEW && mode_at(i) != PLM_MODE_LABEL;
        rewriting += sourced ? p->mode_room[i] : 0;
    }
    for (size_t i = 0; i < q->n_records; i++) {
        p->source_room[i] = (int)ceil(rewriting / (double)(q->n_rewrite ? q->n_rewrite : 1)) + 1;
    }
}

// As many pairs of one order as of the other, so that neither is the better guess.
static void balance_pairs(struct picking *p) {
    const struct wire_request *q = p->f->request;
    int there[2] = {0};
    if (!q->pair || q->n_labels != 2) {
        return;
    }
    for (size_t k = 0; k < p->n_left; k++) {
        int label = plm_kind_label(p->f->policy->kind, p->f->c[p->left[k]].output);
        there[label == 1]++;
    }
    int room = there[0] < there[1] ? there[0] : there[1], half = (int)(p->wanted / 2);
    p->label_room[0] = p->label_room[1] = room < half ? room : half;
}

static bool has_room(const struct picking *p, const struct candidate *c, bool by_mode, bool usual) {
    int label = p->f->request->n_labels ? plm_kind_label(p->f->policy->kind, c->output) : -1;
    return (!usual || c->parent || fabs(c->z) <= Z_USUAL) &&
           (!by_mode || p->mode_room[mode_slot(c->wire.mode)] > 0) &&
           (label < 0 || p->label_room[label] > 0) &&
           (!c->wire.source || p->source_room[c->wire.source - 1] > 0);
}

static void keep(struct picking *p, size_t k) {
    const struct candidate *c = &p->f->c[p->left[k]];
    size_t n_reals = p->f->reals->n, at = p->left[k];
    int label = p->f->request->n_labels ? plm_kind_label(p->f->policy->kind, c->output) : -1;
    p->mode_room[mode_slot(c->wire.mode)]--;
    if (label >= 0) {
        p->label_room[label]--;
    }
    if (c->wire.source) {
        p->source_room[c->wire.source - 1]--;
    }
    p->kept++;
    memmove(p->left + k, p->left + k + 1, (p->n_left - k - 1) * sizeof *p->left);
    memmove(p->near + k, p->near + k + 1, (p->n_left - k - 1) * sizeof *p->near);
    p->n_left--;
    for (size_t j = 0; j < p->n_left; j++) {
        double s = tfidf_cosine(p->tfidf, n_reals + p->left[j], n_reals + at);
        p->near[j] = s > p->near[j] ? s : p->near[j];
    }
}

static void pick_round(struct picking *p, bool by_mode, bool usual) {
    while (p->kept < p->wanted) {
        size_t best = SIZE_MAX;
        for (size_t k = 0; k < p->n_left; k++) {
            if (has_room(p, &p->f->c[p->left[k]], by_mode, usual) &&
                (best == SIZE_MAX || p->near[k] < p->near[best])) {
                best = k;
            }
        }
        if (best == SIZE_MAX) {
            return;
        }
        keep(p, best);
    }
}

static plm_status open_tfidf(struct picking *p, plm_error *err) {
    const struct filter *f = p->f;
    size_t n = f->reals->n + f->n;
    struct words *docs = mem_zero(n + 1, sizeof *docs);
    plm_status st = docs ? PLM_OK : fail(err, PLM_ENOMEM, "no memory to choose candidates");
    for (size_t i = 0; i < n && !st; i++) {
        const struct candidate *c = i < f->reals->n ? NULL : &f->c[i - f->reals->n];
        const char *text = !c ? f->reals->r[i].input : c->verdict == VERDICT_NONE ? c->input : "";
        st = words_split(&docs[i], text, strlen(text), WORDS_UNICODE, err);
    }
    st = st ? st : tfidf_open(&p->tfidf, docs, n, err);
    for (size_t i = 0; docs && i < n; i++) {
        words_free(&docs[i]);
    }
    mem_free(docs);
    return st;
}

plm_status pick_best(struct filter *f, size_t wanted, plm_error *err) {
    struct picking p = {.f = f, .wanted = wanted};
    p.left = mem_alloc(f->n + 1, sizeof *p.left);
    p.near = mem_zero(f->n + 1, sizeof *p.near);
    p.label_room = mem_zero(f->request->n_labels + 1, sizeof(int));
    p.source_room = mem_zero(f->request->n_records + 1, sizeof(int));
    plm_status st = p.left && p.near && p.label_room && p.source_room
                        ? open_tfidf(&p, err)
                        : fail(err, PLM_ENOMEM, "no memory to choose candidates");
    if (!st) {
        make_room(&p);
        for (size_t i = 0; i < f->n; i++) {
            if (f->c[i].verdict == VERDICT_NONE) {
                for (size_t r = 0; r < f->reals->n; r++) {
                    double s = tfidf_cosine(p.tfidf, f->reals->n + i, r);
                    p.near[p.n_left] = s > p.near[p.n_left] ? s : p.near[p.n_left];
                }
                p.left[p.n_left++] = i;
            }
        }
        balance_pairs(&p);
        for (int round = 0; round < 4; round++) {
            pick_round(&p, round < 2, round % 2 == 0);
        }
        for (size_t k = 0; k < p.n_left; k++) {
            f->c[p.left[k]].verdict = PLM_RULE_QUOTA;
            f->c[p.left[k]].why = "enough of its kind";
        }
    }
    tfidf_close(p.tfidf);
    mem_free(p.left);
    mem_free(p.near);
    mem_free(p.label_room);
    mem_free(p.source_room);
    return st;
}
