/* adapters.c: which adapters a (user, kind) has, which one answers, and what each learned. The pointer to the
 * active one moves in one transaction; at most three stay, so that a rollback is always possible and never
 * far. */
#include <stdio.h>
#include <string.h>
#include "store/db.h"

enum { ADAPTERS_KEPT = 3 };

/* Runs a statement whose parameters are :user, :kind and, where it has one, :id. */
static plm_status run_for(plm_store *st, const char *sql, const char *user, const char *kind, int64_t id,
                          plm_error *err) {
    struct query q;
    bool row;
    plm_status fault = query_open(&q, st, sql, err);
    if (!fault) {
        query_text(&q, ":user", user);
        query_text(&q, ":kind", kind);
        if (sqlite3_bind_parameter_index(q.stmt, ":id")) {
            query_int(&q, ":id", id);
        }
        fault = query_next(&q, &row, err);
    }
    query_close(&q);
    return fault;
}

static plm_status insert_adapter(plm_store *st, const plm_installed *a, int64_t *id, plm_error *err) {
    struct query q;
    bool row;
    plm_status fault =
        query_open(&q, st,
                   "INSERT INTO adapters (user, kind, path, sha256, base_sha256, arm, metrics, state,"
                   " scale, time) VALUES (:user, :kind, :path, :sha256, :base_sha256, :arm, :metrics,"
                   " 'active', :scale, :time)",
                   err);
    if (!fault) {
        query_text(&q, ":user", a->user);
        query_text(&q, ":kind", a->kind);
        query_text(&q, ":path", a->path);
        query_text(&q, ":sha256", a->sha256 ? a->sha256 : "");
        query_text(&q, ":base_sha256", a->base_sha256 ? a->base_sha256 : "");
        query_text(&q, ":arm", a->arm ? a->arm : "");
        query_text(&q, ":metrics", a->metrics ? a->metrics : "");
        query_real(&q, ":scale", a->scale);
        query_int(&q, ":time", a->when ? a->when : clock_wall());
        fault = query_next(&q, &row, err);
    }
    query_close(&q);
    *id = sqlite3_last_insert_rowid(st->db);
    return fault;
}

/* The manifest. A row that is not there was forgotten while the adapter was learning it: it may not be
 * installed. */
static plm_status add_rows(plm_store *st, int64_t adapter, const plm_installed *a, plm_error *err) {
    struct query q;
    bool row;
    plm_status fault =
        query_open(&q, st,
                   "INSERT INTO adapter_rows (adapter, row, digest)"
                   " SELECT :adapter, id, digest FROM records WHERE id = :row AND user = :user UNION ALL"
                   " SELECT :adapter, -id, digest FROM synthetic WHERE id = -:row AND user = :user"
                   " ON CONFLICT DO UPDATE SET digest = excluded.digest",
                   err);
    for (size_t i = 0; !fault && i < a->n_records; i++) {
        query_int(&q, ":adapter", adapter);
        query_int(&q, ":row", a->records[i]);
        query_text(&q, ":user", a->user);
        fault = query_next(&q, &row, err);
        if (!fault && sqlite3_changes(st->db) == 0) {
            fault = fail(err, PLM_ENOTFOUND, "%s %lld, which the adapter learned, is not in the store of %s",
                         a->records[i] < 0 ? "synthetic example" : "record",
                         (long long)(a->records[i] < 0 ? -a->records[i] : a->records[i]), a->user);
        }
        if (!fault) {
            fault = query_reset(&q, err);
        }
    }
    query_close(&q);
    if (!fault) {
        fault = db_run_id(st,
                          "INSERT OR IGNORE INTO adapter_sources (adapter, record)"
                          " SELECT adapter, row FROM adapter_rows WHERE adapter = :id AND row > 0 UNION"
                          " SELECT a.adapter, s.record FROM adapter_rows a JOIN synthetic_sources s"
                          " ON s.synthetic = -a.row WHERE a.adapter = :id UNION"
                          " SELECT a.adapter, s.record FROM adapter_rows a JOIN synthetic y ON y.id = -a.row"
                          " JOIN reply_sources s ON s.reply = y.reply WHERE a.adapter = :id",
                          adapter, NULL, err);
    }
    return fault;
}

plm_status plm_store_install(plm_store *st, const plm_installed *a, int64_t *id, plm_error *err) {
    plm_status fault;
    if ((fault = text_check(a->user, "user", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(a->kind, "kind", STORE_NAME_MAX, false, err)) ||
        (fault = text_check(a->path, "adapter's path", STORE_SOURCE_MAX, false, err)) ||
        (a->metrics && (fault = text_check(a->metrics, "adapter's metrics", STORE_REPLY_MAX, true, err))) ||
        (fault = plm_store_begin(st, err))) {
        return fault;
    }
    int64_t row = 0;
    char keep[400];
    snprintf(
        keep, sizeof keep,
        "UPDATE adapters SET state = 'retired' WHERE id IN (SELECT id FROM adapters WHERE user = :user AND"
        " kind = :kind AND state <> 'retired' ORDER BY state = 'active' DESC, id DESC LIMIT -1 OFFSET %d)",
        ADAPTERS_KEPT);
    if (!(fault = run_for(
              st,
              "UPDATE adapters SET state = 'kept' WHERE user = :user AND kind = :kind AND state = 'active'",
              a->user, a->kind, 0, err)) &&
        !(fault = insert_adapter(st, a, &row, err)) && !(fault = add_rows(st, row, a, err))) {
        fault = run_for(st, keep, a->user, a->kind, 0, err);
    }
    fault = db_end(st, fault, err);
    if (!fault && id) {
        *id = row;
    }
    return fault;
}

static plm_status read_rows(struct query *q, int64_t adapter, int64_t **rows, size_t *n, plm_error *err) {
    size_t cap = 0;
    bool row = true;
    *rows = NULL;
    *n = 0;
    plm_status fault = query_reset(q, err);
    query_int(q, ":id", adapter);
    while (!fault && !(fault = query_next(q, &row, err)) && row) {
        if (*n == cap) {
            cap = cap ? 2 * cap : 64;
            int64_t *grown = mem_grow(*rows, cap, sizeof *grown);
            if (!grown) {
                return fail(err, PLM_ENOMEM, "out of memory");
            }
            *rows = grown;
        }
        (*rows)[(*n)++] = column_int(q, 0);
    }
    return fault;
}

plm_status plm_store_list_adapters(plm_store *st, const char *user, const char *kind, plm_installed_fn each,
                                   void *ctx, plm_error *err) {
    struct query q = {0}, manifest = {0};
    bool row = true;
    plm_status fault = query_open(
        &manifest, st, "SELECT row FROM adapter_rows WHERE adapter = :id ORDER BY row < 0, abs(row)", err);
    if (fault ||
        (fault = query_open(&q, st,
                            "SELECT id, time, user, kind, path, sha256, base_sha256, arm, metrics, state,"
                            " scale FROM adapters WHERE (:user IS NULL OR user = :user)"
                            " AND (:kind IS NULL OR kind = :kind) ORDER BY id",
                            err))) {
        goto out;
    }
    query_text(&q, ":user", user);
    query_text(&q, ":kind", kind);
    while (!(fault = query_next(&q, &row, err)) && row) {
        int64_t *rows = NULL;
        size_t n = 0;
        if (!(fault = read_rows(&manifest, column_int(&q, 0), &rows, &n, err))) {
            plm_installed a = {
                .id = column_int(&q, 0),
                .when = column_int(&q, 1),
                .user = column_text(&q, 2),
                .kind = column_text(&q, 3),
                .path = column_text(&q, 4),
                .sha256 = column_text(&q, 5),
                .base_sha256 = column_text(&q, 6),
                .arm = column_text(&q, 7),
                .metrics = column_text(&q, 8),
                .state = column_text(&q, 9),
                .scale = column_real(&q, 10),
                .records = rows,
                .n_records = n,
            };
            if (each(ctx, &a)) {
                fault = fail(err, PLM_ESTOPPED, "stopped by the caller");
            }
        }
        mem_free(rows);
        if (fault) {
            break;
        }
    }
out:
    query_close(&q);
    query_close(&manifest);
    return fault;
}

/* The adapter that id stands for: itself, or for 0 the one installed before the active one. */
static plm_status resolve(plm_store *st, const char *user, const char *kind, int64_t id, int64_t *found,
                          plm_error *err) {
    struct query q;
    bool row = false;
    plm_status fault =
        query_open(&q, st,
                   "SELECT max(id) FROM adapters WHERE user = :user AND kind = :kind"
                   " AND state <> 'retired' AND (id = :id OR :id = 0 AND id < (SELECT id FROM adapters"
                   " WHERE user = :user AND kind = :kind AND state = 'active'))",
                   err);
    if (!fault) {
        query_text(&q, ":user", user);
        query_text(&q, ":kind", kind);
        query_int(&q, ":id", id);
        fault = query_next(&q, &row, err);
    }
    *found = row ? column_int(&q, 0) : 0;
    query_close(&q);
    if (!fault && !*found) {
        fault = id ? fail(err, PLM_ENOTFOUND, "%s has no adapter %lld for %s that could be used", user,
                          (long long)id, kind)
                   : fail(err, PLM_ENOTFOUND, "%s has no earlier adapter for %s", user, kind);
    }
    return fault;
}

plm_status plm_store_activate(plm_store *st, const char *user, const char *kind, int64_t id, plm_error *err) {
    if (!user || !kind || id < -1) {
        return fail(err, PLM_EINVAL, "an adapter belongs to a user and a kind");
    }
    int64_t chosen = 0;
    plm_status fault = plm_store_begin(st, err);
    if (fault) {
        return fault;
    }
    if (id >= 0) {
        fault = resolve(st, user, kind, id, &chosen, err);
    }
    if (!fault) {
        fault = run_for(
            st, "UPDATE adapters SET state = 'kept' WHERE user = :user AND kind = :kind AND state = 'active'",
            user, kind, 0, err);
    }
    if (!fault && chosen) {
        fault = db_run_id(st, "UPDATE adapters SET state = 'active' WHERE id = :id", chosen, NULL, err);
    }
    return db_end(st, fault, err);
}

plm_status plm_store_retire(plm_store *st, int64_t id, plm_error *err) {
    size_t changed = 0;
    plm_status fault = writable(st, err);
    if (!fault) {
        fault = db_run_id(st, "UPDATE adapters SET state = 'retired' WHERE id = :id", id, &changed, err);
    }
    if (!fault && changed == 0) {
        fault = fail(err, PLM_ENOTFOUND, "there is no adapter %lld", (long long)id);
    }
    return fault;
}
