/* block.c: reading and writing each format, a weight at a time. Writing gives the bytes that llama.cpp's
 * reference quantiser gives; the k-quants can only be read. */
#include "kern/block.h"

#include <math.h>

/* ---- numbers of 16 bits ---- */

float half_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ff;
    if (exponent == 31)
        return bits_f32(sign | 0x7f800000 | fraction << 13);
    if (exponent)
        return bits_f32(sign | (exponent + 112) << 23 | fraction << 13);
    float f = (float)fraction * 0x1p-24f;
    return sign ? -f : f;
}

uint16_t f32_to_half(float f) {
    uint32_t u = f32_bits(f), sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (u >= 0x477ff000) // rounds to 65536 or more
        return (uint16_t)(sign | 0x7c00);
    if (u < 0x38800000) { // subnormal in 16 bits: the adder rounds for us, its last place is 2^-24
        float shifted = bits_f32(u) + 0.5f;
        return (uint16_t)(sign | (f32_bits(shifted) - 0x3f000000));
    }
    u += 0xfff + (u >> 13 & 1);
    return (uint16_t)(sign | (u - 0x38000000) >> 13);
}

uint16_t f32_to_bhalf(float f) {
    uint32_t u = f32_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- reading ---- */

void f32_decode(float *out, const void *in, size_t n) { memcpy(out, in, n * sizeof *out); }

void f16_decode(float *out, const void *in, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = half_to_f32(load16((const uint8_t *)in + 2 * i));
}

void bf16_decode(float *out, const void *in, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = bits_f32((uint32_t)load16((const uint8_t *)in + 2 * i) << 16);
}

void q4_0_decode(float *out, const void *in, size_t n) {
    const struct q4_0 *b = in;
    for (; n; n -= QK, out += QK, b++) {
        float d = half_to_f32(load16(b->d));
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)((b->qs[j] & 15) - 8);
            out[j + 16] = d * (float)((b->qs[j] >> 4) - 8);
        }
    }
}

void q4_1_decode(float *out, const void *in, size_t n) {
    const struct q4_1 *b = in;
    for (; n; n -= QK, out += QK, b++) {
        float d = half_to_f32(load16(b->d)), m = half_to_f32(load16(b->m));
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)(b->qs[j] & 15) + m;
            out[j + 16] = d * (float)(b->qs[j] >> 4) + m;
        }
    }
}

void q5_0_decode(float *out, const void *in, size_t n) {
    const struct q5_0 *b = in;
    for (; n; n -= QK, out += QK, b++) {
        float d = half_to_f32(load16(b->d));
        uint32_t high = load32(b->qh);
        for (int j = 0; j < 16; j++) {
            int lo = (b->qs[j] & 15) | (int)(high >> j & 1) << 4;
            int hi = b->qs[j] >> 4 | (int)(high >> (j + 16) & 1) << 4;
            out[j] = d * (float)(lo - 16);
            out[j + 16] = d * (float)(hi - 16);
        }
    }
}

void q5_1_decode(float *out, const void *in, size_t n) {
    const struct q5_1 *b = in;
    for (; n; n -= QK, out += QK, b++) {
        float d = half_to_f32(load16(b->d)), m = half_to_f32(load16(b->m));
        uint32_t high = load32(b->qh);
        for (int j = 0; j < 16; j++) {
            int lo = (b->qs[j] & 15) | (int)(high >> j & 1) << 4;
            int hi = b->qs[j] >> 4 | (int)(high >> (j + 16) & 1) << 4;
            out[j] = d * (float)lo + m;
            out[j + 16] = d * (float)hi + m;
        }
    }
}

void q8_0_decode(float *out, const void *in, size_t n) {
    const struct q8_0 *b = in;
    for (; n; n -= QK, out += QK, b++) {
        float d = half_to_f32(load16(b->d));
        for (int j = 0; j < QK; j++)
            out[j] = d * (float)b->qs[j];
    }
}

void q4_k_decode(float *out, const void *in, size_t n) {
    const struct q4_k *b = in;
    for (; n; n -= QK_K, b++) {
        float d = half_to_f32(load16(b->d)), dmin = half_to_f32(load16(b->dmin));
        for (int s = 0; s < 8; s++, out += 32) {
            int scale, min, shift = s & 1 ? 4 : 0;
            block_scale_min(b->scales, s, &scale, &min);
            float ds = d * (float)scale, ms = dmin * (float)min;
            const uint8_t *q = b->qs + s / 2 * 32;
            for (int j = 0; j < 32; j++)
                out[j] = ds * (float)(q[j] >> shift & 15) - ms;
        }
    }
}

void q5_k_decode(float *out, const void *in, size_t n) {
    const struct q5_k *b = in;
    for (; n; n -= QK_K, b++) {
        float d = half_to_f32(load16(b->d)), dmin = half_to_f32(load16(b->dmin));
        for (int s = 0; s < 8; s++, out += 32) {
            int scale, min, shift = s & 1 ? 4 : 0;
            block_scale_min(b->scales, s, &scale, &min);
            float ds = d * (float)scale, ms = dmin * (float)min;
            const uint8_t *q = b->qs + s / 2 * 32;
            for (int j = 0; j < 32; j++)
                out[j] = ds * (float)((q[j] >> shift & 15) | (b->qh[j] >> s & 1) << 4) - ms;
        }
    }
}

void q6_k_decode(float *out, const void *in, size_t n) {
    const struct q6_k *b = in;
    for (; n; n -= QK_K, b++) {
        float d = half_to_f32(load16(b->d));
        for (int i = 0; i < QK_K; i++) {
            int half = i / 128, quarter = i / 32 % 4, l = i % 32; // four runs of 32 share the bytes of a half
            int low = b->ql[half * 64 + (quarter & 1) * 32 + l] >> (quarter & 2 ? 4 : 0) & 15;
            int high = b->qh[half * 32 + l] >> 2 * quarter & 3;
            *out++ = d * (float)b->scales[i / 16] * (float)((low | high << 4) - 32);
        }
    }
}

block_decode *const block_decoders[BLOCK_TYPES] = {
    [BLOCK_F32] = f32_decode,   [BLOCK_F16] = f16_decode,   [BLOCK_BF16] = bf16_decode,
    [BLOCK_Q4_0] = q4_0_decode, [BLOCK_Q4_1] = q4_1_decode, [BLOCK_Q5_0] = q5_0_decode,
    [BLOCK_Q5_1] = q5_1_decode, [BLOCK_Q8_0] = q8_0_decode, [BLOCK_Q4_K] = q4_k_decode,
    [BLOCK_Q5_K] = q5_k_decode, [BLOCK_Q6_K] = q6_k_decode,
};

/* ---- units ---- */

#define FIELDS(format, count, first_half, n_halves, first_word, has_fifths) \
    {                                                                       \
        sizeof(struct format), count, first_half, n_halves, first_word,     \
            (sizeof(struct format) - 2 * n_halves) / 4, has_fifths          \
    }
const struct block_fields block_fields[BLOCK_TYPES] = {
    [BLOCK_Q4_0] = FIELDS(q4_0, QK, 0, 1, 2, false),   [BLOCK_Q4_1] = FIELDS(q4_1, QK, 0, 2, 4, false),
    [BLOCK_Q5_0] = FIELDS(q5_0, QK, 0, 1, 2, true),    [BLOCK_Q5_1] = FIELDS(q5_1, QK, 0, 2, 4, true),
    [BLOCK_Q8_0] = FIELDS(q8_0, QK, 0, 1, 2, false),   [BLOCK_Q4_K] = FIELDS(q4_k, QK_K, 0, 2, 4, false),
    [BLOCK_Q5_K] = FIELDS(q5_k, QK_K, 0, 2, 4, false), [BLOCK_Q6_K] = FIELDS(q6_k, QK_K, 208, 1, 0, false),
};

/* Bit 4 s + b of each word to 8 b + s: four bits of each step become a bit of each byte. */
static void spread_fifths(uint32_t *words) {
    for (int r = 0; r < UNIT; r++) {
        uint32_t w = words[r], out = 0;
        for (int b = 0; b < 4; b++) {
            uint32_t x = w >> b & 0x11111111; // eight bits, gathered in three steps
            x = (x | x >> 3) & 0x03030303;
            x = (x | x >> 6) & 0x000f000f;
            out |= ((x | x >> 12) & 0xff) << 8 * b;
        }
        words[r] = out;
    }
}

/* A row after the other, as they lie in memory. f is known to the compiler: its loops are none. */
static inline __attribute__((always_inline)) void pack_rows(unsigned char *unit, const unsigned char *rows,
                                                            size_t row_bytes, int n, int blocks,
                                                            struct block_fields f) {
    for (size_t r = 0; r < (size_t)n; r++, rows += row_bytes) {
        const unsigned char *block = rows;
        unsigned char *half = unit + 2 * r, *word = unit + 2 * UNIT * f.halves + 4 * r;
        for (int b = 0; b < blocks; b++) {
            for (size_t h = 0; h < f.halves; h++)
                memcpy(half + 2 * UNIT * h, block + f.halves_at + 2 * h, 2);
            for (size_t w = 0; w < f.words; w++)
                memcpy(word + 4 * UNIT * w, block + f.words_at + 4 * w, 4);
            block += f.bytes;
            half += UNIT * f.bytes;
            word += UNIT * f.bytes;
        }
    }
    for (int b = 0; f.fifths && b < blocks; b++, unit += UNIT * f.bytes)
        spread_fifths((uint32_t *)(void *)(unit + 2 * UNIT * f.halves));
}

void block_pack(void *unit, const void *in, size_t row_bytes, int rows, int type, int blocks) {
    if (rows < UNIT)
        memset(unit, 0, (size_t)UNIT * block_fields[type].bytes * (size_t)blocks);
    switch (type) {
    case BLOCK_Q4_0: pack_rows(unit, in, row_bytes, rows, blocks, block_fields[BLOCK_Q4_0]); break;
    case BLOCK_Q4_1: pack_rows(unit, in, row_bytes, rows, blocks, block_fields[BLOCK_Q4_1]); break;
    case BLOCK_Q5_0: pack_rows(unit, in, row_bytes, rows, blocks, block_fields[BLOCK_Q5_0]); break;
    case BLOCK_Q5_1: pack_rows(unit, in, row_bytes, rows, blocks, block_fields[BLOCK_Q5_1]); break;
    case BLOCK_Q8_0: pack_rows(unit, in, row_bytes, rows, blocks, block_fields[BLOCK_Q8_0]); break;
    case BLOCK_Q4_K: pack_rows(unit, in, row_bytes, rows, blocks, block_fields[BLOCK_Q4_K]); break;
    case BLOCK_Q5_K: pack_rows(unit, in, row_bytes, rows, blocks, block_fields[BLOCK_Q5_K]); break;
    case BLOCK_Q6_K: pack_rows(unit, in, row_bytes, rows, blocks, block_fields[BLOCK_Q6_K]); break;
    }
}

/* ---- writing ---- */

static void put16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

void f32_encode(void *out, const float *in, size_t n) { memcpy(out, in, n * sizeof *in); }

void f16_encode(void *out, const float *in, size_t n) {
    for (size_t i = 0; i < n; i++)
        put16((uint8_t *)out + 2 * i, f32_to_half(in[i]));
}

void bf16_encode(void *out, const float *in, size_t n) {
    for (size_t i = 0; i < n; i++)
        put16((uint8_t *)out + 2 * i, f32_to_bhalf(in[i]));
}

/* Truncates into 0 .. most; NaN gives 0. */
static uint8_t level(float v, int most) {
    if (!(v > 0))
        return 0;
    return (uint8_t)(v < (float)most ? (int)v : most);
}

/* The element of largest magnitude, the first of equals. */
static float peak(const float *x) {
    float best = 0, value = 0;
    for (int j = 0; j < QK; j++)
        if (fabsf(x[j]) > best) {
            best = fabsf(x[j]);
            value = x[j];
        }
    return value;
}

static void range(const float *x, float *min, float *max) {
    *min = *max = x[0];
    for (int j = 1; j < QK; j++) {
        if (x[j] < *min)
            *min = x[j];
        if (x[j] > *max)
            *max = x[j];
    }
}

/* The low four bits of 32 levels as nibbles, the fifth ones as a word. */
static uint32_t put_levels(uint8_t *qs, const uint8_t *levels) {
    uint32_t high = 0;
    for (int j = 0; j < 16; j++)
        qs[j] = (uint8_t)((levels[j] & 15) | levels[j + 16] << 4);
    for (int j = 0; j < QK; j++)
        high |= (uint32_t)(levels[j] >> 4) << j;
    return high;
}

static void put32(uint8_t *p, uint32_t v) {
    put16(p, (uint16_t)v);
    put16(p + 2, (uint16_t)(v >> 16));
}

void q4_0_encode(void *out, const float *in, size_t n) {
    struct q4_0 *b = out;
    for (; n; n -= QK, in += QK, b++) {
        uint8_t levels[QK];
        float d = peak(in) / -8, inverse = d != 0 ? 1 / d : 0;
        for (int j = 0; j < QK; j++)
            levels[j] = level(in[j] * inverse + 8.5f, 15);
        put16(b->d, f32_to_half(d));
        put_levels(b->qs, levels);
    }
}

void q4_1_encode(void *out, const float *in, size_t n) {
    struct q4_1 *b = out;
    for (; n; n -= QK, in += QK, b++) {
        uint8_t levels[QK];
        float min, max;
        range(in, &min, &max);
        float d = (max - min) / 15, inverse = d != 0 ? 1 / d : 0;
        for (int j = 0; j < QK; j++)
            levels[j] = level((in[j] - min) * inverse + 0.5f, 15);
        put16(b->d, f32_to_half(d));
        put16(b->m, f32_to_half(min));
        put_levels(b->qs, levels);
    }
}

void q5_0_encode(void *out, const float *in, size_t n) {
    struct q5_0 *b = out;
    for (; n; n -= QK, in += QK, b++) {
        uint8_t levels[QK];
        float d = peak(in) / -16, inverse = d != 0 ? 1 / d : 0;
        for (int j = 0; j < QK; j++)
            levels[j] = level(in[j] * inverse + 16.5f, 31);
        put16(b->d, f32_to_half(d));
        put32(b->qh, put_levels(b->qs, levels));
    }
}

void q5_1_encode(void *out, const float *in, size_t n) {
    struct q5_1 *b = out;
    for (; n; n -= QK, in += QK, b++) {
        uint8_t levels[QK];
        float min, max;
        range(in, &min, &max);
        float d = (max - min) / 31, inverse = d != 0 ? 1 / d : 0;
        for (int j = 0; j < QK; j++)
            levels[j] = level((in[j] - min) * inverse + 0.5f, 31);
        put16(b->d, f32_to_half(d));
        put16(b->m, f32_to_half(min));
        put32(b->qh, put_levels(b->qs, levels));
    }
}

void q8_0_encode(void *out, const float *in, size_t n) {
    struct q8_0 *b = out;
    for (; n; n -= QK, in += QK, b++) {
        float d = fabsf(peak(in)) / 127, inverse = d != 0 ? 1 / d : 0;
        for (int j = 0; j < QK; j++) {
            float v = roundf(in[j] * inverse);
            b->qs[j] = (int8_t)(v >= -127 && v <= 127 ? v : 0); // only NaN and infinity are outside
        }
        put16(b->d, f32_to_half(d));
    }
}
