/* support_folder.h: a folder of a test's own, files in it, and their bytes. */
#ifndef SUPPORT_FOLDER_H
#define SUPPORT_FOLDER_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct folder {
    char path[64], name[512];
};

static inline int folder_make(void **state) {
    struct folder *f = calloc(1, sizeof *f);
    // In memory where there is such a place: thousands of commits a test would wait for the disk otherwise.
    strcpy(f->path, access("/dev/shm", W_OK) ? "/tmp/plm-test-XXXXXX" : "/dev/shm/plm-test-XXXXXX");
    *state = f;
    return mkdtemp(f->path) ? 0 : -1;
}

static inline int folder_drop(void **state) {
    struct folder *f = *state;
    char command[192];
    snprintf(command, sizeof command, "chmod -R u+rwx %s; rm -rf %s", f->path, f->path);
    int rc = system(command);
    free(f);
    return rc;
}

/* Borrowed until the next call. */
static inline const char *in_folder(struct folder *f, const char *name) {
    snprintf(f->name, sizeof f->name, "%s/%s", f->path, name);
    return f->name;
}

static inline void write_bytes(const char *path, const void *data, size_t len) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const char *path, const char *text) {
    write_bytes(path, text, strlen(text));
}

static inline char *read_bytes(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *len = (size_t)ftell(file);
    rewind(file);
    char *data = calloc(*len + 1, 1);
    assert_int_equal(fread(data, 1, *len, file), *len);
    fclose(file);
    return data;
}
#endif
