/* test_net.c: the HTTP client against a server that behaves as badly as servers do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_teacher.h"
#include "net/net.h"

struct waits {
    int n;
    double seconds[32];
    char why[500];
    int stop;
};

static int on_waiting(void *ctx, const char *why, double seconds) {
    struct waits *w = ctx;
    w->seconds[w->n++ % 32] = seconds;
    snprintf(w->why, sizeof w->why, "%s", why);
    return w->stop;
}

static struct http_options quick(struct waits *w) {
    return (struct http_options){.retry_s = .02,
                                 .waiting = on_waiting,
                                 .ctx = w,
                                 .bearer = "sk-test-1234567890",
                                 .first_byte_s = 1.5,
                                 .total_s = 3};
}

static plm_status post(const char *behaviour, const struct http_options *opt, struct http_reply *r,
                       plm_error *err) {
    char url[260];
    snprintf(url, sizeof url, "%s/chat/completions", fake_base(&fake, behaviour));
    return http_send(url, "{\"a\":1}", 7, opt, r, err);
}

static void expect(const char *behaviour, plm_status want, int status, int attempts, const char *says) {
    struct waits w = {0};
    struct http_options o = quick(&w);
    struct http_reply r;
    plm_error err = {0};
    plm_status st = post(behaviour, &o, &r, &err);
    if (st != want || (status && r.status != status) || (attempts && r.attempts != attempts))
        print_message("%s: %d %d %d %s\n", behaviour, st, r.status, r.attempts, err.text);
    assert_int_equal(st, want);
    if (status)
        assert_int_equal(r.status, status);
    if (attempts)
        assert_int_equal(r.attempts, attempts);
    if (says)
        assert_non_null(strstr(err.text, says));
    assert_null(strstr(err.text, "sk-test"));
    assert_null(strstr(w.why, "sk-test"));
    http_reply_free(&r);
}

static void good_reply_arrives_with_the_key(void **s) {
    (void)s;
    free(fake_received(&fake, 0));
    free(fake_received(&fake, 1));
    expect("good", PLM_OK, 200, 1, NULL);
    char *body = fake_received(&fake, 0), *head = fake_received(&fake, 1);
    assert_string_equal(body, "{\"a\":1}\n");
    assert_string_equal(head, "good Bearer sk-test-1234567890\n");
    free(body);
    free(head);
}

static void passing_failures_are_tried_again(void **s) {
    (void)s;
    const char *codes[] = {"408", "409", "429", "500", "502", "503", "504", "529"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        char how[40];
        snprintf(how, sizeof how, "after-2-%s", codes[i]);
        expect(how, PLM_OK, 200, 3, NULL);
    }
}

static void lasting_failures_are_not_tried_again(void **s) {
    (void)s;
    expect("status-400", PLM_EREMOTE, 400, 1, "does not accept the request");
    expect("status-401", PLM_EREMOTE, 401, 1, "does not accept the key");
    expect("status-403", PLM_EREMOTE, 403, 1, "key");
    expect("status-404", PLM_EREMOTE, 404, 1, "does not know");
    expect("status-413", PLM_EREMOTE, 413, 1, "too large");
    expect("status-301", PLM_EREMOTE, 301, 1, "not followed");
}

static void attempts_have_an_end(void **s) {
    (void)s;
    expect("status-503", PLM_EREMOTE, 503, 4, "fault of its own");
    expect("status-429", PLM_EREMOTE, 429, 4, "fewer requests");
}

static void redirect_is_not_followed(void **s) {
    (void)s;
    free(fake_received(&fake, 1));
    expect("redirect", PLM_EREMOTE, 302, 1, "not followed");
    char *head = fake_received(&fake, 1);
    assert_null(strstr(head, "good"));
    free(head);
}

static double first_wait(const char *behaviour) {
    struct waits w = {0};
    struct http_options o = quick(&w);
    struct http_reply r;
    assert_int_equal(post(behaviour, &o, &r, NULL), PLM_OK);
    http_reply_free(&r);
    assert_int_equal(w.n, 1);
    return w.seconds[0];
}

static void retry_after_is_honoured(void **s) {
    (void)s;
    double t = first_wait("retry-1");
    assert_true(t >= 1 && t < 1.1);
    t = first_wait("retry-date");
    assert_true(t > .5 && t <= 2.1);
    assert_true(first_wait("retry--5") < .03);
    assert_true(first_wait("retry-soon") < .03);
    assert_true(first_wait("retry-Mon,_01_Jan_1990_00:00:00_GMT") < .03);
}

static void absurd_retry_after_is_capped(void **s) {
    (void)s;
    struct waits w = {.stop = 1};
    struct http_options o = quick(&w);
    struct http_reply r;
    plm_error err;
    assert_int_equal(post("retry-99999999", &o, &r, &err), PLM_ESTOPPED);
    assert_true(w.seconds[0] == 600);
    http_reply_free(&r);
}

static void waits_grow_with_equal_jitter(void **s) {
    (void)s;
    struct waits w = {0};
    struct http_options o = quick(&w);
    o.attempts = 5;
    struct http_reply r;
    assert_int_equal(post("status-500", &o, &r, NULL), PLM_EREMOTE);
    http_reply_free(&r);
    assert_int_equal(w.n, 4);
    for (int i = 0; i < 4; i++)
        assert_true(w.seconds[i] >= .01 * (1 << i) && w.seconds[i] <= .02 * (1 << i));
}

static void slow_and_broken_replies_end(void **s) {
    (void)s;
    struct waits w = {0};
    struct http_options o = quick(&w);
    o.attempts = 1;
    const char *how[] = {"hang", "drip", "cut"};
    for (int i = 0; i < 3; i++) {
        struct http_reply r;
        plm_error err;
        double from = clock_now();
        assert_int_equal(post(how[i], &o, &r, &err), PLM_EREMOTE);
        assert_true(clock_now() - from < 5);
        http_reply_free(&r);
    }
}

static void endless_reply_is_cut_off(void **s) {
    (void)s;
    expect("big", PLM_EREMOTE, 0, 1, "more than 1024 KiB");
}

static void compressed_reply_is_not_unpacked(void **s) {
    (void)s;
    struct http_reply r;
    assert_int_equal(post("gzip", NULL, &r, NULL), PLM_OK);
    assert_int_equal(r.body.len, 104);
    http_reply_free(&r);
}

static void refused_connection_says_so(void **s) {
    (void)s;
    struct http_reply r;
    struct waits w = {0};
    struct http_options o = quick(&w);
    plm_error err;
    assert_int_equal(http_send("http://127.0.0.1:1/v1", "{}", 2, &o, &r, &err), PLM_EREMOTE);
    assert_non_null(strstr(err.text, "127.0.0.1"));
    assert_int_equal(r.attempts, 4);
    http_reply_free(&r);
}

static void unsafe_addresses_are_refused(void **s) {
    (void)s;
    const char *bad[] = {"http://example.org/v1",
                         "http://10.0.0.1/v1",
                         "ftp://127.0.0.1/",
                         "file:///etc/passwd",
                         "https://user:pw@example.org/v1",
                         "http://127.0.0.1.evil.example/",
                         "http://localhost.evil/",
                         "https://exa mple.org/",
                         "nonsense",
                         "",
                         "http://0x7f.1.evil/",
                         "https://"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        plm_error err = {0};
        assert_int_equal(http_check_url(bad[i], NULL, &err), PLM_EINVAL);
        assert_true(*err.text);
    }
    bool loopback = false;
    assert_int_equal(http_check_url("http://localhost:8080/v1", &loopback, NULL), PLM_OK);
    assert_true(loopback);
    assert_int_equal(http_check_url("http://[::1]:8080/v1", &loopback, NULL), PLM_OK);
    assert_true(loopback);
    assert_int_equal(http_check_url("https://api.example.org/v1", &loopback, NULL), PLM_OK);
    assert_false(loopback);
}

static void key_with_a_line_break_is_refused(void **s) {
    (void)s;
    struct http_options o = {.bearer = "abc\r\nX-Evil: 1"};
    struct http_reply r;
    assert_int_equal(http_send(fake_base(&fake, "good"), "{}", 2, &o, &r, NULL), PLM_EINVAL);
    http_reply_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_reply_arrives_with_the_key),
        cmocka_unit_test(passing_failures_are_tried_again),
        cmocka_unit_test(lasting_failures_are_not_tried_again),
        cmocka_unit_test(attempts_have_an_end),
        cmocka_unit_test(redirect_is_not_followed),
        cmocka_unit_test(retry_after_is_honoured),
        cmocka_unit_test(absurd_retry_after_is_capped),
        cmocka_unit_test(waits_grow_with_equal_jitter),
        cmocka_unit_test(slow_and_broken_replies_end),
        cmocka_unit_test(endless_reply_is_cut_off),
        cmocka_unit_test(compressed_reply_is_not_unpacked),
        cmocka_unit_test(refused_connection_says_so),
        cmocka_unit_test(unsafe_addresses_are_refused),
        cmocka_unit_test(key_with_a_line_break_is_refused),
    };
    return cmocka_run_group_tests(tests, fake_open, fake_close);
}
