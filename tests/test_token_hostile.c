/* test_token_hostile.c: broken and foreign vocabularies are refused with one sentence, or read safely. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/base.h"
#include "support_token.h"
#include <cmocka.h> /* last: its fail() is a macro */

/* Opens f and expects the refusal st, with part in its sentence. */
static void assert_refused(const struct fake *f, plm_status want, const char *part) {
    struct gguf *g;
    struct vocab *v;
    plm_error err = {0};
    plm_status st = fake_open(f, &g, &v, &err);
    assert_null(v);
    gguf_close(g);
    if (st != want || !strstr(err.text, part)) {
        fail_msg("%s \"%s\" instead of %s \"%s\"", plm_status_name(st), err.text, plm_status_name(want),
                 part);
    }
}

/* Opens f, encodes something, and expects no more than that nothing breaks. */
static void assert_usable(const struct fake *f) {
    struct gguf *g;
    struct vocab *v;
    plm_error err = {0};
    plm_status st = fake_open(f, &g, &v, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(st, PLM_OK);
    size_t n;
    mem_free(encode_all(v, "hello <tool> ZZZZ\n\n12", 20, true, &n));
    vocab_close(v);
    gguf_close(g);
}

#define WITH(f)    \
    struct fake f; \
    fake_default(&f)

static void the_usual_one_opens(void **state) {
    (void)state;
    WITH(f);
    assert_usable(&f);
}

static void other_tokenizers_are_named(void **state) {
    (void)state;
    WITH(f);
    f.model = "t5";
    assert_refused(&f, PLM_ENOTSUP, "\"t5\" is not supported; byte-level BPE (\"gpt2\") and SentencePiece");
    f.model = NULL;
    assert_refused(&f, PLM_EFORMAT, "no tokenizer");
    f.model = "gpt2";
    f.pre = "viking";
    assert_refused(&f, PLM_ENOTSUP, "\"viking\"");
    f.pre = NULL;
    assert_refused(&f, PLM_ENOTSUP, "tokenizer.ggml.pre");
}

/* An array's bytes as in the file: element type, count, elements. */
static struct str raw_array(struct bytes *b, uint32_t type, uint64_t n, const void *data, size_t len) {
    bytes_init(b, 1 << 24);
    bytes_put(b, &type, 4);
    bytes_put(b, &n, 8);
    bytes_put(b, data, len);
    return (struct str){b->data, b->len};
}

static void types_of_another_width_or_count_are_refused(void **state) {
    (void)state;
    WITH(f);
    f.no_types = true;
    assert_usable(&f); /* absent is fine */
    f.raw_key = STR("tokenizer.ggml.token_type");
    char ones[600];
    memset(ones, 1, sizeof ones);
    struct bytes b;
    f.raw = raw_array(&b, KV_U8, f.n, ones, f.n); /* bytes are integers too, read by their width */
    assert_usable(&f);
    bytes_free(&b);
    f.raw = raw_array(&b, KV_U8, f.n - 1, ones, f.n - 1);
    assert_refused(&f, PLM_EFORMAT, "token_type");
    bytes_free(&b);
    float floats[600] = {0};
    f.raw = raw_array(&b, KV_F32, f.n, floats, f.n * 4);
    assert_refused(&f, PLM_EFORMAT, "not integers");
    bytes_free(&b);
    f.no_types = false;
    f.raw.n = 0;
    f.type[7] = 9;
    assert_refused(&f, PLM_EFORMAT, "token 7");
    f.type[7] = -1;
    assert_refused(&f, PLM_EFORMAT, "token 7");
}

static void scores_of_another_type_count_or_value_are_refused(void **state) {
    (void)state;
    WITH(f);
    f.raw_key = STR("tokenizer.ggml.scores");
    float scores[600] = {0};
    struct bytes b;
    f.raw = raw_array(&b, KV_F32, f.n, scores, f.n * 4);
    assert_usable(&f);
    bytes_free(&b);
    f.raw = raw_array(&b, KV_F32, f.n + 1, scores, (f.n + 1) * 4);
    assert_refused(&f, PLM_EFORMAT, "scores");
    bytes_free(&b);
    f.raw = raw_array(&b, KV_U8, f.n, scores, f.n);
    assert_refused(&f, PLM_EFORMAT, "not F32");
    bytes_free(&b);
    scores[3] = (float)strtod("nan", NULL);
    f.raw = raw_array(&b, KV_F32, f.n, scores, f.n * 4);
    assert_refused(&f, PLM_EFORMAT, "not finite");
    bytes_free(&b);
}

static void special_ids_must_be_in_range(void **state) {
    (void)state;
    WITH(f);
    f.eos = (int64_t)f.n;
    assert_refused(&f, PLM_EFORMAT, "eos_token_id");
    f.eos = UINT32_MAX;
    assert_refused(&f, PLM_EFORMAT, "eos_token_id");
    f.eos = -1;
    assert_usable(&f);
    f.bos = INT32_MAX;
    assert_refused(&f, PLM_EFORMAT, "bos_token_id");
    f.bos = -1;
    f.add_bos = 1;
    assert_refused(&f, PLM_EFORMAT, "BOS");
    f.add_bos = 0;
    assert_usable(&f);
}

static void no_tokens_or_one_or_all_alike(void **state) {
    (void)state;
    WITH(f);
    f.bos = f.eos = -1;
    f.n_merges = 0;
    f.n = 1;
    assert_usable(&f);
    f.n = 0;
    f.no_types = true;
    assert_refused(&f, PLM_EFORMAT, "tokenizer.ggml.tokens");
    f.n = 500;
    for (size_t i = 0; i < f.n; i++) {
        f.token[i] = "Z";
    }
    assert_usable(&f);
    for (size_t i = 0; i < f.n; i++) {
        f.token[i] = "";
    }
    assert_usable(&f);
}

static void tokens_may_hold_any_bytes(void **state) {
    (void)state;
    WITH(f);
    fake_add(&f, "", 4);
    fake_add(&f, "", 3);
    fake_add(&f, "\xFF\xFE broken \xC3", 1);
    fake_add(&f, "\xFF\xFE", 4);
    fake_add(&f, "hello", 4);
    assert_usable(&f);
}

static void scored_vocabularies_need_their_scores(void **state) {
    (void)state;
    struct fake f;
    fake_scored(&f);
    assert_usable(&f);
    f.scored = false;
    assert_refused(&f, PLM_EFORMAT, "no tokenizer.ggml.scores");
    f.scored = true;
    f.score[280] = (float)strtod("inf", NULL);
    assert_refused(&f, PLM_EFORMAT, "token 280 has a score that is not finite");
}

static void scored_tokens_are_short(void **state) {
    (void)state;
    struct fake f;
    fake_scored(&f);
    char text[257];
    memset(text, 'Z', sizeof text);
    text[256] = 0;
    fake_add_scored(&f, text, -1);
    assert_refused(&f, PLM_EFORMAT, "256 bytes, at most 255");
    text[255] = 0;
    assert_usable(&f);
}

/* No byte tokens, no characters, all scores alike, every text the same: odd, and harmless. */
static void odd_scored_vocabularies_are_usable(void **state) {
    (void)state;
    struct fake f;
    fake_scored(&f);
    for (int i = 0; i < 256; i++)
        f.type[3 + i] = 5;
    assert_usable(&f);
    fake_scored(&f);
    memset(f.score, 0, sizeof f.score);
    assert_usable(&f);
    for (size_t i = 3 + 256; i < f.n; i++)
        f.token[i] = "\xE2\x96\x81";
    assert_usable(&f);
    fake_scored(&f);
    fake_add_scored(&f, "\xE2\x96", -1);
    fake_add_scored(&f, "", -1);
    fake_add_scored(&f, "\xFF", 1e38f);
    fake_add(&f, "", 4);
    assert_usable(&f);
}

static void byte_tokens_must_be_bytes(void **state) {
    (void)state;
    static const char *const bad[] = {"<0x-1>", "<0xZZ>", "<0x1>", "<0x100>",
                                      "<0x 1>", "0x41",   "",      "<0x41>>"};
    WITH(f);
    int32_t id = fake_add(&f, "<0x41>", 6);
    assert_usable(&f);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        f.token[id] = bad[i];
        assert_refused(&f, PLM_EFORMAT, "<0xHH>");
    }
}

static void long_tokens_are_refused(void **state) {
    (void)state;
    WITH(f);
    char *text = mem_alloc(70000, 1);
    memset(text, 'Z', 70000);
    text[69999] = 0;
    int32_t id = fake_add(&f, text, 1);
    assert_refused(&f, PLM_EFORMAT, "at most 65535");
    text[65535] = 0;
    assert_usable(&f);
    f.type[id] = 3;
    assert_refused(&f, PLM_EFORMAT, "at most 255");
    text[255] = 0;
    assert_usable(&f);
    mem_free(text);
}

static void merges_must_join_tokens(void **state) {
    (void)state;
    static const char *const bad[] = {"", " ", "ab", "a ", " b", "q x", "hello Q", "qq a", "a qq", "a b "};
    WITH(f);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        f.merge[5] = bad[i];
        assert_refused(&f, PLM_EFORMAT, "merge 5");
    }
    f.merge[5] = "l l"; /* twice is harmless */
    assert_usable(&f);
    f.no_merges = true;
    assert_refused(&f, PLM_EFORMAT, "tokenizer.ggml.merges");
    f.raw_key = STR("tokenizer.ggml.merges");
    struct bytes b;
    f.raw = raw_array(&b, KV_U32, 1, "abcd", 4);
    assert_refused(&f, PLM_EFORMAT, "not strings");
    bytes_free(&b);
    f.raw = raw_array(&b, KV_STRING, 0, "", 0);
    assert_usable(&f);
    bytes_free(&b);
}

static void a_big_vocabulary_opens_quickly(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    WITH(f);
    f.no_types = true;
    f.n = 0;
    f.n_merges = 0;
    f.bos = f.eos = -1;
    struct bytes list, b;
    bytes_init(&list, 1 << 26);
    for (uint32_t i = 0; i < N; i++) {
        char text[16];
        uint64_t len = (uint64_t)snprintf(text, sizeof text, "%x", i);
        bytes_put(&list, &len, 8);
        bytes_put(&list, text, len);
    }
    f.raw_key = STR("tokenizer.ggml.tokens");
    uint32_t type = KV_STRING;
    uint64_t n = N;
    bytes_init(&b, 1 << 26);
    bytes_put(&b, &type, 4);
    bytes_put(&b, &n, 8);
    bytes_put(&b, list.data, list.len);
    f.raw = (struct str){b.data, b.len};
    f.no_types = true;
    double start = clock_now();
    struct gguf *g;
    struct vocab *v;
    assert_int_equal(fake_open(&f, &g, &v, NULL), PLM_OK);
    assert_true(clock_now() - start < 10);
    assert_int_equal(vocab_size(v), N);
    assert_int_equal(vocab_find(v, STR("fffff")), N - 1);
    vocab_close(v);
    gguf_close(g);
    bytes_free(&b);
    bytes_free(&list);
}

static void failed_allocations_are_reported(void **state) {
    (void)state;
    WITH(f);
    f.pre = "qwen2";
    struct gguf *g;
    struct vocab *v;
    assert_int_equal(fake_open(&f, &g, &v, NULL), PLM_OK);
    vocab_close(v);
    for (long n = 1;; n++) {
        plm_error err = {0};
        v = NULL;
        mem_fail_at(n, true);
        plm_status st = vocab_open(&v, g, &err);
        mem_fail_at(0, false);
        if (!st) {
            assert_true(n > 8);
            break;
        }
        assert_int_equal(st, PLM_ENOMEM);
        assert_null(v);
        assert_true(err.text[0]);
    }
    vocab_close(v);
    gguf_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_usual_one_opens),
        cmocka_unit_test(other_tokenizers_are_named),
        cmocka_unit_test(types_of_another_width_or_count_are_refused),
        cmocka_unit_test(scores_of_another_type_count_or_value_are_refused),
        cmocka_unit_test(special_ids_must_be_in_range),
        cmocka_unit_test(no_tokens_or_one_or_all_alike),
        cmocka_unit_test(tokens_may_hold_any_bytes),
        cmocka_unit_test(scored_vocabularies_need_their_scores),
        cmocka_unit_test(scored_tokens_are_short),
        cmocka_unit_test(odd_scored_vocabularies_are_usable),
        cmocka_unit_test(byte_tokens_must_be_bytes),
        cmocka_unit_test(long_tokens_are_refused),
        cmocka_unit_test(merges_must_join_tokens),
        cmocka_unit_test(a_big_vocabulary_opens_quickly),
        cmocka_unit_test(failed_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
