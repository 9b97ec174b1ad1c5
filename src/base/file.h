/* file.h: files, read-only maps, and replacement that is all or nothing (write beside, fsync, rename,
 * fsync the folder). */
#ifndef BASE_FILE_H
#define BASE_FILE_H
#include "base/bytes.h"

struct map {
    const unsigned char *data;
    size_t size;
    int64_t dev, ino, mtime_ns;
};

/* Regular files only (no device, FIFO or folder); an empty one is PLM_EFORMAT. */
plm_status map_open(struct map *m, const char *path, plm_error *err);
void map_close(struct map *m);
/* Whole pages within `bytes` from p, which lie in a map, need not stay resident: reading them brings them
 * back. */
void map_release(const void *p, size_t bytes);

/* The whole file, at most max bytes. path "-": standard input. */
plm_status file_read(const char *path, size_t max, struct bytes *out, plm_error *err);
/* Atomic: after a crash at any point path is the old file or the new one. A link is followed; the
 * new file has mode 0600. */
plm_status file_replace(const char *path, const void *data, size_t len, plm_error *err);

/* The same in pieces; commit renames, abort removes. */
struct writer;
plm_status writer_open(struct writer **out, const char *path, plm_error *err);
plm_status writer_put(struct writer *w, const void *data, size_t len, plm_error *err);
plm_status writer_pad(struct writer *w, size_t align, plm_error *err);
size_t writer_at(const struct writer *w);
plm_status writer_commit(struct writer *w, plm_error *err); /* frees w, either way */
void writer_abort(struct writer *w);                        /* frees w; NULL is fine */

plm_status dir_make(const char *path, plm_error *err); /* with parents, 0700; existing is fine */
bool file_exists(const char *path);
bool dir_exists(const char *path);
/* Reads lines of a file, pipe or standard input one at a time, holding no more than one of them. */
struct lines;
plm_status lines_open(struct lines **out, const char *path, size_t max, plm_error *err); /* "-": stdin */
/* *more false at the end. line is without its newline and CR, NUL-terminated, borrowed until the next call;
 * a line over max is returned as line NULL with len 0 and skipped. */
plm_status lines_next(struct lines *l, const char **line, size_t *len, size_t *number, bool *more,
                      plm_error *err);
void lines_close(struct lines *l);
#endif
