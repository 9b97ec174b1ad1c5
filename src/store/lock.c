/* lock.c: one writing process a store. The lock is flock(2) on PATH.lock, which the kernel drops when its
 * holder dies, so a crash never leaves a store locked. The file's text names the holder, for messages only;
 * nothing is decided by it. The file stays behind: unlinking a lock file lets two processes lock two files of
 * one name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "store/db.h"

enum { WAIT_MS = 5000, POLL_MS = 50 };

static plm_status lock_path(const char *path, char **out, plm_error *err) {
    size_t len = strlen(path);
    char *name = mem_alloc(len + sizeof ".lock", 1);
    if (!name) {
        return fail(err, PLM_ENOMEM, "out of memory");
    }
    memcpy(name, path, len);
    memcpy(name + len, ".lock", sizeof ".lock");
    *out = name;
    return PLM_OK;
}

static void write_holder(int fd) {
    char comm[32] = "";
    int self = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
    if (self >= 0) {
        ssize_t n = read(self, comm, sizeof comm - 1);
        comm[n > 0 ? n : 0] = '\0';
        comm[strcspn(comm, "\n")] = '\0';
        close(self);
    }
    char line[64];
    int len = snprintf(line, sizeof line, "%ld %s\n", (long)getpid(), comm);
    // Only the message to others depends on this text, so a failure to write it is no failure.
    if (ftruncate(fd, 0) == 0 && pwrite(fd, line, (size_t)len, 0) < 0) {
        return;
    }
}

void lock_holder(const char *path, char out[64]) {
    snprintf(out, 64, "another process");
    char *name = NULL;
    if (lock_path(path, &name, NULL)) {
        return;
    }
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    mem_free(name);
    if (fd < 0) {
        return;
    }
    if (flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK) {
        char line[64];
        ssize_t n = read(fd, line, sizeof line - 1);
        line[n > 0 ? n : 0] = '\0';
        line[strcspn(line, "\n")] = '\0';
        struct str rest = str_of(line), pid;
        int64_t number;
        if (str_cut(&rest, ' ', &pid) && parse_i64(pid, &number)) {
            snprintf(out, 64, "process %lld (%.32s)", (long long)number, rest.p ? rest.p : "");
        }
    }
    close(fd);
}

plm_status lock_take(int *fd_out, const char *path, plm_error *err) {
    char *name = NULL;
    plm_status st = lock_path(path, &name, err);
    if (st) {
        return st;
    }
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        st = fail_errno(err, errno, name);
        goto out;
    }
    for (int waited = 0; flock(fd, LOCK_EX | LOCK_NB); waited += POLL_MS) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            st = fail_errno(err, errno, name);
            goto out;
        }
        if (waited >= WAIT_MS) {
            char holder[64];
            lock_holder(path, holder);
            st = fail(err, PLM_EBUSY, "%s is being written by %s; try again when it is done", path, holder);
            goto out;
        }
        nanosleep(&(struct timespec){0, POLL_MS * 1000000L}, NULL);
    }
    write_holder(fd);
    *fd_out = fd;
    fd = -1;
out:
    if (fd >= 0) {
        close(fd);
    }
    mem_free(name);
    return st;
}

void lock_release(int fd) {
    if (fd >= 0) {
        if (ftruncate(fd, 0)) {
            // The text is for people; the lock itself goes with the descriptor.
        }
        close(fd);
    }
}
