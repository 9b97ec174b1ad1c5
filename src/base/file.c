/* file.c: maps, whole files and folders. A map is of a regular file only: reading a device or a pipe by
 * mistake could block or never end. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static plm_status not_regular(plm_error *err, const char *path, mode_t mode) {
    const char *kind = S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a pipe" : "a device";
    return fail(err, PLM_EINVAL, "%s: is %s, not a regular file", path, kind);
}

plm_status map_open(struct map *m, const char *path, plm_error *err) {
    struct stat info;
    memset(m, 0, sizeof *m);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* NONBLOCK: a pipe must not hold us */
    if (fd < 0)
        return fail_errno(err, errno, path);
    plm_status st = PLM_OK;
    if (fstat(fd, &info)) {
        st = fail_errno(err, errno, path);
    } else if (!S_ISREG(info.st_mode)) {
        st = not_regular(err, path, info.st_mode);
    } else if (info.st_size == 0) {
        st = fail(err, PLM_EFORMAT, "%s: is empty", path);
    } else {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            st = fail_errno(err, errno, path);
        } else {
            m->data = data;
            m->size = (size_t)info.st_size;
            m->dev = (int64_t)info.st_dev;
            m->ino = (int64_t)info.st_ino;
            m->mtime_ns = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
        }
    }
    close(fd);
    return st;
}

void map_close(struct map *m) {
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    memset(m, 0, sizeof *m);
}

void map_release(const void *p, size_t bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)p + page - 1) / page * page,
              to = ((uintptr_t)p + bytes) / page * page;
    if (from < to)
        madvise((void *)from, to - from, MADV_DONTNEED);
}

plm_status file_read(const char *path, size_t max, struct bytes *out, plm_error *err) {
    enum { PIECE = 1 << 16 };
    bool standard = strcmp(path, "-") == 0;
    const char *what = standard ? "standard input" : path;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return fail_errno(err, errno, path);
    plm_status st = PLM_OK;
    struct bytes b;
    bytes_init(&b, max);
    char *piece = mem_alloc(PIECE, 1);
    if (!piece)
        st = fail(err, PLM_ENOMEM, "out of memory for %s", what);
    while (!st) {
        ssize_t n = read(fd, piece, PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            st = fail_errno(err, errno, what);
        if (n <= 0)
            break;
        bytes_put(&b, piece, (size_t)n);
        st = bytes_status(&b, what, err);
    }
    mem_free(piece);
    if (!standard)
        close(fd);
    if (st)
        bytes_free(&b);
    else
        *out = b;
    return st;
}

plm_status dir_make(const char *path, plm_error *err) {
    size_t n = strlen(path);
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return PLM_OK;
    char *part = mem_dup(path, n);
    if (!part)
        return fail(err, PLM_ENOMEM, "out of memory to make the folder %s", path);
    plm_status st = PLM_OK;
    for (size_t i = 1; i <= n && !st; i++) {
        if (i < n && part[i] != '/')
            continue;
        part[i] = 0;
        if (mkdir(part, 0700) && errno != EEXIST)
            st = fail_errno(err, errno, part);
        part[i] = path[i];
    }
    if (!st && !dir_exists(path))
        st = n ? fail_errno(err, ENOTDIR, path) : fail(err, PLM_EINVAL, "a folder without a name");
    mem_free(part);
    return st;
}

bool file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool dir_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}
