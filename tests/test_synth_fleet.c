/* test_synth_fleet.c: many calls over several addresses, some of which fail, are slow, refuse a schema or sit
 * behind a network that cuts, delays and corrupts. Whatever happens on the way, the same replies make the
 * same candidates, and no cap is passed. */
#include "support_synth.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_teacher.h"
#include "synth/inside.h"

struct result {
    plm_status st;
    char *candidates;
    plm_teacher_usage used;
    double seconds;
    plm_error err;
};

static int patient(void *ctx, const char *why, double seconds) {
    (void)ctx, (void)why;
    return seconds > 9;
}

/* 60 notes rewritten one a call, so that there are many calls. */
static struct result run(const char *spec, double max_cost) {
    struct result out = {0};
    struct person p;
    plm_teacher *t = NULL;
    char *request = NULL;
    plm_teacher_options o = {.spec = spec,
                             .model_name = "fake",
                             .waiting = patient,
                             .max_cost = max_cost,
                             .cost_in = 10,
                             .cost_out = 20};
    person_open(&p, "note");
    person_add_notes(&p, 60);
    plm_augment_policy policy = person_policy(&p);
    policy.unredacted = true;
    policy.wanted = 48;
    assert_int_equal(plm_teacher_open(&t, &o, NULL), PLM_OK);
    assert_true(plm_teacher_is_local(t));
    free(fake_received(&fake, 1));
    double from = clock_now();
    out.st = person_generate(&p, &policy, t, &request, &out.candidates, &out.err);
    out.seconds = clock_now() - from;
    out.used = plm_teacher_used(t);
    plm_free(request);
    plm_teacher_close(t);
    person_close(&p);
    return out;
}

static const char *at(char *out, const char *first, const char *second) {
    int n = snprintf(out, 300, "http://127.0.0.1:%d/%s/v1", fake.port, first);
    if (second)
        snprintf(out + n, 300 - (size_t)n, ",http://127.0.0.1:%d/%s/v1", fake.port, second);
    return out;
}

static struct result run_at(const char *first, const char *second) {
    char spec[300];
    return run(at(spec, first, second), 0);
}

static char *good; /* candidates of a service without trouble */

static int good_open(void **s) {
    int rc = fake_open(s);
    good = rc ? NULL : run_at("good", NULL).candidates;
    return good ? rc : -1;
}

static int good_close(void **s) {
    plm_free(good);
    return fake_close(s);
}

static void must_be_like_good(struct result r, const char *name) {
    if (r.st)
        print_message("%s: %s\n", name, r.err.text);
    assert_int_equal(r.st, PLM_OK);
    assert_string_equal(r.candidates, good);
    plm_free(r.candidates);
}

static size_t received_by(const char *heads, const char *how) {
    size_t n = 0, len = strlen(how);
    for (const char *p = heads; (p = strstr(p, how)); p += len)
        n += (p == heads || p[-1] == '\n') && p[len] == ' ';
    return n;
}

static void slow_replies_are_waited_for_together(void **s) {
    (void)s;
    struct result r = run_at("slow-100", NULL);
    assert_true(r.used.calls >= 60);
    print_message("%zu calls of .1 s in %.2f s\n", r.used.calls, r.seconds);
    assert_true(r.seconds < .1 * (double)r.used.calls / 2);
    must_be_like_good(r, "slow");
}

static void a_failing_address_is_left_alone(void **s) {
    (void)s;
    static const char *const how[] = {"status-503", "status-401"};
    for (size_t i = 0; i < 2; i++) {
        struct result r = run_at(how[i], "good");
        char *heads = fake_received(&fake, 1);
        if (r.st)
            print_message("%s\n", r.err.text);
        print_message("%s: %zu failed calls, %zu good ones, %zu sent\n", how[i], received_by(heads, how[i]),
                      received_by(heads, "good"), r.used.sent);
        assert_true(received_by(heads, "good") >= 60);
        assert_true(received_by(heads, how[i]) <= 20);
        free(heads);
        must_be_like_good(r, how[i]);
    }
    must_be_like_good(run_at("cut", "good"), "cut");
}

static void weights_share_calls_out(void **s) {
    (void)s;
    char spec[300];
    snprintf(spec, sizeof spec, "http://127.0.0.1:%d/slow-31/v1*4,http://127.0.0.1:%d/slow-30/v1", fake.port,
             fake.port);
    struct result r = run(spec, 0);
    char *heads = fake_received(&fake, 1);
    size_t heavy = received_by(heads, "slow-31"), light = received_by(heads, "slow-30");
    print_message("weights 4 and 1: %zu and %zu calls\n", heavy, light);
    assert_true(light >= 4 && 2 * heavy >= 3 * light);
    free(heads);
    must_be_like_good(r, "weights");
    static const char *const bad[] = {"https://a/v1*0", "https://a/v1*x",
                                      "https://a/v1,http://example.org/v1", "https://a/v1*-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        plm_teacher *t = NULL;
        assert_int_equal(plm_teacher_open(&t, &(plm_teacher_options){.spec = bad[i]}, NULL), PLM_EINVAL);
    }
    plm_teacher *t = NULL;
    snprintf(spec, sizeof spec, "http://127.0.0.1:9/v1,https://elsewhere.example/v1");
    assert_int_equal(plm_teacher_open(&t, &(plm_teacher_options){.spec = spec}, NULL), PLM_OK);
    assert_false(plm_teacher_is_local(t));
    plm_teacher_close(t);
}

static void stragglers_are_asked_a_second_time(void **s) {
    (void)s;
    struct result r = run_at("straggle-30", NULL);
    print_message("two of %zu replies took 3 s: %zu asked twice, %.2f s\n", r.used.calls, r.used.hedged,
                  r.seconds);
    assert_true(r.used.hedged >= 1 && r.used.hedged <= 6);
    assert_true(r.used.sent <= r.used.calls + 6);
    must_be_like_good(r, "straggle");
}

static void a_crowded_service_gets_what_it_can_take(void **s) {
    (void)s;
    struct result r = run_at("crowd-4", NULL);
    print_message("four at once: %zu sent for %zu calls\n", r.used.sent, r.used.calls);
    assert_true(r.used.sent < 2 * r.used.calls);
    must_be_like_good(r, "crowd");
}

static void a_breaker_closes_again(void **s) {
    (void)s;
    struct result r = run_at("after-6-503", NULL); // five open it, the first call after a probe once more
    print_message("down for six calls: %.2f s\n", r.seconds);
    assert_true(r.used.sent <= r.used.calls + 7);
    must_be_like_good(r, "after");
}

static void a_cap_holds_with_many_calls_at_once(void **s) {
    (void)s;
    char spec[300];
    struct result r = run(at(spec, "slow-20", NULL), .03);
    assert_int_equal(r.st, PLM_ELIMIT);
    assert_non_null(strstr(r.err.text, "the cap of"));
    print_message("cap .03: %.4f spent on %zu calls\n", r.used.spent, r.used.calls);
    assert_true(r.used.spent <= .03 && r.used.calls > 3);
    assert_int_equal(r.used.calls, r.used.sent);
    assert_null(r.candidates);
}

static char *lines_run(const char *how, size_t *sent, size_t *calls) {
    struct person p;
    plm_teacher *t = remote_teacher(fake_base(&fake, how));
    char *request, *candidates;
    plm_error err = {0};
    person_open(&p, "note");
    person_add_notes(&p, 30);
    plm_augment_policy policy = person_policy(&p);
    plm_status st = person_generate(&p, &policy, t, &request, &candidates, &err);
    if (st)
        print_message("%s: %s\n", how, err.text);
    assert_int_equal(st, PLM_OK);
    *sent = plm_teacher_used(t).sent;
    *calls = plm_teacher_used(t).calls;
    plm_free(request);
    plm_teacher_close(t);
    person_close(&p);
    return candidates;
}

static void a_schema_is_asked_for_and_given_up_where_it_is_not_known(void **s) {
    (void)s;
    size_t sent, calls;
    free(fake_received(&fake, 0));
    char *lines = lines_run("good", &sent, &calls);
    assert_int_equal(sent, calls);
    char *bodies = fake_received(&fake, 0);
    assert_non_null(strstr(bodies, "\"response_format\":{\"type\":\"json_schema\""));
    free(bodies);
    char *listed = lines_run("schema", &sent, &calls);
    struct str x = str_of(lines), y = str_of(listed), lx, ly;
    while (str_cut(&x, '\n', &lx) && str_cut(&y, '\n', &ly))
        if (lx.n != ly.n || memcmp(lx.p, ly.p, lx.n))
            print_message("%.*s\n%.*s\n", (int)lx.n, lx.p, (int)ly.n, ly.p);
    assert_string_equal(lines, listed);
    char *plain = lines_run("noschema", &sent, &calls);
    assert_string_equal(lines, plain);
    assert_true(sent > calls && sent < 2 * calls); // in vain: only what was on its way at the first refusal
    // A refusal that comes when others have shown that the schema was it is no reply either.
    char *late = lines_run("lateschema", &sent, &calls);
    assert_string_equal(lines, late);
    plm_free(lines);
    plm_free(listed);
    plm_free(plain);
    plm_free(late);
}

/* ---- a network that fails ---- */

static struct result run_through(const char *faults, int *port_of_fake) {
    struct fake_teacher proxy = {0};
    char port[16], spec[300];
    snprintf(port, sizeof port, "%d", fake.port);
    assert_int_equal(fake_run(&proxy, "fault_proxy.py", port, faults), 0);
    snprintf(spec, sizeof spec, "http://127.0.0.1:%d/good/v1,http://127.0.0.1:%d/good/v1", proxy.port,
             *port_of_fake);
    struct result r = run(spec, 0);
    close(proxy.in);
    waitpid(proxy.pid, NULL, 0);
    return r;
}

static void cut_and_late_replies_change_nothing(void **s) {
    (void)s;
    struct result r = run_through("cut,delay", &fake.port);
    print_message("cut and delayed: %zu sent for %zu calls\n", r.used.sent, r.used.calls);
    must_be_like_good(r, "cut,delay");
}

static void corrupt_replies_end_in_text_or_in_nothing(void **s) {
    (void)s;
    struct result r = run_through("corrupt", &fake.port);
    if (r.st)
        print_message("%s\n", r.err.text);
    assert_true(r.st == PLM_OK || r.st == PLM_EREMOTE);
    assert_true(r.st || utf8_valid(r.candidates, strlen(r.candidates), NULL));
    plm_free(r.candidates);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_replies_are_waited_for_together),
        cmocka_unit_test(a_failing_address_is_left_alone),
        cmocka_unit_test(weights_share_calls_out),
        cmocka_unit_test(stragglers_are_asked_a_second_time),
        cmocka_unit_test(a_crowded_service_gets_what_it_can_take),
        cmocka_unit_test(a_breaker_closes_again),
        cmocka_unit_test(a_cap_holds_with_many_calls_at_once),
        cmocka_unit_test(a_schema_is_asked_for_and_given_up_where_it_is_not_known),
        cmocka_unit_test(cut_and_late_replies_change_nothing),
        cmocka_unit_test(corrupt_replies_end_in_text_or_in_nothing),
    };
    return cmocka_run_group_tests(tests, good_open, good_close);
}
