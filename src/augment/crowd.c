/* crowd.c: which of many texts is most like this one. Few are compared one by one. Beyond CROWD_ALL a text is
 * compared only with those that share one of 64 MinHash values of its runs of three words with it: each value
 * is a band of its own, so that texts with a seventh of their runs in common are passed over once in 15,000
 * times. What is compared is compared exactly, so that a likeness found is never wrong; one that is passed
 * over is (tests/test_augment_near.c counts them). Texts too short to have runs are always compared. */
#include "augment/inside.h"

#include <string.h>

enum { BANDS = 64, RUN = 3, SHORT = 8 };

static uint64_t mixed(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void sketch(const struct doc *d, uint64_t band[BANDS]) {
    memset(band, 0xff, BANDS * sizeof *band);
    for (size_t i = 0; i + RUN <= d->words.n; i++) {
        uint64_t h = 0xcbf29ce484222325u;
        for (size_t k = 0; k < RUN; k++) {
            struct str w = d->words.w[i + k];
            for (size_t j = 0; j < w.n; j++) {
                h = (h ^ (unsigned char)w.p[j]) * 0x100000001b3u;
            }
            h = (h ^ ' ') * 0x100000001b3u;
        }
        for (uint64_t b = 0; b < BANDS; b++) {
            uint64_t v = mixed(h ^ (b + 1) * 0x9e3779b97f4a7c15u);
            band[b] = v < band[b] ? v : band[b];
        }
    }
    for (uint64_t b = 0; b < BANDS; b++) {
        band[b] = mixed(band[b] + b); // one table for all bands
    }
}

void crowd_close(struct crowd *c) {
    mem_free(c->m);
    mem_free(c->head);
    mem_free(c->link);
    mem_free(c->seen);
    *c = (struct crowd){0};
}

plm_status crowd_open(struct crowd *c, size_t most, plm_error *err) {
    *c = (struct crowd){.most = most};
    c->m = mem_zero(most + 1, sizeof *c->m);
    c->seen = mem_zero(most + 1, sizeof *c->seen);
    bool ok = c->m && c->seen;
    if (ok && most > CROWD_ALL) {
        size_t links;
        for (c->heads = 1 << 12; c->heads < most * BANDS; c->heads *= 2) {
        }
        c->head = mem_zero(c->heads, sizeof *c->head);
        c->link = mul_size(most, BANDS, &links) ? mem_zero(links + 1, sizeof *c->link) : NULL;
        ok = c->head && c->link;
    }
    if (!ok) {
        crowd_close(c);
        return fail(err, PLM_ENOMEM, "no memory to compare texts");
    }
    return PLM_OK;
}

void crowd_add(struct crowd *c, const struct doc *d, bool real) {
    size_t at = c->n++;
    c->m[at] = (struct member){d, real};
    if (!c->head || d->words.n < RUN) {
        return;
    }
    uint64_t band[BANDS];
    sketch(d, band);
    for (size_t b = 0; b < BANDS; b++) {
        uint32_t *head = &c->head[band[b] & (c->heads - 1)];
        c->link[at * BANDS + b] = *head;
        *head = (uint32_t)(at * BANDS + b + 1);
    }
}

static double compare(const struct crowd *c, size_t i, const struct doc *d, bool real_too, double floor,
                      double best) {
    if (c->m[i].real && !real_too) {
        return best;
    }
    double f = doc_likeness(d, c->m[i].doc, best > floor ? best : floor);
    return f > best ? f : best;
}

double crowd_nearest(struct crowd *c, const struct doc *d, bool real_too, double floor) {
    double best = 0;
    bool everyone = !c->head || c->n <= CROWD_ALL;
    // Likeness over .7 needs lengths within a factor of 1.9.
    for (size_t i = 0; i < c->n && (everyone || d->words.n < 2 * SHORT); i++) {
        if (everyone || c->m[i].doc->words.n < SHORT || d->words.n < SHORT) {
            best = compare(c, i, d, real_too, floor, best);
        }
    }
    if (everyone || d->words.n < RUN) {
        return best;
    }
    uint64_t band[BANDS];
    sketch(d, band);
    c->round++;
    for (size_t b = 0; b < BANDS; b++) {
        for (uint32_t at = c->head[band[b] & (c->heads - 1)]; at; at = c->link[at - 1]) {
            size_t i = (at - 1) / BANDS;
            if (c->seen[i] != c->round) {
                c->seen[i] = c->round;
                best = compare(c, i, d, real_too, floor, best);
            }
        }
    }
    return best;
}
