/* test_modelfile_hostile.c: GGUF files that broke other readers, each shape by its number in the catalogue of
 * historical ones, and the rules behind them: refused with one sentence, nothing allocated beyond the file.
 */
#include "support_modelfile.h"
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t one_row[] = {32};

/* A header, a key, and one F32 tensor of 32 weights whose description the caller may bend. */
static struct raw with_tensor(uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset,
                              size_t data) {
    struct raw r = raw_gguf(3, 1, 1);
    raw_kv_text(&r, "general.architecture", "llama");
    raw_tensor(&r, "w.weight", n_dims, ne, type, offset);
    raw_pad(&r, 32);
    raw_zeros(&r, data);
    return r;
}

static struct raw with_alignment(uint32_t type, uint64_t value, int width) {
    struct raw r = raw_gguf(3, 1, 1);
    raw_key(&r, "general.alignment", type);
    raw_le(&r, value, width);
    raw_tensor(&r, "w.weight", 1, one_row, 0, 0);
    raw_pad(&r, 32);
    raw_zeros(&r, 128);
    return r;
}

static void test_h01_tensor_count_that_wraps(void **state) {
    (void)state;
    const uint64_t counts[] = {UINT64_MAX, (uint64_t)1 << 63, UINT64_MAX / 40, 0xffffffff, 65537, 2};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct raw r = raw_gguf(3, counts[i], 0);
        raw_zeros(&r, 40);
        refuse_gguf(&r, PLM_EFORMAT, "more than it can hold");
    }
}

static void test_h02_key_count_that_wraps(void **state) {
    (void)state;
    const uint64_t counts[] = {UINT64_MAX, (uint64_t)1 << 63, UINT64_MAX / 14 + 1, 0xffffffff, 65537, 3};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct raw r = raw_gguf(3, 0, counts[i]);
        raw_zeros(&r, 40);
        refuse_gguf(&r, PLM_EFORMAT, "more than it can hold");
    }
}

static void test_h03_h26_string_length_that_wraps(void **state) {
    (void)state;
    const uint64_t lengths[] = {
        UINT64_MAX,        UINT64_MAX - 7,    (uint64_t)1 << 63,       ((uint64_t)1 << 63) - 1,
        (uint64_t)1 << 32, (uint64_t)1 << 31, ((uint64_t)1 << 31) - 1, 41};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct raw key = raw_gguf(3, 0, 1), value = raw_gguf(3, 0, 1), name = raw_gguf(3, 1, 0);
        raw_u64(&key, lengths[i]);
        raw_zeros(&key, 40);
        refuse_gguf(&key, PLM_EFORMAT, "ends inside its header");
        raw_key(&value, "k", 8);
        raw_u64(&value, lengths[i]);
        raw_zeros(&value, 40);
        refuse_gguf(&value, PLM_EFORMAT, "key k: a string reaches past the end");
        raw_u64(&name, lengths[i]);
        raw_zeros(&name, 40);
        refuse_gguf(&name, PLM_EFORMAT, "ends inside its header");
    }
}

static void test_h04_array_count_that_wraps(void **state) {
    (void)state;
    const uint32_t types[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12};
    const uint64_t counts[] = {UINT64_MAX, (uint64_t)1 << 61, (uint64_t)1 << 62, ((uint64_t)1 << 63) + 1, 41};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            struct raw r = raw_gguf(3, 0, 1);
            raw_key(&r, "tokenizer.ggml.tokens", 9);
            raw_u32(&r, types[t]);
            raw_u64(&r, counts[i]);
            raw_zeros(&r, 40);
            refuse_gguf(&r, PLM_EFORMAT, "tokenizer.ggml.tokens: an array of");
        }
}

static void test_h05_more_than_four_dimensions(void **state) {
    (void)state;
    const uint32_t dims[] = {0, 5, 8, 255, UINT32_MAX};
    const uint64_t ne[8] = {32, 1, 1, 1, 1, 1, 1, 1};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        struct raw r = with_tensor(dims[i], ne, 0, 0, 128);
        refuse_gguf(&r, PLM_EFORMAT, "dimensions (1 to 4)");
    }
}

/* Every KV type, an array of each, and two tensors: a file that a truncation can cut anywhere. */
static struct raw every_type(void) {
    struct raw r = raw_gguf(3, 2, 26);
    const int width[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    char key[32];
    for (uint32_t t = 0; t <= 12; t++) {
        snprintf(key, sizeof key, "scalar.%u", t);
        raw_key(&r, key, t);
        if (t == 8)
            raw_text(&r, "text");
        else if (t == 9)
            raw_u32(&r, 0), raw_u64(&r, 2), raw_zeros(&r, 2);
        else
            raw_le(&r, 1, width[t]);
        snprintf(key, sizeof key, "array.%u", t);
        raw_key(&r, key, 9);
        raw_u32(&r, t == 9 ? 8 : t);
        raw_u64(&r, 3);
        for (int i = 0; i < 3; i++)
            if (t == 8 || t == 9)
                raw_text(&r, "ab");
            else
                raw_le(&r, 1, width[t]);
    }
    raw_tensor(&r, "a.weight", 2, (uint64_t[]){32, 2}, 0, 0);
    raw_tensor(&r, "b.weight", 1, (uint64_t[]){64}, 8, 256);
    raw_pad(&r, 32);
    raw_zeros(&r, 256 + 68);
    return r;
}

static void test_h06_h24_every_truncation(void **state) {
    (void)state;
    struct raw whole = every_type();
    struct gguf *g = NULL;
    plm_error err = {0};
    assert_int_equal(gguf_parse(&g, whole.p, whole.n, "x", &err), PLM_OK);
    gguf_close(g);
    for (size_t n = 0; n < whole.n; n++) {
        struct raw cut = {0};
        raw_put(&cut, whole.p, n);
        refuse_gguf(&cut, PLM_EFORMAT, n < 4 ? "not a GGUF" : "");
    }
    raw_free(&whole);
}

static void test_h06_every_byte_flipped_is_survived(void **state) {
    (void)state;
    struct raw whole = every_type();
    const unsigned char values[] = {0, 0xff, 0x80, 0x7f, 1};
    for (size_t at = 0; at < whole.n - 324; at++)
        for (size_t v = 0; v < sizeof values; v++) {
            struct gguf *g = NULL;
            plm_error err = {0};
            unsigned char keep = whole.p[at];
            whole.p[at] = values[v];
            plm_status st = gguf_parse(&g, whole.p, whole.n, "x", &err);
            assert_true(st == PLM_OK ? g != NULL : g == NULL && err.text[0]);
            gguf_close(g);
            whole.p[at] = keep;
        }
    raw_free(&whole);
}

static void test_h07_absent_things_are_found_absent(void **state) {
    (void)state;
    struct raw r = raw_gguf(3, 0, 0);
    struct gguf *g = NULL;
    plm_error err = {0};
    struct gguf_array a;
    bool found = true;
    assert_int_equal(gguf_parse(&g, r.p, r.n, "x", &err), PLM_OK);
    assert_null(gguf_tensor(g, "token_embd.weight"));
    assert_int_equal(gguf_array(g, "tokenizer.ggml.tokens", &a, &found, &err), PLM_OK);
    assert_false(found);
    assert_int_equal(gguf_n_kv(g) + gguf_n_tensors(g), 0);
    gguf_close(g);
    raw_free(&r);
}

/* Two tensors of these element counts and types, each size possible alone. */
static struct raw two_tensors(uint32_t type, uint64_t n, uint64_t second_at) {
    struct raw r = raw_gguf(3, 2, 0);
    raw_tensor(&r, "a.weight", 1, &n, type, 0);
    raw_tensor(&r, "b.weight", 1, &n, type, second_at);
    raw_pad(&r, 32);
    raw_zeros(&r, 64);
    return r;
}

static void test_h08_sum_of_tensor_sizes_wraps(void **state) {
    (void)state;
    struct raw r = two_tensors(24, (uint64_t)1 << 62, (uint64_t)1 << 62);
    refuse_gguf(&r, PLM_EFORMAT, "cut short: tensor a.weight");
}

static void test_h09_two_tensors_of_almost_2_63_bytes(void **state) {
    (void)state;
    struct raw r = two_tensors(24, 0x7fffffffffffffc0, 0x7fffffffffffffc0);
    refuse_gguf(&r, PLM_EFORMAT, "a.weight");
}

static void test_h10_bytes_wrap_where_elements_fit(void **state) {
    (void)state;
    const uint64_t ne[4] = {(uint64_t)1 << 31, (uint64_t)1 << 31, 1, 1};
    struct raw f32 = with_tensor(2, ne, 0, 0, 64);
    refuse_gguf(&f32, PLM_EFORMAT, "w.weight");
    const uint64_t wide[4] = {(uint64_t)1 << 62, 1, 1, 1};
    struct raw f64 = with_tensor(1, wide, 28, 0, 64);
    refuse_gguf(&f64, PLM_EFORMAT, "w.weight is too large");
}

static void test_h10_dimensions_whose_product_wraps(void **state) {
    (void)state;
    const uint64_t ne[4] = {(uint64_t)1 << 32, (uint64_t)1 << 32, 1, 1};
    struct raw r = with_tensor(2, ne, 0, 0, 64);
    refuse_gguf(&r, PLM_EFORMAT, "w.weight: dimension 1");
    const uint64_t to_one[4] = {3, 0xaaaaaaaaaaaaaaab, 1, 1}; /* product 2^65 + 1 is 1 in 64 bits */
    r = with_tensor(2, to_one, 0, 0, 64);
    refuse_gguf(&r, PLM_EFORMAT, "w.weight: dimension 1");
    const uint64_t negative[4] = {(uint64_t)-32, 1, 1, 1};
    r = with_tensor(1, negative, 0, 0, 64);
    refuse_gguf(&r, PLM_EFORMAT, "w.weight: dimension 0");
}

static void test_h11_size_that_padding_wraps(void **state) {
    (void)state;
    const uint64_t ne[1] = {(uint64_t)INT64_MAX};
    struct raw r = with_tensor(1, ne, 24, 0, 64);
    refuse_gguf(&r, PLM_EFORMAT, "cut short: tensor w.weight");
    struct raw two = two_tensors(24, UINT64_MAX - 15, 0); /* padded to 0 the second would be at 0 */
    refuse_gguf(&two, PLM_EFORMAT, "a.weight");
}

static void test_h12_zero_dimension(void **state) {
    (void)state;
    for (uint32_t at = 0; at < 4; at++) {
        uint64_t ne[4] = {32, 1, 1, 1};
        ne[at] = 0;
        struct raw r = with_tensor(4, ne, 0, 0, 128);
        refuse_gguf(&r, PLM_EFORMAT, "w.weight: dimension");
    }
}

static void test_h13_alignment_zero(void **state) {
    (void)state;
    struct raw r = with_alignment(4, 0, 4);
    refuse_gguf(&r, PLM_EFORMAT, "general.alignment is 0");
}

static void test_h14_alignment_that_is_none(void **state) {
    (void)state;
    struct raw odd = with_alignment(4, 33, 4), huge = with_alignment(4, 0x80000000, 4),
               one = with_alignment(4, 1, 4);
    refuse_gguf(&odd, PLM_EFORMAT, "not a power of two");
    refuse_gguf(&huge, PLM_ENOTSUP, "general.alignment is 2147483648");
    refuse_gguf(&one, PLM_ENOTSUP, "general.alignment is 1");
    struct raw u64 = with_alignment(10, 32, 8), i32 = with_alignment(5, 32, 4),
               f32 = with_alignment(6, 32, 4);
    refuse_gguf(&u64, PLM_EFORMAT, "general.alignment is u64, not u32");
    refuse_gguf(&i32, PLM_EFORMAT, "not u32");
    refuse_gguf(&f32, PLM_EFORMAT, "not u32");
    struct raw array = raw_gguf(3, 0, 1);
    raw_key(&array, "general.alignment", 9);
    raw_u32(&array, 4);
    raw_u64(&array, 1);
    raw_u32(&array, 32);
    refuse_gguf(&array, PLM_EFORMAT, "general.alignment is an array");
}

static void test_h15_offset_outside_the_file(void **state) {
    (void)state;
    const uint64_t offsets[] = {32, 128, (uint64_t)1 << 40, UINT64_MAX - 31, UINT64_MAX - 127, 1};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        struct raw r = with_tensor(1, one_row, 0, offsets[i], 128);
        refuse_gguf(&r, PLM_EFORMAT, "tensor w.weight is at offset");
    }
}

static void test_h15_tensors_that_overlap_or_leave_a_gap(void **state) {
    (void)state;
    const uint64_t second[] = {0, 32, 96, 160, 256};
    for (size_t i = 0; i < sizeof second / sizeof *second; i++) {
        struct raw r = raw_gguf(3, 2, 0);
        raw_tensor(&r, "a.weight", 1, one_row, 0, 0);
        raw_tensor(&r, "b.weight", 1, one_row, 0, second[i]);
        raw_pad(&r, 32);
        raw_zeros(&r, 512);
        refuse_gguf(&r, PLM_EFORMAT, "tensor b.weight is at offset");
    }
}

static void test_h16_data_shorter_than_declared(void **state) {
    (void)state;
    for (size_t n = 0; n < 128; n += 31) {
        struct raw r = with_tensor(1, one_row, 0, 0, n);
        refuse_gguf(&r, PLM_EFORMAT, "cut short: tensor w.weight needs 128 bytes");
    }
}

static void test_h18_tensor_type_outside_the_table(void **state) {
    (void)state;
    const uint32_t types[] = {4,  5,  31, 32,    33,         36,         37,        38,
                              43, 63, 64, 0x100, 0x7fffffff, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct raw r = with_tensor(1, one_row, types[i], 0, 128);
        refuse_gguf(&r, PLM_ENOTSUP, "w.weight has the unknown type");
    }
}

static void test_h19_row_of_a_part_of_a_block(void **state) {
    (void)state;
    const uint64_t ne[2] = {48, 2}; /* 96 weights are whole blocks, a row is not */
    struct raw r = with_tensor(2, ne, 2, 0, 128);
    refuse_gguf(&r, PLM_EFORMAT, "rows of 48 are not whole blocks of 32 (Q4_0)");
    const uint64_t k[2] = {128, 2};
    r = with_tensor(2, k, 12, 0, 256);
    refuse_gguf(&r, PLM_EFORMAT, "not whole blocks of 256 (Q4_K)");
}

static void test_h20_empty_key(void **state) {
    (void)state;
    struct raw r = raw_gguf(3, 0, 1);
    raw_key(&r, "", 0);
    raw_u8(&r, 0);
    assert_int_equal(r.n, 37);
    raw_u8(&r, 0); /* one more, or the count alone gives it away */
    refuse_gguf(&r, PLM_EFORMAT, "empty key name at byte 24");
}

static void test_h21_duplicate_key_or_tensor(void **state) {
    (void)state;
    struct raw r = raw_gguf(3, 0, 3);
    raw_kv_u32(&r, "same", 1);
    raw_kv_u32(&r, "other", 1);
    raw_kv_text(&r, "same", "1");
    refuse_gguf(&r, PLM_EFORMAT, "key same is there twice");
    r = raw_gguf(3, 2, 0);
    raw_tensor(&r, "w.weight", 1, one_row, 0, 0);
    raw_tensor(&r, "w.weight", 1, one_row, 0, 128);
    raw_pad(&r, 32);
    raw_zeros(&r, 256);
    refuse_gguf(&r, PLM_EFORMAT, "tensor w.weight is there twice");
}

static void test_h22_array_of_an_unknown_type(void **state) {
    (void)state;
    const uint32_t types[] = {13, 14, 255, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct raw r = raw_gguf(3, 0, 1);
        raw_key(&r, "k", 9);
        raw_u32(&r, types[i]);
        raw_u64(&r, (uint64_t)1 << 60);
        refuse_gguf(&r, PLM_EFORMAT, "key k: an array of the unknown type");
        r = raw_gguf(3, 0, 1);
        raw_key(&r, "k", types[i]);
        raw_zeros(&r, 64);
        refuse_gguf(&r, PLM_EFORMAT, "key k has the unknown type");
    }
}

static void test_h22_array_of_arrays(void **state) {
    (void)state;
    struct raw r = raw_gguf(3, 0, 1);
    raw_key(&r, "k", 9);
    raw_u32(&r, 9);
    raw_u64(&r, 1);
    for (int i = 0; i < 1000; i++) {
        raw_u32(&r, 9);
        raw_u64(&r, 1);
    }
    refuse_gguf(&r, PLM_ENOTSUP, "key k: an array of arrays");
}

static void test_h23_string_past_the_end_is_no_empty_string(void **state) {
    (void)state;
    struct raw r = raw_gguf(3, 0, 2);
    raw_key(&r, "k", 8);
    raw_u64(&r, 1000);
    raw_kv_u32(&r, "after", 7);
    refuse_gguf(&r, PLM_EFORMAT, "key k: a string reaches past");
    r = raw_gguf(3, 0, 2);
    raw_key(&r, "k", 9);
    raw_u32(&r, 8);
    raw_u64(&r, 2);
    raw_text(&r, "fits");
    raw_u64(&r, 1000);
    raw_kv_u32(&r, "after", 7);
    refuse_gguf(&r, PLM_EFORMAT, "key k: a string reaches past");
}

static void test_h24_magic_only_and_nothing(void **state) {
    (void)state;
    struct raw r = {0};
    refuse_gguf(&r, PLM_EFORMAT, "not a GGUF file");
    raw_put(&r, "GGUF", 4);
    refuse_gguf(&r, PLM_EFORMAT, "ends inside its header");
    const char *const foreign[] = {"gguf\3\0\0\0", "PK\3\4aaaa",   "\177ELFaaaa",
                                   "%PDF-1.7",     "GGML\1\0\0\0", "\x80\2}qaaaa"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        raw_put(&r, foreign[i], 8);
        raw_zeros(&r, 100);
        refuse_gguf(&r, PLM_EFORMAT, "not a GGUF file");
    }
}

static void test_h25_versions_that_are_not_read(void **state) {
    (void)state;
    const uint32_t versions[] = {0, 1, 4, 0x7fffffff, UINT32_MAX};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        struct raw r = raw_gguf(versions[i], 0, 0);
        refuse_gguf(&r, PLM_ENOTSUP, "GGUF version");
    }
    struct raw r = raw_gguf(0x03000000, 0, 0);
    refuse_gguf(&r, PLM_ENOTSUP, "big-endian");
}

/* ---- the rest of the catalogue ---- */

static void test_counts_off_by_one(void **state) {
    (void)state;
    for (int d = -1; d <= 1; d += 2) {
        struct raw r = raw_gguf(3, 1, (uint64_t)(2 + d));
        raw_kv_u32(&r, "a", 1);
        raw_kv_u32(&r, "b", 1);
        raw_tensor(&r, "w.weight", 1, one_row, 0, 0);
        raw_pad(&r, 32);
        raw_zeros(&r, 128);
        refuse_gguf(&r, PLM_EFORMAT, "");
    }
    for (uint64_t n = 0; n <= 2; n += 2) {
        struct raw r = raw_gguf(3, n, 0);
        raw_tensor(&r, "w.weight", 1, one_row, 0, 0);
        raw_pad(&r, 32);
        raw_zeros(&r, 128);
        refuse_gguf(&r, PLM_EFORMAT, "");
    }
}

static void test_names_of_tensors(void **state) {
    (void)state;
    char name[80];
    struct gguf *g = NULL;
    plm_error err = {0};
    for (size_t n = 62; n <= 65; n++) {
        struct raw r = raw_gguf(3, 1, 0);
        memset(name, 'n', n);
        name[n] = 0;
        raw_tensor(&r, name, 1, one_row, 0, 0);
        raw_pad(&r, 32);
        raw_zeros(&r, 128);
        if (n > 63) {
            refuse_gguf(&r, PLM_EFORMAT, "at most 63");
            continue;
        }
        assert_int_equal(gguf_parse(&g, r.p, r.n, "x", &err), PLM_OK);
        assert_non_null(gguf_tensor(g, name));
        gguf_close(g);
        raw_free(&r);
    }
    const char *const bad[] = {"", "\xff\xfe", "a\xc0\xaf", "\xed\xa0\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct raw r = raw_gguf(3, 1, 0);
        raw_tensor(&r, bad[i], 1, one_row, 0, 0);
        raw_pad(&r, 32);
        raw_zeros(&r, 128);
        refuse_gguf(&r, PLM_EFORMAT, i ? "not UTF-8" : "empty tensor name");
    }
    struct raw r = raw_gguf(3, 1, 0); /* a NUL would end the name early for some readers */
    raw_u64(&r, 3);
    raw_put(&r, "a\0b", 3);
    raw_u32(&r, 1);
    raw_u64(&r, 32);
    raw_u32(&r, 0);
    raw_u64(&r, 0);
    raw_pad(&r, 32);
    raw_zeros(&r, 128);
    refuse_gguf(&r, PLM_EFORMAT, "not UTF-8");
}

static void test_format_letters_in_names_stay_letters(void **state) {
    (void)state;
    struct raw r = raw_gguf(3, 1, 0);
    raw_tensor(&r, "%n%s%s../../x", 1, (uint64_t[]){0}, 0, 0);
    raw_zeros(&r, 64);
    refuse_gguf(&r, PLM_EFORMAT, "%n%s%s../../x");
}

static void test_keys_at_their_length_limit(void **state) {
    (void)state;
    char *key = malloc(65537);
    memset(key, 'k', 65536);
    struct gguf *g = NULL;
    plm_error err = {0};
    uint32_t v = 0;
    bool found;
    key[65535] = 0;
    struct raw r = raw_gguf(3, 0, 1);
    raw_kv_u32(&r, key, 7);
    assert_int_equal(gguf_parse(&g, r.p, r.n, "x", &err), PLM_OK);
    assert_int_equal(gguf_u32(g, key, &v, &found, &err), PLM_OK);
    assert_true(found);
    gguf_close(g);
    raw_free(&r);
    key[65535] = 'k';
    key[65536] = 0;
    r = raw_gguf(3, 0, 1);
    raw_kv_u32(&r, key, 7);
    refuse_gguf(&r, PLM_EFORMAT, "at most 65535");
    free(key);
}

static void test_strings_at_their_length_limit(void **state) {
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        struct gguf *g = NULL;
        plm_error err = {0};
        struct raw r = raw_gguf(3, 0, 1);
        raw_key(&r, "k", 8);
        raw_u64(&r, GGUF_MAX_STRING + over);
        size_t n = GGUF_MAX_STRING + over;
        char *text = calloc(n, 1);
        raw_put(&r, text, n);
        free(text);
        if (over) {
            refuse_gguf(&r, PLM_ELIMIT, "at most 16777216");
            continue;
        }
        assert_int_equal(gguf_parse(&g, r.p, r.n, "x", &err), PLM_OK);
        gguf_close(g);
        raw_free(&r);
    }
}

static void test_bool_of_two(void **state) {
    (void)state;
    struct raw r = raw_gguf(3, 0, 1);
    raw_key(&r, "flag", 7);
    raw_u8(&r, 2);
    raw_zeros(&r, 8);
    refuse_gguf(&r, PLM_EFORMAT, "key flag is neither true nor false");
    r = raw_gguf(3, 0, 1);
    raw_key(&r, "flag", 9);
    raw_u32(&r, 7);
    raw_u64(&r, 3);
    raw_put(&r, "\0\1\2", 3);
    refuse_gguf(&r, PLM_EFORMAT, "key flag is neither true nor false");
}

static void test_bytes_behind_the_last_tensor(void **state) {
    (void)state;
    struct raw r = with_tensor(1, one_row, 0, 0, 129);
    refuse_gguf(&r, PLM_EFORMAT, "1 bytes follow the last tensor");
    r = raw_gguf(3, 0, 0);
    raw_zeros(&r, 64);
    refuse_gguf(&r, PLM_EFORMAT, "follow a header without tensors");
}

/* ---- files ---- */

static void refuse_path(const char *path) {
    struct gguf *g = NULL;
    plm_error err = {0};
    assert_int_not_equal(gguf_open(&g, path, &err), PLM_OK);
    assert_null(g);
    assert_non_null(strstr(err.text, path));
}

static void test_h42_devices_pipes_folders_and_loops_are_no_files(void **state) {
    (void)state;
    refuse_path("/dev/zero");
    refuse_path("/dev/null");
    refuse_path("/proc/self/status");
    refuse_path("/tmp");
    char path[200];
    snprintf(path, sizeof path, "%s", temp_path("fifo"));
    assert_int_equal(mkfifo(path, 0600), 0);
    refuse_path(path);
    snprintf(path, sizeof path, "%s", temp_path("loop"));
    assert_int_equal(symlink(path, path), 0);
    refuse_path(path);
    refuse_path(temp_path("absent.gguf"));
    temp_clear();
}

static void test_a_sparse_terabyte_costs_nothing(void **state) {
    (void)state;
    struct raw r = with_tensor(1, one_row, 0, 0, 128);
    char path[200];
    snprintf(path, sizeof path, "%s", temp_path("huge.gguf"));
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(r.p, 1, r.n, f);
    fclose(f);
    if (truncate(path, (off_t)1 << 40) == 0)
        refuse_path(path);
    raw_free(&r);
    temp_clear();
}

/* ---- memory ---- */

static void parse_all(void *ctx) {
    const struct raw *r = ctx;
    struct gguf *g = NULL;
    plm_error err;
    if (gguf_parse(&g, r->p, r->n, "x", &err) == PLM_OK)
        gguf_close(g);
}

/* Fills r to a MiB with as many small entries as go in. */
static struct raw crowd(int kind) {
    struct raw r = raw_gguf(3, 0, 0);
    char name[8];
    uint64_t n = 0;
    if (kind == 1) {
        raw_key(&r, "k", 9);
        raw_u32(&r, 8);
        raw_u64(&r, (1 << 17) - 16);
        raw_zeros(&r, ((1 << 17) - 16) * 8);
        memcpy(r.p + 16, &(uint64_t){1}, 8);
        return r;
    }
    for (; r.n < (1 << 20) - 64 && n < 65536; n++) {
        snprintf(name, sizeof name, "%x", (unsigned)n);
        if (kind == 0) {
            raw_key(&r, name, 0);
            raw_u8(&r, 0);
        } else {
            raw_tensor(&r, name, 1, (uint64_t[]){1}, 24, n * 32);
        }
    }
    memcpy(r.p + (kind == 0 ? 16 : 8), &n, 8);
    return r;
}

static void test_a_hostile_mebibyte_takes_less_than_64(void **state) {
    (void)state;
    skip_if_sanitized();
    for (int kind = 0; kind < 3; kind++) {
        struct raw r = crowd(kind);
        size_t peak = peak_of(parse_all, &r);
        print_message("kind %d: %zu bytes in, peak %zu KiB more\n", kind, r.n, peak >> 10);
        assert_true(peak < (size_t)64 << 20);
        raw_free(&r);
    }
}

static void test_65536_keys_parse_at_once(void **state) {
    (void)state;
    struct raw r = raw_gguf(3, 0, 65536);
    char name[64];
    struct gguf *g = NULL;
    plm_error err = {0};
    for (unsigned i = 0; i < 65536; i++) {
        snprintf(name, sizeof name, "a.long.common.prefix.%u", i);
        raw_kv_u32(&r, name, i);
    }
    double start = clock_now();
    assert_int_equal(gguf_parse(&g, r.p, r.n, "x", &err), PLM_OK);
    uint32_t v = 0;
    bool found = false;
    for (unsigned i = 0; i < 65536; i++) {
        snprintf(name, sizeof name, "a.long.common.prefix.%u", i);
        assert_int_equal(gguf_u32(g, name, &v, &found, &err), PLM_OK);
        assert_true(found && v == i);
    }
    assert_true(clock_now() - start < 2);
    gguf_close(g);
    raw_free(&r);
}

static plm_status parse_and_close(void *ctx, plm_error *err) {
    const struct raw *r = ctx;
    struct gguf *g = NULL;
    plm_status st = gguf_parse(&g, r->p, r->n, "x", err);
    assert_true((st == PLM_OK) == (g != NULL));
    gguf_close(g);
    return st;
}

static void test_every_failed_allocation_is_reported(void **state) {
    (void)state;
    struct raw r = every_type();
    assert_true(fail_each_allocation(parse_and_close, &r) > 4);
    raw_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_h01_tensor_count_that_wraps),
        cmocka_unit_test(test_h02_key_count_that_wraps),
        cmocka_unit_test(test_h03_h26_string_length_that_wraps),
        cmocka_unit_test(test_h04_array_count_that_wraps),
        cmocka_unit_test(test_h05_more_than_four_dimensions),
        cmocka_unit_test(test_h06_h24_every_truncation),
        cmocka_unit_test(test_h06_every_byte_flipped_is_survived),
        cmocka_unit_test(test_h07_absent_things_are_found_absent),
        cmocka_unit_test(test_h08_sum_of_tensor_sizes_wraps),
        cmocka_unit_test(test_h09_two_tensors_of_almost_2_63_bytes),
        cmocka_unit_test(test_h10_bytes_wrap_where_elements_fit),
        cmocka_unit_test(test_h10_dimensions_whose_product_wraps),
        cmocka_unit_test(test_h11_size_that_padding_wraps),
        cmocka_unit_test(test_h12_zero_dimension),
        cmocka_unit_test(test_h13_alignment_zero),
        cmocka_unit_test(test_h14_alignment_that_is_none),
        cmocka_unit_test(test_h15_offset_outside_the_file),
        cmocka_unit_test(test_h15_tensors_that_overlap_or_leave_a_gap),
        cmocka_unit_test(test_h16_data_shorter_than_declared),
        cmocka_unit_test(test_h18_tensor_type_outside_the_table),
        cmocka_unit_test(test_h19_row_of_a_part_of_a_block),
        cmocka_unit_test(test_h20_empty_key),
        cmocka_unit_test(test_h21_duplicate_key_or_tensor),
        cmocka_unit_test(test_h22_array_of_an_unknown_type),
        cmocka_unit_test(test_h22_array_of_arrays),
        cmocka_unit_test(test_h23_string_past_the_end_is_no_empty_string),
        cmocka_unit_test(test_h24_magic_only_and_nothing),
        cmocka_unit_test(test_h25_versions_that_are_not_read),
        cmocka_unit_test(test_counts_off_by_one),
        cmocka_unit_test(test_names_of_tensors),
        cmocka_unit_test(test_format_letters_in_names_stay_letters),
        cmocka_unit_test(test_keys_at_their_length_limit),
        cmocka_unit_test(test_strings_at_their_length_limit),
        cmocka_unit_test(test_bool_of_two),
        cmocka_unit_test(test_bytes_behind_the_last_tensor),
        cmocka_unit_test(test_h42_devices_pipes_folders_and_loops_are_no_files),
        cmocka_unit_test(test_a_sparse_terabyte_costs_nothing),
        cmocka_unit_test(test_a_hostile_mebibyte_takes_less_than_64),
        cmocka_unit_test(test_65536_keys_parse_at_once),
        cmocka_unit_test(test_every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
