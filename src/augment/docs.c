/* docs.c: texts prepared for comparison with many others. The sum of common words bounds the longest common
 * subsequence from above, so that most pairs never reach the quadratic part; nothing is approximate. */
#include "augment/inside.h"

#include <stdlib.h>

static int by_hash(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

plm_status doc_open(struct doc *d, const char *text, plm_error *err) {
    *d = (struct doc){0};
    size_t len = str_of(text).n;
    plm_status st = words_split(&d->words, text, len, WORDS_UNICODE, err);
    if (st) {
        return st;
    }
    d->bag = mem_alloc(d->words.n + 1, sizeof *d->bag);
    if (!d->bag) {
        words_free(&d->words);
        return fail(err, PLM_ENOMEM, "no memory to compare texts");
    }
    for (size_t i = 0; i < d->words.n; i++) {
        uint64_t h = 0xcbf29ce484222325u;
        for (size_t k = 0; k < d->words.w[i].n; k++) {
            h = (h ^ (unsigned char)d->words.w[i].p[k]) * 0x100000001b3u;
        }
        d->bag[i] = h;
    }
    qsort(d->bag, d->words.n, sizeof *d->bag, by_hash);
    return PLM_OK;
}

void doc_close(struct doc *d) {
    words_free(&d->words);
    mem_free(d->bag);
    *d = (struct doc){0};
}

double doc_likeness(const struct doc *a, const struct doc *b, double floor) {
    size_t common = 0;
    for (size_t i = 0, j = 0; i < a->words.n && j < b->words.n;) {
        common += a->bag[i] == b->bag[j];
        bool left = a->bag[i] <= b->bag[j], right = b->bag[j] <= a->bag[i];
        i += left;
        j += right;
    }
    double bound = common ? 2.0 * (double)common / (double)(a->words.n + b->words.n) : 0;
    return bound > floor ? rouge_l(&a->words, &b->words).f : 0;
}
