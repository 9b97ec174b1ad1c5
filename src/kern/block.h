/* block.h: the quantised formats, byte for byte, and what their bytes mean.
 * Every field is a byte array: rows lie in a mapped file at any address. Numbers in them are little-endian.
 * The conversions here are the definition; faster ones in a table of kernels must give the same bits. */
#ifndef KERN_BLOCK_H
#define KERN_BLOCK_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* GGUF's numbers of the formats that kernels compute with. */
enum {
    BLOCK_F32 = 0,
    BLOCK_F16 = 1,
    BLOCK_Q4_0 = 2,
    BLOCK_Q4_1 = 3,
    BLOCK_Q5_0 = 6,
    BLOCK_Q5_1 = 7,
    BLOCK_Q8_0 = 8,
    BLOCK_Q4_K = 12,
    BLOCK_Q5_K = 13,
    BLOCK_Q6_K = 14,
    BLOCK_BF16 = 30,
    BLOCK_TYPES = 64,
};

enum { QK = 32, QK_K = 256 }; /* weights in a block; in a super-block */

struct q4_0 {
    uint8_t d[2], qs[16];
};
struct q4_1 {
    uint8_t d[2], m[2], qs[16];
};
struct q5_0 {
    uint8_t d[2], qh[4], qs[16];
};
struct q5_1 {
    uint8_t d[2], m[2], qh[4], qs[16];
};
struct q8_0 {
    uint8_t d[2];
    int8_t qs[32];
};
struct q4_k {
    uint8_t d[2], dmin[2], scales[12], qs[128];
};
struct q5_k {
    uint8_t d[2], dmin[2], scales[12], qh[32], qs[128];
};
struct q6_k {
    uint8_t ql[128], qh[64];
    int8_t scales[16];
    uint8_t d[2];
};
_Static_assert(sizeof(struct q4_0) == 18, "Q4_0");
_Static_assert(sizeof(struct q4_1) == 20, "Q4_1");
_Static_assert(sizeof(struct q5_0) == 22, "Q5_0");
_Static_assert(sizeof(struct q5_1) == 24, "Q5_1");
_Static_assert(sizeof(struct q8_0) == 34, "Q8_0");
_Static_assert(sizeof(struct q4_k) == 144, "Q4_K");
_Static_assert(sizeof(struct q5_k) == 176, "Q5_K");
_Static_assert(sizeof(struct q6_k) == 210, "Q6_K");

typedef void block_decode(float *out, const void *in, size_t n); /* n a multiple of the block */
typedef void block_encode(void *out, const float *in, size_t n);
block_decode f32_decode, f16_decode, bf16_decode, q4_0_decode, q4_1_decode, q5_0_decode, q5_1_decode,
    q8_0_decode, q4_k_decode, q5_k_decode, q6_k_decode;
block_encode f32_encode, f16_encode, bf16_encode, q4_0_encode, q4_1_encode, q5_0_encode, q5_1_encode,
    q8_0_encode, q4_k_encode, q5_k_encode, q6_k_encode;
extern block_decode *const block_decoders[BLOCK_TYPES]; /* by format; NULL: no such kernel */

/* ---- units: UNIT rows side by side, what int8 products read ----
 * A unit is a run of packed blocks; a packed block holds the blocks of UNIT rows at the same place, field by
 * field: first their 16-bit numbers (scales, minima) [halves][UNIT], then the rest as words of four bytes
 * [words][UNIT]. It has the bytes of those blocks and means the same; only fifth bits (Q5_0, Q5_1) move
 * within their word, bit 4 s + b to 8 b + s, so that each step of four weights finds its own at one place. */
enum { UNIT = 16 };
struct block_fields {
    uint16_t bytes, weights; /* of a block; bytes 0: not a format of integers */
    uint16_t halves_at, halves, words_at, words;
    bool fifths; /* in word 0 */
};
extern const struct block_fields block_fields[BLOCK_TYPES];
/* The first `blocks` blocks of UNIT rows, row_bytes apart; those from `rows` on become 0. */
void block_pack(void *unit, const void *in, size_t row_bytes, int rows, int type, int blocks);

float half_to_f32(uint16_t h);
uint16_t f32_to_half(float f);  /* nearest even */
uint16_t f32_to_bhalf(float f); /* nearest even; NaN stays NaN */

static inline uint16_t load16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t load32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline float bits_f32(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint32_t f32_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* Scale and minimum of sub-block j of 8 in Q4_K and Q5_K: six bits each. */
static inline void block_scale_min(const uint8_t *s, int j, int *scale, int *min) {
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *min = s[j + 4] >> 4 | (s[j] >> 6) << 4;
    }
}
#endif
