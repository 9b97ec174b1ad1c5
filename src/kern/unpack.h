/* unpack.h: a row of each format as unsigned bytes with a scale and an offset for each group, in AVX2 (a
 * block is 32 bytes wide whatever the vectors of the products are). One function a format: decoding to
 * floats, dot products and panels all start from its output. */
#ifndef KERN_UNPACK_H
#define KERN_UNPACK_H
#include <immintrin.h>

#include "kern/kern.h"

static inline float half_at(const uint8_t *p) {
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(load16(p))));
}

/* 16 bytes of nibbles: the low ones are the first 16 weights. */
static inline __m256i nibbles(const uint8_t *qs) {
    __m128i q = _mm_loadu_si128((const void *)qs);
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(q), _mm_srli_epi16(q, 4), 1);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* Bit i of a word as 16 in byte i. */
static inline __m256i fifth_bits(const uint8_t *qh) {
    const __m256i spread =
        _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)load32(qh)), spread);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

static inline void store32(uint8_t *u, __m256i x) { _mm256_storeu_si256((void *)u, x); }

/* Scales are gathered as they are first and converted eight at a time: one by one they cost more than the
 * weights. Blocks go in runs of RUN for that. */
enum { RUN = 64 };

static inline void put_floats(float *out, __m256 x, int n) {
    if (n >= 8)
        _mm256_storeu_ps(out, x);
    else
        _mm256_maskstore_ps(
            out, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), x);
}

/* Halves d to d and zero * d. */
static inline void put_scales(float *scale, float *offset, const uint16_t *halves, int n, float zero) {
    for (int i = 0; i < n; i += 8) {
        __m256 d = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(halves + i)));
        put_floats(scale + i, d, n - i);
        put_floats(offset + i, _mm256_mul_ps(d, _mm256_set1_ps(zero)), n - i);
    }
}

/* Pairs of halves d, m. */
static inline void put_pairs(float *scale, float *offset, const uint32_t *pairs, int n) {
    for (int i = 0; i < n; i += 8) {
        __m256i both = _mm256_loadu_si256((const void *)(pairs + i));
        __m256i d = _mm256_and_si256(both, _mm256_set1_epi32(0xffff)), m = _mm256_srli_epi32(both, 16);
        __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(d, m), 0xd8);
        put_floats(scale + i, _mm256_cvtph_ps(_mm256_castsi256_si128(packed)), n - i);
        put_floats(offset + i, _mm256_cvtph_ps(_mm256_extracti128_si256(packed, 1)), n - i);
    }
}

/* Formats with a scale a block: its levels are LEVELS, half is its first field; zero is less the zero point.
 */
#define UNPACK_SCALED(format, LEVELS, zero)                                                        \
    static void format##_unpack(uint8_t *u, float *scale, float *offset, const void *row, int k) { \
        const struct format *b = row;                                                              \
        uint16_t halves[RUN] = {0};                                                                \
        for (int left = k / QK; left > 0; left -= RUN, scale += RUN, offset += RUN) {              \
            int n = left < RUN ? left : RUN;                                                       \
            for (int g = 0; g < n; g++, b++, u += QK) {                                            \
                memcpy(halves + g, b->d, 2);                                                       \
                store32(u, LEVELS);                                                                \
            }                                                                                      \
            put_scales(scale, offset, halves, n, zero);                                            \
        }                                                                                          \
    }

/* Formats with a scale and a minimum a block. */
#define UNPACK_PAIRED(format, LEVELS)                                                              \
    static void format##_unpack(uint8_t *u, float *scale, float *offset, const void *row, int k) { \
        const struct format *b = row;                                                              \
        uint32_t pairs[RUN] = {0};                                                                 \
        for (int left = k / QK; left > 0; left -= RUN, scale += RUN, offset += RUN) {              \
            int n = left < RUN ? left : RUN;                                                       \
            for (int g = 0; g < n; g++, b++, u += QK) {                                            \
                memcpy(pairs + g, b, 4);                                                           \
                store32(u, LEVELS);                                                                \
            }                                                                                      \
            put_pairs(scale, offset, pairs, n);                                                    \
        }                                                                                          \
    }

UNPACK_SCALED(q4_0, nibbles(b->qs), -8)
UNPACK_SCALED(q5_0, _mm256_or_si256(nibbles(b->qs), fifth_bits(b->qh)), -16)
UNPACK_SCALED(q8_0, _mm256_xor_si256(_mm256_loadu_si256((const void *)b->qs), _mm256_set1_epi8(-128)), -128)
UNPACK_PAIRED(q4_1, nibbles(b->qs))
UNPACK_PAIRED(q5_1, _mm256_or_si256(nibbles(b->qs), fifth_bits(b->qh)))

/* Six-bit scales and minima of a super-block, times d and -dmin. */
static inline void k_scales(float *scale, float *offset, const uint8_t *packed, float d, float dmin) {
    uint32_t w0 = load32(packed), w1 = load32(packed + 4), w2 = load32(packed + 8);
    uint32_t s1 = (w2 & 0x0f0f0f0f) | (w0 >> 6 & 0x03030303) << 4,
             m1 = (w2 >> 4 & 0x0f0f0f0f) | (w1 >> 6 & 0x03030303) << 4;
    __m256i s = _mm256_cvtepu8_epi32(_mm_set_epi32(0, 0, (int)s1, (int)(w0 & 0x3f3f3f3f)));
    __m256i m = _mm256_cvtepu8_epi32(_mm_set_epi32(0, 0, (int)m1, (int)(w1 & 0x3f3f3f3f)));
    _mm256_storeu_ps(scale, _mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(s)));
    _mm256_storeu_ps(offset, _mm256_mul_ps(_mm256_set1_ps(-dmin), _mm256_cvtepi32_ps(m)));
}

static void q4_k_unpack(uint8_t *u, float *scale, float *offset, const void *row, int k) {
    const struct q4_k *b = row;
    const __m256i low = _mm256_set1_epi8(15);
    for (; k > 0; k -= QK_K, b++, scale += 8, offset += 8) {
        k_scales(scale, offset, b->scales, half_at(b->d), half_at(b->dmin));
        for (int c = 0; c < 4; c++, u += 64) {
            __m256i q = _mm256_loadu_si256((const void *)(b->qs + 32 * c));
            store32(u, _mm256_and_si256(q, low));
            store32(u + 32, _mm256_and_si256(_mm256_srli_epi16(q, 4), low));
        }
    }
}

static void q5_k_unpack(uint8_t *u, float *scale, float *offset, const void *row, int k) {
    const struct q5_k *b = row;
    const __m256i low = _mm256_set1_epi8(15), fifth = _mm256_set1_epi8(16);
    for (; k > 0; k -= QK_K, b++, scale += 8, offset += 8) {
        k_scales(scale, offset, b->scales, half_at(b->d), half_at(b->dmin));
        __m256i high = _mm256_loadu_si256((const void *)b->qh); // bit i of a byte: sub-block i
        for (int c = 0; c < 4; c++, u += 64) {
            __m256i q = _mm256_loadu_si256((const void *)(b->qs + 32 * c));
            __m256i h0 = _mm256_and_si256(_mm256_slli_epi16(high, 4), fifth);
            __m256i h1 = _mm256_and_si256(_mm256_slli_epi16(high, 3), fifth);
            store32(u, _mm256_or_si256(_mm256_and_si256(q, low), h0));
            store32(u + 32, _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(q, 4), low), h1));
            high = _mm256_srli_epi16(high, 2);
        }
    }
}

static void q6_k_unpack(uint8_t *u, float *scale, float *offset, const void *row, int k) {
    const struct q6_k *b = row;
    const __m256i low = _mm256_set1_epi8(15), top = _mm256_set1_epi8(48);
    for (; k > 0; k -= QK_K, b++, scale += 16, offset += 16) {
        __m256 d = _mm256_set1_ps(half_at(b->d));
        for (int i = 0; i < 16; i += 8) {
            __m256i s8 = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(b->scales + i)));
            __m256 s = _mm256_mul_ps(d, _mm256_cvtepi32_ps(s8));
            _mm256_storeu_ps(scale + i, s);
            _mm256_storeu_ps(offset + i, _mm256_mul_ps(s, _mm256_set1_ps(-32)));
        }
        for (int half = 0; half < 2; half++, u += 128) {
            __m256i a = _mm256_loadu_si256((const void *)(b->ql + 64 * half));
            __m256i c = _mm256_loadu_si256((const void *)(b->ql + 64 * half + 32));
            __m256i h = _mm256_loadu_si256((const void *)(b->qh + 32 * half));
            __m256i h0 = _mm256_and_si256(_mm256_slli_epi16(h, 4), top),
                    h1 = _mm256_and_si256(_mm256_slli_epi16(h, 2), top);
            __m256i h2 = _mm256_and_si256(h, top), h3 = _mm256_and_si256(_mm256_srli_epi16(h, 2), top);
            store32(u, _mm256_or_si256(_mm256_and_si256(a, low), h0));
            store32(u + 32, _mm256_or_si256(_mm256_and_si256(c, low), h1));
            store32(u + 64, _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(a, 4), low), h2));
            store32(u + 96, _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(c, 4), low), h3));
        }
    }
}

static block_unpack *const unpackers[BLOCK_TYPES] = {
    [BLOCK_Q4_0] = q4_0_unpack, [BLOCK_Q4_1] = q4_1_unpack, [BLOCK_Q5_0] = q5_0_unpack,
    [BLOCK_Q5_1] = q5_1_unpack, [BLOCK_Q8_0] = q8_0_unpack, [BLOCK_Q4_K] = q4_k_unpack,
    [BLOCK_Q5_K] = q5_k_unpack, [BLOCK_Q6_K] = q6_k_unpack,
};
#endif
