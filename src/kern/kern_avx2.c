/* kern_avx2.c: the kernels for AVX2, FMA and F16C, and the int16 products that it trains with for want of
 * bf16 ones: vpmaddwd does twice a float FMA's work, and a scale a piece makes sixteen bits more exact than
 * bf16's eight. */
#include "kern/isa.h"

#if defined(__x86_64__)
#include "kern/vec_avx2.h"

#include "kern/kern_body.h"

/* The product of two lengths that stay below 2^31: the sum of q p over a piece can't overflow, whatever the
 * numbers are (Cauchy and Schwarz). Rounding adds at most half of sqrt(I16_PIECE) to each. */
static const float LENGTH = 46300, LARGEST = 32767;
static const float TINY = 1e-30f; /* numbers that are all below it count as 0: 1 / them may be infinite */

/* 1 / scale for n numbers, and the scale in *scale. NaN and infinity make a scale that is not finite. */
static float i16_inverse(float *to, float top, double squares) {
    double length = sqrt(squares);
    double most = (double)LENGTH / length < (double)LARGEST ? (double)LENGTH / length : (double)LARGEST;
    *to = (float)((double)top / most);
    return top > TINY ? (float)(most / (double)top) : 0;
}

static float put_i16(int16_t *q, const float *x, int n) {
    vi tops = vi_zero(); // of the bits, so that NaN and infinity are largest
    for (int i = 0; i < n; i += LANES)
        tops = vi_max(tops, vi_magnitude(vf_load_n(x + i, n - i < LANES ? n - i : LANES)));
    float top = bits_f32((uint32_t)vi_top(tops)), scale_of;
    vf by = vf_set(top > TINY ? 1 / top : 0), sum = vf_set(0);
    for (int i = 0; i < n; i += LANES) {
        vf v = vf_load_n(x + i, n - i < LANES ? n - i : LANES) * by;
        sum = vf_fma(v, v, sum);
    }
    vf inverse = vf_set(i16_inverse(&scale_of, top, (double)vf_sum(sum)));
    int i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES)
        vi_put_words(q + i, vi_nearest(vf_load(x + i) * inverse),
                     vi_nearest(vf_load(x + i + LANES) * inverse));
    if (i < n) {
        int16_t rest[2 * LANES];
        int left = n - i, lo = left < LANES ? left : LANES;
        vf upper = left > LANES ? vf_load_n(x + i + LANES, left - LANES) : vf_set(0);
        vi_put_words(rest, vi_nearest(vf_load_n(x + i, lo) * inverse), vi_nearest(upper * inverse));
        memcpy(q + i, rest, (size_t)(left + (left & 1)) * sizeof *q);
    }
    return scale_of;
}

static void pack_i16(int16_t *panel, float *scales, int width, const float *w, size_t ldw, int rows, int k) {
    int16_t q[LANES][I16_PIECE];
    for (int j = 0; j < LANES; j++)
        scales[j] = j < rows ? put_i16(q[j], w + (size_t)j * ldw, k) : 0;
    pack_words(panel, width, q, sizeof q[0], rows, (k + 1) / 2);
}

static void pair_i16(int16_t *panel, float *scales, int width, const float *w, size_t ldw, int n, int k) {
    for (int c = 0; c < width; c += LANES, panel += 2 * LANES, scales += LANES) {
        int m = n - c < 0 ? 0 : n - c < LANES ? n - c : LANES;
        const float *x = w + c;
        vi tops = vi_zero();
        for (int l = 0; l < k; l++)
            tops = vi_max(tops, vi_magnitude(vf_load_n(x + (size_t)l * ldw, m)));
        vf top = (vf)tops, by = vf_above(top, TINY, vf_set(1) / top), sum = vf_set(0);
        for (int l = 0; l < k; l++) {
            vf v = vf_load_n(x + (size_t)l * ldw, m) * by;
            sum = vf_fma(v, v, sum);
        }
        vf most = vf_min(vf_set(LENGTH) / vf_root(sum), vf_set(LARGEST));
        vf_store(scales, top / most);
        vf inverse = vf_above(top, TINY, most / top);
        for (int l = 0; l < k; l += 2) {
            const float *at = x + (size_t)l * ldw;
            vf second = l + 1 < k ? vf_load_n(at + ldw, m) : vf_set(0);
            vi_put_pairs(panel + (size_t)l * (size_t)width, vi_nearest(vf_load_n(at, m) * inverse),
                         vi_nearest(second * inverse));
        }
    }
}

/* ---- the same from the levels of a format, without the floats between ---- */

enum { MOST_GROUPS = I16_PIECE / 16 };

/* How large the weights of a group may be. */
INLINE vf group_tops(const float *scale, const float *offset, int n, vf largest) {
    vf o = vf_load_n(offset, n), end = vf_fma(vf_load_n(scale, n), largest, o);
    vi top = vi_max(vi_magnitude(o), vi_magnitude(end));
    return (vf)top;
}

static vf largest_level(int type) {
    return vf_set(type == BLOCK_Q8_0                         ? 255
                  : type == BLOCK_Q6_K                       ? 63
                  : type == BLOCK_Q5_K                       ? 31
                  : type == BLOCK_Q5_0 || type == BLOCK_Q5_1 ? 31
                                                             : 15);
}

/* scale * u + offset for 2 LANES levels, as words */
INLINE void put_levels(int16_t *q, const uint8_t *u, vf scale, vf offset) {
    vi_put_words(q, vi_nearest(vf_fma(vf_from_bytes(u), scale, offset)),
                 vi_nearest(vf_fma(vf_from_bytes(u + LANES), scale, offset)));
}

static float row_levels(int16_t *q, const unsigned char *w, int type, int k) {
    uint8_t u[I16_PIECE];
    float scale[MOST_GROUPS], offset[MOST_GROUPS], scale_of;
    int group = block_group(type), groups = k / group;
    unpackers[type](u, scale, offset, w, k);
    vf largest = largest_level(type), sum = vf_set(0), tops[MOST_GROUPS / LANES];
    vi most = vi_zero();
    for (int g = 0; g < groups; g += LANES) {
        tops[g / LANES] = group_tops(scale + g, offset + g, groups - g, largest);
        most = vi_max(most, (vi)tops[g / LANES]);
    }
    float top = bits_f32((uint32_t)vi_top(most));
    vf by = vf_set(top > TINY ? 1 / top : 0);
    for (int g = 0; g < groups; g += LANES) {
        vf v = tops[g / LANES] * by;
        sum = vf_fma(v, v, sum);
    }
    vf inverse = vf_set(i16_inverse(&scale_of, top, (double)vf_sum(sum) * group));
    for (int g = 0; g < groups; g += LANES) {
        int n = groups - g < LANES ? groups - g : LANES;
        vf_store_n(scale + g, vf_load_n(scale + g, n) * inverse, n);
        vf_store_n(offset + g, vf_load_n(offset + g, n) * inverse, n);
    }
    for (int i = 0; i < k; i += 2 * LANES)
        put_levels(q + i, u + i, vf_set(scale[i / group]), vf_set(offset[i / group]));
    return scale_of;
}

static void pack_levels(int16_t *panel, float *scales, int width, const unsigned char *w, size_t row_bytes,
                        int type, int rows, int k) {
    int16_t q[LANES][I16_PIECE];
    for (int j = 0; j < LANES; j++)
        scales[j] = j < rows ? row_levels(q[j], w + (size_t)j * row_bytes, type, k) : 0;
    pack_words(panel, width, q, sizeof q[0], rows, k / 2);
}

/* Rows of a piece, taken apart. */
struct opened {
    uint8_t u[I16_PIECE][LEVELS_COLUMNS];
    float scale[I16_PIECE][MOST_GROUPS], offset[I16_PIECE][MOST_GROUPS];
};
_Static_assert(sizeof(struct opened) <= LEVELS_ROOM, "room of the levels");

/* One scale for each group of columns: the largest of its rows says how far it goes. */
static void scale_columns(struct opened *o, float *scale_of, vf largest, int k, int groups) {
    for (int g = 0; g < groups; g += LANES) {
        int n = groups - g < LANES ? groups - g : LANES;
        vi tops = vi_zero();
        for (int l = 0; l < k; l++)
            tops = vi_max(tops, (vi)group_tops(o->scale[l] + g, o->offset[l] + g, n, largest));
        vf top = (vf)tops, by = vf_above(top, TINY, vf_set(1) / top), sum = vf_set(0);
        for (int l = 0; l < k; l++) {
            vf v = group_tops(o->scale[l] + g, o->offset[l] + g, n, largest) * by;
            sum = vf_fma(v, v, sum);
        }
        vf most = vf_min(vf_set(LENGTH) / vf_root(sum), vf_set(LARGEST));
        vf_store(scale_of + g, top / most);
        vf inverse = vf_above(top, TINY, most / top);
        for (int l = 0; l < k; l++) {
            vf_store(o->scale[l] + g, vf_load(o->scale[l] + g) * inverse);
            vf_store(o->offset[l] + g, vf_load(o->offset[l] + g) * inverse);
        }
    }
}

static void pair_levels(int16_t *panels, size_t next_panel, float *scales, size_t next_scales, int width,
                        void *room, const unsigned char *w, size_t row_bytes, int type, int n, int k) {
    struct opened *o = room;
    float scale_of[MOST_GROUPS];
    int group = block_group(type);
    for (int l = 0; l < k; l++)
        unpackers[type](o->u[l], o->scale[l], o->offset[l], w + (size_t)l * row_bytes, n);
    scale_columns(o, scale_of, largest_level(type), k, n / group);
    for (int c = 0; c < n; c += LANES) {
        int16_t *to = panels + (size_t)(c / width) * next_panel + 2 * (c % width);
        vf_store(scales + (size_t)(c / width) * next_scales + c % width, vf_set(scale_of[c / group]));
        for (int l = 0; l < k; l += 2, to += 2 * width) {
            const float *scale = &o->scale[l][c / group], *offset = &o->offset[l][c / group];
            vi second = vi_zero();
            if (l + 1 < k)
                second = vi_nearest(vf_fma(vf_from_bytes(o->u[l + 1] + c), vf_set(scale[MOST_GROUPS]),
                                           vf_set(offset[MOST_GROUPS])));
            vi_put_pairs(to, vi_nearest(vf_fma(vf_from_bytes(o->u[l] + c), vf_set(*scale), vf_set(*offset))),
                         second);
        }
    }
}

INLINE void tile_i16(float *y, size_t ldy, const int16_t *a, size_t lda, const float *by, size_t ldb,
                     const int16_t *panel, const float *scales, int n, int k, bool more, int m) {
    vi sum[STRIP][VECTORS];
    UNROLLED_FOR (int i = 0; i < m; i++)
        UNROLLED_FOR (int c = 0; c < VECTORS; c++)
            sum[i][c] = vi_zero();
    for (int l = 0; l < k; l += 2, a += 2, panel += 2 * VECTORS * LANES) {
        vi w[VECTORS];
        UNROLLED_FOR (int c = 0; c < VECTORS; c++)
            w[c] = vi_load(panel + 2 * LANES * c);
        UNROLLED_FOR (int i = 0; i < m; i++) {
            int32_t two;
            memcpy(&two, a + (size_t)i * lda, 4);
            vi x = vi_set(two);
            UNROLLED_FOR (int c = 0; c < VECTORS; c++)
                sum[i][c] = vi_dot_words(sum[i][c], x, w[c]);
        }
    }
    UNROLLED_FOR (int c = 0; c < VECTORS; c++) {
        vf scale_c = vf_load(scales + c * LANES);
        UNROLLED_FOR (int i = 0; i < m; i++) {
            float *at = y + (size_t)i * ldy + c * LANES;
            vf v = vi_float(sum[i][c]), factor = scale_c * vf_set(by[(size_t)i * ldb]);
            int left = n - c * LANES < LANES ? n - c * LANES : LANES;
            if (left == LANES)
                vf_store(at, vf_fma(v, factor, more ? vf_load(at) : vf_set(0)));
            else if (left > 0)
                vf_store_n(at, vf_fma(v, factor, more ? vf_load_n(at, left) : vf_set(0)), left);
        }
    }
}

static void mul_i16(float *y, size_t ldy, const int16_t *a, size_t lda, const float *by, size_t ldb,
                    const int16_t *panel, const float *scales, int m, int n, int k, bool more) {
    for (; m >= STRIP; m -= STRIP, y += STRIP * ldy, a += STRIP * lda, by += STRIP * ldb)
        tile_i16(y, ldy, a, lda, by, ldb, panel, scales, n, k, more, STRIP);
    for (; m >= 2; m -= 2, y += 2 * ldy, a += 2 * lda, by += 2 * ldb)
        tile_i16(y, ldy, a, lda, by, ldb, panel, scales, n, k, more, 2);
    if (m)
        tile_i16(y, ldy, a, lda, by, ldb, panel, scales, n, k, more, 1);
}

const struct kern *kern_avx2(void) {
    static const struct kern table = {
        .name = "avx2",
        .needs = CPU_AVX2 | CPU_F16C | CPU_FMA,
        BODY,
        .put_i16 = put_i16,
        .pack_i16 = pack_i16,
        .pair_i16 = pair_i16,
        .pack_levels = pack_levels,
        .pair_levels = pair_levels,
        .mul_i16 = mul_i16,
    };
    return &table;
}
#endif
