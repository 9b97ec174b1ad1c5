/* block_k.c: numbers into the super-blocks of 256, Q4_K, Q5_K and Q6_K. A block's scale is searched for:
 * several are tried, the levels that each gives are fitted back to the numbers by least squares, and the one
 * that leaves the smallest weighted error stays. Scales themselves are then rounded to a few bits, and the
 * levels chosen again by what was stored. The steps and their order are those of ggml's reference, so that
 * both write the same file. */
#include "kern/block.h"

#include <math.h>

static void put16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* Nearest level within low .. high, halves to even; NaN is low. */
static int nearest(float v, int low, int high) {
    float r = rintf(v);
    return !(r > (float)low) ? low : r < (float)high ? (int)r : high;
}

/* ---- Q4_K and Q5_K: x = scale * level - min, 32 numbers a scale ---- */

/* Levels go to `most`; the steps tried are those of most + first, + 0.1 more each. */
struct search {
    int most, steps;
    float first;
};
static const struct search q4_search = {15, 21, -1}, q5_search = {31, 16, -0.5f};

struct fit { /* of 32 numbers */
    float scale, min;
    uint8_t level[QK];
};

struct sums { /* weighted, over numbers and their levels */
    float w, x, l, l2, xl;
};

static float squared_error(const struct fit *f, const float *x, const float *weight) {
    float error = 0;
    for (int i = 0; i < QK; i++) {
        float off = f->scale * (float)f->level[i] + f->min - x[i];
        error += weight[i] * (off * off);
    }
    return error;
}

/* The levels that a step of 1 / inverse from min gives. */
static void choose_levels(struct fit *f, const float *x, int most, float min, float inverse) {
    for (int i = 0; i < QK; i++)
        f->level[i] = (uint8_t)nearest(inverse * (x[i] - min), 0, most);
}

/* The scale and min, at most 0, that fit these levels best; false: the levels don't determine them. */
static bool solve(struct fit *f, const float *x, const float *weight, struct sums s) {
    s.l = s.l2 = s.xl = 0;
    for (int i = 0; i < QK; i++) {
        float l = (float)f->level[i], w = weight[i];
        s.l += w * l;
        s.l2 += w * l * l;
        s.xl += w * l * x[i];
    }
    float determinant = s.w * s.l2 - s.l * s.l;
    if (!(determinant > 0))
        return false;
    f->scale = (s.w * s.xl - s.x * s.l) / determinant;
    f->min = (s.l2 * s.x - s.l * s.xl) / determinant;
    if (f->min > 0) {
        f->min = 0;
        f->scale = s.xl / s.l2;
    }
    return true;
}

static void fit_block(struct fit *best, const struct search *how, const float *x) {
    float weight[QK], square = 0, min = x[0], max = x[0];
    for (int i = 0; i < QK; i++)
        square += x[i] * x[i];
    float rms = sqrtf(square / QK);
    struct sums s = {0};
    for (int i = 0; i < QK; i++) {
        weight[i] = rms + fabsf(x[i]);
        s.w += weight[i];
        s.x += weight[i] * x[i];
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    min = min > 0 ? 0 : min;
    *best = (struct fit){.min = min};
    if (max == min)
        return;
    float most = (float)how->most, inverse = most / (max - min);
    best->scale = 1 / inverse;
    choose_levels(best, x, how->most, min, inverse);
    float least = squared_error(best, x, weight);
    for (int step = 0; step < how->steps; step++) {
        struct fit f;
        float tried = how->first + 0.1f * (float)step + most;
        choose_levels(&f, x, how->most, best->min, tried / (max - best->min));
        if (!solve(&f, x, weight, s))
            continue;
        float error = squared_error(&f, x, weight);
        if (error < least) {
            least = error;
            *best = f;
        }
    }
}

/* Six bits each: the inverse of block_scale_min. */
static void put_scale_min(uint8_t *s, int j, int scale, int min) {
    if (j < 4) {
        s[j] = (uint8_t)scale;
        s[j + 4] = (uint8_t)min;
    } else {
        s[j + 4] = (uint8_t)((scale & 15) | (min & 15) << 4);
        s[j - 4] |= (uint8_t)(scale >> 4 << 6);
        s[j] |= (uint8_t)(min >> 4 << 6);
    }
}

enum { PARTS = QK_K / QK };

/* What both formats begin with, and the levels of all parts. */
static void fit_super_block(struct fit part[PARTS], const struct search *how, uint8_t d[2], uint8_t dmin[2],
                            uint8_t scales[12], const float *in) {
    float scale = 0, min = 0;
    for (int j = 0; j < PARTS; j++) {
        fit_block(&part[j], how, in + QK * j);
        scale = part[j].scale > scale ? part[j].scale : scale;
        min = -part[j].min > min ? -part[j].min : min;
    }
    float to_scale = scale > 0 ? 63 / scale : 0, to_min = min > 0 ? 63 / min : 0;
    memset(scales, 0, 12);
    for (int j = 0; j < PARTS; j++)
        put_scale_min(scales, j, nearest(to_scale * part[j].scale, 0, 63),
                      nearest(to_min * -part[j].min, 0, 63));
    put16(d, f32_to_half(scale / 63));
    put16(dmin, f32_to_half(min / 63));
    for (int j = 0; j < PARTS; j++) {
        int s, m;
        block_scale_min(scales, j, &s, &m);
        float step = half_to_f32(load16(d)) * (float)s, low = half_to_f32(load16(dmin)) * (float)m;
        for (int i = 0; i < QK && step != 0; i++)
            part[j].level[i] = (uint8_t)nearest((in[QK * j + i] + low) / step, 0, how->most);
    }
}

/* The low four bits of two parts in each 32 bytes. */
static void put_low_bits(uint8_t *qs, const struct fit part[PARTS]) {
    for (int i = 0; i < QK_K / 2; i++) {
        const struct fit *p = &part[i / QK * 2];
        qs[i] = (uint8_t)((p[0].level[i % QK] & 15) | (p[1].level[i % QK] & 15) << 4);
    }
}

void q4_k_encode(void *out, const float *in, size_t n) {
    struct q4_k *b = out;
    for (; n; n -= QK_K, in += QK_K, b++) {
        struct fit part[PARTS];
        fit_super_block(part, &q4_search, b->d, b->dmin, b->scales, in);
        put_low_bits(b->qs, part);
    }
}

void q5_k_encode(void *out, const float *in, size_t n) {
    struct q5_k *b = out;
    for (; n; n -= QK_K, in += QK_K, b++) {
        struct fit part[PARTS];
        fit_super_block(part, &q5_search, b->d, b->dmin, b->scales, in);
        put_low_bits(b->qs, part);
        memset(b->qh, 0, sizeof b->qh);
        for (int j = 0; j < PARTS; j++)
            for (int i = 0; i < QK; i++)
                b->qh[i] |= (uint8_t)(part[j].level[i] >> 4 << j);
    }
}

/* ---- Q6_K: x = scale * (level - 32), 16 numbers a scale ---- */

enum { GROUP = 16 };
static const float tiny = 1e-15f; /* below it numbers are zero */

/* The levels, 0 .. 63, by a step of 1 / inverse, and the sums that say how well they fit. */
static void choose_signed(uint8_t *level, const float *x, float inverse, float *xl, float *l2) {
    *xl = *l2 = 0;
    for (int i = 0; i < GROUP; i++) {
        int l = nearest(inverse * x[i], -32, 31);
        float w = x[i] * x[i];
        level[i] = (uint8_t)(l + 32);
        *xl += w * x[i] * (float)l;
        *l2 += w * (float)l * (float)l;
    }
}

/* The scale of 16 numbers; its sign is that of what lies on level 0, the farthest from the middle. */
static float fit_group(uint8_t *level, const float *x) {
    float peak = 0;
    for (int i = 0; i < GROUP; i++)
        peak = fabsf(x[i]) > fabsf(peak) ? x[i] : peak;
    memset(level, 0, GROUP);
    if (fabsf(peak) < tiny)
        return 0;
    float xl, l2;
    choose_signed(level, x, -32 / peak, &xl, &l2);
    float scale = l2 != 0 ? xl / l2 : 0, best = scale * xl;
    for (int step = -9; step <= 9; step++) {
        uint8_t other[GROUP];
        if (!step)
            continue;
        choose_signed(other, x, -(32 + 0.1f * (float)step) / peak, &xl, &l2);
        if (l2 > 0 && xl * xl > best * l2) {
            memcpy(level, other, sizeof other);
            scale = xl / l2;
            best = scale * xl;
        }
    }
    return scale;
}

static void put_six_bits(struct q6_k *b, const uint8_t *level) {
    for (int half = 0; half < 2; half++, level += QK_K / 2) {
        uint8_t *low = b->ql + 64 * half, *high = b->qh + 32 * half;
        for (int i = 0; i < 32; i++) {
            low[i] = (uint8_t)((level[i] & 15) | (level[i + 64] & 15) << 4);
            low[i + 32] = (uint8_t)((level[i + 32] & 15) | (level[i + 96] & 15) << 4);
            high[i] = (uint8_t)(level[i] >> 4 | level[i + 32] >> 4 << 2 | level[i + 64] >> 4 << 4 |
                                level[i + 96] >> 4 << 6);
        }
    }
}

void q6_k_encode(void *out, const float *in, size_t n) {
    enum { GROUPS = QK_K / GROUP };
    struct q6_k *b = out;
    for (; n; n -= QK_K, in += QK_K, b++) {
        uint8_t level[QK_K];
        float scale[GROUPS], peak = 0;
        for (int j = 0; j < GROUPS; j++) {
            scale[j] = fit_group(level + GROUP * j, in + GROUP * j);
            peak = fabsf(scale[j]) > fabsf(peak) ? scale[j] : peak;
        }
        memset(b, 0, sizeof *b);
        if (fabsf(peak) < tiny)
            continue;
        float inverse = -128 / peak;
        put16(b->d, f32_to_half(1 / inverse));
        for (int j = 0; j < GROUPS; j++) {
            b->scales[j] = (int8_t)nearest(inverse * scale[j], -128, 127);
            float d = half_to_f32(load16(b->d)) * (float)b->scales[j];
            for (int i = GROUP * j; i < GROUP * (j + 1) && d != 0; i++)
                level[i] = (uint8_t)(nearest(in[i] / d, -32, 31) + 32);
        }
        put_six_bits(b, level);
    }
}
