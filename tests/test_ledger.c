/* The ledger's promises, on SQLite: fences, leases, expiry, seals, quotas and the order of the queue. What
 * only processes can show (kills, PostgreSQL) is in cloud.py. */
#include "support_folder.h"

#include <dirent.h>
#include <sqlite3.h>
#include <time.h>

#include "base/file.h"
#include "store/ledger.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_make, folder_drop)

static struct tenant_limits no_limits;
static const struct job_cost usual = {.calls = 3, .tokens_in = 400, .tokens_out = 600, .spend = 50};

static struct ledger *open_ledger(struct folder *f, struct ledger_options opt) {
    char db[600], keys[600];
    struct ledger *l = NULL;
    plm_error err = {0};
    snprintf(db, sizeof db, "sqlite:%s/ledger.db", f->path);
    snprintf(keys, sizeof keys, "%s/keys", f->path);
    opt.db = db;
    opt.keys = keys;
    plm_status st = ledger_open(&l, &opt, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    return l;
}

static struct tenant new_tenant(struct ledger *l, const char *name, const struct tenant_limits *m) {
    char key[TENANT_KEY_MAX];
    struct tenant t;
    assert_int_equal(tenant_add(l, name, m, key, NULL), PLM_OK);
    assert_int_equal(tenant_by_key(l, key, &t, NULL), PLM_OK);
    assert_string_equal(t.name, name);
    return t;
}

static struct job submit(struct ledger *l, const struct tenant *t, const char *key, const char *request) {
    struct job j;
    bool fresh;
    int64_t wait;
    plm_error err = {0};
    plm_status st = job_submit(l, t, key, request, strlen(request), &usual, 0, &j, &fresh, &wait, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    return j;
}

static struct work claim(struct ledger *l) {
    struct work w;
    bool found;
    assert_int_equal(job_claim(l, "w", &w, &found, NULL), PLM_OK);
    assert_true(found);
    return w;
}

static struct work claim_for(struct ledger *l, const char *teacher) {
    struct work w = claim(l);
    w.teacher = teacher;
    return w;
}

static bool nothing_to_claim(struct ledger *l) {
    struct work w;
    bool found;
    assert_int_equal(job_claim(l, "w", &w, &found, NULL), PLM_OK);
    work_free(&w);
    return !found;
}

static plm_status keep(struct ledger *l, const struct work *w, const char *call, const char *text) {
    return reply_keep(l, w, call, text, "stop", 10, 20, 7, NULL);
}

static void wait_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static struct sweep sweep(struct ledger *l) {
    struct sweep s;
    assert_int_equal(ledger_sweep(l, &s, NULL), PLM_OK);
    return s;
}

static enum job_state state_of(struct ledger *l, const struct tenant *t, const char *id) {
    struct job j;
    assert_int_equal(job_look(l, t->id, id, &j, NULL), PLM_OK);
    return j.state;
}

static void a_job_goes_through_and_its_bodies_come_back_as_they_were(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){0});
    struct tenant t = new_tenant(l, "ada", &no_limits);
    struct job j = submit(l, &t, "k", "{\"\xc3\xa4\": 1}"), seen;
    struct work w = claim(l);
    char *text, *finish;
    bool shared;
    assert_string_equal(w.request, "{\"\xc3\xa4\": 1}");
    assert_int_equal(reply_find(l, &w, "call", &text, &finish, &shared, NULL), PLM_OK);
    assert_null(text);
    assert_int_equal(keep(l, &w, "call", "an answer"), PLM_OK);
    assert_int_equal(reply_find(l, &w, "call", &text, &finish, &shared, NULL), PLM_OK);
    assert_string_equal(text, "an answer");
    assert_string_equal(finish, "stop");
    plm_free(text);
    plm_free(finish);
    assert_int_equal(job_result(l, t.id, j.id, &text, NULL), PLM_EINVAL);
    assert_int_equal(job_finish(l, &w, "teacher", "a\nb\n", 1, 2, NULL), PLM_OK);
    assert_int_equal(job_result(l, t.id, j.id, &text, NULL), PLM_OK);
    assert_string_equal(text, "a\nb\n");
    plm_free(text);
    assert_int_equal(job_look(l, t.id, j.id, &seen, NULL), PLM_OK);
    assert_int_equal(seen.state, JOB_DONE);
    assert_int_equal(seen.tokens_in + seen.tokens_out, 30);
    assert_int_equal(seen.spend, 7);
    work_free(&w);
    ledger_close(l);
}

static void a_worker_given_up_for_dead_writes_nothing(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){.lease_s = 1});
    struct tenant t = new_tenant(l, "ada", &no_limits);
    struct job j = submit(l, &t, "k", "{}");
    struct work dead = claim(l);
    assert_int_equal(keep(l, &dead, "1", "kept"), PLM_OK);
    wait_ms(1100);
    assert_int_equal(sweep(l).requeued, 1);
    struct work next = claim(l);
    char *text, *finish;
    bool shared;
    assert_int_equal(keep(l, &dead, "2", "late"), PLM_ESTOPPED);
    assert_int_equal(job_beat(l, &dead, 1, 2, 3, NULL), PLM_ESTOPPED);
    assert_int_equal(job_may_call(l, &dead, NULL), PLM_ESTOPPED);
    assert_int_equal(job_finish(l, &dead, "t", "late", 1, 1, NULL), PLM_ESTOPPED);
    assert_int_equal(job_fail(l, &dead, "late", false, false, NULL), PLM_ESTOPPED);
    assert_int_equal(job_release(l, &dead, NULL), PLM_ESTOPPED);
    assert_int_equal(reply_find(l, &next, "2", &text, &finish, &shared, NULL), PLM_OK);
    assert_null(text);
    assert_int_equal(reply_find(l, &next, "1", &text, &finish, &shared, NULL), PLM_OK);
    assert_string_equal(text, "kept");
    plm_free(text);
    plm_free(finish);
    assert_int_equal(state_of(l, &t, j.id), JOB_RUNNING);
    work_free(&dead);
    work_free(&next);
    ledger_close(l);
}

static void a_job_that_kills_its_workers_is_given_up(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){.attempts = 2});
    struct tenant t = new_tenant(l, "ada", &no_limits);
    struct job j = submit(l, &t, "k", "{}");
    for (int i = 0; i < 3; i++) {
        struct work w = claim(l);
        if (i == 0) // progress: it does not count
            assert_int_equal(keep(l, &w, "1", "x"), PLM_OK);
        work_free(&w);
        ledger_close(l);
        l = open_ledger(*state, (struct ledger_options){.attempts = 2});
        assert_int_equal(ledger_own(l, NULL), PLM_OK); // the service died and starts again
    }
    assert_int_equal(state_of(l, &t, j.id), JOB_FAILED);
    assert_true(nothing_to_claim(l));
    ledger_close(l);
}

static int count_keys(struct folder *f) {
    char path[600];
    int n = 0;
    struct dirent *e;
    snprintf(path, sizeof path, "%s/keys", f->path);
    DIR *d = opendir(path);
    while ((e = readdir(d)))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void jobs_and_their_keys_go_in_time(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){.retain_s = 2, .key_s = 1});
    struct tenant t = new_tenant(l, "ada", &no_limits);
    struct job j = submit(l, &t, "k", "{}"), seen;
    assert_int_equal(count_keys(*state), 1);
    wait_ms(1200);
    assert_int_equal(sweep(l).keys_destroyed, 0); // the job needs it
    assert_int_equal(job_look(l, t.id, j.id, &seen, NULL), PLM_OK);
    wait_ms(1000);
    assert_int_equal(job_look(l, t.id, j.id, &seen, NULL), PLM_ENOTFOUND);
    assert_true(nothing_to_claim(l));
    wait_ms(1000);
    struct sweep s = sweep(l);
    assert_int_equal(s.expired, 1);
    assert_int_equal(s.keys_destroyed, 1);
    assert_int_equal(count_keys(*state), 0);
    submit(l, &t, "k", "{\"other\":1}"); // the key of a submission that is gone is free
    ledger_close(l);
}

static void an_acknowledged_jobs_key_goes_when_its_hour_is_over(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){.retain_s = 3600, .key_s = 1});
    struct tenant t = new_tenant(l, "ada", &no_limits);
    struct job j = submit(l, &t, "k", "{}");
    assert_int_equal(job_drop(l, t.id, j.id, NULL), PLM_OK);
    wait_ms(1200);
    assert_int_equal(sweep(l).keys_destroyed, 1);
    assert_int_equal(count_keys(*state), 0);
    ledger_close(l);
}

static void run_sql(struct folder *f, const char *sql) {
    sqlite3 *db;
    char path[600];
    snprintf(path, sizeof path, "%s/ledger.db", f->path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void a_body_opens_only_whole_and_in_its_own_job(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){0});
    struct tenant t = new_tenant(l, "ada", &no_limits);
    struct job a = submit(l, &t, "a", "{\"a\":1}"), b = submit(l, &t, "b", "{\"b\":1}");
    run_sql(*state, "CREATE TEMP TABLE c AS SELECT id, request FROM jobs;"
                    "UPDATE jobs SET request = (SELECT c.request FROM c WHERE c.id <> jobs.id)");
    assert_true(nothing_to_claim(l)); // each is given up, and neither stands in the way
    assert_true(nothing_to_claim(l));
    assert_int_equal(state_of(l, &t, a.id), JOB_FAILED);
    assert_int_equal(state_of(l, &t, b.id), JOB_FAILED);
    struct job c = submit(l, &t, "c", "{\"c\":1}");
    struct work w = claim(l);
    assert_int_equal(job_finish(l, &w, "t", "result", 0, 1, NULL), PLM_OK);
    run_sql(*state, "UPDATE jobs SET result = substr(result, 1, length(result) - 1) WHERE state = 2");
    char *text;
    assert_int_equal(job_result(l, t.id, c.id, &text, NULL), PLM_EFORMAT);
    work_free(&w);
    ledger_close(l);
}

static void a_job_without_its_key_stands_in_nobodys_way(void **state) {
    struct folder *f = *state;
    struct ledger *l = open_ledger(f, (struct ledger_options){0});
    struct tenant t = new_tenant(l, "ada", &no_limits);
    struct job j = submit(l, &t, "a", "{}");
    char command[700];
    ledger_close(l);
    snprintf(command, sizeof command, "rm %s/keys/*.key", f->path);
    assert_int_equal(system(command), 0);
    l = open_ledger(f, (struct ledger_options){0});
    struct job k = submit(l, &t, "b", "{}");
    assert_true(nothing_to_claim(l));
    struct work w = claim(l);
    assert_string_equal(w.id, k.id);
    assert_int_equal(state_of(l, &t, j.id), JOB_FAILED);
    work_free(&w);
    ledger_close(l);
}

static void the_queue_goes_round_the_tenants(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){0});
    const char *const names[] = {"ada", "ben", "cat"};
    struct tenant t[3];
    int had[3] = {0};
    char key[16];
    for (int i = 0; i < 3; i++) {
        t[i] = new_tenant(l, names[i], &no_limits);
        for (int k = 0; k < (i ? 5 : 20); k++) {
            snprintf(key, sizeof key, "k%d", k);
            submit(l, &t[i], key, "{}");
        }
    }
    for (int n = 0; n < 15; n++) {
        struct work w = claim(l);
        for (int i = 0; i < 3; i++)
            had[i] += strcmp(w.tenant, t[i].id) == 0;
        assert_int_equal(reply_keep(l, &w, "1", "x", "stop", 500, 500, 0, NULL), PLM_OK);
        assert_int_equal(job_finish(l, &w, "t", "", 1, 0, NULL), PLM_OK);
        work_free(&w);
        if (n == 8) { // nine jobs done: three each
            for (int i = 0; i < 3; i++)
                assert_int_equal(had[i], 3);
        }
    }
    ledger_close(l);
}

static void who_comes_back_has_no_claim_to_what_was_served_meanwhile(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){0});
    struct tenant ada = new_tenant(l, "ada", &no_limits), ben = new_tenant(l, "ben", &no_limits);
    char key[16];
    int bens = 0;
    for (int k = 0; k < 20; k++) {
        snprintf(key, sizeof key, "k%d", k);
        submit(l, &ada, key, "{}");
    }
    for (int n = 0; n < 16; n++) {
        if (n == 8)
            for (int k = 0; k < 8; k++) {
                snprintf(key, sizeof key, "k%d", k);
                submit(l, &ben, key, "{}");
            }
        struct work w = claim(l);
        bens += strcmp(w.tenant, ben.id) == 0;
        assert_int_equal(reply_keep(l, &w, "1", "x", "stop", 500, 500, 0, NULL), PLM_OK);
        assert_int_equal(job_finish(l, &w, "t", "", 1, 0, NULL), PLM_OK);
        work_free(&w);
    }
    assert_in_range(bens, 3, 5);
    ledger_close(l);
}

static void limits_refuse_with_a_time_to_come_back(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){0});
    struct tenant_limits m = {.month_spend = 10, .queued = 2};
    struct tenant t = new_tenant(l, "ada", &m);
    struct job j;
    bool fresh;
    int64_t wait = 0;
    submit(l, &t, "a", "{}");
    submit(l, &t, "b", "{}");
    assert_int_equal(job_submit(l, &t, "c", "{}", 2, &usual, 0, &j, &fresh, &wait, NULL), PLM_ELIMIT);
    assert_int_equal(wait, 10);
    assert_int_equal(job_submit(l, &t, "a", "{}", 2, &usual, 0, &j, &fresh, &wait, NULL),
                     PLM_OK); // it is there
    assert_false(fresh);
    struct work w = claim(l);
    assert_int_equal(job_may_call(l, &w, NULL), PLM_OK);
    assert_int_equal(keep(l, &w, "1", "x"), PLM_OK); // 7
    assert_int_equal(job_may_call(l, &w, NULL), PLM_OK);
    assert_int_equal(keep(l, &w, "2", "x"), PLM_OK); // 14: never above the cap and one call
    assert_int_equal(job_may_call(l, &w, NULL), PLM_ELIMIT);
    work_free(&w);
    ledger_close(l);
}

static void a_submission_key_is_for_one_request(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){0});
    struct tenant t = new_tenant(l, "ada", &no_limits);
    struct job j;
    bool fresh;
    int64_t wait;
    char longest[SUBMIT_KEY_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[SUBMIT_KEY_MAX + 1] = 0;
    const char *const bad[] = {"", " ", "a b", "a\n", "\xc3\xa4", longest};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(job_submit(l, &t, bad[i], "{}", 2, &usual, 0, &j, &fresh, &wait, NULL), PLM_EINVAL);
    longest[SUBMIT_KEY_MAX] = 0;
    submit(l, &t, longest, "{}");
    submit(l, &t, "k", "{}");
    assert_int_equal(job_submit(l, &t, "k", "{ }", 3, &usual, 0, &j, &fresh, &wait, NULL), PLM_EFORMAT);
    ledger_close(l);
}

static void keys_that_are_not_whole_are_nobodys(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){0});
    char key[TENANT_KEY_MAX], other[TENANT_KEY_MAX], bad[TENANT_KEY_MAX];
    struct tenant t;
    assert_int_equal(tenant_add(l, "ada", &no_limits, key, NULL), PLM_OK);
    assert_int_equal(tenant_add(l, "ben", &no_limits, other, NULL), PLM_OK);
    assert_int_equal(tenant_add(l, "ben", &no_limits, bad, NULL), PLM_EINVAL);
    assert_int_equal(tenant_add(l, "a b", &no_limits, bad, NULL), PLM_EINVAL);
    for (size_t i = 0; i < strlen(key); i++) {
        strcpy(bad, key);
        bad[i] = bad[i] == 'a' ? 'b' : 'a';
        assert_int_equal(tenant_by_key(l, bad, &t, NULL), PLM_ENOTFOUND);
        bad[i] = 0;
        assert_int_equal(tenant_by_key(l, bad, &t, NULL), PLM_ENOTFOUND);
    }
    strcpy(bad, key);
    memcpy(bad + 17, other + 17, strlen(other + 17)); // ada's id with ben's secret
    assert_int_equal(tenant_by_key(l, bad, &t, NULL), PLM_ENOTFOUND);
    assert_int_equal(tenant_by_key(l, key, &t, NULL), PLM_OK);
    ledger_close(l);
}

static void another_process_may_not_own_the_same_file(void **state) {
    struct ledger *a = open_ledger(*state, (struct ledger_options){0}),
                  *b = open_ledger(*state, (struct ledger_options){0});
    assert_int_equal(ledger_own(a, NULL), PLM_OK);
    assert_int_equal(ledger_own(b, NULL), PLM_EBUSY);
    ledger_close(a);
    assert_int_equal(ledger_own(b, NULL), PLM_OK);
    ledger_close(b);
}

static void what_can_not_be_opened_is_a_sentence(void **state) {
    struct folder *f = *state;
    char db[600], keys[600];
    struct ledger *l;
    plm_error err = {0};
    snprintf(db, sizeof db, "sqlite:%s/x.db", f->path);
    snprintf(keys, sizeof keys, "%s/open", f->path);
    mkdir(keys, 0755);
    struct ledger_options opt = {.db = db, .keys = keys};
    assert_int_equal(ledger_open(&l, &opt, &err), PLM_EINVAL);
    assert_non_null(strstr(err.text, "chmod 700"));
    chmod(keys, 0700);
    opt.retain_s = 24 * 3600;
    assert_int_equal(ledger_open(&l, &opt, &err), PLM_EINVAL);
    opt.retain_s = 0;
    opt.db = "mysql://x";
    assert_int_equal(ledger_open(&l, &opt, &err), PLM_EINVAL);
    opt.db = "postgres:///x?host=%2Fnowhere";
    assert_int_equal(ledger_open(&l, &opt, &err), PLM_EBUSY);
    opt.db = db;
    assert_int_equal(ledger_open(&l, &opt, &err), PLM_OK);
    ledger_close(l);
    sqlite3 *raw;
    assert_int_equal(sqlite3_open(db + 7, &raw), SQLITE_OK);
    assert_int_equal(sqlite3_exec(raw, "UPDATE ledger_version SET version = 3", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(raw);
    assert_int_equal(ledger_open(&l, &opt, &err), PLM_ENOTSUP);
    assert_int_equal(file_replace(db + 7, "not a database, not at all", 26, NULL), PLM_OK);
    assert_int_equal(ledger_open(&l, &opt, &err), PLM_EFORMAT);
}

// What the next job of this tenant finds for a call: "" or the text, and whether it is another job's.
static struct work next_job(struct ledger *l, const struct tenant *t, const char *key, const char *teacher,
                            const char *call, char found[40], bool *shared) {
    char *text, *finish;
    submit(l, t, key, "{}");
    struct work w = claim_for(l, teacher);
    assert_int_equal(reply_find(l, &w, call, &text, &finish, shared, NULL), PLM_OK);
    snprintf(found, 40, "%s", text ? text : "");
    plm_free(text);
    plm_free(finish);
    return w;
}

static void an_equal_call_of_the_tenant_is_paid_once_while_a_job_has_its_reply(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){.key_s = 1});
    struct tenant ada = new_tenant(l, "ada", &no_limits), ben = new_tenant(l, "ben", &no_limits);
    struct ledger_stats stats;
    struct job seen;
    char found[40];
    bool shared;
    struct work first = next_job(l, &ada, "1", "t", "call", found, &shared);
    assert_int_equal(keep(l, &first, "call", "an answer"), PLM_OK);
    assert_int_equal(reply_keep(l, &first, "silent", "", "none", 0, 0, 0, NULL), PLM_OK);
    assert_int_equal(job_finish(l, &first, "t", "result", 2, 1, NULL), PLM_OK);
    wait_ms(1100); // another key's time
    struct work second = next_job(l, &ada, "2", "t", "call", found, &shared);
    assert_string_equal(found, "an answer");
    assert_true(shared);
    assert_int_equal(job_look(l, ada.id, second.id, &seen, NULL), PLM_OK);
    assert_int_equal(seen.calls_done, 1);
    assert_int_equal(seen.tokens_in + seen.tokens_out + seen.spend, 0);
    assert_int_equal(ledger_stats(l, &stats, NULL), PLM_OK);
    assert_int_equal(stats.tokens_in_today, 10);
    assert_int_equal(stats.calls_today, 2);
    static const struct {
        const char *teacher, *call;
        bool other;
    } none[] = {{"t", "silent", false}, {"u", "call", false}, {NULL, "call", false}, {"t", "call", true}};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        char key[8];
        snprintf(key, sizeof key, "n%zu", i);
        struct work w =
            next_job(l, none[i].other ? &ben : &ada, key, none[i].teacher, none[i].call, found, &shared);
        assert_string_equal(found, "");
        assert_false(shared);
        work_free(&w);
    }
    // The first, which paid, is acknowledged: the second's copy is of no use to others.
    assert_int_equal(job_drop(l, ada.id, first.id, NULL), PLM_OK);
    struct work third = next_job(l, &ada, "3", "t", "call", found, &shared);
    assert_string_equal(found, "");
    assert_int_equal(job_drop(l, ada.id, second.id, NULL), PLM_OK);
    assert_int_equal(job_cancel(l, ada.id, third.id, &seen, NULL), PLM_OK);
    struct work last = next_job(l, &ada, "4", "t", "call", found, &shared);
    assert_string_equal(found, "");
    work_free(&first);
    work_free(&second);
    work_free(&third);
    work_free(&last);
    ledger_close(l);
}

static void a_job_stops_at_its_cap_and_a_higher_one_takes_it_up_again(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){0});
    struct tenant_limits month = {.month_spend = 30};
    struct tenant t = new_tenant(l, "ada", &no_limits), poor = new_tenant(l, "ben", &month);
    struct job j;
    bool fresh;
    int64_t wait;
    plm_error err = {0};
    assert_int_equal(job_submit(l, &t, "k", "{}", 2, &usual, 10, &j, &fresh, &wait, NULL), PLM_OK);
    struct work w = claim(l);
    assert_int_equal(w.may_spend, 10);
    assert_int_equal(keep(l, &w, "1", "x"), PLM_OK); // takes 7
    assert_int_equal(job_may_call(l, &w, NULL), PLM_OK);
    assert_int_equal(job_release(l, &w, NULL), PLM_OK);
    work_free(&w);
    w = claim(l);
    assert_int_equal(w.may_spend, 3);
    assert_int_equal(keep(l, &w, "2", "x"), PLM_OK);
    assert_int_equal(job_may_call(l, &w, &err), PLM_ELIMIT);
    assert_non_null(strstr(err.text, "cap of 1e-05"));
    assert_int_equal(job_fail(l, &w, err.text, true, false, NULL), PLM_OK);
    work_free(&w);
    assert_int_equal(job_submit(l, &t, "k", "{}", 2, &usual, 20, &j, &fresh, &wait, NULL), PLM_OK);
    assert_false(fresh);
    assert_int_equal(j.max_spend, 20);
    assert_int_equal(j.estimate.calls + j.estimate.spend, usual.calls + usual.spend);
    w = claim(l);
    assert_int_equal(w.may_spend, 6);
    work_free(&w);
    // Without a cap the month's quota is one.
    submit(l, &poor, "1", "{}");
    w = claim(l);
    assert_int_equal(w.may_spend, 30);
    assert_int_equal(keep(l, &w, "1", "x"), PLM_OK);
    work_free(&w);
    assert_int_equal(job_submit(l, &poor, "2", "{}", 2, &usual, 100, &j, &fresh, &wait, NULL), PLM_OK);
    w = claim(l);
    assert_int_equal(w.may_spend, 23);
    work_free(&w);
    submit(l, &t, "free", "{}");
    w = claim(l);
    assert_true(w.may_spend < 0);
    work_free(&w);
    ledger_close(l);
}

static void a_ledger_of_the_version_before_is_taken_along(void **state) {
    struct folder *f = *state;
    struct ledger *l = open_ledger(f, (struct ledger_options){0});
    struct tenant t = new_tenant(l, "ada", &no_limits);
    struct job j = submit(l, &t, "k", "{}");
    ledger_close(l);
    char path[600];
    snprintf(path, sizeof path, "%s/ledger.db", f->path);
    sqlite3 *raw;
    assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(raw,
                     "DROP INDEX replies_shared; ALTER TABLE replies DROP COLUMN shared;"
                     "ALTER TABLE jobs DROP COLUMN est_calls; ALTER TABLE jobs DROP COLUMN est_in;"
                     "ALTER TABLE jobs DROP COLUMN est_out; ALTER TABLE jobs DROP COLUMN est_spend;"
                     "ALTER TABLE jobs DROP COLUMN max_spend;"
                     "UPDATE ledger_version SET version = 1",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(raw);
    for (int i = 0; i < 2; i++) {
        l = open_ledger(f, (struct ledger_options){0});
        ledger_close(l);
    }
    l = open_ledger(f, (struct ledger_options){0});
    struct work w = claim_for(l, "t");
    assert_string_equal(w.id, j.id);
    assert_int_equal(keep(l, &w, "call", "an answer"), PLM_OK);
    work_free(&w);
    ledger_close(l);
}

// All that a job's life takes; the first failure ends it.
static plm_status live(struct ledger *l, const struct tenant *t, const char *key) {
    struct job j;
    struct work w = {.request = NULL};
    struct sweep s;
    bool fresh, found = false, shared;
    int64_t wait;
    char *text = NULL, *finish = NULL;
    plm_status st = job_submit(l, t, key, "{}", 2, &usual, 0, &j, &fresh, &wait, NULL);
    st = st ? st : job_claim(l, "w", &w, &found, NULL);
    if (!st && found) {
        w.teacher = "t";
        st = reply_find(l, &w, "1", &text, &finish, &shared, NULL); // of a job that got so far before
        plm_free(text);
        plm_free(finish);
        text = finish = NULL;
        st = st ? st : reply_keep(l, &w, key, "x", "stop", 1, 1, 0, NULL);
        st = st ? st : reply_find(l, &w, key, &text, &finish, &shared, NULL);
        plm_free(text);
        plm_free(finish);
        text = NULL;
        st = st ? st : job_finish(l, &w, "t", "result", 1, 1, NULL);
        st = st ? st : job_result(l, t->id, w.id, &text, NULL);
        plm_free(text);
        st = st ? st : job_drop(l, t->id, w.id, NULL);
    }
    work_free(&w);
    return st ? st : ledger_sweep(l, &s, NULL);
}

static void every_failing_allocation_is_a_status(void **state) {
    struct ledger *l = open_ledger(*state, (struct ledger_options){0});
    struct tenant t = new_tenant(l, "ada", &no_limits);
    plm_status st = PLM_ENOMEM;
    submit(l, &t, "shared", "{}");
    struct work w = claim_for(l, "t");
    assert_int_equal(keep(l, &w, "1", "shared"), PLM_OK);
    assert_int_equal(job_finish(l, &w, "t", "result", 1, 1, NULL), PLM_OK);
    work_free(&w);
    for (long n = 1; st && n < 1000; n++) {
        char key[24];
        snprintf(key, sizeof key, "k%ld", n);
        mem_fail_at(n, false);
        st = live(l, &t, key);
        mem_fail_at(0, false);
        assert_true(st == PLM_OK || st == PLM_ENOMEM);
        assert_int_equal(ledger_own(l, NULL), PLM_OK);
    }
    assert_int_equal(st, PLM_OK);
    ledger_close(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_job_goes_through_and_its_bodies_come_back_as_they_were),
        TEST(a_worker_given_up_for_dead_writes_nothing),
        TEST(a_job_that_kills_its_workers_is_given_up),
        TEST(an_equal_call_of_the_tenant_is_paid_once_while_a_job_has_its_reply),
        TEST(a_job_stops_at_its_cap_and_a_higher_one_takes_it_up_again),
        TEST(a_ledger_of_the_version_before_is_taken_along),
        TEST(jobs_and_their_keys_go_in_time),
        TEST(an_acknowledged_jobs_key_goes_when_its_hour_is_over),
        TEST(a_body_opens_only_whole_and_in_its_own_job),
        TEST(a_job_without_its_key_stands_in_nobodys_way),
        TEST(the_queue_goes_round_the_tenants),
        TEST(who_comes_back_has_no_claim_to_what_was_served_meanwhile),
        TEST(limits_refuse_with_a_time_to_come_back),
        TEST(a_submission_key_is_for_one_request),
        TEST(keys_that_are_not_whole_are_nobodys),
        TEST(another_process_may_not_own_the_same_file),
        TEST(what_can_not_be_opened_is_a_sentence),
        TEST(every_failing_allocation_is_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
