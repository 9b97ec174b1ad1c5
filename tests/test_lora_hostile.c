/* test_lora_hostile.c: adapters that are damaged, foreign, or meant for something else: each is refused with
 * a sentence that names the tensor or option, in GGUF's and in PEFT's form. */
#include "support_lora.h"
#include <malloc.h>
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- GGUF ---- */

/* What one bent adapter differs in; zeros are a good one: layer 0, attn_v, rank 2. */
struct bent {
    const char *type, *kind, *arch, *a, *b; /* keys, and the names of the two tensors */
    uint64_t a_in, a_rank, b_rank, b_out;
    float poison_a, poison_b; /* the last value of each */
    uint32_t dtype;
    size_t cut;                  /* bytes missing at the end */
    void (*more)(struct raw *r); /* writes one more key */
};

static struct raw bent_file(const struct bent *x) {
    uint64_t a_in = x->a_in ? x->a_in : 16, a_rank = x->a_rank ? x->a_rank : 2;
    uint64_t b_rank = x->b_rank ? x->b_rank : 2, b_out = x->b_out ? x->b_out : 8;
    size_t width = x->dtype == 1 ? 2 : 4, a_bytes = (size_t)(a_in * a_rank) * width;
    struct raw r = raw_gguf(3, 2, x->more ? 4 : 3);
    raw_kv_text(&r, "general.type", x->type ? x->type : "adapter");
    raw_kv_text(&r, "general.architecture", x->arch ? x->arch : "llama");
    raw_kv_text(&r, "adapter.type", x->kind ? x->kind : "lora");
    if (x->more)
        x->more(&r);
    raw_tensor(&r, x->a ? x->a : "blk.0.attn_v.weight.lora_a", 2, (uint64_t[]){a_in, a_rank}, x->dtype, 0);
    raw_tensor(&r, x->b ? x->b : "blk.0.attn_v.weight.lora_b", 2, (uint64_t[]){b_rank, b_out}, x->dtype,
               (a_bytes + 31) / 32 * 32);
    raw_pad(&r, 32);
    raw_zeros(&r, a_bytes);
    memcpy(r.p + r.n - 4, &x->poison_a, 4);
    raw_pad(&r, 32);
    raw_zeros(&r, (size_t)(b_rank * b_out) * width);
    memcpy(r.p + r.n - 4, &x->poison_b, 4);
    r.n -= x->cut;
    return r;
}

static void check(plm_status got, plm_status st, const struct lora *l, const plm_error *err,
                  const char *words) {
    if (got != st || !strstr(err->text, words))
        print_message("expected %d with '%s', got %d: %s\n", st, words, got, got ? err->text : "");
    assert_int_equal(got, st);
    assert_null(l);
    assert_non_null(strstr(err->text, words));
    assert_non_null(strstr(err->text, "x.file"));
}

static void refuse(const struct bent *x, plm_status st, const char *words) {
    struct lora_shape s = small_shape();
    struct lora *l = NULL;
    plm_error err = {0};
    struct raw r = bent_file(x);
    unsigned char *copy = malloc(r.n);
    memcpy(copy, r.p, r.n);
    plm_status got = lora_parse_gguf(&l, &s, copy, r.n, "x.file", &err);
    check(got, st, l, &err, words);
    free(copy);
    raw_free(&r);
}

static void test_the_straight_one_is_taken(void **state) {
    (void)state;
    struct lora_shape s = small_shape();
    struct lora *l = NULL;
    plm_error err = {0};
    struct raw r = bent_file(&(struct bent){0});
    assert_int_equal(lora_parse_gguf(&l, &s, r.p, r.n, "x", &err), PLM_OK);
    assert_int_equal(l->targets, 1 << LORA_V);
    lora_free(l);
    raw_free(&r);
}

static void test_h17_truncated_adapter_is_not_zeros(void **state) {
    (void)state;
    refuse(&(struct bent){.cut = 1}, PLM_EFORMAT, "cut short: tensor blk.0.attn_v.weight.lora_b");
    refuse(&(struct bent){.cut = 64}, PLM_EFORMAT, "cut short: tensor blk.0.attn_v.weight.lora_b");
    refuse(&(struct bent){.cut = 192}, PLM_EFORMAT, "cut short");
    struct map whole;
    plm_error err;
    struct lora_shape s = small_shape();
    assert_int_equal(map_open(&whole, GGUF_ADAPTER, &err), PLM_OK);
    for (size_t n = 0; n < whole.size - 32; n += 7) {
        struct lora *l = NULL;
        assert_int_equal(lora_parse_gguf(&l, &s, whole.data, n, "x", &err), PLM_EFORMAT);
        assert_null(l);
    }
    map_close(&whole);
}

static void test_h40_dimensions_of_another_model(void **state) {
    (void)state;
    refuse(&(struct bent){.a_in = 32}, PLM_EFORMAT,
           "layer 0 attn_v: the adapter is for a matrix of 32 to 8, the model has 16");
    refuse(&(struct bent){.b_out = 16}, PLM_EFORMAT, "16 to 16, the model has 16 to 8");
    refuse(&(struct bent){.a = "blk.7.attn_v.weight.lora_a"}, PLM_EFORMAT,
           "adapts layer 7 of a model that has 2");
}

static void test_h40_rank_of_a_is_not_rank_of_b(void **state) {
    (void)state;
    refuse(&(struct bent){.a_rank = 4}, PLM_EFORMAT, "A has rank 4 and B has rank 2");
    refuse(&(struct bent){.a_rank = 1025, .b_rank = 1025}, PLM_ELIMIT, "rank 1025 (at most 1024)");
}

static void raw_kv_f32(struct raw *r, const char *key, float v) {
    raw_key(r, key, 6);
    raw_f32(r, v);
}
static void alpha_nan(struct raw *r) {
    raw_kv_f32(r, "adapter.lora.alpha", NAN);
}
static void alpha_negative(struct raw *r) {
    raw_kv_f32(r, "adapter.lora.alpha", -1);
}
static void alpha_infinite(struct raw *r) {
    raw_kv_f32(r, "adapter.lora.alpha", INFINITY);
}
static void alpha_whole(struct raw *r) {
    raw_kv_u32(r, "adapter.lora.alpha", 16);
}
static void alpha_text(struct raw *r) {
    raw_kv_text(r, "adapter.lora.alpha", "16");
}
static void alpha_zero(struct raw *r) {
    raw_kv_f32(r, "adapter.lora.alpha", 0);
}

static void test_h40_alpha(void **state) {
    (void)state;
    refuse(&(struct bent){.more = alpha_nan}, PLM_EFORMAT, "an alpha of");
    refuse(&(struct bent){.more = alpha_negative}, PLM_EFORMAT, "an alpha of -1");
    refuse(&(struct bent){.more = alpha_infinite}, PLM_EFORMAT, "an alpha of inf");
    refuse(&(struct bent){.more = alpha_whole}, PLM_EFORMAT, "adapter.lora.alpha is u32, not f32");
    refuse(&(struct bent){.more = alpha_text}, PLM_EFORMAT, "adapter.lora.alpha is a string, not f32");
    struct raw r = bent_file(&(struct bent){.more = alpha_zero});
    struct lora *l = NULL;
    plm_error err;
    assert_int_equal(lora_parse_gguf(&l, NULL, r.p, r.n, "x", &err), PLM_OK);
    assert_true(lora_scale(l, &l->pair[LORA_V], 1) == 1);
    lora_free(l);
    raw_free(&r);
}

static void test_h40_targets_that_are_not_the_seven_linears(void **state) {
    (void)state;
    const char *const names[] = {
        "token_embd.weight.lora_a",
        "output.weight.lora_a",
        "blk.0.attn_qkv.weight.lora_a",
        "blk.0.attn_q_norm.lora_a",
        "blk.0.attn_v.weight",
        "blk.0.attn_v.lora_a",
        "blk.0.attn_v.bias.lora_a",
        "blk.-1.attn_v.weight.lora_a",
        "blk.00.attn_v.weight.lora_a",
        "blk.1024.attn_v.weight.lora_a",
        "blk.99999999999.attn_v.weight.lora_a",
        "blk..attn_v.weight.lora_a",
        "blk.0.attn_v.weight.lora_c",
        "blk.0..weight.lora_a",
        "blk.0.weight.lora_a",
        "blk.0",
        "x",
        "blk.0.attn_v.weight.lora_a ",
        "Blk.0.attn_v.weight.lora_a",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        refuse(&(struct bent){.a = names[i]}, PLM_ENOTSUP, names[i]);
}

static void test_half_a_pair(void **state) {
    (void)state;
    refuse(&(struct bent){.b = "blk.0.attn_q.weight.lora_b"}, PLM_EFORMAT,
           "layer 0 attn_q has A or B without the other");
    refuse(&(struct bent){.b = "blk.1.attn_v.weight.lora_b"}, PLM_EFORMAT,
           "layer 0 attn_v has A or B without the other");
}

static void test_values_that_are_not_finite(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        refuse(&(struct bent){.poison_a = bad[i]}, PLM_EFORMAT,
               "layer 0 attn_v: A holds a value that is not a finite");
        refuse(&(struct bent){.poison_b = bad[i]}, PLM_EFORMAT,
               "layer 0 attn_v: B holds a value that is not a finite");
        refuse(&(struct bent){.poison_b = bad[i], .dtype = 1}, PLM_EFORMAT, "B holds");
    }
}

static void test_types_that_adapters_do_not_have(void **state) {
    (void)state;
    refuse(&(struct bent){.dtype = 26}, PLM_ENOTSUP,
           "layer 0 attn_v: an adapter's values are F32, F16 or BF16, not I32");
}

static void alora(struct raw *r) {
    raw_key(r, "adapter.alora.invocation_tokens", 9);
    raw_u32(r, 4);
    raw_u64(r, 1);
    raw_u32(r, 5);
}
static void base_short(struct raw *r) {
    raw_kv_text(r, "plm.base.sha256", "abc");
}
static void base_upper(struct raw *r) {
    raw_kv_text(r, "plm.base.sha256", "ABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCD");
}
static void base_number(struct raw *r) {
    raw_kv_u32(r, "plm.base.sha256", 7);
}
static void meta_nul(struct raw *r) {
    raw_key(r, "plm.prompt", 8);
    raw_u64(r, 3);
    raw_put(r, "a\0b", 3);
}
static void name_nul(struct raw *r) {
    raw_key(r, "general.name", 8);
    raw_u64(r, 3);
    raw_put(r, "a\0b", 3);
}

static void test_files_that_are_something_else(void **state) {
    (void)state;
    refuse(&(struct bent){.type = "model"}, PLM_EFORMAT, "is not an adapter");
    refuse(&(struct bent){.type = "adapters are this and that and more and more"}, PLM_EFORMAT,
           "general.type");
    refuse(&(struct bent){.kind = "ia3"}, PLM_ENOTSUP, "type 'ia3', not lora");
    refuse(&(struct bent){.arch = "qwen2"}, PLM_EFORMAT, "architecture 'qwen2'; the model is llama");
    refuse(&(struct bent){.more = alora}, PLM_ENOTSUP, "aLoRA");
    refuse(&(struct bent){.more = base_short}, PLM_EFORMAT, "plm.base.sha256");
    refuse(&(struct bent){.more = base_upper}, PLM_EFORMAT, "plm.base.sha256");
    refuse(&(struct bent){.more = base_number}, PLM_EFORMAT, "plm.base.sha256 is u32");
    refuse(&(struct bent){.more = meta_nul}, PLM_EFORMAT, "plm.prompt");
    refuse(&(struct bent){.more = name_nul}, PLM_EFORMAT, "general.name");
}

static void test_an_adapter_without_pairs(void **state) {
    (void)state;
    refuse(&(struct bent){.a = "blk.0.attn_norm.weight", .b = "blk.0.ffn_norm.weight"}, PLM_EFORMAT,
           "without a single pair");
}

static void test_more_words_than_an_adapter_holds(void **state) {
    (void)state;
    struct raw r = raw_gguf(3, 2, 3 + LORA_MAX_META + 1);
    struct lora *l = NULL;
    plm_error err = {0};
    raw_kv_text(&r, "general.type", "adapter");
    raw_kv_text(&r, "general.architecture", "llama");
    raw_kv_text(&r, "adapter.type", "lora");
    for (int i = 0; i <= LORA_MAX_META; i++) {
        char key[32];
        snprintf(key, sizeof key, "plm.%d", i);
        raw_kv_text(&r, key, "");
    }
    raw_tensor(&r, "blk.0.attn_v.weight.lora_a", 1, (uint64_t[]){16}, 0, 0);
    raw_tensor(&r, "blk.0.attn_v.weight.lora_b", 2, (uint64_t[]){1, 8}, 0, 64);
    raw_pad(&r, 32);
    raw_zeros(&r, 96);
    plm_status st = lora_parse_gguf(&l, NULL, r.p, r.n, "x.file", &err);
    check(st, PLM_ELIMIT, l, &err, "at most 256 keys");
    raw_free(&r);
}

/* ---- PEFT ---- */

#define PREFIX "base_model.model.model.layers."
#define V PREFIX "0.self_attn.v_proj"

/* Tensors of one F32 pair with these names; r 2, in 16, out 8. */
static struct raw peft_tensors(const char *a, const char *b, float poison) {
    char head[1000];
    struct raw r = {0};
    snprintf(head, sizeof head,
             "{\"%s\":{\"dtype\":\"F32\",\"shape\":[2,16],\"data_offsets\":[0,128]},"
             "\"%s\":{\"dtype\":\"F32\",\"shape\":[8,2],\"data_offsets\":[128,192]}}",
             a, b);
    raw_u64(&r, strlen(head));
    raw_put(&r, head, strlen(head));
    for (int i = 0; i < 47; i++)
        raw_f32(&r, 1);
    raw_f32(&r, poison);
    return r;
}

static plm_status parse_peft(struct lora **l, const char *config, const char *a, const char *b, float poison,
                             plm_error *err) {
    struct lora_shape s = small_shape();
    struct raw r = peft_tensors(a, b, poison);
    char *copy = malloc(strlen(config) + 1);
    memcpy(copy, config, strlen(config));
    plm_status st = lora_parse_peft(l, &s, copy, strlen(config), r.p, r.n, "x.file", err);
    free(copy);
    raw_free(&r);
    return st;
}

static void refuse_config(const char *more, plm_status st, const char *words) {
    char config[600];
    struct lora *l = NULL;
    plm_error err = {0};
    snprintf(config, sizeof config, "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4%s%s}",
             more[0] ? "," : "", more);
    plm_status got = parse_peft(&l, config, V ".lora_A.weight", V ".lora_B.weight", 1, &err);
    check(got, st, l, &err, words);
}

static const char good[] = "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4}";

static void test_peft_options_that_change_the_arithmetic(void **state) {
    (void)state;
    refuse_config("\"use_dora\":true", PLM_ENOTSUP, "use_dora is set");
    refuse_config("\"bias\":\"all\"", PLM_ENOTSUP, "bias is not none");
    refuse_config("\"bias\":7", PLM_ENOTSUP, "bias is not none");
    refuse_config("\"lora_bias\":true", PLM_ENOTSUP, "lora_bias is set");
    refuse_config("\"modules_to_save\":[\"lm_head\"]", PLM_ENOTSUP, "modules_to_save is set");
    refuse_config("\"fan_in_fan_out\":true", PLM_ENOTSUP, "fan_in_fan_out is set");
    refuse_config("\"layer_replication\":[[0,1]]", PLM_ENOTSUP, "layer_replication is set");
    refuse_config("\"trainable_token_indices\":[1]", PLM_ENOTSUP, "trainable_token_indices is set");
    refuse_config("\"init_lora_weights\":\"pissa\"", PLM_ENOTSUP, "init_lora_weights is pissa");
    refuse_config("\"use_qalora\":1", PLM_ENOTSUP, "use_qalora is set");
}

static void test_peft_numbers_that_make_no_sense(void **state) {
    (void)state;
    struct lora *l = NULL;
    plm_error err = {0};
    const char *const configs[][2] = {
        {"{\"peft_type\":\"IA3\",\"r\":2}", "peft_type is not LORA"},
        {"{\"r\":2}", "peft_type is not LORA"},
        {"{\"peft_type\":\"LORA\",\"r\":3,\"lora_alpha\":4}", "has rank 2, the configuration says 3"},
        {"{\"peft_type\":\"LORA\",\"lora_alpha\":4}", "has rank 2, the configuration says 8"},
        {"{\"peft_type\":\"LORA\",\"r\":\"2\"}", "r is not a number"},
        {"{\"peft_type\":\"LORA\",\"r\":2.5}", "r is not a rank"},
        {"{\"peft_type\":\"LORA\",\"r\":0}", "r is not a rank"},
        {"{\"peft_type\":\"LORA\",\"r\":1e300}", "r is not a rank"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":-1}", "an alpha of -1"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":1e300}", "an alpha of"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":\"16\"}", "lora_alpha is not a number"},
        {"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":NaN}", "JSON"},
        {"[]", "not an object"},
        {"", "JSON"},
        {"{\"peft_type\":\"LORA\",\"peft_type\":\"LORA\"}", "JSON"},
    };
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        plm_status st = parse_peft(&l, configs[i][0], V ".lora_A.weight", V ".lora_B.weight", 1, &err);
        check(st, i < 2 ? PLM_ENOTSUP : PLM_EFORMAT, l, &err, configs[i][1]);
    }
}

static void test_peft_patterns(void **state) {
    (void)state;
    refuse_config("\"rank_pattern\":{\"(a+)+$\":2}", PLM_ENOTSUP, "'(a+)+$' is no plain module name");
    refuse_config("\"rank_pattern\":[1]", PLM_EFORMAT, "rank_pattern is not an object");
    refuse_config("\"alpha_pattern\":{\"v_proj\":-1}", PLM_EFORMAT, "the value of 'v_proj' makes no sense");
    refuse_config("\"alpha_pattern\":{\"v_proj\":\"4\"}", PLM_EFORMAT,
                  "the value of 'v_proj' makes no sense");
    refuse_config("\"rank_pattern\":{\"v_proj\":4}", PLM_EFORMAT, "has rank 2, the configuration says 4");
    refuse_config("\"rank_pattern\":{\"layers.0.self_attn.v_proj\":4}", PLM_EFORMAT,
                  "the configuration says 4");
}

/* scale times B[0], where B is all ones: what the forward pass multiplies by. */
static float effect(const char *config) {
    struct lora *l = NULL;
    plm_error err = {0};
    if (parse_peft(&l, config, V ".lora_A.weight", V ".lora_B.weight", 1, &err))
        fail_msg("%s", err.text);
    const struct lora_pair *p = &l->pair[LORA_V];
    float scale = lora_scale(l, p, 1) * p->B[0];
    lora_free(l);
    return scale;
}

static void test_peft_scales(void **state) {
    (void)state;
    const double close = 1e-6;
    assert_float_equal(effect(good), 2, close);
    assert_float_equal(effect("{\"peft_type\":\"LORA\",\"r\":2}"), 4, close); /* PEFT's own alpha is 8 */
    assert_float_equal(effect("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":0}"), 1, close);
    assert_float_equal(effect("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"use_rslora\":true}"),
                       4 / sqrt(2), close);
    assert_float_equal(
        effect("{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":4,\"rank_pattern\":{\"v_proj\":2}}"), 2,
        close);
    assert_float_equal(effect("{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":4,\"use_rslora\":true,"
                              "\"rank_pattern\":{\"v_proj\":2}}"),
                       4 / sqrt(2), close);
    assert_float_equal(
        effect("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"alpha_pattern\":{\"v_proj\":10}}"), 5,
        close);
    assert_float_equal(
        effect("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":0,\"alpha_pattern\":{\"v_proj\":10}}"), 5,
        close);
    assert_float_equal(
        effect("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"alpha_pattern\":{\"roj\":10,"
               "\"q_proj\":6}}"),
        2, close);
}

static void test_peft_tensors_that_are_no_pair_on_a_linear(void **state) {
    (void)state;
    const char *const names[][2] = {
        {V ".lora_magnitude_vector", "belongs to DoRA"},
        {"base_model.model.model.embed_tokens.lora_embedding_A", "adapts the embeddings"},
        {"base_model.model.lm_head.lora_A.weight", "adapts the output head"},
        {"base_model.model.model.modules_to_save.x", "replaces a whole module"},
        {PREFIX "0.self_attn.v_proj.bias", "is a bias"},
        {PREFIX "0.self_attn.w_proj.lora_A.weight", "is no pair"},
        {PREFIX "0.mlp.v_proj.lora_A.weight", "is no pair"},
        {PREFIX "x.self_attn.v_proj.lora_A.weight", "is no pair"},
        {"model.layers.0.self_attn.v_proj.lora_A.weight", "is no pair"},
        {PREFIX "0.self_attn.v_proj.lora_A.default.weight", "is no pair"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct lora *l = NULL;
        plm_error err = {0};
        plm_status st = parse_peft(&l, good, names[i][0], V ".lora_B.weight", 1, &err);
        check(st, PLM_ENOTSUP, l, &err, names[i][1]);
        assert_non_null(strstr(err.text, names[i][0]));
    }
}

static void test_peft_names_inside_a_model_for_images_too(void **state) {
    (void)state;
    const char *const prefixes[] = {"base_model.model.model.language_model.layers.",
                                    "base_model.model.language_model.model.layers."};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        struct lora *l = NULL;
        plm_error err = {0};
        char a[100], b[100];
        snprintf(a, sizeof a, "%s0.self_attn.v_proj.lora_A.weight", prefixes[i]);
        snprintf(b, sizeof b, "%s0.self_attn.v_proj.lora_B.weight", prefixes[i]);
        assert_int_equal(parse_peft(&l, good, a, b, 1, &err), PLM_OK);
        assert_non_null(l->pair[LORA_V].A);
        lora_free(l);
    }
}

static void test_peft_pairs_that_are_damaged(void **state) {
    (void)state;
    struct lora *l = NULL;
    plm_error err = {0};
    plm_status st =
        parse_peft(&l, good, V ".lora_A.weight", PREFIX "1.self_attn.v_proj.lora_B.weight", 1, &err);
    check(st, PLM_EFORMAT, l, &err, "without the other");
    st = parse_peft(&l, good, V ".lora_A.weight", V ".lora_B.weight", NAN, &err);
    check(st, PLM_EFORMAT, l, &err, "B holds a value that is not a finite number");
    st = parse_peft(&l, good, PREFIX "2.self_attn.v_proj.lora_A.weight", V ".lora_B.weight", 1, &err);
    check(st, PLM_EFORMAT, l, &err, "adapts layer 2 of a model that has 2");
}

static void test_folders_that_are_no_adapter(void **state) {
    (void)state;
    struct lora *l = NULL;
    plm_error err = {0};
    char dir[200], words[300];
    assert_int_equal(lora_load(&l, NULL, "/tmp", &err), PLM_ENOTFOUND);
    assert_non_null(strstr(err.text, "adapter_config.json"));
    assert_int_equal(lora_load(&l, NULL, "/nonexistent", &err), PLM_ENOTFOUND);
    struct lora_shape s = small_shape(), other = s;
    other.arch = "qwen2";
    struct lora *from = load(PEFT_ADAPTER, &s);
    snprintf(dir, sizeof dir, "%s", temp_path("peft"));
    snprintf(words, sizeof words, "%s/plm.json", dir);
    assert_int_equal(lora_save_peft(from, &s, dir, &err), PLM_OK);
    assert_int_equal(lora_load(&l, &other, dir, &err), PLM_EFORMAT);
    assert_non_null(strstr(err.text, "'llama'; the model is qwen2"));
    const char *const bad[] = {"[]", "{\"base_sha256\":\"xyz\"}", "{\"meta\":{\"x\":\"y\"}}",
                               "{\"meta\":{\"plm.x\":1}}", "{"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(file_replace(words, bad[i], strlen(bad[i]), &err), PLM_OK);
        plm_status st = lora_load(&l, &s, dir, &err);
        assert_int_not_equal(st, PLM_OK);
        assert_non_null(strstr(err.text, "plm.json"));
        assert_null(l);
    }
    lora_free(from);
    temp_clear();
}

/* ---- memory ---- */

/* Makes allocations fail one after another, once each and then from each on. */
static void fail_each(plm_status (*what)(const char *path, plm_error *err), const char *path) {
    for (int forever = 0; forever < 2; forever++) {
        plm_status st = PLM_ENOMEM;
        for (long n = 1; st && n < 100000; n++) {
            plm_error err = {0};
            mem_fail_at(n, forever);
            st = what(path, &err);
            mem_fail_at(0, false);
            assert_true(st == PLM_OK || (st == PLM_ENOMEM && err.text[0]));
        }
        assert_int_equal(st, PLM_OK);
    }
}

static plm_status load_and_free(const char *path, plm_error *err) {
    struct lora_shape s = small_shape();
    struct lora *l = NULL;
    plm_status st = lora_load(&l, &s, path, err);
    assert_true((st == PLM_OK) == (l != NULL));
    lora_free(l);
    return st;
}

static plm_status make_and_copy(const char *path, plm_error *err) {
    struct lora_shape s = small_shape();
    struct lora *l = NULL, *c = NULL;
    (void)path;
    plm_status st = lora_new(&l, &s, 0, 4, 8, 0x7f, 1, err);
    if (!st)
        st = lora_meta_set(l, "plm.a", "b", err);
    if (!st)
        st = lora_copy(&c, l, err);
    lora_free(l);
    lora_free(c);
    return st;
}

static struct lora *kept;

static plm_status save_kept_gguf(const char *path, plm_error *err) {
    return lora_save_gguf(kept, path, err);
}

static plm_status save_kept_peft(const char *path, plm_error *err) {
    struct lora_shape s = small_shape();
    return lora_save_peft(kept, &s, path, err);
}

static void test_every_failed_allocation_is_reported(void **state) {
    (void)state;
    struct lora_shape s = small_shape();
    plm_error err;
    char gguf[200], peft[200];
    snprintf(gguf, sizeof gguf, "%s", temp_path("a.gguf"));
    snprintf(peft, sizeof peft, "%s", temp_path("peft"));
    kept = load(GGUF_ADAPTER, &s);
    assert_int_equal(lora_meta_set(kept, "plm.a", "b", &err), PLM_OK);
    fail_each(make_and_copy, "");
    fail_each(save_kept_gguf, gguf);
    fail_each(save_kept_peft, peft);
    fail_each(load_and_free, gguf);
    fail_each(load_and_free, peft);
    struct lora *a = load(gguf, &s), *b = load(peft, &s);
    assert_same_values(kept, a);
    assert_same_values(kept, b);
    lora_free(a);
    lora_free(b);
    lora_free(kept);
    temp_clear();
}

/* The peak over what was there before, in a child. */
static size_t peak_of_peft(const char *config, size_t len) {
    int ends[2], status;
    size_t peak = SIZE_MAX;
    struct raw r = peft_tensors(V ".lora_A.weight", V ".lora_B.weight", 1);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct lora *l = NULL;
        plm_error err;
        malloc_trim(0);
        size_t before = (size_t)process_rss();
        if (lora_parse_peft(&l, NULL, config, len, r.p, r.n, "x", &err) == PLM_OK)
            lora_free(l);
        size_t grown = (size_t)process_peak_rss() - before;
        _exit(write(ends[1], &grown, sizeof grown) == sizeof grown ? 0 : 1);
    }
    close(ends[1]);
    if (read(ends[0], &peak, sizeof peak) != sizeof peak)
        peak = SIZE_MAX;
    close(ends[0]);
    waitpid(child, &status, 0);
    raw_free(&r);
    return status == 0 ? peak : SIZE_MAX;
}

static void test_a_hostile_configuration_takes_less_than_64_mebibytes(void **state) {
    (void)state;
#ifdef SANITIZED
    skip(); /* a sanitizer's own memory is not the question */
#endif
    for (size_t n = 256 << 10; n <= 1 << 20; n *= 4) {
        char *bomb = malloc(n);
        for (size_t i = 0; i < n; i++)
            bomb[i] = "{},"[i % 3];
        bomb[0] = '[';
        bomb[1] = '1';
        bomb[n - 2] = '1';
        bomb[n - 1] = ']';
        bomb[n - 3] = ',';
        size_t peak = peak_of_peft(bomb, n);
        print_message("%zu bytes of configuration: peak %zu KiB more\n", n, peak >> 10);
        assert_true(peak < (size_t)64 << 20);
        free(bomb);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_straight_one_is_taken),
        cmocka_unit_test(test_h17_truncated_adapter_is_not_zeros),
        cmocka_unit_test(test_h40_dimensions_of_another_model),
        cmocka_unit_test(test_h40_rank_of_a_is_not_rank_of_b),
        cmocka_unit_test(test_h40_alpha),
        cmocka_unit_test(test_h40_targets_that_are_not_the_seven_linears),
        cmocka_unit_test(test_half_a_pair),
        cmocka_unit_test(test_values_that_are_not_finite),
        cmocka_unit_test(test_types_that_adapters_do_not_have),
        cmocka_unit_test(test_files_that_are_something_else),
        cmocka_unit_test(test_an_adapter_without_pairs),
        cmocka_unit_test(test_more_words_than_an_adapter_holds),
        cmocka_unit_test(test_peft_options_that_change_the_arithmetic),
        cmocka_unit_test(test_peft_numbers_that_make_no_sense),
        cmocka_unit_test(test_peft_patterns),
        cmocka_unit_test(test_peft_scales),
        cmocka_unit_test(test_peft_tensors_that_are_no_pair_on_a_linear),
        cmocka_unit_test(test_peft_names_inside_a_model_for_images_too),
        cmocka_unit_test(test_peft_pairs_that_are_damaged),
        cmocka_unit_test(test_folders_that_are_no_adapter),
        cmocka_unit_test(test_every_failed_allocation_is_reported),
        cmocka_unit_test(test_a_hostile_configuration_takes_less_than_64_mebibytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
