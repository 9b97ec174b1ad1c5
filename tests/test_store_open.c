/* Opening: modes, locks, foreign and damaged files. Whatever is refused is left as it was, byte for byte. */
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "store/db.h"
#include "support_store.h"

static plm_status try_open(const char *path, bool read_only, plm_error *err) {
    plm_store *st = NULL;
    plm_status rc = plm_store_open(&st, path, read_only, err);
    assert_true((rc == PLM_OK) == (st != NULL));
    plm_store_close(st);
    return rc;
}

/* Refused both for reading and for writing, with these words, and not a byte changed. */
static void refused(const char *path, plm_status want, const char *words) {
    size_t before, after;
    char *old = read_bytes(path, &before);
    for (int read_only = 0; read_only < 2; read_only++) {
        plm_error err = {0};
        plm_status rc = try_open(path, read_only, &err);
        if (rc != want || !strstr(err.text, words)) {
            fail_msg("%s: %s (%s)", plm_status_name(rc), err.text, words);
        }
        assert_null(strchr(err.text, '\n'));
    }
    char *new = read_bytes(path, &after);
    assert_int_equal(before, after);
    assert_memory_equal(old, new, before);
    free(old);
    free(new);
}

static void files_and_folders_are_the_owners_alone(void **state) {
    const char *path = in_folder(*state, "deep/er/s.db");
    mode_t mask = umask(0);
    plm_store *st = open_store(path);
    add(st, "a", "note", "x", "y");
    struct stat info;
    const struct {
        const char *name;
        mode_t mode;
    } all[] = {{"deep", 0700}, {"deep/er", 0700}, {"deep/er/s.db", 0600}, {"deep/er/s.db.lock", 0600}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(stat(in_folder(*state, all[i].name), &info), 0);
        assert_int_equal(info.st_mode & 0777, all[i].mode);
    }
    plm_store_close(st);
    umask(mask);
}

static void a_store_that_is_not_there_cannot_be_read(void **state) {
    plm_error err = {0};
    assert_int_equal(try_open(in_folder(*state, "no.db"), true, &err), PLM_ENOTFOUND);
    assert_int_equal(access(in_folder(*state, "no.db"), F_OK), -1);
    assert_int_equal(try_open("", false, &err), PLM_EINVAL);
    assert_int_equal(try_open(":memory:", false, &err), PLM_EINVAL);
    assert_int_equal(try_open(in_folder(*state, ""), false, &err), PLM_EINVAL);
}

static void an_empty_file_becomes_a_store(void **state) {
    const char *path = in_folder(*state, "s.db");
    write_text(path, "");
    plm_store *st = open_store(path);
    add(st, "a", "note", "x", "y");
    plm_store_close(st);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM records"), 1);
}

static void foreign_files_are_refused_untouched(void **state) {
    const char *path = in_folder(*state, "s.db");
    write_text(path, "just some text that is long enough to be more than a header of one hundred bytes, "
                     "which is what a database begins with.");
    refused(path, PLM_EFORMAT, "is not a plm store");
    write_text(path, "short");
    refused(path, PLM_EFORMAT, "is not a plm store");
    unlink(path);
    change_file(path, "CREATE TABLE t (a)");
    refused(path, PLM_EFORMAT, "another program");
    unlink(path);
    plm_store_close(open_store(path));
    change_file(path, "PRAGMA user_version = 99");
    refused(path, PLM_ENOTSUP, "newer plm");
    change_file(path, "PRAGMA user_version = -3");
    refused(path, PLM_ENOTSUP, "newer plm");
}

static void a_changed_schema_is_refused_untouched(void **state) {
    static const char *const changes[] = {
        "CREATE TRIGGER spy AFTER INSERT ON records BEGIN DELETE FROM consents; END",
        "CREATE VIEW records_view AS SELECT * FROM records",
        "CREATE TABLE extra (a)",
        "DROP TABLE settings",
        "ALTER TABLE records ADD COLUMN spy TEXT",
        "CREATE INDEX i ON records (input)",
        ("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET"
         " sql = replace(sql, 'ON DELETE CASCADE', '') WHERE name = 'synthetic'"),
    };
    const char *path = in_folder(*state, "s.db");
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        unlink(path);
        plm_store_close(open_store(path));
        change_file(path, changes[i]);
        refused(path, PLM_EFORMAT, "has changed its tables");
    }
}

/* A small store with some of everything, as bytes. */
static char *sample(const char *path, size_t *len) {
    plm_store *st = open_store(path);
    for (int i = 0; i < 6; i++) {
        char text[64], adapter[24];
        snprintf(text, sizeof text, "text number %d", i);
        snprintf(adapter, sizeof adapter, "%d.gguf", i);
        add_family(st, i % 2 ? "ana" : "bo", text, adapter);
    }
    plm_store_close(st);
    return read_bytes(path, len);
}

static int ignore(void *ctx, const plm_record *r) {
    (void)ctx;
    return r->user == NULL;
}

/* Uses all of a store that may be damaged: any status is fine, a crash is not. */
static void exercise(const char *path) {
    plm_store *st = NULL;
    if (plm_store_open(&st, path, false, NULL)) {
        return;
    }
    plm_record r = {.user = "ana", .kind = "note", .input = "new", .output = "row"};
    plm_status rc = plm_store_find(st, NULL, ignore, NULL, NULL);
    rc |= plm_store_find(st, &(plm_query){.match = "text number"}, ignore, NULL, NULL);
    rc |= plm_store_add(st, &r, NULL, NULL, NULL);
    rc |= plm_store_forget(st, &(plm_query){.match = "number"}, NULL, NULL, NULL, NULL);
    rc |= plm_store_activate(st, "ana", "note", 0, NULL);
    (void)rc;
    plm_store_close(st);
}

static void truncated_files_are_refused(void **state) {
    const char *path = in_folder(*state, "s.db");
    size_t len;
    char *data = sample(path, &len);
    assert_true(len > 64 * 1024);
    for (size_t cut = 1; cut < len; cut += cut < 200 ? 13 : 2777) {
        write_bytes(path, data, cut);
        plm_error err = {0};
        plm_status rc = try_open(path, false, &err);
        if (rc != PLM_EFORMAT) {
            fail_msg("cut at %zu: %s %s", cut, plm_status_name(rc), err.text);
        }
    }
    free(data);
}

static void flipped_bits_never_crash_and_headers_are_caught(void **state) {
    const char *path = in_folder(*state, "s.db");
    size_t len;
    char *data = sample(path, &len);
    uint64_t seed = 12345;
    for (int round = 0; round < 400; round++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t at = round < 100 ? (size_t)round : (size_t)(seed >> 33) % len;
        char kept = data[at];
        data[at] = (char)(data[at] ^ 1 << (seed >> 60 & 7));
        write_bytes(path, data, len);
        exercise(path);
        data[at] = kept;
    }
    write_bytes(path, data, len);
    assert_int_equal(ask_file(path, "PRAGMA integrity_check"), 1);
    for (int i = 0; i < 16; i++) {
        data[i] ^= 1;
        write_bytes(path, data, len);
        refused(path, PLM_EFORMAT, "is not a plm store");
        data[i] ^= 1;
    }
    free(data);
}

static void a_journal_of_another_database_does_no_harm(void **state) {
    struct folder *f = *state;
    char path[100], journal[100];
    snprintf(path, sizeof path, "%s/s.db", f->path);
    snprintf(journal, sizeof journal, "%s/s.db-journal", f->path);
    size_t len;
    free(sample(path, &len));
    write_text(journal, "this is no journal at all, but it lies where one would");
    plm_store *st = open_store(path);
    assert_int_equal(count(st, NULL), 6);
    plm_store_close(st);
}

static void a_second_writer_is_told_who_holds_it(void **state) {
    const char *path = in_folder(*state, "s.db");
    prctl(PR_SET_NAME, "the-holder"); // an emulator has a name of its own
    plm_store *st = open_store(path);
    char holder[64], want[32];
    lock_holder(path, holder);
    snprintf(want, sizeof want, "process %d (the-holder", (int)getpid());
    assert_memory_equal(holder, want, strlen(want));
    pid_t child = fork();
    if (child == 0) {
        plm_store *second = NULL;
        plm_error err = {0};
        plm_status rc = plm_store_open(&second, path, false, &err);
        _exit(rc == PLM_EBUSY && strstr(err.text, want) ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    plm_store_close(st);
    lock_holder(path, holder);
    assert_string_equal(holder, "another process");
    plm_store_close(open_store(path)); // free again
}

static void a_dead_holder_leaves_no_lock(void **state) {
    const char *path = in_folder(*state, "s.db");
    pid_t child = fork();
    if (child == 0) {
        plm_store *st = NULL;
        if (plm_store_open(&st, path, false, NULL)) {
            _exit(1);
        }
        raise(SIGKILL);
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    plm_store_close(open_store(path));
}

static void a_reader_waits_and_then_says_who_writes(void **state) {
    const char *path = in_folder(*state, "s.db");
    plm_store *st = open_store(path), *reader = NULL;
    plm_error err = {0};
    add(st, "a", "note", "x", "y");
    good(plm_store_open(&reader, path, true, &err), &err);
    sqlite3_busy_timeout(reader->db, 200);
    assert_int_equal(sqlite3_exec(st->db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    size_t n;
    char want[32];
    snprintf(want, sizeof want, "process %d", (int)getpid());
    assert_int_equal(plm_store_count(reader, NULL, &n, &err), PLM_EBUSY);
    assert_non_null(strstr(err.text, want));
    assert_int_equal(sqlite3_exec(st->db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    good(plm_store_count(reader, NULL, &n, &err), &err);
    assert_int_equal(n, 1);
    plm_store_close(reader);
    plm_store_close(st);
}

/* Runs a check as an ordinary user, because no folder is read-only for root. */
static void as_nobody(void (*check)(const char *folder), const char *folder) {
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) || setuid(65534))) {
            _exit(3);
        }
        check(folder);
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void read_only_checks(const char *folder) {
    char path[100];
    plm_store *st = NULL;
    plm_error err = {0};
    snprintf(path, sizeof path, "%s/s.db", folder);
    size_t n = 0;
    if (plm_store_open(&st, path, true, &err) || plm_store_count(st, NULL, &n, &err) || n != 6) {
        _exit(1);
    }
    plm_store_close(st);
    plm_status rc = plm_store_open(&st, path, false, &err);
    if (rc != PLM_EIO || !strstr(err.text, "Permission denied")) {
        _exit(2);
    }
}

static void a_read_only_folder_can_be_read_and_says_why_it_cant_be_written(void **state) {
    struct folder *f = *state;
    const char *path = in_folder(f, "s.db");
    size_t len;
    free(sample(path, &len));
    unlink(in_folder(f, "s.db.lock"));
    chmod(in_folder(f, "s.db"), 0444);
    chmod(f->path, 0555);
    as_nobody(read_only_checks, f->path);
    chmod(f->path, 0755);
}

static int64_t version_of(const char *path) {
    return ask_file(path, "PRAGMA user_version");
}

static void every_version_migrates_to_the_newest(void **state) {
    const char *path = in_folder(*state, "s.db");
    // As the schema grows, this harness brings a store of each version up, a version a step or all at once.
    const char *const grown[] = {migrations[0],
                                 "CREATE TABLE two (a TEXT) STRICT; INSERT INTO two VALUES ('x');",
                                 "ALTER TABLE two ADD COLUMN b INTEGER; UPDATE two SET b = 3;"};
    for (int from = 1; from <= 3; from++) {
        unlink(path);
        plm_store *st = open_store(path);
        plm_error err = {0};
        add(st, "a", "note", "in", "out");
        good(migrate(st, grown, from, &err), &err);
        good(migrate(st, grown, 3, &err), &err);
        good(migrate(st, grown, 3, &err), &err); // nothing more to do
        assert_int_equal(count(st, "a"), 1);
        plm_store_close(st);
        assert_int_equal(version_of(path), 3);
        assert_int_equal(ask_file(path, "SELECT b FROM two"), 3);
    }
}

static void a_failed_migration_leaves_the_old_version(void **state) {
    const char *path = in_folder(*state, "s.db");
    const char *const bad[] = {migrations[0], "CREATE TABLE two (a TEXT); INSERT INTO nowhere VALUES (1);"};
    plm_store *st = open_store(path);
    plm_error err = {0};
    add(st, "a", "note", "in", "out");
    assert_true(migrate(st, bad, 2, &err) != PLM_OK);
    plm_store_close(st);
    assert_int_equal(version_of(path), 1);
    st = open_store(path); // the schema is the old one to the letter
    assert_int_equal(count(st, "a"), 1);
    plm_store_close(st);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_drop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(files_and_folders_are_the_owners_alone),
        TEST(a_store_that_is_not_there_cannot_be_read),
        TEST(an_empty_file_becomes_a_store),
        TEST(foreign_files_are_refused_untouched),
        TEST(a_changed_schema_is_refused_untouched),
        TEST(truncated_files_are_refused),
        TEST(flipped_bits_never_crash_and_headers_are_caught),
        TEST(a_journal_of_another_database_does_no_harm),
        TEST(a_second_writer_is_told_who_holds_it),
        TEST(a_dead_holder_leaves_no_lock),
        TEST(a_reader_waits_and_then_says_who_writes),
        TEST(a_read_only_folder_can_be_read_and_says_why_it_cant_be_written),
        TEST(every_version_migrates_to_the_newest),
        TEST(a_failed_migration_leaves_the_old_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
