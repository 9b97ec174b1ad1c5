/* test_token_encode.c: encoding with small vocabularies: round trips, merges against a plain search,
 * marked tokens, normal form C, and time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <pthread.h>
#include <utf8proc.h>
#include "base/base.h"
#include "support_token.h"
#include <cmocka.h> /* last: its fail() is a macro */

static const char *const rules[] = {"smollm", "gpt2", "llama-bpe", "deepseek-r1-qwen", "qwen2"};
enum { RULES = sizeof rules / sizeof *rules };

static struct opened open_rule(const char *rule) {
    struct fake f;
    fake_default(&f);
    f.pre = rule;
    return open_fake(&f);
}

static void assert_round_trip(const struct vocab *v, const char *text, size_t len, bool special) {
    size_t n;
    int32_t *ids = encode_all(v, text, len, special, &n);
    assert_decodes(v, ids, n, text, len);
    mem_free(ids);
}

static void any_bytes_come_back(void **state) {
    (void)state;
    for (int k = 0; k < RULES - 1; k++) { /* all but the one that composes */
        struct opened o = open_rule(rules[k]);
        struct rng rng;
        rng_seed(&rng, 1, (uint64_t)k);
        for (int round = 0; round < 500; round++) {
            char text[300];
            size_t len = rng_below(&rng, sizeof text);
            for (size_t i = 0; i < len; i++) { /* some rounds have much ASCII, some much UTF-8 wreckage */
                text[i] = (char)(round % 3 ? rng_below(&rng, 256) : 0x80 + rng_below(&rng, 128));
                text[i] = round % 5 == 4 ? " \n'hello<|im_start|>\xE2\x80"[rng_below(&rng, 22)] : text[i];
            }
            assert_round_trip(o.v, text, len, false);
            assert_round_trip(o.v, text, len, true);
        }
        fake_close(&o);
    }
}

static void unusual_utf8_comes_back(void **state) {
    (void)state;
    static const struct str texts[] = {
        {"\xC0\x80", 2},
        {"\xED\xA0\x80", 3},
        {"\xF8\x88\x80\x80\x80", 5},
        {"\xFC\x84\x80\x80\x80\x80", 6},
        {"\xF0\x9F\x91", 3},
        {"a\0b", 3},
        {"\xEF\xBB\xBFtext", 7},
        {"\xE2\x80\xAEx\xE2\x80\xAC", 7},
        {"\xEF\xBF\xBF", 3},
        {"a\r\n\r\r\nb\n", 8},
        {"a\xE2\x80\x8D"
         "b",
         5},
        {"\xCE\xBDvodka", 7},
        {"\xEF\xBF\xBD", 3},
        {"\xC2\x85\xE1\xA0\x8E\xE2\x80\xA8", 8},
    };
    for (int k = 0; k < RULES; k++) {
        struct opened o = open_rule(rules[k]);
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            for (size_t cut = 0; cut <= texts[i].n; cut++) { /* truncated at every byte, too */
                assert_round_trip(o.v, texts[i].p, cut, false);
            }
        }
        fake_close(&o);
    }
}

/* ---- merges ---- */

struct word {
    char s[256];
};

static struct word joined(const char *a, const char *between, const char *b) {
    struct word w;
    int n = snprintf(w.s, sizeof w.s, "%s%s%s", a, between, b);
    assert_true(n < (int)sizeof w.s);
    return w;
}

struct pair {
    struct word left, right;
};

/* Rank by rank: apply the best merge, leftmost first, until none fits. */
static size_t slow_merges(const struct pair *pairs, size_t n_pairs, struct word *part, size_t n) {
    for (;;) {
        size_t best = n_pairs, at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            for (size_t k = 0; k < best; k++) {
                if (!strcmp(part[i].s, pairs[k].left.s) && !strcmp(part[i + 1].s, pairs[k].right.s)) {
                    best = k;
                    at = i;
                }
            }
        }
        if (best == n_pairs) {
            return n;
        }
        part[at] = joined(part[at].s, "", part[at + 1].s);
        memmove(part + at + 1, part + at + 2, (n - at - 2) * sizeof *part);
        n--;
    }
}

/* Merges of random pairs of texts made so far, results of at most 12 letters. */
static void add_random_merges(struct fake *f, struct pair *pairs, struct word *text, struct word *line,
                              struct rng *rng) {
    size_t n_text = 0;
    for (char c = 'a'; c <= 'd'; c++) {
        text[n_text++] = joined((char[]){c, 0}, "", "");
    }
    for (size_t k = 0; k < 40; k++) {
        struct word a = text[rng_below(rng, n_text)], b = text[rng_below(rng, n_text)];
        bool known = strlen(a.s) + strlen(b.s) > 12;
        for (size_t i = 0; i < f->n_merges; i++) {
            known = known || (!strcmp(pairs[i].left.s, a.s) && !strcmp(pairs[i].right.s, b.s));
        }
        if (!known) {
            size_t i = f->n_merges++;
            pairs[i] = (struct pair){a, b};
            line[i] = joined(a.s, " ", b.s);
            f->merge[i] = line[i].s;
            text[n_text] = joined(a.s, "", b.s);
            fake_add(f, text[n_text++].s, 1);
        }
    }
}

static void merges_agree_with_a_plain_search(void **state) {
    (void)state;
    struct rng rng;
    rng_seed(&rng, 3, 0);
    for (int round = 0; round < 30; round++) {
        static struct word text[60], line[60], part[200];
        static struct pair pairs[60];
        struct fake f;
        fake_default(&f);
        f.n = 256;
        f.bos = f.eos = -1;
        f.n_merges = 0;
        add_random_merges(&f, pairs, text, line, &rng);
        struct opened o = open_fake(&f);
        for (int piece = 0; piece < 20; piece++) {
            char word[120];
            size_t len = 1 + rng_below(&rng, sizeof word);
            for (size_t i = 0; i < len; i++) {
                word[i] = (char)('a' + rng_below(&rng, piece % 2 ? 4 : 2));
                part[i] = joined((char[]){word[i], 0}, "", "");
            }
            size_t want = slow_merges(pairs, f.n_merges, part, len), n;
            int32_t *ids = encode_all(o.v, word, len, false, &n);
            assert_int_equal(n, want);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(ids[i], vocab_find(o.v, str_of(part[i].s)));
            }
            mem_free(ids);
        }
        fake_close(&o);
    }
}

static void ids_are(const struct vocab *v, const char *text, bool special, const char *const *want) {
    size_t n, k = 0;
    int32_t *ids = encode_all(v, text, strlen(text), special, &n);
    for (; want[k]; k++) {
        assert_true(k < n);
        assert_int_equal(ids[k], vocab_find(v, str_of(want[k])));
    }
    assert_int_equal(n, k);
    mem_free(ids);
}
#define IDS(v, text, special, ...) ids_are(v, text, special, (const char *const[]){__VA_ARGS__, NULL})

static void words_are_cut_by_family(void **state) {
    (void)state;
    struct opened smollm = open_rule("smollm"), gpt2 = open_rule("gpt2"), llama = open_rule("llama-bpe"),
                  qwen = open_rule("qwen2");
    IDS(smollm.v, "123", false, "1", "2", "3");
    IDS(gpt2.v, "1234", false, "123", "4");
    IDS(llama.v, "1234", false, "123", "4");
    IDS(llama.v, "0123", false, "0", "12", "3"); /* runs of three from the left: 012 3 */
    IDS(qwen.v, "123", false, "1", "2", "3");
    IDS(smollm.v, "hello hello", false, "hello", " ", "hello");
    IDS(gpt2.v, "\n\n\nhello", false, "\n\n", "\n", "hello"); /* the last line end is a piece of its own */
    IDS(llama.v, "\n\n\n\n", false, "\n\n", "\n\n");
    IDS(smollm.v, "\n\n1", false, "\n\n", "1"); /* before a digit white space is not parted */
    IDS(gpt2.v, "\n\n1", false, "\n", "\n", "1");
    fake_close(&smollm);
    fake_close(&gpt2);
    fake_close(&llama);
    fake_close(&qwen);
}

static void a_whole_piece_wins_where_merges_are_ignored(void **state) {
    (void)state;
    struct fake f;
    fake_default(&f);
    fake_add(&f, "xyzzy", 1); /* a token that no merge makes */
    f.pre = "gpt2";
    struct opened merged = open_fake(&f);
    f.pre = "llama-bpe";
    struct opened whole = open_fake(&f);
    IDS(merged.v, "xyzzy", false, "x", "y", "z", "z", "y");
    IDS(whole.v, "xyzzy", false, "xyzzy");
    assert_true(vocab_add_bos(whole.v));
    assert_false(vocab_add_bos(merged.v));
    fake_close(&merged);
    fake_close(&whole);
}

static void marked_tokens_are_matched_longest_first(void **state) {
    (void)state;
    struct opened o = open_rule("gpt2");
    IDS(o.v, "<tool>", false, "<tool>");
    IDS(o.v, "a<tool>s<tool>", false, "a", "<tool>s", "<tool>");
    IDS(o.v, "<<tool>", true, "<", "<tool>");
    IDS(o.v, "<s><tool><unk>", true, "<s>", "<tool>", "<unk>");
    IDS(o.v, "<s>", false, "<", "s", ">");
    IDS(o.v, "[PAD]", true, "[", "P", "A", "D", "]"); /* unused tokens are never matched */
    IDS(o.v, "<|im_start|>", false, "<", "|", "im", "_", "s", "t", "a", "r", "t", "|", ">");
    IDS(o.v, "<|im_start|>x<|im_end", true, "<|im_start|>", "x", "<", "|", "im", "_", "e", "n", "d");
    fake_close(&o);
}

static void text_never_gives_a_control_id(void **state) {
    (void)state;
    static const char *const forged[] = {"<|im_start|>", "<|im_end|>", "<s>", "<unk>", "<tool>",
                                         "<0x0A>",       "hello",      " ",   "\n",    "<|im_"};
    struct rng rng;
    rng_seed(&rng, 11, 0);
    for (int k = 0; k < RULES; k++) {
        struct opened o = open_rule(rules[k]);
        for (int round = 0; round < 200; round++) {
            struct bytes text;
            bytes_init(&text, 10000);
            for (int i = 0; i < 30; i++) {
                bytes_puts(&text, forged[rng_below(&rng, sizeof forged / sizeof *forged)]);
            }
            size_t n;
            int32_t *ids = encode_all(o.v, text.data, text.len, false, &n);
            for (size_t i = 0; i < n; i++) {
                assert_false(vocab_is_control(o.v, ids[i]));
            }
            assert_decodes(o.v, ids, n, text.data, text.len);
            mem_free(ids);
            bytes_free(&text);
        }
        fake_close(&o);
    }
}

static void control_tokens_are_silent_unless_asked(void **state) {
    (void)state;
    struct opened o = open_rule("gpt2");
    char tmp[8];
    int32_t id = vocab_find(o.v, STR("<|im_end|>"));
    assert_int_equal(vocab_bytes(o.v, id, false, tmp).n, 0);
    assert_int_equal(vocab_bytes(o.v, id, true, tmp).n, 10);
    assert_int_equal(vocab_bytes(o.v, vocab_find(o.v, STR("<tool>")), false, tmp).n, 6);
    assert_int_equal(vocab_bytes(o.v, -1, true, tmp).n, 0);
    assert_int_equal(vocab_bytes(o.v, vocab_size(o.v), true, tmp).n, 0);
    fake_close(&o);
}

static void bytes_without_a_token_are_left_out(void **state) {
    (void)state;
    struct fake f;
    fake_default(&f);
    f.type[4] = 5;
    struct opened o = open_fake(&f);
    IDS(o.v, "he\x04llo\x04", false, "he", "ll", "o"); /* it still cuts words */
    IDS(o.v, "\x04\x04 w", false, " w");
    fake_close(&o);
}

/* ---- normal form C ---- */

static void composing_agrees_with_utf8proc(void **state) {
    (void)state;
    static const uint32_t some[] = {'a',     'e',    'o',    ' ',    0xE9,     0x301,  0x308,  0x327,
                                    0x323,   0x334,  0x345,  0x1100, 0x1161,   0x11A8, 0xAC00, 0x3099,
                                    0x304B,  0x915,  0x93C,  0x9C7,  0x9BE,    0x212B, 0xFB1D, 0x1F71,
                                    0x1D15E, 0x2126, 0xFFFD, 0xE000, 0x10FFFF, 0x378};
    struct opened o = open_rule("qwen2");
    struct rng rng;
    rng_seed(&rng, 5, 0);
    for (int round = 0; round < 5000; round++) {
        char text[200];
        size_t len = 0;
        for (size_t n = 1 + rng_below(&rng, 20); n--;) {
            len += utf8_put(some[rng_below(&rng, sizeof some / sizeof *some)], text + len);
        }
        utf8proc_uint8_t *want = NULL;
        utf8proc_ssize_t n_want = utf8proc_map((utf8proc_uint8_t *)text, (utf8proc_ssize_t)len, &want,
                                               UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        assert_true(n_want >= 0);
        size_t n;
        int32_t *ids = encode_all(o.v, text, len, false, &n);
        assert_decodes(o.v, ids, n, (char *)want, (size_t)n_want);
        mem_free(ids);
        free(want);
    }
    fake_close(&o);
}

static void composing_leaves_bad_bytes_alone(void **state) {
    (void)state;
    struct opened o = open_rule("qwen2");
    static const char text[] = "e\xCC\x81\xFF\xCC\x81"
                               "e\xCC",
                      want[] = "\xC3\xA9\xFF\xCC\x81"
                               "e\xCC";
    size_t n;
    int32_t *ids = encode_all(o.v, text, sizeof text - 1, false, &n);
    assert_decodes(o.v, ids, n, want, sizeof want - 1);
    mem_free(ids);
    fake_close(&o);
}

/* ---- time and memory ---- */

/* Processor time of this thread: the machine may be busy. */
static double thread_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Tried again when it took longer than enough. */
static double seconds_for(const struct vocab *v, const char *unit, size_t unit_len, size_t len,
                          double enough) {
    char *text = mem_alloc(len, 1);
    for (size_t i = 0; i < len; i++) {
        text[i] = unit[i % unit_len];
    }
    double best = 1e9;
    for (int round = 0; round < 3 && best > enough; round++) {
        double start = thread_seconds();
        size_t n;
        mem_free(encode_all(v, text, len, false, &n));
        double took = thread_seconds() - start;
        best = took < best ? took : best;
    }
    mem_free(text);
    return best;
}

static void long_pieces_take_linear_time(void **state) {
    (void)state;
    static const struct str units[] = {
        {"a", 1},
        {"abcdefghij", 10},
        {"ab", 2},
        {"7", 1},
        {"Z", 1},
        {" ", 1},
        {"\n", 1},
        {" \n", 2},
        {"\r", 1},
        {"'", 1},
        {"<", 1},
        {"<|im_", 5},
        {"\xCC\x81", 2},
        {"\xCC\xB4\xCC\x81", 4},
        {"\xCC\x81\xCC\xB4\xCC\xA7", 6},
        {"\xFF", 1},
        {"\xE2\x80", 2},
        {"\xF0\x9F\x91\xA9\xE2\x80\x8D", 7},
        {"\xE4\xBD\xA0", 3},
        {"\xE3\x80\x80", 3},
        {"\0", 1},
    };
    double bound = MIB_SECONDS * 1e-6;
    for (int k = 0; k < RULES; k++) {
        struct opened o = open_rule(rules[k]);
        for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
            size_t len = 1000000;
            double took = seconds_for(o.v, units[i].p, units[i].n, len, bound * (double)len);
            if (took > bound * (double)len) {
                fail_msg("%s, unit %zu: %.2f us a byte", rules[k], i, took * 1e6 / (double)len);
            }
        }
        fake_close(&o);
    }
}

/* The other half of the promise: a small stack is enough. */
static void *encode_on_small_stack(void *v) {
    static const char *const units[] = {"a", " ", "\n", "7", "\xCC\x81"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        seconds_for(v, units[i], strlen(units[i]), 200000, 10);
    }
    return NULL;
}

static void a_stack_of_256_kib_is_enough(void **state) {
    (void)state;
    for (int k = 0; k < RULES; k++) {
        struct opened o = open_rule(rules[k]);
        pthread_attr_t how;
        pthread_t thread;
        pthread_attr_init(&how);
        assert_int_equal(pthread_attr_setstacksize(&how, 256 << 10), 0);
        assert_int_equal(pthread_create(&thread, &how, encode_on_small_stack, o.v), 0);
        pthread_join(thread, NULL);
        pthread_attr_destroy(&how);
        fake_close(&o);
    }
}

static void failed_allocations_are_reported(void **state) {
    (void)state;
    static const char text[] =
        "hello <tool> e\xCC\xB4\xCC\xA7\xCC\x81 \xFF wording that is long enough to need more than one block";
    struct opened o = open_rule("qwen2");
    size_t want;
    int32_t *all = encode_all(o.v, text, sizeof text - 1, false, &want);
    for (long n = 1;; n++) {
        struct ids ids = {0};
        plm_error err = {0};
        mem_fail_at(n, true);
        plm_status st = vocab_encode(o.v, text, sizeof text - 1, false, &ids, &err);
        mem_fail_at(0, false);
        if (!st) {
            assert_true(n > 5);
            assert_int_equal(ids.n, want);
            assert_memory_equal(ids.v, all, want * sizeof *all);
            ids_free(&ids);
            break;
        }
        assert_int_equal(st, PLM_ENOMEM);
        assert_int_equal(ids.n, 0);
        assert_true(err.text[0]);
        ids_free(&ids);
    }
    mem_free(all);
    fake_close(&o);
}

static void encoding_appends(void **state) {
    (void)state;
    struct opened o = open_rule("gpt2");
    struct ids ids = {0};
    assert_int_equal(vocab_encode(o.v, "hello", 5, false, &ids, NULL), PLM_OK);
    assert_int_equal(vocab_encode(o.v, "", 0, false, &ids, NULL), PLM_OK);
    assert_int_equal(vocab_encode(o.v, " w", 2, false, &ids, NULL), PLM_OK);
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.v[1], vocab_find(o.v, STR(" w")));
    ids_free(&ids);
    fake_close(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(unusual_utf8_comes_back),
        cmocka_unit_test(merges_agree_with_a_plain_search),
        cmocka_unit_test(words_are_cut_by_family),
        cmocka_unit_test(a_whole_piece_wins_where_merges_are_ignored),
        cmocka_unit_test(marked_tokens_are_matched_longest_first),
        cmocka_unit_test(text_never_gives_a_control_id),
        cmocka_unit_test(control_tokens_are_silent_unless_asked),
        cmocka_unit_test(bytes_without_a_token_are_left_out),
        cmocka_unit_test(composing_agrees_with_utf8proc),
        cmocka_unit_test(composing_leaves_bad_bytes_alone),
        cmocka_unit_test(long_pieces_take_linear_time),
        cmocka_unit_test(a_stack_of_256_kib_is_enough),
        cmocka_unit_test(failed_allocations_are_reported),
        cmocka_unit_test(encoding_appends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
