/* split.c: pre-tokenizers. A text is cut into pieces that merges never cross, by one anchored PCRE2
 * pattern a family. Every repeat is possessive or gives back at most one character, so the time is
 * linear and no stack grows, with and without JIT. Names that are not in the table are refused:
 * a wrong cut would give plausible, wrong ids. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "token/vocab.h"

/* White space is Unicode's, which PCRE2's \s is not quite: that has U+180E too. */
#define SPACE "\\t-\\r\\x{85}\\p{Z}"
#define BLANK "[\\t\\x{0B}\\x{0C}\\x{85}\\p{Z}]" /* all but line ends */
#define MARK "[^" SPACE "\\p{L}\\p{N}]"
#define ENDING "'(?:[stmd]|re|ve|ll)"
/* White space but the last before a word, which goes with the word. */
#define REST "|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

static const char gpt2[] = ENDING "| ?+\\p{L}++| ?+\\p{N}++| ?+" MARK "++" REST;

/* Every digit is alone, and what is left between digits is cut as in GPT-2: so a run of white space
 * before a digit ends there and stays whole. */
static const char digits[] = ENDING "|\\p{N}| ?+\\p{L}++| ?+" MARK "++"
                                    "|[" SPACE "]+(?![^" SPACE "\\p{N}])|[" SPACE "]+";

#define LLAMA3(number)                                                                   \
    "(?i:" ENDING ")|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|" number "| ?+" MARK "++[\\r\\n]*+" \
    "|(?:" BLANK "*+[\\r\\n]++)++" REST
static const char llama3[] = LLAMA3("\\p{N}{1,3}+");
static const char qwen2[] = LLAMA3("\\p{N}");

static const struct rule {
    const char *name, *pattern;
    bool whole_first, adds_bos, composes;
} rules[] = {
    {"smollm", digits, false, false, false},  {"starcoder", digits, false, false, false},
    {"refact", digits, false, false, false},  {"command-r", digits, false, false, false},
    {"qwen2", qwen2, false, false, true},     {"deepseek-r1-qwen", qwen2, false, false, false},
    {"gpt2", gpt2, false, false, false},      {"gpt-2", gpt2, false, false, false},
    {"llama-bpe", llama3, true, true, false}, {"llama3", llama3, true, true, false},
    {"llama-v3", llama3, true, true, false},  {"falcon3", llama3, true, true, false},
    {"pixtral", llama3, true, true, false},   {"lfm2", llama3, true, true, false},
};

struct splitter {
    const struct rule *rule;
    pcre2_general_context *memory;
    pcre2_code *code;
};

static void *give(size_t n, void *ctx) {
    (void)ctx;
    return mem_alloc(n, 1);
}

static void take(void *p, void *ctx) {
    (void)ctx;
    mem_free(p);
}

static plm_status compile(struct splitter *s, plm_error *err) {
    s->memory = pcre2_general_context_create(give, take, NULL);
    pcre2_compile_context *how = s->memory ? pcre2_compile_context_create(s->memory) : NULL;
    if (!how) {
        return fail(err, PLM_ENOMEM, "no memory for a pre-tokenizer");
    }
    int number = 0;
    size_t at = 0;
    s->code = pcre2_compile((PCRE2_SPTR)s->rule->pattern, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &number, &at, how);
    pcre2_compile_context_free(how);
    if (!s->code) { /* the patterns are ours and compile: only memory can be missing */
        return fail(err, PLM_ENOMEM, "no memory for a pre-tokenizer (PCRE2 error %d)", number);
    }
    (void)pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE); /* without it the interpreter matches */
    return PLM_OK;
}

plm_status splitter_open(struct splitter **out, struct str name, plm_error *err) {
    const struct rule *rule = NULL;
    for (size_t i = 0; i < sizeof rules / sizeof *rules && !rule; i++) {
        rule = str_eq(name, rules[i].name) ? &rules[i] : NULL;
    }
    if (!rule) {
        return fail(err, PLM_ENOTSUP, "tokenizer.ggml.pre: the pre-tokenizer \"%.*s\" is not supported",
                    name.n < 64 ? (int)name.n : 64, name.p);
    }
    struct splitter *s = mem_zero(1, sizeof *s);
    if (!s) {
        return fail(err, PLM_ENOMEM, "no memory for a pre-tokenizer");
    }
    s->rule = rule;
    plm_status st = compile(s, err);
    if (st) {
        splitter_close(s);
        return st;
    }
    *out = s;
    return PLM_OK;
}

void splitter_close(struct splitter *s) {
    if (s) {
        pcre2_code_free(s->code);
        pcre2_general_context_free(s->memory);
        mem_free(s);
    }
}

bool splitter_whole_first(const struct splitter *s) {
    return s->rule->whole_first;
}
bool splitter_adds_bos(const struct splitter *s) {
    return s->rule->adds_bos;
}
bool splitter_composes(const struct splitter *s) {
    return s->rule->composes;
}

plm_status cut_open(struct cut *c, const struct splitter *s, plm_error *err) {
    *c = (struct cut){.how = s, .match = pcre2_match_data_create(1, s->memory)};
    return c->match ? PLM_OK : fail(err, PLM_ENOMEM, "no memory to tokenise");
}

void cut_start(struct cut *c, struct str text) {
    c->rest = text;
}

plm_status cut_next(struct cut *c, size_t *n, plm_error *err) {
    *n = 0;
    if (!c->rest.n) {
        return PLM_OK;
    }
    int found =
        pcre2_match(c->how->code, (PCRE2_SPTR)c->rest.p, c->rest.n, 0, PCRE2_NO_UTF_CHECK, c->match, NULL);
    if (found < 1) { /* each character fits an alternative: only a limit or memory can stop it */
        return fail(err, found == PCRE2_ERROR_NOMEMORY ? PLM_ENOMEM : PLM_ELIMIT,
                    "the text can't be cut into words (PCRE2 error %d)", found);
    }
    *n = pcre2_get_ovector_pointer(c->match)[1];
    c->rest.p += *n;
    c->rest.n -= *n;
    return PLM_OK;
}

void cut_close(struct cut *c) {
    pcre2_match_data_free(c->match);
}
