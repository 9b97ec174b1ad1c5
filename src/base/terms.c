/* terms.c: numbers the words of a set of documents and counts them per document. */
#include "base/terms.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static size_t slot_of(const struct terms *t, struct str w) {
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < w.n; i++)
        h = (h ^ (unsigned char)w.p[i]) * 0x100000001b3u;
    size_t at = (size_t)(h ^ h >> 32) & (t->slots - 1);
    for (;; at = (at + 1) & (t->slots - 1)) {
        if (!t->slot[at])
            return at;
        struct str have = t->word[t->slot[at] - 1];
        if (have.n == w.n && (w.n == 0 || memcmp(have.p, w.p, w.n) == 0))
            return at;
    }
}

size_t terms_find(const struct terms *t, struct str word) {
    uint32_t found = t->n ? t->slot[slot_of(t, word)] : 0;
    return found ? found - 1 : SIZE_MAX;
}

static int by_term(const void *a, const void *b) {
    uint32_t x = ((const struct term_count *)a)->term, y = ((const struct term_count *)b)->term;
    return x < y ? -1 : x > y;
}

uint32_t terms_in(const struct terms *t, size_t doc, size_t term) {
    size_t n = t->start[doc + 1] - t->start[doc];
    struct term_count key = {(uint32_t)term, 0};
    const struct term_count *at = n ? bsearch(&key, t->counts + t->start[doc], n, sizeof key, by_term) : NULL;
    return at ? at->count : 0;
}

/* Numbers each word of a document, sorts the numbers and merges equal ones into counts. */
static void count_document(struct terms *t, size_t doc, const struct words *w, size_t *own_used) {
    struct term_count *c = t->counts + t->start[doc];
    for (size_t i = 0; i < w->n; i++) {
        size_t at = slot_of(t, w->w[i]);
        if (!t->slot[at]) {
            struct str *new = &t->word[t->n];
            if (w->w[i].n)
                memcpy(t->own + *own_used, w->w[i].p, w->w[i].n);
            *new = (struct str){t->own + *own_used, w->w[i].n};
            *own_used += new->n;
            t->slot[at] = (uint32_t)++t->n;
        }
        c[i] = (struct term_count){t->slot[at] - 1, 1};
    }
    size_t n = 0;
    if (w->n)
        qsort(c, w->n, sizeof *c, by_term);
    for (size_t i = 0; i < w->n; i++) {
        if (n && c[n - 1].term == c[i].term) {
            c[n - 1].count++;
        } else {
            t->df[c[i].term]++;
            c[n++] = c[i];
        }
    }
    t->start[doc + 1] = t->start[doc] + n;
}

plm_status terms_open(struct terms *t, const struct words *docs, size_t n, plm_error *err) {
    size_t words = 0, bytes = 0, used = 0;
    memset(t, 0, sizeof *t);
    for (size_t d = 0; d < n; d++) {
        words += docs[d].n;
        for (size_t i = 0; i < docs[d].n; i++)
            bytes += docs[d].w[i].n;
    }
    if (words >= UINT32_MAX / 2)
        return fail(err, PLM_ELIMIT, "%zu words in %zu documents are too many to compare", words, n);
    t->docs = n;
    for (t->slots = 16; t->slots < 2 * words;)
        t->slots *= 2;
    t->word = mem_alloc(words, sizeof *t->word);
    t->df = mem_zero(words, sizeof *t->df);
    t->start = mem_zero(n + 1, sizeof *t->start);
    t->counts = mem_alloc(words, sizeof *t->counts);
    t->own = mem_alloc(bytes, 1);
    t->slot = mem_zero(t->slots, sizeof *t->slot);
    if (!t->word || !t->df || !t->start || !t->counts || !t->own || !t->slot) {
        terms_close(t);
        return fail(err, PLM_ENOMEM, "out of memory for %zu words in %zu documents", words, n);
    }
    for (size_t d = 0; d < n; d++)
        count_document(t, d, &docs[d], &used);
    return PLM_OK;
}

void terms_close(struct terms *t) {
    mem_free(t->word);
    mem_free(t->df);
    mem_free(t->start);
    mem_free(t->counts);
    mem_free(t->own);
    mem_free(t->slot);
    memset(t, 0, sizeof *t);
}
