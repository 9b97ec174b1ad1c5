/* test_modelfile_gguf.c: GGUF files that are right: what gguf-py wrote is read as it was meant, what our
 * writer writes has the bytes that the format prescribes, and a round trip loses nothing. */
#include "support_modelfile.h"
#include "tiny_model.h"
#include <math.h>
#include <sys/stat.h>

static struct gguf *open_kinds(void) {
    struct gguf *g = NULL;
    plm_error err = {0};
    if (gguf_open(&g, PLM_TEST_DATA "/modelfile/kinds.gguf", &err))
        fail_msg("%s", err.text);
    return g;
}

static void test_scalars_of_another_writer(void **state) {
    (void)state;
    struct gguf *g = open_kinds();
    plm_error err;
    uint32_t u = 0;
    float f = 0;
    bool b = false, found = false;
    struct str s;
    assert_true(!gguf_u32(g, "k.u8", &u, &found, &err) && found && u == 200);
    assert_true(!gguf_u32(g, "k.u16", &u, &found, &err) && found && u == 60000);
    assert_true(!gguf_u32(g, "k.u32", &u, &found, &err) && found && u == 4000000000u);
    assert_true(!gguf_f32(g, "k.f32", &f, &found, &err) && found && f == 0.1f);
    assert_true(!gguf_f32(g, "k.f64", &f, &found, &err) && found && f == 0);
    assert_true(!gguf_bool(g, "k.bool", &b, &found, &err) && found && b);
    assert_true(!gguf_string(g, "k.string", &s, &found, &err) && found && str_eq(s, "größe\n"));
    assert_true(!gguf_string(g, "general.architecture", &s, &found, &err) && found && str_eq(s, "llama"));
    gguf_close(g);
}

static void test_integers_that_do_not_fit_are_named(void **state) {
    (void)state;
    struct gguf *g = open_kinds();
    plm_error err;
    const char *const keys[] = {"k.i8", "k.i16", "k.i32", "k.i64", "k.u64"};
    for (size_t i = 0; i < 5; i++) {
        uint32_t u = 17;
        bool found;
        assert_int_equal(gguf_u32(g, keys[i], &u, &found, &err), PLM_EFORMAT);
        assert_int_equal(u, 17);
        assert_non_null(strstr(err.text, keys[i]));
    }
    gguf_close(g);
}

static void test_a_value_of_another_type_is_an_error_naming_the_key(void **state) {
    (void)state;
    struct gguf *g = open_kinds();
    plm_error err;
    uint32_t u;
    float f;
    bool b, found;
    struct str s;
    struct gguf_array a;
    assert_int_equal(gguf_u32(g, "k.f32", &u, &found, &err), PLM_EFORMAT);
    assert_string_equal(err.text, "key k.f32 is f32, not an integer");
    assert_int_equal(gguf_u32(g, "k.bool", &u, &found, &err), PLM_EFORMAT);
    assert_int_equal(gguf_f32(g, "k.u32", &f, &found, &err), PLM_EFORMAT);
    assert_int_equal(gguf_bool(g, "k.u8", &b, &found, &err), PLM_EFORMAT);
    assert_int_equal(gguf_string(g, "k.words", &s, &found, &err), PLM_EFORMAT);
    assert_string_equal(err.text, "key k.words is an array, not a string");
    assert_int_equal(gguf_array(g, "k.string", &a, &found, &err), PLM_EFORMAT);
    gguf_close(g);
}

static void test_an_absent_key_leaves_the_default(void **state) {
    (void)state;
    struct gguf *g = open_kinds();
    plm_error err;
    uint32_t u = 5;
    float f = 6;
    bool b = true, found = true;
    assert_true(!gguf_u32(g, "k.none", &u, &found, &err) && !found && u == 5);
    found = true;
    assert_true(!gguf_f32(g, "k.", &f, &found, &err) && !found && f == 6);
    assert_true(!gguf_bool(g, "", &b, &found, &err) && !found && b);
    gguf_close(g);
}

static void test_arrays_of_another_writer(void **state) {
    (void)state;
    struct gguf *g = open_kinds();
    plm_error err;
    struct gguf_array a;
    bool found;
    assert_true(!gguf_array(g, "k.words", &a, &found, &err) && found);
    assert_int_equal(a.n, 4);
    assert_int_equal(gguf_array_string(&a, 0).n, 0);
    assert_true(str_eq(gguf_array_string(&a, 2), "größe"));
    assert_int_equal(gguf_array_string(&a, 3).n, 300);
    assert_true(!gguf_array(g, "k.ints", &a, &found, &err) && found);
    assert_int_equal(a.n, 3);
    assert_int_equal(gguf_array_int(&a, 1), -2);
    assert_true(gguf_array_float(&a, 2) == 3);
    assert_true(!gguf_array(g, "k.floats", &a, &found, &err) && found);
    assert_true(gguf_array_float(&a, 0) == 0.5 && gguf_array_float(&a, 1) == -1.5);
    assert_true(!gguf_array(g, "k.bools", &a, &found, &err) && found);
    assert_true(gguf_array_int(&a, 0) == 1 && gguf_array_int(&a, 1) == 0);
    gguf_close(g);
}

static void test_integers_of_every_width_in_arrays(void **state) {
    (void)state;
    const uint32_t types[] = {0, 1, 2, 3, 4, 5, 10, 11};
    const int width[] = {1, 1, 2, 2, 4, 4, 8, 8};
    const int64_t all_ones[] = {255, -1, 65535, -1, UINT32_MAX, -1, -1, -1};
    for (int i = 0; i < 8; i++) {
        struct raw r = raw_gguf(3, 0, 1);
        struct gguf *g = NULL;
        struct gguf_array a;
        plm_error err;
        bool found;
        raw_key(&r, "k", 9);
        raw_u32(&r, types[i]);
        raw_u64(&r, 2);
        raw_le(&r, 3, width[i]);
        raw_le(&r, UINT64_MAX, width[i]);
        assert_int_equal(gguf_parse(&g, r.p, r.n, "x", &err), PLM_OK);
        assert_true(!gguf_array(g, "k", &a, &found, &err) && found);
        assert_true(gguf_array_int(&a, 0) == 3);
        assert_true(gguf_array_int(&a, 1) == all_ones[i]);
        assert_true(gguf_array_float(&a, 1) ==
                    (types[i] == 10 ? 18446744073709551615.0 : (double)all_ones[i]));
        gguf_close(g);
        raw_free(&r);
    }
}

static void test_tensors_of_another_writer(void **state) {
    (void)state;
    struct gguf *g = open_kinds();
    const struct tensor *t = gguf_tensor(g, "f32");
    float values[24];
    assert_int_equal(gguf_n_tensors(g), 4);
    assert_non_null(t);
    assert_true(t->n_dims == 2 && t->ne[0] == 3 && t->ne[1] == 2 && t->ne[2] == 1 && t->ne[3] == 1);
    assert_true(t->type == DT_F32 && t->bytes == 24);
    memcpy(values, t->data, 24);
    for (int i = 0; i < 6; i++)
        assert_true(values[i] == (float)i);
    t = gguf_tensor(g, "f16");
    assert_true(t->n_dims == 1 && t->ne[0] == 5 && t->type == DT_F16 && t->bytes == 10);
    t = gguf_tensor(g, "q8_0");
    assert_true(t->ne[0] == 32 && t->ne[1] == 2 && t->type == DT_Q8_0 && t->bytes == 68);
    t = gguf_tensor(g, "cube");
    assert_true(t->n_dims == 3 && t->ne[0] == 4 && t->ne[1] == 3 && t->ne[2] == 2);
    memcpy(values, t->data, 96);
    assert_true(values[23] == 23);
    assert_true((uintptr_t)t->data % 32 == 0);
    assert_true((const unsigned char *)t->data == gguf_map(g)->data + gguf_data_at(g) + t->offset);
    assert_null(gguf_tensor(g, "f3"));
    assert_null(gguf_tensor(g, "f322"));
    gguf_close(g);
}

static void test_version_2_is_read_like_3(void **state) {
    (void)state;
    struct raw r = raw_gguf(2, 1, 2);
    struct gguf *g = NULL;
    plm_error err;
    raw_kv_u32(&r, "general.alignment", 64);
    raw_kv_text(&r, "general.architecture", "llama");
    raw_tensor(&r, "w", 1, (uint64_t[]){4}, 0, 0);
    raw_pad(&r, 64);
    for (int i = 0; i < 4; i++)
        raw_f32(&r, (float)i);
    assert_int_equal(gguf_parse(&g, r.p, r.n, "x", &err), PLM_OK);
    assert_int_equal(gguf_data_at(g) % 64, 0);
    float last;
    memcpy(&last, (const char *)gguf_tensor(g, "w")->data + 12, 4);
    assert_true(last == 3);
    gguf_close(g);
    raw_free(&r);
}

/* ---- writing ---- */

static plm_status write_small(const char *path, plm_error *err) {
    struct gguf_writer *w;
    const float a[] = {1, 2, 3}, b[] = {4, 5};
    plm_status st = gguf_writer_open(&w, path, err);
    if (st)
        return st;
    gguf_put_string(w, "general.architecture", "llama");
    gguf_put_u32(w, "n", 7);
    gguf_put_f32(w, "f", -0.5f);
    gguf_put_bool(w, "b", true);
    gguf_put_strings(w, "s", (const char *const[]){"x", "", "yz"}, 3);
    gguf_put_f32s(w, "fs", a, 3);
    gguf_put_i32s(w, "is", (const int32_t[]){-1, 2}, 2);
    gguf_put_tensor(w, "a", DT_F32, 1, (uint64_t[]){3});
    gguf_put_tensor(w, "b", DT_F32, 2, (uint64_t[]){2, 1});
    st = gguf_put_data(w, a, sizeof a, err);
    if (!st)
        st = gguf_put_data(w, b, sizeof b, err);
    if (!st)
        return gguf_writer_commit(w, err);
    gguf_writer_abort(w);
    return st;
}

static void test_the_writer_writes_the_bytes_of_the_format(void **state) {
    (void)state;
    struct raw r = raw_gguf(3, 2, 7);
    raw_kv_text(&r, "general.architecture", "llama");
    raw_kv_u32(&r, "n", 7);
    raw_key(&r, "f", 6), raw_f32(&r, -0.5f);
    raw_key(&r, "b", 7), raw_u8(&r, 1);
    raw_key(&r, "s", 9), raw_u32(&r, 8), raw_u64(&r, 3), raw_text(&r, "x"), raw_text(&r, ""),
        raw_text(&r, "yz");
    raw_key(&r, "fs", 9), raw_u32(&r, 6), raw_u64(&r, 3), raw_f32(&r, 1), raw_f32(&r, 2), raw_f32(&r, 3);
    raw_key(&r, "is", 9), raw_u32(&r, 5), raw_u64(&r, 2), raw_u32(&r, UINT32_MAX), raw_u32(&r, 2);
    raw_tensor(&r, "a", 1, (uint64_t[]){3}, 0, 0);
    raw_tensor(&r, "b", 2, (uint64_t[]){2, 1}, 0, 32);
    raw_pad(&r, 32);
    raw_f32(&r, 1), raw_f32(&r, 2), raw_f32(&r, 3), raw_pad(&r, 32);
    raw_f32(&r, 4), raw_f32(&r, 5), raw_pad(&r, 32);
    plm_error err;
    struct map m;
    const char *path = temp_path("small.gguf");
    assert_int_equal(write_small(path, &err), PLM_OK);
    assert_int_equal(map_open(&m, path, &err), PLM_OK);
    assert_int_equal(m.size, r.n);
    assert_memory_equal(m.data, r.p, r.n);
    map_close(&m);
    raw_free(&r);
    temp_clear();
}

static void test_raw_values_are_copied_through(void **state) {
    (void)state;
    struct gguf *g = open_kinds(), *h = NULL;
    struct gguf_writer *w;
    plm_error err;
    const char *path = temp_path("copy.gguf");
    assert_int_equal(gguf_writer_open(&w, path, &err), PLM_OK);
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        enum kv_type type;
        const void *raw;
        size_t n;
        struct str key = gguf_key_at(g, i, &type, &raw, &n);
        gguf_put_raw(w, key, type, raw, n);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct tensor *t = gguf_tensor_at(g, i);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
        gguf_put_tensor(w, name, t->type, t->n_dims, t->ne);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        assert_int_equal(gguf_put_data(w, gguf_tensor_at(g, i)->data, gguf_tensor_at(g, i)->bytes, &err),
                         PLM_OK);
    assert_int_equal(gguf_writer_commit(w, &err), PLM_OK);
    assert_int_equal(gguf_open(&h, path, &err), PLM_OK);
    assert_int_equal(gguf_map(h)->size, gguf_map(g)->size);
    assert_memory_equal(gguf_map(h)->data, gguf_map(g)->data, gguf_map(g)->size);
    gguf_close(g);
    gguf_close(h);
    temp_clear();
}

static struct gguf_writer *begin(const char *path) {
    struct gguf_writer *w;
    plm_error err;
    assert_int_equal(gguf_writer_open(&w, path, &err), PLM_OK);
    return w;
}

static void test_writing_wrong_things_leaves_no_file(void **state) {
    (void)state;
    plm_error err;
    const char *path = temp_path("wrong.gguf");
    const float x[8] = {0};
    struct gguf_writer *w = begin(path); /* data of another size */
    gguf_put_tensor(w, "a", DT_F32, 1, (uint64_t[]){3});
    assert_int_equal(gguf_put_data(w, x, 8, &err), PLM_EINVAL);
    assert_int_equal(gguf_writer_commit(w, &err), PLM_EINVAL);
    w = begin(path); /* a tensor without data */
    gguf_put_tensor(w, "a", DT_F32, 1, (uint64_t[]){3});
    assert_int_equal(gguf_writer_commit(w, &err), PLM_EINVAL);
    w = begin(path); /* a key behind the data */
    gguf_put_tensor(w, "a", DT_F32, 1, (uint64_t[]){3});
    assert_int_equal(gguf_put_data(w, x, 12, &err), PLM_OK);
    gguf_put_u32(w, "late", 1);
    assert_int_equal(gguf_writer_commit(w, &err), PLM_EINVAL);
    w = begin(path); /* shapes that no file has */
    gguf_put_tensor(w, "a", DT_Q4_0, 1, (uint64_t[]){33});
    assert_int_equal(gguf_put_data(w, x, 12, &err), PLM_EINVAL);
    gguf_writer_abort(w);
    w = begin(path);
    gguf_put_tensor(w, "a", DT_F32, 2, (uint64_t[]){(uint64_t)1 << 40, (uint64_t)1 << 40});
    assert_int_equal(gguf_writer_commit(w, &err), PLM_EINVAL);
    w = begin(path); /* more data than tensors */
    assert_int_equal(gguf_put_data(w, x, 12, &err), PLM_EINVAL);
    gguf_writer_abort(w);
    gguf_writer_abort(NULL);
    assert_false(file_exists(path));
    temp_clear();
}

static void test_a_folder_that_is_not_there_is_named(void **state) {
    (void)state;
    plm_error err;
    struct gguf_writer *w = NULL;
    assert_int_equal(gguf_writer_open(&w, "/nonexistent/x.gguf", &err), PLM_ENOTFOUND);
    assert_non_null(strstr(err.text, "/nonexistent/x.gguf"));
    assert_null(w);
}

static plm_status write_there(void *ctx, plm_error *err) {
    return write_small(ctx, err);
}

static plm_status open_there(void *ctx, plm_error *err) {
    struct gguf *g = NULL;
    plm_status st = gguf_open(&g, ctx, err);
    gguf_close(g);
    return st;
}

static void test_failed_allocations_while_writing_leave_the_old_file(void **state) {
    (void)state;
    char path[200];
    plm_error err;
    struct gguf *g;
    snprintf(path, sizeof path, "%s", temp_path("small.gguf"));
    assert_int_equal(write_small(path, &err), PLM_OK);
    assert_true(fail_each_allocation(write_there, path) > 4);
    assert_true(fail_each_allocation(open_there, path) > 2);
    assert_int_equal(gguf_open(&g, path, &err), PLM_OK);
    gguf_close(g);
    temp_clear();
}

/* ---- the tiny model ---- */

static void test_the_tiny_model_is_whole_and_always_the_same(void **state) {
    (void)state;
    const int types[] = {DT_F32, DT_F16, DT_BF16, DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q5_0, DT_Q5_1};
    plm_error err;
    for (int i = 0; i < 16; i++) {
        struct tiny_model m = {.arch = i % 2 ? "qwen2" : "llama", .type = types[i / 2], .seed = 4};
        struct gguf *g = NULL, *h = NULL;
        struct gguf_array tokens;
        bool found;
        const char *a = temp_path("a.gguf"), *b = temp_path("b.gguf");
        if (tiny_model_write(a, &m, &err) || tiny_model_write(b, &m, &err) || gguf_open(&g, a, &err) ||
            gguf_open(&h, b, &err))
            fail_msg("%s", err.text);
        assert_int_equal(gguf_map(g)->size, gguf_map(h)->size);
        assert_memory_equal(gguf_map(g)->data, gguf_map(h)->data, gguf_map(g)->size);
        assert_int_equal(gguf_tensor(g, "blk.1.ffn_down.weight")->type, types[i / 2]);
        assert_true((gguf_tensor(g, "output.weight") != NULL) == (i % 2 == 1));
        assert_true((gguf_tensor(g, "blk.0.attn_k.bias") != NULL) == (i % 2 == 1));
        assert_int_equal(gguf_tensor(g, "token_embd.weight")->ne[1], tiny_model_vocab());
        assert_int_equal(gguf_array(g, "tokenizer.ggml.tokens", &tokens, &found, &err), PLM_OK);
        assert_true(found && (int)tokens.n == tiny_model_vocab());
        assert_true(str_eq(gguf_array_string(&tokens, i % 2 ? tokens.n - 1 : 2), "<|im_end|>"));
        gguf_close(g);
        gguf_close(h);
    }
    temp_clear();
}

static void test_a_vocabulary_of_152_thousand_opens_in_50_ms(void **state) {
    (void)state;
    struct raw r = raw_gguf(3, 0, 2);
    plm_error err;
    char word[32];
    const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"};
    for (int k = 0; k < 2; k++) {
        raw_key(&r, keys[k], 9);
        raw_u32(&r, 8);
        raw_u64(&r, 152000);
        for (int i = 0; i < 152000; i++) {
            snprintf(word, sizeof word, "token%d", i);
            raw_text(&r, word);
        }
    }
    double best = 1;
    for (int i = 0; i < 5; i++) {
        struct gguf *g = NULL;
        double start = clock_now();
        assert_int_equal(gguf_parse(&g, r.p, r.n, "x", &err), PLM_OK);
        double took = clock_now() - start;
        best = took < best ? took : best;
        gguf_close(g);
    }
    print_message("152,000 tokens and merges: %.2f ms\n", best * 1e3);
    assert_true(best < .05);
    raw_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars_of_another_writer),
        cmocka_unit_test(test_integers_that_do_not_fit_are_named),
        cmocka_unit_test(test_a_value_of_another_type_is_an_error_naming_the_key),
        cmocka_unit_test(test_an_absent_key_leaves_the_default),
        cmocka_unit_test(test_arrays_of_another_writer),
        cmocka_unit_test(test_integers_of_every_width_in_arrays),
        cmocka_unit_test(test_tensors_of_another_writer),
        cmocka_unit_test(test_version_2_is_read_like_3),
        cmocka_unit_test(test_the_writer_writes_the_bytes_of_the_format),
        cmocka_unit_test(test_raw_values_are_copied_through),
        cmocka_unit_test(test_writing_wrong_things_leaves_no_file),
        cmocka_unit_test(test_a_folder_that_is_not_there_is_named),
        cmocka_unit_test(test_failed_allocations_while_writing_leave_the_old_file),
        cmocka_unit_test(test_the_tiny_model_is_whole_and_always_the_same),
        cmocka_unit_test(test_a_vocabulary_of_152_thousand_opens_in_50_ms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
