/* immintrin.h: AVX-512 for a CPU that has none, so that its kernels can be tested on any. SIMDe has most of
 * it; what its version in Debian 12 lacks, or rounds unlike the instruction, stands here, a lane at a time.
 * What neither has does not compile: the compiler's own functions want the real instruction set. */
#ifndef EMULATED_IMMINTRIN_H
#define EMULATED_IMMINTRIN_H
#pragma GCC system_header
#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <math.h>
#include <simde/x86/avx512.h>
#include <string.h>

#define EMULATED static inline __attribute__((always_inline))

/* ---- memory under a mask: a lane that is off is not touched ---- */

EMULATED __m512i emulated_load(uint64_t mask, const void *p, size_t size) {
    char r[64] = {0};
    for (size_t i = 0; i < 64 / size; i++)
        if (mask >> i & 1)
            memcpy(r + size * i, (const char *)p + size * i, size);
    return _mm512_loadu_si512(r);
}
EMULATED void emulated_store(void *p, uint64_t mask, __m512i x, size_t size) {
    char r[64];
    _mm512_storeu_si512(r, x);
    for (size_t i = 0; i < 64 / size; i++)
        if (mask >> i & 1)
            memcpy((char *)p + size * i, r + size * i, size);
}
#define _mm512_maskz_loadu_ps(k, p) _mm512_castsi512_ps(emulated_load(k, p, 4))
#define _mm512_maskz_loadu_epi32(k, p) emulated_load(k, p, 4)
#define _mm512_maskz_loadu_epi16(k, p) emulated_load(k, p, 2)
#define _mm512_maskz_loadu_epi8(k, p) emulated_load(k, p, 1)
#define _mm512_mask_storeu_ps(p, k, x) emulated_store(p, k, _mm512_castps_si512(x), 4)
#define _mm512_mask_storeu_epi32(p, k, x) emulated_store(p, k, x, 4)

/* ---- two halves, each with its AVX2 instruction ---- */

EMULATED __m256 emulated_lower(__m512 x) {
    return _mm512_castps512_ps256(x);
}
EMULATED __m256 emulated_upper(__m512 x) {
    return _mm256_castsi256_ps(_mm512_extracti64x4_epi64(_mm512_castps_si512(x), 1));
}
EMULATED __m512i emulated_joini(__m256i lower, __m256i upper) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1);
}
EMULATED __m512 emulated_join(__m256 lower, __m256 upper) {
    return _mm512_castsi512_ps(emulated_joini(_mm256_castps_si256(lower), _mm256_castps_si256(upper)));
}
EMULATED __m512i emulated_srai_epi32(__m512i x, unsigned count) {
    int by = (int)count;
    return emulated_joini(_mm256_srai_epi32(_mm512_castsi512_si256(x), by),
                          _mm256_srai_epi32(_mm512_extracti64x4_epi64(x, 1), by));
}
EMULATED __m512 emulated_cvtepi32_ps(__m512i x) {
    return emulated_join(_mm256_cvtepi32_ps(_mm512_castsi512_si256(x)),
                         _mm256_cvtepi32_ps(_mm512_extracti64x4_epi64(x, 1)));
}
EMULATED __m512i emulated_cvtps_epi32(__m512 x) {
    return emulated_joini(_mm256_cvtps_epi32(emulated_lower(x)), _mm256_cvtps_epi32(emulated_upper(x)));
}
EMULATED __m512i emulated_cvtepu8_epi32(__m128i x) {
    return emulated_joini(_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8)));
}
EMULATED __m512i emulated_cvtepu16_epi32(__m256i x) {
    return emulated_joini(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(x)),
                          _mm256_cvtepu16_epi32(_mm256_extracti128_si256(x, 1)));
}
EMULATED __m512 emulated_cvtph_ps(__m256i x) {
    return emulated_join(_mm256_cvtph_ps(_mm256_castsi256_si128(x)),
                         _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1)));
}
#define _mm512_cvtepi32_ps(x) emulated_cvtepi32_ps(x)
#define _mm512_srai_epi32 emulated_srai_epi32
#define _mm512_cvtps_epi32(x) emulated_cvtps_epi32(x)
#define _mm512_cvtepu8_epi32(x) emulated_cvtepu8_epi32(x)
#define _mm512_cvtepu16_epi32(x) emulated_cvtepu16_epi32(x)
#define _mm512_cvtph_ps(x) emulated_cvtph_ps(x)
#define _mm512_cvtps_ph(x, how) \
    _mm256_setr_m128i(_mm256_cvtps_ph(emulated_lower(x), how), _mm256_cvtps_ph(emulated_upper(x), how))
#define _mm512_permute_ps(x, how) \
    emulated_join(_mm256_permute_ps(emulated_lower(x), how), _mm256_permute_ps(emulated_upper(x), how))
#define _mm512_shuffle_f32x4(a, b, how) \
    _mm512_castsi512_ps(_mm512_shuffle_i32x4(_mm512_castps_si512(a), _mm512_castps_si512(b), how))

/* ---- a lane at a time ---- */

EMULATED __m512 emulated_scalef_ps(__m512 x, __m512 n) {
    for (int i = 0; i < 16; i++)
        x[i] = isnan(n[i]) ? n[i] : ldexpf(x[i], (int)fmaxf(-1000, fminf(1000, floorf(n[i]))));
    return x;
}
#undef _mm512_scalef_ps
#define _mm512_scalef_ps(x, n) emulated_scalef_ps(x, n)

/* Nearest even; a subnormal counts as zero. */
EMULATED uint16_t emulated_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    if (isnan(x))
        return (uint16_t)(u >> 16 | 64);
    return (uint16_t)(u & 0x7f800000 ? (u + 0x7fff + (u >> 16 & 1)) >> 16 : u >> 31 << 15);
}
EMULATED __m512i emulated_cvtne2ps_pbh(__m512 upper, __m512 lower) {
    uint16_t r[32];
    for (int i = 0; i < 16; i++) {
        r[i] = emulated_bf16(lower[i]);
        r[16 + i] = emulated_bf16(upper[i]);
    }
    return _mm512_loadu_si512(r);
}
#define _mm512_cvtne2ps_pbh(upper, lower) emulated_cvtne2ps_pbh(upper, lower)

/* Sums and maxima of a vector: halves onto halves. */
#define EMULATED_REDUCE(name, type, vector, combine) \
    EMULATED type emulated_##name(vector x) {        \
        type r[16];                                  \
        memcpy(r, &x, sizeof x);                     \
        for (int half = 8; half; half /= 2)          \
            for (int i = 0; i < half; i++) {         \
                type a = r[i], b = r[i + half];      \
                r[i] = combine;                      \
            }                                        \
        return r[0];                                 \
    }
EMULATED_REDUCE(reduce_add_ps, float, __m512, a + b)
EMULATED_REDUCE(reduce_max_ps, float, __m512, a > b ? a : b)
EMULATED_REDUCE(reduce_add_epi32, int32_t, __m512i, a + b)
EMULATED_REDUCE(reduce_max_epi32, int32_t, __m512i, a > b ? a : b)
#define _mm512_reduce_add_ps(x) emulated_reduce_add_ps(x)
#define _mm512_reduce_max_ps(x) emulated_reduce_max_ps(x)
#define _mm512_reduce_add_epi32(x) emulated_reduce_add_epi32(x)
#define _mm512_reduce_max_epi32(x) emulated_reduce_max_epi32(x)
#endif
