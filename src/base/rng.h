/* rng.h: xoshiro256** seeded by splitmix64. The same seed gives the same stream everywhere. */
#ifndef BASE_RNG_H
#define BASE_RNG_H
#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed, uint64_t stream); /* independent streams of one seed */
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n); /* uniform in [0, n), unbiased; n > 0 */
double rng_unit(struct rng *r);                /* uniform in [0, 1), 53 bits */
float rng_normal(struct rng *r);
void rng_shuffle(struct rng *r, size_t *a, size_t n);
#endif
