/* vec_avx2.h: what kern_body.h is written in, for AVX2 with FMA and F16C. */
#ifndef KERN_VEC_AVX2_H
#define KERN_VEC_AVX2_H
#include "kern/unpack.h"

#define LANES 8
#define VECTORS 2
#define STRIP 6 /* 6 x 2 accumulators of 16 registers */
#define Q8_VECTORS 2
#define Q8_STRIP 4 /* 4 x 2 accumulators; their sums in floats lie in memory meanwhile */
#define Q8_FEW 4   /* rows that any unit serves as it is packed */
/* Bytes from what is worked on to what is asked for meanwhile: Zen 3 alone doesn't read as fast. */
#define READ_AHEAD 2048

typedef __m256 vf;
typedef __m256i vi;

INLINE vi first_n(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
/* Masks only where they are needed: a masked store takes twenty times a whole one's time. */
INLINE vf vf_load_n(const float *p, int n) {
    return n >= LANES ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, first_n(n));
}
INLINE void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
INLINE void vf_store_n(float *p, vf x, int n) {
    if (n >= LANES)
        _mm256_storeu_ps(p, x);
    else
        _mm256_maskstore_ps(p, first_n(n), x);
}
INLINE vf vf_set(float x) { return _mm256_set1_ps(x); }
INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); } /* b where either is NaN */
INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
INLINE vf vf_root(vf x) { return _mm256_sqrt_ps(x); }
INLINE vf vf_round(vf x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/* x 2^n for n from -152 to 130: in two steps, each within an exponent's range */
INLINE vf vf_power(vf x, vf n) {
    vi i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), rest = _mm256_sub_epi32(i, half);
    const vi bias = _mm256_set1_epi32(127);
    x = x * _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    return x * _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
}
INLINE float vf_sum(vf x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
/* Four sums, each as vf_sum has it. */
INLINE v4 vf_sum4(vf a, vf b, vf c, vf d) {
    vf ab = _mm256_permute2f128_ps(a, b, 0x20) + _mm256_permute2f128_ps(a, b, 0x31);
    vf cd = _mm256_permute2f128_ps(c, d, 0x20) + _mm256_permute2f128_ps(c, d, 0x31);
    vf all = _mm256_shuffle_ps(ab, cd, 0x44) + _mm256_shuffle_ps(ab, cd, 0xee); // a c | b d, two of each
    all = all + _mm256_movehdup_ps(all);
    __m128 ac = _mm256_castps256_ps128(all), bd = _mm256_extractf128_ps(all, 1);
    return _mm_shuffle_ps(_mm_unpacklo_ps(ac, bd), _mm_unpackhi_ps(ac, bd), 0x44);
}
INLINE float vf_top(vf x) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
/* -x where the lane's top bit is set */
INLINE vf vf_neg_where(vf x, vi bits) {
    return _mm256_xor_ps(x, _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(INT32_MIN))));
}
/* a where bit 0 is set, else b */
INLINE vf vf_pick(vi odd, vf a, vf b) {
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(_mm256_slli_epi32(odd, 31)));
}
INLINE vf vf_from_halves(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
INLINE void vf_to_halves(void *p, vf x) {
    _mm_storeu_si128(p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE vf vf_from_bhalves(const void *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
INLINE vf vf_from_bytes(const void *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p)));
}
/* x[0], x[2], .. and x[1], x[3], .. of 2 LANES numbers, and back. */
INLINE void vf_split(vf lo, vf hi, vf *even, vf *odd) {
    vf a = _mm256_permute2f128_ps(lo, hi, 0x20), b = _mm256_permute2f128_ps(lo, hi, 0x31);
    *even = _mm256_shuffle_ps(a, b, 0x88);
    *odd = _mm256_shuffle_ps(a, b, 0xdd);
}
INLINE void vf_join(vf even, vf odd, vf *lo, vf *hi) {
    vf a = _mm256_unpacklo_ps(even, odd), b = _mm256_unpackhi_ps(even, odd);
    *lo = _mm256_permute2f128_ps(a, b, 0x20);
    *hi = _mm256_permute2f128_ps(a, b, 0x31);
}

INLINE vi vi_zero(void) { return _mm256_setzero_si256(); }
INLINE vi vi_load(const void *p) { return _mm256_loadu_si256(p); }
INLINE vi vi_load_n(const void *p, int n) {
    return n >= LANES ? _mm256_loadu_si256(p) : _mm256_maskload_epi32(p, first_n(n));
}
INLINE void vi_store(void *p, vi x) { _mm256_storeu_si256(p, x); }
INLINE vi vi_set(int32_t x) { return _mm256_set1_epi32(x); }
INLINE vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
INLINE vi vi_up(vi a, int by) { return _mm256_slli_epi32(a, by); }
INLINE vi vi_down(vi a, int by) { return _mm256_srli_epi32(a, by); } /* zeros come in */
INLINE vi vi_down_signed(vi a, int by) { return _mm256_srai_epi32(a, by); }
INLINE vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
INLINE vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
INLINE vi vi_max(vi a, vi b) { return _mm256_max_epi32(a, b); }
INLINE int32_t vi_top(vi x) {
    __m128i s = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
INLINE int32_t vi_sum(vi x) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
INLINE vi vi_magnitude(vf x) {
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(INT32_MAX));
}
INLINE vi vi_nearest(vf x) { return _mm256_cvtps_epi32(x); }
INLINE vf vi_float(vi x) { return _mm256_cvtepi32_ps(x); }
INLINE void vi_put_bytes(int8_t *p, vi x) {
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64((void *)p, _mm_packs_epi16(words, words));
}

/* Four u8 x s8 of each lane: pairs are added in 16 bits, as many as these hold (vi_total then gives a lane's
 * sum). They may begin below zero by what the levels' zero point 2^shift adds, and then hold whatever the
 * centred levels would. */
INLINE vi vi_levels(vi pairs, vi u, vi s) {
    vi product; /* in assembly for the reason of vi_dot_words */
    __asm__("vpmaddubsw %2, %3, %1\n\tvpaddw %1, %0, %0" : "+x"(pairs), "=&x"(product) : "x"(s), "x"(u));
    return pairs;
}
/* Two of these: both products begin before either is added. */
INLINE void vi_levels_two(vi pairs[2], const vi u[2], vi s) {
    vi first, second;
    __asm__("vpmaddubsw %4, %5, %2\n\tvpmaddubsw %4, %6, %3\n\tvpaddw %2, %0, %0\n\tvpaddw %3, %1, %1"
            : "+x"(pairs[0]), "+x"(pairs[1]), "=&x"(first), "=&x"(second)
            : "x"(s), "x"(u[0]), "x"(u[1]));
}
INLINE vi vi_first_levels(vi u, vi s) { return _mm256_maddubs_epi16(u, s); }
INLINE vi vi_total(vi pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }
/* The lower or upper two s8 of each lane as s16; one of those in the form of vi_times, which multiplies what
 * vi_total would give. */
INLINE vi vi_two_factors(vi bytes, int upper) {
    const int b = 2 * upper, high = b << 8 | (b + 1) << 24 | 0x800080;
    const vi order = _mm256_setr_epi32(high, high + 0x04000400, high + 0x08000800, high + 0x0c000c00, high,
                                       high + 0x04000400, high + 0x08000800, high + 0x0c000c00);
    return _mm256_srai_epi16(_mm256_shuffle_epi8(bytes, order), 8);
}
INLINE vi vi_factor(vi two, int second) {
    return second ? _mm256_blend_epi16(two, _mm256_srli_epi32(two, 16), 0x55)
                  : _mm256_blend_epi16(two, _mm256_slli_epi32(two, 16), 0xaa);
}
INLINE vi vi_times(vi pairs, vi factor) { return _mm256_madd_epi16(pairs, factor); }
INLINE vi vi_start(int32_t start, int shift) { return _mm256_slli_epi16(_mm256_set1_epi32(start), shift); }
/* -(q_1 + ..) in the form of vi_start, for sums n of lanes; *sum is q_1 + .. */
INLINE int32_t vi_start_of(vi n, int32_t *sum) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    int32_t even = _mm_cvtsi128_si32(two), odd = _mm_extract_epi32(two, 2);
    *sum = even + odd;
    return (int32_t)((uint32_t)(-even & 0xffff) | (uint32_t)-odd << 16);
}
/* The same of s8 x s8 in 32 bits, begun by vi_bytes_start. A sign goes from the weight to its partner: then
 * two products fit into 16 bits, even those of -128. */
INLINE vi vi_bytes_start(int32_t start) {
    (void)start;
    return _mm256_setzero_si256();
}
INLINE vi vi_bytes(vi sum, vi w, vi s) {
    return _mm256_add_epi32(sum, vi_total(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(s, w))));
}
INLINE void vi_bytes_two(vi sums[2], const vi w[2], vi s) {
    vi first, second, sizes[2] = {_mm256_abs_epi8(w[0]), _mm256_abs_epi8(w[1])};
    __asm__("vpsignb %5, %4, %2\n\tvpsignb %6, %4, %3\n\t"
            "vpmaddubsw %2, %7, %2\n\tvpmaddubsw %3, %8, %3\n\t"
            "vpmaddwd %9, %2, %2\n\tvpmaddwd %9, %3, %3\n\t"
            "vpaddd %2, %0, %0\n\tvpaddd %3, %1, %1"
            : "+x"(sums[0]), "+x"(sums[1]), "=&x"(first), "=&x"(second)
            : "x"(s), "x"(w[0]), "x"(w[1]), "x"(sizes[0]), "x"(sizes[1]), "xm"(_mm256_set1_epi16(1)));
}

/* Sixteen words: those of lo, then those of hi. */
INLINE void vi_put_words(int16_t *p, vi lo, vi hi) {
    vi_store(p, _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8));
}
/* The same with each of lo followed by its fellow of hi. */
INLINE void vi_put_pairs(int16_t *p, vi lo, vi hi) {
    vi_store(p, _mm256_blend_epi16(lo, _mm256_slli_epi32(hi, 16), 0xaa));
}
/* x where top is above least or no number, else 0 */
INLINE vf vf_above(vf top, float least, vf x) {
    return _mm256_and_ps(x, _mm256_cmp_ps(top, vf_set(least), _CMP_NLE_UQ));
}
/* sum of two s16 x s16 in each lane. In assembly because gcc would do many products before the first sum and
 * have no registers left for the sums. */
INLINE vi vi_dot_words(vi sum, vi a, vi b) {
    vi product;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(b), "x"(a));
    return sum;
}

/* Lane i of row j becomes lane j of row i. */
INLINE void vi_transpose(vi r[LANES]) {
    vi t[LANES];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2x128_si256(r[i], r[4 + i], 0x20);
        t[i + 4] = _mm256_permute2x128_si256(r[i], r[4 + i], 0x31);
    }
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}
#endif
