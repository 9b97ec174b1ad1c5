/* kern_avx512.c: the kernels for AVX-512 with VNNI and BF16, and the bf16 products that only it has. */
#include "kern/isa.h"

#if defined(__x86_64__)
#include "kern/vec_avx512.h"

#include "kern/kern_body.h"

INLINE vi two_halves(vf lo, vf hi) { return (vi)_mm512_cvtne2ps_pbh(hi, lo); }

static void put_bf16(uint16_t *y, const float *x, int n) {
    for (int i = 0; i < n; i += 2 * LANES) {
        int left = n - i, lo = left < LANES ? left : LANES, hi = left - lo < LANES ? left - lo : LANES;
        vi pairs = two_halves(vf_load_n(x + i, lo), hi > 0 ? vf_load_n(x + i + LANES, hi) : vf_set(0));
        _mm512_mask_storeu_epi32(y + i, first_n((lo + hi + 1) / 2), pairs);
    }
}

static void pair_bf16(uint16_t *y, const float *x0, const float *x1, int n) {
    const vi order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                      6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (int i = 0; i < n; i += LANES) {
        int m = n - i < LANES ? n - i : LANES;
        vi both = two_halves(vf_load_n(x0 + i, m), x1 ? vf_load_n(x1 + i, m) : vf_set(0));
        _mm512_mask_storeu_epi32(y + 2 * i, first_n(m), _mm512_permutexvar_epi16(order, both));
    }
}

static void pack_bf16(uint16_t *panel, int width, const float *w, size_t ldw, int rows, int k) {
    for (int l = 0; l < k; l += 2 * LANES) {
        vi r[LANES];
        int left = k - l, lo = left < LANES ? left : LANES, hi = left - lo < LANES ? left - lo : LANES;
        UNROLLED_FOR (int j = 0; j < LANES; j++) {
            const float *at = w + (size_t)j * ldw + l;
            if (j >= rows)
                r[j] = vi_zero();
            else if (hi == LANES)
                r[j] = two_halves(vf_load(at), vf_load(at + LANES));
            else
                r[j] = two_halves(vf_load_n(at, lo), hi > 0 ? vf_load_n(at + LANES, hi) : vf_set(0));
        }
        vi_transpose(r);
        for (int i = 0; 2 * i < left && i < LANES; i++)
            vi_store(panel + (size_t)(l + 2 * i) * (size_t)width, r[i]);
    }
}

INLINE void tile_bf16(float *y, size_t ldy, const uint16_t *a, size_t lda, const uint16_t *b, int width,
                      int n, int k, bool more, int m, int v) {
    vf sum[STRIP][VECTORS];
    UNROLLED_FOR (int i = 0; i < m; i++)
        UNROLLED_FOR (int c = 0; c < v; c++)
            sum[i][c] = vf_set(0);
    for (int l = 0; l < k; l += 2, a += 2, b += 2 * width) {
        vi w[VECTORS];
        UNROLLED_FOR (int c = 0; c < v; c++)
            w[c] = vi_load(b + 2 * LANES * c);
        UNROLLED_FOR (int i = 0; i < m; i++) {
            int32_t two;
            memcpy(&two, a + (size_t)i * lda, 4);
            vi x = vi_set(two);
            UNROLLED_FOR (int c = 0; c < v; c++)
                sum[i][c] = _mm512_dpbf16_ps(sum[i][c], (__m512bh)x, (__m512bh)w[c]);
        }
    }
    UNROLLED_FOR (int i = 0; i < m; i++)
        UNROLLED_FOR (int c = 0; c < v; c++) {
            float *at = y + (size_t)i * ldy + c * LANES;
            int left = n - c * LANES;
            if (left >= LANES)
                vf_store(at, sum[i][c] + (more ? vf_load(at) : vf_set(0)));
            else
                vf_store_n(at, sum[i][c] + (more ? vf_load_n(at, left) : vf_set(0)), left);
        }
}

INLINE void strips_bf16(float *y, size_t ldy, const uint16_t *a, size_t lda, const uint16_t *b, int width,
                        int m, int n, int k, bool more, int v) {
    for (; m >= STRIP; m -= STRIP, y += STRIP * ldy, a += STRIP * lda)
        tile_bf16(y, ldy, a, lda, b, width, n, k, more, STRIP, v);
    for (; m >= 2; m -= 2, y += 2 * ldy, a += 2 * lda)
        tile_bf16(y, ldy, a, lda, b, width, n, k, more, 2, v);
    if (m)
        tile_bf16(y, ldy, a, lda, b, width, n, k, more, 1, v);
}

static void mul_bf16(float *y, size_t ldy, const uint16_t *a, size_t lda, const uint16_t *panel, int width,
                     int m, int n, int k, bool more) {
    switch ((n + LANES - 1) / LANES) {
    case 1: strips_bf16(y, ldy, a, lda, panel, width, m, n, k, more, 1); break;
    case 2: strips_bf16(y, ldy, a, lda, panel, width, m, n, k, more, 2); break;
    case 3: strips_bf16(y, ldy, a, lda, panel, width, m, n, k, more, 3); break;
    case 4: strips_bf16(y, ldy, a, lda, panel, width, m, n, k, more, 4); break;
    }
}

static double peak_bf16(size_t loops) {
    vf sum[PEAK];
    vi x = vi_set(0x3c003c00);
    UNROLLED_FOR (int c = 0; c < PEAK; c++)
        sum[c] = vf_set((float)c);
    for (size_t i = 0; i < loops; i++)
        UNROLLED_FOR (int c = 0; c < PEAK; c++)
            sum[c] = _mm512_dpbf16_ps(sum[c], (__m512bh)x, (__m512bh)x);
    volatile float sink;
    UNROLLED_FOR (int c = 0; c < PEAK; c++)
        sink = vf_sum(sum[c]);
    (void)sink;
    return (double)loops * PEAK * LANES * 4;
}

const struct kern *kern_avx512(void) {
    static const struct kern table = {
        .name = "avx512",
        .needs = CPU_AVX2 | CPU_F16C | CPU_FMA | CPU_AVX512 | CPU_VNNI | CPU_BF16,
        BODY,
        .mul_bf16 = mul_bf16,
        .pack_bf16 = pack_bf16,
        .put_bf16 = put_bf16,
        .pair_bf16 = pair_bf16,
        .peak_bf16 = peak_bf16,
    };
    return &table;
}
#endif
