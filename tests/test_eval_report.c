/* The report on made-up results whose answers are known, and its page on names that are no names. */
#include <math.h>

#include "support_folder.h"

#include "base/mem.h"
#include "base/str.h"
#include "plm-eval/report.h"

/* What libfontconfig keeps for the life of a process is no leak of ours. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void) {
    return "leak:libfontconfig";
}

struct line { /* what differs between the lines of these tests; zero is usual */
    const char *task, *arm, *point, *config, *more;
    int user, bm25, seed, queries;
    double nll;
};

static FILE *to;

static void put_line(struct line l) {
    int n = l.queries ? l.queries : 2;
    fprintf(
        to,
        "{\"v\":1,\"task\":\"%s\",\"split\":\"dev\",\"user\":%d,\"arm\":\"%s\",\"bm25\":%d,\"point\":\"%s\",",
        l.task ? l.task : "LaMP_4", l.user, l.arm, l.bm25, l.point ? l.point : "8");
    fprintf(to,
            "\"seed\":%d,\"teacher\":\"\",\"student\":\"tiny\",\"config\":\"%s\",\"queries\":%d,\"nll\":[",
            l.seed, l.config ? l.config : "c1", n);
    for (int i = 0; i < n; i++) /* the mean is l.nll */
        fprintf(to, "%s%.17g", i ? "," : "", l.nll * (n == 1 ? 1 : 0.5 + (double)i / (n - 1)));
    fprintf(to, "]%s%s}\n", l.more ? "," : "", l.more ? l.more : "");
}

static void start(struct folder *f) {
    to = fopen(in_folder(f, "results.jsonl"), "wb");
    assert_non_null(to);
}

static json_t *finish(struct folder *f) {
    struct results r;
    const char *path = f->path;
    json_t *doc;
    assert_int_equal(fclose(to), 0);
    assert_int_equal(results_open(&r, &path, 1, NULL), PLM_OK);
    assert_int_equal(report_build(&doc, &r, NULL), PLM_OK);
    results_close(&r);
    return doc;
}

/* doc.key.key...: a number in a key's place is an index. */
static const json_t *at(const json_t *doc, const char *path) {
    struct str rest = str_of(path), one;
    while (doc && str_cut(&rest, '.', &one)) {
        char key[60];
        int64_t i;
        snprintf(key, sizeof key, "%.*s", (int)one.n, one.p);
        doc = parse_i64(one, &i) ? json_array_get(doc, (size_t)i) : json_object_get(doc, key);
    }
    return doc;
}

static double num(const json_t *doc, const char *path) {
    const json_t *v = at(doc, path);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static const char *txt(const json_t *doc, const char *path) {
    return json_string_value(at(doc, path));
}

/* Ten users a task. On LaMP_4 the system is 10 % below real-best, the better one; on LaMP_5 20 % below
 * real-matched. */
static void put_p2(void) {
    for (int u = 0; u < 10; u++) {
        double b = 1 + 0.1 * u;
        put_line((struct line){.user = u, .arm = "real-best", .nll = b});
        put_line((struct line){.user = u, .arm = "real-matched", .nll = 2 * b});
        put_line((struct line){.user = u, .arm = "real+syn", .nll = 0.9 * b, .seed = 0});
        put_line((struct line){.task = "LaMP_5", .user = u, .arm = "real-best", .nll = 1.5 * b});
        put_line((struct line){.task = "LaMP_5", .user = u, .arm = "real-matched", .nll = b});
        put_line((struct line){.task = "LaMP_5", .user = u, .arm = "real+syn", .nll = 0.8 * b});
    }
}

static void the_system_is_tested_against_the_better_rival_of_each_task(void **state) {
    struct folder *f = *state;
    start(f);
    put_p2();
    json_t *doc = finish(f);
    const json_t *p2 = at(doc, "sections.0.hypotheses.1");
    assert_string_equal(txt(p2, "name"), "P2");
    assert_float_equal(num(p2, "result.effect"), -0.15, 1e-9);
    assert_float_equal(num(p2, "result.p"), 2 / 1048576.0, 1e-12); /* all of 20 signs */
    assert_float_equal(num(p2, "result.holm"), 4 / 1048576.0, 1e-12);
    assert_true(json_is_true(at(p2, "result.found")));
    assert_string_equal(txt(p2, "tasks.0.rival"), "real-best");
    assert_string_equal(txt(p2, "tasks.1.rival"), "real-matched");
    assert_float_equal(num(p2, "tasks.0.result.effect"), -0.1, 1e-9);
    assert_float_equal(num(p2, "tasks.0.result.p"), 2 / 1024.0, 1e-12);
    assert_float_equal(num(p2, "tasks.0.result.holm"), 12 / 1024.0, 1e-12); /* of six, four not made */
    assert_int_equal(json_array_size(at(p2, "users")), 20);
    assert_int_equal(json_array_size(at(p2, "missing")), 0);
    json_decref(doc);
}

static void what_is_not_there_is_named_and_not_tested(void **state) {
    struct folder *f = *state;
    start(f);
    put_p2();
    put_line((struct line){.user = 3, .arm = "generic", .nll = 1});
    json_t *doc = finish(f), *list;
    const json_t *p1 = at(doc, "sections.0.hypotheses.0");
    assert_true(json_is_null(at(p1, "result")));
    assert_int_equal(json_array_size(at(p1, "missing")), 4); /* two arms of two tasks */
    assert_string_equal(txt(p1, "missing.0"), "real-matched of LaMP_4 at all");
    list = json_object_get(at(doc, "sections.0"), "missing");
    assert_string_equal(txt(list, "0"), "LaMP_1: no result");
    assert_string_equal(txt(list, "5"), "LaMP_4: generic at 8 has 1 of 10 users");
    assert_true(strstr(txt(list, "4"), "shuffled") && !strstr(txt(list, "4"), "real-best"));
    assert_int_equal(json_array_size(at(doc, "sections.0.harm")), 0);
    json_decref(doc);
}

static void seeds_are_averaged_and_users_with_other_queries_left_out(void **state) {
    struct folder *f = *state;
    start(f);
    for (int u = 0; u < 3; u++) {
        put_line((struct line){.user = u, .arm = "task", .point = "all", .nll = 1});
        put_line((struct line){.user = u, .arm = "real", .nll = 0.5, .queries = u == 2 ? 3 : 2});
        put_line((struct line){.user = u, .arm = "real", .nll = 0.7, .seed = 1, .queries = u == 2 ? 3 : 2});
    }
    json_t *doc = finish(f);
    size_t i;
    json_t *a;
    bool seen = false;
    json_array_foreach(json_object_get(at(doc, "sections.0"), "arms"), i, a) {
        if (strcmp(txt(a, "arm"), "real") != 0)
            continue;
        seen = true;
        assert_float_equal(num(a, "users"), 3, 0);
        assert_float_equal(num(a, "seeds"), 2, 0);
        assert_float_equal(num(a, "nll"), 0.6, 1e-12);
        assert_float_equal(num(a, "difference.users"), 2, 0); /* task at "all" serves every point */
        assert_float_equal(num(a, "difference.effect"), -0.4, 1e-12);
        assert_float_equal(num(a, "difference.wins"), 2, 0);
        assert_true(json_is_null(at(a, "difference.low"))); /* two users bound nothing */
    }
    assert_true(seen);
    json_decref(doc);
}

static void harm_counts_users_more_than_two_percent_worse(void **state) {
    struct folder *f = *state;
    start(f);
    for (int u = 0; u < 20; u++) {
        put_line((struct line){.user = u, .arm = "task", .nll = 1, .bm25 = 4});
        put_line((struct line){.user = u,
                               .arm = "gate",
                               .nll = u == 0   ? 1.021
                                      : u == 1 ? 1.019
                                               : 1,
                               .bm25 = 4});
        put_line((struct line){.user = u, .arm = "real+syn", .nll = 0.5, .bm25 = 4});
    }
    json_t *doc = finish(f);
    assert_int_equal(json_array_size(at(doc, "sections.0.harm")), 1);
    assert_float_equal(num(doc, "sections.0.harm.0.bm25"), 4, 0);
    assert_float_equal(num(doc, "sections.0.harm.0.worse"), 1, 0);
    assert_float_equal(num(doc, "sections.0.harm.0.share"), 0.05, 1e-12);
    assert_float_equal(num(doc, "sections.0.harm.0.upper"), 0.21610616420686976, 1e-9); /* scipy */
    assert_float_equal(num(doc, "sections.0.retrieval.0.result.effect"), -0.5, 1e-12);
    json_decref(doc);
}

static void filters_and_guards_are_summed(void **state) {
    struct folder *f = *state;
    start(f);
    for (int u = 0; u < 3; u++)
        put_line((struct line){
            .user = u,
            .arm = "real+syn",
            .nll = 1,
            .more = u ? "\"synthetic\":{\"asked\":9,\"seen\":8,\"kept\":5,\"near\":1,\"dropped\":"
                        "{\"length\":2}},\"guard\":{\"near\":0}"
                      : "\"synthetic\":{\"asked\":1,\"seen\":1,\"kept\":0,\"dropped\":"
                        "{\"parse\":1}},\"guard\":{\"near\":3}"});
    put_line((struct line){.user = 0, .arm = "task", .nll = 1, .more = "\"guard\":{\"near\":3}"});
    put_line((struct line){.user = 0, .arm = "task", .nll = 1, .config = "c2", .more = "\"guarded\":false"});
    put_line((struct line){.user = 0, .arm = "task", .nll = 1, .config = "c2"});
    json_t *doc = finish(f);
    assert_float_equal(num(doc, "dev_configurations"), 2, 0);
    assert_int_equal(json_array_size(at(doc, "sections")), 3);
    assert_float_equal(num(doc, "sections.0.filters.0.asked"), 19, 0);
    assert_float_equal(num(doc, "sections.0.filters.0.kept"), 10, 0);
    assert_float_equal(num(doc, "sections.0.filters.0.dropped.length"), 4, 0);
    assert_float_equal(num(doc, "sections.0.filters.0.dropped.parse"), 1, 0);
    assert_float_equal(num(doc, "sections.0.guards.users"), 3, 0);
    assert_float_equal(num(doc, "sections.0.guards.users_with"), 1, 0);
    assert_float_equal(num(doc, "sections.0.guards.items"), 3, 0); /* once, not once an arm */
    assert_float_equal(num(doc, "sections.0.guards.rows"), 2, 0);
    assert_true(json_is_false(at(doc, "sections.2.guarded")));
    json_decref(doc);
}

static void metrics_pool_queries_and_average_seeds(void **state) {
    struct folder *f = *state;
    start(f);
    put_line((struct line){
        .task = "LaMP_3", .arm = "task", .nll = 1, .more = "\"metric\":{\"pred\":[0,4],\"gold\":[1,4]}"});
    put_line((struct line){.task = "LaMP_3",
                           .arm = "task",
                           .user = 1,
                           .nll = 1,
                           .more = "\"metric\":{\"pred\":[-1,2],\"gold\":[0,2]}"});
    put_line((struct line){
        .task = "LaMP_1", .arm = "task", .nll = 1, .more = "\"metric\":{\"pred\":[0,1],\"gold\":[0,0]}"});
    put_line((struct line){.task = "LaMP_1",
                           .arm = "task",
                           .nll = 1,
                           .seed = 1,
                           .more = "\"metric\":{\"pred\":[0,0],\"gold\":[0,0]}"});
    put_line((struct line){
        .task = "LaMP_7",
        .arm = "task",
        .nll = 1,
        .more = "\"metric\":{\"rouge1\":[0.25,0.75],\"rougeL\":[0.25,0.25]},\"cost\":{\"answer_ms\":7}"});
    json_t *doc = finish(f);
    const json_t *arms = at(doc, "sections.0.arms");
    assert_float_equal(num(arms, "0.metric.accuracy"), 0.75, 1e-12);
    assert_float_equal(num(arms, "0.metric.f1"), (2.0 / 3 / 2 + 0.5) / 2, 1e-12);
    assert_float_equal(num(arms, "1.metric.MAE"), (1 + 0 + 4 + 0) / 4.0, 1e-12); /* -1: the worst, 5 for 1 */
    assert_float_equal(num(arms, "1.metric.RMSE"), sqrt(17 / 4.0), 1e-12);
    assert_float_equal(num(arms, "2.metric.rouge-1"), 0.5, 1e-12);
    assert_float_equal(num(arms, "2.cost.answer_ms"), 7, 0);
    assert_true(json_is_null(at(arms, "2.cost.train_s")));
    json_decref(doc);
}

static void the_page_holds_names_as_text_and_each_plot_twice(void **state) {
    struct folder *f = *state;
    json_t *blocks;
    char *html;
    size_t pictures = 0, images = 0, bytes;
    start(f);
    put_p2();
    for (int u = 0; u < 10; u++) {
        put_line((struct line){.user = u, .arm = "task", .nll = 1});
        put_line((struct line){.user = u, .arm = "<script>&\\\"x", .nll = 1.1});
    }
    json_t *doc = finish(f);
    assert_int_equal(report_blocks(&blocks, doc, NULL), PLM_OK);
    assert_int_equal(report_page(blocks, doc, &html, NULL), PLM_OK);
    assert_null(strstr(html, "<script"));
    assert_non_null(strstr(html, "&lt;script&gt;&amp;&quot;x"));
    assert_null(strstr(html, "http"));
    for (const char *p = html; (p = strstr(p, "<picture>")); p++)
        pictures++;
    for (const char *p = html; (p = strstr(p, "data:image/svg+xml;base64,")); p++)
        images++;
    assert_true(pictures >= 3); /* users of P2, arms, filters */
    assert_int_equal(images, 2 * pictures);
    plm_free(html);

    char folder[80], path[120];
    snprintf(folder, sizeof folder, "%s/svg", f->path);
    assert_int_equal(report_plots(blocks, doc, folder, NULL), PLM_OK);
    static const char *const names[] = {"1-users-P2.svg", "1-arms-8.svg", "1-arms-8-dark.svg"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        char *svg = read_bytes(path, &bytes);
        assert_memory_equal(svg, "<?xml", 5);
        assert_string_equal(svg + bytes - 7, "</svg>\n");
        free(svg);
    }
    json_decref(blocks);
    json_decref(doc);
}

static void the_text_says_what_was_found(void **state) {
    struct folder *f = *state;
    json_t *blocks;
    char *out = NULL;
    size_t n;
    start(f);
    put_p2();
    json_t *doc = finish(f);
    assert_int_equal(report_blocks(&blocks, doc, NULL), PLM_OK);
    FILE *text = open_memstream(&out, &n);
    report_print(blocks, text);
    fclose(text);
    assert_non_null(strstr(out, "60 results of 1 file ("));
    assert_non_null(strstr(out, "P2: filtered synthetic data"));
    assert_non_null(strstr(out, "at point 8: found."));
    assert_non_null(strstr(out, "-15.0 % ["));
    assert_non_null(strstr(out, "there are no results for it."));
    free(out);
    json_decref(blocks);
    json_decref(doc);
}

/* Those of base/mem.h; libjansson and cairo have memory of their own. */
static void each_failing_allocation_is_a_clean_status(void **state) {
    struct folder *f = *state;
    struct results r;
    const char *path = f->path;
    plm_status st = PLM_ENOMEM;
    start(f);
    for (int u = 0; u < 2; u++) {
        put_line((struct line){.user = u, .arm = "real", .nll = 1});
        put_line((struct line){.user = u, .arm = "task", .nll = 1});
    }
    json_decref(finish(f));
    assert_int_equal(results_open(&r, &path, 1, NULL), PLM_OK);
    for (long n = 1; st != PLM_OK; n++) {
        json_t *doc = NULL, *blocks = NULL;
        char *html = NULL;
        plm_error err = {0};
        mem_fail_at(n, false);
        st = report_build(&doc, &r, &err);
        if (st == PLM_OK)
            st = report_blocks(&blocks, doc, &err);
        if (st == PLM_OK)
            st = report_page(blocks, doc, &html, &err);
        mem_fail_at(0, false);
        assert_true(st == PLM_OK || (st == PLM_ENOMEM && err.text[0]));
        assert_true(n < 5000);
        plm_free(html);
        json_decref(blocks);
        json_decref(doc);
    }
    results_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, folder_make, folder_drop)
        T(the_system_is_tested_against_the_better_rival_of_each_task),
        T(what_is_not_there_is_named_and_not_tested),
        T(seeds_are_averaged_and_users_with_other_queries_left_out),
        T(harm_counts_users_more_than_two_percent_worse),
        T(filters_and_guards_are_summed),
        T(metrics_pool_queries_and_average_seeds),
        T(the_page_holds_names_as_text_and_each_plot_twice),
        T(the_text_says_what_was_found),
        T(each_failing_allocation_is_a_clean_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
