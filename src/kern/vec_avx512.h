/* vec_avx512.h: what kern_body.h is written in, for AVX-512 (F BW VL DQ VNNI BF16). Arithmetic on vf uses the
 * compiler's operators; sums of products contract to FMA. */
#ifndef KERN_VEC_AVX512_H
#define KERN_VEC_AVX512_H
#include "kern/unpack.h"

#define LANES 16
#define VECTORS 4    /* of floats in a full panel */
#define STRIP 6      /* rows of a tile: 6 x 4 accumulators leave room for a step of weights */
#define Q8_VECTORS 2 /* the int8 tile has a second set of accumulators */
#define Q8_STRIP 6
#define Q8_FEW 8     /* rows that any unit serves as it is packed */
#define READ_AHEAD 0 /* Zen 4 reads as fast without */

typedef __m512 vf;
typedef __m512i vi;

INLINE __mmask16 first_n(int n) { return (__mmask16)((1u << n) - 1); }
INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE vf vf_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(first_n(n), p); }
INLINE void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE void vf_store_n(float *p, vf x, int n) { _mm512_mask_storeu_ps(p, first_n(n), x); }
INLINE vf vf_set(float x) { return _mm512_set1_ps(x); }
INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); } /* b where either is NaN */
INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf vf_round(vf x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf vf_power(vf x, vf n) { return _mm512_scalef_ps(x, n); } /* x 2^n */
INLINE float vf_sum(vf x) { return _mm512_reduce_add_ps(x); }
/* Four sums, each as vf_sum has it. */
INLINE v4 vf_sum4(vf a, vf b, vf c, vf d) {
    vf ab = _mm512_shuffle_f32x4(a, b, 0x44) + _mm512_shuffle_f32x4(a, b, 0xee);
    vf cd = _mm512_shuffle_f32x4(c, d, 0x44) + _mm512_shuffle_f32x4(c, d, 0xee);
    vf all = _mm512_shuffle_f32x4(ab, cd, 0x88) + _mm512_shuffle_f32x4(ab, cd, 0xdd);
    all = all + _mm512_permute_ps(all, 0x4e);
    all = all + _mm512_permute_ps(all, 0xb1);
    return _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, all));
}
INLINE float vf_top(vf x) { return _mm512_reduce_max_ps(x); }
/* -x where the lane's top bit is set */
INLINE vf vf_neg_where(vf x, vi bits) {
    return _mm512_castsi512_ps(
        _mm512_xor_si512(_mm512_castps_si512(x), _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MIN))));
}
/* a where bit 0 is set, else b */
INLINE vf vf_pick(vi odd, vf a, vf b) {
    return _mm512_mask_blend_ps(_mm512_test_epi32_mask(odd, _mm512_set1_epi32(1)), b, a);
}
INLINE vf vf_from_halves(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
INLINE void vf_to_halves(void *p, vf x) {
    _mm256_storeu_si256(p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE vf vf_from_bhalves(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
INLINE vf vf_from_bytes(const void *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p)));
}
/* x[0], x[2], .. and x[1], x[3], .. of 2 LANES numbers, and back. */
INLINE void vf_split(vf lo, vf hi, vf *even, vf *odd) {
    const vi e = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *even = _mm512_permutex2var_ps(lo, e, hi);
    *odd = _mm512_permutex2var_ps(lo, _mm512_add_epi32(e, _mm512_set1_epi32(1)), hi);
}
INLINE void vf_join(vf even, vf odd, vf *lo, vf *hi) {
    const vi e = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *lo = _mm512_permutex2var_ps(even, e, odd);
    *hi = _mm512_permutex2var_ps(even, _mm512_add_epi32(e, _mm512_set1_epi32(8)), odd);
}

INLINE vi vi_zero(void) { return _mm512_setzero_si512(); }
INLINE vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
INLINE vi vi_load_n(const void *p, int n) { return _mm512_maskz_loadu_epi32(first_n(n), p); }
INLINE void vi_store(void *p, vi x) { _mm512_storeu_si512(p, x); }
INLINE vi vi_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
INLINE vi vi_up(vi a, int by) { return _mm512_slli_epi32(a, (unsigned)by); }
INLINE vi vi_down(vi a, int by) { return _mm512_srli_epi32(a, (unsigned)by); } /* zeros come in */
INLINE vi vi_down_signed(vi a, int by) { return _mm512_srai_epi32(a, (unsigned)by); }
INLINE vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
INLINE vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
INLINE vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
INLINE int32_t vi_top(vi x) { return _mm512_reduce_max_epi32(x); }
INLINE int32_t vi_sum(vi x) { return _mm512_reduce_add_epi32(x); }
INLINE vi vi_magnitude(vf x) {
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MAX));
}
INLINE vi vi_nearest(vf x) { return _mm512_cvtps_epi32(x); }
INLINE vf vi_float(vi x) { return _mm512_cvtepi32_ps(x); }
INLINE void vi_put_bytes(int8_t *p, vi x) { _mm_storeu_si128((void *)p, _mm512_cvtsepi32_epi8(x)); }

/* Four u8 x s8 of each lane. They may begin below zero by what the levels' zero point 2^shift adds. */
INLINE vi vi_levels(vi sum, vi u, vi s) { return _mm512_dpbusd_epi32(sum, u, s); }
INLINE void vi_levels_two(vi sums[2], const vi u[2], vi s) {
    sums[0] = vi_levels(sums[0], u[0], s);
    sums[1] = vi_levels(sums[1], u[1], s);
}
INLINE vi vi_first_levels(vi u, vi s) { return vi_levels(vi_zero(), u, s); }
INLINE vi vi_total(vi sum) { return sum; }
/* The lower or upper two s8 of each lane; one of those in the form of vi_times, which multiplies what
 * vi_total would give. */
INLINE vi vi_two_factors(vi bytes, int upper) { return upper ? vi_down(bytes, 16) : bytes; }
INLINE vi vi_factor(vi two, int second) { return vi_down_signed(vi_up(two, second ? 16 : 24), 24); }
INLINE vi vi_times(vi sum, vi factor) { return _mm512_mullo_epi32(sum, factor); }
INLINE vi vi_start(int32_t start, int shift) {
    return _mm512_slli_epi32(_mm512_set1_epi32(start), (unsigned)shift);
}
/* -(q_1 + ..) in the form of vi_start, for sums n of lanes; *sum is q_1 + .. */
INLINE int32_t vi_start_of(vi n, int32_t *sum) {
    *sum = _mm512_reduce_add_epi32(n);
    return -*sum;
}
/* The same of s8 x s8, begun by vi_bytes_start: the weights as unsigned ones with zero point 128. */
INLINE vi vi_bytes_start(int32_t start) { return vi_start(start, 7); }
INLINE vi vi_bytes(vi sum, vi w, vi s) {
    return _mm512_dpbusd_epi32(sum, _mm512_xor_si512(w, _mm512_set1_epi8(-128)), s);
}
INLINE void vi_bytes_two(vi sums[2], const vi w[2], vi s) {
    sums[0] = vi_bytes(sums[0], w[0], s);
    sums[1] = vi_bytes(sums[1], w[1], s);
}

/* Lane i of row j becomes lane j of row i. */
INLINE void vi_transpose(vi r[LANES]) {
    vi t[LANES];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) { // now r[4 b + i] holds lanes i, i+4, i+8, i+12 of rows 4 b .. 4 b + 3
        vi a = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88),
           b = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        vi c = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd),
           d = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
        t[i] = _mm512_shuffle_i32x4(a, b, 0x88);
        t[i + 8] = _mm512_shuffle_i32x4(a, b, 0xdd);
        t[i + 4] = _mm512_shuffle_i32x4(c, d, 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
    for (int i = 0; i < 16; i++)
        r[i] = t[i];
}
#endif
