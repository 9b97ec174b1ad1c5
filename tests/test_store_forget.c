/* Forgetting takes a record and all that came of it, and leaves no byte of it; an export is everything. */
#include <dirent.h>
#include <jansson.h>
#include "support_store.h"

struct paths {
    int n;
    char path[8][32];
};

static int note_path(void *ctx, const char *path) {
    struct paths *p = ctx;
    snprintf(p->path[p->n++], sizeof p->path[0], "%s", path);
    return 0;
}

/* Does any file of the folder hold these bytes, also in lower case as the word index keeps them? */
static bool folder_holds(const char *folder, const char *word) {
    DIR *dir = opendir(folder);
    bool found = false;
    for (struct dirent *e; (e = readdir(dir));) {
        char path[512];
        size_t len;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_type != DT_REG) {
            continue;
        }
        char *data = read_bytes(path, &len);
        for (size_t i = 0; i < len; i++) {
            data[i] = (char)(data[i] >= 'A' && data[i] <= 'Z' ? data[i] + 32 : data[i]);
        }
        found |= memmem(data, len, word, strlen(word)) != NULL;
        free(data);
    }
    closedir(dir);
    return found;
}

static void forgetting_a_record_takes_its_children(void **state) {
    const char *path = in_folder(*state, "s.db");
    plm_store *st = open_store(path);
    plm_error err = {0};
    struct family a = add_family(st, "ana", "apples", "a.gguf");
    struct family b = add_family(st, "ana", "pears", "b.gguf");
    plm_forgotten gone = {0};
    struct paths paths = {0};
    good(plm_store_forget(st, &(plm_query){.id = b.record}, &gone, note_path, &paths, &err), &err);
    assert_int_equal(gone.records, 1);
    assert_int_equal(gone.synthetic, 1);
    assert_int_equal(gone.replies, 1);
    assert_int_equal(gone.adapters, 1);
    assert_int_equal(paths.n, 1);
    assert_string_equal(paths.path[0], "b.gguf");
    plm_store_close(st);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM records"), 1);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM replies"), 1);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM synthetic"), 1);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM adapter_rows"), 2);
    // The last clean adapter answers instead.
    assert_int_equal(ask_file(path, "SELECT id FROM adapters WHERE state = 'active'"), a.adapter);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM adapters WHERE state = 'retired'"), 1);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM records_words WHERE records_words MATCH 'pears'"),
                     0);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM records_words WHERE records_words MATCH 'apples'"),
                     1);
}

static void an_example_of_two_records_goes_with_either(void **state) {
    const char *path = in_folder(*state, "s.db");
    plm_store *st = open_store(path);
    plm_error err = {0};
    int64_t two[] = {add(st, "ana", "note", "one", "One"), add(st, "ana", "note", "two", "Two")}, reply;
    plm_reply r = {.user = "ana",
                   .kind = "note",
                   .teacher = "t",
                   .call_hash = "h",
                   .text = "raw",
                   .sources = two,
                   .n_sources = 2};
    good(plm_store_add_reply(st, &r, &reply, &err), &err);
    // Its own source is the first record alone, but the teacher saw the second one when it wrote it.
    plm_synthetic s = {.user = "ana",
                       .kind = "note",
                       .mode = "new",
                       .input = "i",
                       .output = "o",
                       .verdict = "kept",
                       .teacher = "t",
                       .reply = reply,
                       .sources = two,
                       .n_sources = 1};
    int64_t id, row;
    good(plm_store_add_synthetic(st, &s, &id, &err), &err);
    row = -id;
    plm_installed a = {
        .user = "ana", .kind = "note", .path = "a.gguf", .scale = 1, .records = &row, .n_records = 1};
    good(plm_store_install(st, &a, NULL, &err), &err);
    plm_forgotten gone = {0};
    good(plm_store_forget(st, &(plm_query){.id = two[1]}, &gone, NULL, NULL, &err), &err);
    assert_int_equal(gone.records, 1);
    assert_int_equal(gone.synthetic, 1);
    assert_int_equal(gone.replies, 1);
    assert_int_equal(gone.adapters, 1);
    plm_store_close(st);
}

static void an_adapter_is_found_after_its_examples_were_cleared(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    int64_t record = add(st, "ana", "note", "one", "One"), id, row;
    plm_synthetic s = {.user = "ana",
                       .kind = "note",
                       .mode = "new",
                       .input = "i",
                       .output = "o",
                       .verdict = "kept",
                       .teacher = "t",
                       .sources = &record,
                       .n_sources = 1};
    good(plm_store_add_synthetic(st, &s, &id, &err), &err);
    row = -id;
    plm_installed a = {
        .user = "ana", .kind = "note", .path = "a.gguf", .scale = 1, .records = &row, .n_records = 1};
    good(plm_store_install(st, &a, NULL, &err), &err);
    good(plm_store_clear_synthetic(st, "ana", "note", &err), &err);
    plm_forgotten gone = {0};
    struct paths paths = {0};
    good(plm_store_forget(st, &(plm_query){.match = "one"}, &gone, note_path, &paths, &err), &err);
    assert_int_equal(gone.adapters, 1);
    assert_int_equal(paths.n, 1);
    plm_store_close(st);
}

static void all_of_a_person_goes_and_nobody_elses(void **state) {
    const char *path = in_folder(*state, "s.db");
    plm_store *st = open_store(path);
    plm_error err = {0};
    add_family(st, "ana", "apples", "a.gguf");
    add_family(st, "bo", "pears", "b.gguf");
    plm_synthetic loose = {.user = "ana",
                           .kind = "note",
                           .mode = "new",
                           .input = "i",
                           .output = "o",
                           .verdict = "kept",
                           .teacher = "t"};
    good(plm_store_add_synthetic(st, &loose, NULL, &err), &err);
    good(plm_store_add_consent(
             st, &(plm_consent){.user = "ana", .endpoint = "e", .share = "s", .text = "yes"}, NULL, &err),
         &err);
    plm_forgotten gone = {0};
    good(plm_store_forget(st, &(plm_query){.user = "ana"}, &gone, NULL, NULL, &err), &err);
    assert_int_equal(gone.records, 1);
    assert_int_equal(gone.synthetic, 2);
    plm_store_close(st);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM records WHERE user = 'bo'"), 1);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM synthetic WHERE user = 'bo'"), 1);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM adapters WHERE user = 'bo' AND state = 'active'"),
                     1);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM consents"),
                     1); // what was agreed to stays on record
}

static void an_empty_query_forgets_nothing(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    add(st, "ana", "note", "one", "One");
    assert_int_equal(plm_store_forget(st, &(plm_query){0}, NULL, NULL, NULL, &err), PLM_EINVAL);
    assert_int_equal(plm_store_forget(st, NULL, NULL, NULL, NULL, &err), PLM_EINVAL);
    assert_int_equal(plm_store_forget(st, &(plm_query){.limit = 3}, NULL, NULL, NULL, &err), PLM_EINVAL);
    plm_forgotten gone = {.records = 9};
    good(plm_store_forget(st, &(plm_query){.match = "nothing like it"}, &gone, NULL, NULL, &err), &err);
    assert_int_equal(gone.records, 0);
    assert_int_equal(count(st, NULL), 1);
    plm_store_close(st);
}

static void no_byte_of_a_forgotten_record_remains(void **state) {
    struct folder *f = *state;
    const char *path = in_folder(f, "s.db");
    plm_store *st = open_store(path);
    plm_error err = {0};
    char text[4096];
    // Among many others, in several transactions, so that its pages have been split, moved and merged.
    for (int round = 0; round < 8; round++) {
        good(plm_store_begin(st, &err), &err);
        for (int i = 0; i < 60; i++) {
            int n = snprintf(text, sizeof text, "%d %d ", round, i);
            bool canary = (i == 30 && round % 2);
            for (int k = 0; k < 40 + i * 4; k++) {
                n += snprintf(text + n, sizeof text - (size_t)n, "%s%d ", canary ? "Zanzibarkanarie" : "word",
                              k % 7);
            }
            if (canary) {
                add_family(st, "ana", text, "a.gguf");
            } else {
                add(st, "ana", "note", text, "plain");
            }
        }
        good(plm_store_end(st, true, &err), &err);
    }
    good(plm_store_set(st, "derived.draft", text, &err), &err);
    good(plm_store_set(st, "derived.other", "zanzibarkanarie0", &err), &err);
    assert_true(folder_holds(f->path, "zanzibarkanarie"));
    plm_forgotten gone = {0};
    good(plm_store_forget(st, &(plm_query){.match = "Zanzibarkanarie3"}, &gone, NULL, NULL, &err), &err);
    assert_int_equal(gone.records, 4);
    assert_false(folder_holds(f->path, "zanzibarkanarie")); // while it is still open
    assert_int_equal(count(st, "ana"), 8 * 60 - 4);
    plm_store_close(st);
    assert_false(folder_holds(f->path, "zanzibarkanarie"));
    assert_int_equal(ask_file(in_folder(f, "s.db"), "PRAGMA integrity_check"), 1);
}

static void a_cut_off_compaction_is_made_good_at_the_next_opening(void **state) {
    const char *path = in_folder(*state, "s.db");
    plm_store *st = open_store(path);
    for (int i = 0; i < 200; i++) {
        char text[600];
        memset(text, 'a' + i % 26, sizeof text - 1);
        text[sizeof text - 1] = '\0';
        snprintf(text, 16, "%d", i);
        add(st, "ana", "note", text, text);
    }
    plm_store_close(st);
    change_file(path, "DELETE FROM records; INSERT INTO settings VALUES ('store.compact', 'due')");
    assert_true(ask_file(path, "PRAGMA freelist_count") > 10);
    plm_store_close(open_store(path));
    assert_int_equal(ask_file(path, "PRAGMA freelist_count"), 0);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM settings"), 0);
}

static void forgetting_inside_a_transaction_is_refused(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    good(plm_store_begin(st, &err), &err);
    assert_int_equal(plm_store_forget(st, &(plm_query){.user = "a"}, NULL, NULL, NULL, &err), PLM_EINVAL);
    good(plm_store_end(st, true, &err), &err);
    plm_store_close(st);
}

static void an_export_holds_every_column_of_a_person(void **state) {
    struct folder *f = *state;
    plm_store *st = open_store(in_folder(f, "s.db"));
    plm_error err = {0};
    struct family a = add_family(st, "ana", "line\nbreak \"quoted\" ünï", "a.gguf");
    add_family(st, "bo", "secret", "b.gguf");
    good(plm_store_add_consent(
             st, &(plm_consent){.user = "ana", .endpoint = "e", .share = "s", .text = "yes"}, NULL, &err),
         &err);
    good(plm_store_add_egress(st, &(plm_egress){.user = "ana", .endpoint = "e", .sha256 = "x", .bytes = 3},
                              NULL, &err),
         &err);
    good(plm_store_export(st, "ana", in_folder(f, "e.jsonl"), &err), &err);
    plm_store_close(st);
    FILE *file = fopen(in_folder(f, "e.jsonl"), "r");
    char line[8192], tables[512] = "";
    while (fgets(line, sizeof line, file)) {
        json_t *row = json_loads(line, 0, NULL);
        assert_non_null(row);
        const char *table = json_string_value(json_object_get(row, "table"));
        strcat(strcat(tables, table), " ");
        assert_null(strstr(line, "secret"));
        if (!strcmp(table, "records")) {
            assert_string_equal(json_string_value(json_object_get(row, "input")),
                                "line\nbreak \"quoted\" ünï");
            assert_int_equal(json_integer_value(json_object_get(row, "id")), a.record);
            assert_int_equal(json_object_size(row), 11);
        }
        if (!strcmp(table, "synthetic")) {
            assert_true(json_number_value(json_object_get(row, "z")) == -0.75);
        }
        json_decref(row);
    }
    fclose(file);
    assert_string_equal(tables,
                        "store records replies reply_sources synthetic synthetic_sources consents egress "
                        "adapters adapter_rows adapter_rows adapter_sources ");
    struct stat info;
    assert_int_equal(stat(in_folder(f, "e.jsonl"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_drop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(forgetting_a_record_takes_its_children),
        TEST(an_example_of_two_records_goes_with_either),
        TEST(an_adapter_is_found_after_its_examples_were_cleared),
        TEST(all_of_a_person_goes_and_nobody_elses),
        TEST(an_empty_query_forgets_nothing),
        TEST(no_byte_of_a_forgotten_record_remains),
        TEST(a_cut_off_compaction_is_made_good_at_the_next_opening),
        TEST(forgetting_inside_a_transaction_is_refused),
        TEST(an_export_holds_every_column_of_a_person),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
