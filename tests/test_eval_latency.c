/* The figures of `plm-eval latency`, from answers that are made up. */
#include <arpa/inet.h>
#include <math.h>
#include <sys/socket.h>

#include "support_folder.h"

#include "base/base.h"
#include "plm-eval/latency.h"

static void a_percentile_is_one_of_the_values(void **state) {
    (void)state;
    double v[20];
    for (int i = 0; i < 20; i++)
        v[i] = 20 - i;
    assert_true(percentile(v, 20, 0.5) == 10 && percentile(v, 20, 0.95) == 19 && percentile(v, 20, 1) == 20);
    assert_true(percentile(v, 1, 0.5) == 1 && percentile(v, 1, 0.95) == 1);
    assert_true(percentile(v, 3, 0.5) == 2 && percentile(v, 2, 0.5) == 1 && percentile(v, 3, 0) == 1);
    assert_true(isnan(percentile(v, 0, 0.5)));
}

static void failures_are_counted_and_not_timed(void **state) {
    (void)state;
    struct asked direct[4] = {{ANSWERED, 1, 2, 10, ""},
                              {ANSWERED, 2, 3, 20, ""},
                              {CUT, NAN, NAN, 3, "cut"},
                              {ANSWERED, 3, 5, 30, ""}};
    struct asked far[4] = {{ANSWERED, 1.5, 2.5, 10, ""},
                           {SILENT, NAN, NAN, 1, "silent"},
                           {ANSWERED, 9, 9, 50, ""},
                           {ANSWERED, 4, 7, 30, ""}};
    struct latency l = {
        .q.n = 4, .n_rows = 2, .row = {{.where = DIRECT, .each = direct}, {.where = NETWORK, .each = far}}};
    struct figures f;
    assert_int_equal(figures_of(&l, &l.row[0], &f, NULL), PLM_OK);
    assert_true(f.answered == 3 && f.outcome[CUT] == 1 && f.first[0] == 2000 && f.whole[1] == 5000);
    assert_true(isnan(f.added) && f.pieces == 20);
    assert_int_equal(figures_of(&l, &l.row[1], &f, NULL), PLM_OK);
    /* Question 3 has no direct answer to compare with. */
    assert_true(f.answered == 3 && f.outcome[SILENT] == 1 && f.added == 500 && f.pieces == 30);
    mem_fail_at(1, false);
    assert_int_equal(figures_of(&l, &l.row[1], &f, NULL), PLM_ENOMEM);
    mem_fail_at(0, false);
    far[0].outcome = far[2].outcome = far[3].outcome = REFUSED;
    assert_int_equal(figures_of(&l, &l.row[1], &f, NULL), PLM_OK);
    assert_true(f.answered == 0 && isnan(f.first[0]) && isnan(f.whole[1]) && isnan(f.pieces) &&
                isnan(f.added));
}

/* Somebody who listens and never says a word. */
static int listener(int *port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&here, size) | listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&here, &size), 0);
    *port = ntohs(here.sin_port);
    return fd;
}

static plm_status ask_nobody(const char *questions, const char *key, int port, plm_error *err) {
    struct questions q = {NULL, 0};
    struct endpoint *e = NULL;
    struct proxy *p = NULL;
    struct asked a = {ANSWERED, 0, 0, 0, ""};
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/", port);
    plm_status st = questions_read(&q, questions, 9, err);
    if (st == PLM_OK)
        st = endpoint_open(&e, url, "a model", key, NULL, 5, 0.02, err);
    if (st == PLM_OK)
        st = proxy_open(&p, endpoint_host(e), endpoint_port(e), 1, err);
    if (st == PLM_OK)
        st = proxy_set(p, &(struct network){.round_trip = 0.001}, err);
    if (st == PLM_OK)
        st = endpoint_ask(e, p, q.v[q.n - 1], &a, err);
    /* The proxy has no memory of its own to fail with: without any it is a connection that breaks. */
    if (st == PLM_OK)
        assert_true(q.n == 2 && (a.outcome == SILENT || a.outcome == CUT) && a.why[0] && isnan(a.whole));
    proxy_close(p);
    endpoint_close(e);
    questions_free(&q);
    return st;
}

static void each_failing_allocation_is_a_clean_status(void **state) {
    struct folder *f = *state;
    char key[80], questions[2][80];
    static const char *const text[] = {"one?\n\ntwo?\n", "[{\"input\": \"one?\"}, {\"input\": \"two?\"}]"};
    int port, fd = listener(&port);
    snprintf(key, sizeof key, "%s/key", f->path);
    assert_int_equal(file_replace(key, "a-key\n", 6, NULL), PLM_OK);
    for (int i = 0; i < 2; i++) {
        snprintf(questions[i], sizeof questions[i], "%s/questions%d", f->path, i);
        assert_int_equal(file_replace(questions[i], text[i], strlen(text[i]), NULL), PLM_OK);
        plm_status st = PLM_ENOMEM;
        for (long n = 1; st != PLM_OK; n++) {
            plm_error err = {0};
            mem_fail_at(n, false);
            st = ask_nobody(questions[i], key, port, &err);
            mem_fail_at(0, false);
            assert_true(st == PLM_OK || (st == PLM_ENOMEM && err.text[0]));
            assert_true(n < 1000);
        }
    }
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_percentile_is_one_of_the_values),
        cmocka_unit_test(failures_are_counted_and_not_timed),
        cmocka_unit_test_setup_teardown(each_failing_allocation_is_a_clean_status, folder_make, folder_drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
