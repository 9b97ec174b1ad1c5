/* test_gen_generate.c: what plm_generate hands out, when it stops and what it reports. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "support_gen.h"

static plm_model *model;

static int open_all(void **state) {
    (void)state;
    model = open_random(&(struct tiny_model){.arch = "qwen2", .context = 1024}, 1);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    plm_model_close(model);
    return 0;
}

/* Everything a callback got. */
struct heard {
    char text[20000];
    size_t len, calls;
    int32_t ids[2000];
    size_t stop_after; /* calls; 0: never */
};

static int hear(void *ctx, int32_t id, const char *text, size_t len) {
    struct heard *h = ctx;
    assert_true(h->len + len < sizeof h->text);
    assert_true(utf8_valid(text, len, NULL));
    memcpy(h->text + h->len, text, len);
    h->len += len;
    h->text[h->len] = 0;
    h->ids[h->calls++] = id;
    return h->calls == h->stop_after;
}

static plm_generation generate(const plm_model *m, const char *prompt, const plm_generate_options *opt,
                               struct heard *h) {
    plm_error err = {0};
    plm_generation r;
    int32_t ids[100];
    size_t n;
    plm_session *s = open_session(m, 0);
    assert_ok(plm_encode(m, prompt, strlen(prompt), false, ids, 100, &n, &err), &err);
    size_t stop_after = h->stop_after;
    *h = (struct heard){.stop_after = stop_after};
    plm_status st = plm_generate(s, ids, n, opt, hear, h, &r, &err);
    if (stop_after && h->calls == stop_after) {
        assert_int_equal(st, PLM_ESTOPPED);
    } else {
        assert_ok(st, &err);
    }
    plm_session_free(s);
    return r;
}

static void characters_come_whole(void **state) {
    (void)state;
    static const char text[] = "a\xC3\xA9-\xE2\x86\x92 \xF0\x9F\x98\x80.";
    plm_model *m = open_scripted(text);
    struct heard h = {0};
    plm_generation r = generate(m, "!", NULL, &h);
    assert_string_equal(h.text, text);
    assert_int_equal(r.finish, PLM_FINISH_END);
    assert_int_equal(r.n_new, sizeof text - 1 + 1); /* the end token counts */
    assert_int_equal(h.calls, r.n_new);
    assert_true(plm_is_end(m, h.ids[h.calls - 1]));
    plm_model_close(m);
}

static void broken_characters_become_replacements(void **state) {
    (void)state;
    static const char *const texts[][2] = {
        {"a\xE2\x86", "a"},
        {"a\x80"
         "b",
         "a\xEF\xBF\xBD"
         "b"},
        {"\xC3(", "\xEF\xBF\xBD("},
        {"\xF0\x9F\x98", ""},
        {"\xF0\x9F?", "\xEF\xBF\xBD\xEF\xBF\xBD?"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        plm_model *m = open_scripted(texts[i][0]);
        struct heard h = {0};
        generate(m, "!", NULL, &h);
        assert_string_equal(h.text, texts[i][1]);
        plm_model_close(m);
    }
}

static void stop_texts_end_the_answer(void **state) {
    (void)state;
    static const struct {
        const char *stop[3];
        size_t n;
        const char *text;
        plm_finish finish;
        size_t n_new;
    } cases[] = {
        {{"def"}, 1, "abc", PLM_FINISH_STOP, 6},
        {{"a"}, 1, "", PLM_FINISH_STOP, 1},
        {{"h"}, 1, "abcdefg", PLM_FINISH_STOP, 8},
        {{"dex", "gh"}, 2, "abcdef", PLM_FINISH_STOP, 8},
        {{"bcdx", "cde", "z"}, 3, "ab", PLM_FINISH_STOP, 5},
        {{"efghi"}, 1, "abcdefgh", PLM_FINISH_END, 9}, /* begun but not finished: handed out at the end */
        {{"hi"}, 1, "abcdefgh", PLM_FINISH_END, 9},
        {{"abcdefgh"}, 1, "", PLM_FINISH_STOP, 8},
    };
    plm_model *m = open_scripted("abcdefgh");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct heard h = {0};
        plm_generation r =
            generate(m, "!", &(plm_generate_options){.stop = cases[i].stop, .n_stop = cases[i].n}, &h);
        assert_string_equal(h.text, cases[i].text);
        assert_int_equal(r.finish, cases[i].finish);
        assert_int_equal(r.n_new, cases[i].n_new);
    }
    plm_model_close(m);
}

/* Random answers, stop texts cut out of them: what comes out is what stands before the first place. */
static void stop_texts_are_found_wherever_they_are(void **state) {
    (void)state;
    static struct heard all, h;
    struct rng rng;
    rng_seed(&rng, 1, 0);
    int found = 0;
    for (uint64_t seed = 0; seed < 15; seed++) {
        plm_generate_options opt = {.max_tokens = 80, .sampling = {.temperature = 1.5f, .seed = seed}};
        all.stop_after = h.stop_after = 0;
        generate(model, "the answer", &opt, &all);
        for (int k = 0; k < 10 && all.len > 12; k++) {
            char stop[12] = {0};
            size_t at = rng_below(&rng, all.len - 10), len = 1 + rng_below(&rng, 10);
            memcpy(stop, all.text + at, len);
            if (!utf8_valid(stop, len, NULL) || strlen(stop) != len) {
                continue; /* cut inside a character, or one that is NUL */
            }
            const char *first = memmem(all.text, all.len, stop, len);
            opt.stop = (const char *const[]){stop};
            opt.n_stop = 1;
            plm_generation r = generate(model, "the answer", &opt, &h);
            assert_int_equal(r.finish, PLM_FINISH_STOP);
            assert_int_equal(h.len, first - all.text);
            assert_memory_equal(h.text, all.text, h.len);
            found++;
        }
    }
    assert_true(found > 30);
}

static void lengths_are_kept(void **state) {
    (void)state;
    struct heard h = {0};
    plm_model *m = open_scripted("abcdefgh");
    plm_generation r = generate(m, "!", &(plm_generate_options){.max_tokens = 3}, &h);
    assert_string_equal(h.text, "abc");
    assert_int_equal(r.finish, PLM_FINISH_LENGTH);
    assert_int_equal(r.n_new, 3);
    const char *stop = "cx"; /* held back, then known not to be it */
    generate(m, "!", &(plm_generate_options){.max_tokens = 3, .stop = &stop, .n_stop = 1}, &h);
    assert_string_equal(h.text, "abc");
    plm_model_close(m);
    generate(model, "x", &(plm_generate_options){.sampling = {.temperature = 1, .seed = 4}}, &h);
    assert_true(h.calls <= 256);
}

static void a_full_context_ends_the_answer(void **state) {
    (void)state;
    plm_error err = {0};
    plm_session *s = open_session(model, 20);
    int32_t ids[20];
    random_ids(model, ids, 20, 1);
    plm_generation r;
    plm_generate_options opt = {.sampling = {.temperature = 1, .seed = 3}};
    assert_ok(plm_generate(s, ids, 15, &opt, NULL, NULL, &r, &err), &err);
    assert_int_equal(r.n_new, 6); /* the last one needs no place */
    assert_int_equal(r.finish, PLM_FINISH_LENGTH);
    assert_ok(plm_generate(s, ids, 20, &opt, NULL, NULL, &r, &err), &err);
    assert_int_equal(r.n_new, 1);
    plm_session_free(s);
}

static void the_caller_may_stop(void **state) {
    (void)state;
    struct heard h = {.stop_after = 2};
    plm_model *m = open_scripted("abcdefgh");
    plm_generation r = generate(m, "!", NULL, &h);
    assert_string_equal(h.text, "ab");
    assert_int_equal(r.finish, PLM_FINISH_CALLER);
    assert_int_equal(r.n_new, 2);
    plm_model_close(m);
}

static void a_seed_repeats_an_answer(void **state) {
    (void)state;
    static struct heard a, b, c;
    plm_generate_options opt = {.max_tokens = 60, .sampling = {.temperature = 1, .top_p = .95f, .seed = 7}};
    generate(model, "once", &opt, &a);
    generate(model, "once", &opt, &b);
    assert_int_equal(a.calls, b.calls);
    assert_memory_equal(a.ids, b.ids, a.calls * sizeof *a.ids);
    opt.sampling.seed = 8;
    generate(model, "once", &opt, &c);
    assert_true(a.calls != c.calls || memcmp(a.ids, c.ids, a.calls * sizeof *a.ids) != 0);
}

/* The loop that a caller could write by hand gives the same ids. */
static void generating_is_syncing_and_sampling(void **state) {
    (void)state;
    static struct heard h;
    plm_error err = {0};
    plm_generate_options opt = {.max_tokens = 40, .sampling = {.temperature = 1, .top_k = 40, .seed = 5}};
    generate(model, "by hand", &opt, &h);
    int32_t ids[100];
    size_t n;
    assert_ok(plm_encode(model, "by hand", 7, false, ids, 100, &n, &err), &err);
    plm_session *s = open_session(model, 0);
    assert_int_equal(plm_session_sample(s, &opt.sampling), -1); /* nothing there yet */
    for (size_t i = 0; i < h.calls; i++) {
        assert_ok(plm_session_sync(s, ids, n, &err), &err);
        ids[n++] = plm_session_sample(s, &opt.sampling);
        assert_int_equal(ids[n - 1], h.ids[i]);
    }
    plm_session_free(s);
}

static void greedy_answers_have_the_best_score(void **state) {
    (void)state;
    static struct heard h;
    plm_error err = {0};
    generate(model, "greedy", &(plm_generate_options){.max_tokens = 20}, &h);
    int32_t ids[100];
    double best[20], other[20];
    size_t n;
    assert_ok(plm_encode(model, "greedy", 6, false, ids, 100, &n, &err), &err);
    memcpy(ids + n, h.ids, h.calls * sizeof *ids);
    plm_session *s = open_session(model, 0);
    assert_ok(plm_score(s, ids, n + h.calls, n, best, &err), &err);
    for (size_t i = 0; i < h.calls; i++) {
        int32_t kept = ids[n + i];
        ids[n + i] = (int32_t)((kept + 1 + (int)i) % model->cfg.vocab);
        assert_ok(plm_score(s, ids, n + i + 1, n + i, other, &err), &err);
        assert_true(other[0] <= best[i] + 1e-9);
        ids[n + i] = kept;
    }
    plm_session_free(s);
}

static void senseless_options_are_refused(void **state) {
    (void)state;
    plm_error err = {0};
    plm_session *s = open_session(model, 0);
    int32_t id = 5, far = 1 << 20;
    const char *empty = "", *none = NULL;
    assert_int_equal(plm_generate(s, &id, 0, NULL, NULL, NULL, NULL, &err), PLM_EINVAL);
    assert_int_equal(plm_generate(s, &far, 1, NULL, NULL, NULL, NULL, &err), PLM_EINVAL);
    assert_int_equal(
        plm_generate(s, &id, 1, &(plm_generate_options){.max_tokens = -1}, NULL, NULL, NULL, &err),
        PLM_EINVAL);
    assert_int_equal(
        plm_generate(s, &id, 1, &(plm_generate_options){.stop = &empty, .n_stop = 1}, NULL, NULL, NULL, &err),
        PLM_EINVAL);
    assert_int_equal(
        plm_generate(s, &id, 1, &(plm_generate_options){.stop = &none, .n_stop = 1}, NULL, NULL, NULL, &err),
        PLM_EINVAL);
    assert_int_equal(plm_generate(s, &id, 1, &(plm_generate_options){.n_stop = 1}, NULL, NULL, NULL, &err),
                     PLM_EINVAL);
    assert_int_equal(
        plm_generate(s, &id, 1, &(plm_generate_options){.sampling = {.top_k = -2}}, NULL, NULL, NULL, &err),
        PLM_EINVAL);
    assert_int_equal(plm_generate(NULL, &id, 1, NULL, NULL, NULL, NULL, &err), PLM_EINVAL);
    plm_session_free(s);
    plm_session_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_come_whole),
        cmocka_unit_test(broken_characters_become_replacements),
        cmocka_unit_test(stop_texts_end_the_answer),
        cmocka_unit_test(stop_texts_are_found_wherever_they_are),
        cmocka_unit_test(lengths_are_kept),
        cmocka_unit_test(a_full_context_ends_the_answer),
        cmocka_unit_test(the_caller_may_stop),
        cmocka_unit_test(a_seed_repeats_an_answer),
        cmocka_unit_test(generating_is_syncing_and_sampling),
        cmocka_unit_test(greedy_answers_have_the_best_score),
        cmocka_unit_test(senseless_options_are_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
