/* test_token_golden.c: ids of the published tokenizers on hard strings, texts and conversations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/base.h"
#include "support_token.h"
#include <cmocka.h> /* last: its fail() is a macro */

struct real {
    struct gguf *g;
    struct vocab *v;
    json_t *golden;
};

static struct real smollm2, qwen2;

static void load(struct real *r, const char *model, const char *golden) {
    const char *path = model_path(model);
    if (!path) {
        skip();
    }
    if (!r->v) {
        assert_int_equal(gguf_open(&r->g, path, NULL), PLM_OK);
        assert_int_equal(vocab_open(&r->v, r->g, NULL), PLM_OK);
        r->golden = data_json(golden);
    }
}

static struct real *real_of(void **state) {
    bool qwen = *state != NULL;
    load(qwen ? &qwen2 : &smollm2,
         qwen ? "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf" : "SmolLM2-135M-Instruct.Q4_1.gguf",
         qwen ? "tokens-qwen2.json" : "tokens-smollm2.json");
    return qwen ? &qwen2 : &smollm2;
}

static int unload(void **state) {
    (void)state;
    for (struct real *r = &smollm2;; r = &qwen2) {
        vocab_close(r->v);
        gguf_close(r->g);
        json_decref(r->golden);
        if (r == &qwen2) {
            return 0;
        }
    }
}

static void assert_ids(const json_t *want, const int32_t *ids, size_t n, const char *text) {
    bool same = json_array_size(want) == n;
    for (size_t i = 0; i < n && same; i++) {
        same = json_integer_value(json_array_get(want, i)) == ids[i];
    }
    if (!same) {
        print_error("ids of \"%s\":", text);
        for (size_t i = 0; i < n; i++) {
            print_error(" %d", ids[i]);
        }
        print_error("\nexpected: ");
        for (size_t i = 0; i < json_array_size(want); i++) {
            print_error(" %lld", (long long)json_integer_value(json_array_get(want, i)));
        }
        fail_msg("not the published tokenizer's ids");
    }
}

static void hard_strings_match(void **state) {
    struct real *r = real_of(state);
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(r->golden, "strings"), i, row) {
        json_t *text = json_object_get(row, "text");
        for (int special = 0; special < 2; special++) {
            size_t n;
            int32_t *ids = encode_all(r->v, json_string_value(text), json_string_length(text), special, &n);
            assert_ids(json_object_get(row, special ? "special" : "plain"), ids, n, json_string_value(text));
            mem_free(ids);
        }
    }
    assert_true(i > 100);
}

static void texts_match(void **state) {
    struct real *r = real_of(state);
    json_t *texts = data_json("token-texts.json"), *row;
    size_t i;
    json_array_foreach(texts, i, row) {
        const char *text = json_text(row, "text");
        size_t n;
        int32_t *ids = encode_all(r->v, text, strlen(text), false, &n);
        assert_ids(json_object_get(json_object_get(r->golden, "texts"), json_text(row, "name")), ids, n,
                   text);
        assert_decodes(r->v, ids, n, text, strlen(text));
        mem_free(ids);
    }
    assert_true(i > 3);
    json_decref(texts);
}

static void conversations_match(void **state) {
    struct real *r = real_of(state);
    struct chat *chat;
    assert_int_equal(chat_open(&chat, r->v, r->g, NULL, NULL), PLM_OK);
    assert_string_equal(chat_name(chat), *state ? "qwen2.5" : "smollm2");
    assert_false(chat_is_weak(chat));
    json_t *prompts = data_json("token-prompts.json"), *row;
    size_t i;
    json_array_foreach(prompts, i, row) {
        json_t *list = json_object_get(row, "messages");
        plm_message m[8];
        size_t n = json_array_size(list);
        for (size_t k = 0; k < n; k++) {
            m[k].role = json_text(json_array_get(list, k), "role");
            m[k].text = json_text(json_array_get(list, k), "content");
        }
        struct ids out = {0};
        assert_int_equal(chat_encode(chat, r->v, m, n, &out, NULL, NULL), PLM_OK);
        json_t *want = json_array_get(json_object_get(r->golden, "prompts"), i);
        assert_string_equal(json_text(want, "name"), json_text(row, "name"));
        assert_ids(json_object_get(want, "ids"), out.v, out.n, json_text(row, "name"));
        ids_free(&out);
    }
    assert_int_equal(i, 4);
    json_decref(prompts);
    chat_close(chat);
}

static void special_ids_match(void **state) {
    struct real *r = real_of(state);
    assert_int_equal(vocab_bos(r->v), json_integer_value(json_object_get(r->golden, "bos")));
    assert_int_equal(vocab_eos(r->v),
                     json_integer_value(json_array_get(json_object_get(r->golden, "eos"), 0)));
    assert_int_equal(vocab_add_bos(r->v), json_is_true(json_object_get(r->golden, "add_bos")));
    assert_true(vocab_is_end(r->v, vocab_eos(r->v)));
    assert_true(vocab_is_end(r->v, vocab_find(r->v, STR("<|endoftext|>"))));
    assert_false(vocab_is_end(r->v, vocab_find(r->v, STR("<|im_start|>"))));
    assert_true(vocab_is_control(r->v, vocab_find(r->v, STR("<|im_start|>"))));
}

static void random_text_comes_back(void **state) {
    struct real *r = real_of(state);
    struct rng rng;
    rng_seed(&rng, 7, 0);
    for (int round = 0; round < 300; round++) {
        char text[600];
        size_t len = 0;
        while (len < 500) {
            /* Random bytes, those that the vocabulary has; for one that composes, text that is composed
             * already: no combining characters. */
            uint32_t c = (uint32_t)rng_below(&rng, rng_below(&rng, 2) ? 0x300 : 0x11000);
            bool plain = c < 0x300 || (c >= 0x3041 && c <= 0x3096) || (c >= 0x4E00 && c <= 0x9FFF);
            text[len] = (char)c;
            if (!*state && vocab_find(r->v, (struct str){text + len, 1}) >= 0) {
                len++;
            } else if (*state && plain) {
                len += utf8_put(c, text + len);
            }
        }
        size_t n;
        int32_t *ids = encode_all(r->v, text, len, false, &n);
        assert_decodes(r->v, ids, n, text, len);
        mem_free(ids);
    }
}

/* A megabyte without a place to cut, by the processor's clock. */
static void long_pieces_take_linear_time(void **state) {
    enum { LONG = 1000000 };
    struct real *r = real_of(state);
    char *text = mem_alloc(LONG, 1);
    struct rng rng;
    rng_seed(&rng, 8, 0);
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < LONG; i++)
            text[i] = k == 0 ? 'Z' : k == 1 ? '\n' : (char)('a' + rng_below(&rng, 26));
        clock_t start = clock();
        size_t n;
        mem_free(encode_all(r->v, text, LONG, false, &n));
        assert_true((double)(clock() - start) / CLOCKS_PER_SEC < MIB_SECONDS);
    }
    mem_free(text);
}

int main(void) {
    static char qwen;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hard_strings_match),
        cmocka_unit_test_prestate(hard_strings_match, &qwen),
        cmocka_unit_test(texts_match),
        cmocka_unit_test_prestate(texts_match, &qwen),
        cmocka_unit_test(conversations_match),
        cmocka_unit_test_prestate(conversations_match, &qwen),
        cmocka_unit_test(special_ids_match),
        cmocka_unit_test_prestate(special_ids_match, &qwen),
        cmocka_unit_test(long_pieces_take_linear_time),
        cmocka_unit_test_prestate(long_pieces_take_linear_time, &qwen),
        cmocka_unit_test(random_text_comes_back),
        cmocka_unit_test_prestate(random_text_comes_back, &qwen),
    };
    return cmocka_run_group_tests(tests, NULL, unload);
}
