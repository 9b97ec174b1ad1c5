/* db.h: inside store/. One SQLite connection, its lock, nested transactions, and statements with named
 * parameters. A statement keeps the first failure of its bindings and reports it at the next step. */
#ifndef STORE_DB_H
#define STORE_DB_H
#include <sqlite3.h>
#include "base/base.h"
#include "base/hash.h"
#include "store/store.h"

struct plm_store {
    sqlite3 *db;
    char *path;
    int lock; /* the lock file, held; -1: a reader */
    bool read_only;
    int depth; /* open transactions, nested ones are savepoints */
};

struct query {
    struct plm_store *st;
    sqlite3_stmt *stmt;
    int rc;
};

/* An unopened query may be closed. */
plm_status query_open(struct query *q, struct plm_store *st, const char *sql, plm_error *err);
void query_int(struct query *q, const char *name, int64_t value);
void query_real(struct query *q, const char *name, double value);     /* NaN: null */
void query_text(struct query *q, const char *name, const char *text); /* NULL: null; borrowed until close */
plm_status query_next(struct query *q, bool *row, plm_error *err);
plm_status query_reset(struct query *q, plm_error *err); /* to run again with other values */
void query_close(struct query *q);
int64_t column_int(const struct query *q, int i);
double column_real(const struct query *q, int i);       /* null: NaN */
const char *column_text(const struct query *q, int i);  /* null: ""; borrowed until the next step */
const char *column_maybe(const struct query *q, int i); /* null: NULL */

/* A statement without rows or parameters. */
plm_status db_run(struct plm_store *st, const char *sql, plm_error *err);
/* The same with one integer, :id, or none where the SQL has no such name. *changed (may be NULL): rows
 * changed. */
plm_status db_run_id(struct plm_store *st, const char *sql, int64_t id, size_t *changed, plm_error *err);
/* SQLite's code as a status and a sentence. */
plm_status db_fail(const struct plm_store *st, int rc, plm_error *err);

/* Opens the connection and makes it distrust the file. */
plm_status db_connect(struct plm_store *st, const char *path, plm_error *err);
void db_disconnect(struct plm_store *st);

/* Ends a transaction either way, keeping st's error. */
plm_status db_end(struct plm_store *st, plm_status so_far, plm_error *err);

/* Checks of the text fields that all tables share. */
plm_status text_check(const char *text, const char *what, size_t max, bool may_be_empty, plm_error *err);
void row_digest(const char *user, const char *kind, const char *input, const char *output, char hex[65]);
plm_status writable(const struct plm_store *st, plm_error *err);

/* lock.c */
plm_status lock_take(int *fd, const char *path, plm_error *err);
void lock_release(int fd);
/* "process 1234 (plm)", or "another process" where it can't be known. */
void lock_holder(const char *path, char out[64]);

/* migrate.c */
enum { STORE_APPLICATION = 0x706c6d31 }; /* "plm1" */
extern const char records_sql[];         /* made from records.sql by the build */
extern const char *const migrations[];   /* what brings version i to version i + 1 */
extern const int n_migrations;
plm_status store_create(const char *path, plm_error *err);
/* Brings an open database from its version to version n of the table. */
plm_status migrate(struct plm_store *st, const char *const *table, int n, plm_error *err);
/* Is the schema exactly the one that the migrations make? */
plm_status schema_check(struct plm_store *st, plm_error *err);

/* record.c: the part of a SELECT after FROM that a plm_query means */
plm_status records_where(struct bytes *sql, const plm_query *q, plm_error *err);
/* *match: what the statement borrows for the words; freed by the caller after it. */
plm_status records_bind(struct query *stmt, const plm_query *q, char **match, plm_error *err);

/* forget.c: finishes a forgetting that was cut off between its transaction and the compaction. */
plm_status forget_finish(struct plm_store *st, plm_error *err);
#endif
