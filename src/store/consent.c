/* consent.c: what a person agreed to, what left the device, and named settings. The two ledgers are only ever
 * added to; forgetting a record does not rewrite what was sent. */
#include <string.h>
#include "store/db.h"

plm_status plm_store_add_consent(plm_store *st, const plm_consent *c, int64_t *id, plm_error *err) {
    plm_status fault;
    struct query q = {0};
    bool row;
    if ((fault = text_check(c->user, "user", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(c->endpoint, "endpoint", STORE_SOURCE_MAX, false, err)) ||
        (fault = text_check(c->share, "share", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(c->text, "text of a consent", STORE_TEXT_MAX, false, err)) ||
        (fault = writable(st, err)) ||
        (fault = query_open(&q, st,
                            "INSERT INTO consents (user, endpoint, share, text, time)"
                            " VALUES (:user, :endpoint, :share, :text, :time)",
                            err))) {
        return fault;
    }
    query_text(&q, ":user", c->user);
    query_text(&q, ":endpoint", c->endpoint);
    query_text(&q, ":share", c->share);
    query_text(&q, ":text", c->text);
    query_int(&q, ":time", c->when ? c->when : clock_wall());
    fault = query_next(&q, &row, err);
    query_close(&q);
    if (!fault && id) {
        *id = sqlite3_last_insert_rowid(st->db);
    }
    return fault;
}

plm_status plm_store_find_consent(plm_store *st, const char *user, const char *endpoint, const char *share,
                                  int64_t *id, plm_error *err) {
    struct query q;
    bool row = false;
    plm_status fault = query_open(&q, st,
                                  "SELECT id FROM consents WHERE user = :user AND endpoint = :endpoint"
                                  " AND share = :share ORDER BY id DESC LIMIT 1",
                                  err);
    if (!fault) {
        query_text(&q, ":user", user);
        query_text(&q, ":endpoint", endpoint);
        query_text(&q, ":share", share);
        fault = query_next(&q, &row, err);
    }
    *id = row ? column_int(&q, 0) : 0;
    query_close(&q);
    return fault;
}

plm_status plm_store_add_egress(plm_store *st, const plm_egress *e, int64_t *id, plm_error *err) {
    plm_status fault;
    struct query q = {0};
    bool row;
    if (e->bytes > INT64_MAX) {
        return fail(err, PLM_EINVAL, "the number of bytes sent is out of range");
    }
    if ((fault = text_check(e->user, "user", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(e->endpoint, "endpoint", STORE_SOURCE_MAX, false, err)) ||
        (fault = text_check(e->sha256, "hash of the bytes sent", STORE_NAME_MAX, false, err)) ||
        (fault = writable(st, err)) ||
        (fault = query_open(&q, st,
                            "INSERT INTO egress (user, consent, endpoint, bytes, sha256, time)"
                            " VALUES (:user, nullif(:consent, 0), :endpoint, :bytes, :sha256, :time)",
                            err))) {
        return fault;
    }
    query_text(&q, ":user", e->user);
    query_int(&q, ":consent", e->consent);
    query_text(&q, ":endpoint", e->endpoint);
    query_int(&q, ":bytes", (int64_t)e->bytes);
    query_text(&q, ":sha256", e->sha256);
    query_int(&q, ":time", e->when ? e->when : clock_wall());
    fault = query_next(&q, &row, err);
    query_close(&q);
    if (!fault && id) {
        *id = sqlite3_last_insert_rowid(st->db);
    }
    return fault;
}

plm_status plm_store_list_egress(plm_store *st, const char *user, plm_egress_fn each, void *ctx,
                                 plm_error *err) {
    struct query q;
    bool row = true;
    plm_status fault = query_open(&q, st,
                                  "SELECT id, time, consent, user, endpoint, sha256, bytes FROM egress"
                                  " WHERE :user IS NULL OR user = :user ORDER BY id",
                                  err);
    if (!fault) {
        query_text(&q, ":user", user);
    }
    while (!fault && !(fault = query_next(&q, &row, err)) && row) {
        plm_egress e = {
            .id = column_int(&q, 0),
            .when = column_int(&q, 1),
            .consent = column_int(&q, 2),
            .user = column_text(&q, 3),
            .endpoint = column_text(&q, 4),
            .sha256 = column_text(&q, 5),
            .bytes = (uint64_t)column_int(&q, 6),
        };
        if (each(ctx, &e)) {
            fault = fail(err, PLM_ESTOPPED, "stopped by the caller");
        }
    }
    query_close(&q);
    return fault;
}

plm_status plm_store_set(plm_store *st, const char *name, const char *value, plm_error *err) {
    struct query q = {0};
    bool row;
    plm_status fault = text_check(name, "setting's name", STORE_NAME_MAX, false, err);
    if (fault || (value && (fault = text_check(value, "setting", STORE_SETTING_MAX, true, err))) ||
        (fault = writable(st, err)) ||
        (fault = query_open(&q, st,
                            value ? "INSERT INTO settings (name, value) VALUES (:name, :value)"
                                    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
                                  : "DELETE FROM settings WHERE name = :name",
                            err))) {
        return fault;
    }
    query_text(&q, ":name", name);
    if (value) {
        query_text(&q, ":value", value);
    }
    fault = query_next(&q, &row, err);
    query_close(&q);
    return fault;
}

plm_status plm_store_get(plm_store *st, const char *name, char **value, plm_error *err) {
    struct query q;
    bool row = false;
    char *copy = NULL;
    plm_status fault = query_open(&q, st, "SELECT value FROM settings WHERE name = :name", err);
    if (!fault) {
        query_text(&q, ":name", name);
        fault = query_next(&q, &row, err);
    }
    if (!fault && row && !(copy = mem_dupz(column_text(&q, 0)))) {
        fault = fail(err, PLM_ENOMEM, "out of memory");
    }
    query_close(&q);
    if (!fault) {
        *value = copy;
    }
    return fault;
}
