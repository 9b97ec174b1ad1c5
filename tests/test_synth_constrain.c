/* test_synth_constrain.c: replies that keep to a form. A random model writes random logits, so that nothing
 * but the form makes its replies whole: every one must parse, at every limit, and hold the lines asked for.
 */
#include "support_synth.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "synth/constrain.h"
#include "synth/inside.h"
#include "tiny_model.h"

static const char *const fields[] = {"input", "output"};

/* Any bytes, offered one by one and in pieces: what is taken is whole lines of valid JSON in the end. */
static void any_bytes_lead_to_whole_lines(void **s) {
    (void)s;
    struct rng r;
    rng_seed(&r, 8, 0);
    for (int round = 0; round < 3000; round++) {
        plm_call c = {.fields = fields, .n_fields = 1 + rng_below(&r, 2), .lines = 1 + rng_below(&r, 4)};
        int most = 60 + (int)rng_below(&r, 300);
        struct form *f = NULL;
        struct place p = {0};
        struct bytes text;
        bytes_init(&text, 1 << 16);
        assert_int_equal(form_open(&f, &c, most, NULL), PLM_OK);
        for (int left = most; form_left(f, &p); left--) {
            assert_true(form_left(f, &p) <= (size_t)left);
            char best[6];
            size_t best_n = 0;
            for (int tries = 0; tries < 4000 && !best_n; tries++) {
                char piece[6];
                size_t n = tries < 300 ? 1 + rng_below(&r, 5) : 1;
                for (size_t i = 0; i < n; i++)
                    piece[i] = tries > 3700 ? (char)(tries - 3744) : (char)rng_below(&r, 256);
                struct place to = p;
                if (form_take(f, &to, piece, n) && form_left(f, &to) <= (size_t)left - 1) {
                    memcpy(best, piece, n);
                    best_n = n;
                }
            }
            assert_true(best_n > 0);
            assert_true(form_take(f, &p, best, best_n));
            bytes_put(&text, best, best_n);
        }
        struct str rest = {text.data, text.len}, line;
        size_t lines = 0;
        while (str_cut(&rest, '\n', &line)) {
            json_t *doc = NULL;
            assert_int_equal(json_parse(&doc, line.p, line.n, "a line", NULL), PLM_OK);
            assert_int_equal(json_integer_value(json_object_get(doc, "n")), ++lines);
            for (size_t i = 0; i < c.n_fields; i++)
                assert_true(str_trim(str_of(json_text(doc, fields[i]))).n > 0);
            assert_int_equal(json_object_size(doc), 1 + c.n_fields);
            json_decref(doc);
        }
        assert_true(lines >= 1 && lines <= c.lines);
        form_close(f);
        bytes_free(&text);
    }
    struct form *f = NULL;
    plm_call c = {.fields = fields, .n_fields = 2, .lines = 2};
    assert_int_equal(form_open(&f, &c, 20, NULL), PLM_ELIMIT);
    assert_null(f);
}

static plm_teacher *random_teacher(char path[64], const char *arch, int parallel) {
    plm_teacher *t = NULL;
    plm_error err = {0};
    snprintf(path, 64, "/tmp/plm-constrain-%d.gguf", (int)getpid());
    assert_int_equal(tiny_model_write(path, &(struct tiny_model){.arch = arch, .context = 512}, NULL),
                     PLM_OK);
    plm_status st =
        plm_teacher_open(&t, &(plm_teacher_options){.spec = path, .threads = 1, .parallel = parallel}, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    return t;
}

static void every_reply_of_a_random_model_parses(void **s) {
    (void)s;
    char path[64];
    plm_teacher *t = random_teacher(path, "qwen2", 0);
    size_t tokens = 0;
    for (int i = 0; i < 60; i++) {
        plm_call c = {.user = "go on",
                      .temperature = i % 4 ? .8f : 2,
                      .top_p = .95f,
                      .max_tokens = 45 + i * 3,
                      .seed = (uint64_t)i,
                      .fields = fields,
                      .n_fields = 1 + (size_t)i % 2,
                      .lines = 1 + (size_t)i % 3};
        plm_answer a, again;
        assert_int_equal(plm_teacher_ask(t, &c, 1, &a, NULL), PLM_OK);
        assert_string_equal(a.finish, "stop");
        assert_true(a.tokens_out <= c.max_tokens);
        tokens += (size_t)a.tokens_out;
        struct str rest = str_of(a.text), line;
        size_t lines = 0;
        while (str_cut(&rest, '\n', &line)) {
            json_t *doc = NULL;
            assert_int_equal(json_parse(&doc, line.p, line.n, "a line", NULL), PLM_OK);
            assert_int_equal(json_integer_value(json_object_get(doc, "n")), ++lines);
            for (size_t k = 0; k < c.n_fields; k++)
                assert_non_null(json_text(doc, fields[k]));
            json_decref(doc);
        }
        assert_true(lines >= 1);
        if (i % 10 == 0) {
            assert_int_equal(plm_teacher_ask(t, &c, 1, &again, NULL), PLM_OK);
            assert_string_equal(a.text, again.text);
            plm_free(again.text);
        }
        plm_free(a.text);
    }
    print_message("60 replies of %zu tokens\n", tokens);
    plm_teacher_close(t);
    unlink(path);
}

static void a_choice_is_one_of_the_texts(void **s) {
    (void)s;
    static const char *const choices[] = {"comedy", "dark comedy", "[1]", "5"};
    char path[64];
    plm_teacher *t = random_teacher(path, "llama", 0);
    int seen[4] = {0};
    for (int i = 0; i < 40; i++) {
        plm_call c = {.system = "be short",
                      .user = "which?",
                      .temperature = 40,
                      .max_tokens = 4,
                      .seed = (uint64_t)i,
                      .choices = choices,
                      .n_choices = 4};
        plm_answer a;
        assert_int_equal(plm_teacher_ask(t, &c, 1, &a, NULL), PLM_OK);
        int which = -1;
        for (int k = 0; k < 4; k++)
            which = strcmp(a.text, choices[k]) == 0 ? k : which;
        assert_true(which >= 0);
        seen[which]++;
        plm_free(a.text);
    }
    assert_true(seen[2] > 0 && seen[3] > 0);
    plm_teacher_close(t);
    unlink(path);
}

/* Forms, free texts and choices, of every length: to the byte what each call gets alone, in any number at
 * once and in any order. */
static void calls_made_together_get_what_each_gets_alone(void **s) {
    (void)s;
    enum { CALLS = 30 };
    static const char *const choices[] = {"yes", "no", "it depends on the weather"};
    static const char *const archs[] = {"qwen2", "llama", "gemma3"};
    for (size_t k = 0; k < 3; k++) {
        char path[64], prompt[CALLS][900];
        plm_teacher *t = random_teacher(path, archs[k], 0);
        plm_call calls[CALLS];
        plm_answer together[CALLS], alone;
        for (int i = 0; i < CALLS; i++) {
            invent(prompt[i], sizeof prompt[i], i, i % 7 == 6 ? 90 : 3 + i * 5 % 20);
            calls[i] = (plm_call){.system = i % 3 ? "Write." : NULL,
                                  .user = prompt[i],
                                  .temperature = i % 5 ? .9f : 0,
                                  .top_p = i % 2 ? .95f : 0,
                                  .max_tokens = i % 4 ? 20 + i * 7 % 60 : 0,
                                  .seed = (uint64_t)i};
            if (i % 3 == 0) {
                calls[i].fields = fields;
                calls[i].n_fields = 1 + (size_t)i % 2;
                calls[i].lines = 2;
            } else if (i % 3 == 1) {
                calls[i].choices = choices;
                calls[i].n_choices = 3;
            }
        }
        assert_int_equal(plm_teacher_ask(t, calls, CALLS, together, NULL), PLM_OK);
        size_t none = 0, cut = 0;
        for (int i = CALLS; i-- > 0;) {
            assert_int_equal(plm_teacher_ask(t, &calls[i], 1, &alone, NULL), PLM_OK);
            assert_string_equal(alone.text, together[i].text);
            assert_string_equal(alone.finish, together[i].finish);
            assert_int_equal(alone.tokens_in, together[i].tokens_in);
            assert_int_equal(alone.tokens_out, together[i].tokens_out);
            none += strcmp(alone.finish, "none") == 0;
            cut += strcmp(alone.finish, "length") == 0;
            plm_free(alone.text);
            plm_free(together[i].text);
        }
        assert_true(none > 0 && none < 6 && cut > 0);
        assert_int_equal(plm_teacher_used(t).calls, 2 * CALLS);
        plm_teacher_close(t);
        unlink(path);
    }
}

enum { GUESTS = 5, EACH = 7 };

struct guest {
    pthread_t thread;
    plm_teacher *teacher;
    plm_call calls[EACH];
    plm_answer a[EACH];
    char *bodies[EACH];
    size_t begun, back, allowed; /* allowed: calls that may leave, then it wants to stop */
    plm_status st;
};

static plm_status may_begin(void *ctx, size_t i, plm_error *err) {
    struct guest *g = ctx;
    (void)i;
    return g->begun++ < g->allowed ? PLM_OK : fail(err, PLM_ESTOPPED, "enough");
}

static plm_status is_back(void *ctx, size_t i, plm_answer *a, plm_error *err) {
    struct guest *g = ctx;
    (void)err;
    g->a[i] = *a;
    g->back++;
    return PLM_OK;
}

static void *ask_as_guest(void *ctx) {
    struct guest *g = ctx;
    struct batch b = {.calls = g->calls,
                      .bodies = g->bodies,
                      .n = EACH,
                      .ctx = g,
                      .leaving = may_begin,
                      .arrived = is_back};
    g->st = teacher_ask_all(g->teacher, &b, NULL);
    return NULL;
}

/* One of them stops halfway; the others get what they would alone. */
static void threads_share_a_teacher(void **s) {
    (void)s;
    static struct guest g[GUESTS];
    char path[64];
    plm_teacher *t = random_teacher(path, "qwen2", 0);
    for (int k = 0; k < GUESTS; k++) {
        g[k] = (struct guest){.teacher = t, .allowed = k == 2 ? 3 : EACH};
        for (int i = 0; i < EACH; i++)
            g[k].calls[i] = (plm_call){.user = i % 2 ? "go on" : "tell me of the river and the town",
                                       .temperature = .8f,
                                       .top_p = .95f,
                                       .max_tokens = 45 + 5 * i,
                                       .seed = (uint64_t)(10 * k + i),
                                       .fields = fields,
                                       .n_fields = (size_t)i % 2,
                                       .lines = 1};
    }
    for (int k = 0; k < GUESTS; k++)
        assert_int_equal(pthread_create(&g[k].thread, NULL, ask_as_guest, &g[k]), 0);
    for (int k = 0; k < GUESTS; k++)
        assert_int_equal(pthread_join(g[k].thread, NULL), 0);
    for (int k = 0; k < GUESTS; k++) {
        assert_int_equal(g[k].st, k == 2 ? PLM_ESTOPPED : PLM_OK);
        assert_true(k == 2 ? g[k].back <= 3 : g[k].back == EACH);
        for (int i = 0; i < EACH; i++) {
            plm_answer alone;
            if (g[k].a[i].text) {
                assert_int_equal(plm_teacher_ask(t, &g[k].calls[i], 1, &alone, NULL), PLM_OK);
                assert_string_equal(g[k].a[i].text, alone.text);
                plm_free(alone.text);
                plm_free(g[k].a[i].text);
            }
        }
    }
    plm_teacher_close(t);
    unlink(path);
}

static void a_call_that_makes_no_sense_is_refused(void **s) {
    (void)s;
    char path[64];
    plm_teacher *t = random_teacher(path, "llama", 0);
    plm_call calls[] = {{.user = "a"},
                        {.user = "a", .temperature = -1},
                        {.user = "a", .temperature = NAN},
                        {.user = "a", .top_p = 1.5f},
                        {.system = "b"}};
    for (size_t i = 1; i < 5; i++) {
        plm_answer a;
        plm_error err = {0};
        assert_int_equal(plm_teacher_ask(t, &calls[i], 1, &a, &err), PLM_EINVAL);
        assert_true(*err.text && !a.text);
    }
    // Those before it get their answers.
    plm_answer some[2];
    assert_int_equal(plm_teacher_ask(t, calls, 2, some, NULL), PLM_EINVAL);
    assert_true(some[0].text && !some[1].text);
    plm_free(some[0].text);
    plm_teacher_close(t);
    unlink(path);
}

static void each_failing_allocation_is_a_clean_status(void **s) {
    (void)s;
    char path[64];
    static const char *const choices[] = {"yes", "no"};
    plm_teacher *t = random_teacher(path, "qwen2", 2);
    plm_call calls[] = {{.user = "a", .max_tokens = 4},
                        {.user = "b", .max_tokens = 45, .fields = fields, .n_fields = 1, .lines = 1},
                        {.user = "c", .choices = choices, .n_choices = 2}};
    plm_answer good[3], a[3];
    plm_status st = PLM_ENOMEM;
    long i = 1;
    for (; st; i++) {
        mem_fail_at(i, false);
        st = plm_teacher_ask(t, calls, 3, a, NULL);
        mem_fail_at(0, false);
        assert_true(st == PLM_OK || st == PLM_ENOMEM);
        for (int k = 0; k < 3 && st; k++)
            plm_free(a[k].text);
        // What it holds from then on must not change an answer; a fresh one has to be made again.
        if (st && i % 16 == 0) {
            plm_teacher_close(t);
            plm_error err = {0};
            assert_int_equal(
                plm_teacher_open(&t, &(plm_teacher_options){.spec = path, .threads = 1, .parallel = 2}, &err),
                PLM_OK);
        }
    }
    assert_true(i > 10);
    assert_int_equal(plm_teacher_ask(t, calls, 3, good, NULL), PLM_OK);
    for (int k = 0; k < 3; k++) {
        assert_string_equal(a[k].text, good[k].text);
        plm_free(a[k].text);
        plm_free(good[k].text);
    }
    plm_teacher_close(t);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_bytes_lead_to_whole_lines),
        cmocka_unit_test(every_reply_of_a_random_model_parses),
        cmocka_unit_test(a_choice_is_one_of_the_texts),
        cmocka_unit_test(calls_made_together_get_what_each_gets_alone),
        cmocka_unit_test(threads_share_a_teacher),
        cmocka_unit_test(a_call_that_makes_no_sense_is_refused),
        cmocka_unit_test(each_failing_allocation_is_a_clean_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
