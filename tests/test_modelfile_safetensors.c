/* test_modelfile_safetensors.c: safetensors as the reference library writes them, every rule of the format
 * broken once, and our own files read back. */
#include "support_modelfile.h"

/* A file of this header and n zero bytes of data. */
static struct raw file_of(const char *header, size_t n) {
    struct raw r = {0};
    raw_u64(&r, strlen(header));
    raw_put(&r, header, strlen(header));
    raw_zeros(&r, n);
    return r;
}

static void refuse(const char *header, size_t n, const char *words) {
    struct raw r = file_of(header, n);
    refuse_safetensors(r.p, r.n, PLM_EFORMAT, words);
    raw_free(&r);
}

static void accept(const char *header, size_t n, size_t count) {
    struct raw r = file_of(header, n);
    struct safetensors *s = NULL;
    plm_error err = {0};
    if (safetensors_parse(&s, r.p, r.n, "x.file", &err))
        fail_msg("%s: %s", header, err.text);
    assert_int_equal(safetensors_count(s), count);
    safetensors_close(s);
    raw_free(&r);
}

static void test_a_file_of_the_reference_library(void **state) {
    (void)state;
    struct safetensors *s = NULL;
    plm_error err = {0};
    if (safetensors_open(&s, PLM_TEST_DATA "/modelfile/tiny.safetensors", &err))
        fail_msg("%s", err.text);
    assert_int_equal(safetensors_count(s), 4);
    const struct safe_tensor *t = safetensors_find(s, "b");
    float b[6];
    assert_true(t->type == DT_F32 && t->n_dims == 2 && t->shape[0] == 2 && t->shape[1] == 3 &&
                t->bytes == 24);
    memcpy(b, t->data, 24);
    for (int i = 0; i < 6; i++)
        assert_true(b[i] == (float)i);
    t = safetensors_find(s, "a");
    assert_true(t->type == DT_F16 && t->n_dims == 1 && t->shape[0] == 4 && t->bytes == 8);
    t = safetensors_find(s, "i");
    assert_true(t->type == -1 && t->bytes == 8);
    t = safetensors_find(s, "none");
    assert_true(t->n_dims == 2 && t->shape[0] == 0 && t->bytes == 0);
    assert_null(safetensors_find(s, "c"));
    assert_null(safetensors_at(s, 4));
    safetensors_close(s);
    safetensors_close(NULL);
}

#define F32(name, shape, from, to) \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

static void test_what_the_format_allows(void **state) {
    (void)state;
    accept("{}", 0, 0);
    accept("{} ", 0, 0);
    accept("{\"__metadata__\":{}}", 0, 0);
    accept("{\"__metadata__\":{\"format\":\"pt\",\"a\":\"b\"}}   ", 0, 0);
    accept("{" F32("a", "[]", 0, 4) "}", 4, 1);
    accept("{" F32("a", "[0,5]", 0, 0) "," F32("b", "[1]", 0, 4) "}", 4, 2);
    accept("{" F32("b", "[1]", 4, 8) "," F32("a", "[1]", 0, 4) "}", 8, 2);
    accept("{ \"a\" : { \"data_offsets\" : [ 0 , 4 ] ,\n\"shape\":[1], \"dtype\"\t:\"F32\"} }", 4, 1);
    accept("{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, 1);
}

static void test_escapes_in_names(void **state) {
    (void)state;
    struct raw r = file_of("{" F32("a\\\"\\u00e9\\ud83d\\ude00\\n\\/", "[1]", 0, 4) "}", 4);
    struct safetensors *s = NULL;
    plm_error err = {0};
    assert_int_equal(safetensors_parse(&s, r.p, r.n, "x", &err), PLM_OK);
    assert_string_equal(safetensors_at(s, 0)->name, "a\"\xc3\xa9\xf0\x9f\x98\x80\n/");
    safetensors_close(s);
    raw_free(&r);
    refuse("{" F32("\\u0000", "[1]", 0, 4) "}", 4, "escape");
    refuse("{" F32("\\ud800", "[1]", 0, 4) "}", 4, "escape");
    refuse("{" F32("\\ud800\\u0041", "[1]", 0, 4) "}", 4, "escape");
    refuse("{" F32("\\udc00", "[1]", 0, 4) "}", 4, "escape");
    refuse("{" F32("\\x41", "[1]", 0, 4) "}", 4, "escape");
    refuse("{" F32("\\u12g4", "[1]", 0, 4) "}", 4, "escape");
    refuse("{" F32("a\nb", "[1]", 0, 4) "}", 4, "control character");
    refuse("{" F32("a\xff", "[1]", 0, 4) "}", 4, "not UTF-8");
    refuse("{" F32("", "[1]", 0, 4) "}", 4, "empty name");
}

static void test_header_lengths(void **state) {
    (void)state;
    struct raw r = {0};
    for (size_t n = 0; n < 8; n++) {
        refuse_safetensors(r.p, r.n, PLM_EFORMAT, "too short");
        raw_u8(&r, 0);
    }
    refuse_safetensors(r.p, r.n, PLM_EFORMAT, "not a safetensors header");
    raw_free(&r);
    const uint64_t lengths[] = {(uint64_t)1 << 63, UINT64_MAX - 7, UINT64_MAX, ((uint64_t)16 << 20) + 1};
    for (size_t i = 0; i < 4; i++) {
        raw_u64(&r, lengths[i]);
        raw_put(&r, "{}", 2);
        refuse_safetensors(r.p, r.n, PLM_ELIMIT, "a header of");
        raw_free(&r);
    }
    raw_u64(&r, 3);
    raw_put(&r, "{}", 2);
    refuse_safetensors(r.p, r.n, PLM_EFORMAT, "reaches past the end");
    raw_free(&r);
}

static void test_headers_that_are_no_object_alone(void **state) {
    (void)state;
    refuse("[]", 0, "not a safetensors header");
    refuse("\xef\xbb\xbf{}", 0, "not a safetensors header");
    refuse(" {}", 0, "not a safetensors header");
    refuse("{}\n", 0, "only spaces");
    refuse("{}{}", 0, "only spaces");
    refuse("{", 0, "");
    refuse("{\"a\"", 0, "colon");
    refuse("{\"a", 0, "no end");
    refuse("{,}", 0, "string");
    refuse("{" F32("a", "[1]", 0, 4) ",}", 4, "string");
    refuse("{" F32("a", "[1]", 0, 4), 4, "no end");
    struct raw r = file_of("{}x", 0); /* NUL padding is seen in the wild, and is not allowed */
    r.p[r.n - 1] = 0;
    refuse_safetensors(r.p, r.n, PLM_EFORMAT, "only spaces");
    raw_free(&r);
}

static void test_depth_bombs(void **state) {
    (void)state;
    char *bomb = malloc(100001);
    const char *const starts[] = {
        "{\"a\":", "{\"__metadata__\":{\"a\":", "{\"a\":{\"shape\":", "{\"a\":{\"x\":"};
    for (size_t i = 0; i < 4; i++) {
        memset(bomb, i % 2 ? '{' : '[', 100000);
        memcpy(bomb, starts[i], strlen(starts[i]));
        bomb[100000] = 0;
        double start = clock_now();
        refuse(bomb, 0, "header byte");
        assert_true(clock_now() - start < .1);
    }
    free(bomb);
}

static void test_duplicates(void **state) {
    (void)state;
    refuse("{" F32("a", "[1]", 0, 4) "," F32("a", "[1]", 4, 8) "}", 8, "tensor a is there twice");
    refuse("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "twice");
    refuse("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ is there twice");
}

static void test_metadata_that_is_not_strings(void **state) {
    (void)state;
    refuse("{\"__metadata__\":{\"a\":1}}", 0, "string");
    refuse("{\"__metadata__\":{\"a\":{}}}", 0, "string");
    refuse("{\"__metadata__\":\"x\"}", 0, "object");
    refuse("{\"__metadata__\":null}", 0, "object");
}

static void test_descriptions_that_lack_or_add_something(void **state) {
    (void)state;
    refuse("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "needs dtype");
    refuse("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "needs dtype");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "needs dtype");
    refuse("{\"a\":{}}", 0, "string");
    refuse("{\"a\":7}", 0, "description");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", 4, "unknown field");
    refuse("{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype");
    refuse("{\"a\":{\"dtype\":\"Q4_0\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype");
    refuse("{\"a\":{\"dtype\":\"F32F32F32F32F32F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "too long");
    refuse("{\"a\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "string");
}

static void test_numbers_that_are_not_whole(void **state) {
    (void)state;
    const char *const shapes[] = {
        "[-1]", "[1e0]", "[1E0]", "[1.0]",  "[\"1\"]", "[01]", "[+1]",
        "[ ]x", "[1",    "[1,]",  "[null]", "[true]",  "1",    "[18446744073709551616]",
        "[0x1]"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        char header[200];
        snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[0,4]}}",
                 shapes[i]);
        refuse(header, 4, "header byte");
    }
    refuse("{" F32("a", "[1]", 0, 4e0) "}", 4, "whole number");
    refuse("{" F32("a", "[1]", -0, 4) "}", 4, "whole number");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "two numbers");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "too long");
    refuse("{" F32("a", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "too long");
}

static void test_shapes_that_wrap_to_the_right_size(void **state) {
    (void)state;
    refuse("{" F32("a", "[4611686018427387905]", 0, 4) "}", 4, "shape does not make 4 bytes"); /* 2^62 + 1 */
    refuse("{" F32("a", "[9223372036854775808,2]", 0, 0) "}", 0, "shape does not make 0 bytes");
    refuse("{" F32("a", "[18446744073709551615,0,1]", 0, 4) "}", 4, "shape does not make");
    refuse("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "shape does not make");
}

static void test_offsets_that_do_not_cover_the_data(void **state) {
    (void)state;
    refuse("{" F32("a", "[1]", 4, 0) "}", 4, "not in the file");
    refuse("{" F32("a", "[2]", 0, 8) "}", 4, "not in the file's 4");
    refuse("{" F32("a", "[1]", 18446744073709551612, 0) "}", 4, "not in the file");
    refuse("{" F32("a", "[1]", 0, 4) "," F32("b", "[1]", 2, 6) "}", 6, "begins at byte 2");
    refuse("{" F32("a", "[1]", 0, 4) "," F32("b", "[1]", 0, 4) "}", 4, "begins at byte 0");
    refuse("{" F32("a", "[1]", 0, 4) "," F32("b", "[1]", 8, 12) "}", 12, "begins at byte 8");
    refuse("{" F32("a", "[1]", 4, 8) "}", 8, "begins at byte 4");
    refuse("{" F32("a", "[1]", 0, 4) "}", 5, "end at byte 4 of 5");
    refuse("{}", 1, "end at byte 0 of 1");
}

static void test_every_truncation_and_every_bent_byte(void **state) {
    (void)state;
    struct raw r = file_of(
        "{\"__metadata__\":{\"f\":\"p\"}," F32("a", "[2,1]", 0, 8) "," F32("b", "[]", 8, 12) "} ", 12);
    const unsigned char values[] = {0, 0xff, '"', '{', '}', ',', '9', '\\'};
    for (size_t n = 0; n < r.n; n++)
        refuse_safetensors(r.p, n, PLM_EFORMAT, "");
    for (size_t at = 0; at < r.n; at++)
        for (size_t v = 0; v < sizeof values; v++) {
            struct safetensors *s = NULL;
            plm_error err = {0};
            unsigned char keep = r.p[at];
            r.p[at] = values[v];
            plm_status st = safetensors_parse(&s, r.p, r.n, "x", &err);
            assert_true((st == PLM_OK) == (s != NULL));
            safetensors_close(s);
            r.p[at] = keep;
        }
    raw_free(&r);
}

/* ---- our own ---- */

static const float data[] = {1, -2.5f, 3, 4, 5, 6};

static plm_status write_two(void *path, plm_error *err) {
    const struct safe_out t[] = {{"z.weight", 2, {2, 2}, data}, {"a\"b", 1, {2}, data + 4}};
    return safetensors_write(path, t, 2, err);
}

static void test_our_files_are_read_back(void **state) {
    (void)state;
    char path[200];
    plm_error err;
    struct safetensors *s;
    struct map m;
    snprintf(path, sizeof path, "%s", temp_path("two.safetensors"));
    assert_int_equal(write_two(path, &err), PLM_OK);
    assert_int_equal(map_open(&m, path, &err), PLM_OK);
    const char *expected = "{\"__metadata__\":{\"format\":\"pt\"},"
                           "\"a\\\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                           "\"z.weight\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[8,24]}}";
    assert_memory_equal(m.data + 8, expected, strlen(expected));
    assert_int_equal(m.data[0] % 8, 0);
    map_close(&m);
    assert_int_equal(safetensors_open(&s, path, &err), PLM_OK);
    assert_memory_equal(safetensors_find(s, "z.weight")->data, data, 16);
    assert_memory_equal(safetensors_find(s, "a\"b")->data, data + 4, 8);
    safetensors_close(s);
    temp_clear();
}

static plm_status open_there(void *path, plm_error *err) {
    struct safetensors *s = NULL;
    plm_status st = safetensors_open(&s, path, err);
    safetensors_close(s);
    return st;
}

static void test_failed_allocations_are_reported(void **state) {
    (void)state;
    char path[200];
    snprintf(path, sizeof path, "%s", temp_path("two.safetensors"));
    assert_true(fail_each_allocation(write_two, path) > 3);
    assert_true(fail_each_allocation(open_there, path) > 5);
    temp_clear();
}

static void parse_it(void *ctx) {
    const struct raw *r = ctx;
    struct safetensors *s = NULL;
    plm_error err;
    if (safetensors_parse(&s, r->p, r->n, "x", &err) == PLM_OK)
        safetensors_close(s);
}

/* As many tensors as a MiB of header describes. */
static void test_a_hostile_mebibyte_takes_less_than_64(void **state) {
    (void)state;
    skip_if_sanitized();
    struct raw head = {0}, r = {0};
    for (unsigned i = 0; head.n < (1 << 20) - 100; i++) {
        char one[100];
        snprintf(one, sizeof one, "%c\"%x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                 i ? ',' : '{', i);
        raw_put(&head, one, strlen(one));
    }
    raw_put(&head, "}", 1);
    raw_u64(&r, head.n);
    raw_put(&r, head.p, head.n);
    size_t peak = peak_of(parse_it, &r);
    print_message("%zu bytes in, peak %zu KiB more\n", r.n, peak >> 10);
    assert_true(peak < (size_t)64 << 20);
    raw_free(&head);
    raw_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_of_the_reference_library),
        cmocka_unit_test(test_what_the_format_allows),
        cmocka_unit_test(test_escapes_in_names),
        cmocka_unit_test(test_header_lengths),
        cmocka_unit_test(test_headers_that_are_no_object_alone),
        cmocka_unit_test(test_depth_bombs),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_metadata_that_is_not_strings),
        cmocka_unit_test(test_descriptions_that_lack_or_add_something),
        cmocka_unit_test(test_numbers_that_are_not_whole),
        cmocka_unit_test(test_shapes_that_wrap_to_the_right_size),
        cmocka_unit_test(test_offsets_that_do_not_cover_the_data),
        cmocka_unit_test(test_every_truncation_and_every_bent_byte),
        cmocka_unit_test(test_our_files_are_read_back),
        cmocka_unit_test(test_failed_allocations_are_reported),
        cmocka_unit_test(test_a_hostile_mebibyte_takes_less_than_64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
