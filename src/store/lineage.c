/* lineage.c: teachers' raw replies and the examples made from them, each with the records behind it. A source
 * that is not a record of the same person is refused, so that forgetting a record always finds its children.
 */
#include <string.h>
#include "store/db.h"

/* The table that names the records behind a parent row. */
static plm_status add_sources(plm_store *st, const char *sql, int64_t parent, const char *user,
                              const int64_t *sources, size_t n, plm_error *err) {
    struct query q;
    bool row;
    plm_status fault = query_open(&q, st, sql, err);
    for (size_t i = 0; !fault && i < n; i++) {
        query_int(&q, ":parent", parent);
        query_int(&q, ":position", (int64_t)i);
        query_int(&q, ":record", sources[i]);
        query_text(&q, ":user", user);
        fault = query_next(&q, &row, err);
        if (!fault && sqlite3_changes(st->db) == 0) {
            fault = fail(err, PLM_ENOTFOUND, "record %lld is not in the store of %s", (long long)sources[i],
                         user);
        }
        if (!fault) {
            fault = query_reset(&q, err);
        }
    }
    query_close(&q);
    return fault;
}

struct ids {
    int64_t *v;
    size_t n, cap;
};

/* The records behind a parent row, in order. */
static plm_status read_sources(struct query *q, int64_t parent, struct ids *to, plm_error *err) {
    to->n = 0;
    plm_status fault = query_reset(q, err);
    query_int(q, ":parent", parent);
    bool row = true;
    while (!fault && !(fault = query_next(q, &row, err)) && row) {
        if (to->n == to->cap) {
            size_t cap = to->cap ? 2 * to->cap : 16;
            int64_t *grown = mem_grow(to->v, cap, sizeof *grown);
            if (!grown) {
                return fail(err, PLM_ENOMEM, "out of memory");
            }
            to->v = grown;
            to->cap = cap;
        }
        to->v[to->n++] = column_int(q, 0);
    }
    return fault;
}

static plm_status insert_reply(plm_store *st, const plm_reply *r, int64_t *id, plm_error *err) {
    struct query q;
    bool row;
    plm_status fault =
        query_open(&q, st,
                   "INSERT INTO replies (user, kind, teacher, call_hash, text, finish, time, tokens_in,"
                   " tokens_out, seconds) VALUES (:user, :kind, :teacher, :call_hash, :text, :finish,"
                   " :time, :tokens_in, :tokens_out, :seconds)",
                   err);
    if (!fault) {
        query_text(&q, ":user", r->user);
        query_text(&q, ":kind", r->kind);
        query_text(&q, ":teacher", r->teacher);
        query_text(&q, ":call_hash", r->call_hash);
        query_text(&q, ":text", r->text);
        query_text(&q, ":finish", r->finish ? r->finish : "");
        query_int(&q, ":time", r->when ? r->when : clock_wall());
        query_int(&q, ":tokens_in", r->tokens_in);
        query_int(&q, ":tokens_out", r->tokens_out);
        query_real(&q, ":seconds", r->seconds);
        fault = query_next(&q, &row, err);
    }
    query_close(&q);
    *id = sqlite3_last_insert_rowid(st->db);
    return fault;
}

static plm_status reply_id(plm_store *st, const char *user, const char *call_hash, int64_t *id,
                           plm_error *err) {
    struct query q;
    bool row = false;
    plm_status fault =
        query_open(&q, st, "SELECT id FROM replies WHERE user = :user AND call_hash = :call_hash", err);
    if (!fault) {
        query_text(&q, ":user", user);
        query_text(&q, ":call_hash", call_hash);
        fault = query_next(&q, &row, err);
    }
    *id = row ? column_int(&q, 0) : 0;
    query_close(&q);
    return fault;
}

plm_status plm_store_add_reply(plm_store *st, const plm_reply *r, int64_t *id, plm_error *err) {
    plm_status fault;
    if ((fault = text_check(r->user, "user", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(r->kind, "kind", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(r->teacher, "teacher", STORE_SOURCE_MAX, false, err)) ||
        (fault = text_check(r->call_hash, "call's hash", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(r->text, "reply", STORE_REPLY_MAX, true, err)) ||
        (fault = plm_store_begin(st, err))) {
        return fault;
    }
    int64_t row = 0;
    fault = reply_id(st, r->user, r->call_hash, &row, err); // the first answer to a call stands
    if (!fault && !row && !(fault = insert_reply(st, r, &row, err))) {
        fault =
            add_sources(st,
                        "INSERT INTO reply_sources (reply, position, record) SELECT :parent, :position, id"
                        " FROM records WHERE id = :record AND user = :user",
                        row, r->user, r->sources, r->n_sources, err);
    }
    fault = db_end(st, fault, err);
    if (!fault && id) {
        *id = row;
    }
    return fault;
}

plm_status plm_store_find_reply(plm_store *st, const char *user, const char *call_hash, plm_reply_fn each,
                                void *ctx, bool *found, plm_error *err) {
    struct query q = {0}, from = {0};
    struct ids sources = {0};
    bool row = false;
    *found = false;
    plm_status fault = query_open(
        &from, st, "SELECT record FROM reply_sources WHERE reply = :parent ORDER BY position", err);
    if (fault ||
        (fault = query_open(&q, st,
                            "SELECT id, time, user, kind, teacher, call_hash, text, finish, tokens_in,"
                            " tokens_out, seconds FROM replies WHERE user = :user AND call_hash = :call_hash",
                            err))) {
        goto out;
    }
    query_text(&q, ":user", user);
    query_text(&q, ":call_hash", call_hash);
    if ((fault = query_next(&q, &row, err)) || !row ||
        (fault = read_sources(&from, column_int(&q, 0), &sources, err))) {
        goto out;
    }
    *found = true;
    plm_reply r = {
        .id = column_int(&q, 0),
        .when = column_int(&q, 1),
        .user = column_text(&q, 2),
        .kind = column_text(&q, 3),
        .teacher = column_text(&q, 4),
        .call_hash = column_text(&q, 5),
        .text = column_text(&q, 6),
        .finish = column_text(&q, 7),
        .sources = sources.v,
        .n_sources = sources.n,
        .tokens_in = column_int(&q, 8),
        .tokens_out = column_int(&q, 9),
        .seconds = column_real(&q, 10),
    };
    if (each && each(ctx, &r)) {
        fault = fail(err, PLM_ESTOPPED, "stopped by the caller");
    }
out:
    query_close(&q);
    query_close(&from);
    mem_free(sources.v);
    return fault;
}

static plm_status insert_synthetic(plm_store *st, const plm_synthetic *s, int64_t *id, plm_error *err) {
    char digest[65];
    row_digest(s->user, s->kind, s->input, s->output, digest);
    struct query q;
    bool row;
    plm_status fault =
        query_open(&q, st,
                   "INSERT INTO synthetic (user, kind, mode, input, output, verdict, teacher, reply,"
                   " weight, nll, z, digest, added) VALUES (:user, :kind, :mode, :input, :output,"
                   " :verdict, :teacher, nullif(:reply, 0), :weight, :nll, :z, :digest, :added)",
                   err);
    if (!fault) {
        query_text(&q, ":user", s->user);
        query_text(&q, ":kind", s->kind);
        query_text(&q, ":mode", s->mode);
        query_text(&q, ":input", s->input);
        query_text(&q, ":output", s->output);
        query_text(&q, ":verdict", s->verdict);
        query_text(&q, ":teacher", s->teacher);
        query_int(&q, ":reply", s->reply);
        query_real(&q, ":weight", s->weight);
        query_real(&q, ":nll", s->nll);
        query_real(&q, ":z", s->z);
        query_text(&q, ":digest", digest);
        query_int(&q, ":added", clock_wall());
        fault = query_next(&q, &row, err);
    }
    query_close(&q);
    *id = sqlite3_last_insert_rowid(st->db);
    return fault;
}

plm_status plm_store_add_synthetic(plm_store *st, const plm_synthetic *s, int64_t *id, plm_error *err) {
    plm_status fault;
    // A dropped candidate may be empty or too long to be a record, and is kept all the same, with its
    // verdict.
    if ((fault = text_check(s->user, "user", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(s->kind, "kind", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(s->mode, "mode", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(s->input, "input", STORE_REPLY_MAX, true, err)) ||
        (fault = text_check(s->output, "output", STORE_REPLY_MAX, true, err)) ||
        (fault = text_check(s->verdict, "verdict", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(s->teacher, "teacher", STORE_SOURCE_MAX, true, err)) ||
        (fault = plm_store_begin(st, err))) {
        return fault;
    }
    int64_t row = 0;
    if (!(fault = insert_synthetic(st, s, &row, err))) {
        fault = add_sources(
            st,
            "INSERT INTO synthetic_sources (synthetic, position, record) SELECT :parent, :position, id"
            " FROM records WHERE id = :record AND user = :user",
            row, s->user, s->sources, s->n_sources, err);
    }
    fault = db_end(st, fault, err);
    if (!fault && id) {
        *id = row;
    }
    return fault;
}

plm_status plm_store_find_synthetic(plm_store *st, const char *user, const char *kind, bool kept_only,
                                    plm_synthetic_fn each, void *ctx, plm_error *err) {
    struct query q = {0}, from = {0};
    struct ids sources = {0};
    bool row = true;
    plm_status fault = query_open(
        &from, st, "SELECT record FROM synthetic_sources WHERE synthetic = :parent ORDER BY position", err);
    if (fault || (fault = query_open(
                      &q, st,
                      "SELECT id, reply, user, kind, mode, input, output, verdict, teacher, weight, nll,"
                      " z FROM synthetic WHERE user = :user AND (:kind IS NULL OR kind = :kind)"
                      " AND (:kept = 0 OR verdict = 'kept') ORDER BY id",
                      err))) {
        goto out;
    }
    query_text(&q, ":user", user);
    query_text(&q, ":kind", kind);
    query_int(&q, ":kept", kept_only);
    while (!(fault = query_next(&q, &row, err)) && row) {
        if ((fault = read_sources(&from, column_int(&q, 0), &sources, err))) {
            break;
        }
        plm_synthetic s = {
            .id = column_int(&q, 0),
            .reply = column_int(&q, 1),
            .user = column_text(&q, 2),
            .kind = column_text(&q, 3),
            .mode = column_text(&q, 4),
            .input = column_text(&q, 5),
            .output = column_text(&q, 6),
            .verdict = column_text(&q, 7),
            .teacher = column_text(&q, 8),
            .weight = column_real(&q, 9),
            .nll = column_real(&q, 10),
            .z = column_real(&q, 11),
            .sources = sources.v,
            .n_sources = sources.n,
        };
        if (each(ctx, &s)) {
            fault = fail(err, PLM_ESTOPPED, "stopped by the caller");
            break;
        }
    }
out:
    query_close(&q);
    query_close(&from);
    mem_free(sources.v);
    return fault;
}

plm_status plm_store_clear_synthetic(plm_store *st, const char *user, const char *kind, plm_error *err) {
    struct query q = {0};
    bool row;
    plm_status fault = writable(st, err);
    if (!fault &&
        !(fault = query_open(
              &q, st, "DELETE FROM synthetic WHERE user = :user AND (:kind IS NULL OR kind = :kind)", err))) {
        query_text(&q, ":user", user);
        query_text(&q, ":kind", kind);
        fault = query_next(&q, &row, err);
    }
    query_close(&q);
    return fault;
}
