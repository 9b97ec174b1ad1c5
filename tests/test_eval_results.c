/* results.jsonl: order, seeds, torn and repeated lines, and what is refused. */
#include <math.h>

#include "support_folder.h"

#include "base/mem.h"
#include "plm-eval/results.h"

/* A line of a cell. */
static const char *cell(int user, const char *arm, const char *point, int seed, const char *nll) {
    static char line[8][400];
    static int at;
    char *to = line[at++ % 8];
    snprintf(
        to, sizeof line[0],
        "{\"v\":1,\"task\":\"LaMP_4\",\"split\":\"dev\",\"user\":%d,\"arm\":\"%s\",\"bm25\":0,\"point\":\"%"
        "s\","
        "\"history\":8,\"seed\":%d,\"teacher\":\"\",\"student\":\"tiny\",\"config\":\"0123456789abcdef\","
        "\"queries\":2,\"nll\":[%s],\"metric\":{\"rouge1\":[0.5,0.5],\"rougeL\":[0.5,0.5]}}\n",
        user, arm, point, seed, nll);
    return to;
}

static void put(struct folder *f, const char *name, const char *const *lines, int n) {
    FILE *to = fopen(in_folder(f, name), "wb");
    assert_non_null(to);
    for (int i = 0; i < n; i++)
        fputs(lines[i], to);
    assert_int_equal(fclose(to), 0);
}

static plm_status open_two(struct results *r, struct folder *f, plm_error *err) {
    char a[80], b[80];
    snprintf(a, sizeof a, "%s/a", f->path);
    snprintf(b, sizeof b, "%s/b", f->path);
    const char *paths[] = {a, b};
    return results_open(r, paths, 2, err);
}

static void shards_merge_into_groups_of_users_and_seeds(void **state) {
    struct folder *f = *state;
    struct results r;
    struct user_mean u[3];
    mkdir(in_folder(f, "b"), 0700);
    put(f, "a",
        (const char *[]){cell(10, "real", "8", 1, "1,3"), cell(2, "task", "all", 0, "1,1"), "\n",
                         cell(2, "real", "8", 0, "3,3")},
        4);
    put(f, "b/results.jsonl",
        (const char *[]){cell(10, "real", "8", 0, "2,6"), cell(2, "real", "all", 0, "9,9")}, 2);
    assert_int_equal(open_two(&r, f, NULL), PLM_OK);
    assert_int_equal(r.n, 5);
    assert_int_equal(r.n_sections, 1);
    assert_int_equal(r.n_groups, 3);
    assert_int_equal(r.section[0].n, 3);
    const struct group *g = results_group(&r.section[0], "LaMP_4", "real", 0, "8");
    assert_non_null(g);
    assert_int_equal(results_users(g, u), 2);
    assert_int_equal(u[0].user, 2);
    assert_float_equal(u[0].nll, 3, 0);
    assert_int_equal(u[1].user, 10);
    assert_int_equal(u[1].seeds, 2);
    assert_int_equal(u[1].queries, 2);
    assert_float_equal(u[1].nll, 3, 0); /* of the seeds' 4 and 2 */
    assert_null(results_group(&r.section[0], "LaMP_4", "real", 1, "8"));
    results_close(&r);
}

static void a_torn_last_line_is_left_out_and_a_whole_one_without_its_newline_is_not(void **state) {
    struct folder *f = *state;
    struct results r;
    char torn[400], whole[400];
    strcpy(torn, cell(3, "real", "8", 0, "1,1"));
    torn[200] = 0;
    strcpy(whole, cell(4, "real", "8", 0, "1,1"));
    whole[strlen(whole) - 1] = 0;
    put(f, "a", (const char *[]){cell(1, "real", "8", 0, "1,1"), torn}, 2);
    put(f, "b", (const char *[]){cell(2, "real", "8", 0, "1,1"), whole}, 2);
    assert_int_equal(open_two(&r, f, NULL), PLM_OK);
    assert_int_equal(r.n, 3);
    assert_true(r.file[0].torn && !r.file[1].torn);
    assert_int_equal(r.file[0].lines, 1);
    assert_int_equal(r.file[1].lines, 2);
    results_close(&r);
}

static void lines_that_agree_count_once_and_lines_that_do_not_are_refused(void **state) {
    struct folder *f = *state;
    struct results r;
    plm_error err = {0};
    put(f, "a", (const char *[]){cell(1, "real", "8", 0, "1,1")}, 1);
    put(f, "b", (const char *[]){cell(1, "real", "8", 0, "1,1"), cell(1, "real", "8", 1, "1,2")}, 2);
    assert_int_equal(open_two(&r, f, NULL), PLM_OK);
    assert_int_equal(r.n, 2);
    assert_int_equal(r.repeated, 1);
    results_close(&r);
    put(f, "b", (const char *[]){cell(2, "real", "8", 0, "1,1"), cell(1, "real", "8", 0, "1,1.5")}, 2);
    assert_int_equal(open_two(&r, f, &err), PLM_EFORMAT);
    assert_non_null(strstr(err.text, "/a line 1 and "));
    assert_non_null(strstr(err.text, "/b line 2 give different results for user 1 of LaMP_4 under real"));
    results_close(&r);
}

static void runs_without_the_guards_are_a_section_of_their_own(void **state) {
    struct folder *f = *state;
    struct results r;
    char bare[500];
    const char *good = cell(1, "real", "8", 0, "1,2");
    snprintf(bare, sizeof bare, "{\"guarded\":false,%s", good + 1);
    put(f, "a", (const char *[]){cell(1, "real", "8", 0, "1,1")}, 1);
    put(f, "b", (const char *[]){bare}, 1);
    assert_int_equal(open_two(&r, f, NULL), PLM_OK);
    assert_int_equal(r.n_sections, 2);
    assert_true(r.section[0].group->result->guarded && !r.section[1].group->result->guarded);
    results_close(&r);
}

static void an_arm_without_likelihood_has_none(void **state) {
    struct folder *f = *state;
    struct results r;
    put(f, "a", (const char *[]){cell(1, "copy", "all", 0, "")}, 1);
    put(f, "b", (const char *[]){""}, 1);
    assert_int_equal(open_two(&r, f, NULL), PLM_OK);
    assert_int_equal(r.n, 1);
    assert_true(isnan(r.result[0].nll));
    results_close(&r);
}

static void what_is_no_result_is_refused_by_name(void **state) {
    struct folder *f = *state;
    static const struct {
        const char *from, *to, *says;
    } bad[] = {
        {"\"v\":1", "\"v\":2", "version"},
        {"\"LaMP_4\"", "4", "\"task\""},
        {"\"dev\"", "null", "\"split\""},
        {"\"user\":3", "\"user\":-3", "\"user\""},
        {"\"seed\":0", "\"seed\":0.5", "\"seed\""},
        {"\"bm25\":0", "\"bm25\":99999999999", "\"bm25\""},
        {"\"queries\":2", "\"queries\":0", "\"queries\""},
        {"\"queries\":2", "\"queries\":3", "\"nll\""},
        {"[1,1]", "[1,null]", "\"nll\""},
        {"[1,1]", "7", "\"nll\""},
        {"[1,1]", "[1,1e999]", "line 2"},
        {"{\"v\"", "{{\"v\"", "line 2: not valid JSON"},
        {"{\"v\":1", "{\"v\":1,\"v\":1", "line 2"},
        {"{\"v\":1", "[]\n{\"v\":1", "version"},
    };
    put(f, "b", (const char *[]){""}, 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct results r;
        plm_error err = {0};
        char line[600];
        const char *good = cell(3, "real", "8", 0, "1,1"), *at = strstr(good, bad[i].from);
        assert_non_null(at);
        snprintf(line, sizeof line, "%.*s%s%s", (int)(at - good), good, bad[i].to, at + strlen(bad[i].from));
        put(f, "a", (const char *[]){cell(1, "real", "8", 0, "1,1"), line, cell(5, "real", "8", 0, "1,1")},
            3);
        assert_int_equal(open_two(&r, f, &err), PLM_EFORMAT);
        if (!strstr(err.text, bad[i].says) || !strstr(err.text, "line 2"))
            fail_msg("%zu: \"%s\" does not say \"%s\"", i, err.text, bad[i].says);
        results_close(&r);
    }
}

static void one_arm_with_two_teachers_is_refused(void **state) {
    struct folder *f = *state;
    struct results r;
    plm_error err = {0};
    static const char other[] =
        "{\"v\":1,\"task\":\"LaMP_4\",\"split\":\"dev\",\"user\":2,\"arm\":\"synthetic\",\"bm25\":0,"
        "\"point\":\"8\",\"history\":8,\"seed\":0,\"teacher\":\"x\",\"student\":\"tiny\","
        "\"config\":\"0123456789abcdef\",\"queries\":1,\"nll\":[1]}\n";
    put(f, "a", (const char *[]){cell(1, "synthetic", "8", 0, "1,1")}, 1);
    put(f, "b", (const char *[]){other}, 1);
    assert_int_equal(open_two(&r, f, &err), PLM_EFORMAT);
    assert_non_null(strstr(err.text, "the teacher of synthetic on LaMP_4 is x here"));
    results_close(&r);
}

static void a_missing_file_is_one_sentence(void **state) {
    struct folder *f = *state;
    struct results r;
    plm_error err = {0};
    const char *path = in_folder(f, "none");
    assert_int_equal(results_open(&r, &path, 1, &err), PLM_ENOTFOUND);
    assert_non_null(strstr(err.text, "none"));
    results_close(&r);
}

static void each_failing_allocation_is_a_clean_status(void **state) {
    struct folder *f = *state;
    plm_status st = PLM_ENOMEM;
    put(f, "a", (const char *[]){cell(1, "real", "8", 0, "1,1"), cell(1, "real", "8", 1, "1,1")}, 2);
    put(f, "b", (const char *[]){cell(2, "task", "8", 0, "1,1")}, 1);
    for (long n = 1; st != PLM_OK; n++) {
        struct results r;
        plm_error err = {0};
        mem_fail_at(n, false);
        st = open_two(&r, f, &err);
        mem_fail_at(0, false);
        assert_true(st == PLM_OK || (st == PLM_ENOMEM && err.text[0]));
        results_close(&r);
        assert_true(n < 1000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, folder_make, folder_drop)
        T(shards_merge_into_groups_of_users_and_seeds),
        T(a_torn_last_line_is_left_out_and_a_whole_one_without_its_newline_is_not),
        T(lines_that_agree_count_once_and_lines_that_do_not_are_refused),
        T(runs_without_the_guards_are_a_section_of_their_own),
        T(an_arm_without_likelihood_has_none),
        T(what_is_no_result_is_refused_by_name),
        T(one_arm_with_two_teachers_is_refused),
        T(a_missing_file_is_one_sentence),
        T(each_failing_allocation_is_a_clean_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
