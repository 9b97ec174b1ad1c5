/* bm25.c: BM25Okapi with rank_bm25's defaults, including its floor for words in more than half the documents.
 */
#include "base/terms.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

static const double K1 = 1.5, B = 0.75, EPSILON = 0.25;

struct bm25 {
    struct terms terms;
    double *idf;    /* [terms.n] */
    double *length; /* [docs] words, over the mean */
};

static void weigh(struct bm25 *b, const struct words *docs) {
    double n = (double)b->terms.docs, sum = 0, words = 0;
    for (size_t i = 0; i < b->terms.n; i++) {
        double df = b->terms.df[i];
        b->idf[i] = log(n - df + 0.5) - log(df + 0.5);
        sum += b->idf[i];
    }
    double least = b->terms.n ? EPSILON * sum / (double)b->terms.n : 0;
    for (size_t i = 0; i < b->terms.n; i++) {
        if (b->idf[i] < 0)
            b->idf[i] = least;
    }
    for (size_t d = 0; d < b->terms.docs; d++)
        words += (double)docs[d].n;
    for (size_t d = 0; d < b->terms.docs; d++)
        b->length[d] = words > 0 ? (double)docs[d].n * n / words : 0;
}

plm_status bm25_open(struct bm25 **out, const struct words *docs, size_t n, plm_error *err) {
    struct bm25 *b = mem_zero(1, sizeof *b);
    if (!b)
        return fail(err, PLM_ENOMEM, "out of memory for %zu documents", n);
    plm_status st = terms_open(&b->terms, docs, n, err);
    if (!st &&
        (!(b->idf = mem_alloc(b->terms.n, sizeof *b->idf)) || !(b->length = mem_alloc(n, sizeof *b->length))))
        st = fail(err, PLM_ENOMEM, "out of memory for %zu documents", n);
    if (st) {
        bm25_close(b);
        return st;
    }
    weigh(b, docs);
    *out = b;
    return PLM_OK;
}

void bm25_close(struct bm25 *b) {
    if (!b)
        return;
    terms_close(&b->terms);
    mem_free(b->idf);
    mem_free(b->length);
    mem_free(b);
}

plm_status bm25_scores(const struct bm25 *b, const struct words *query, double *scores, plm_error *err) {
    (void)err; /* nothing can fail today */
    for (size_t d = 0; d < b->terms.docs; d++)
        scores[d] = 0;
    for (size_t i = 0; i < query->n; i++) {
        size_t term = terms_find(&b->terms, query->w[i]);
        if (term == SIZE_MAX)
            continue;
        for (size_t d = 0; d < b->terms.docs; d++) {
            double tf = terms_in(&b->terms, d, term);
            scores[d] += b->idf[term] * (tf * (K1 + 1) / (tf + K1 * (1 - B + B * b->length[d])));
        }
    }
    return PLM_OK;
}
