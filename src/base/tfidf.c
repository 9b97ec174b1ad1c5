/* tfidf.c: documents as vectors of term weights of length 1, their cosines, and the terms that weigh most. */
#include "base/terms.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

struct tfidf {
    struct terms terms;
    double *weight; /* [counts] of each count, the document's vector having length 1 */
    double *sum;    /* [terms.n] over all documents */
};

static void weigh(struct tfidf *t) {
    const struct terms *x = &t->terms;
    for (size_t d = 0; d < x->docs; d++) {
        double square = 0;
        for (size_t i = x->start[d]; i < x->start[d + 1]; i++) {
            double df = x->df[x->counts[i].term];
            double w = x->counts[i].count * (log((1 + (double)x->docs) / (1 + df)) + 1);
            t->weight[i] = w;
            square += w * w;
        }
        for (size_t i = x->start[d]; i < x->start[d + 1]; i++) {
            t->weight[i] /= sqrt(square);
            t->sum[x->counts[i].term] += t->weight[i];
        }
    }
}

plm_status tfidf_open(struct tfidf **out, const struct words *docs, size_t n, plm_error *err) {
    struct tfidf *t = mem_zero(1, sizeof *t);
    if (!t)
        return fail(err, PLM_ENOMEM, "out of memory for %zu documents", n);
    plm_status st = terms_open(&t->terms, docs, n, err);
    if (!st && (!(t->weight = mem_alloc(t->terms.start[n], sizeof *t->weight)) ||
                !(t->sum = mem_zero(t->terms.n, sizeof *t->sum))))
        st = fail(err, PLM_ENOMEM, "out of memory for %zu documents", n);
    if (st) {
        tfidf_close(t);
        return st;
    }
    weigh(t);
    *out = t;
    return PLM_OK;
}

void tfidf_close(struct tfidf *t) {
    if (!t)
        return;
    terms_close(&t->terms);
    mem_free(t->weight);
    mem_free(t->sum);
    mem_free(t);
}

double tfidf_cosine(const struct tfidf *t, size_t a, size_t b) {
    const struct terms *x = &t->terms;
    size_t i = x->start[a], j = x->start[b];
    double dot = 0;
    while (i < x->start[a + 1] && j < x->start[b + 1]) {
        uint32_t p = x->counts[i].term, q = x->counts[j].term;
        if (p == q)
            dot += t->weight[i] * t->weight[j];
        i += p <= q;
        j += q <= p;
    }
    return dot;
}

size_t tfidf_top(const struct tfidf *t, struct str *terms, size_t k) {
    size_t n = 0, last = 0;
    for (; n < k; n++) { /* k is small; of equal weights the earlier term comes first */
        size_t best = SIZE_MAX;
        for (size_t i = 0; i < t->terms.n; i++) {
            bool after = !n || t->sum[i] < t->sum[last] || (t->sum[i] == t->sum[last] && i > last);
            if (after && (best == SIZE_MAX || t->sum[i] > t->sum[best]))
                best = i;
        }
        if (best == SIZE_MAX)
            break;
        terms[n] = t->terms.word[best];
        last = best;
    }
    return n;
}

size_t tfidf_documents(const struct tfidf *t, struct str word) {
    size_t term = terms_find(&t->terms, word);
    return term == SIZE_MAX ? 0 : t->terms.df[term];
}
