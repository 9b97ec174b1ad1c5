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
/* each of eight numbers twice */
INLINE vf vf_pairs(const float *p, int n) {
    const vi index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(index, vf_load_n(p, n));
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
INLINE vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
INLINE int32_t vi_top(vi x) { return _mm512_reduce_max_epi32(x); }
INLINE int32_t vi_sum(vi x) { return _mm512_reduce_add_epi32(x); }
INLINE vi vi_magnitude(vf x) {
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MAX));
}
INLINE vi vi_nearest(vf x) { return _mm512_cvtps_epi32(x); }
INLINE vf vi_float(vi x) { return _mm512_cvtepi32_ps(x); }
INLINE void vi_put_bytes(int8_t *p, vi x) { _mm_storeu_si128((void *)p, _mm512_cvtsepi32_epi8(x)); }

/* sum of four u8 x s8 in each lane */
INLINE vi vi_dot(vi sum, vi u, vi s, bool wide) {
    (void)wide;
    return _mm512_dpbusd_epi32(sum, u, s);
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

/* Each of the scales of one vector of bytes on the lanes that belong to it: group 32 has two, 16 has four.
 * all holds 16 of them, part says which vector's. */
INLINE vf vf_spread(vf all, int group, int part) {
    const vi by32 = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const vi by16 = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return group == 32 ? _mm512_permutexvar_ps(_mm512_add_epi32(by32, _mm512_set1_epi32(2 * part)), all)
                       : _mm512_permutexvar_ps(_mm512_add_epi32(by16, _mm512_set1_epi32(4 * part)), all);
}

/* ---- rows of each format as they lie in the file ---- */

/* A vector of scales and offsets of a chunk of a row, from group `at` on; what lies beyond n is finite where
 * the format's numbers are. */
typedef void vector_scales(vf *scale, vf *offset, const void *chunk, int at, int n);
/* A vector of levels from part `part` of a chunk on; more: it is not the row's last part, which stands alone.
 */
typedef vi vector_levels(const void *chunk, int part, bool more);

/* The first halves of n blocks and the second ones. A permutation reaches 64 words; a lane that it does not
 * concern keeps its index, which is a harmless half too. */
INLINE vi first_halves(const unsigned char *block, size_t bytes, int n) {
    const int step = (int)bytes / 2;
    uint16_t index[32];
    UNROLLED_FOR (int i = 0; i < 16; i++) {
        index[i] = (uint16_t)(i * step);
        index[16 + i] = (uint16_t)(i * step + 1);
    }
    vi words = vi_load(index);
    UNROLLED_FOR (int at = 0; at < 15 * step + 2; at += 64) {
        int left = n * step - at;
        if (left <= 0)
            break;
        uint32_t mask = 0;
        UNROLLED_FOR (int i = 0; i < 16; i++) {
            mask |= (uint32_t)(i * step >= at && i * step < at + 64) << i;
            mask |= (uint32_t)(i * step + 1 >= at && i * step + 1 < at + 64) << (16 + i);
        }
        const unsigned char *p = block + 2 * (size_t)at;
        vi lo = _mm512_maskz_loadu_epi16(left >= 32 ? ~0u : (1u << left) - 1, p);
        vi hi = _mm512_maskz_loadu_epi16(left >= 64 ? ~0u : left > 32 ? (1u << (left - 32)) - 1 : 0, p + 64);
        words = _mm512_mask2_permutex2var_epi16(lo, words, mask, hi);
    }
    return words;
}

/* Blocks that begin with a scale, whose offset is zero times as much, and blocks that begin with both. */
INLINE void vf_scaled(vf *scale, vf *offset, const void *block, size_t bytes, int n, float zero) {
    *scale = _mm512_cvtph_ps(_mm512_castsi512_si256(first_halves(block, bytes, n)));
    *offset = *scale * vf_set(zero);
}

INLINE void vf_paired(vf *scale, vf *offset, const void *block, size_t bytes, int n) {
    vi halves = first_halves(block, bytes, n);
    *scale = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
    *offset = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
}

INLINE void vf_eights(vf *scale, vf *offset, struct eight a, struct eight b) {
    *scale = _mm512_insertf32x8(_mm512_castps256_ps512(a.scale), b.scale, 1);
    *offset = _mm512_insertf32x8(_mm512_castps256_ps512(a.offset), b.offset, 1);
}

#define VF_SCALED(format, zero)                                                                      \
    INLINE void vf_##format##_scales(vf *scale, vf *offset, const void *chunk, int at, int n) {      \
        vf_scaled(scale, offset, (const struct format *)chunk + at, sizeof(struct format), n, zero); \
    }
#define VF_PAIRED(format)                                                                       \
    INLINE void vf_##format##_scales(vf *scale, vf *offset, const void *chunk, int at, int n) { \
        vf_paired(scale, offset, (const struct format *)chunk + at, sizeof(struct format), n);  \
    }
#define VF_EIGHTS(format)                                                                       \
    INLINE void vf_##format##_scales(vf *scale, vf *offset, const void *chunk, int at, int n) { \
        vf_eights(scale, offset, format##_scales(chunk, at, at + n - 1),                        \
                  format##_scales(chunk, at + 8, at + n - 1));                                  \
    }
VF_SCALED(q4_0, -8)
VF_SCALED(q5_0, -16)
VF_SCALED(q8_0, -128)
VF_PAIRED(q4_1)
VF_PAIRED(q5_1)
VF_EIGHTS(q4_k)
VF_EIGHTS(q5_k)
VF_EIGHTS(q6_k)

#define VI_TWO(format)                                                                  \
    INLINE vi vi_##format##_levels(const void *chunk, int part, bool more) {            \
        return _mm512_inserti64x4(_mm512_castsi256_si512(format##_levels(chunk, part)), \
                                  format##_levels(chunk, more ? part + 1 : part), 1);   \
    }
VI_TWO(q8_0)

/* Four blocks of nibbles from `part` on, the last for those past `left`: a lane has four of a block's first
 * 16 weights in low, and of the others in high. */
INLINE void vi_nibbles(vi *low, vi *high, const void *chunk, int part, int left, struct nibbles f) {
    const unsigned char *b[4];
    uint64_t fifths[2] = {0, 0};
    UNROLLED_FOR (int i = 0; i < 4; i++) {
        b[i] = (const unsigned char *)chunk + (size_t)(part + (i < left ? i : left - 1)) * f.bytes;
        fifths[0] |= (uint64_t)load16(b[i] + f.fifths) << (16 * i);
        fifths[1] |= (uint64_t)load16(b[i] + f.fifths + 2) << (16 * i);
    }
    vi all = _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm256_loadu2_m128i((const void *)(b[1] + f.at), (const void *)(b[0] + f.at))),
        _mm256_loadu2_m128i((const void *)(b[3] + f.at), (const void *)(b[2] + f.at)), 1);
    *low = _mm512_and_si512(all, _mm512_set1_epi8(15));
    *high = _mm512_and_si512(_mm512_srli_epi16(all, 4), _mm512_set1_epi8(15));
    if (f.fifths) {
        const vi sixteen = _mm512_set1_epi8(16);
        *low = _mm512_mask_add_epi8(*low, fifths[0], *low, sixteen);
        *high = _mm512_mask_add_epi8(*high, fifths[1], *high, sixteen);
    }
}

/* Of four blocks of activations the first 16 of each, and the others. */
INLINE vi vi_firsts(vi a, vi b) { return _mm512_shuffle_i32x4(a, b, 0x88); }
INLINE vi vi_seconds(vi a, vi b) { return _mm512_shuffle_i32x4(a, b, 0xdd); }

/* Bits of 32 bytes: of each byte `mask` from `from` on, and in the other half from `then` on. */
INLINE vi vi_bits(const uint8_t *p, int from, int then, char mask) {
    vi twice = _mm512_broadcast_i64x4(load256(p));
    vi by = _mm512_setr_epi64(from, from, from, from, then, then, then, then);
    return _mm512_and_si512(_mm512_srlv_epi64(twice, by), _mm512_set1_epi8(mask));
}

INLINE vi vi_q4_k_levels(const void *chunk, int part, bool more) {
    (void)more;
    const struct q4_k *b = (const struct q4_k *)chunk + part / 8;
    return vi_bits(b->qs + part % 8 / 2 * 32, 0, 4, 15);
}

INLINE vi vi_q5_k_levels(const void *chunk, int part, bool more) {
    (void)more;
    const struct q5_k *b = (const struct q5_k *)chunk + part / 8;
    int sub = part % 8;
    vi fifth = _mm512_slli_epi64(vi_bits(b->qh, sub, sub + 1, 1), 4);
    return _mm512_or_si512(vi_bits(b->qs + sub / 2 * 32, 0, 4, 15), fifth);
}

INLINE vi vi_q6_k_levels(const void *chunk, int part, bool more) {
    (void)more;
    const struct q6_k *b = (const struct q6_k *)chunk + part / 8;
    int half = part % 8 / 4, sub = part % 4;
    vi low = _mm512_and_si512(_mm512_srli_epi64(vi_load(b->ql + 64 * half), (unsigned)sub * 2),
                              _mm512_set1_epi8(15));
    return _mm512_or_si512(low, _mm512_slli_epi64(vi_bits(b->qh + 32 * half, sub * 2, sub * 2 + 2, 3), 4));
}
#endif
