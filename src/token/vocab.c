/* vocab.c: reads the tokenizer.* keys of a GGUF file. Byte-level BPE with a known pre-tokenizer and
 * SentencePiece with scores are supported; every count, type, id and text is checked here, and nothing is
 * guessed: a key that is there and wrong is an error. */
#include <math.h>
#include <string.h>
#include "token/vocab.h"

enum { TOKENS_MAX = 1 << 24 };

/* Tokens that end an answer, besides those that the file names. */
static const char *const end_names[] = {
    "<|eot_id|>",    "<|im_end|>", "<|end|>", "<|return|>",      "<|call|>",           "<end_of_turn>",
    "<|endoftext|>", "<|eom_id|>", "<EOT>",   "<|end_of_text|>", "<end_of_utterance>",
};

static plm_status need_array(const struct gguf *g, const char *key, bool strings, struct gguf_array *out,
                             bool *found, plm_error *err) {
    *found = false;
    plm_status st = gguf_array(g, key, out, found, err);
    if (st || !*found) {
        return st;
    }
    bool fits = strings ? out->type == KV_STRING : out->type != KV_STRING && out->type != KV_ARRAY;
    return fits ? PLM_OK
                : fail(err, PLM_EFORMAT, "%s: its elements are not %s", key, strings ? "strings" : "numbers");
}

static plm_status read_model(struct vocab *v, const struct gguf *g, plm_error *err) {
    struct str model;
    bool found = false;
    plm_status st = gguf_string(g, "tokenizer.ggml.model", &model, &found, err);
    if (st) {
        return st;
    }
    if (!found) {
        return fail(err, PLM_EFORMAT, "the file has no tokenizer (tokenizer.ggml.model)");
    }
    v->scored = str_eq(model, "llama");
    return v->scored || str_eq(model, "gpt2")
               ? PLM_OK
               : fail(err, PLM_ENOTSUP,
                      "tokenizer.ggml.model: \"%.*s\" is not supported; byte-level BPE (\"gpt2\") and "
                      "SentencePiece (\"llama\") are",
                      model.n < 32 ? (int)model.n : 32, model.p);
}

static plm_status read_types(struct vocab *v, const struct gguf *g, plm_error *err) {
    struct gguf_array types;
    bool found;
    plm_status st = need_array(g, "tokenizer.ggml.token_type", false, &types, &found, err);
    if (st) {
        return st;
    }
    memset(v->type, TOKEN_NORMAL, (size_t)v->n);
    if (!found) {
        return PLM_OK;
    }
    if (types.type == KV_F32 || types.type == KV_F64 || types.type == KV_BOOL) {
        return fail(err, PLM_EFORMAT, "tokenizer.ggml.token_type: its elements are not integers");
    }
    if (types.n != (size_t)v->n) {
        return fail(err, PLM_EFORMAT, "tokenizer.ggml.token_type: %zu types for %d tokens", types.n, v->n);
    }
    for (size_t i = 0; i < types.n; i++) {
        int64_t t = gguf_array_int(&types, i);
        if (t < TOKEN_NORMAL || t > TOKEN_BYTE) {
            return fail(err, PLM_EFORMAT, "tokenizer.ggml.token_type: token %zu has the unknown type %lld", i,
                        (long long)t);
        }
        v->type[i] = (uint8_t)t;
    }
    return PLM_OK;
}

/* BPE has no use for scores, but a file with broken ones is a broken file. */
static plm_status read_scores(const struct vocab *v, const struct gguf *g, struct gguf_array *scores,
                              plm_error *err) {
    bool found;
    plm_status st = need_array(g, "tokenizer.ggml.scores", false, scores, &found, err);
    if (!st && !found && v->scored) {
        st = fail(err, PLM_EFORMAT, "the file has no tokenizer.ggml.scores");
    }
    if (st || !found) {
        return st;
    }
    if (scores->type != KV_F32) {
        return fail(err, PLM_EFORMAT, "tokenizer.ggml.scores: its elements are not F32");
    }
    if (scores->n != (size_t)v->n) {
        return fail(err, PLM_EFORMAT, "tokenizer.ggml.scores: %zu scores for %d tokens", scores->n, v->n);
    }
    for (size_t i = 0; i < scores->n; i++) {
        if (!isfinite(gguf_array_float(scores, i))) {
            return fail(err, PLM_EFORMAT, "tokenizer.ggml.scores: token %zu has a score that is not finite",
                        i);
        }
    }
    return PLM_OK;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* Writes the bytes of a token and returns how many, -1 when it is a byte token and not "<0xHH>". */
static long token_bytes(bool scored, int type, struct str text, char *out) {
    if (scored && (type == TOKEN_NORMAL || type == TOKEN_USER)) {
        return (long)spm_unblank(text, out);
    }
    switch (type) {
    case TOKEN_NORMAL:
        return (long)alphabet_bytes(text, out);
    case TOKEN_UNUSED:
        return 0;
    case TOKEN_BYTE:
        if (text.n != 6 || memcmp(text.p, "<0x", 3) || text.p[5] != '>' || hex_digit(text.p[3]) < 0 ||
            hex_digit(text.p[4]) < 0) {
            return -1;
        }
        out[0] = (char)(hex_digit(text.p[3]) * 16 + hex_digit(text.p[4]));
        return 1;
    default:
        memcpy(out, text.p, text.n);
        return (long)text.n;
    }
}

static plm_status check_text(const struct vocab *v, size_t i, struct str text, plm_error *err) {
    int type = v->type[i];
    bool marked = type == TOKEN_UNKNOWN || type == TOKEN_CONTROL || type == TOKEN_USER;
    int most = marked ? TOKEN_MATCH_MAX : TOKEN_MAX;
    return text.n <= (size_t)most
               ? PLM_OK
               : fail(err, PLM_EFORMAT, "tokenizer.ggml.tokens: token %zu has %zu bytes, at most %d", i,
                      text.n, most);
}

/* A user-defined token would be matched in anybody's text; one that ends an answer must not be. */
static bool ends_an_answer(struct str text) {
    for (size_t i = 0; i < sizeof end_names / sizeof *end_names; i++) {
        if (str_eq(text, end_names[i])) {
            return true;
        }
    }
    return str_eq(text, "</s>");
}

static plm_status read_texts(struct vocab *v, const struct gguf_array *tokens, plm_error *err) {
    size_t total = 0;
    for (size_t i = 0; i < tokens->n; i++) {
        struct str text = gguf_array_string(tokens, i);
        if (v->type[i] == TOKEN_USER && ends_an_answer(text)) {
            v->type[i] = TOKEN_CONTROL;
        }
        plm_status st = check_text(v, i, text, err);
        if (st) {
            return st;
        }
        total += text.n;
    }
    v->text = total > UINT32_MAX ? NULL : mem_alloc(total + 1, 1);
    if (!v->text) {
        return fail(err, PLM_ENOMEM, "no memory for %zu bytes of tokens", total);
    }
    v->at[0] = 0;
    for (size_t i = 0; i < tokens->n; i++) {
        long n = token_bytes(v->scored, v->type[i], gguf_array_string(tokens, i), v->text + v->at[i]);
        if (n < 0) {
            return fail(err, PLM_EFORMAT, "tokenizer.ggml.tokens: byte token %zu is not of the form <0xHH>",
                        i);
        }
        v->at[i + 1] = v->at[i] + (uint32_t)n;
    }
    return PLM_OK;
}

static plm_status index_tokens(struct vocab *v, plm_error *err) {
    size_t marked = 0;
    for (int i = 0; i < v->n; i++) {
        marked += v->type[i] == TOKEN_UNKNOWN || v->type[i] == TOKEN_CONTROL || v->type[i] == TOKEN_USER;
    }
    plm_status st = index_open(&v->plain, (size_t)v->n - marked, err);
    st = st ? st : index_open(&v->marked, marked, err);
    for (int32_t id = 0; id < v->n && !st; id++) {
        struct str text = token_text(v, id);
        int type = v->type[id];
        if (!text.n) {
            continue;
        }
        if (type == TOKEN_NORMAL || (type == TOKEN_BYTE && !v->scored)) {
            st = index_add(&v->plain, v, id, err);
        } else if (type != TOKEN_BYTE) { /* with scores, bytes have a table of their own */
            st = index_add(&v->marked, v, id, err);
            v->starts[(unsigned char)text.p[0]] |= type == TOKEN_USER ? 3 : 2;
            v->longest = text.n > v->longest ? text.n : v->longest;
        }
    }
    return st;
}

static plm_status read_tokens(struct vocab *v, const struct gguf *g, plm_error *err) {
    struct gguf_array tokens;
    bool found;
    plm_status st = need_array(g, "tokenizer.ggml.tokens", true, &tokens, &found, err);
    if (st) {
        return st;
    }
    if (!found || !tokens.n || tokens.n > TOKENS_MAX) {
        return fail(err, PLM_EFORMAT, "tokenizer.ggml.tokens: %zu tokens; 1 to %d are possible",
                    found ? tokens.n : 0, TOKENS_MAX);
    }
    v->n = (int)tokens.n;
    v->at = mem_alloc(tokens.n + 1, sizeof *v->at);
    v->type = mem_alloc(tokens.n, 1);
    if (!v->at || !v->type) {
        return fail(err, PLM_ENOMEM, "no memory for %zu tokens", tokens.n);
    }
    st = read_types(v, g, err);
    struct gguf_array scores = {0};
    st = st ? st : read_scores(v, g, &scores, err);
    st = st ? st : read_texts(v, &tokens, err);
    st = st ? st : index_tokens(v, err);
    return st || !v->scored ? st : spm_open(v, &scores, err);
}

static plm_status read_merges(struct vocab *v, const struct gguf *g, plm_error *err) {
    struct gguf_array merges;
    bool found;
    plm_status st = need_array(g, "tokenizer.ggml.merges", true, &merges, &found, err);
    if (!st && !found) {
        st = fail(err, PLM_EFORMAT, "the file has no tokenizer.ggml.merges");
    }
    return st ? st : bpe_open(v, &merges, err);
}

static plm_status read_id(const struct vocab *v, const struct gguf *g, const char *key, int32_t *id,
                          plm_error *err) {
    uint32_t value = 0;
    bool found = false;
    *id = -1;
    plm_status st = gguf_u32(g, key, &value, &found, err);
    if (!st && found && value >= (uint32_t)v->n) {
        st = fail(err, PLM_EFORMAT, "%s: %u is no id of a vocabulary of %d", key, value, v->n);
    }
    if (!st && found) {
        *id = (int32_t)value;
    }
    return st;
}

static void add_end(struct vocab *v, int32_t id) {
    if (id >= 0 && !vocab_is_end(v, id)) {
        v->end[v->n_end++] = id;
    }
}

static plm_status read_special(struct vocab *v, const struct gguf *g, plm_error *err) {
    int32_t eot, eom, other;
    plm_status st = read_id(v, g, "tokenizer.ggml.bos_token_id", &v->bos, err);
    st = st ? st : read_id(v, g, "tokenizer.ggml.eos_token_id", &v->eos, err);
    st = st ? st : read_id(v, g, "tokenizer.ggml.eot_token_id", &eot, err);
    st = st ? st : read_id(v, g, "tokenizer.ggml.eom_token_id", &eom, err);
    st = st ? st : read_id(v, g, "tokenizer.ggml.unknown_token_id", &other, err);
    st = st ? st : read_id(v, g, "tokenizer.ggml.padding_token_id", &other, err);
    if (st) {
        return st;
    }
    bool found = false;
    v->add_bos = v->scored || splitter_adds_bos(v->split);
    v->spm.space_prefix = v->scored;
    if (v->scored) {
        st = gguf_bool(g, "tokenizer.ggml.add_space_prefix", &v->spm.space_prefix, &found, err);
    }
    st = st ? st : gguf_bool(g, "tokenizer.ggml.add_bos_token", &v->add_bos, &found, err);
    if (!st && v->add_bos && v->bos < 0) {
        st = fail(err, PLM_EFORMAT,
                  "texts shall begin with the BOS token, but there is no tokenizer.ggml.bos_token_id");
    }
    if (st) {
        return st;
    }
    enum { NAMES = sizeof end_names / sizeof *end_names };
    v->end = mem_alloc(NAMES + 3, sizeof *v->end);
    if (!v->end) {
        return fail(err, PLM_ENOMEM, "no memory for a vocabulary");
    }
    add_end(v, v->eos);
    add_end(v, eot);
    add_end(v, eom);
    for (size_t i = 0; i < NAMES; i++) {
        add_end(v, vocab_find(v, str_of(end_names[i])));
    }
    return PLM_OK;
}

/* How byte-level BPE cuts words and merges in them. */
static plm_status read_bpe(struct vocab *v, const struct gguf *g, plm_error *err) {
    struct str pre = {0};
    bool found = false;
    plm_status st = gguf_string(g, "tokenizer.ggml.pre", &pre, &found, err);
    if (!st && !found) {
        st =
            fail(err, PLM_ENOTSUP, "the file does not say how its tokenizer cuts words (tokenizer.ggml.pre)");
    }
    st = st ? st : splitter_open(&v->split, pre, err);
    return st ? st : read_merges(v, g, err);
}

plm_status vocab_open(struct vocab **out, const struct gguf *g, plm_error *err) {
    struct vocab *v = mem_zero(1, sizeof *v);
    if (!v) {
        return fail(err, PLM_ENOMEM, "no memory for a vocabulary");
    }
    plm_status st = read_model(v, g, err);
    st = st ? st : read_tokens(v, g, err);
    st = st || v->scored ? st : read_bpe(v, g, err);
    st = st ? st : read_special(v, g, err);
    if (st) {
        vocab_close(v);
        return st;
    }
    *out = v;
    return PLM_OK;
}

void vocab_close(struct vocab *v) {
    if (!v) {
        return;
    }
    splitter_close(v->split);
    bpe_close(&v->bpe);
    spm_close(&v->spm);
    index_close(&v->plain);
    index_close(&v->marked);
    mem_free(v->text);
    mem_free(v->at);
    mem_free(v->type);
    mem_free(v->end);
    mem_free(v);
}

int vocab_size(const struct vocab *v) {
    return v->n;
}
int32_t vocab_bos(const struct vocab *v) {
    return v->bos;
}
int32_t vocab_eos(const struct vocab *v) {
    return v->eos;
}
bool vocab_add_bos(const struct vocab *v) {
    return v->add_bos;
}

bool vocab_is_end(const struct vocab *v, int32_t id) {
    for (size_t i = 0; i < v->n_end; i++) {
        if (v->end[i] == id) {
            return true;
        }
    }
    return false;
}

bool vocab_is_control(const struct vocab *v, int32_t id) {
    return id >= 0 && id < v->n && (v->type[id] == TOKEN_CONTROL || v->type[id] == TOKEN_UNKNOWN);
}

int32_t vocab_find(const struct vocab *v, struct str text) {
    int32_t id = index_find(&v->marked, v, text);
    return id >= 0 ? id : index_find(&v->plain, v, text);
}
