/* replay.c: runs every file of corpus folders through one fuzz target, each as a test of its own, and again
 * with its first allocations failing. Peak resident memory may pass that of an empty input by 64 MiB. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "fuzz.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

enum { MAX_FILES = 4096, MAX_FAILURES = 48, MAX_FILE = 4 << 20, HEADROOM = 64 << 20 };

/* The kernel forgets the peak so far. False where it does not allow that. */
static bool reset_peak(void) {
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, "5", 1) == 1;
    if (fd >= 0)
        close(fd);
    return done;
}

static void replay_file(void **state) {
    struct bytes b;
    plm_error err = {0};
    if (file_read(*state, MAX_FILE, &b, &err))
        fail_msg("%s", err.text);
    /* A copy of exactly its size, so that reading past the end is seen. */
    uint8_t *data = malloc(b.len ? b.len : 1);
    memcpy(data, b.data, b.len);
    FUZZ_TARGET(data, 0);
    bool can_reset = reset_peak();
    uint64_t before = process_rss();
    FUZZ_TARGET(data, b.len);
    uint64_t peak = process_peak_rss();
    long count = mem_count();
    FUZZ_TARGET(data, b.len);
    count = mem_count() - count;
    for (long i = 1; i <= count && i <= MAX_FAILURES; i++) {
        mem_fail_at(i, false);
        FUZZ_TARGET(data, b.len);
        mem_fail_at(0, false);
    }
    free(data);
    bytes_free(&b);
#if !defined(SANITIZED)
    if (can_reset && peak > before + HEADROOM)
        fail_msg("peak memory rose by %llu bytes", (unsigned long long)(peak - before));
#else
    (void)can_reset;
    (void)peak;
    (void)before;
#endif
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct CMUnitTest *)a)->name, ((const struct CMUnitTest *)b)->name);
}

/* Adds the files of one folder; how many there are now. */
static size_t add_folder(struct CMUnitTest *tests, size_t n, const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir)
        return n;
    for (struct dirent *e; (e = readdir(dir)) && n < MAX_FILES;) {
        char *path;
        if (e->d_name[0] == '.' || asprintf(&path, "%s/%s", folder, e->d_name) < 0)
            continue;
        tests[n++] = (struct CMUnitTest){.name = path, .test_func = replay_file, .initial_state = path};
    }
    closedir(dir);
    return n;
}

int main(int argc, char **argv) {
    static struct CMUnitTest tests[MAX_FILES];
    size_t n = 0;
    for (int i = 1; i < argc; i++)
        n = add_folder(tests, n, argv[i]);
    if (!n) {
        fprintf(stderr, "usage: replay_NAME CORPUS-FOLDER... (no files found)\n");
        return 2;
    }
    qsort(tests, n, sizeof *tests, by_name);
    int bad = _cmocka_run_group_tests(strrchr(argv[1], '/') ? strrchr(argv[1], '/') + 1 : argv[1], tests, n,
                                      NULL, NULL);
    for (size_t i = 0; i < n; i++)
        free(tests[i].initial_state);
    return bad;
}
