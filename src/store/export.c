/* export.c: everything of one person as JSON lines, one row a line under its table's name, every column as it
 * stands. The first line names the format. Its records can be imported again; settings belong to no person
 * and stay out. */
#include <math.h>
#include <string.h>
#include "store/db.h"

static const struct {
    const char *table, *sql;
} tables[] = {
    {"records", "SELECT * FROM records WHERE user = :user ORDER BY id"},
    {"replies", "SELECT * FROM replies WHERE user = :user ORDER BY id"},
    {"reply_sources", "SELECT s.* FROM reply_sources s JOIN replies r ON r.id = s.reply WHERE r.user = :user"
                      " ORDER BY s.reply, s.position"},
    {"synthetic", "SELECT * FROM synthetic WHERE user = :user ORDER BY id"},
    {"synthetic_sources", "SELECT s.* FROM synthetic_sources s JOIN synthetic y ON y.id = s.synthetic"
                          " WHERE y.user = :user ORDER BY s.synthetic, s.position"},
    {"consents", "SELECT * FROM consents WHERE user = :user ORDER BY id"},
    {"egress", "SELECT * FROM egress WHERE user = :user ORDER BY id"},
    {"adapters", "SELECT * FROM adapters WHERE user = :user ORDER BY id"},
    {"adapter_rows", "SELECT r.* FROM adapter_rows r JOIN adapters a ON a.id = r.adapter WHERE a.user = :user"
                     " ORDER BY r.adapter, r.row"},
    {"adapter_sources",
     "SELECT s.* FROM adapter_sources s JOIN adapters a ON a.id = s.adapter WHERE a.user = :user"
     " ORDER BY s.adapter, s.record"},
};

static void put_value(struct bytes *line, sqlite3_stmt *stmt, int i) {
    switch (sqlite3_column_type(stmt, i)) {
    case SQLITE_INTEGER:
        bytes_printf(line, "%lld", (long long)sqlite3_column_int64(stmt, i));
        break;
    case SQLITE_FLOAT: {
        double value = sqlite3_column_double(stmt, i);
        if (isfinite(value)) {
            bytes_printf(line, "%.17g", value);
        } else {
            bytes_puts(line, "null"); // JSON has no infinities
        }
        break;
    }
    case SQLITE_TEXT: {
        const char *text = (const char *)sqlite3_column_text(stmt, i);
        bytes_json(line, text ? text : "", (size_t)sqlite3_column_bytes(stmt, i));
        break;
    }
    default:
        bytes_puts(line, "null");
    }
}

static plm_status export_table(plm_store *st, const char *table, const char *sql, const char *user,
                               struct writer *w, plm_error *err) {
    struct query q;
    struct bytes line;
    bytes_init(&line, 64 << 20);
    bool row = true;
    plm_status fault = query_open(&q, st, sql, err);
    if (!fault) {
        query_text(&q, ":user", user);
    }
    while (!fault && !(fault = query_next(&q, &row, err)) && row) {
        bytes_clear(&line);
        bytes_printf(&line, "{\"table\":\"%s\"", table);
        for (int i = 0; i < sqlite3_column_count(q.stmt); i++) {
            bytes_printf(&line, ",\"%s\":", sqlite3_column_name(q.stmt, i));
            put_value(&line, q.stmt, i);
        }
        bytes_puts(&line, "}\n");
        if (!(fault = bytes_status(&line, "a row of the export", err))) {
            fault = writer_put(w, line.data, line.len, err);
        }
    }
    query_close(&q);
    bytes_free(&line);
    return fault;
}

/* One transaction, so that all lines are of one moment. */
plm_status plm_store_export(plm_store *st, const char *user, const char *path, plm_error *err) {
    struct writer *w = NULL;
    struct bytes head;
    bytes_init(&head, 4096);
    plm_status fault = text_check(user, "user", STORE_NAME_MAX, false, err);
    if (fault || (fault = writer_open(&w, path, err))) {
        return fault;
    }
    bool own = sqlite3_get_autocommit(st->db) != 0;
    if (own && (fault = db_run(st, "BEGIN", err))) {
        goto out;
    }
    bytes_printf(&head, "{\"table\":\"store\",\"version\":%d,\"user\":", n_migrations);
    bytes_json(&head, user, strlen(user));
    bytes_puts(&head, "}\n");
    if (!(fault = bytes_status(&head, "the export", err))) {
        fault = writer_put(w, head.data, head.len, err);
    }
    for (size_t i = 0; !fault && i < sizeof tables / sizeof *tables; i++) {
        fault = export_table(st, tables[i].table, tables[i].sql, user, w, err);
    }
    if (own) {
        db_run(st, "ROLLBACK", NULL);
    }
out:
    bytes_free(&head);
    if (fault) {
        writer_abort(w);
        return fault;
    }
    return writer_commit(w, err);
}
