/* docs.c: texts prepared for comparison with many others. The sum of common words bounds the longest common
 * subsequence from above, so that most pairs never reach the quadratic part; nothing is approximate. */
#include "augment/inside.h"

#include <stdlib.h>

enum { RUN = 8 };

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

static uint64_t run_hash(const struct words *w, size_t at) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t k = 0; k < RUN; k++) {
        struct str x = w->w[at + k];
        for (size_t i = 0; i < x.n; i++) {
            h = (h ^ (unsigned char)x.p[i]) * 0x100000001b3u;
        }
        h = (h ^ ' ') * 0x100000001b3u;
    }
    return h;
}

static int by_run(const void *a, const void *b) {
    const struct run_of *x = a, *y = b;
    return x->hash != y->hash ? (x->hash > y->hash) - (x->hash < y->hash)
                              : (x->doc > y->doc) - (x->doc < y->doc);
}

plm_status runs_open(struct runs *r, const struct doc *docs, size_t n, plm_error *err) {
    size_t most = 0;
    for (size_t i = 0; i < n; i++) {
        most += docs[i].words.n;
    }
    *r = (struct runs){.v = mem_alloc(most + 1, sizeof *r->v)};
    if (!r->v) {
        return fail(err, PLM_ENOMEM, "no memory to compare texts");
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k + RUN <= docs[i].words.n; k++) {
            r->v[r->n++] = (struct run_of){run_hash(&docs[i].words, k), i};
        }
    }
    qsort(r->v, r->n, sizeof *r->v, by_run);
    return PLM_OK;
}

void runs_close(struct runs *r) {
    mem_free(r->v);
    *r = (struct runs){0};
}

bool runs_from_one(const struct runs *r, const struct doc *d) {
    for (size_t k = 0; k + RUN <= d->words.n; k++) {
        uint64_t h = run_hash(&d->words, k);
        size_t low = 0, high = r->n;
        while (low < high) {
            size_t mid = (low + high) / 2;
            if (r->v[mid].hash < h) {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        size_t first = low;
        while (low < r->n && r->v[low].hash == h && r->v[low].doc == r->v[first].doc) {
            low++;
        }
        if (low > first && (low == r->n || r->v[low].hash != h)) {
            return true;
        }
    }
    return false;
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
