/* forget.c: forgetting records with all that came of them. One transaction takes the records, the replies
 * that quoted them, the examples made from either, and retires the adapters that depend on any of it; the
 * word index is written anew, because FTS5 keeps deleted words in its segments. Then the file is compacted. A
 * cut between the two is noted in the store and made good when it is opened next. */
#include <string.h>
#include "store/db.h"

/* What goes, by lineage, once temp.gone_records is filled. :user is null unless all of a person goes: then
 * rows that name no record go too. An adapter depends on what was noted at its installation. */
static const char *const lists[] = {
    "INSERT INTO temp.gone_replies SELECT id FROM replies WHERE user = :user OR id IN"
    " (SELECT reply FROM reply_sources WHERE record IN (SELECT id FROM temp.gone_records))",
    "INSERT INTO temp.gone_synthetic SELECT id FROM synthetic WHERE user = :user"
    " OR reply IN (SELECT id FROM temp.gone_replies) OR id IN"
    " (SELECT synthetic FROM synthetic_sources WHERE record IN (SELECT id FROM temp.gone_records))",
    "INSERT INTO temp.gone_adapters SELECT id, state, path FROM adapters WHERE user = :user"
    " OR id IN (SELECT adapter FROM adapter_sources WHERE record IN (SELECT id FROM temp.gone_records))"
    " OR id IN (SELECT adapter FROM adapter_rows WHERE -row IN (SELECT id FROM temp.gone_synthetic))",
};

/* In this order: no foreign key may point at a row that is gone. Settings called "derived." hold something
 * made of many records at once, so all of them go. */
static const char *const removal[] = {
    "DELETE FROM synthetic WHERE id IN (SELECT id FROM temp.gone_synthetic)",
    "DELETE FROM replies WHERE id IN (SELECT id FROM temp.gone_replies)",
    "DELETE FROM records WHERE id IN (SELECT id FROM temp.gone_records)",
    "DELETE FROM settings WHERE name GLOB 'derived.*'",
    "UPDATE adapters SET state = 'retired', metrics = '' WHERE id IN (SELECT id FROM temp.gone_adapters)",
    "DELETE FROM adapter_rows WHERE row IN (SELECT id FROM temp.gone_records)"
    " OR -row IN (SELECT id FROM temp.gone_synthetic)",
    "DELETE FROM adapter_sources WHERE record IN (SELECT id FROM temp.gone_records)",
    // Where that took the active adapter, the newest clean one answers from now on.
    "UPDATE adapters SET state = 'active' WHERE id IN (SELECT max(a.id) FROM adapters a"
    " WHERE a.state = 'kept' AND EXISTS (SELECT 1 FROM temp.gone_adapters g JOIN adapters b ON b.id = g.id"
    " WHERE g.state = 'active' AND b.user = a.user AND b.kind = a.kind) GROUP BY a.user, a.kind)",
    "INSERT INTO records_words (records_words) VALUES ('rebuild')",
    "INSERT OR IGNORE INTO settings (name, value) VALUES ('store.compact', 'due')",
};

static plm_status make_lists(plm_store *st, plm_error *err) {
    static const char *const sql[] = {
        "CREATE TEMP TABLE IF NOT EXISTS gone_records (id INTEGER PRIMARY KEY)",
        "CREATE TEMP TABLE IF NOT EXISTS gone_replies (id INTEGER PRIMARY KEY)",
        "CREATE TEMP TABLE IF NOT EXISTS gone_synthetic (id INTEGER PRIMARY KEY)",
        "CREATE TEMP TABLE IF NOT EXISTS gone_adapters (id INTEGER PRIMARY KEY, state TEXT, path TEXT)",
        "DELETE FROM temp.gone_records",
        "DELETE FROM temp.gone_replies",
        "DELETE FROM temp.gone_synthetic",
        "DELETE FROM temp.gone_adapters",
    };
    plm_status fault = PLM_OK;
    for (size_t i = 0; !fault && i < sizeof sql / sizeof *sql; i++) {
        fault = db_run(st, sql[i], err);
    }
    return fault;
}

static plm_status list_records(plm_store *st, const plm_query *q, plm_error *err) {
    struct query stmt = {0};
    char *match = NULL;
    bool row;
    struct bytes sql;
    bytes_init(&sql, 4096);
    bytes_puts(&sql, "INSERT INTO temp.gone_records SELECT r.id");
    plm_status fault = records_where(&sql, q, err);
    if (!fault && q->limit > 0) {
        const char *down = q->newest_first ? " DESC" : "";
        bytes_printf(&sql, " ORDER BY r.time%s, r.id%s LIMIT %d", down, down, q->limit);
        fault = bytes_status(&sql, "the query", err);
    }
    if (!fault && !(fault = query_open(&stmt, st, sql.data, err)) &&
        !(fault = records_bind(&stmt, q, &match, err))) {
        fault = query_next(&stmt, &row, err);
    }
    query_close(&stmt);
    mem_free(match);
    bytes_free(&sql);
    return fault;
}

static plm_status list_children(plm_store *st, const char *whole_user, plm_error *err) {
    plm_status fault = PLM_OK;
    for (size_t i = 0; !fault && i < sizeof lists / sizeof *lists; i++) {
        struct query q;
        bool row;
        if (!(fault = query_open(&q, st, lists[i], err))) {
            query_text(&q, ":user", whole_user);
            fault = query_next(&q, &row, err);
        }
        query_close(&q);
    }
    return fault;
}

static plm_status count_lists(plm_store *st, plm_forgotten *gone, plm_error *err) {
    struct query q;
    bool row = false;
    plm_status fault = query_open(&q, st,
                                  "SELECT (SELECT count(*) FROM temp.gone_records),"
                                  " (SELECT count(*) FROM temp.gone_synthetic),"
                                  " (SELECT count(*) FROM temp.gone_replies),"
                                  " (SELECT count(*) FROM temp.gone_adapters WHERE state <> 'retired')",
                                  err);
    if (!fault && !(fault = query_next(&q, &row, err)) && row) {
        *gone = (plm_forgotten){
            .records = (size_t)column_int(&q, 0),
            .synthetic = (size_t)column_int(&q, 1),
            .replies = (size_t)column_int(&q, 2),
            .adapters = (size_t)column_int(&q, 3),
        };
    }
    query_close(&q);
    return fault;
}

/* An adapter retired long ago may still lie on the disk, so its path is given as well. */
static plm_status report_paths(plm_store *st, int (*retired)(void *ctx, const char *path), void *ctx,
                               plm_error *err) {
    struct query q;
    bool row = true;
    plm_status fault = query_open(&q, st, "SELECT path FROM temp.gone_adapters ORDER BY id", err);
    bool stopped = false;
    while (!fault && !(fault = query_next(&q, &row, err)) && row) {
        stopped |= retired(ctx, column_text(&q, 0)) != 0;
    }
    query_close(&q);
    return !fault && stopped ? fail(err, PLM_ESTOPPED, "stopped by the caller") : fault;
}

static plm_status compact(plm_store *st, plm_error *err) {
    // VACUUM attaches a database of its own.
    int most = sqlite3_limit(st->db, SQLITE_LIMIT_ATTACHED, 1);
    plm_status fault = db_run(st, "VACUUM", err);
    sqlite3_limit(st->db, SQLITE_LIMIT_ATTACHED, most);
    return fault ? fault : db_run(st, "DELETE FROM settings WHERE name = 'store.compact'", err);
}

plm_status forget_finish(struct plm_store *st, plm_error *err) {
    char *due = NULL;
    plm_status fault = plm_store_get(st, "store.compact", &due, err);
    if (!fault && due) {
        fault = compact(st, err);
    }
    mem_free(due);
    return fault;
}

plm_status plm_store_forget(plm_store *st, const plm_query *q, plm_forgotten *gone,
                            int (*retired)(void *ctx, const char *path), void *ctx, plm_error *err) {
    if (!q || !(q->user || q->kind || q->source || q->match || q->id || q->since || q->until)) {
        return fail(err, PLM_EINVAL, "say which records to forget");
    }
    if (st->depth) {
        return fail(err, PLM_EINVAL, "forgetting can't be part of a larger transaction");
    }
    bool some = q->kind || q->source || q->match || q->id || q->since || q->until || q->limit > 0;
    plm_forgotten counts = {0};
    plm_status fault = plm_store_begin(st, err);
    if (fault) {
        return fault;
    }
    if (!(fault = make_lists(st, err)) && !(fault = list_records(st, q, err)) &&
        !(fault = list_children(st, some ? NULL : q->user, err)) &&
        !(fault = count_lists(st, &counts, err))) {
        bool any = counts.records || counts.synthetic || counts.replies || counts.adapters;
        for (size_t i = 0; !fault && any && i < sizeof removal / sizeof *removal; i++) {
            fault = db_run(st, removal[i], err);
        }
    }
    if ((fault = db_end(st, fault, err))) {
        return fault;
    }
    if (gone) {
        *gone = counts;
    }
    // From here on the records are gone; what fails now says so and is made good later.
    plm_status told = retired ? report_paths(st, retired, ctx, err) : PLM_OK;
    fault = forget_finish(st, told ? NULL : err);
    if (fault && !told) {
        return fail_in(err, fault, "forgotten, but the file could not be compacted yet");
    }
    return told;
}
