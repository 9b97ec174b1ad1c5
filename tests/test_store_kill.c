/* Killed anywhere, out of memory anywhere, out of disk: nothing that was acknowledged is lost, nothing is
 * half-stored. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include "base/mem.h"
#include "support_store.h"

static uint64_t draw(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* What the parent expects of the store: for each text that was acknowledged, 1 stored, -1 forgotten. */
enum { TEXTS = 20000 };
struct oracle {
    signed char acked[TEXTS];
    int n;
};

struct ack {
    int text, forgotten, group; /* group: texts text .. text + group - 1 */
};

static void tell(int fd, struct ack a) {
    if (write(fd, &a, sizeof a) != sizeof a) {
        _exit(9);
    }
}

static plm_status put(plm_store *st, int number) {
    char text[256];
    snprintf(text, sizeof text, "record number n%d with some words around it", number);
    plm_record r = {.user = "ana", .kind = "note", .input = text, .output = text};
    return plm_store_add(st, &r, NULL, NULL, NULL);
}

/* Stores for ever and says what is done, once it is: single records, groups in a transaction, and forgets. */
static void work(const char *path, int fd, int from, uint64_t seed) {
    plm_store *st = NULL;
    if (plm_store_open(&st, path, false, NULL)) {
        _exit(2);
    }
    for (int next = from; next < TEXTS - 20;) {
        int what = (int)(draw(&seed) % 10);
        if (what < 6) {
            if (put(st, next)) {
                _exit(3);
            }
            tell(fd, (struct ack){next, 0, 1});
            next++;
        } else if (what < 9) {
            int group = 2 + (int)(draw(&seed) % 15);
            if (plm_store_begin(st, NULL)) {
                _exit(4);
            }
            for (int i = 0; i < group; i++) {
                if (put(st, next + i)) {
                    _exit(5);
                }
            }
            if (plm_store_end(st, true, NULL)) {
                _exit(6);
            }
            tell(fd, (struct ack){next, 0, group});
            next += group;
        } else if (next > from) {
            int gone = from + (int)(draw(&seed) % (unsigned)(next - from));
            char words[32];
            snprintf(words, sizeof words, "n%d", gone);
            tell(fd, (struct ack){gone, 2, 1}); // about to: it may be there or not from now on
            if (plm_store_forget(st, &(plm_query){.match = words}, NULL, NULL, NULL, NULL)) {
                _exit(7);
            }
            tell(fd, (struct ack){gone, 1, 1});
        }
    }
    _exit(0);
}

static int tick(void *ctx, const plm_record *r) {
    int number;
    assert_int_equal(sscanf(r->input, "record number n%d", &number), 1);
    signed char *there = ctx;
    assert_int_equal(there[number], 0);
    there[number] = 1;
    return 0;
}

static void nothing_acknowledged_is_lost_by_kill_9(void **state) {
    const char *path = in_folder(*state, "s.db");
    const char *asked = getenv("PLM_KILL_ROUNDS");
    int rounds = asked ? atoi(asked) : 60;
    struct oracle *o = calloc(1, sizeof *o);
    uint64_t seed = 88172645463325252u;
    int next = 0, acks = 0, rounds_with_acks = 0;
    for (int round = 0; round < rounds && next < TEXTS - 100; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        uint64_t child_seed = draw(&seed);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            work(path, ends[1], next, child_seed);
        }
        close(ends[1]);
        // From before the store is open to deep inside the work.
        nanosleep(&(struct timespec){0, (long)(draw(&seed) % (round % 2 ? 200000000 : 60000000))}, NULL);
        kill(child, SIGKILL);
        int status, last = next, before = acks;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        struct ack a;
        while (read(ends[0], &a, sizeof a) == sizeof a) {
            for (int i = 0; i < a.group; i++) {
                o->acked[a.text + i] = a.forgotten ? (a.forgotten == 1 ? -1 : 2) : 1;
            }
            last = a.text + a.group > last ? a.text + a.group : last;
            acks++;
        }
        close(ends[0]);
        rounds_with_acks += acks > before;
        next = last + 20; // past what was under way
        signed char *there = calloc(TEXTS, 1);
        plm_store *st = open_store(path);
        plm_error err = {0};
        good(plm_store_find(st, NULL, tick, there, &err), &err);
        plm_store_close(st);
        for (int i = 0; i < TEXTS; i++) {
            if ((o->acked[i] == 1 && !there[i]) || (o->acked[i] == -1 && there[i])) {
                fail_msg("round %d: text %d was acknowledged as %d and is %d", round, i, o->acked[i],
                         there[i]);
            }
            o->acked[i] = o->acked[i] == 2 ? (there[i] ? 1 : -1) : o->acked[i];
        }
        free(there);
        assert_int_equal(ask_file(path, "PRAGMA integrity_check"), 1);
        assert_int_equal(ask_file(path, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
        change_file(path, "INSERT INTO records_words (records_words) VALUES ('integrity-check')");
    }
    print_message("%d kills, %d with acknowledged work, %d acknowledgements\n", rounds, rounds_with_acks,
                  acks);
    assert_true(rounds_with_acks * 5 > rounds);
    free(o);
}

/* One life of a store, with every call that allocates. 0: all of it went well. */
static plm_status life(const char *path, const char *out) {
    plm_store *st = NULL;
    plm_error err = {0};
    char *value = NULL;
    int64_t id = 0;
    plm_forgotten gone;
    size_t n;
    plm_record r = {.user = "ana", .kind = "note", .input = "in", .output = "out"};
    plm_status rc = plm_store_open(&st, path, false, &err);
    if (rc || (rc = plm_store_add(st, &r, &id, NULL, &err)) || (rc = plm_store_set(st, "a", "b", &err)) ||
        (rc = plm_store_get(st, "a", &value, &err)) ||
        (rc = plm_store_count(st, &(plm_query){.match = "in out"}, &n, &err)) ||
        (rc = plm_store_export(st, "ana", out, &err)) ||
        (rc = plm_store_forget(st, &(plm_query){.match = "in"}, &gone, NULL, NULL, &err))) {
        // A failure is told as what it is.
        if (rc != PLM_ENOMEM && rc != PLM_EIO) {
            fail_msg("%s: %s", plm_status_name(rc), err.text);
        }
        assert_true(err.text[0] != '\0');
    }
    plm_free(value);
    plm_store_close(st);
    return rc;
}

static void every_failed_allocation_of_ours_is_survived(void **state) {
    struct folder *f = *state;
    char path[100], out[100];
    snprintf(path, sizeof path, "%s/s.db", f->path);
    snprintf(out, sizeof out, "%s/e.jsonl", f->path);
    assert_int_equal(life(path, out), PLM_OK);
    for (int forever = 0; forever < 2; forever++) {
        bool failed = true;
        for (long n = 1; failed; n++) {
            mem_fail_at(n, forever);
            failed = life(path, out) != PLM_OK;
            mem_fail_at(0, false);
            assert_int_equal(ask_file(path, "PRAGMA integrity_check"), 1);
            assert_true(n < 500);
        }
    }
    assert_int_equal(life(path, out), PLM_OK);
}

/* SQLite's own allocations, failed one after another. */
static sqlite3_mem_methods real;
static long sqlite_countdown;

static bool denied(void) {
    return sqlite_countdown > 0 && --sqlite_countdown == 0;
}
static void *deny_malloc(int n) {
    return denied() ? NULL : real.xMalloc(n);
}
static void *deny_realloc(void *p, int n) {
    return denied() ? NULL : real.xRealloc(p, n);
}

static void every_failed_allocation_of_sqlite_is_survived(void **state) {
    struct folder *f = *state;
    char path[100], out[100];
    snprintf(path, sizeof path, "%s/s.db", f->path);
    snprintf(out, sizeof out, "%s/e.jsonl", f->path);
    assert_int_equal(life(path, out), PLM_OK);
    long failures = 0;
    for (long n = 1, good_runs = 0; good_runs < 3; n += n < 400 ? 1 : 1 + n / 50) {
        sqlite_countdown = n;
        plm_status rc = life(path, out);
        bool reached = sqlite_countdown == 0;
        sqlite_countdown = 0;
        failures += rc != PLM_OK;
        good_runs = reached ? 0 : good_runs + 1;
        if (n % 16 == 0) {
            assert_int_equal(ask_file(path, "PRAGMA integrity_check"), 1);
        }
    }
    print_message("%ld of SQLite's allocations failed visibly\n", failures);
    assert_true(failures > 100);
    assert_int_equal(life(path, out), PLM_OK);
}

static void fill_until_full(const char *path) {
    plm_store *st = NULL;
    plm_error err = {0};
    char text[9000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    if (plm_store_open(&st, path, false, &err)) {
        _exit(2);
    }
    int n = 0;
    plm_status rc = PLM_OK;
    while (!rc && n < 10000) {
        snprintf(text, 12, "%08d", n);
        text[8] = ' ';
        plm_record r = {.user = "ana", .kind = "note", .input = text, .output = text};
        rc = plm_store_add(st, &r, NULL, NULL, &err);
        n += rc == PLM_OK;
    }
    if (rc != PLM_EIO) {
        _exit(3);
    }
    if (!strstr(err.text, "disk is full") && !strstr(err.text, "I/O error")) {
        _exit(4);
    }
    size_t have = 0; // it can still be read
    if (plm_store_count(st, NULL, &have, NULL) || have != (size_t)n || n < 3) {
        _exit(5);
    }
    plm_store_close(st);
    if (plm_store_open(&st, path, true, NULL) || plm_store_count(st, NULL, &have, NULL) ||
        have != (size_t)n) {
        _exit(6);
    }
    plm_store_close(st);
}

static void a_full_disk_stores_nothing_half(void **state) {
    const char *path = in_folder(*state, "disk/s.db");
    char disk[100];
    snprintf(disk, sizeof disk, "%s/disk", ((struct folder *)*state)->path);
    mkdir(disk, 0700);
    bool mounted = mount("none", disk, "tmpfs", 0, "size=1m") == 0;
    pid_t child = fork();
    if (child == 0) {
        if (!mounted) { // no right to mount: a limit on file size looks alike from inside
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){1 << 20, 1 << 20});
        }
        fill_until_full(path);
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    int64_t sound = ask_file(path, "PRAGMA integrity_check");
    if (mounted) {
        umount(disk);
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(sound, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_drop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nothing_acknowledged_is_lost_by_kill_9),
        TEST(every_failed_allocation_of_ours_is_survived),
        TEST(every_failed_allocation_of_sqlite_is_survived),
        TEST(a_full_disk_stores_nothing_half),
    };
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real);
    sqlite3_mem_methods deny = real;
    deny.xMalloc = deny_malloc;
    deny.xRealloc = deny_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &deny);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
