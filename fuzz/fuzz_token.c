/* fuzz_token.c: the first byte chooses. 't': the rest is text for small vocabularies of every family. 'c': it
 * is a file's chat template. 'g': it is a GGUF file whose tokenizer keys are read and used. */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "token/token.h"

/* ---- a small vocabulary as a GGUF file in memory ---- */

static void put_u32(struct bytes *b, uint32_t v) {
    bytes_put(b, &v, 4);
}
static void put_u64(struct bytes *b, uint64_t v) {
    bytes_put(b, &v, 8);
}

static void put_text(struct bytes *b, struct str s) {
    put_u64(b, s.n);
    bytes_put(b, s.p, s.n);
}

static void put_key(struct bytes *b, const char *key, enum kv_type type) {
    put_text(b, str_of(key));
    put_u32(b, type);
}

static void put_string(struct bytes *b, const char *key, struct str value) {
    put_key(b, key, KV_STRING);
    put_text(b, value);
}

static void put_head(struct bytes *b, uint64_t keys) {
    bytes_init(b, 1 << 24);
    bytes_puts(b, "GGUF");
    put_u32(b, 3);
    put_u64(b, 0);
    put_u64(b, keys);
}

static void put_byte_token(struct bytes *b, unsigned byte) {
    uint32_t c = 256;
    for (unsigned i = 0; i <= byte; i++) {
        bool itself = (i > 32 && i < 127) || (i > 160 && i != 173);
        c = i < byte ? c + !itself : itself ? byte : c;
    }
    char text[4];
    put_text(b, (struct str){text, utf8_put(c, text)});
}

static const char *const words[] = {"he",   "ll", "hell", "hello",     "ZZ",
                                    "ZZZZ", "12", "123",  "\xC4\xA0w", "\xC4\x8A\xC4\x8A"};
static const char *const merges[] = {"h e",   "l l", "he ll", "hell o",     "Z Z",
                                     "ZZ ZZ", "1 2", "12 3",  "\xC4\xA0 w", "\xC4\x8A \xC4\x8A"};
static const char *const marked[] = {
    "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<s>",
    "<tool>",       "<tool>s"};
enum { BYTES = 256, WORDS = sizeof words / sizeof *words, MARKED = sizeof marked / sizeof *marked, USER = 2 };

static void put_vocabulary(struct bytes *b, const char *rule) {
    put_head(b, 7);
    put_string(b, "tokenizer.ggml.model", STR("gpt2"));
    put_string(b, "tokenizer.ggml.pre", str_of(rule));
    put_key(b, "tokenizer.ggml.tokens", KV_ARRAY);
    put_u32(b, KV_STRING);
    put_u64(b, BYTES + WORDS + MARKED);
    for (unsigned i = 0; i < BYTES; i++)
        put_byte_token(b, i);
    for (size_t i = 0; i < WORDS; i++)
        put_text(b, str_of(words[i]));
    for (size_t i = 0; i < MARKED; i++)
        put_text(b, str_of(marked[i]));
    put_key(b, "tokenizer.ggml.token_type", KV_ARRAY);
    put_u32(b, KV_I32);
    put_u64(b, BYTES + WORDS + MARKED);
    for (int i = 0; i < BYTES + WORDS + MARKED; i++)
        put_u32(b, i < BYTES + WORDS ? 1 : i < BYTES + WORDS + MARKED - USER ? 3 : 4);
    put_key(b, "tokenizer.ggml.merges", KV_ARRAY);
    put_u32(b, KV_STRING);
    put_u64(b, WORDS);
    for (size_t i = 0; i < WORDS; i++)
        put_text(b, str_of(merges[i]));
    put_key(b, "tokenizer.ggml.bos_token_id", KV_U32);
    put_u32(b, BYTES + WORDS + MARKED - USER - 1);
    put_key(b, "tokenizer.ggml.eos_token_id", KV_U32);
    put_u32(b, BYTES + WORDS + 1);
}

/* The same words with scores; U+2581 is a blank. */
static void put_scored_vocabulary(struct bytes *b) {
    static const char *const pieces[] = {
        "\xE2\x96\x81",  "h", "e",  "l",    "o",        "w", "he", "ll", "hell", "hello",
        "\xE2\x96\x81w", "Z", "ZZ", "ZZZZ", "\xC3\xA9", "<", "s",  "<s", "<s>"};
    enum { PIECES = sizeof pieces / sizeof *pieces, ALL = BYTES + PIECES + MARKED };
    put_head(b, 7);
    put_string(b, "tokenizer.ggml.model", STR("llama"));
    put_key(b, "tokenizer.ggml.tokens", KV_ARRAY);
    put_u32(b, KV_STRING);
    put_u64(b, ALL);
    for (unsigned i = 0; i < BYTES; i++) {
        char text[8];
        put_text(b, (struct str){text, (size_t)snprintf(text, sizeof text, "<0x%02X>", i)});
    }
    for (size_t i = 0; i < PIECES; i++)
        put_text(b, str_of(pieces[i]));
    for (size_t i = 0; i < MARKED; i++)
        put_text(b, str_of(marked[i]));
    put_key(b, "tokenizer.ggml.token_type", KV_ARRAY);
    put_u32(b, KV_I32);
    put_u64(b, ALL);
    for (int i = 0; i < ALL; i++)
        put_u32(b, i < BYTES ? 6 : i < BYTES + PIECES ? 1 : i < ALL - USER ? 3 : 4);
    put_key(b, "tokenizer.ggml.scores", KV_ARRAY);
    put_u32(b, KV_F32);
    put_u64(b, ALL);
    for (int i = 0; i < ALL; i++) {
        float score = -(float)(i % 7);
        bytes_put(b, &score, sizeof score);
    }
    put_key(b, "tokenizer.ggml.add_space_prefix", KV_BOOL);
    bytes_putc(b, 0);
    put_key(b, "tokenizer.ggml.bos_token_id", KV_U32);
    put_u32(b, ALL - USER - 1);
    put_key(b, "tokenizer.ggml.eos_token_id", KV_U32);
    put_u32(b, BYTES + PIECES + 1);
}

enum { RULES = 6 };
static const char *const rules[RULES] = {"smollm", "gpt2", "llama-bpe", "deepseek-r1-qwen", "qwen2", NULL};

/* Kept from the first call on. NULL: an allocation failed, by order of the replay. */
static const struct vocab *small(int rule) {
    static struct vocab *vocabs[RULES];
    if (!vocabs[rule]) {
        struct bytes b;
        struct gguf *g = NULL;
        if (rules[rule])
            put_vocabulary(&b, rules[rule]);
        else
            put_scored_vocabulary(&b);
        if (!b.st && !gguf_parse(&g, b.data, b.len, "small", NULL))
            (void)!vocab_open(&vocabs[rule], g, NULL);
        gguf_close(g);
        bytes_free(&b);
    }
    return vocabs[rule];
}

/* ---- text ---- */

static void decode(const struct vocab *v, const struct ids *l, struct bytes *out) {
    bytes_init(out, SIZE_MAX);
    for (size_t i = 0; i < l->n; i++) {
        char tmp[8];
        struct str s = vocab_bytes(v, l->v[i], true, tmp);
        bytes_put(out, s.p, s.n);
    }
}

enum kept {
    SAFE,
    STABLE /* encoding what was decoded changes nothing more */,
    EXACT /* the text comes back */
};

static void check_text(const struct vocab *v, const char *text, size_t len, bool special, enum kept kept) {
    struct ids ids = {0}, again = {0};
    struct bytes out, twice;
    if (!vocab_encode(v, text, len, special, &ids, NULL)) {
        for (size_t i = 0; i < ids.n; i++)
            PROMISE(ids.v[i] >= 0 && ids.v[i] < vocab_size(v) && (special || !vocab_is_control(v, ids.v[i])));
        decode(v, &ids, &out);
        PROMISE(out.st || kept < EXACT || (out.len == len && (!len || !memcmp(out.data, text, len))));
        if (kept >= STABLE && !out.st && !vocab_encode(v, out.data, out.len, special, &again, NULL)) {
            decode(v, &again, &twice);
            PROMISE(twice.st ||
                    (twice.len == out.len && (!out.len || !memcmp(twice.data, out.data, out.len))));
            bytes_free(&twice);
        }
        bytes_free(&out);
    }
    ids_free(&ids);
    ids_free(&again);
}

static void fuzz_text(const char *text, size_t len) {
    for (int rule = 0; rule < RULES; rule++) {
        const struct vocab *v = small(rule);
        if (v) {
            enum kept kept = rule < RULES - 2 ? EXACT : STABLE; /* one composes, one has a second blank */
            check_text(v, text, len, false, kept);
            check_text(v, text, len, true, kept);
        }
    }
}

/* ---- templates ---- */

static size_t controls(const struct vocab *v, const struct ids *l) {
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        n += vocab_is_control(v, l->v[i]);
    return n;
}

/* What is said does not change which control ids there are. */
static void check_chat(const struct chat *c, const struct vocab *v, const char *said) {
    const plm_message plain[] = {{"system", "x"}, {"user", "x"}, {"assistant", "x"}, {"user", "x"}};
    const plm_message odd[] = {{"system", said}, {"user", said}, {"assistant", said}, {"user", said}};
    struct ids a = {0}, b = {0};
    uint8_t *target = NULL;
    if (!chat_encode(c, v, plain, 4, &a, NULL, NULL) && !chat_encode(c, v, odd, 4, &b, &target, NULL)) {
        PROMISE(controls(v, &a) == controls(v, &b));
        size_t marked_ids = 0;
        for (size_t i = 0; i < b.n; i++)
            marked_ids += target[i];
        PROMISE(marked_ids >= 1 && marked_ids < b.n);
    }
    ids_free(&a);
    ids_free(&b);
    mem_free(target);
}

static void fuzz_template(const char *text, size_t len) {
    static const char *const names[] = {NULL, "chatml", "llama3.1", "llama2", "zephyr"};
    const struct vocab *v = small(0);
    struct bytes b;
    struct gguf *g = NULL;
    put_head(&b, 1);
    put_string(&b, "tokenizer.chat_template", (struct str){text, len});
    char *said = mem_dup(text, len);
    if (v && said && !b.st && !gguf_parse(&g, b.data, b.len, "template", NULL)) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            struct chat *c = NULL;
            if (!chat_open(&c, v, g, names[i], NULL) && c)
                check_chat(c, v, said);
            chat_close(c);
        }
    }
    mem_free(said);
    gguf_close(g);
    bytes_free(&b);
}

/* ---- files ---- */

static void fuzz_keys(const uint8_t *data, size_t size) {
    struct gguf *g = NULL;
    struct vocab *v = NULL;
    struct chat *c = NULL;
    plm_error err = {0};
    plm_status st = gguf_parse(&g, data, size, "fuzz", &err);
    if (!st)
        st = vocab_open(&v, g, &err);
    PROMISE(!st == !err.text[0]);
    if (!st) {
        check_text(v, (const char *)data, size < 4096 ? size : 4096, false, SAFE);
        check_text(v, "hello <tool> 123\n\n w", 20, true, SAFE);
        if (!chat_open(&c, v, g, NULL, NULL) && c)
            check_chat(c, v, "<|im_end|>hello<s>");
        chat_close(c);
    }
    vocab_close(v);
    gguf_close(g);
}

int fuzz_token(const uint8_t *data, size_t size) {
    if (!size) {
        for (int rule = 0; rule < RULES; rule++)
            (void)small(rule);
    } else if (data[0] == 'g') {
        fuzz_keys(data + 1, size - 1);
    } else if (data[0] == 'c') {
        fuzz_template((const char *)data + 1, size - 1);
    } else {
        fuzz_text((const char *)data + 1, size - 1);
    }
    return 0;
}
