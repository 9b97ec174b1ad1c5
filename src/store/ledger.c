/* ledger.c: opening the ledger, turns and transactions, and the upkeep. The SQL of jobs is in ledger_jobs.c,
 * that of tenants in ledger_tenants.c; both databases read the same. Time is the database's where several
 * machines share it. */
#include "store/ledger_db.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "store/db.h"

extern const char ledger_sql[]; /* made from ledger.sql by the build */

enum { VERSION = 2, HOUR_MS = 3600000 };

// What makes a ledger of version i + 1 one of the next; workers that know the old one go on beside it. Tables
// in the order in which workers lock them: jobs, then replies.
static const char *const upgrades[VERSION - 1] = {
    "ALTER TABLE jobs ADD COLUMN est_calls BIGINT NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN est_in BIGINT NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN est_out BIGINT NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN est_spend BIGINT NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN max_spend BIGINT NOT NULL DEFAULT 0;"
    "ALTER TABLE replies ADD COLUMN shared TEXT NOT NULL DEFAULT '';"
    "CREATE INDEX replies_shared ON replies (shared);"
    "UPDATE ledger_version SET version = 2;",
};

/* ---- rows ---- */

int64_t row_int(const struct rows *r, size_t row, size_t column) {
    const struct cell *c = row < r->n ? &r->cells[row * r->columns + column] : NULL;
    return c && c->type == CELL_INT ? c->i : 0;
}

const char *row_text(const struct rows *r, size_t row, size_t column) {
    const struct cell *c = row < r->n ? &r->cells[row * r->columns + column] : NULL;
    return c && c->p ? c->p : "";
}

void rows_free(struct rows *r) {
    for (size_t i = 0; r->cells && i < r->room; i++) {
        if (r->cells[i].p) {
            sodium_memzero((void *)(uintptr_t)r->cells[i].p, r->cells[i].n);
            mem_free((void *)(uintptr_t)r->cells[i].p);
        }
    }
    mem_free(r->cells);
    *r = (struct rows){0};
}

plm_status rows_room(struct rows *r, size_t n, plm_error *err) {
    struct cell *more = n ? mem_grow(r->cells, n, sizeof *more) : NULL;
    if (n && !more) {
        return fail(err, PLM_ENOMEM, "no memory for rows");
    }
    if (more) {
        memset(more + r->room, 0, (n - r->room) * sizeof *more);
        r->cells = more;
        r->room = n;
    }
    return PLM_OK;
}

plm_status cell_copy(struct cell *c, enum cell_type type, const void *data, size_t n, plm_error *err) {
    char *copy = mem_alloc(n + 1, 1);
    if (!copy) {
        return fail(err, PLM_ENOMEM, "no memory for a row");
    }
    if (n) {
        memcpy(copy, data, n);
    }
    copy[n] = 0;
    *c = (struct cell){type, 0, copy, n};
    return PLM_OK;
}

/* ---- turns ---- */

plm_status ask(struct ledger *l, struct rows *out, plm_error *err, const char *sql, size_t n,
               const struct cell *args) {
    return l->driver->run(l->db, sql, args, n, out, err);
}

static plm_status read_clock(struct ledger *l, plm_error *err) {
    struct rows r = {0};
    if (!l->driver->now) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        l->now = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
        return PLM_OK;
    }
    plm_status st = ask(l, &r, err, l->driver->now, 0, NULL);
    l->now = row_int(&r, 0, 0);
    rows_free(&r);
    return st;
}

plm_status turn_begin(struct ledger *l, plm_error *err) {
    pthread_mutex_lock(&l->turn);
    plm_status st = l->driver->script(l->db, l->driver->begin, err);
    if (st == PLM_EBUSY && l->driver->shared) {
        // The connection was found dead and made anew; nothing was lost with it yet.
        struct rows r = {0};
        st = ask(l, &r, NULL, "SELECT CAST(1 AS BIGINT)", 0, NULL);
        rows_free(&r);
        st = l->driver->script(l->db, l->driver->begin, err);
    }
    st = st ? st : read_clock(l, err);
    if (st) {
        l->driver->script(l->db, "ROLLBACK", NULL);
        pthread_mutex_unlock(&l->turn);
    }
    return st;
}

plm_status turn_end(struct ledger *l, plm_status st, plm_error *err) {
    if (!st) {
        st = l->driver->script(l->db, "COMMIT", err);
    }
    if (st) {
        l->driver->script(l->db, "ROLLBACK", NULL);
    }
    pthread_mutex_unlock(&l->turn);
    return st;
}

int64_t day_of(int64_t ms) {
    return ms / 86400000;
}

int64_t month_start(int64_t ms) {
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&t, &tm);
    return day_of(ms) - (tm.tm_mday - 1);
}

void random_id(char id[LEDGER_ID]) {
    unsigned char raw[(LEDGER_ID - 1) / 2];
    randombytes_buf(raw, sizeof raw);
    sodium_bin2hex(id, LEDGER_ID, raw, sizeof raw);
}

/* ---- opening ---- */

// The tables are made by whoever comes first; PostgreSQL's lock keeps two from trying at once.
static plm_status prepare(struct ledger *l, plm_error *err) {
    struct rows r = {0};
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    if (l->driver->shared) {
        st = l->driver->script(l->db, "SELECT pg_advisory_xact_lock(7090289)", err);
    }
    st = st ? st : ask(l, &r, err, l->driver->has_tables, 0, NULL);
    if (!st && r.n == 0) {
        st = l->driver->script(l->db, ledger_sql, err);
    } else if (!st) {
        rows_free(&r);
        st = ask(l, &r, err, "SELECT version FROM ledger_version", 0, NULL);
        int64_t version = row_int(&r, 0, 0);
        if (!st && (version < 1 || version > VERSION)) {
            st = fail(err, PLM_ENOTSUP,
                      "the ledger was made by another plm-cloud (version %lld; this one knows %d)",
                      (long long)version, VERSION);
        }
        for (; !st && version < VERSION; version++) {
            st = l->driver->script(l->db, upgrades[version - 1], err);
        }
    }
    rows_free(&r);
    return turn_end(l, st, err);
}

static plm_status connect_db(struct ledger *l, const char *db, plm_error *err) {
    struct str s = str_of(db);
    if (str_starts(s, "sqlite:") && db[7]) {
        l->driver = &ledger_sqlite;
        l->path = mem_dupz(db + 7);
        return l->path ? l->driver->open(&l->db, l->path, err)
                       : fail(err, PLM_ENOMEM, "no memory for a ledger");
    }
    if (str_starts(s, "postgres://") || str_starts(s, "postgresql://")) {
        l->driver = &ledger_postgres;
        return l->driver->open(&l->db, db, err);
    }
    return fail(err, PLM_EINVAL, "the database is sqlite:FILE or postgres://...");
}

plm_status ledger_open(struct ledger **out, const struct ledger_options *opt, plm_error *err) {
    struct ledger *l = mem_zero(1, sizeof *l);
    if (!l) {
        return fail(err, PLM_ENOMEM, "no memory for a ledger");
    }
    int64_t key_ms = opt->key_s > 0 ? (int64_t)opt->key_s * 1000 : HOUR_MS;
    l->lock = -1;
    l->retain_ms = (int64_t)(opt->retain_s > 0 ? opt->retain_s : 20 * 3600) * 1000;
    l->lease_ms = (int64_t)(opt->lease_s > 0 ? opt->lease_s : 60) * 1000;
    l->attempts = opt->attempts > 0 ? opt->attempts : 5;
    pthread_mutex_init(&l->turn, NULL);
    plm_status st = l->retain_ms + key_ms > 24 * (int64_t)HOUR_MS
                        ? fail(err, PLM_EINVAL, "results are kept for 23 hours at most")
                        : connect_db(l, opt->db, err);
    st = st ? st : prepare(l, err);
    for (int i = 0; st == PLM_EBUSY && l->driver->shared && i < 3; i++) { // behind another's upgrade
        st = prepare(l, err);
    }
    st = st ? st : vault_open(&l->vault, opt->keys, key_ms, l->retain_ms, err);
    if (st) {
        ledger_close(l);
        return st;
    }
    *out = l;
    return PLM_OK;
}

void ledger_close(struct ledger *l) {
    if (l) {
        if (l->db) {
            l->driver->close(l->db);
        }
        lock_release(l->lock);
        vault_close(l->vault);
        pthread_mutex_destroy(&l->turn);
        mem_free(l->path);
        mem_free(l);
    }
}

bool ledger_is_shared(const struct ledger *l) {
    return l->driver->shared;
}

static const char give_back[] =
    "UPDATE tenants SET served = served - (SELECT CAST(SUM(reserved) AS BIGINT) FROM jobs WHERE tenant = "
    "tenants.id"
    " AND state = 1 AND lease < $1) WHERE EXISTS"
    " (SELECT 1 FROM jobs WHERE tenant = tenants.id AND state = 1 AND lease < $1)";

// Jobs whose lease was over at the given time: back into the queue, or given up after too many starts.
static plm_status reap(struct ledger *l, int64_t when, struct sweep *out, plm_error *err) {
    struct rows r = {0};
    char sql[100];
    // Held from here on, so that no beat and no other sweep comes between.
    snprintf(sql, sizeof sql, "SELECT id FROM jobs WHERE state = 1 AND lease < $1%s", l->driver->lock);
    plm_status st = ASK(l, NULL, err, sql, INT(when));
    st = st ? st : ASK(l, NULL, err, give_back, INT(when));
    st = st ? st
            : ASK(l, &r, err,
                  "UPDATE jobs SET state = 3, lease = 0, reserved = 0, may_retry = 0, request = $3, error ="
                  " 'its worker died again and again' WHERE state = 1 AND lease < $1 AND attempts >= $2",
                  INT(when), INT(l->attempts), BYTES("", 0));
    out->given_up = r.changed;
    rows_free(&r);
    st = st ? st
            : ASK(l, &r, err,
                  "UPDATE jobs SET state = 0, lease = 0, reserved = 0, not_before = $2 WHERE state = 1 AND "
                  "lease < $1",
                  INT(when), INT(l->now));
    out->requeued = r.changed;
    rows_free(&r);
    return st;
}

plm_status ledger_own(struct ledger *l, plm_error *err) {
    struct sweep s;
    if (l->driver->shared || l->lock >= 0) {
        return PLM_OK;
    }
    plm_status st = lock_take(&l->lock, l->path, err);
    st = st ? st : turn_begin(l, err);
    if (!st) {
        st = turn_end(l, reap(l, INT64_MAX, &s, err), err);
    }
    return st;
}

static plm_status sweep_keys(struct ledger *l, struct sweep *out, plm_error *err) {
    struct rows r = {0};
    plm_status st = ask(l, &r, err, "SELECT DISTINCT key_time FROM jobs", 0, NULL);
    int64_t *needed = mem_alloc(r.n + 1, sizeof *needed);
    if (!st && !needed) {
        st = fail(err, PLM_ENOMEM, "no memory for keys");
    }
    for (size_t i = 0; !st && i < r.n; i++) {
        needed[i] = row_int(&r, i, 0);
    }
    st = st ? st : vault_sweep(l->vault, l->now, needed, r.n, &out->keys_destroyed, err);
    mem_free(needed);
    rows_free(&r);
    return st;
}

plm_status ledger_sweep(struct ledger *l, struct sweep *out, plm_error *err) {
    struct rows r = {0};
    *out = (struct sweep){0};
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = reap(l, l->now, out, err);
    st = st ? st : ASK(l, &r, err, "DELETE FROM jobs WHERE expires < $1", INT(l->now));
    out->expired = r.changed;
    rows_free(&r);
    st = st ? st
            : ASK(l, NULL, err, "DELETE FROM tenant_keys WHERE expires > 0 AND expires < $1", INT(l->now));
    st = st ? st : ASK(l, NULL, err, "DELETE FROM usage_days WHERE day < $1", INT(month_start(l->now) - 31));
    st = st ? st : sweep_keys(l, out, err);
    return turn_end(l, st, err);
}

plm_status ledger_stats(struct ledger *l, struct ledger_stats *out, plm_error *err) {
    struct rows r = {0};
    int64_t *counts[] = {&out->queued, &out->running, &out->done, &out->failed, &out->cancelled};
    *out = (struct ledger_stats){0};
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = ask(l, &r, err, "SELECT state, COUNT(*) FROM jobs GROUP BY state", 0, NULL);
    for (size_t i = 0; i < r.n; i++) {
        int64_t state = row_int(&r, i, 0);
        if (state >= 0 && state <= JOB_CANCELLED) {
            *counts[state] = row_int(&r, i, 1);
        }
    }
    rows_free(&r);
    st = st ? st : ask(l, &r, err, "SELECT MIN(created) FROM jobs WHERE state = 0", 0, NULL);
    out->oldest_queued_s = row_int(&r, 0, 0) ? (l->now - row_int(&r, 0, 0)) / 1000 : 0;
    rows_free(&r);
    st = st ? st : ask(l, &r, err, "SELECT COUNT(*) FROM tenants", 0, NULL);
    out->tenants = row_int(&r, 0, 0);
    rows_free(&r);
    st = st ? st
            : ASK(l, &r, err,
                  "SELECT CAST(SUM(requests) AS BIGINT), CAST(SUM(calls) AS BIGINT), CAST(SUM(tokens_in) AS "
                  "BIGINT),"
                  " CAST(SUM(tokens_out) AS BIGINT) FROM usage_days WHERE day = $1",
                  INT(day_of(l->now)));
    out->requests_today = row_int(&r, 0, 0);
    out->calls_today = row_int(&r, 0, 1);
    out->tokens_in_today = row_int(&r, 0, 2);
    out->tokens_out_today = row_int(&r, 0, 3);
    rows_free(&r);
    return turn_end(l, st, err);
}
