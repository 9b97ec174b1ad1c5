/* formats_neon.h: what unpack.h has for x86, in NEON: the levels and scales of each format, and rows taken
 * apart. */
#ifndef KERN_FORMATS_NEON_H
#define KERN_FORMATS_NEON_H
#include "kern/vec_neon.h"

/* Weights 32 part .. 32 part + 31 of a row. */
struct levels {
    uint8x16_t first, second;
};
typedef struct levels block_levels(const void *row, int part);
/* Groups `at` .. at + 3 of a row, at being a multiple of 4; those past `last` are like the last. */
struct four {
    vf scale, offset;
};
typedef struct four block_scales(const void *row, int at, int last);

/* ---- scales ---- */

/* The halves `skip` bytes into four blocks. */
INLINE vf halves_of(const void *row, size_t bytes, size_t skip, int at, int last) {
    uint16_t h[4];
    UNROLLED_FOR (int i = 0; i < 4; i++)
        h[i] = load16((const uint8_t *)row + (size_t)(at + i < last ? at + i : last) * bytes + skip);
    return vf_from_halves(h);
}

/* Blocks that begin with a scale, whose offset is zero times as much, and blocks that begin with both. */
#define SCALED(format, zero)                                                \
    INLINE struct four format##_scales(const void *row, int at, int last) { \
        vf scale = halves_of(row, sizeof(struct format), 0, at, last);      \
        return (struct four){scale, scale * vf_set(zero)};                  \
    }
#define PAIRED(format)                                                            \
    INLINE struct four format##_scales(const void *row, int at, int last) {       \
        return (struct four){halves_of(row, sizeof(struct format), 0, at, last),  \
                             halves_of(row, sizeof(struct format), 2, at, last)}; \
    }
SCALED(q4_0, -8)
PAIRED(q4_1)
SCALED(q5_0, -16)
PAIRED(q5_1)
SCALED(q8_0, -128)

/* Six-bit scales and minima of half a super-block, times d and -dmin. */
INLINE struct four k_scales(const uint8_t *packed, const uint8_t *d, const uint8_t *dmin, bool upper) {
    uint32_t s = load32(packed), m = load32(packed + 4), rest = load32(packed + 8);
    if (upper) {
        s = (rest & 0x0f0f0f0f) | (s >> 6 & 0x03030303) << 4;
        m = (rest >> 4 & 0x0f0f0f0f) | (m >> 6 & 0x03030303) << 4;
    }
    vf by = vf_half(load16(d)), down = vf_half(load16(dmin) ^ 0x8000);
    return (struct four){by * vf_from_word(s & 0x3f3f3f3f), down * vf_from_word(m & 0x3f3f3f3f)};
}

#define K_SCALES(format)                                                    \
    INLINE struct four format##_scales(const void *row, int at, int last) { \
        const struct format *b = (const struct format *)row + at / 8;       \
        (void)last;                                                         \
        return k_scales(b->scales, b->d, b->dmin, at % 8);                  \
    }
K_SCALES(q4_k)
K_SCALES(q5_k)

INLINE struct four q6_k_scales(const void *row, int at, int last) {
    const struct q6_k *b = (const struct q6_k *)row + at / 16;
    (void)last;
    int8x8_t four = vcreate_s8(load32((const uint8_t *)b->scales + at % 16));
    vf scale = vf_half(load16(b->d)) * vi_float(vmovl_s16(vget_low_s16(vmovl_s8(four))));
    return (struct four){scale, scale * vf_set(-32)};
}

/* ---- levels ---- */

INLINE struct levels nibbles(const uint8_t *qs) {
    uint8x16_t q = vld1q_u8(qs);
    return (struct levels){vandq_u8(q, vdupq_n_u8(15)), vshrq_n_u8(q, 4)};
}

/* 16 where one of 16 bits is set */
INLINE uint8x16_t fifth_bits(const uint8_t *bits) {
    const uint8x8_t bit = vcreate_u8(0x8040201008040201);
    uint8x16_t bytes = vcombine_u8(vdup_n_u8(bits[0]), vdup_n_u8(bits[1]));
    return vandq_u8(vtstq_u8(bytes, vcombine_u8(bit, bit)), vdupq_n_u8(16));
}

/* Bits from `from` on of each byte, `mask` of them. */
INLINE struct levels bits_of(const uint8_t *p, int from, uint8_t mask) {
    int8x16_t down = vdupq_n_s8((int8_t)-from);
    uint8x16_t first = vshlq_u8(vld1q_u8(p), down), second = vshlq_u8(vld1q_u8(p + 16), down);
    return (struct levels){vandq_u8(first, vdupq_n_u8(mask)), vandq_u8(second, vdupq_n_u8(mask))};
}

/* The fifth bits and those above them come on top. */
INLINE struct levels on_top(struct levels low, struct levels high) {
    return (struct levels){vsliq_n_u8(low.first, high.first, 4), vsliq_n_u8(low.second, high.second, 4)};
}

INLINE struct levels q4_0_levels(const void *row, int part) {
    return nibbles(((const struct q4_0 *)row + part)->qs);
}

INLINE struct levels q4_1_levels(const void *row, int part) {
    return nibbles(((const struct q4_1 *)row + part)->qs);
}

INLINE struct levels five_bits(const uint8_t *qs, const uint8_t *qh) {
    struct levels low = nibbles(qs);
    return (struct levels){vorrq_u8(low.first, fifth_bits(qh)), vorrq_u8(low.second, fifth_bits(qh + 2))};
}

INLINE struct levels q5_0_levels(const void *row, int part) {
    const struct q5_0 *b = (const struct q5_0 *)row + part;
    return five_bits(b->qs, b->qh);
}

INLINE struct levels q5_1_levels(const void *row, int part) {
    const struct q5_1 *b = (const struct q5_1 *)row + part;
    return five_bits(b->qs, b->qh);
}

INLINE struct levels q8_0_levels(const void *row, int part) {
    const uint8_t *q = (const uint8_t *)((const struct q8_0 *)row + part)->qs;
    return (struct levels){veorq_u8(vld1q_u8(q), vdupq_n_u8(128)),
                           veorq_u8(vld1q_u8(q + 16), vdupq_n_u8(128))};
}

INLINE struct levels q4_k_levels(const void *row, int part) {
    const struct q4_k *b = (const struct q4_k *)row + part / 8;
    return bits_of(b->qs + part % 8 / 2 * 32, part % 2 * 4, 15);
}

INLINE struct levels q5_k_levels(const void *row, int part) {
    const struct q5_k *b = (const struct q5_k *)row + part / 8;
    int sub = part % 8; // whose fifth bits are bit sub of the bytes of qh
    return on_top(bits_of(b->qs + sub / 2 * 32, sub % 2 * 4, 15), bits_of(b->qh, sub, 1));
}

INLINE struct levels q6_k_levels(const void *row, int part) {
    const struct q6_k *b = (const struct q6_k *)row + part / 8;
    int half = part % 8 / 4, sub = part % 4;
    return on_top(bits_of(b->ql + 64 * half + sub % 2 * 32, sub / 2 * 4, 15),
                  bits_of(b->qh + 32 * half, sub * 2, 3));
}

/* ---- both ---- */

#define FORMAT(format, type)                                                                       \
    static void format##_unpack(uint8_t *u, float *scale, float *offset, const void *row, int k) { \
        int groups = k / block_group(type);                                                        \
        for (int g = 0; g < groups; g += 4) {                                                      \
            struct four s = format##_scales(row, g, groups - 1);                                   \
            vf_store(scale + g, s.scale);                                                          \
            vf_store(offset + g, s.offset);                                                        \
        }                                                                                          \
        for (int part = 0; part < k / 32; part++, u += 32) {                                       \
            struct levels l = format##_levels(row, part);                                          \
            vst1q_u8(u, l.first);                                                                  \
            vst1q_u8(u + 16, l.second);                                                            \
        }                                                                                          \
    }
FORMAT(q4_0, BLOCK_Q4_0)
FORMAT(q4_1, BLOCK_Q4_1)
FORMAT(q5_0, BLOCK_Q5_0)
FORMAT(q5_1, BLOCK_Q5_1)
FORMAT(q8_0, BLOCK_Q8_0)
FORMAT(q4_k, BLOCK_Q4_K)
FORMAT(q5_k, BLOCK_Q5_K)
FORMAT(q6_k, BLOCK_Q6_K)

static block_unpack *const unpackers[BLOCK_TYPES] = {
    [BLOCK_Q4_0] = q4_0_unpack, [BLOCK_Q4_1] = q4_1_unpack, [BLOCK_Q5_0] = q5_0_unpack,
    [BLOCK_Q5_1] = q5_1_unpack, [BLOCK_Q8_0] = q8_0_unpack, [BLOCK_Q4_K] = q4_k_unpack,
    [BLOCK_Q5_K] = q5_k_unpack, [BLOCK_Q6_K] = q6_k_unpack,
};
#endif
