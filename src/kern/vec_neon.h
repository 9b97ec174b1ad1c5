/* vec_neon.h: what kern_body.h is written in, for aarch64, where every CPU has NEON. A vector has four lanes,
 * of which the operators of C are; the 32 registers hold the tile that AVX-512 has. */
#ifndef KERN_VEC_NEON_H
#define KERN_VEC_NEON_H
#include <arm_neon.h>

#include "kern/isa.h"

#define LANES 4
#define VECTORS 4
#define STRIP 6
#define Q8_VECTORS 4
#define Q8_STRIP 3
#define Q8_FEW 8 /* rows that any unit serves as it is packed */
#define READ_AHEAD 0

typedef float32x4_t vf;
typedef int32x4_t vi;
typedef vf v4;

INLINE v4 v4_load(const float *p) { return vld1q_f32(p); }
INLINE void v4_store(float *p, v4 x) { vst1q_f32(p, x); }
INLINE v4 v4_set(float x) { return vdupq_n_f32(x); }

INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
INLINE vf vf_load_n(const float *p, int n) {
    if (n >= 4)
        return vld1q_f32(p);
    vf x = vdupq_n_f32(0);
    if (n > 0)
        x = vld1q_lane_f32(p, x, 0);
    if (n > 1)
        x = vld1q_lane_f32(p + 1, x, 1);
    if (n > 2)
        x = vld1q_lane_f32(p + 2, x, 2);
    return x;
}
INLINE void vf_store(float *p, vf x) { vst1q_f32(p, x); }
INLINE void vf_store_n(float *p, vf x, int n) {
    if (n >= 4) {
        vst1q_f32(p, x);
        return;
    }
    if (n > 0)
        vst1q_lane_f32(p, x, 0);
    if (n > 1)
        vst1q_lane_f32(p + 1, x, 1);
    if (n > 2)
        vst1q_lane_f32(p + 2, x, 2);
}
INLINE vf vf_set(float x) { return vdupq_n_f32(x); }
INLINE vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
INLINE vf vf_max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); } /* b where either is NaN */
INLINE vf vf_min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
INLINE vf vf_round(vf x) { return vrndnq_f32(x); }
/* x 2^n for n from -152 to 130: in two steps, each within an exponent's range */
INLINE vf vf_power(vf x, vf n) {
    vi i = vcvtnq_s32_f32(n), half = vshrq_n_s32(i, 1), rest = vsubq_s32(i, half);
    const vi bias = vdupq_n_s32(127);
    x = x * vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    return x * vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
}
INLINE float vf_sum(vf x) { return vaddv_f32(vadd_f32(vget_low_f32(x), vget_high_f32(x))); }
/* Lower and upper halves of two vectors. */
INLINE vf vf_lower(vf a, vf b) { return vcombine_f32(vget_low_f32(a), vget_low_f32(b)); }
INLINE vf vf_upper(vf a, vf b) { return vcombine_f32(vget_high_f32(a), vget_high_f32(b)); }
/* Four sums, each as vf_sum has it. */
INLINE v4 vf_sum4(vf a, vf b, vf c, vf d) {
    return vpaddq_f32(vf_lower(a, b) + vf_upper(a, b), vf_lower(c, d) + vf_upper(c, d));
}
INLINE float vf_top(vf x) {
    vf two = vf_max(x, vf_upper(x, x)), one = vf_max(two, vrev64q_f32(two));
    return vgetq_lane_f32(one, 0);
}
/* -x where the lane's top bit is set */
INLINE vf vf_neg_where(vf x, vi bits) {
    return vreinterpretq_f32_s32(
        veorq_s32(vreinterpretq_s32_f32(x), vandq_s32(bits, vdupq_n_s32(INT32_MIN))));
}
/* a where bit 0 is set, else b */
INLINE vf vf_pick(vi odd, vf a, vf b) { return vbslq_f32(vtstq_s32(odd, vdupq_n_s32(1)), a, b); }
INLINE vf vf_from_halves(const void *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
INLINE vf vf_half(int h) { return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16((uint16_t)h))); }
INLINE void vf_to_halves(void *p, vf x) { vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(x))); }
INLINE vf vf_from_bhalves(const void *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
/* the bytes of a word */
INLINE vf vf_from_word(uint32_t w) { return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(w))))); }
INLINE vf vf_from_bytes(const void *p) { return vf_from_word(load32(p)); }
/* x[0], x[2], .. and x[1], x[3], .. of 2 LANES numbers, and back. */
INLINE void vf_split(vf lo, vf hi, vf *even, vf *odd) {
    *even = vuzp1q_f32(lo, hi);
    *odd = vuzp2q_f32(lo, hi);
}
INLINE void vf_join(vf even, vf odd, vf *lo, vf *hi) {
    *lo = vzip1q_f32(even, odd);
    *hi = vzip2q_f32(even, odd);
}

INLINE vi vi_zero(void) { return vdupq_n_s32(0); }
INLINE vi vi_load(const void *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
INLINE vi vi_load_n(const void *p, int n) { return vreinterpretq_s32_f32(vf_load_n(p, n)); }
INLINE void vi_store(void *p, vi x) { vst1q_u8(p, vreinterpretq_u8_s32(x)); }
INLINE vi vi_set(int32_t x) { return vdupq_n_s32(x); }
INLINE vi vi_add(vi a, vi b) { return vaddq_s32(a, b); }
INLINE vi vi_up(vi a, int by) { return vshlq_s32(a, vdupq_n_s32(by)); }
INLINE vi vi_down(vi a, int by) { /* zeros come in */
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-by)));
}
INLINE vi vi_down_signed(vi a, int by) { return vshlq_s32(a, vdupq_n_s32(-by)); }
INLINE vi vi_and(vi a, vi b) { return vandq_s32(a, b); }
INLINE vi vi_or(vi a, vi b) { return vorrq_s32(a, b); }
INLINE vi vi_max(vi a, vi b) { return vmaxq_s32(a, b); }
INLINE int32_t vi_top(vi x) { return vmaxvq_s32(x); }
INLINE int32_t vi_sum(vi x) { return vaddvq_s32(x); }
INLINE vi vi_magnitude(vf x) { return vreinterpretq_s32_f32(vabsq_f32(x)); }
INLINE vi vi_nearest(vf x) { return vcvtnq_s32_f32(x); }
INLINE vf vi_float(vi x) { return vcvtq_f32_s32(x); }
INLINE void vi_put_bytes(int8_t *p, vi x) {
    int8x8_t bytes = vqmovn_s16(vcombine_s16(vqmovn_s32(x), vdup_n_s16(0)));
    vst1_lane_s32((void *)p, vreinterpret_s32_s8(bytes), 0);
}

/* sum of four s8 x s8 in each lane; without the instruction for it two products meet in 16 bits */
INLINE vi vi_dot_signed(vi sum, int8x16_t a, int8x16_t b) {
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, a, b);
#else
    int16x8_t lower = vmull_s8(vget_low_s8(a), vget_low_s8(b)), upper = vmull_high_s8(a, b);
    return vpadalq_s16(sum, vpaddq_s16(lower, upper));
#endif
}
/* Four u8 x s8 of each lane, of levels below 128. They may begin below zero by what the levels' zero point
 * 2^shift adds. */
INLINE vi vi_levels(vi sum, vi u, vi s) {
    return vi_dot_signed(sum, vreinterpretq_s8_s32(u), vreinterpretq_s8_s32(s));
}
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
INLINE vi vi_times(vi sum, vi factor) { return vmulq_s32(sum, factor); }
INLINE vi vi_start(int32_t start, int shift) { return vi_up(vi_set(start), shift); }
/* -(q_1 + ..) in the form of vi_start, for sums n of lanes; *sum is q_1 + .. */
INLINE int32_t vi_start_of(vi n, int32_t *sum) {
    *sum = vi_sum(n);
    return -*sum;
}
/* The same of s8 x s8, begun by vi_bytes_start. */
INLINE vi vi_bytes_start(int32_t start) {
    (void)start;
    return vi_zero();
}
INLINE vi vi_bytes(vi sum, vi w, vi s) { return vi_levels(sum, w, s); }
INLINE void vi_bytes_two(vi sums[2], const vi w[2], vi s) {
    sums[0] = vi_bytes(sums[0], w[0], s);
    sums[1] = vi_bytes(sums[1], w[1], s);
}

/* Lane i of row j becomes lane j of row i. */
INLINE void vi_transpose(vi r[LANES]) {
    vf a = vreinterpretq_f32_s32(vtrn1q_s32(r[0], r[1])), b = vreinterpretq_f32_s32(vtrn2q_s32(r[0], r[1]));
    vf c = vreinterpretq_f32_s32(vtrn1q_s32(r[2], r[3])), d = vreinterpretq_f32_s32(vtrn2q_s32(r[2], r[3]));
    r[0] = vreinterpretq_s32_f32(vf_lower(a, c));
    r[1] = vreinterpretq_s32_f32(vf_lower(b, d));
    r[2] = vreinterpretq_s32_f32(vf_upper(a, c));
    r[3] = vreinterpretq_s32_f32(vf_upper(b, d));
}
#endif
