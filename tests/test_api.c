/* test_api.c: libplm as another program sees it: plm.h and the shared library alone, on a tiny model. */
#include <plm.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[] = "/tmp/plm-api-XXXXXX", model_path[64], adapter_path[64];

#define OK(call)                                                 \
    do {                                                         \
        if (call)                                                \
            fail_msg("%s: %s", plm_status_name(e.code), e.text); \
    } while (0)

/* Trains an adapter to answer a question in one way; returns the last loss. */
static double learn(const plm_model *m, plm_adapter *a) {
    plm_error e;
    plm_trainer *t;
    plm_message talk[] = {{"user", "What is my cat called?"}, {"assistant", "Ada"}};
    plm_example ex = {.messages = talk, .n_messages = 2};
    plm_train_options how = {.steps = 60, .batch = 1, .rate = 0.02f};
    plm_train_report r = {0};
    OK(plm_trainer_new(&t, m, a, &how, &e));
    OK(plm_trainer_add(t, &ex, &e));
    while (!r.done)
        OK(plm_trainer_step(t, &r, &e));
    plm_trainer_free(t);
    return r.loss;
}

static int keep(void *ctx, int32_t id, const char *text, size_t len) {
    (void)id;
    strncat(ctx, text, len);
    return 0;
}

/* The answer with an adapter, or of the base (NULL), into answer. */
static void ask(const plm_model *m, const plm_adapter *a, char answer[200]) {
    plm_error e;
    plm_session *s;
    int32_t ids[100];
    size_t n;
    plm_message question = {"user", "What is my cat called?"};
    plm_lora use = {a, 1};
    plm_generate_options how = {.max_tokens = 6};
    answer[0] = 0;
    OK(plm_session_new(&s, m, NULL, &e));
    OK(plm_session_use(s, &use, a ? 1 : 0, &e));
    OK(plm_chat_encode(m, &question, 1, ids, NULL, 100, &n, &e));
    OK(plm_generate(s, ids, n, &how, keep, answer, NULL, &e));
    plm_session_free(s);
}

static void what_was_trained_is_answered_after_saving(void **state) {
    (void)state;
    plm_error e;
    plm_model *m;
    plm_adapter *a, *again;
    char before[200], after[200];
    OK(plm_model_open(&m, model_path, NULL, &e));
    OK(plm_adapter_new(&a, m, &(plm_adapter_options){.rank = 8, .targets = PLM_ALL_LINEAR}, &e));
    assert_true(learn(m, a) < 0.1);
    OK(plm_adapter_save(a, adapter_path, &e));
    OK(plm_adapter_load(&again, m, adapter_path, &e));
    ask(m, NULL, before);
    ask(m, again, after);
    assert_string_not_equal(before, "Ada");
    assert_string_equal(after, "Ada");
    plm_adapter_free(again);
    plm_adapter_free(a);
    plm_model_close(m);
}

static void a_failure_is_a_code_and_one_line(void **state) {
    (void)state;
    plm_error e = {0};
    plm_model *m = NULL;
    assert_int_equal(plm_model_open(&m, "/nonexistent.gguf", NULL, &e), PLM_ENOTFOUND);
    assert_null(m);
    assert_int_equal(e.code, PLM_ENOTFOUND);
    assert_non_null(strstr(e.text, "/nonexistent.gguf"));
    assert_null(strchr(e.text, '\n'));
    assert_int_equal(plm_model_open(&m, "/nonexistent.gguf", NULL, NULL), PLM_ENOTFOUND);
}

static int count(void *ctx, const char *body) {
    assert_non_null(strstr(body, "\"messages\""));
    ++*(int *)ctx;
    return 0;
}

static void a_teacher_is_asked_and_its_kept_replies_are_replayed(void **state) {
    (void)state;
    plm_error e;
    plm_teacher *t;
    plm_answer answer;
    plm_store *store;
    plm_kinds *kinds;
    char path[64], *request, *candidates = NULL, text[80];
    int bodies = 0;
    static const char *const choices[] = {"yes", "no"};
    snprintf(path, sizeof path, "%s/store.db", folder);
    plm_call call = {.user = "Well?", .max_tokens = 8, .choices = choices, .n_choices = 2};
    OK(plm_teacher_open(&t, &(plm_teacher_options){.spec = model_path}, &e));
    OK(plm_teacher_ask(t, &call, 1, &answer, &e));
    assert_true(strcmp(answer.text, "yes") == 0 || strcmp(answer.text, "no") == 0);
    assert_true(plm_teacher_is_local(t) && plm_teacher_used(t).calls == 1);
    OK(plm_store_open(&store, path, false, &e));
    OK(plm_kinds_open(&kinds, NULL, &e));
    for (int i = 0; i < 8; i++) {
        snprintf(text, sizeof text, "The harbour had %d boats that morning, and %d were blue", i + 3, i);
        OK(plm_store_add(store,
                         &(plm_record){.user = "ada", .kind = "note", .input = text, .output = text + 11},
                         NULL, NULL, &e));
    }
    plm_augment_policy policy = {.user = "ada", .kind = plm_kind_find(kinds, "note"), .unredacted = true};
    OK(plm_augment_draft(store, &policy, &request, &e));
    OK(plm_augment_preview(request, t, count, &bodies, NULL, &e));
    assert_true(bodies > 0);
    plm_augment_run run = {.user = "ada", .replay_of = plm_teacher_name(t)};
    assert_int_equal(plm_augment_write(store, request, NULL, &run, &candidates, &e), PLM_EREMOTE);
    assert_non_null(strstr(e.text, "is not among the kept replies"));
    plm_free(answer.text);
    plm_free(request);
    plm_kinds_close(kinds);
    plm_store_close(store);
    plm_teacher_close(t);
    unlink(path);
}

static void closing_nothing_is_fine(void **state) {
    (void)state;
    plm_model_close(NULL);
    plm_adapter_free(NULL);
    plm_session_free(NULL);
    plm_trainer_free(NULL);
    plm_kinds_close(NULL);
    plm_store_close(NULL);
    plm_teacher_close(NULL);
    plm_free(NULL);
}

static int make_model(void **state) {
    (void)state;
    char command[400];
    if (!mkdtemp(folder))
        return -1;
    snprintf(model_path, sizeof model_path, "%s/tiny.gguf", folder);
    snprintf(adapter_path, sizeof adapter_path, "%s/adapter.gguf", folder);
    snprintf(command, sizeof command, "%s %s", MAKE_TINY_MODEL, model_path);
    return system(command);
}

static int remove_model(void **state) {
    (void)state;
    char command[80];
    snprintf(command, sizeof command, "rm -rf %s", folder); // the store's lock with it
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_trained_is_answered_after_saving),
        cmocka_unit_test(a_failure_is_a_code_and_one_line),
        cmocka_unit_test(a_teacher_is_asked_and_its_kept_replies_are_replayed),
        cmocka_unit_test(closing_nothing_is_fine),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
