/* record.c: adding, finding and counting records. A query is assembled from fixed pieces of SQL; whatever
 * came from outside is a parameter. A person's words are quoted for FTS5, so that none of them is read as its
 * syntax. */
#include <string.h>
#include "store/db.h"

plm_status record_check(const plm_record *r, plm_error *err) {
    plm_status fault;
    if ((fault = text_check(r->user, "user", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(r->kind, "kind", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(r->output, "output", STORE_TEXT_MAX, false, err)) ||
        (r->input && (fault = text_check(r->input, "input", STORE_TEXT_MAX, true, err))) ||
        (r->source && (fault = text_check(r->source, "source", STORE_SOURCE_MAX, true, err)))) {
        return fault;
    }
    return PLM_OK;
}

/* The record that equals r; 0: none. */
static plm_status find_equal(plm_store *st, const char *digest, int64_t *id, plm_error *err) {
    struct query q;
    bool row = false;
    plm_status fault = query_open(&q, st, "SELECT id FROM records WHERE digest = :digest", err);
    if (!fault) {
        query_text(&q, ":digest", digest);
        fault = query_next(&q, &row, err);
    }
    *id = row ? column_int(&q, 0) : 0;
    query_close(&q);
    return fault;
}

static plm_status insert_record(plm_store *st, const plm_record *r, const char *digest, int64_t *id,
                                plm_error *err) {
    struct query q;
    bool row;
    plm_status fault =
        query_open(&q, st,
                   "INSERT INTO records (user, kind, input, output, source, time, local_only, digest, added)"
                   " VALUES (:user, :kind, :input, :output, :source, :time, :local_only, :digest, :added)",
                   err);
    if (!fault) {
        query_text(&q, ":user", r->user);
        query_text(&q, ":kind", r->kind);
        query_text(&q, ":input", r->input ? r->input : "");
        query_text(&q, ":output", r->output);
        query_text(&q, ":source", r->source);
        query_int(&q, ":time", r->when);
        query_int(&q, ":local_only", r->local_only);
        query_text(&q, ":digest", digest);
        query_int(&q, ":added", clock_wall());
        fault = query_next(&q, &row, err);
    }
    query_close(&q);
    *id = sqlite3_last_insert_rowid(st->db);
    return fault ? fault
                 : db_run_id(st,
                             "INSERT INTO records_words (rowid, input, output)"
                             " SELECT id, input, output FROM records WHERE id = :id",
                             *id, NULL, err);
}

plm_status plm_store_add(plm_store *st, const plm_record *r, int64_t *id, bool *added, plm_error *err) {
    plm_status fault = record_check(r, err);
    if (fault || (fault = plm_store_begin(st, err))) {
        return fault;
    }
    char digest[65];
    int64_t known = 0, row = 0;
    row_digest(r->user, r->kind, r->input ? r->input : "", r->output, digest);
    if (!(fault = find_equal(st, digest, &known, err)) && !known) {
        fault = insert_record(st, r, digest, &row, err);
    }
    if ((fault = db_end(st, fault, err))) {
        return fault;
    }
    if (id) {
        *id = known ? known : row;
    }
    if (added) {
        *added = !known;
    }
    return PLM_OK;
}

plm_status records_where(struct bytes *sql, const plm_query *q, plm_error *err) {
    bytes_puts(sql, q->match ? " FROM records_words JOIN records r ON r.id = records_words.rowid"
                               " WHERE records_words MATCH :match"
                             : " FROM records r WHERE 1");
    bytes_puts(sql, q->user ? " AND r.user = :user" : "");
    bytes_puts(sql, q->kind ? " AND r.kind = :kind" : "");
    bytes_puts(sql, q->source ? " AND r.source = :source" : "");
    bytes_puts(sql, q->id ? " AND r.id = :id" : "");
    bytes_puts(sql, q->since ? " AND r.time >= :since" : "");
    bytes_puts(sql, q->until ? " AND r.time <= :until" : "");
    return bytes_status(sql, "the query", err);
}

/* "two words" as "two" "words": all of them must occur, and no character has a meaning. */
static plm_status quote_words(const char *text, char **out, plm_error *err) {
    struct bytes b;
    bytes_init(&b, STORE_TEXT_MAX);
    struct str rest = str_of(text), word;
    while (str_cut(&rest, ' ', &word)) {
        word = str_trim(word);
        if (word.n == 0) {
            continue;
        }
        bytes_putc(&b, '"');
        for (size_t i = 0; i < word.n; i++) {
            bytes_puts(&b, word.p[i] == '"' ? "\"\"" : (char[]){word.p[i], '\0'});
        }
        bytes_puts(&b, "\" ");
    }
    if (b.len == 0) {
        bytes_puts(&b, "\"\"");
    }
    plm_status fault = bytes_status(&b, "the words to look for", err);
    if (!fault && !(*out = bytes_take(&b))) {
        fault = fail(err, PLM_ENOMEM, "out of memory");
    }
    bytes_free(&b);
    return fault;
}

plm_status records_bind(struct query *stmt, const plm_query *q, char **match, plm_error *err) {
    if (q->match) {
        plm_status fault = text_check(q->match, "text to look for", STORE_SOURCE_MAX, false, err);
        if (fault || (fault = quote_words(q->match, match, err))) {
            return fault;
        }
        query_text(stmt, ":match", *match);
    }
    const struct {
        const char *name, *value;
    } texts[] = {{":user", q->user}, {":kind", q->kind}, {":source", q->source}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i].value) {
            query_text(stmt, texts[i].name, texts[i].value);
        }
    }
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{":id", q->id}, {":since", q->since}, {":until", q->until}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].value) {
            query_int(stmt, numbers[i].name, numbers[i].value);
        }
    }
    return PLM_OK;
}

static const char *order(const plm_query *q) {
    if (q->newest_first) {
        return " ORDER BY r.time DESC, r.id DESC";
    }
    return q->match ? " ORDER BY records_words.rank, r.id" : " ORDER BY r.time, r.id";
}

plm_status plm_store_find(plm_store *st, const plm_query *q, plm_record_fn each, void *ctx, plm_error *err) {
    static const plm_query all;
    q = q ? q : &all;
    struct query stmt = {0};
    char *match = NULL;
    struct bytes sql;
    bytes_init(&sql, 4096);
    bytes_puts(&sql, "SELECT r.id, r.time, r.user, r.kind, r.input, r.output, r.source, r.local_only");
    plm_status fault = records_where(&sql, q, err);
    if (!fault) {
        bytes_puts(&sql, order(q));
        if (q->limit > 0) {
            bytes_printf(&sql, " LIMIT %d", q->limit);
        }
        fault = bytes_status(&sql, "the query", err);
    }
    if (fault || (fault = query_open(&stmt, st, sql.data, err)) ||
        (fault = records_bind(&stmt, q, &match, err))) {
        goto out;
    }
    bool row = true;
    while (!(fault = query_next(&stmt, &row, err)) && row) {
        plm_record r = {
            .id = column_int(&stmt, 0),
            .when = column_int(&stmt, 1),
            .user = column_text(&stmt, 2),
            .kind = column_text(&stmt, 3),
            .input = column_text(&stmt, 4),
            .output = column_text(&stmt, 5),
            .source = column_maybe(&stmt, 6),
            .local_only = column_int(&stmt, 7) != 0,
        };
        if (each(ctx, &r)) {
            fault = fail(err, PLM_ESTOPPED, "stopped by the caller");
            break;
        }
    }
out:
    query_close(&stmt);
    mem_free(match);
    bytes_free(&sql);
    return fault;
}

plm_status plm_store_count(plm_store *st, const plm_query *q, size_t *n, plm_error *err) {
    static const plm_query all;
    q = q ? q : &all;
    struct query stmt = {0};
    char *match = NULL;
    struct bytes sql;
    bytes_init(&sql, 4096);
    bytes_puts(&sql, "SELECT count(*)");
    bool row = false;
    plm_status fault = records_where(&sql, q, err);
    if (!fault && !(fault = query_open(&stmt, st, sql.data, err)) &&
        !(fault = records_bind(&stmt, q, &match, err)) && !(fault = query_next(&stmt, &row, err))) {
        *n = row ? (size_t)column_int(&stmt, 0) : 0;
    }
    query_close(&stmt);
    mem_free(match);
    bytes_free(&sql);
    return fault;
}
