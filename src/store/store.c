/* store.c: opening and closing. A file that is not a whole store of ours is refused with one sentence before
 * SQLite may write a byte to it: wrong magic, another application, a newer version, a changed schema, damage.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "store/db.h"

static uint32_t big32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Looks at the file's first bytes. *there: a store is there; false: nothing, or an empty file. */
static plm_status look(const char *path, bool read_only, bool *there, plm_error *err) {
    *there = false;
    struct stat info;
    if (stat(path, &info)) {
        return errno == ENOENT ? PLM_OK : fail_errno(err, errno, path);
    }
    if (!S_ISREG(info.st_mode)) {
        return fail(err, PLM_EINVAL, "%s is not a file", path);
    }
    if (info.st_size == 0) {
        return PLM_OK;
    }
    unsigned char head[100];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail_errno(err, errno, path);
    }
    ssize_t n = read(fd, head, sizeof head);
    int fault = errno;
    close(fd);
    if (n < 0) {
        return fail_errno(err, fault, path);
    }
    if (n < (ssize_t)sizeof head || memcmp(head, "SQLite format 3", 16) != 0) {
        return fail(err, PLM_EFORMAT, "%s is not a plm store", path);
    }
    if (big32(head + 68) != STORE_APPLICATION) {
        return fail(err, PLM_EFORMAT, "%s is a database of another program", path);
    }
    uint32_t version = big32(head + 60);
    if (version > (uint32_t)n_migrations) {
        return fail(err, PLM_ENOTSUP, "%s was written by a newer plm (store version %u, this one knows %d)",
                    path, version, n_migrations);
    }
    if (read_only && version < (uint32_t)n_migrations) {
        return fail(err, PLM_ENOTSUP,
                    "%s is of an older plm; importing anything into it brings it up to date", path);
    }
    *there = true;
    return PLM_OK;
}

static plm_status quick_check(struct plm_store *st, plm_error *err) {
    struct query q;
    bool row = false;
    plm_status fault = query_open(&q, st, "PRAGMA quick_check(1)", err);
    if (!fault) {
        fault = query_next(&q, &row, err);
    }
    if (!fault && (!row || strcmp(column_text(&q, 0), "ok") != 0)) {
        fault = fail(err, PLM_EFORMAT, "%s: the store is damaged (%s)", st->path,
                     row ? column_text(&q, 0) : "no answer");
    }
    query_close(&q);
    return fault;
}

/* SQLite reads a last page that was cut short as if zeros followed. */
static plm_status length_check(struct plm_store *st, plm_error *err) {
    struct query q;
    bool row = false;
    struct stat info;
    plm_status fault =
        query_open(&q, st, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", err);
    if (!fault) {
        fault = query_next(&q, &row, err);
    }
    if (!fault && (stat(st->path, &info) || !row || column_int(&q, 0) > info.st_size)) {
        fault = fail(err, PLM_EFORMAT, "%s: the store is damaged (its end is missing)", st->path);
    }
    query_close(&q);
    return fault;
}

/* The schema is compared before anything else is read, so that nothing in the file can run. */
static plm_status attach(struct plm_store *st, plm_error *err) {
    plm_status fault = db_connect(st, st->path, err);
    if (fault) {
        return fault;
    }
    if (st->read_only) {
        fault = schema_check(st, err);
        return fault ? fault : db_run(st, "PRAGMA query_only = ON", err);
    }
    if (sqlite3_db_readonly(st->db, "main")) {
        return fail(err, PLM_EIO, "%s can't be written to", st->path);
    }
    if ((fault = length_check(st, err)) || (fault = quick_check(st, err)) ||
        (fault = migrate(st, migrations, n_migrations, err)) || (fault = schema_check(st, err)) ||
        (fault = db_run(st, "PRAGMA journal_mode = DELETE", err))) {
        return fault;
    }
    return forget_finish(st, err);
}

/* Makes the folder that will hold the store, for its owner only. */
static plm_status make_folder(const char *path, plm_error *err) {
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) {
        return PLM_OK;
    }
    char *folder = mem_dup(path, (size_t)(slash - path));
    plm_status fault = folder ? dir_make(folder, err) : fail(err, PLM_ENOMEM, "out of memory");
    mem_free(folder);
    return fault;
}

plm_status plm_store_open(plm_store **out, const char *path, bool read_only, plm_error *err) {
    if (!out || !path || !*path || *path == ':') {
        return fail(err, PLM_EINVAL, "a store needs the path of a file");
    }
    bool there = false;
    plm_status fault = PLM_OK;
    struct plm_store *st = mem_zero(1, sizeof *st);
    if (!st || !(st->path = mem_dupz(path))) {
        fault = fail(err, PLM_ENOMEM, "out of memory");
        goto out;
    }
    st->lock = -1;
    st->read_only = read_only;
    if ((fault = look(path, read_only, &there, err))) {
        goto out;
    }
    if (!there && read_only) {
        fault = fail(err, PLM_ENOTFOUND, "there is no store at %s yet", path);
        goto out;
    }
    if (!read_only) {
        if ((fault = make_folder(path, err)) || (fault = lock_take(&st->lock, path, err)) ||
            (fault = look(path, read_only, &there, err)) || (!there && (fault = store_create(path, err)))) {
            goto out;
        }
    }
    fault = attach(st, err);
out:
    if (fault) {
        plm_store_close(st);
    } else {
        *out = st;
    }
    return fault;
}

void plm_store_close(plm_store *st) {
    if (st) {
        db_disconnect(st); // an open transaction is rolled back
        lock_release(st->path ? st->lock : -1);
        mem_free(st->path);
        mem_free(st);
    }
}
