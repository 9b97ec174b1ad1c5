/* db.c: the connection to SQLite and statements on it. A store is one file with a rollback journal rather
 * than a WAL: the WAL-reset race of SQLite before 3.51.3 can't touch it, a reader needs no write access to
 * the folder, and what was forgotten is not left in a second file. The file is taken as hostile: its schema
 * may not call functions, writes to shadow tables are off, and SQLite's limits are near what the room needs.
 */
#include <math.h>
#include <string.h>
#include "store/db.h"

static const struct {
    int what, most;
} limits[] = {
    {SQLITE_LIMIT_LENGTH, 16 << 20},
    {SQLITE_LIMIT_SQL_LENGTH, 100000},
    {SQLITE_LIMIT_COLUMN, 64},
    {SQLITE_LIMIT_EXPR_DEPTH, 32},
    {SQLITE_LIMIT_COMPOUND_SELECT, 4},
    {SQLITE_LIMIT_VDBE_OP, 25000},
    {SQLITE_LIMIT_FUNCTION_ARG, 8},
    {SQLITE_LIMIT_ATTACHED, 0},
    {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50},
    {SQLITE_LIMIT_VARIABLE_NUMBER, 64},
    {SQLITE_LIMIT_TRIGGER_DEPTH, 8},
    {SQLITE_LIMIT_WORKER_THREADS, 0},
};

/* Set before the first statement that reads the file. */
static const char *const pragmas[] = {
    "PRAGMA trusted_schema = OFF", "PRAGMA cell_size_check = ON", "PRAGMA mmap_size = 0",
    "PRAGMA temp_store = MEMORY",  "PRAGMA foreign_keys = ON",    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",   "PRAGMA fullfsync = ON",       "PRAGMA cache_size = -32768",
};

plm_status db_fail(const struct plm_store *st, int rc, plm_error *err) {
    const char *path = st->path;
    char holder[64];
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return fail(err, PLM_ENOMEM, "%s: out of memory", path);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        lock_holder(path, holder);
        return fail(err, PLM_EBUSY, "%s is in use by %s; try again when it is done", path, holder);
    case SQLITE_FULL:
        return fail(err, PLM_EIO, "%s: the disk is full; nothing of this step was stored", path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return fail(err, PLM_EFORMAT, "%s: the store is damaged (%s)", path, sqlite3_errmsg(st->db));
    case SQLITE_READONLY:
        return fail(err, PLM_EIO, "%s can't be written to", path);
    case SQLITE_TOOBIG:
        return fail(err, PLM_ELIMIT, "%s: a text is too long for the store", path);
    case SQLITE_CONSTRAINT:
        return fail(err, PLM_EINVAL, "%s: %s", path, sqlite3_errmsg(st->db));
    default:
        return fail(err, PLM_EIO, "%s: %s", path, st->db ? sqlite3_errmsg(st->db) : sqlite3_errstr(rc));
    }
}

plm_status db_connect(struct plm_store *st, const char *path, plm_error *err) {
    int rc = sqlite3_open_v2(path, &st->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (rc) {
        plm_status fault = db_fail(st, rc, err);
        db_disconnect(st);
        return fault;
    }
    sqlite3_busy_timeout(st->db, 5000);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        sqlite3_limit(st->db, limits[i].what, limits[i].most);
    }
    for (size_t i = 0; i < sizeof pragmas / sizeof *pragmas; i++) {
        rc = sqlite3_exec(st->db, pragmas[i], NULL, NULL, NULL);
        if (rc) {
            plm_status fault = db_fail(st, rc, err);
            db_disconnect(st);
            return fault;
        }
    }
    return PLM_OK;
}

void db_disconnect(struct plm_store *st) {
    sqlite3_close(st->db);
    st->db = NULL;
}

plm_status query_open(struct query *q, struct plm_store *st, const char *sql, plm_error *err) {
    *q = (struct query){.st = st};
    // SQLite undoes a whole transaction after some failures; going on would store half of it.
    if (st->depth && sqlite3_get_autocommit(st->db)) {
        return fail(err, PLM_EIO, "%s: the transaction was undone by an earlier failure", st->path);
    }
    int rc = sqlite3_prepare_v2(st->db, sql, -1, &q->stmt, NULL);
    return rc ? db_fail(st, rc, err) : PLM_OK;
}

/* The parameter's number; 0, with the failure kept, where the statement has no such name. */
static int parameter(struct query *q, const char *name) {
    int i = sqlite3_bind_parameter_index(q->stmt, name);
    if (!i && !q->rc) {
        q->rc = SQLITE_RANGE;
    }
    return i;
}

static void keep(struct query *q, int rc) {
    if (rc && !q->rc) {
        q->rc = rc;
    }
}

void query_int(struct query *q, const char *name, int64_t value) {
    int i = parameter(q, name);
    if (i) {
        keep(q, sqlite3_bind_int64(q->stmt, i, value));
    }
}

void query_real(struct query *q, const char *name, double value) {
    int i = parameter(q, name);
    if (i) {
        keep(q, isnan(value) ? sqlite3_bind_null(q->stmt, i) : sqlite3_bind_double(q->stmt, i, value));
    }
}

void query_text(struct query *q, const char *name, const char *text) {
    int i = parameter(q, name);
    if (i) {
        keep(q, sqlite3_bind_text(q->stmt, i, text, -1, SQLITE_STATIC));
    }
}

plm_status query_next(struct query *q, bool *row, plm_error *err) {
    int rc = q->rc ? q->rc : sqlite3_step(q->stmt);
    *row = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW || rc == SQLITE_DONE) {
        return PLM_OK;
    }
    return q->rc ? fail(err,
                        rc == SQLITE_NOMEM    ? PLM_ENOMEM
                        : rc == SQLITE_TOOBIG ? PLM_ELIMIT
                                              : PLM_EIO,
                        "%s: %s", q->st->path, sqlite3_errstr(rc))
                 : db_fail(q->st, rc, err);
}

plm_status query_reset(struct query *q, plm_error *err) {
    int rc = sqlite3_reset(q->stmt);
    return rc ? db_fail(q->st, rc, err) : PLM_OK;
}

void query_close(struct query *q) {
    sqlite3_finalize(q->stmt);
    q->stmt = NULL;
}

int64_t column_int(const struct query *q, int i) {
    return sqlite3_column_int64(q->stmt, i);
}

double column_real(const struct query *q, int i) {
    return sqlite3_column_type(q->stmt, i) == SQLITE_NULL ? (double)NAN : sqlite3_column_double(q->stmt, i);
}

const char *column_maybe(const struct query *q, int i) {
    return (const char *)sqlite3_column_text(q->stmt, i);
}

const char *column_text(const struct query *q, int i) {
    const char *text = column_maybe(q, i);
    return text ? text : "";
}

plm_status db_run_id(struct plm_store *st, const char *sql, int64_t id, size_t *changed, plm_error *err) {
    struct query q;
    bool row;
    plm_status fault = query_open(&q, st, sql, err);
    if (!fault) {
        if (sqlite3_bind_parameter_count(q.stmt)) {
            query_int(&q, ":id", id);
        }
        fault = query_next(&q, &row, err);
    }
    query_close(&q);
    if (!fault && changed) {
        *changed = (size_t)sqlite3_changes64(st->db);
    }
    return fault;
}

plm_status db_run(struct plm_store *st, const char *sql, plm_error *err) {
    return db_run_id(st, sql, 0, NULL, err);
}

plm_status plm_store_begin(plm_store *st, plm_error *err) {
    if (!st) {
        return fail(err, PLM_EINVAL, "no store is open");
    }
    plm_status fault = writable(st, err);
    if (!fault) {
        fault = db_run(st, st->depth ? "SAVEPOINT inner_step" : "BEGIN IMMEDIATE", err);
    }
    if (!fault) {
        st->depth++;
    }
    return fault;
}

plm_status plm_store_end(plm_store *st, bool commit, plm_error *err) {
    if (!st || st->depth == 0) {
        return fail(err, PLM_EINVAL, "no transaction is open");
    }
    if (sqlite3_get_autocommit(st->db)) {
        st->depth--;
        return commit ? fail(err, PLM_EIO, "%s: the transaction was undone by an earlier failure", st->path)
                      : PLM_OK;
    }
    plm_status fault = PLM_OK;
    if (st->depth > 1) {
        if (!commit) {
            fault = db_run(st, "ROLLBACK TO inner_step", err);
        }
        if (!fault) {
            fault = db_run(st, "RELEASE inner_step", err);
        }
        st->depth--;
        return fault;
    }
    fault = db_run(st, commit ? "COMMIT" : "ROLLBACK", err);
    if (fault && commit && !sqlite3_get_autocommit(st->db)) {
        db_run(st, "ROLLBACK", NULL);
    }
    st->depth = 0;
    return fault;
}

plm_status db_end(struct plm_store *st, plm_status so_far, plm_error *err) {
    plm_status fault = plm_store_end(st, so_far == PLM_OK, so_far ? NULL : err);
    return so_far ? so_far : fault;
}

plm_status writable(const struct plm_store *st, plm_error *err) {
    return st->read_only ? fail(err, PLM_EINVAL, "%s was opened for reading only", st->path) : PLM_OK;
}

plm_status text_check(const char *text, const char *what, size_t max, bool may_be_empty, plm_error *err) {
    if (!text || (!*text && !may_be_empty)) {
        return fail(err, PLM_EINVAL, "the %s is empty", what);
    }
    size_t len = strnlen(text, max + 1), bad;
    if (len > max) {
        return fail(err, PLM_ELIMIT, "the %s is longer than %zu bytes", what, max);
    }
    if (!utf8_valid(text, len, &bad)) {
        return fail(err, PLM_EFORMAT, "the %s is not UTF-8 (byte %zu)", what, bad + 1);
    }
    return PLM_OK;
}

void row_digest(const char *user, const char *kind, const char *input, const char *output, char hex[65]) {
    struct sha256 h;
    sha256_start(&h);
    const char *const parts[] = {user, kind, input, output};
    for (size_t i = 0; i < 4; i++) {
        sha256_add(&h, parts[i], strlen(parts[i]) + 1); // with the NUL, so that no two splits are alike
    }
    sha256_hex(&h, hex);
}
