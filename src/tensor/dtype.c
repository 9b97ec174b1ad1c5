/* dtype.c: every number format that GGUF has, as a table, and matrices of them. */
#include "tensor/tensor.h"

#include <assert.h>

#include "kern/kern.h"

_Static_assert((int)DT_F32 == BLOCK_F32 && (int)DT_F16 == BLOCK_F16 && (int)DT_BF16 == BLOCK_BF16,
               "one numbering");
_Static_assert((int)DT_Q4_0 == BLOCK_Q4_0 && (int)DT_Q4_1 == BLOCK_Q4_1 && (int)DT_Q5_0 == BLOCK_Q5_0,
               "one numbering");
_Static_assert((int)DT_Q5_1 == BLOCK_Q5_1 && (int)DT_Q8_0 == BLOCK_Q8_0 && (int)DT_Q4_K == BLOCK_Q4_K,
               "one numbering");
_Static_assert((int)DT_Q5_K == BLOCK_Q5_K && (int)DT_Q6_K == BLOCK_Q6_K && (int)DT_LIMIT == BLOCK_TYPES,
               "one numbering");

#define KNOWN(number, text, weights, size) [number] = {.name = text, .block = weights, .bytes = size}
#define BOTH(number, text, weights, size, format) \
    [number] = {.name = text,                     \
                .block = weights,                 \
                .bytes = size,                    \
                .computes = true,                 \
                .to_f32 = format##_decode,        \
                .from_f32 = format##_encode}

static const struct dtype_info types[DT_LIMIT] = {
    BOTH(DT_F32, "F32", 1, 4, f32),
    BOTH(DT_F16, "F16", 1, 2, f16),
    BOTH(DT_BF16, "BF16", 1, 2, bf16),
    BOTH(DT_Q4_0, "Q4_0", QK, sizeof(struct q4_0), q4_0),
    BOTH(DT_Q4_1, "Q4_1", QK, sizeof(struct q4_1), q4_1),
    BOTH(DT_Q5_0, "Q5_0", QK, sizeof(struct q5_0), q5_0),
    BOTH(DT_Q5_1, "Q5_1", QK, sizeof(struct q5_1), q5_1),
    BOTH(DT_Q8_0, "Q8_0", QK, sizeof(struct q8_0), q8_0),
    BOTH(DT_Q4_K, "Q4_K", QK_K, sizeof(struct q4_k), q4_k),
    BOTH(DT_Q5_K, "Q5_K", QK_K, sizeof(struct q5_k), q5_k),
    BOTH(DT_Q6_K, "Q6_K", QK_K, sizeof(struct q6_k), q6_k),
    KNOWN(9, "Q8_1", 32, 36),
    KNOWN(10, "Q2_K", 256, 84),
    KNOWN(11, "Q3_K", 256, 110),
    KNOWN(15, "Q8_K", 256, 292),
    KNOWN(16, "IQ2_XXS", 256, 66),
    KNOWN(17, "IQ2_XS", 256, 74),
    KNOWN(18, "IQ3_XXS", 256, 98),
    KNOWN(19, "IQ1_S", 256, 50),
    KNOWN(20, "IQ4_NL", 32, 18),
    KNOWN(21, "IQ3_S", 256, 110),
    KNOWN(22, "IQ2_S", 256, 82),
    KNOWN(23, "IQ4_XS", 256, 136),
    KNOWN(24, "I8", 1, 1),
    KNOWN(25, "I16", 1, 2),
    KNOWN(26, "I32", 1, 4),
    KNOWN(27, "I64", 1, 8),
    KNOWN(28, "F64", 1, 8),
    KNOWN(29, "IQ1_M", 256, 56),
    KNOWN(34, "TQ1_0", 256, 54),
    KNOWN(35, "TQ2_0", 256, 66),
    KNOWN(39, "MXFP4", 32, 17),
    KNOWN(40, "NVFP4", 64, 36),
    KNOWN(41, "Q1_0", 128, 18),
    KNOWN(42, "Q2_0", 64, 18),
};

const struct dtype_info *dtype_of(int type) {
    return type >= 0 && type < DT_LIMIT && types[type].name ? &types[type] : NULL;
}

bool dtype_bytes(int type, uint64_t n, uint64_t *bytes) {
    const struct dtype_info *t = dtype_of(type);
    if (!t || n % (uint64_t)t->block)
        return false;
    uint64_t blocks = n / (uint64_t)t->block;
    if (blocks > UINT64_MAX / (uint64_t)t->bytes)
        return false;
    *bytes = blocks * (uint64_t)t->bytes;
    return true;
}

float f16_to_f32(uint16_t h) {
    return half_to_f32(h);
}

uint16_t f32_to_f16(float f) {
    return f32_to_half(f);
}

float bf16_to_f32(uint16_t h) {
    return bits_f32((uint32_t)h << 16);
}

uint16_t f32_to_bf16(float f) {
    return f32_to_bhalf(f);
}

struct matrix matrix_of(const void *data, enum dtype type, int out, int in) {
    uint64_t bytes = 0;
    bool whole = dtype_bytes((int)type, (uint64_t)in, &bytes);
    assert(whole);
    (void)whole;
    return (struct matrix){.data = data, .type = type, .out = out, .in = in, .row_bytes = (size_t)bytes};
}

void matrix_row_f32(float *out, const struct matrix *w, int row) {
    types[w->type].to_f32(out, (const unsigned char *)w->data + (size_t)row * w->row_bytes, (size_t)w->in);
}

plm_status matrix_quantise(void *out, int type, const float *in, size_t rows, size_t cols, plm_error *err) {
    const struct dtype_info *t = dtype_of(type);
    if (!t || !t->from_f32)
        return fail(err, PLM_ENOTSUP,
                    "cannot write %s: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K can "
                    "be written",
                    t ? t->name : "this number format");
    uint64_t bytes;
    if (!dtype_bytes(type, cols, &bytes))
        return fail(err, PLM_EINVAL, "rows of %zu numbers are not whole blocks of %s (%d)", cols, t->name,
                    t->block);
    for (size_t r = 0; r < rows; r++)
        t->from_f32((unsigned char *)out + r * (size_t)bytes, in + r * cols, cols);
    return PLM_OK;
}
