/* The server's own rules: which Host is ours, which path is which route. What clients do to it is in
 * cloud.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "net/server.h"

static void only_our_names_are_ours(void **state) {
    (void)state;
    const char *const names[] = {"plm.example.org", NULL};
    static const struct {
        const char *host, *address;
        bool ours;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1", true},
        {"127.0.0.1:8443", "127.0.0.1", true},
        {"localhost:1", "127.0.0.1", true},
        {"LOCALHOST", "127.0.0.1", true},
        {"[::1]:8443", "127.0.0.1", true},
        {"[::1]", "::1", true},
        {"plm.example.org", "127.0.0.1", true},
        {"PLM.example.org:443", "0.0.0.0", true},
        {"192.0.2.7:8443", "192.0.2.7", true},
        {"localhost", "192.0.2.7", false},
        {"127.0.0.1", "192.0.2.7", false},
        {"evil.example", "127.0.0.1", false},
        {"localhost.evil.example", "127.0.0.1", false},
        {"localhost:", "127.0.0.1", false},
        {"localhost:0", "127.0.0.1", false},
        {"localhost:99999", "127.0.0.1", false},
        {"localhost:80x", "127.0.0.1", false},
        {"", "127.0.0.1", false},
        {":80", "127.0.0.1", false},
        {"[", "127.0.0.1", false},
        {"[]", "127.0.0.1", false},
        {"[::1", "127.0.0.1", false},
        {"[::1]x", "127.0.0.1", false},
        {"plm.example.org.", "127.0.0.1", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (host_allowed(cases[i].host, cases[i].address, names) != cases[i].ours)
            print_message("%s at %s\n", cases[i].host, cases[i].address);
        assert_int_equal(host_allowed(cases[i].host, cases[i].address, names), cases[i].ours);
    }
    assert_true(host_allowed("localhost", "127.0.0.1", NULL));
    assert_true(address_is_loopback("127.9.9.9") && address_is_loopback("::1"));
    assert_false(address_is_loopback("128.0.0.1") || address_is_loopback("localhost") ||
                 address_is_loopback(""));
}

static void a_path_is_one_route_or_none(void **state) {
    (void)state;
    char part[65], path[200];
    assert_true(route_matches("/healthz", "/healthz", part));
    assert_string_equal(part, "");
    assert_true(route_matches("/v1/jobs/{}/events", "/v1/jobs/aB-_9/events", part));
    assert_string_equal(part, "aB-_9");
    assert_true(route_matches("/v1/jobs/{}", "/v1/jobs/0", part));
    static const char *const none[] = {
        "/v1/jobs/",   "/v1/jobs",     "/v1/jobs/a/", "/v1/jobs/a/events", "/v1/jobs/a%20",
        "/v1/jobs/..", "/v1/jobs/a b", "v1/jobs/a",   "/v1/jobs/\xc3\xa4", ""};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_false(route_matches("/v1/jobs/{}", none[i], part));
    strcpy(path, "/v1/jobs/");
    memset(path + 9, 'a', 64);
    path[73] = 0;
    assert_true(route_matches("/v1/jobs/{}", path, part));
    assert_int_equal(strlen(part), 64);
    strcat(path, "a");
    assert_false(route_matches("/v1/jobs/{}", path, part));
}

static void say_ok(void *ctx, struct exchange *x) {
    (void)ctx;
    exchange_json(x, 200, "{}", 2);
}

static void a_server_opens_and_closes_at_any_failure(void **state) {
    (void)state;
    static const struct route routes[] = {{"GET", "/", say_ok, 0}, {NULL, NULL, NULL, 0}};
    struct server_options opt = {.address = "127.0.0.1", .routes = routes};
    struct server *s = NULL, *other = NULL;
    plm_error err = {0};
    mem_fail_at(1, false);
    assert_int_equal(server_open(&s, &opt, &err), PLM_ENOMEM);
    mem_fail_at(0, false);
    assert_int_equal(server_open(&s, &opt, &err), PLM_OK);
    opt.port = server_port(s);
    assert_int_equal(server_open(&other, &opt, &err), PLM_EIO); // the port is taken
    assert_non_null(strstr(err.text, "can't listen"));
    opt.port = 0;
    opt.cert = opt.key = "no PEM";
    assert_int_equal(server_open(&other, &opt, &err), PLM_EIO);
    opt.address = "localhost";
    assert_int_equal(server_open(&other, &opt, &err), PLM_EINVAL);
    server_drain(s, 1);
    server_close(s);
    server_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_our_names_are_ours),
        cmocka_unit_test(a_path_is_one_route_or_none),
        cmocka_unit_test(a_server_opens_and_closes_at_any_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
