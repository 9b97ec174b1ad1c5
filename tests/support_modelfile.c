#include "support_modelfile.h"
#include <ftw.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

static void check_refusal(plm_status got, plm_status st, const plm_error *err, const char *words,
                          const void *out) {
    if (got != st || !strstr(err->text, words))
        print_message("expected %d with '%s', got %d: %s\n", st, words, got, got ? err->text : "");
    assert_int_equal(got, st);
    assert_null(out);
    assert_non_null(strstr(err->text, words));
    assert_non_null(strstr(err->text, "x.file"));
    assert_null(strchr(err->text, '\n'));
}

void refuse_gguf(struct raw *r, plm_status st, const char *words) {
    plm_error err = {0};
    struct gguf *g = NULL;
    unsigned char *copy = malloc(r->n ? r->n : 1);
    if (r->n)
        memcpy(copy, r->p, r->n);
    plm_status got = gguf_parse(&g, copy, r->n, "x.file", &err);
    check_refusal(got, st, &err, words, g);
    free(copy);
    raw_free(r);
}

void refuse_safetensors(const void *data, size_t n, plm_status st, const char *words) {
    plm_error err = {0};
    struct safetensors *s = NULL;
    unsigned char *copy = malloc(n ? n : 1);
    if (n)
        memcpy(copy, data, n);
    plm_status got = safetensors_parse(&s, copy, n, "x.file", &err);
    check_refusal(got, st, &err, words, s);
    free(copy);
}

static char folder[64];

const char *temp_path(const char *name) {
    static char path[4][200];
    static int turn;
    if (!folder[0]) {
        strcpy(folder, "/tmp/plm-test-XXXXXX");
        assert_non_null(mkdtemp(folder));
    }
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info, (void)kind, (void)where;
    return remove(path);
}

void temp_clear(void) {
    if (folder[0])
        nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    folder[0] = 0;
}

long fail_each_allocation(plm_status (*what)(void *ctx, plm_error *err), void *ctx) {
    long n = 0;
    for (int forever = 0; forever < 2; forever++) {
        plm_status st = PLM_ENOMEM;
        for (n = 1; st != PLM_OK && n < 100000; n++) {
            plm_error err = {0};
            mem_fail_at(n, forever);
            st = what(ctx, &err);
            mem_fail_at(0, false);
            if (st != PLM_OK && st != PLM_ENOMEM)
                print_message("allocation %ld: %d %s\n", n, st, err.text);
            assert_true(st == PLM_OK || st == PLM_ENOMEM);
            assert_true(st == PLM_OK || err.text[0]);
        }
        assert_int_equal(st, PLM_OK);
    }
    return n;
}

void skip_if_sanitized(void) {
#ifdef SANITIZED
    skip();
#endif
}

size_t peak_of(void (*what)(void *ctx), void *ctx) {
    int ends[2], status;
    size_t peak = SIZE_MAX;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        malloc_trim(0); /* what earlier tests freed must not hide what this call takes */
        size_t before = (size_t)process_rss();
        what(ctx);
        size_t grown = (size_t)process_peak_rss() - before;
        _exit(write(ends[1], &grown, sizeof grown) == sizeof grown ? 0 : 1);
    }
    close(ends[1]);
    if (read(ends[0], &peak, sizeof peak) != sizeof peak)
        peak = SIZE_MAX;
    close(ends[0]);
    waitpid(child, &status, 0);
    return status == 0 ? peak : SIZE_MAX;
}
