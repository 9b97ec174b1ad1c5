/* ledger_sqlite.c: the ledger in one SQLite file, with a rollback journal: several processes may open it (the
 * service, and the operator's commands beside it). A commit is on the disk when it returns. */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "store/ledger_db.h"

static const char *const pragmas[] = {
    "PRAGMA trusted_schema = OFF", "PRAGMA cell_size_check = ON", "PRAGMA mmap_size = 0",
    "PRAGMA temp_store = MEMORY",  "PRAGMA foreign_keys = ON",    "PRAGMA journal_mode = TRUNCATE",
    "PRAGMA synchronous = FULL",   "PRAGMA secure_delete = ON",
};

static plm_status explain(sqlite3 *db, int rc, plm_error *err) {
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return fail(err, PLM_ENOMEM, "the ledger: out of memory");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return fail(err, PLM_EBUSY, "the ledger is in use; try again");
    case SQLITE_FULL:
        return fail(err, PLM_EBUSY, "the ledger's disk is full");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return fail(err, PLM_EFORMAT, "the ledger is damaged (%s)", sqlite3_errmsg(db));
    default:
        return fail(err, PLM_EIO, "the ledger: %s", db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
    }
}

static void close_db(void *db) {
    sqlite3_close(db);
}

static plm_status open_db(void **out, const char *where, plm_error *err) {
    sqlite3 *db = NULL;
    mode_t old = umask(077);
    int rc = sqlite3_open_v2(
        where, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
        NULL);
    umask(old);
    if (!rc) {
        sqlite3_busy_timeout(db, 5000);
        sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 80 << 20);
        sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    }
    for (size_t i = 0; !rc && i < sizeof pragmas / sizeof *pragmas; i++) {
        rc = sqlite3_exec(db, pragmas[i], NULL, NULL, NULL);
    }
    if (rc) {
        plm_status st = explain(db, rc, err);
        sqlite3_close(db);
        return st;
    }
    *out = db;
    return PLM_OK;
}

static plm_status script(void *db, const char *sql, plm_error *err) {
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc ? explain(db, rc, err) : PLM_OK;
}

// "$1" is a name to SQLite; one that the statement does not have is a mistake of ours.
static int bind(sqlite3_stmt *s, const struct cell *args, size_t n) {
    int rc = SQLITE_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        char name[24];
        snprintf(name, sizeof name, "$%zu", i + 1);
        int at = sqlite3_bind_parameter_index(s, name);
        const struct cell *c = &args[i];
        rc = !at                    ? SQLITE_RANGE
             : c->type == CELL_INT  ? sqlite3_bind_int64(s, at, c->i)
             : c->type == CELL_TEXT ? sqlite3_bind_text64(s, at, c->p, c->n, SQLITE_STATIC, SQLITE_UTF8)
             : c->n                 ? sqlite3_bind_blob64(s, at, c->p, c->n, SQLITE_STATIC)
                                    : sqlite3_bind_zeroblob(s, at, 0);
    }
    return rc;
}

static plm_status take_row(sqlite3_stmt *s, struct rows *out, plm_error *err) {
    size_t columns = (size_t)sqlite3_column_count(s);
    out->columns = columns;
    plm_status st = rows_room(out, (out->n + 1) * columns, err);
    for (size_t i = 0; !st && i < columns; i++) {
        struct cell *c = &out->cells[out->n * columns + i];
        switch (sqlite3_column_type(s, (int)i)) {
        case SQLITE_INTEGER:
            *c = INT(sqlite3_column_int64(s, (int)i));
            break;
        case SQLITE_BLOB: {
            const void *data = sqlite3_column_blob(s, (int)i);
            st = cell_copy(c, CELL_BYTES, data, (size_t)sqlite3_column_bytes(s, (int)i), err);
            break;
        }
        default: {
            const void *data = sqlite3_column_text(s, (int)i);
            st = cell_copy(c, CELL_TEXT, data, (size_t)sqlite3_column_bytes(s, (int)i), err);
        }
        }
    }
    out->n += !st;
    return st;
}

static plm_status run(void *db, const char *sql, const struct cell *args, size_t n, struct rows *out,
                      plm_error *err) {
    sqlite3_stmt *s = NULL;
    plm_status st = PLM_OK;
    int before = sqlite3_total_changes(db);
    int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    rc = rc ? rc : bind(s, args, n);
    while (!rc && !st && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        rc = SQLITE_OK;
        st = out ? take_row(s, out, err) : PLM_OK;
    }
    if (rc && rc != SQLITE_DONE) {
        st = explain(db, rc, err);
    }
    if (out) {
        out->changed = sqlite3_total_changes(db) - before;
    }
    sqlite3_finalize(s);
    return st;
}

const struct driver ledger_sqlite = {
    .open = open_db,
    .close = close_db,
    .run = run,
    .script = script,
    .begin = "BEGIN IMMEDIATE",
    .lock = "",
    .skip = "",
    .has_tables = "SELECT 1 FROM sqlite_schema WHERE name = 'ledger_version'",
};
