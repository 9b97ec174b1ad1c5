/* Number formats against blocks that gguf-py and ggml wrote and read, and the table's own arithmetic. */
#include "support_tensor.h"

#include <math.h>
#include <stdlib.h>

static struct bytes golden, golden_k; /* quant.bin, quant-k.bin */

static int read_golden(void **state) {
    (void)state;
    plm_error err;
    bytes_init(&golden, 1 << 20);
    bytes_init(&golden_k, 1 << 20);
    plm_status st = file_read(PLM_TEST_DATA "/quant.bin", 1 << 20, &golden, &err);
    return st ? st : file_read(PLM_TEST_DATA "/quant-k.bin", 1 << 20, &golden_k, &err);
}

static int free_golden(void **state) {
    (void)state;
    bytes_free(&golden);
    bytes_free(&golden_k);
    return 0;
}

/* A file is a name of 8 bytes, u32 bytes of blocks, u32 floats, the blocks, the floats; again. */
static bool find_golden(const struct bytes *file, const char *name, const unsigned char **blocks,
                        size_t *n_blocks, float **floats, size_t *n) {
    *blocks = NULL;
    *floats = NULL;
    *n_blocks = *n = 0;
    const char *p = file->data, *end = p + file->len;
    while (p < end) {
        uint32_t sizes[2];
        memcpy(sizes, p + 8, 8);
        if (strncmp(p, name, 8) == 0) {
            *blocks = (const unsigned char *)p + 16;
            *n_blocks = sizes[0];
            *n = sizes[1];
            *floats = mem_alloc(*n, sizeof **floats);
            memcpy(*floats, p + 16 + sizes[0], *n * sizeof **floats);
            return true;
        }
        p += 16 + sizes[0] + 4 * (size_t)sizes[1];
    }
    return false;
}

static void blocks_mean_exactly_what_gguf_says(void **state) {
    (void)state;
    for (int i = 1; i < n_types; i++) {
        const struct dtype_info *t = dtype_of(every_type[i]);
        const unsigned char *blocks;
        float *want;
        size_t n_blocks, n;
        assert_true(find_golden(&golden, t->name, &blocks, &n_blocks, &want, &n));
        float *got = zeros(n);
        t->to_f32(got, blocks, n);
        for (size_t j = 0; j < n; j++)
            if (memcmp(&got[j], &want[j], 4) && !(got[j] == 0 && want[j] == 0))
                fail_msg("%s element %zu: %.9g, not %.9g", t->name, j, got[j], want[j]);
        mem_free(got);
        mem_free(want);
    }
}

static void check_written(const struct bytes *file, const struct dtype_info *t) {
    const unsigned char *none, *want;
    float *source, *floats;
    size_t n_none, n, bytes, m;
    assert_true(find_golden(file, "source", &none, &n_none, &source, &n));
    assert_true(find_golden(file, t->name, &want, &bytes, &floats, &m));
    assert_int_equal(n, m);
    unsigned char *got = mem_zero(bytes, 1);
    t->from_f32(got, source, n);
    assert_memory_equal(got, want, bytes);
    mem_free(got);
    mem_free(floats);
    mem_free(source);
}

static void floats_become_the_bytes_that_gguf_writes(void **state) {
    (void)state;
    for (int i = 1; i < n_types; i++) {
        const struct dtype_info *t = dtype_of(every_type[i]);
        check_written(t->block == 256 ? &golden_k : &golden, t);
    }
}

static void every_half_comes_back(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_f32((uint16_t)h);
        bool nan = (h & 0x7fff) > 0x7c00;
        assert_int_equal(nan, isnan(f) != 0);
        if (!nan) {
            assert_int_equal(f32_to_f16(f), h);
            assert_int_equal(f32_to_bf16(bf16_to_f32((uint16_t)h)), h);
        }
    }
}

static void halves_round_to_nearest_even(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 7, 0);
    for (int i = 0; i < 200000; i++) {
        float f = ldexpf((float)rng_unit(&r) * 2 - 1, (int)rng_below(&r, 45) - 28);
        uint16_t h = f32_to_f16(f);
        double here = fabs((double)f16_to_f32(h) - (double)f);
        if ((h & 0x7fff) == 0x7c00)
            continue;
        for (int step = -1; step <= 1; step += 2) {
            uint16_t near = (uint16_t)(h + step);
            if ((near & 0x7fff) >= 0x7c00 || (near ^ h) & 0x8000)
                continue;
            double there = fabs((double)f16_to_f32(near) - (double)f);
            assert_true(here < there || (here == there && !(h & 1)));
        }
    }
    assert_int_equal(f32_to_f16(65520), 0x7c00);
    assert_int_equal(f32_to_f16(65519), 0x7bff);
    assert_int_equal(f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(f32_to_bf16(3.3895e38f), 0x7f7f);
    assert_true(isnan(bf16_to_f32(f32_to_bf16(NAN))));
}

static void sizes_are_checked(void **state) {
    (void)state;
    uint64_t bytes;
    assert_null(dtype_of(4));
    assert_null(dtype_of(-1));
    assert_null(dtype_of(64));
    assert_false(dtype_of(10)->computes);
    assert_true(dtype_bytes(DT_Q4_K, 512, &bytes));
    assert_int_equal(bytes, 288);
    assert_false(dtype_bytes(DT_Q4_K, 511, &bytes));
    assert_false(dtype_bytes(DT_F32, UINT64_MAX / 2, &bytes));
    assert_false(dtype_bytes(5, 32, &bytes));
}

static void quantising_reports_what_it_cannot_do(void **state) {
    (void)state;
    plm_error err;
    float in[64] = {0};
    unsigned char out[128];
    assert_int_equal(matrix_quantise(out, 10, in, 1, 64, &err), PLM_ENOTSUP);
    assert_non_null(strstr(err.text, "Q2_K"));
    assert_int_equal(matrix_quantise(out, DT_Q6_K, in, 1, 64, &err), PLM_EINVAL);
    assert_int_equal(matrix_quantise(out, 5, in, 1, 64, &err), PLM_ENOTSUP);
    assert_int_equal(matrix_quantise(out, DT_Q8_0, in, 1, 33, &err), PLM_EINVAL);
    assert_int_equal(matrix_quantise(out, DT_Q8_0, in, 2, 32, &err), PLM_OK);
}

static void quantising_survives_hostile_numbers(void **state) {
    (void)state;
    float in[256];
    unsigned char out[1024];
    for (int i = 0; i < 256; i++)
        in[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -3e38f;
    for (int i = 0; i < n_types; i++)
        dtype_of(every_type[i])->from_f32(out, in, 256);
}

static void kernels_are_found_by_name(void **state) {
    (void)state;
    plm_error err;
    const struct kern *k = NULL, *best = NULL;
    assert_int_equal(ops_kernels(&k, "ref", &err), PLM_OK);
    assert_true(ops_kernel_exact(k));
    assert_string_equal(ops_kernel_name(k), "ref");
    assert_int_equal(ops_kernels(&best, NULL, &err), PLM_OK);
    assert_ptr_equal(best, kern_at(0));
    assert_int_equal(ops_kernels(&k, "z80", &err), PLM_ENOTSUP);
    assert_non_null(strstr(err.text, "ref"));
}

static void waiting_in_f16_costs_eleven_bits_and_never_becomes_infinite(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 8, 0);
    enum { N = 9001 };
    float *x = calloc(N, sizeof *x), *y = calloc(N, sizeof *y);
    uint16_t *h = calloc(N, sizeof *h);
    for (int k = 0; k < 2; k++) {
        struct ops o = {0};
        plm_error err = {0};
        assert_int_equal(ops_kernels(&o.kern, k ? NULL : "ref", &err), PLM_OK);
        for (int i = 0; i < N; i++)
            x[i] = 100 * rng_normal(&r);
        x[1] = 1e9f, x[2] = -INFINITY, x[3] = NAN, x[N - 1] = 65519;
        op_to_f16(&o, h, x, N);
        op_from_f16(&o, y, h, N);
        assert_true(y[1] == 65504 && y[2] == -65504 && isnan(y[3]) && y[N - 1] == 65504);
        for (int i = 4; i < N - 1; i++)
            assert_true(y[i] == f16_to_f32(f32_to_f16(x[i])));
        op_round_f16(&o, x, N);
        for (int i = 0; i < N; i++)
            assert_true(x[i] == y[i] || i == 3);
    }
    free(x);
    free(y);
    free(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_mean_exactly_what_gguf_says),
        cmocka_unit_test(floats_become_the_bytes_that_gguf_writes),
        cmocka_unit_test(every_half_comes_back),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(quantising_reports_what_it_cannot_do),
        cmocka_unit_test(quantising_survives_hostile_numbers),
        cmocka_unit_test(kernels_are_found_by_name),
        cmocka_unit_test(waiting_in_f16_costs_eleven_bits_and_never_becomes_infinite),
    };
    return cmocka_run_group_tests(tests, read_golden, free_golden);
}
