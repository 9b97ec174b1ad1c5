/* migrate.c: how a store comes to be and grows up. A new store is made beside its place and renamed, so a
 * file at PATH is always whole and always says whose it is. An old one is brought up a version a transaction.
 * The schema in the file must be, to the letter, the one that the migrations make: a trigger or view that
 * someone added would otherwise run inside our transactions. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "store/db.h"

const char *const migrations[] = {records_sql};
const int n_migrations = sizeof migrations / sizeof *migrations;

static plm_status user_version(struct plm_store *st, int64_t *version, plm_error *err) {
    struct query q;
    bool row = false;
    plm_status fault = query_open(&q, st, "PRAGMA user_version", err);
    if (!fault) {
        fault = query_next(&q, &row, err);
    }
    *version = row ? column_int(&q, 0) : 0;
    query_close(&q);
    return fault;
}

plm_status migrate(struct plm_store *st, const char *const *table, int n, plm_error *err) {
    int64_t version;
    plm_status fault = user_version(st, &version, err);
    if (fault) {
        return fault;
    }
    if (version < 0 || version > n) {
        return fail(err, PLM_ENOTSUP, "%s was written by a newer plm (store version %lld, this one knows %d)",
                    st->path, (long long)version, n);
    }
    for (int i = (int)version; !fault && i < n; i++) {
        char stamp[48];
        snprintf(stamp, sizeof stamp, "PRAGMA user_version = %d", i + 1);
        fault = plm_store_begin(st, err);
        if (fault) {
            break;
        }
        int rc = sqlite3_exec(st->db, table[i], NULL, NULL, NULL);
        fault = rc ? db_fail(st, rc, err) : db_run(st, stamp, err);
        fault = db_end(st, fault, err);
    }
    return fault;
}

/* One hash over the text of all objects of the schema. */
static plm_status schema_digest(struct plm_store *st, char hex[65], plm_error *err) {
    struct sha256 h;
    sha256_start(&h);
    struct query q;
    plm_status fault = query_open(
        &q, st, "SELECT type, name, tbl_name, sql FROM main.sqlite_schema ORDER BY type, name, tbl_name",
        err);
    bool row = true;
    while (!fault) {
        fault = query_next(&q, &row, err);
        if (fault || !row) {
            break;
        }
        for (int i = 0; i < 4; i++) {
            const char *text = column_text(&q, i);
            sha256_add(&h, text, strlen(text) + 1);
        }
    }
    query_close(&q);
    sha256_hex(&h, hex);
    return fault;
}

plm_status schema_check(struct plm_store *st, plm_error *err) {
    struct plm_store fresh = {.path = st->path, .lock = -1};
    char found[65], wanted[65];
    plm_status fault = schema_digest(st, found, err);
    if (!fault) {
        fault = db_connect(&fresh, ":memory:", err);
    }
    if (!fault) {
        fault = migrate(&fresh, migrations, n_migrations, err);
    }
    if (!fault) {
        fault = schema_digest(&fresh, wanted, err);
    }
    db_disconnect(&fresh);
    if (!fault && strcmp(found, wanted) != 0) {
        fault = fail(err, PLM_EFORMAT, "%s: something other than plm has changed its tables", st->path);
    }
    return fault;
}

/* fsync of the folder that holds path, so that a rename in it survives a power cut. */
static plm_status sync_folder(const char *path, plm_error *err) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? mem_dup(path, slash == path ? 1 : (size_t)(slash - path)) : mem_dupz(".");
    if (!folder) {
        return fail(err, PLM_ENOMEM, "out of memory");
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    plm_status fault = fd < 0 || fsync(fd) ? fail_errno(err, errno, folder) : PLM_OK;
    if (fd >= 0) {
        close(fd);
    }
    mem_free(folder);
    return fault;
}

/* A whole new database at a name of its own. */
static plm_status build(const char *path, plm_error *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return fail_errno(err, errno, path);
    }
    close(fd);
    struct plm_store st = {.path = (char *)(uintptr_t)path, .lock = -1};
    char stamp[48];
    snprintf(stamp, sizeof stamp, "PRAGMA application_id = %d", STORE_APPLICATION);
    plm_status fault = db_connect(&st, path, err);
    if (!fault) {
        fault = db_run(&st, stamp, err);
    }
    if (!fault) {
        fault = migrate(&st, migrations, n_migrations, err);
    }
    db_disconnect(&st);
    return fault;
}

plm_status store_create(const char *path, plm_error *err) {
    struct bytes beside, journal;
    bytes_init(&beside, 1 << 14);
    bytes_init(&journal, 1 << 14);
    bytes_printf(&beside, "%s.new", path);
    bytes_printf(&journal, "%s.new-journal", path);
    plm_status fault = bytes_status(&beside, "the store's path", err);
    if (!fault) {
        fault = bytes_status(&journal, "the store's path", err);
    }
    if (!fault) {
        // Left over from a creation that was cut off; the lock is ours, so nobody else is at it.
        unlink(beside.data);
        unlink(journal.data);
        fault = build(beside.data, err);
        if (!fault && rename(beside.data, path)) {
            fault = fail_errno(err, errno, path);
        }
        if (!fault) {
            fault = sync_folder(path, err);
        } else {
            unlink(beside.data);
            unlink(journal.data);
        }
    }
    bytes_free(&beside);
    bytes_free(&journal);
    return fault;
}
