/* Every kernel table of this processor. What is integer, and each fused sum, must equal a plain C twin bit
 * for bit; functions and sums in another order are held to a stated distance. */
#include "kern/kern.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h> /* last: it has a macro called fail */

static const int formats[] = {BLOCK_Q4_0, BLOCK_Q4_1, BLOCK_Q5_0, BLOCK_Q5_1,
                              BLOCK_Q8_0, BLOCK_Q4_K, BLOCK_Q5_K, BLOCK_Q6_K};
static const size_t format_bytes[] = {18, 20, 22, 24, 34, 144, 176, 210};
enum { FORMATS = 8 };

static struct rng rng;

static int seed(void **state) {
    (void)state;
    rng_seed(&rng, 5, 0);
    return 0;
}

static float *floats(size_t n, float size) {
    float *x = mem_alloc(n + 64, sizeof *x);
    for (size_t i = 0; i < n + 64; i++)
        x[i] = size * rng_normal(&rng);
    return x;
}

static int block_of(int f) {
    return f < 5 ? QK : QK_K;
}

/* Random blocks with finite scales of either sign: an f16 whose top exponent bit is off. */
static unsigned char *blocks(int f, size_t n) {
    size_t count = n / (size_t)block_of(f), bytes = format_bytes[f];
    unsigned char *data = mem_alloc(count * bytes + 64, 1);
    for (size_t i = 0; i < count * bytes; i++)
        data[i] = (unsigned char)rng_next(&rng);
    for (size_t i = 0; i < count; i++) {
        unsigned char *d = data + i * bytes + (formats[f] == BLOCK_Q6_K ? 208 : 0);
        d[1] &= 0xbf;
        if (formats[f] == BLOCK_Q4_1 || formats[f] == BLOCK_Q5_1 || formats[f] == BLOCK_Q4_K ||
            formats[f] == BLOCK_Q5_K)
            d[3] &= 0xbf;
    }
    return data;
}

static void decoding_gives_the_values_of_the_reference(void **state) {
    (void)state;
    for (int f = 0; f < FORMATS; f++)
        for (int n = block_of(f); n <= 6 * block_of(f) + 512; n += 5 * block_of(f)) {
            int m = n / block_of(f) * block_of(f);
            unsigned char *data = blocks(f, (size_t)m);
            float *want = floats((size_t)m, 1), *got = floats((size_t)m, 1);
            block_decoders[formats[f]](want, data, (size_t)m);
            for (int k = 0; kern_at(k); k++) {
                kern_at(k)->decode[formats[f]](got, data, (size_t)m);
                for (int i = 0; i < m; i++)
                    assert_true(got[i] == want[i]);
            }
            mem_free(data);
            mem_free(want);
            mem_free(got);
        }
}

static void sixteen_bits_decode_the_same(void **state) {
    (void)state;
    uint16_t *all = mem_alloc(65536, 2);
    float *want = floats(65536, 1), *got = floats(65536, 1);
    uint16_t *back = mem_alloc(65536, 2);
    for (uint32_t i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    for (int k = 0; kern_at(k); k++) {
        for (int t = 0; t < 2; t++) {
            int type = t ? BLOCK_F16 : BLOCK_BF16;
            block_decoders[type](want, all, 65535); // an odd end
            kern_at(k)->decode[type](got, all, 65535);
            for (int i = 0; i < 65535; i++)
                assert_true(got[i] == want[i] || (isnan(got[i]) && isnan(want[i])));
        }
        kern_at(k)->kv_put(back, want, (int)(65535), KV_FORM_F16);
        for (int i = 0; i < 65535; i++)
            assert_true(back[i] == i || isnan(want[i]));
    }
    mem_free(all);
    mem_free(want);
    mem_free(got);
    mem_free(back);
}

/* ---- int8 ---- */

static struct q8_rows quantised(const struct kern *k, const float *x, int T, int n) {
    size_t rows = (size_t)T, groups = (size_t)n / 32;
    struct q8_rows q = {.k = n};
    q.q = mem_zero(rows * (size_t)n, 1);
    q.scale = mem_zero(rows * groups, sizeof(float));
    q.sum = mem_zero(rows * groups, sizeof(float));
    q.start32 = mem_zero(rows * groups, sizeof(int32_t));
    q.start16 = mem_zero(rows * groups * 2, sizeof(int32_t));
    for (int t = 0; t < T; t++)
        k->quantise(&q, t, x + t * n);
    return q;
}

static void free_quantised(struct q8_rows *q) {
    mem_free(q->q);
    mem_free(q->scale);
    mem_free(q->sum);
    mem_free(q->start32);
    mem_free(q->start16);
}

static void quantising_equals_its_twin(void **state) {
    (void)state;
    enum { N = 416 };
    float *x = floats(N, 3);
    for (int i = 32; i < 64; i++)
        x[i] = 0;
    x[70] = 1e30f;
    x[100] = 1e-42f;
    for (int k = 0; kern_at(k); k++) {
        if (!kern_at(k)->quantise)
            continue;
        struct q8_rows q = quantised(kern_at(k), x, 1, N);
        for (int g = 0; g < N / 32; g++) {
            float most = 0;
            int sum = 0;
            for (int i = 0; i < 32; i++)
                most = fmaxf(most, fabsf(x[32 * g + i]));
            float inverse = most > 0 ? 127 / most : 0, d = most / 127;
            for (int i = 0; i < 32; i++) {
                int want = (int)lrintf(x[32 * g + i] * inverse);
                assert_int_equal(q.q[32 * g + i], want);
                sum += want;
            }
            assert_true(q.scale[g] == d);
            assert_true(q.sum[g] == d * (float)sum);
        }
        free_quantised(&q);
    }
    mem_free(x);
}

/* A row taken apart: value i = scale * (level - zero) + offset, scale and offset of its group. */
struct apart {
    int group, zero;
    bool offsets;
    int *level;
    float *scale, *offset;
};

static int nibble(const uint8_t *p, int i) {
    return p[i % 16] >> (i < 16 ? 0 : 4) & 15;
}

/* Level i of a block, and the scale and offset that it goes by. */
static int level_of(int f, const unsigned char *block, int i, float *scale, float *offset) {
    float d = half_to_f32(load16(block)), m = half_to_f32(load16(block + 2));
    int sub = i / 32, s, min, low;
    *offset = 0;
    *scale = d;
    switch (formats[f]) {
    case BLOCK_Q4_0:
        return nibble(block + 2, i);
    case BLOCK_Q4_1:
        *offset = m;
        return nibble(block + 4, i);
    case BLOCK_Q5_0:
        return nibble(block + 6, i) | (int)(load32(block + 2) >> i & 1) << 4;
    case BLOCK_Q5_1:
        *offset = m;
        return nibble(block + 8, i) | (int)(load32(block + 4) >> i & 1) << 4;
    case BLOCK_Q8_0:
        return (int8_t)block[2 + i];
    case BLOCK_Q6_K:
        low = block[i / 128 * 64 + i / 32 % 2 * 32 + i % 32] >> (i / 64 % 2 ? 4 : 0) & 15;
        *scale = half_to_f32(load16(block + 208)) * (float)(int8_t)block[192 + i / 16];
        return low | (block[128 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3) << 4;
    default:
        block_scale_min(block + 4, sub, &s, &min);
        *scale = d * (float)s;
        *offset = -(m * (float)min);
        if (formats[f] == BLOCK_Q4_K)
            return block[16 + sub / 2 * 32 + i % 32] >> (sub % 2 ? 4 : 0) & 15;
        return (block[48 + sub / 2 * 32 + i % 32] >> (sub % 2 ? 4 : 0) & 15) | (block[16 + i % 32] >> sub & 1)
                                                                                   << 4;
    }
}

static struct apart take_apart(int f, const unsigned char *row, int n) {
    static const int zeros[FORMATS] = {8, 0, 16, 0, 0, 0, 0, 32};
    struct apart a = {.group = formats[f] == BLOCK_Q6_K ? 16 : 32, .zero = zeros[f]};
    a.offsets = zeros[f] == 0 && formats[f] != BLOCK_Q8_0;
    a.level = mem_alloc((size_t)n, sizeof *a.level);
    a.scale = mem_alloc((size_t)(n / a.group), sizeof *a.scale);
    a.offset = mem_alloc((size_t)(n / a.group), sizeof *a.offset);
    for (int i = 0; i < n; i++)
        a.level[i] = level_of(f, row + (size_t)(i / block_of(f)) * format_bytes[f], i % block_of(f),
                              &a.scale[i / a.group], &a.offset[i / a.group]);
    return a;
}

static void free_apart(struct apart *a) {
    mem_free(a->level);
    mem_free(a->scale);
    mem_free(a->offset);
}

static void rows_taken_apart_mean_what_the_format_means(void **state) {
    (void)state;
    for (int f = 0; f < FORMATS; f++) {
        int n = 2 * 256;
        unsigned char *data = blocks(f, (size_t)n);
        float *want = floats((size_t)n, 1);
        block_decoders[formats[f]](want, data, (size_t)n);
        struct apart a = take_apart(f, data, n);
        for (int i = 0; i < n; i++)
            assert_true(fmaf(a.scale[i / a.group], (float)(a.level[i] - a.zero), a.offset[i / a.group]) ==
                        want[i]);
        free_apart(&a);
        mem_free(data);
        mem_free(want);
    }
}

/* One sum over groups: the group's product, then its offset. Those of Q6_K go in pairs, whose whole factors
 * come before the block's scale. */
static float product_twin(int f, const unsigned char *w, const struct q8_rows *x, int row) {
    struct apart a = take_apart(f, w, x->k);
    float total = 0;
    int pair = 0;
    const float *xs = x->scale + row * (x->k / 32), *sums = x->sum + row * (x->k / 32);
    for (int g = 0; g < x->k / a.group; g++) {
        int sum = 0, block = g * a.group / 32;
        for (int l = g * a.group; l < (g + 1) * a.group; l++)
            sum += (a.level[l] - a.zero) * x->q[row * x->k + l];
        if (formats[f] == BLOCK_Q6_K) {
            const struct q6_k *b = (const struct q6_k *)(const void *)w + g / 16;
            pair = sum * b->scales[g % 16] + (g % 2 ? pair : 0);
            if (g % 2)
                total = fmaf((float)pair, half_to_f32(load16(b->d)) * xs[block], total);
            continue;
        }
        total = fmaf((float)sum, a.scale[g] * xs[block], total);
        if (a.offsets)
            total = fmaf(a.offset[g], sums[block], total);
    }
    free_apart(&a);
    return total;
}

/* The largest levels and activations there are, of one sign: what 16 bits must hold. */
static void make_extreme(int f, unsigned char *data, size_t bytes, float *x, size_t n) {
    for (size_t b = 0; b < bytes; b += format_bytes[f])
        for (size_t i = 0; i < format_bytes[f]; i++) {
            bool kept = formats[f] == BLOCK_Q6_K   ? i >= 192
                        : formats[f] == BLOCK_Q8_0 ? i < 2
                        : f < 4                    ? i < (f % 2 ? 4 : 2)
                                                   : i < 16;
            if (!kept)
                data[b + i] = formats[f] == BLOCK_Q8_0 ? 0x80 : b / format_bytes[f] % 2 ? 0 : 0xff;
        }
    for (size_t i = 0; i < n; i++)
        x[i] = i / 64 % 2 ? -1 : 1;
}

/* Tokens by dots and by panels, some by both, whole and in two pieces, units full and not: always the twin's
 * bits. */
static void int8_products_equal_their_twin(void **state) {
    (void)state;
    static const int tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 17};
    for (int k = 0; kern_at(k); k++)
        for (int f = 0; kern_at(k)->mul_q8 && f < FORMATS; f++)
            for (int way = 0; way < 36; way++) {
                const struct kern *table = kern_at(k);
                int c = way % 18, few = way < 18 ? 1 : 8;
                int type = formats[f], T = tokens[c % 9], width = table->width_q8, rows = width - 3 * c % 17;
                int n = block_of(f) == QK ? 96 + 32 * c : 512,
                    cut = c % 2 ? 0 : n / block_of(f) / 2 * block_of(f);
                size_t row_bytes = (size_t)(n / block_of(f)) * format_bytes[f];
                unsigned char *data = blocks(f, (size_t)(rows * n));
                float *x = floats((size_t)(T * n), 1), *y = floats((size_t)(T * rows), 1);
                if (c > 8)
                    make_extreme(f, data, (size_t)rows * row_bytes, x, (size_t)(T * n));
                struct q8_rows q = quantised(table, x, T, n);
                unsigned char *units = mem_aligned((size_t)width * row_bytes, 1),
                              *panel = mem_aligned(q8_panel_bytes(width, n), 1);
                for (int from = 0; from < n; from = from < cut ? cut : n) {
                    int part = (from < cut ? cut : n) - from, count = part / block_of(f);
                    const unsigned char *at = data + (size_t)(from / block_of(f)) * format_bytes[f];
                    for (int u = 0; u < rows; u += UNIT) {
                        unsigned char *unit = units + (size_t)u * row_bytes;
                        block_pack(unit, at + (size_t)u * row_bytes, row_bytes,
                                   rows - u < UNIT ? rows - u : UNIT, type, count);
                        if (T <= few)
                            table->dot_q8[type](y + u, (size_t)rows, &q, 0, from, unit, T,
                                                rows - u < UNIT ? rows - u : UNIT, part, from > 0);
                        else
                            table->open_q8[type](panel, u, unit, part);
                    }
                    if (T > few)
                        table->mul_q8[type](y, (size_t)rows, &q, 0, from, panel, T, rows, part, from > 0);
                }
                for (int t = 0; t < T; t++)
                    for (int i = 0; i < rows; i++)
                        if (y[t * rows + i] != product_twin(f, data + (size_t)i * row_bytes, &q, t))
                            fail_msg("%s, format %d, case %d, token %d, row %d", table->name, type, c, t, i);
                free_quantised(&q);
                mem_free(data);
                mem_free(units);
                mem_free(panel);
                mem_free(x);
                mem_free(y);
            }
}

/* ---- floats ---- */

static void f32_products_equal_their_twin(void **state) {
    (void)state;
    for (int k = 0; kern_at(k); k++)
        for (int n = 1; n <= kern_at(k)->width; n++)
            for (int m = 1; m < 15; m += 3)
                for (int more = 0; more < 2; more++)
                    for (int turned = 0; turned < 2; turned++) {
                        int depth = 13;
                        float *a = floats((size_t)(m * depth), 1), *b = floats((size_t)(depth * 70), 1);
                        float *y = floats((size_t)(m * n), 1), *old = mem_alloc((size_t)(m * n), sizeof *old);
                        size_t rs = turned ? 1 : (size_t)depth, ks = turned ? (size_t)m : 1;
                        memcpy(old, y, (size_t)(m * n) * sizeof *y);
                        kern_at(k)->mul_f32(y, (size_t)n, a, rs, ks, b, 70, m, n, depth, more);
                        for (int i = 0; i < m; i++)
                            for (int j = 0; j < n; j++) {
                                float sum = 0;
                                for (int l = 0; l < depth; l++) {
                                    float x = a[(size_t)i * rs + (size_t)l * ks], w = b[l * 70 + j];
                                    sum = kern_at(k)->exact ? sum + x * w : fmaf(x, w, sum);
                                }
                                assert_true(y[i * n + j] == (more ? sum + old[i * n + j] : sum));
                            }
                        mem_free(a);
                        mem_free(b);
                        mem_free(y);
                        mem_free(old);
                    }
}

/* Pieces of one row: as the table prepares them, and what they then stand for. */
static void int16_keeps_within_half_a_step_and_31_bits(void **state) {
    (void)state;
    for (int k = 0; kern_at(k); k++) {
        const struct kern *table = kern_at(k);
        for (int n = 1; table->put_i16 && n <= I16_PIECE; n += n < 40 ? 1 : 72)
            for (int kind = 0; kind < 5; kind++) {
                float *x = floats((size_t)n, kind == 1 ? 1e-20f : 1);
                for (int i = 0; i < n; i++)
                    x[i] = kind == 2 ? -1 : kind == 3 ? 0 : kind == 4 && i != n / 2 ? x[i] * 1e-3f : x[i];
                int16_t q[I16_PIECE + 2];
                memset(q, 85, sizeof q);
                float scale = table->put_i16(q, x, n);
                double squares = 0;
                for (int i = 0; i < n; i++) {
                    assert_true(fabs((double)x[i] - (double)scale * q[i]) <= 0.5001 * (double)scale);
                    squares += (double)q[i] * q[i];
                }
                assert_true(squares < 0x1p31 - 1);
                assert_true(squares > 1e9 || kind == 3);
                if (n % 2)
                    assert_int_equal(q[n], 0);
                assert_int_equal(q[n + n % 2], 85 * 257);
                x[n / 2] = kind & 1 ? NAN : INFINITY;
                assert_false(isfinite(table->put_i16(q, x, n)));
                mem_free(x);
            }
    }
}

/* What was made of w: within half a step, in 31 bits, and no coarser than the largest weight asks for. */
static void assert_stands_for(const int16_t *q, size_t step, float scale, const float *w, size_t ld, int k,
                              float largest) {
    double squares = 0;
    for (int l = 0; l < k; l++) {
        int16_t word = q[(size_t)(l / 2) * step + (size_t)(l % 2)];
        assert_true(fabs((double)w[(size_t)l * ld] - (double)scale * word) <= 0.501 * (double)scale);
        squares += (double)word * word;
    }
    assert_true(squares < 0x1p31 - 1);
    assert_true((double)scale * 46300 / 16 <= 2 * (double)largest);
}

static float largest_of(const float *w, size_t ld, int rows, int n) {
    float most = 0;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < n; j++)
            most = fmaxf(most, fabsf(w[(size_t)i * ld + (size_t)j]));
    return most;
}

static const struct {
    int type, group;
    block_encode *encode;
} of_levels[] = {
    {BLOCK_Q4_0, 32, q4_0_encode}, {BLOCK_Q4_1, 32, q4_1_encode}, {BLOCK_Q5_0, 32, q5_0_encode},
    {BLOCK_Q5_1, 32, q5_1_encode}, {BLOCK_Q8_0, 32, q8_0_encode}, {BLOCK_Q4_K, 32, q4_k_encode},
    {BLOCK_Q5_K, 32, q5_k_encode}, {BLOCK_Q6_K, 16, q6_k_encode},
};

static void int16_of_levels_keeps_within_half_a_step_and_31_bits(void **state) {
    (void)state;
    static unsigned char room[LEVELS_ROOM];
    for (int k = 0; kern_at(k); k++)
        for (size_t f = 0; kern_at(k)->pack_levels && f < sizeof of_levels / sizeof *of_levels; f++) {
            const struct kern *table = kern_at(k);
            enum { ROWS = 37, N = 256 };
            int type = of_levels[f].type, group = of_levels[f].group, block = block_fields[type].weights,
                width = table->width, lanes = table->lanes;
            size_t bytes = (size_t)(N / block * block_fields[type].bytes), next = ROWS / 2 * 2 + 2;
            unsigned char blocks[ROWS * N * 2];
            float *w = floats(ROWS * N, 1), scales[N];
            int16_t *panels = mem_zero(N * (ROWS + 1) + (size_t)width * N, sizeof *panels);
            for (int i = 0; i < ROWS; i++) {
                for (int j = 0; j < N; j++) // blocks of unlike sizes, and one of zeros
                    w[i * N + j] *= j / 32 == 3 && i != 1 ? 0 : (float)(1 + (i + j / 32) % 7);
                of_levels[f].encode(blocks + (size_t)i * bytes, w + i * N, N);
                table->decode[type](w + i * N, blocks + (size_t)i * bytes, N);
            }
            for (int n = block; n <= N; n += block) {
                table->pack_levels(panels, scales, width, blocks, bytes, type, lanes - 1, n);
                for (int j = 0; j < lanes - 1; j++)
                    assert_stands_for(panels + 2 * j, 2 * (size_t)width, scales[j], w + j * N, 1, n,
                                      largest_of(w + j * N, N, 1, n));
                for (int l = 0; l < n; l++)
                    assert_int_equal(panels[l / 2 * 2 * width + 2 * (lanes - 1) + l % 2], 0);
                table->pair_levels(panels, next * (size_t)width, scales, (size_t)width, width, room, blocks,
                                   bytes, type, n, ROWS);
                for (int j = 0; j < n; j++)
                    assert_stands_for(panels + (size_t)(j / width) * next * (size_t)width + 2 * (j % width),
                                      2 * (size_t)width, scales[j], w + j, N, ROWS,
                                      largest_of(w + j / group * group, N, ROWS, group));
            }
            memset(blocks, 0xff, bytes); // NaN among the scales
            table->pack_levels(panels, scales, width, blocks, bytes, type, 2, N);
            assert_false(isfinite(scales[0]));
            assert_true(isfinite(scales[1]));
            mem_free(w);
            mem_free(panels);
        }
}

static void int16_products_equal_their_twin(void **state) {
    (void)state;
    for (int k = 0; kern_at(k); k++) {
        const struct kern *table = kern_at(k);
        for (int n = 1; table->mul_i16 && n <= table->width; n += 5)
            for (int depth = 1; depth <= I16_PIECE; depth += 51)
                for (int columns = 0; columns < 2; columns++) {
                    int lanes = table->lanes, width = table->width, even = depth + depth % 2, m = 9;
                    float *a = floats((size_t)(m * depth), 1), *w = floats((size_t)(n * depth), 1),
                          *y = floats((size_t)(m * n), 1), by[9], scales[64];
                    int16_t *q = mem_zero((size_t)(m * even), 2), *row = mem_zero((size_t)even, 2),
                            *panel = mem_zero((size_t)(width * even), 2);
                    for (int i = 0; i < depth && n > 2; i++)
                        w[columns ? i * n + 1 : depth + i] = i % 2 ? 1 : -1; // as long as can be
                    for (int i = 0; i < m; i++) {
                        for (int l = 0; l < depth && i == 0; l++)
                            a[l] = l % 2 ? 1 : -1;
                        by[i] = table->put_i16(q + i * even, a + i * depth, depth);
                    }
                    if (columns)
                        table->pair_i16(panel, scales, width, w, (size_t)n, n, depth);
                    for (int c = 0; c < width && !columns; c += lanes)
                        table->pack_i16(panel + 2 * c, scales + c, width, w + c * depth, (size_t)depth,
                                        n - c < 0       ? 0
                                        : n - c < lanes ? n - c
                                                        : lanes,
                                        depth);
                    float *old = floats((size_t)(m * n), 1);
                    memcpy(old, y, (size_t)(m * n) * sizeof *y);
                    table->mul_i16(y, (size_t)n, q, (size_t)even, by, 1, panel, scales, m, n, depth, true);
                    for (int j = 0; j < n; j++) {
                        float *column = floats((size_t)depth, 1);
                        for (int l = 0; l < depth; l++)
                            column[l] = columns ? w[l * n + j] : w[j * depth + l];
                        float scale = table->put_i16(row, column, depth);
                        assert_true(fabsf(scales[j] - scale) <= 1e-6f * scale);
                        for (int l = 0; l < depth; l++)
                            assert_true(abs(panel[(l / 2 * width + j) * 2 + l % 2] - row[l]) <= columns);
                        for (int i = 0; i < m; i++) {
                            int64_t sum = 0;
                            for (int l = 0; l < depth; l++)
                                sum += q[i * even + l] * panel[(l / 2 * width + j) * 2 + l % 2];
                            assert_true(sum > INT32_MIN && sum < INT32_MAX);
                            assert_true(y[i * n + j] == fmaf((float)sum, scales[j] * by[i], old[i * n + j]));
                        }
                        mem_free(column);
                    }
                    mem_free(a);
                    mem_free(w);
                    mem_free(y);
                    mem_free(old);
                    mem_free(q);
                    mem_free(row);
                    mem_free(panel);
                }
    }
}

static void bf16_products_are_within_rounding(void **state) {
    (void)state;
    for (int k = 0; kern_at(k); k++) {
        const struct kern *table = kern_at(k);
        for (int n = 1; table->mul_bf16 && n <= table->width; n += 7)
            for (int depth = 1; depth < 80; depth += 13) {
                int lanes = table->lanes, width = (n + lanes - 1) / lanes * lanes, even = depth + depth % 2,
                    m = 9;
                float *a = floats((size_t)(m * depth), 1), *w = floats((size_t)(n * depth), 1),
                      *y = floats((size_t)(m * n), 1);
                uint16_t *half = mem_zero((size_t)(m * even), 2),
                         *panel = mem_zero((size_t)(width * even), 2);
                for (int i = 0; i < m; i++)
                    table->put_bf16(half + i * even, a + i * depth, depth);
                for (int c = 0; c < width; c += lanes)
                    table->pack_bf16(panel + 2 * c, width, w + c * depth, (size_t)depth,
                                     n - c < lanes ? n - c : lanes, depth);
                table->mul_bf16(y, (size_t)n, half, (size_t)even, panel, width, m, n, depth, false);
                for (int i = 0; i < m; i++)
                    for (int j = 0; j < n; j++) {
                        double sum = 0, size = 0;
                        for (int l = 0; l < depth; l++) {
                            double p = (double)bits_f32((uint32_t)f32_to_bhalf(a[i * depth + l]) << 16) *
                                       (double)bits_f32((uint32_t)f32_to_bhalf(w[j * depth + l]) << 16);
                            sum += p;
                            size += fabs(p);
                        }
                        assert_true(fabs((double)y[i * n + j] - sum) <= 1e-6 * size);
                    }
                mem_free(a);
                mem_free(w);
                mem_free(y);
                mem_free(half);
                mem_free(panel);
            }
    }
}

static void exponentials_are_near(void **state) {
    (void)state;
    enum { N = 3001 };
    float x[N], p[N];
    for (int i = 0; i < N; i++)
        x[i] = ((float)i - 2000) * 0.05f;
    for (int k = 0; kern_at(k); k++) {
        double sum = kern_at(k)->exp_sum(p, x, 1, 0.25f, N), want = 0;
        for (int i = 0; i < N; i++) {
            double e = exp((double)(x[i] - 0.25f));
            want += e;
            if (e > 1e-37)
                assert_true(fabs((double)p[i] - e) <= 2.5e-7 * e);
        }
        assert_true(fabs(sum - want) <= 1e-6 * want);
        float odd[4] = {-INFINITY, NAN, 200, -104.5f};
        kern_at(k)->exp_sum(p, odd, 1, 0, 4);
        assert_true(p[0] == 0 && isnan(p[1]) && p[2] == INFINITY && p[3] <= 2e-45f);
    }
}

static void angles_are_near(void **state) {
    (void)state;
    float freq[45], c[45], s[45];
    for (int i = 0; i < 45; i++)
        freq[i] = powf(1e6f, -(float)i / 45);
    for (int k = 0; kern_at(k); k++)
        for (int pos = 0; pos < 40000; pos += 37) {
            kern_at(k)->cos_sin(c, s, freq, (float)pos, 45);
            for (int i = 0; i < 45; i++) {
                double angle = (double)((float)pos * freq[i]);
                assert_true(fabs((double)c[i] - cos(angle)) < 3e-7 && fabs((double)s[i] - sin(angle)) < 3e-7);
            }
        }
}

static void tables_are_in_order_and_end(void **state) {
    (void)state;
    int n = 0;
    while (kern_at(n))
        n++;
    assert_true(n >= 1);
    assert_true(kern_at(n - 1)->exact);
    for (int i = 0; i + 1 < n; i++)
        assert_false(kern_at(i)->exact);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_gives_the_values_of_the_reference),
        cmocka_unit_test(sixteen_bits_decode_the_same),
        cmocka_unit_test(rows_taken_apart_mean_what_the_format_means),
        cmocka_unit_test(quantising_equals_its_twin),
        cmocka_unit_test(int8_products_equal_their_twin),
        cmocka_unit_test(f32_products_equal_their_twin),
        cmocka_unit_test(int16_keeps_within_half_a_step_and_31_bits),
        cmocka_unit_test(int16_of_levels_keeps_within_half_a_step_and_31_bits),
        cmocka_unit_test(int16_products_equal_their_twin),
        cmocka_unit_test(bf16_products_are_within_rounding),
        cmocka_unit_test(exponentials_are_near),
        cmocka_unit_test(angles_are_near),
        cmocka_unit_test(tables_are_in_order_and_end),
    };
    return cmocka_run_group_tests(tests, seed, NULL);
}
