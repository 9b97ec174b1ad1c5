/* test_lora.c: adapters in memory and on disk: how a new one begins, that one adapter in two other programs'
 * forms is the same to us, and that what we write is read back bit for bit. */
#include "support_lora.h"
#include <math.h>

static struct lora *fresh(int rank, unsigned targets, uint64_t seed) {
    struct lora_shape s = small_shape();
    struct lora *l = NULL;
    plm_error err = {0};
    if (lora_new(&l, &s, 0, rank, 16, targets, seed, &err))
        fail_msg("%s", err.text);
    return l;
}

/* Gives B values too, so that order and scale show. */
static struct lora *filled(int rank, unsigned targets) {
    struct lora *l = fresh(rank, targets, 3);
    struct rng r;
    rng_seed(&r, 11, 0);
    for (size_t i = 0; i < l->parameters; i++)
        l->values[i] = rng_normal(&r);
    return l;
}

static void test_a_new_adapter_is_one_block_in_the_order_of_layers(void **state) {
    (void)state;
    struct lora *l = fresh(4, 0x7f, 1);
    size_t at = 0;
    for (int i = 0; i < 2 * LORA_LINEARS; i++) {
        struct lora_pair *p = &l->pair[i];
        assert_true(p->rank == 4);
        assert_ptr_equal(p->A, l->values + at);
        assert_ptr_equal(p->B, p->A + 4 * p->in);
        at += 4 * (size_t)(p->in + p->out);
    }
    assert_int_equal(at, l->parameters);
    assert_int_equal((uintptr_t)l->values % 64, 0);
    assert_int_equal(l->targets, 0x7f);
    lora_free(l);
}

static void test_a_new_adapter_has_uniform_a_and_no_b(void **state) {
    (void)state;
    struct lora *l = fresh(256, 0x7f, 1);
    for (int i = 0; i < 2 * LORA_LINEARS; i++) {
        struct lora_pair *p = &l->pair[i];
        double bound = 1 / sqrt(p->in), sum = 0, squares = 0;
        int n = p->rank * p->in;
        for (int j = 0; j < n; j++) {
            assert_true(fabs(p->A[j]) <= bound);
            sum += p->A[j];
            squares += (double)p->A[j] * p->A[j];
        }
        assert_true(fabs(sum / n) < 4 * bound / sqrt(3.0 * n));
        assert_true(fabs(squares / n / (bound * bound / 3) - 1) < .1);
        for (int j = 0; j < p->rank * p->out; j++)
            assert_true(p->B[j] == 0);
    }
    lora_free(l);
}

static void test_the_seed_and_the_place_alone_decide_the_values(void **state) {
    (void)state;
    struct lora *a = fresh(4, 0x7f, 1), *b = fresh(4, 0x7f, 1), *c = fresh(4, 0x7f, 2);
    struct lora *only_v = fresh(4, 1 << LORA_V, 1);
    assert_same_values(a, b);
    assert_true(memcmp(a->values, c->values, 64) != 0);
    for (int i = 0; i < 2; i++) {
        struct lora_pair *all = &a->pair[i * LORA_LINEARS + LORA_V],
                         *one = &only_v->pair[i * LORA_LINEARS + LORA_V];
        assert_memory_equal(all->A, one->A, 4 * 16 * sizeof(float));
    }
    assert_null(only_v->pair[LORA_Q].A);
    assert_int_equal(only_v->targets, 1 << LORA_V);
    lora_free(a);
    lora_free(b);
    lora_free(c);
    lora_free(only_v);
}

static void test_what_makes_no_adapter_is_refused(void **state) {
    (void)state;
    struct lora_shape s = small_shape();
    struct lora *l = NULL;
    plm_error err;
    assert_int_equal(lora_new(&l, &s, 0, 0, 1, 1, 0, &err), PLM_EINVAL);
    assert_int_equal(lora_new(&l, &s, 0, 257, 1, 1, 0, &err), PLM_EINVAL);
    assert_int_equal(lora_new(&l, &s, 0, 4, 1, 0, 0, &err), PLM_EINVAL);
    assert_int_equal(lora_new(&l, &s, 0, 4, 1, 0x80, 0, &err), PLM_EINVAL);
    assert_int_not_equal(lora_new(&l, &s, 0, 4, NAN, 1, 0, &err), PLM_OK);
    assert_int_not_equal(lora_new(&l, &s, 0, 4, -1, 1, 0, &err), PLM_OK);
    assert_null(l);
    lora_free(NULL);
}

static void test_scale_is_alpha_over_rank_or_as_it_is(void **state) {
    (void)state;
    struct lora l = {.alpha = 16};
    struct lora_pair p = {.rank = 8};
    assert_true(lora_scale(&l, &p, 1) == 2);
    assert_true(lora_scale(&l, &p, .5f) == 1);
    l.alpha = 0;
    assert_true(lora_scale(&l, &p, .5f) == .5f);
}

static void test_metadata_is_sorted_and_replaced(void **state) {
    (void)state;
    struct lora *l = fresh(1, 1, 0);
    plm_error err;
    assert_int_equal(lora_meta_set(l, "plm.b", "2", &err), PLM_OK);
    assert_int_equal(lora_meta_set(l, "plm.c", "3", &err), PLM_OK);
    assert_int_equal(lora_meta_set(l, "plm.a", "1", &err), PLM_OK);
    assert_int_equal(lora_meta_set(l, "plm.b", "two", &err), PLM_OK);
    assert_int_equal(l->n_meta, 3);
    assert_string_equal(l->meta[0].key, "plm.a");
    assert_string_equal(l->meta[2].key, "plm.c");
    assert_string_equal(lora_meta_get(l, "plm.b"), "two");
    assert_null(lora_meta_get(l, "plm.d"));
    assert_int_equal(lora_meta_set(l, "plm.b", NULL, &err), PLM_OK);
    assert_int_equal(lora_meta_set(l, "plm.b", NULL, &err), PLM_OK); /* there is none */
    assert_null(lora_meta_get(l, "plm.b"));
    assert_string_equal(lora_meta_get(l, "plm.a"), "1");
    assert_string_equal(lora_meta_get(l, "plm.c"), "3");
    assert_int_equal(lora_meta_set(l, "plm.b", "two", &err), PLM_OK);
    assert_int_equal(lora_meta_set(l, "general.type", "x", &err), PLM_EINVAL);
    assert_int_equal(lora_meta_set(l, "plm.base.sha256", "x", &err), PLM_EINVAL);
    assert_int_equal(lora_meta_set(l, "plm.x", "\xff", &err), PLM_EINVAL);
    assert_int_equal(l->n_meta, 3);
    for (int i = 0; i < LORA_MAX_META - 3; i++) {
        char key[32];
        snprintf(key, sizeof key, "plm.many.%d", i);
        assert_int_equal(lora_meta_set(l, key, "", &err), PLM_OK);
    }
    assert_int_equal(lora_meta_set(l, "plm.more", "", &err), PLM_ELIMIT);
    lora_free(l);
}

static void test_a_copy_is_equal_and_apart(void **state) {
    (void)state;
    struct lora *l = filled(3, 0x15), *c = NULL;
    plm_error err;
    l->name = mem_dupz("a name");
    memset(l->base_sha256, 'a', 64);
    assert_int_equal(lora_meta_set(l, "plm.k", "v", &err), PLM_OK);
    assert_int_equal(lora_copy(&c, l, &err), PLM_OK);
    assert_same_values(l, c);
    assert_true(c->alpha == l->alpha);
    assert_string_equal(c->name, "a name");
    assert_string_equal(c->base_sha256, l->base_sha256);
    assert_string_equal(c->arch, "llama");
    assert_string_equal(lora_meta_get(c, "plm.k"), "v");
    l->values[0] += 1;
    assert_true(c->values[0] != l->values[0]);
    lora_free(l);
    lora_free(c);
}

/* ---- files ---- */

static void test_gguf_and_peft_forms_of_one_adapter_are_equal(void **state) {
    (void)state;
    struct lora_shape s = small_shape();
    struct lora *a = load(GGUF_ADAPTER, &s), *b = load(PEFT_ADAPTER, &s);
    assert_same_values(a, b);
    assert_true(a->alpha == 6 && b->alpha == 6 && a->rank == 3);
    assert_string_equal(b->arch, "llama");
    lora_free(a);
    lora_free(b);
}

static void test_rows_of_q_and_k_alone_differ_between_the_forms(void **state) {
    (void)state;
    struct lora_shape s = small_shape();
    s.permute_q = s.permute_k = 0;
    struct lora *a = load(GGUF_ADAPTER, &s), *b = load(PEFT_ADAPTER, &s);
    for (int i = 0; i < 2 * LORA_LINEARS; i++) {
        const struct lora_pair *x = &a->pair[i], *y = &b->pair[i];
        int k = i % LORA_LINEARS;
        bool same = memcmp(x->B, y->B, (size_t)x->out * 3 * sizeof(float)) == 0;
        assert_memory_equal(x->A, y->A, (size_t)x->in * 3 * sizeof(float));
        assert_true(same == (k != LORA_Q && k != LORA_K));
    }
    lora_free(a);
    lora_free(b);
}

/* Head width 8: rows 0 1 2 3 | 4 5 6 7 of PEFT become 0 4 1 5 2 6 3 7 in GGUF. */
static void test_the_permutation_written_out(void **state) {
    (void)state;
    struct lora_shape s = {.layers = 1,
                           .in = {4, 4, 4, 4, 4, 4, 4},
                           .out = {16, 8, 4, 4, 4, 4, 4},
                           .arch = "llama",
                           .permute_q = 2,
                           .permute_k = 1};
    struct lora *l = NULL;
    plm_error err;
    assert_int_equal(lora_new(&l, &s, 0, 1, 0, 1 << LORA_Q, 0, &err), PLM_OK);
    const float in_gguf[16] = {0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15};
    memcpy(l->pair[LORA_Q].B, in_gguf, sizeof in_gguf);
    char dir[200], file[300];
    snprintf(dir, sizeof dir, "%s", temp_path("peft"));
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", dir);
    assert_int_equal(lora_save_peft(l, &s, dir, &err), PLM_OK);
    struct safetensors *t = NULL;
    assert_int_equal(safetensors_open(&t, file, &err), PLM_OK);
    const struct safe_tensor *b =
        safetensors_find(t, "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight");
    assert_non_null(b);
    for (int i = 0; i < 16; i++) {
        float v;
        memcpy(&v, (const char *)b->data + 4 * i, 4);
        assert_true(v == (float)i);
    }
    safetensors_close(t);
    lora_free(l);
    temp_clear();
}

static void test_gguf_round_trip_keeps_every_bit(void **state) {
    (void)state;
    struct lora_shape s = small_shape();
    struct lora *l = filled(5, 0x7f);
    plm_error err;
    char a[200], b[200];
    snprintf(a, sizeof a, "%s", temp_path("a.gguf"));
    snprintf(b, sizeof b, "%s", temp_path("b.gguf"));
    l->name = mem_dupz("notes of somebody");
    memset(l->base_sha256, 'b', 64);
    assert_int_equal(lora_meta_set(l, "plm.prompt", "größe \"x\"\n", &err), PLM_OK);
    save_gguf(l, a);
    struct lora *back = load(a, &s);
    assert_same_values(l, back);
    assert_true(back->alpha == 16);
    assert_string_equal(back->name, l->name);
    assert_string_equal(back->base_sha256, l->base_sha256);
    assert_string_equal(lora_meta_get(back, "plm.prompt"), "größe \"x\"\n");
    save_gguf(back, b);
    struct map x, y;
    assert_true(!map_open(&x, a, &err) && !map_open(&y, b, &err));
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    map_close(&x);
    map_close(&y);
    lora_free(l);
    lora_free(back);
    temp_clear();
}

static void test_peft_round_trip_keeps_every_bit(void **state) {
    (void)state;
    struct lora_shape s = small_shape();
    struct lora *l = filled(5, 0x2d);
    plm_error err;
    char dir[200];
    snprintf(dir, sizeof dir, "%s", temp_path("adapter"));
    l->name = mem_dupz("n");
    memset(l->base_sha256, 'c', 64);
    assert_int_equal(lora_meta_set(l, "plm.prompt", "größe \"x\"\n", &err), PLM_OK);
    assert_int_equal(lora_save_peft(l, &s, dir, &err), PLM_OK);
    struct lora *back = load(dir, &s);
    assert_same_values(l, back);
    assert_true(back->alpha == 16);
    assert_string_equal(back->name, "n");
    assert_string_equal(back->base_sha256, l->base_sha256);
    assert_string_equal(lora_meta_get(back, "plm.prompt"), "größe \"x\"\n");
    lora_free(l);
    lora_free(back);
    temp_clear();
}

static void test_ranks_of_their_own_survive_both_forms(void **state) {
    (void)state;
    struct lora_shape s = small_shape();
    struct lora *l = filled(4, 0x7f);
    plm_error err;
    char gguf[200], dir[200];
    snprintf(gguf, sizeof gguf, "%s", temp_path("a.gguf"));
    snprintf(dir, sizeof dir, "%s", temp_path("peft"));
    l->pair[LORA_K].rank = 2; /* the values stay where they are: a shorter matrix is their beginning */
    l->pair[LORA_LINEARS + LORA_UP].rank = 0;
    save_gguf(l, gguf);
    struct lora *a = load(gguf, &s);
    assert_int_equal(a->rank, 4);
    assert_int_equal(a->pair[LORA_K].rank, 2);
    assert_null(a->pair[LORA_LINEARS + LORA_UP].A);
    assert_true(lora_scale(a, &a->pair[LORA_K], 1) == 8 && lora_scale(a, &a->pair[LORA_Q], 1) == 4);
    assert_int_equal(lora_save_peft(a, &s, dir, &err), PLM_OK);
    struct lora *b = load(dir, &s);
    assert_same_values(a, b);
    lora_free(l);
    lora_free(a);
    lora_free(b);
    temp_clear();
}

static void test_alpha_zero_means_scale_one_in_both_forms(void **state) {
    (void)state;
    struct lora_shape s = small_shape();
    struct lora *l = filled(4, 0x7f);
    plm_error err;
    char gguf[200], dir[200];
    snprintf(gguf, sizeof gguf, "%s", temp_path("a.gguf"));
    snprintf(dir, sizeof dir, "%s", temp_path("peft"));
    l->alpha = 0;
    save_gguf(l, gguf);
    assert_int_equal(lora_save_peft(l, &s, dir, &err), PLM_OK);
    struct lora *a = load(gguf, &s), *b = load(dir, &s);
    assert_true(lora_scale(a, &a->pair[0], 1) == 1);
    assert_true(lora_scale(b, &b->pair[0], 1) == 1);
    assert_same_values(a, b);
    lora_free(l);
    lora_free(a);
    lora_free(b);
    temp_clear();
}

static void test_without_a_shape_an_adapter_is_described(void **state) {
    (void)state;
    struct lora *a = load(GGUF_ADAPTER, NULL), *b = load(PEFT_ADAPTER, NULL);
    assert_true(a->layers == 2 && a->rank == 3 && a->targets == 0x7f && a->parameters == b->parameters);
    assert_string_equal(a->arch, "llama");
    assert_string_equal(b->arch, "");
    lora_free(a);
    lora_free(b);
}

static void test_half_precision_is_widened(void **state) {
    (void)state;
    const uint16_t f16[4] = {0x3c00, 0xc000, 0x0001, 0x7bff}, bf16[4] = {0x3f80, 0xc000, 0x0001, 0x7f7f};
    const float wide[2][4] = {{1, -2, 0x1p-24f, 65504}, {1, -2, 0x1p-133f, 0x1.fep127f}};
    for (int k = 0; k < 2; k++) {
        struct raw r = raw_gguf(3, 2, 3);
        struct lora *l = NULL;
        plm_error err = {0};
        raw_kv_text(&r, "general.type", "adapter");
        raw_kv_text(&r, "general.architecture", "llama");
        raw_kv_text(&r, "adapter.type", "lora");
        raw_tensor(&r, "blk.0.attn_v.weight.lora_a", 1, (uint64_t[]){4}, k ? 30 : 1, 0);
        raw_tensor(&r, "blk.0.attn_v.weight.lora_b", 2, (uint64_t[]){1, 4}, k ? 30 : 1, 32);
        raw_pad(&r, 32);
        raw_put(&r, k ? bf16 : f16, 8);
        raw_pad(&r, 32);
        raw_put(&r, k ? bf16 : f16, 8);
        if (lora_parse_gguf(&l, NULL, r.p, r.n, "x", &err))
            fail_msg("%s", err.text);
        assert_memory_equal(l->pair[LORA_V].A, wide[k], 16);
        assert_memory_equal(l->pair[LORA_V].B, wide[k], 16);
        assert_true(l->alpha == 0);
        lora_free(l);
        raw_free(&r);
    }
}

/* ---- the full-size adapter, where it is ---- */

static void test_the_golden_adapter_in_both_forms(void **state) {
    (void)state;
    const char *shared = getenv("PLM_SHARED");
    char base[400], gguf[500], peft[500];
    snprintf(base, sizeof base, "%s/golden/lora-smollm2-135m-instruct-q4_1-r4",
             shared ? shared : PLM_SOURCE_DIR "/../shared");
    snprintf(gguf, sizeof gguf, "%s.gguf", base);
    snprintf(peft, sizeof peft, "%s-init", base);
    if (!file_exists(gguf))
        skip();
    struct lora_shape s = {.layers = 30,
                           .in = {576, 576, 576, 576, 576, 576, 1536},
                           .out = {576, 192, 192, 576, 1536, 1536, 576},
                           .arch = "llama",
                           .permute_q = 9,
                           .permute_k = 3};
    struct lora *a = load(gguf, &s), *b = load(peft, &s);
    assert_same_values(a, b);
    assert_true(a->alpha == 8 && b->alpha == 8 && a->rank == 4);
    plm_error err;
    char dir[200], ours[300], theirs[600];
    snprintf(dir, sizeof dir, "%s", temp_path("peft"));
    snprintf(ours, sizeof ours, "%s/adapter_model.safetensors", dir);
    snprintf(theirs, sizeof theirs, "%s/adapter_model.safetensors", peft);
    assert_int_equal(lora_save_peft(a, &s, dir, &err), PLM_OK);
    struct map x, y;
    assert_true(!map_open(&x, ours, &err) && !map_open(&y, theirs, &err));
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    map_close(&x);
    map_close(&y);
    lora_free(a);
    lora_free(b);
    temp_clear();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_adapter_is_one_block_in_the_order_of_layers),
        cmocka_unit_test(test_a_new_adapter_has_uniform_a_and_no_b),
        cmocka_unit_test(test_the_seed_and_the_place_alone_decide_the_values),
        cmocka_unit_test(test_what_makes_no_adapter_is_refused),
        cmocka_unit_test(test_scale_is_alpha_over_rank_or_as_it_is),
        cmocka_unit_test(test_metadata_is_sorted_and_replaced),
        cmocka_unit_test(test_a_copy_is_equal_and_apart),
        cmocka_unit_test(test_gguf_and_peft_forms_of_one_adapter_are_equal),
        cmocka_unit_test(test_rows_of_q_and_k_alone_differ_between_the_forms),
        cmocka_unit_test(test_the_permutation_written_out),
        cmocka_unit_test(test_gguf_round_trip_keeps_every_bit),
        cmocka_unit_test(test_peft_round_trip_keeps_every_bit),
        cmocka_unit_test(test_ranks_of_their_own_survive_both_forms),
        cmocka_unit_test(test_alpha_zero_means_scale_one_in_both_forms),
        cmocka_unit_test(test_without_a_shape_an_adapter_is_described),
        cmocka_unit_test(test_half_precision_is_widened),
        cmocka_unit_test(test_the_golden_adapter_in_both_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
