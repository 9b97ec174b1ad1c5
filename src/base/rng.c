/* rng.c: xoshiro256** (Blackman and Vigna), its state filled by splitmix64. Not for secrets. */
#include "base/rng.h"

#include <math.h>

static uint64_t splitmix(uint64_t *x) {
    uint64_t z = *x += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void rng_seed(struct rng *r, uint64_t seed, uint64_t stream) {
    uint64_t x = splitmix(&seed) ^ (splitmix(&stream) << 1 | 1);
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix(&x);
}

static uint64_t rotate(uint64_t x, int by) {
    return x << by | x >> (64 - by);
}

uint64_t rng_next(struct rng *r) {
    uint64_t *s = r->s, result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *r, uint64_t n) {
    uint64_t least = (0 - n) % n, x; /* below it, the first few remainders would come up too often */
    do
        x = rng_next(r);
    while (x < least);
    return x % n;
}

double rng_unit(struct rng *r) {
    return (double)(rng_next(r) >> 11) * 0x1p-53;
}

float rng_normal(struct rng *r) {
    double x, y, s; /* Marsaglia's polar method; the second value is not kept: no hidden state */
    do {
        x = 2 * rng_unit(r) - 1;
        y = 2 * rng_unit(r) - 1;
        s = x * x + y * y;
    } while (s >= 1 || s == 0);
    return (float)(x * sqrt(-2 * log(s) / s));
}

void rng_shuffle(struct rng *r, size_t *a, size_t n) {
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)rng_below(r, i), t = a[i - 1];
        a[i - 1] = a[j];
        a[j] = t;
    }
}
