/* lines.c: reads text line by line from a file, a pipe or standard input, whatever the size of the whole.
 * Holds one line at most; one that is too long is skipped and reported, and reading goes on behind it. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

struct lines {
    int fd;
    bool ended;
    size_t max, cap;
    size_t from, to; /* unread bytes are buf[from, to) */
    size_t number;
    char *buf, *name;
};

enum { FIRST = 1 << 16 };

plm_status lines_open(struct lines **out, const char *path, size_t max, plm_error *err) {
    struct stat info;
    bool standard = strcmp(path, "-") == 0;
    struct lines *l = mem_zero(1, sizeof *l);
    if (!l)
        return fail(err, PLM_ENOMEM, "out of memory to read %s", path);
    plm_status st = PLM_OK;
    l->max = max < SIZE_MAX / 4 ? max : SIZE_MAX / 4;
    l->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (l->fd < 0)
        st = fail_errno(err, errno, path);
    else if (fstat(l->fd, &info) == 0 && S_ISDIR(info.st_mode))
        st = fail_errno(err, EISDIR, standard ? "standard input" : path);
    /* Two more than a line: its CR and its newline. */
    l->cap = l->max + 2 < FIRST ? l->max + 2 : FIRST;
    if (!st &&
        (!(l->name = mem_dupz(standard ? "standard input" : path)) || !(l->buf = mem_alloc(l->cap + 1, 1))))
        st = fail(err, PLM_ENOMEM, "out of memory to read %s", path);
    if (st)
        lines_close(l);
    else
        *out = l;
    return st;
}

void lines_close(struct lines *l) {
    if (!l)
        return;
    if (l->fd > STDERR_FILENO)
        close(l->fd);
    mem_free(l->buf);
    mem_free(l->name);
    mem_free(l);
}

/* Reads more behind buf[to), which must have room. */
static plm_status fill(struct lines *l, plm_error *err) {
    ssize_t n;
    do
        n = read(l->fd, l->buf + l->to, l->cap - l->to);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return fail_errno(err, errno, l->name);
    l->ended = n == 0;
    l->to += (size_t)n;
    return PLM_OK;
}

/* Room behind buf[to): moves the rest to the front, then grows up to one longest line. false in *fits: full.
 */
static plm_status make_room(struct lines *l, bool *fits, plm_error *err) {
    if (l->from) {
        memmove(l->buf, l->buf + l->from, l->to - l->from);
        l->to -= l->from;
        l->from = 0;
    }
    *fits = true;
    if (l->to < l->cap)
        return PLM_OK;
    if (l->cap == l->max + 2) {
        *fits = false;
        return PLM_OK;
    }
    size_t cap = l->cap * 2 < l->max + 2 ? l->cap * 2 : l->max + 2;
    char *buf = mem_grow(l->buf, cap + 1, 1);
    if (!buf)
        return fail(err, PLM_ENOMEM, "%s line %zu: out of memory", l->name, l->number);
    l->buf = buf;
    l->cap = cap;
    return PLM_OK;
}

/* Drops everything up to and with the next newline. */
static plm_status skip_line(struct lines *l, plm_error *err) {
    for (;;) {
        char *end = l->to > l->from ? memchr(l->buf + l->from, '\n', l->to - l->from) : NULL;
        if (end) {
            l->from = (size_t)(end - l->buf) + 1;
            return PLM_OK;
        }
        l->from = l->to = 0;
        if (l->ended)
            return PLM_OK;
        plm_status st = fill(l, err);
        if (st)
            return st;
    }
}

plm_status lines_next(struct lines *l, const char **line, size_t *len, size_t *number, bool *more,
                      plm_error *err) {
    size_t seen = 0; /* bytes from from on that hold no newline */
    char *end = NULL;
    plm_status st;
    l->number++;
    *line = NULL;
    *len = 0;
    *number = l->number;
    *more = true;
    for (;;) {
        if (l->to > l->from + seen)
            end = memchr(l->buf + l->from + seen, '\n', l->to - l->from - seen);
        if (end || l->ended)
            break;
        bool fits;
        seen = l->to - l->from;
        if ((st = make_room(l, &fits, err)))
            return st;
        if (!fits)
            return skip_line(l, err);
        if ((st = fill(l, err)))
            return st;
    }
    size_t stop = end ? (size_t)(end - l->buf) : l->to;
    if (!end && stop == l->from) {
        *more = false;
        return PLM_OK;
    }
    char *at = l->buf + l->from;
    size_t n = stop - l->from;
    l->from = end ? stop + 1 : stop;
    if (end && n && at[n - 1] == '\r')
        n--;
    if (n > l->max)
        return PLM_OK;
    at[n] = 0;
    *line = at;
    *len = n;
    return PLM_OK;
}
