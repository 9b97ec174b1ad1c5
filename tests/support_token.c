/* support_token.c: see support_token.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/base.h"
#include "support_token.h"
#include <cmocka.h> /* last: its fail() is a macro */

const char *model_path(const char *file) {
    static char path[4096];
    const char *models = getenv("PLM_MODELS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (models) {
        snprintf(path, sizeof path, "%s/%s", models, file);
    } else if (cache) {
        snprintf(path, sizeof path, "%s/plm/models/%s", cache, file);
    } else {
        snprintf(path, sizeof path, "%s/.cache/plm/models/%s", home ? home : "", file);
    }
    return access(path, R_OK) ? NULL : path;
}

json_t *data_json(const char *file) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", PLM_TEST_DATA, file);
    json_error_t why;
    json_t *doc = json_load_file(path, JSON_ALLOW_NUL, &why);
    assert_non_null(doc);
    return doc;
}

void fake_alphabet(unsigned char byte, char out[3]) {
    bool same = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    unsigned c = byte;
    if (!same) { /* the how many-th of those that are not printable */
        c = 256;
        for (unsigned b = 0; b < byte; b++) {
            c += !((b > 32 && b < 127) || (b > 160 && b != 173));
        }
    }
    if (c < 128) {
        out[0] = (char)c;
        out[1] = 0;
    } else {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        out[2] = 0;
    }
}

int32_t fake_add(struct fake *f, const char *token, int type) {
    f->token[f->n] = token;
    f->type[f->n] = type;
    return (int32_t)f->n++;
}

void fake_default(struct fake *f) {
    *f = (struct fake){
        .model = "gpt2", .pre = "gpt2", .bos = -1, .eos = -1, .add_bos = -1, .space_prefix = -1};
    for (int i = 0; i < 256; i++) {
        fake_alphabet((unsigned char)i, f->text[i]);
        fake_add(f, f->text[i], 1);
    }
    static const char *const merges[][3] = {
        {"h e", "he"},
        {"l l", "ll"},
        {"he ll", "hell"},
        {"hell o", "hello"},
        {"\xC4\xA0 w", "\xC4\xA0w"},
        {"Z Z", "ZZ"},
        {"ZZ ZZ", "ZZZZ"},
        {"1 2", "12"},
        {"12 3", "123"},
        {"a b", "ab"},
        {"b a", "ba"},
        {"i m", "im"},
        {"\xC4\x8A \xC4\x8A", "\xC4\x8A\xC4\x8A"},
    };
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) {
        f->merge[f->n_merges++] = merges[i][0];
        fake_add(f, merges[i][1], 1);
    }
    fake_add(f, "<|im_start|>", 3);
    f->eos = fake_add(f, "<|im_end|>", 3);
    f->bos = fake_add(f, "<s>", 3);
    fake_add(f, "<tool>", 4);
    fake_add(f, "<tool>s", 4);
    fake_add(f, "<unk>", 2);
    fake_add(f, "[PAD]", 5);
}

int32_t fake_add_scored(struct fake *f, const char *token, float score) {
    f->score[f->n] = score;
    return fake_add(f, token, 1);
}

#define BLANK "\xE2\x96\x81"

void fake_scored(struct fake *f) {
    static const struct {
        const char *token;
        float score;
    } words[] = {
        {BLANK, -40}, {"h", -41},  {"e", -42},    {"l", -43},          {"o", -44},
        {"a", -45},   {"b", -46},  {"w", -47},    {"<", -48},          {"|", -49},
        {"s", -50},   {">", -51},  {"he", -1},    {"ll", -2},          {"hell", -7},
        {"lo", -4},   {"llo", -5}, {"hello", -6}, {BLANK "hello", -3}, {"ab", -8},
        {"ba", -8},   {"aa", -9},  {"<s", -10},   {"<s>", -11},        {"\xC3\xA9", -60},
    };
    *f =
        (struct fake){.model = "llama", .no_merges = true, .scored = true, .add_bos = -1, .space_prefix = -1};
    fake_add(f, "<unk>", 2);
    f->bos = fake_add(f, "<s>", 3);
    f->eos = fake_add(f, "</s>", 3);
    for (int i = 0; i < 256; i++) {
        snprintf(f->text[f->n], sizeof f->text[0], "<0x%02X>", i);
        fake_add(f, f->text[f->n], 6);
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        fake_add_scored(f, words[i].token, words[i].score);
    }
    fake_add(f, "  ", 4);
    fake_add(f, "\n\n", 4);
    fake_add(f, "<start_of_turn>", 3);
    fake_add(f, "<end_of_turn>", 3);
}

plm_status fake_open(const struct fake *f, struct gguf **g, struct vocab **v, plm_error *err) {
    char path[] = "/tmp/plm-vocab-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    struct gguf_writer *w = NULL;
    assert_int_equal(gguf_writer_open(&w, path, err), PLM_OK);
    if (f->model) {
        gguf_put_string(w, "tokenizer.ggml.model", f->model);
    }
    if (f->pre) {
        gguf_put_string(w, "tokenizer.ggml.pre", f->pre);
    }
    if (f->n) {
        gguf_put_strings(w, "tokenizer.ggml.tokens", f->token, f->n);
    }
    if (!f->no_types) {
        gguf_put_i32s(w, "tokenizer.ggml.token_type", f->type, f->n);
    }
    if (!f->no_merges) {
        gguf_put_strings(w, "tokenizer.ggml.merges", f->merge, f->n_merges);
    }
    if (f->scored) {
        gguf_put_f32s(w, "tokenizer.ggml.scores", f->score, f->n);
    }
    if (f->space_prefix >= 0) {
        gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", f->space_prefix);
    }
    if (f->bos >= 0) {
        gguf_put_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)f->bos);
    }
    if (f->eos >= 0) {
        gguf_put_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)f->eos);
    }
    if (f->add_bos >= 0) {
        gguf_put_bool(w, "tokenizer.ggml.add_bos_token", f->add_bos);
    }
    if (f->template) {
        gguf_put_string(w, "tokenizer.chat_template", f->template);
    }
    if (f->raw.n) {
        gguf_put_raw(w, f->raw_key, KV_ARRAY, f->raw.p, f->raw.n);
    }
    plm_error why = {0};
    plm_status st = gguf_writer_commit(w, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(st, PLM_OK);
    *g = NULL;
    *v = NULL;
    st = gguf_open(g, path, err);
    unlink(path);
    return st ? st : vocab_open(v, *g, err);
}

struct opened open_fake(const struct fake *f) {
    struct opened o;
    plm_error err = {0};
    plm_status st = fake_open(f, &o.g, &o.v, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(st, PLM_OK);
    return o;
}

void fake_close(struct opened *o) {
    vocab_close(o->v);
    gguf_close(o->g);
}

int32_t *encode_all(const struct vocab *v, const char *text, size_t len, bool special, size_t *n) {
    struct ids l = {0};
    plm_error err = {0};
    plm_status st = vocab_encode(v, text, len, special, &l, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(st, PLM_OK);
    *n = l.n;
    return l.v;
}

void assert_decodes(const struct vocab *v, const int32_t *ids, size_t n, const char *text, size_t len) {
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        char tmp[8];
        struct str s = vocab_bytes(v, ids[i], true, tmp);
        assert_true(s.n <= len - at);
        assert_memory_equal(s.p, text + at, s.n);
        at += s.n;
    }
    assert_int_equal(at, len);
}
