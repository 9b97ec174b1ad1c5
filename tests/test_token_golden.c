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
    const char *model, *golden;
    const char *chat;       /* NULL: the file has no template */
    const char *end, *turn; /* a token that ends answers, a control token that does not */
    bool composes, drops;   /* normalises to NFC; has no token for some bytes */
    struct gguf *g;
    struct vocab *v;
    json_t *values;
};

static struct real reals[] = {
    {.model = "SmolLM2-135M-Instruct.Q4_1.gguf",
     .golden = "tokens-smollm2.json",
     .chat = "smollm2",
     .end = "<|endoftext|>",
     .turn = "<|im_start|>",
     .drops = true},
    {.model = "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
     .golden = "tokens-qwen2.json",
     .chat = "qwen2.5",
     .end = "<|endoftext|>",
     .turn = "<|im_start|>",
     .composes = true},
    {.model = "gemma-3-270m.Q4_K_M.gguf",
     .golden = "tokens-gemma3.json",
     .end = "<end_of_turn>",
     .turn = "<start_of_turn>"},
};
enum { REALS = sizeof reals / sizeof *reals };

static struct real *real_of(void **state) {
    struct real *r = *state;
    const char *path = model_path(r->model);
    if (!path) {
        skip();
    }
    if (!r->v) {
        assert_int_equal(gguf_open(&r->g, path, NULL), PLM_OK);
        assert_int_equal(vocab_open(&r->v, r->g, NULL), PLM_OK);
        r->values = data_json(r->golden);
    }
    return r;
}

static int unload(void **state) {
    (void)state;
    for (int i = 0; i < REALS; i++) {
        vocab_close(reals[i].v);
        gguf_close(reals[i].g);
        json_decref(reals[i].values);
    }
    return 0;
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
    json_array_foreach(json_object_get(r->values, "strings"), i, row) {
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
        assert_ids(json_object_get(json_object_get(r->values, "texts"), json_text(row, "name")), ids, n,
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
    if (!r->chat) {
        assert_null(chat);
        return;
    }
    assert_string_equal(chat_name(chat), r->chat);
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
        json_t *want = json_array_get(json_object_get(r->values, "prompts"), i);
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
    assert_int_equal(vocab_bos(r->v), json_integer_value(json_object_get(r->values, "bos")));
    assert_int_equal(vocab_eos(r->v),
                     json_integer_value(json_array_get(json_object_get(r->values, "eos"), 0)));
    assert_int_equal(vocab_add_bos(r->v), json_is_true(json_object_get(r->values, "add_bos")));
    assert_true(vocab_is_end(r->v, vocab_eos(r->v)));
    assert_true(vocab_is_end(r->v, vocab_find(r->v, str_of(r->end))));
    assert_false(vocab_is_end(r->v, vocab_find(r->v, str_of(r->turn))));
    assert_true(vocab_is_control(r->v, vocab_find(r->v, str_of(r->turn))));
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
            if (r->drops && vocab_find(r->v, (struct str){text + len, 1}) >= 0) {
                len++;
            } else if (!r->drops && (plain || !r->composes) && c != 0x2581) {
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

#define EACH(test)                                                                          \
    cmocka_unit_test_prestate(test, &reals[0]), cmocka_unit_test_prestate(test, &reals[1]), \
        cmocka_unit_test_prestate(test, &reals[2])

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(hard_strings_match),           EACH(texts_match),
        EACH(conversations_match),          EACH(special_ids_match),
        EACH(long_pieces_take_linear_time), EACH(random_text_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, unload);
}
