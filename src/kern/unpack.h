/* unpack.h: decoding rows as they lie in the file. The integers of each format as unsigned bytes, 32 weights
 * at a time, and a scale and an offset for each group, in AVX2: a block is 32 bytes wide whatever the vectors
 * of the products are. */
#ifndef KERN_UNPACK_H
#define KERN_UNPACK_H
#include <immintrin.h>

#include "kern/isa.h"

/* Four floats, such as the sums of four vectors. */
typedef __m128 v4;
INLINE v4 v4_load(const float *p) { return _mm_loadu_ps(p); }
INLINE void v4_store(float *p, v4 x) { _mm_storeu_ps(p, x); }
INLINE v4 v4_set(float x) { return _mm_set1_ps(x); }

/* Weights 32 part .. 32 part + 31 of a row. */
typedef __m256i block_levels(const void *row, int part);
/* Groups `at` .. at + 7 of a row, at being a multiple of 8; those past `last` are like the last. */
struct eight {
    __m256 scale, offset;
};
typedef struct eight block_scales(const void *row, int at, int last);

INLINE __m256i load256(const void *p) { return _mm256_loadu_si256(p); }

/* ---- scales ---- */

/* The first four bytes of eight blocks. */
INLINE __m256i first_words(const unsigned char *row, size_t bytes, int at, int last) {
    uint32_t w[8];
    UNROLLED_FOR (int i = 0; i < 8; i++)
        w[i] = load32(row + (size_t)(at + i < last ? at + i : last) * bytes);
    return _mm256_setr_epi32((int)w[0], (int)w[1], (int)w[2], (int)w[3], (int)w[4], (int)w[5], (int)w[6],
                             (int)w[7]);
}

/* The lower halves of the words and the upper ones, as floats. */
INLINE struct eight floats_of(__m256i words) {
    __m256i lower = _mm256_and_si256(words, _mm256_set1_epi32(0xffff)), upper = _mm256_srli_epi32(words, 16);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(lower, upper), 0xd8);
    return (struct eight){_mm256_cvtph_ps(_mm256_castsi256_si128(packed)),
                          _mm256_cvtph_ps(_mm256_extracti128_si256(packed, 1))};
}

/* Blocks that begin with a scale; the offset is zero times as much. */
INLINE struct eight scaled(__m256i words, float zero) {
    struct eight s = floats_of(words);
    s.offset = _mm256_mul_ps(s.scale, _mm256_set1_ps(zero));
    return s;
}

INLINE struct eight q4_0_scales(const void *row, int at, int last) {
    return scaled(first_words(row, sizeof(struct q4_0), at, last), -8);
}

INLINE struct eight q5_0_scales(const void *row, int at, int last) {
    return scaled(first_words(row, sizeof(struct q5_0), at, last), -16);
}

INLINE struct eight q8_0_scales(const void *row, int at, int last) {
    return scaled(first_words(row, sizeof(struct q8_0), at, last), -128);
}

/* Blocks that begin with a scale and a minimum. */
INLINE struct eight q4_1_scales(const void *row, int at, int last) {
    return floats_of(first_words(row, sizeof(struct q4_1), at, last));
}

INLINE struct eight q5_1_scales(const void *row, int at, int last) {
    return floats_of(first_words(row, sizeof(struct q5_1), at, last));
}

/* Six-bit scales and minima of a super-block, times d and -dmin. */
INLINE struct eight k_scales(const uint8_t *packed, const uint8_t *d, const uint8_t *dmin) {
    uint32_t w0 = load32(packed), w1 = load32(packed + 4), w2 = load32(packed + 8);
    uint32_t s1 = (w2 & 0x0f0f0f0f) | (w0 >> 6 & 0x03030303) << 4,
             m1 = (w2 >> 4 & 0x0f0f0f0f) | (w1 >> 6 & 0x03030303) << 4;
    uint64_t s = (w0 & 0x3f3f3f3f) | (uint64_t)s1 << 32, m = (w1 & 0x3f3f3f3f) | (uint64_t)m1 << 32;
    __m256 by = _mm256_cvtph_ps(_mm_set1_epi16((short)load16(d))),
           down = _mm256_cvtph_ps(_mm_set1_epi16((short)(load16(dmin) ^ 0x8000)));
    return (struct eight){
        _mm256_mul_ps(by, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)s)))),
        _mm256_mul_ps(down, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)m)))),
    };
}

INLINE struct eight q4_k_scales(const void *row, int at, int last) {
    const struct q4_k *b = (const struct q4_k *)row + (at < last ? at : last) / 8;
    return k_scales(b->scales, b->d, b->dmin);
}

INLINE struct eight q5_k_scales(const void *row, int at, int last) {
    const struct q5_k *b = (const struct q5_k *)row + (at < last ? at : last) / 8;
    return k_scales(b->scales, b->d, b->dmin);
}

INLINE struct eight q6_k_scales(const void *row, int at, int last) {
    const struct q6_k *b = (const struct q6_k *)row + at / 16;
    (void)last;
    __m256i scales = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(b->scales + at % 16)));
    __m256 scale =
        _mm256_mul_ps(_mm256_cvtph_ps(_mm_set1_epi16((short)load16(b->d))), _mm256_cvtepi32_ps(scales));
    return (struct eight){scale, _mm256_mul_ps(scale, _mm256_set1_ps(-32))};
}

/* ---- levels ---- */

/* 16 bytes of nibbles: the low ones are the first 16 weights. */
INLINE __m256i nibbles(const uint8_t *qs) {
    __m128i q = _mm_loadu_si128((const void *)qs);
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(q), _mm_srli_epi16(q, 4), 1);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* Bit i of a word as 16 in byte i. */
INLINE __m256i fifth_bits(uint32_t bits) {
    const __m256i spread =
        _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), spread);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

INLINE __m256i q4_0_levels(const void *row, int part) {
    return nibbles(((const struct q4_0 *)row + part)->qs);
}

INLINE __m256i q4_1_levels(const void *row, int part) {
    return nibbles(((const struct q4_1 *)row + part)->qs);
}

INLINE __m256i q5_0_levels(const void *row, int part) {
    const struct q5_0 *b = (const struct q5_0 *)row + part;
    return _mm256_or_si256(nibbles(b->qs), fifth_bits(load32(b->qh)));
}

INLINE __m256i q5_1_levels(const void *row, int part) {
    const struct q5_1 *b = (const struct q5_1 *)row + part;
    return _mm256_or_si256(nibbles(b->qs), fifth_bits(load32(b->qh)));
}

INLINE __m256i q8_0_levels(const void *row, int part) {
    return _mm256_xor_si256(load256(((const struct q8_0 *)row + part)->qs), _mm256_set1_epi8(-128));
}

/* Bits from `from` on of each byte, `mask` of them. */
INLINE __m256i bits_of(__m256i bytes, int from, char mask) {
    return _mm256_and_si256(_mm256_srli_epi16(bytes, from), _mm256_set1_epi8(mask));
}

INLINE __m256i q4_k_levels(const void *row, int part) {
    const struct q4_k *b = (const struct q4_k *)row + part / 8;
    int sub = part % 8;
    return bits_of(load256(b->qs + sub / 2 * 32), sub % 2 * 4, 15);
}

INLINE __m256i q5_k_levels(const void *row, int part) {
    const struct q5_k *b = (const struct q5_k *)row + part / 8;
    int sub = part % 8; // whose fifth bits are bit sub of the bytes of qh
    __m256i fifth = _mm256_slli_epi16(bits_of(load256(b->qh), sub, 1), 4);
    return _mm256_or_si256(bits_of(load256(b->qs + sub / 2 * 32), sub % 2 * 4, 15), fifth);
}

INLINE __m256i q6_k_levels(const void *row, int part) {
    const struct q6_k *b = (const struct q6_k *)row + part / 8;
    int half = part % 8 / 4, sub = part % 4;
    __m256i high = _mm256_slli_epi16(bits_of(load256(b->qh + 32 * half), sub * 2, 3), 4);
    return _mm256_or_si256(bits_of(load256(b->ql + 64 * half + sub % 2 * 32), sub / 2 * 4, 15), high);
}

/* ---- both ---- */

/* together: parts that share bytes */
#define UNPACK(format, together)                                                                       \
    static void format##_unpack(uint8_t *u, float *scale, float *offset, const void *row, int k) {     \
        int parts = k / 32, groups = sizeof(struct format) == sizeof(struct q6_k) ? 2 * parts : parts; \
        for (int g = 0; g < groups; g += 8) {                                                          \
            struct eight s = format##_scales(row, g, groups - 1);                                      \
            _mm256_storeu_ps(scale + g, s.scale);                                                      \
            _mm256_storeu_ps(offset + g, s.offset);                                                    \
        }                                                                                              \
        for (int part = 0; part < parts; part += together)                                             \
            UNROLLED_FOR (int c = 0; c < together; c++, u += 32)                                       \
                _mm256_storeu_si256((void *)u, format##_levels(row, part + c));                        \
    }
UNPACK(q4_0, 1)
UNPACK(q4_1, 1)
UNPACK(q5_0, 1)
UNPACK(q5_1, 1)
UNPACK(q8_0, 1)
UNPACK(q4_k, 8)
UNPACK(q5_k, 8)
UNPACK(q6_k, 8)

static block_unpack *const unpackers[BLOCK_TYPES] = {
    [BLOCK_Q4_0] = q4_0_unpack, [BLOCK_Q4_1] = q4_1_unpack, [BLOCK_Q5_0] = q5_0_unpack,
    [BLOCK_Q5_1] = q5_1_unpack, [BLOCK_Q8_0] = q8_0_unpack, [BLOCK_Q4_K] = q4_k_unpack,
    [BLOCK_Q5_K] = q5_k_unpack, [BLOCK_Q6_K] = q6_k_unpack,
};
#endif
