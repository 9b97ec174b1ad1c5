/* Files: what may be mapped, replacement that is all or nothing, and reading lines of anything. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>
#include <fcntl.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

static char dir[] = "/tmp/plm-file-XXXXXX";
static char path_room[4][300];

static const char *in_dir(const char *name) {
    static int next;
    char *p = path_room[next++ & 3];
    snprintf(p, sizeof path_room[0], "%s/%s", dir, name);
    return p;
}

static void write_file(const char *path, const char *data, size_t len) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
}

static void check_file(const char *path, const char *want) {
    struct bytes b;
    assert_int_equal(file_read(path, 1 << 20, &b, NULL), PLM_OK);
    assert_string_equal(b.data, want);
    bytes_free(&b);
}

static size_t entries(const char *path) {
    size_t n = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int tear_down(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static void regular_files_are_mapped(void **state) {
    (void)state;
    struct map m;
    struct stat info;
    const char *path = in_dir("map");
    write_file(path, "hello", 5);
    assert_int_equal(map_open(&m, path, NULL), PLM_OK);
    assert_int_equal(m.size, 5);
    assert_memory_equal(m.data, "hello", 5);
    stat(path, &info);
    assert_true(m.ino == (int64_t)info.st_ino && m.mtime_ns / 1000000000 == info.st_mtim.tv_sec);
    map_close(&m);
    map_close(&m);
}

static void anything_else_is_not_mapped(void **state) {
    (void)state;
    struct map m;
    plm_error err;
    const char *path = in_dir("empty"), *fifo = in_dir("fifo");
    write_file(path, "", 0);
    assert_int_equal(map_open(&m, path, &err), PLM_EFORMAT);
    assert_non_null(strstr(err.text, "is empty"));
    assert_int_equal(map_open(&m, in_dir("absent"), &err), PLM_ENOTFOUND);
    assert_int_equal(map_open(&m, dir, &err), PLM_EINVAL);
    assert_non_null(strstr(err.text, "is a folder"));
    assert_int_equal(map_open(&m, "/dev/zero", &err), PLM_EINVAL);
    assert_non_null(strstr(err.text, "is a device"));
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(map_open(&m, fifo, &err), PLM_EINVAL); /* and does not wait for a writer */
    assert_non_null(strstr(err.text, "is a pipe"));
    unlink(fifo);
    assert_null(m.data);
}

static void whole_files_are_read_up_to_a_limit(void **state) {
    (void)state;
    struct bytes b;
    plm_error err;
    const char *path = in_dir("whole");
    write_file(path, "ab\0cd", 5);
    assert_int_equal(file_read(path, 5, &b, &err), PLM_OK);
    assert_int_equal(b.len, 5);
    assert_memory_equal(b.data, "ab\0cd", 6);
    bytes_free(&b);
    assert_int_equal(file_read(path, 4, &b, &err), PLM_ELIMIT);
    assert_non_null(strstr(err.text, "larger than its limit of 4 bytes"));
    assert_int_equal(file_read("/dev/zero", 1 << 20, &b, &err), PLM_ELIMIT);
    assert_int_equal(file_read(dir, 100, &b, &err), PLM_EIO);
    assert_int_equal(file_read(in_dir("absent"), 100, &b, &err), PLM_ENOTFOUND);
}

static void replacement_is_private_and_leaves_nothing_beside(void **state) {
    (void)state;
    struct stat info;
    char sub[300];
    snprintf(sub, sizeof sub, "%s", in_dir("replace"));
    assert_int_equal(dir_make(sub, NULL), PLM_OK);
    char path[320], link[320];
    snprintf(path, sizeof path, "%s/a", sub);
    snprintf(link, sizeof link, "%s/link", sub);
    assert_int_equal(file_replace(path, "old", 3, NULL), PLM_OK);
    assert_int_equal(file_replace(path, "new!", 4, NULL), PLM_OK);
    check_file(path, "new!");
    stat(path, &info);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(symlink("a", link), 0);
    assert_int_equal(file_replace(link, "by link", 7, NULL), PLM_OK);
    check_file(path, "by link");
    lstat(link, &info);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(entries(sub), 2);
}

static void failed_replacement_keeps_the_old_file(void **state) {
    (void)state;
    plm_error err;
    struct rlimit old, small;
    char sub[300], path[320];
    snprintf(sub, sizeof sub, "%s", in_dir("full"));
    snprintf(path, sizeof path, "%s/a", sub);
    assert_int_equal(dir_make(sub, NULL), PLM_OK);
    assert_int_equal(file_replace(path, "old", 3, NULL), PLM_OK);
    /* A file size limit makes write() fail like a full disk. */
    char *big = calloc(1, 300000);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 100000;
    setrlimit(RLIMIT_FSIZE, &small);
    plm_status st = file_replace(path, big, 300000, &err);
    struct writer *w;
    assert_int_equal(writer_open(&w, path, NULL), PLM_OK);
    plm_status put = PLM_OK, later;
    for (int i = 0; i < 300 && !put; i++)
        put = writer_put(w, big, 1000, NULL);
    later = writer_put(w, big, 1, NULL);
    plm_status commit = writer_commit(w, NULL);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    free(big);
    assert_int_equal(st, PLM_EIO);
    assert_non_null(strstr(err.text, "File too large"));
    assert_true(put == PLM_EIO && later == PLM_EIO && commit == PLM_EIO);
    check_file(path, "old");
    assert_int_equal(entries(sub), 1);
}

static void what_is_no_file_is_not_replaced(void **state) {
    (void)state;
    plm_error err;
    assert_int_equal(file_replace("/dev/full", "x", 1, &err), PLM_EINVAL);
    assert_int_equal(file_replace(dir, "x", 1, &err), PLM_EINVAL);
    assert_int_equal(file_replace(in_dir("no/such/place"), "x", 1, &err), PLM_ENOTFOUND);
}

static void closed_folder_is_a_sentence(void **state) {
    (void)state;
    plm_error err;
    char sub[300], path[320];
    if (geteuid() == 0) {
        print_message("root may write into any folder\n");
        skip();
    }
    snprintf(sub, sizeof sub, "%s", in_dir("closed"));
    snprintf(path, sizeof path, "%s/a", sub);
    assert_int_equal(mkdir(sub, 0500), 0);
    assert_int_equal(file_replace(path, "x", 1, &err), PLM_EIO);
    assert_non_null(strstr(err.text, "Permission denied"));
}

static void writer_pads_and_knows_where_it_is(void **state) {
    (void)state;
    struct writer *w;
    const char *path = in_dir("padded");
    static char big[200000];
    assert_int_equal(writer_open(&w, path, NULL), PLM_OK);
    assert_int_equal(writer_put(w, "abc", 3, NULL), PLM_OK);
    assert_int_equal(writer_pad(w, 32, NULL), PLM_OK);
    assert_int_equal(writer_at(w), 32);
    assert_int_equal(writer_pad(w, 32, NULL), PLM_OK);
    assert_int_equal(writer_at(w), 32);
    memset(big, 'x', sizeof big);
    assert_int_equal(writer_put(w, big, sizeof big, NULL), PLM_OK);
    assert_int_equal(writer_put(w, "end", 3, NULL), PLM_OK);
    assert_false(file_exists(path));
    assert_int_equal(writer_commit(w, NULL), PLM_OK);
    struct map m;
    assert_int_equal(map_open(&m, path, NULL), PLM_OK);
    assert_int_equal(m.size, 200035);
    assert_memory_equal(m.data, "abc\0", 4);
    assert_memory_equal(m.data + 31, "\0x", 2);
    assert_memory_equal(m.data + 200031, "xend", 4);
    map_close(&m);
    assert_int_equal(writer_open(&w, path, NULL), PLM_OK);
    writer_abort(w);
    writer_abort(NULL);
    assert_true(file_exists(path));
}

static void folders_are_made_with_parents(void **state) {
    (void)state;
    plm_error err;
    struct stat info;
    assert_int_equal(dir_make(in_dir("x/y//z/"), NULL), PLM_OK);
    assert_int_equal(dir_make(in_dir("x/y/z"), NULL), PLM_OK);
    assert_true(dir_exists(in_dir("x/y/z")) && !file_exists(in_dir("x/y/z")));
    stat(in_dir("x"), &info);
    assert_int_equal(info.st_mode & 0777, 0700);
    write_file(in_dir("x/f"), "1", 1);
    assert_true(dir_make(in_dir("x/f"), &err) && dir_make(in_dir("x/f/g"), &err));
    assert_non_null(strstr(err.text, "Not a directory"));
    assert_int_equal(dir_make("", &err), PLM_EINVAL);
}

struct want {
    const char *line; /* NULL: too long */
    size_t len;
};

static void check_lines(const char *path, size_t max, const struct want *want, size_t n) {
    struct lines *l;
    const char *line;
    size_t len, number;
    bool more;
    assert_int_equal(lines_open(&l, path, max, NULL), PLM_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(lines_next(l, &line, &len, &number, &more, NULL), PLM_OK);
        assert_true(more);
        assert_int_equal(number, i + 1);
        if (!want[i].line) {
            assert_null(line);
            continue;
        }
        assert_non_null(line);
        assert_int_equal(len, want[i].len);
        assert_memory_equal(line, want[i].line, len);
        assert_int_equal(line[len], 0);
    }
    assert_int_equal(lines_next(l, &line, &len, &number, &more, NULL), PLM_OK);
    assert_false(more);
    lines_close(l);
}

static void lines_come_without_their_ends(void **state) {
    (void)state;
    const char *path = in_dir("lines");
    write_file(path, "a\r\n\nb\0c\n\r\nd\re\nlast", 18);
    check_lines(path, 100, (struct want[]){{"a", 1}, {"", 0}, {"b\0c", 3}, {"", 0}, {"d\re", 3}, {"last", 4}},
                6);
    write_file(path, "", 0);
    check_lines(path, 100, NULL, 0);
    write_file(path, "\n", 1);
    check_lines(path, 100, (struct want[]){{"", 0}}, 1);
}

static void too_long_lines_are_skipped_and_reading_goes_on(void **state) {
    (void)state;
    const char *path = in_dir("long");
    write_file(path, "12345\n123456\n12345\r\n1234567890123\nend", 37);
    check_lines(path, 5, (struct want[]){{"12345", 5}, {NULL, 0}, {"12345", 5}, {NULL, 0}, {"end", 3}}, 5);
    write_file(path, "1234567890", 10);
    check_lines(path, 5, (struct want[]){{NULL, 0}}, 1);
    write_file(path, "x", 1);
    check_lines(path, 0, (struct want[]){{NULL, 0}}, 1);
}

static void huge_lines_stay_within_memory(void **state) {
    (void)state;
    const char *path = in_dir("huge");
    FILE *f = fopen(path, "wb");
    char *block = malloc(1 << 20);
    memset(block, 'x', 1 << 20);
    for (int i = 0; i < 48; i++)
        fwrite(block, 1, 1 << 20, f);
    fputs("\nafter\n", f);
    fwrite(block, 1, 300000, f);
    fputs("\n", f);
    fclose(f);
    uint64_t before = process_rss();
    check_lines(path, 1 << 20, (struct want[]){{NULL, 0}, {"after", 5}, {block, 300000}}, 3);
    assert_true(process_rss() < before + (8 << 20));
    free(block);
}

static void *feed(void *arg) {
    int fd = open(arg, O_WRONLY);
    const char *pieces[] = {"on", "e\r", "\ntw", "o"};
    for (int i = 0; i < 4; i++) {
        assert_true(write(fd, pieces[i], strlen(pieces[i])) > 0);
        usleep(2000);
    }
    close(fd);
    return NULL;
}

static void lines_come_from_pipes_and_standard_input(void **state) {
    (void)state;
    pthread_t t;
    const char *fifo = in_dir("feed");
    struct want want[] = {{"one", 3}, {"two", 3}};
    assert_int_equal(mkfifo(fifo, 0600), 0);
    pthread_create(&t, NULL, feed, (void *)fifo);
    check_lines(fifo, 100, want, 2);
    pthread_join(t, NULL);
    int keep = dup(STDIN_FILENO);
    pthread_create(&t, NULL, feed, (void *)fifo);
    int fd = open(fifo, O_RDONLY);
    dup2(fd, STDIN_FILENO);
    close(fd);
    check_lines("-", 100, want, 2);
    pthread_join(t, NULL);
    dup2(keep, STDIN_FILENO);
    close(keep);
}

static void folders_and_absent_files_have_no_lines(void **state) {
    (void)state;
    struct lines *l;
    plm_error err;
    assert_int_equal(lines_open(&l, in_dir("absent"), 100, &err), PLM_ENOTFOUND);
    assert_int_equal(lines_open(&l, dir, 100, &err), PLM_EIO);
    assert_non_null(strstr(err.text, "Is a directory"));
}

static plm_status everything(const char *path) {
    struct bytes b;
    struct lines *l;
    const char *line;
    size_t len, number;
    bool more = true;
    plm_status st = file_replace(path, "a\nb\n", 4, NULL);
    if (st || (st = dir_make(in_dir("p/q"), NULL)) || (st = file_read(path, 100, &b, NULL)))
        return st;
    bytes_free(&b);
    if ((st = lines_open(&l, in_dir("huge"), 1 << 20, NULL)))
        return st;
    while (!st && more)
        st = lines_next(l, &line, &len, &number, &more, NULL);
    lines_close(l);
    return st;
}

static void each_failed_allocation_is_a_clean_status(void **state) {
    (void)state;
    char path[320];
    snprintf(path, sizeof path, "%s", in_dir("failing"));
    long before = mem_count();
    assert_int_equal(everything(path), PLM_OK);
    long n = mem_count() - before;
    assert_true(n > 6);
    for (long i = 1; i <= n; i++) {
        rmdir(in_dir("p/q"));
        mem_fail_at(i, false);
        plm_status st = everything(path);
        mem_fail_at(0, false);
        assert_int_equal(st, PLM_ENOMEM);
    }
    check_file(path, "a\nb\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regular_files_are_mapped),
        cmocka_unit_test(anything_else_is_not_mapped),
        cmocka_unit_test(whole_files_are_read_up_to_a_limit),
        cmocka_unit_test(replacement_is_private_and_leaves_nothing_beside),
        cmocka_unit_test(failed_replacement_keeps_the_old_file),
        cmocka_unit_test(what_is_no_file_is_not_replaced),
        cmocka_unit_test(closed_folder_is_a_sentence),
        cmocka_unit_test(writer_pads_and_knows_where_it_is),
        cmocka_unit_test(folders_are_made_with_parents),
        cmocka_unit_test(lines_come_without_their_ends),
        cmocka_unit_test(too_long_lines_are_skipped_and_reading_goes_on),
        cmocka_unit_test(huge_lines_stay_within_memory),
        cmocka_unit_test(lines_come_from_pipes_and_standard_input),
        cmocka_unit_test(folders_and_absent_files_have_no_lines),
        cmocka_unit_test(each_failed_allocation_is_a_clean_status),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
