/* writer.c: replaces a file all at once: a temporary file in the same folder, fsync, rename, fsync of the
 * folder. Whatever fails on the way, the old file stays and the temporary one is removed. Refuses to put a
 * file in the place of a folder, pipe or device. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum { BUFFER = 1 << 16 };

struct writer {
    int fd;
    size_t at;   /* bytes put so far */
    size_t held; /* of them, still in buffer */
    plm_status failed;
    char *path, *temp;
    unsigned char buffer[BUFFER];
};

/* The file that path means: where it is a link, what it points to. */
static char *real_target(const char *path) {
    char real[PATH_MAX];
    struct stat info;
    bool link = lstat(path, &info) == 0 && S_ISLNK(info.st_mode);
    return mem_dupz(link && realpath(path, real) ? real : path);
}

static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

plm_status writer_open(struct writer **out, const char *path, plm_error *err) {
    static const char pattern[] = ".plm-XXXXXX";
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return fail(err, PLM_EINVAL, "%s: exists and is not a regular file", path);
    struct writer *w = mem_alloc(1, sizeof *w);
    if (!w)
        return fail(err, PLM_ENOMEM, "out of memory to write %s", path);
    w->at = w->held = 0;
    w->failed = PLM_OK;
    w->fd = -1;
    w->path = real_target(path);
    w->temp = NULL;
    plm_status st = PLM_OK;
    size_t folder = w->path ? folder_length(w->path) : 0;
    if (w->path)
        w->temp = mem_alloc(folder + sizeof pattern, 1);
    if (!w->temp) {
        st = fail(err, PLM_ENOMEM, "out of memory to write %s", path);
        goto failed;
    }
    memcpy(w->temp, w->path, folder);
    memcpy(w->temp + folder, pattern, sizeof pattern);
    w->fd = mkostemp(w->temp, O_CLOEXEC);
    if (w->fd < 0) {
        st = fail_errno(err, errno, path);
        goto failed;
    }
    *out = w;
    return PLM_OK;
failed:
    mem_free(w->temp);
    mem_free(w->path);
    mem_free(w);
    return st;
}

static plm_status put_all(struct writer *w, const unsigned char *p, size_t len, plm_error *err) {
    while (len) {
        ssize_t n = write(w->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return w->failed = fail_errno(err, errno, w->path);
        p += n;
        len -= (size_t)n;
    }
    return PLM_OK;
}

static plm_status flush(struct writer *w, plm_error *err) {
    size_t held = w->held;
    w->held = 0;
    return put_all(w, w->buffer, held, err);
}

plm_status writer_put(struct writer *w, const void *data, size_t len, plm_error *err) {
    if (w->failed)
        return fail(err, w->failed, "%s: an earlier write failed", w->path);
    w->at += len;
    if (len > BUFFER - w->held) {
        plm_status st = flush(w, err);
        if (st)
            return st;
        if (len > BUFFER)
            return put_all(w, data, len, err);
    }
    if (len)
        memcpy(w->buffer + w->held, data, len);
    w->held += len;
    return PLM_OK;
}

plm_status writer_pad(struct writer *w, size_t align, plm_error *err) {
    static const unsigned char zeros[64];
    size_t left = align ? (align - w->at % align) % align : 0;
    plm_status st = PLM_OK;
    while (left && !st) {
        size_t n = left < sizeof zeros ? left : sizeof zeros;
        st = writer_put(w, zeros, n, err);
        left -= n;
    }
    return st;
}

size_t writer_at(const struct writer *w) {
    return w->at;
}

/* The rename is durable only once the folder is. Some file systems can't sync one: nothing to be done. */
static plm_status sync_folder(struct writer *w, plm_error *err) {
    size_t n = folder_length(w->path);
    memcpy(w->temp, n ? w->path : ".", n ? n : 1);
    w->temp[n ? n : 1] = 0;
    int fd = open(w->temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? PLM_OK : fail_errno(err, errno, w->temp);
    plm_status st = PLM_OK;
    if (fsync(fd) && errno != EINVAL && errno != EROFS)
        st = fail_errno(err, errno, w->temp);
    close(fd);
    return st;
}

static void release(struct writer *w) {
    mem_free(w->temp);
    mem_free(w->path);
    mem_free(w);
}

plm_status writer_commit(struct writer *w, plm_error *err) {
    plm_status st = w->failed ? fail(err, w->failed, "%s: an earlier write failed", w->path) : flush(w, err);
    if (!st && fsync(w->fd))
        st = fail_errno(err, errno, w->path);
    if (close(w->fd) && !st)
        st = fail_errno(err, errno, w->path);
    if (!st && rename(w->temp, w->path))
        st = fail_errno(err, errno, w->path);
    if (st)
        unlink(w->temp);
    else
        st = sync_folder(w, err);
    release(w);
    return st;
}

void writer_abort(struct writer *w) {
    if (!w)
        return;
    close(w->fd);
    unlink(w->temp);
    release(w);
}

plm_status file_replace(const char *path, const void *data, size_t len, plm_error *err) {
    struct writer *w;
    plm_status st = writer_open(&w, path, err);
    if (st)
        return st;
    st = writer_put(w, data, len, err);
    if (st) {
        writer_abort(w);
        return st;
    }
    return writer_commit(w, err);
}
