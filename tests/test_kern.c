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
    struct q8_rows q = {.k = n, .ld = ((size_t)n + 63) / 64 * 64};
    q.q = mem_zero(rows * q.ld, 1);
    q.scale = mem_zero(rows * groups + 32, sizeof(float));
    q.sum32 = mem_zero(rows * groups + 32, sizeof(float));
    q.sum16 = mem_zero(rows * groups * 2 + 32, sizeof(float));
    for (int t = 0; t < T; t++)
        k->quantise(&q, t, x + t * n);
    return q;
}

static void free_quantised(struct q8_rows *q) {
    mem_free(q->q);
    mem_free(q->scale);
    mem_free(q->sum32);
    mem_free(q->sum16);
}

static struct q8_weights unpacked(const struct kern *k, int f, const void *data, int rows, int n) {
    struct q8_weights w = {.group = block_group(formats[f]), .wide = block_wide(formats[f])};
    size_t all = (size_t)(rows * n);
    w.u = mem_zero(all + 256, 1);
    w.scale = mem_zero(all / 16 + 64, sizeof(float));
    w.offset = mem_zero(all / 16 + 64, sizeof(float));
    k->unpack[formats[f]](w.u, w.scale, w.offset, data, rows * n);
    return w;
}

static void free_weights(struct q8_weights *w) {
    mem_free(w->u);
    mem_free(w->scale);
    mem_free(w->offset);
}

static void unpacked_levels_mean_what_the_format_means(void **state) {
    (void)state;
    for (int f = 0; f < FORMATS; f++) {
        int n = 3 * 2304; // long enough for several runs of scales, and no whole number of them
        unsigned char *data = blocks(f, (size_t)n);
        float *want = floats((size_t)n, 1);
        block_decoders[formats[f]](want, data, (size_t)n);
        for (int k = 0; kern_at(k); k++) {
            if (!kern_at(k)->unpack)
                continue;
            struct q8_weights w = unpacked(kern_at(k), f, data, 3, 2304);
            for (int i = 0; i < n; i++) {
                assert_true(fmaf(w.scale[i / w.group], (float)w.u[i], w.offset[i / w.group]) == want[i]);
                assert_true(w.wide || w.u[i] < 128);
            }
            free_weights(&w);
        }
        mem_free(data);
        mem_free(want);
    }
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
            int sum[2] = {0, 0};
            for (int i = 0; i < 32; i++)
                most = fmaxf(most, fabsf(x[32 * g + i]));
            float inverse = most > 0 ? 127 / most : 0, d = most / 127;
            for (int i = 0; i < 32; i++) {
                int want = (int)lrintf(x[32 * g + i] * inverse);
                assert_int_equal(q.q[32 * g + i], want);
                sum[i / 16] += want;
            }
            assert_true(q.scale[g] == d);
            assert_true(q.sum16[2 * g] == d * (float)sum[0]);
            assert_true(q.sum16[2 * g + 1] == d * (float)sum[1]);
            assert_true(q.sum32[g] == d * (float)(sum[0] + sum[1]));
        }
        free_quantised(&q);
    }
    mem_free(x);
}

/* The sum of lanes as both tables do it: halves onto halves. */
static float tree(const float *lane, int lanes) {
    float s[16];
    memcpy(s, lane, (size_t)lanes * sizeof *s);
    for (int half = lanes / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            s[i] += s[i + half];
    return s[0];
}

/* Weights that add to lane l: of which block or part, and where in it. Formats of nibbles (both of a byte
 * belong to the block) sum four of the first 16 and four of the others; formats of bytes four in their order,
 * but where a vector is half a group, both halves meet as well. */
static int lane_sum(const struct q8_weights *w, int i, const int8_t *q, int k, int at, int l, bool nibbles) {
    int sum = 0, from = nibbles ? at + l / 4 * 32 + l % 4 * 4 : at + 4 * l;
    for (int b = 0; b < 4; b++) {
        sum += w->u[i * k + from + b] * q[from + b];
        if (nibbles)
            sum += w->u[i * k + from + 16 + b] * q[from + 16 + b];
    }
    return sum;
}

/* Each lane has a sum of its own: offsets a vector of groups at a time, then the products of these groups. */
static float dot_twin(const struct q8_weights *w, int i, const struct q8_rows *x, int row, int lanes,
                      bool nibbles) {
    float lane[16] = {0};
    size_t groups32 = (size_t)x->k / 32;
    int groups = x->k / w->group, step = nibbles ? 8 : 4; // weights of a lane
    const int8_t *q = x->q + (size_t)row * x->ld;
    const float *scale = w->scale + i * groups, *offset = w->offset + i * groups,
                *xs = x->scale + (size_t)row * groups32;
    const float *sums =
        w->group == 32 ? x->sum32 + (size_t)row * groups32 : x->sum16 + 2 * (size_t)row * groups32;
    for (int g = 0; g < groups; g += lanes) {
        int m = groups - g < lanes ? groups - g : lanes;
        for (int l = 0; l < m; l++)
            lane[l] = fmaf(offset[g + l], sums[g + l], lane[l]);
        for (int at = g * w->group; at < (g + m) * w->group; at += step * lanes)
            for (int l = 0; l < lanes; l++) {
                int group = (at + step * l) / w->group;
                if (group >= g + m)
                    continue;
                lane[l] = fmaf((float)lane_sum(w, i, q, x->k, at, l, nibbles),
                               scale[group] * xs[group * w->group / 32], lane[l]);
            }
    }
    return tree(lane, lanes);
}

static void int8_dots_equal_their_twin(void **state) {
    (void)state;
    static const int sizes[] = {32, 64, 96, 256, 576, 896};
    for (int k = 0; kern_at(k); k++)
        for (int f = 0; kern_at(k)->dot_q8 && f < FORMATS; f++)
            for (int s = 0; s < 6; s++) {
                int n = block_of(f) == QK ? sizes[s] : 256 * (1 + s), rows = 7, lanes = kern_at(k)->lanes;
                unsigned char *data = blocks(f, (size_t)(rows * n));
                float *x = floats((size_t)(2 * n), 1), y[7];
                struct q8_rows q = quantised(kern_at(k), x, 2, n);
                struct q8_weights w = unpacked(kern_at(k), f, data, rows, n);
                for (int t = 0; t < 2; t++) {
                    kern_at(k)->dot_q8[formats[f]](y, data, (size_t)n / (size_t)block_of(f) * format_bytes[f],
                                                   rows, &q, t);
                    for (int i = 0; i < rows; i++)
                        assert_true(y[i] == dot_twin(&w, i, &q, t, lanes, f < 4 || lanes * 8 == w.group));
                }
                free_weights(&w);
                free_quantised(&q);
                mem_free(data);
                mem_free(x);
            }
}

/* One sum over groups: the group's product, then its offset. */
static float mul_twin(const struct q8_weights *w, int i, const struct q8_rows *x, int row) {
    float total = 0;
    size_t groups32 = (size_t)x->k / 32;
    int groups = x->k / w->group;
    const float *sums =
        w->group == 32 ? x->sum32 + (size_t)row * groups32 : x->sum16 + 2 * (size_t)row * groups32;
    for (int g = 0; g < groups; g++) {
        int sum = 0;
        for (int l = g * w->group; l < (g + 1) * w->group; l++)
            sum += w->u[i * x->k + l] * x->q[(size_t)row * x->ld + (size_t)l];
        float by = w->scale[i * groups + g] * x->scale[(size_t)row * groups32 + (size_t)(g * w->group / 32)];
        total = fmaf((float)sum, by, total);
        total = fmaf(w->offset[i * groups + g], sums[g], total);
    }
    return total;
}

static void int8_panels_equal_their_twin(void **state) {
    (void)state;
    static const int tokens[] = {1, 2, 3, 7, 8, 17};
    for (int k = 0; kern_at(k); k++)
        for (int f = 0; kern_at(k)->mul_q8 && f < FORMATS; f++)
            for (int c = 0; c < 6; c++) {
                const struct kern *table = kern_at(k);
                int n = block_of(f) == QK ? 96 : 512, T = tokens[c], width = table->width_q8,
                    rows = width - c;
                unsigned char *data = blocks(f, (size_t)(rows * n));
                float *x = floats((size_t)(T * n), 1), *y = floats((size_t)(T * rows), 1);
                struct q8_rows q = quantised(table, x, T, n);
                struct q8_weights w = unpacked(table, f, data, rows, n), panel = w;
                size_t words = (size_t)(n * width);
                panel.u = mem_zero(words, 1);
                panel.scale = mem_zero(words / 16, sizeof(float));
                panel.offset = mem_zero(words / 16, sizeof(float));
                for (int v = 0; v < width; v += table->lanes) {
                    struct q8_weights part = panel, from = w;
                    part.u += 4 * v;
                    part.scale += v;
                    part.offset += v;
                    from.u += v * n;
                    from.scale += v * (n / w.group);
                    from.offset += v * (n / w.group);
                    table->pack_q8(&part, width, &from, rows - v < table->lanes ? rows - v : table->lanes, n);
                }
                table->mul_q8(y, (size_t)rows, &q, 0, &panel, width, T, rows);
                for (int t = 0; t < T; t++)
                    for (int i = 0; i < rows; i++)
                        assert_true(y[t * rows + i] == mul_twin(&w, i, &q, t));
                free_weights(&panel);
                free_weights(&w);
                free_quantised(&q);
                mem_free(data);
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
        cmocka_unit_test(unpacked_levels_mean_what_the_format_means),
        cmocka_unit_test(quantising_equals_its_twin),
        cmocka_unit_test(int8_dots_equal_their_twin),
        cmocka_unit_test(int8_panels_equal_their_twin),
        cmocka_unit_test(f32_products_equal_their_twin),
        cmocka_unit_test(int16_keeps_within_half_a_step_and_31_bits),
        cmocka_unit_test(int16_products_equal_their_twin),
        cmocka_unit_test(bf16_products_are_within_rounding),
        cmocka_unit_test(exponentials_are_near),
        cmocka_unit_test(angles_are_near),
        cmocka_unit_test(tables_are_in_order_and_end),
    };
    return cmocka_run_group_tests(tests, seed, NULL);
}
