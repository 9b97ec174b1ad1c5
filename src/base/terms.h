/* terms.h: a fixed set of documents as counted terms, what BM25 and TF-IDF are computed from. Terms are
 * numbered in the order of their first occurrence, so nothing depends on a hash. */
#ifndef BASE_TERMS_H
#define BASE_TERMS_H
#include "base/text.h"

struct term_count {
    uint32_t term, count;
};

struct terms {
    size_t docs, n;   /* documents; distinct terms */
    struct str *word; /* [n] */
    uint32_t *df;     /* [n] documents that hold it */
    size_t *start;    /* [docs + 1] a document's counts are counts[start[d], start[d + 1]), terms ascending */
    struct term_count *counts;
    char *own;
    uint32_t *slot; /* [slots] term + 1; 0: free */
    size_t slots;
};

plm_status terms_open(struct terms *t, const struct words *docs, size_t n, plm_error *err);
void terms_close(struct terms *t);
/* The word's number, or SIZE_MAX. */
size_t terms_find(const struct terms *t, struct str word);
/* How often a term occurs in a document. */
uint32_t terms_in(const struct terms *t, size_t doc, size_t term);
#endif
