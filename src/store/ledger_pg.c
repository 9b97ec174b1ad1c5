/* ledger_pg.c: the ledger in PostgreSQL. Everything goes in binary and with named types. A lost connection
 * fails the transaction it was in, and is made anew at the next. */
#include <endian.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>
#include "store/ledger_db.h"

enum { INT8OID = 20, TEXTOID = 25, BYTEAOID = 17, ARGS_MAX = 32 };

// SQLSTATEs after which the same transaction may well go through.
static bool passes(const char *state) {
    return state &&
           (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0 || strcmp(state, "57P01") == 0 ||
            strcmp(state, "57P03") == 0 || strcmp(state, "53300") == 0 || strcmp(state, "23505") == 0 ||
            strcmp(state, "55P03") == 0 || strcmp(state, "57014") == 0);
}

// The server's sentence without its line break: it may quote no values, since none stand in our SQL.
static plm_status explain(PGconn *c, const PGresult *r, plm_error *err) {
    const char *text = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL,
               *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    if (!text) {
        text = PQerrorMessage(c);
    }
    int n = (int)strcspn(text ? text : "", "\n");
    bool soft = PQstatus(c) != CONNECTION_OK || passes(state);
    return fail(err, soft ? PLM_EBUSY : PLM_EIO, "the ledger: %.*s", n, text ? text : "");
}

static void close_db(void *db) {
    PQfinish(db);
}

static void ignore_notice(void *ctx, const PGresult *r) {
    (void)ctx, (void)r;
}

// A machine that is gone is noticed. What the address says itself stands above this.
static const char *const usual[][2] = {
    {"connect_timeout", "5"},
    {"keepalives_idle", "10"},
    {"keepalives_interval", "5"},
    {"keepalives_count", "3"},
    {"tcp_user_timeout", "20000"},
};

static plm_status open_db(void **out, const char *where, plm_error *err) {
    enum { USUAL = sizeof usual / sizeof *usual };
    const char *names[USUAL + 2] = {NULL}, *values[USUAL + 2] = {NULL};
    for (size_t i = 0; i < USUAL; i++) {
        names[i] = usual[i][0];
        values[i] = usual[i][1];
    }
    names[USUAL] = "dbname";
    values[USUAL] = where;
    PGconn *c = PQconnectdbParams(names, values, 1);
    if (!c || PQstatus(c) != CONNECTION_OK) {
        plm_status st = c ? explain(c, NULL, err) : fail(err, PLM_ENOMEM, "no memory for a connection");
        PQfinish(c);
        return st;
    }
    PQsetNoticeReceiver(c, ignore_notice, NULL);
    *out = c;
    return PLM_OK;
}

static plm_status script(void *db, const char *sql, plm_error *err) {
    PGresult *r = PQexec(db, sql);
    ExecStatusType how = PQresultStatus(r);
    plm_status st = how == PGRES_COMMAND_OK || how == PGRES_TUPLES_OK ? PLM_OK : explain(db, r, err);
    PQclear(r);
    return st;
}

static plm_status take(const PGresult *r, struct rows *out, plm_error *err) {
    size_t n = (size_t)PQntuples(r), columns = (size_t)PQnfields(r);
    out->columns = columns;
    plm_status st = rows_room(out, n * columns, err);
    for (size_t i = 0; !st && i < n * columns; i++) {
        int row = (int)(i / columns), column = (int)(i % columns);
        const char *data = PQgetvalue(r, row, column);
        size_t len = (size_t)PQgetlength(r, row, column);
        uint64_t big;
        Oid type = PQftype(r, column);
        if (type == INT8OID && len == sizeof big) {
            memcpy(&big, data, sizeof big);
            out->cells[i] = INT((int64_t)be64toh(big));
        } else if (type == INT8OID) { // null
            out->cells[i] = INT(0);
        } else {
            st = cell_copy(&out->cells[i], type == BYTEAOID ? CELL_BYTES : CELL_TEXT, data, len, err);
        }
        out->n = i / columns + (i % columns + 1 == columns);
    }
    return st;
}

static plm_status run(void *db, const char *sql, const struct cell *args, size_t n, struct rows *out,
                      plm_error *err) {
    Oid types[ARGS_MAX];
    const char *values[ARGS_MAX];
    uint64_t numbers[ARGS_MAX];
    int lengths[ARGS_MAX], formats[ARGS_MAX];
    if (n > ARGS_MAX) {
        return fail(err, PLM_EINVAL, "too many parameters");
    }
    for (size_t i = 0; i < n; i++) {
        formats[i] = 1;
        types[i] = args[i].type == CELL_INT ? INT8OID : args[i].type == CELL_TEXT ? TEXTOID : BYTEAOID;
        numbers[i] = htobe64((uint64_t)args[i].i);
        values[i] = args[i].type == CELL_INT ? (const char *)&numbers[i] : args[i].p ? args[i].p : "";
        lengths[i] = args[i].type == CELL_INT ? (int)sizeof numbers[i] : (int)args[i].n;
    }
    PGresult *r = PQexecParams(db, sql, (int)n, types, values, lengths, formats, 1);
    ExecStatusType how = PQresultStatus(r);
    plm_status st = how == PGRES_COMMAND_OK || how == PGRES_TUPLES_OK ? PLM_OK : explain(db, r, err);
    if (!st && out && how == PGRES_TUPLES_OK) {
        st = take(r, out, err);
    }
    if (!st && out) {
        int64_t changed = 0;
        parse_i64(str_of(PQcmdTuples(r)), &changed);
        out->changed = changed;
    }
    PQclear(r);
    if (st && PQstatus(db) != CONNECTION_OK) {
        PQreset(db); // for the next transaction; this one is lost
    }
    return st;
}

const struct driver ledger_postgres = {
    .open = open_db,
    .close = close_db,
    .run = run,
    .script = script,
    // Nobody waits for ever for somebody's locks. Said each time, since a pool may stand between.
    .begin = "BEGIN; SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '10s';"
             " SET LOCAL idle_in_transaction_session_timeout = '60s'",
    .now = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    .lock = " FOR UPDATE",
    .skip = " FOR UPDATE OF jobs SKIP LOCKED",
    .has_tables = "SELECT CAST(1 AS BIGINT) FROM pg_catalog.pg_tables"
                  " WHERE tablename = 'ledger_version' AND schemaname = current_schema()",
    .shared = true,
};
