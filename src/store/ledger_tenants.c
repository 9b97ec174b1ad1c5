/* ledger_tenants.c: who may use the service, with which keys, and how much of it. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include "base/hash.h"
#include "store/ledger_db.h"

/* ---- keys: "plm_" 12 hex digits "_" 43 letters ---- */

enum { KEY_ID = 12, SECRET_BYTES = 32, SECRET_TEXT = 43 };

static void make_key(char key[TENANT_KEY_MAX], char id[KEY_ID + 1]) {
    unsigned char raw[KEY_ID / 2], secret[SECRET_BYTES];
    char text[SECRET_TEXT + 1];
    randombytes_buf(raw, sizeof raw);
    randombytes_buf(secret, sizeof secret);
    sodium_bin2hex(id, KEY_ID + 1, raw, sizeof raw);
    sodium_bin2base64(text, sizeof text, secret, sizeof secret, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    snprintf(key, TENANT_KEY_MAX, "plm_%s_%s", id, text);
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(text, sizeof text);
}

static bool key_id(const char *key, char id[KEY_ID + 1]) {
    size_t n = strnlen(key, TENANT_KEY_MAX);
    if (n != 4 + KEY_ID + 1 + SECRET_TEXT || strncmp(key, "plm_", 4) != 0 || key[4 + KEY_ID] != '_' ||
        strspn(key + 4, "0123456789abcdef") != KEY_ID) {
        return false;
    }
    memcpy(id, key + 4, KEY_ID);
    id[KEY_ID] = 0;
    return true;
}

// Inside a turn.
static plm_status give_key(struct ledger *l, const char *tenant, char key[TENANT_KEY_MAX], plm_error *err) {
    char id[KEY_ID + 1], hash[65];
    make_key(key, id);
    sha256_of(key, strlen(key), hash);
    return ASK(l, NULL, err, "INSERT INTO tenant_keys (id, tenant, hash, expires) VALUES ($1, $2, $3, 0)",
               TEXT(id), TEXT(tenant), TEXT(hash));
}

/* ---- tenants ---- */

static plm_status name_check(const char *name, plm_error *err) {
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.@");
    return n && n <= TENANT_NAME_MAX && !name[n]
               ? PLM_OK
               : fail(err, PLM_EINVAL, "a tenant's name is 1 to %d letters, digits and -_.@",
                      TENANT_NAME_MAX);
}

#define COLUMNS                                                                                            \
    "tenants.id, tenants.name, tenants.active, tenants.created, tenants.day_requests, tenants.day_tokens," \
    " tenants.month_spend, tenants.minute_requests, tenants.queued"
enum { N_COLUMNS = 9 };

static void read_tenant(struct tenant *t, const struct rows *r, size_t row) {
    *t = (struct tenant){.active = row_int(r, row, 2) != 0,
                         .created = row_int(r, row, 3) / 1000,
                         .limits = {.day_requests = row_int(r, row, 4),
                                    .day_tokens = row_int(r, row, 5),
                                    .month_spend = row_int(r, row, 6),
                                    .minute_requests = row_int(r, row, 7),
                                    .queued = row_int(r, row, 8)}};
    snprintf(t->id, sizeof t->id, "%s", row_text(r, row, 0));
    snprintf(t->name, sizeof t->name, "%s", row_text(r, row, 1));
}

plm_status tenant_add(struct ledger *l, const char *name, const struct tenant_limits *m,
                      char key[TENANT_KEY_MAX], plm_error *err) {
    char id[LEDGER_ID];
    struct rows r = {0};
    plm_status st = name_check(name, err);
    st = st ? st : turn_begin(l, err);
    if (st) {
        return st;
    }
    random_id(id);
    st = ASK(l, &r, err,
             "INSERT INTO tenants (id, name, active, created, day_requests, day_tokens, month_spend,"
             " minute_requests, queued, served) VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, 0)"
             " ON CONFLICT DO NOTHING",
             TEXT(id), TEXT(name), INT(l->now), INT(m->day_requests), INT(m->day_tokens), INT(m->month_spend),
             INT(m->minute_requests), INT(m->queued));
    if (!st && !r.changed) {
        st = fail(err, PLM_EINVAL, "there is a tenant %s already", name);
    }
    rows_free(&r);
    st = st ? st : give_key(l, id, key, err);
    return turn_end(l, st, err);
}

// Inside a turn: the tenant's id.
static plm_status find_id(struct ledger *l, const char *name, char id[LEDGER_ID], plm_error *err) {
    struct rows r = {0};
    plm_status st = ASK(l, &r, err, "SELECT id FROM tenants WHERE name = $1", TEXT(name));
    if (!st && !r.n) {
        st = fail(err, PLM_ENOTFOUND, "there is no tenant %s", name);
    }
    snprintf(id, LEDGER_ID, "%s", row_text(&r, 0, 0));
    rows_free(&r);
    return st;
}

plm_status tenant_limit(struct ledger *l, const char *name, const struct tenant_limits *m, plm_error *err) {
    char id[LEDGER_ID];
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = find_id(l, name, id, err);
    st = st ? st
            : ASK(l, NULL, err,
                  "UPDATE tenants SET day_requests = $2, day_tokens = $3, month_spend = $4, minute_requests "
                  "= $5,"
                  " queued = $6 WHERE id = $1",
                  TEXT(id), INT(m->day_requests), INT(m->day_tokens), INT(m->month_spend),
                  INT(m->minute_requests), INT(m->queued));
    return turn_end(l, st, err);
}

plm_status tenant_rotate(struct ledger *l, const char *name, int64_t overlap_s, char key[TENANT_KEY_MAX],
                         plm_error *err) {
    char id[LEDGER_ID];
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = find_id(l, name, id, err);
    int64_t until = l->now + (overlap_s > 0 ? overlap_s * 1000 : 0);
    st = st ? st
            : ASK(l, NULL, err,
                  "UPDATE tenant_keys SET expires = $2 WHERE tenant = $1 AND (expires = 0 OR expires > $2)",
                  TEXT(id), INT(until));
    st = st ? st : give_key(l, id, key, err);
    return turn_end(l, st, err);
}

plm_status tenant_suspend(struct ledger *l, const char *name, bool suspended, plm_error *err) {
    char id[LEDGER_ID];
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = find_id(l, name, id, err);
    st = st ? st
            : ASK(l, NULL, err, "UPDATE tenants SET active = $2 WHERE id = $1", TEXT(id), INT(!suspended));
    return turn_end(l, st, err);
}

plm_status tenant_delete(struct ledger *l, const char *name, plm_error *err) {
    char id[LEDGER_ID];
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = find_id(l, name, id, err);
    st = st ? st : ASK(l, NULL, err, "DELETE FROM tenants WHERE id = $1", TEXT(id));
    return turn_end(l, st, err);
}

plm_status tenant_by_key(struct ledger *l, const char *key, struct tenant *out, plm_error *err) {
    char id[KEY_ID + 1] = "", hash[65];
    struct rows r = {0};
    bool shaped = key_id(key, id);
    sha256_of(key, strnlen(key, TENANT_KEY_MAX), hash);
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = ASK(l, &r, err,
             "SELECT " COLUMNS
             ", tenant_keys.hash FROM tenant_keys JOIN tenants ON tenants.id = tenant_keys.tenant"
             " WHERE tenant_keys.id = $1 AND (tenant_keys.expires = 0 OR tenant_keys.expires > $2)",
             TEXT(id), INT(l->now));
    st = turn_end(l, st, err);
    const char *kept = row_text(&r, 0, N_COLUMNS);
    bool same = shaped && strlen(kept) == 64 && sodium_memcmp(kept, hash, 64) == 0;
    if (!st && !same) {
        st = fail(err, PLM_ENOTFOUND, "nobody's key");
    }
    if (!st) {
        read_tenant(out, &r, 0);
    }
    rows_free(&r);
    return st;
}

// Inside a turn.
static plm_status figures(struct ledger *l, struct tenant *t, plm_error *err) {
    struct rows r = {0};
    plm_status st = ASK(l, &r, err,
                        "SELECT CAST(SUM(CASE WHEN day = $2 THEN requests ELSE 0 END) AS BIGINT),"
                        " CAST(SUM(CASE WHEN day = $2 THEN tokens_in + tokens_out ELSE 0 END) AS BIGINT),"
                        " CAST(SUM(spend) AS BIGINT) FROM usage_days WHERE tenant = $1 AND day >= $3",
                        TEXT(t->id), INT(day_of(l->now)), INT(month_start(l->now)));
    t->requests_today = row_int(&r, 0, 0);
    t->tokens_today = row_int(&r, 0, 1);
    t->spend_month = row_int(&r, 0, 2);
    rows_free(&r);
    st = st ? st : ASK(l, &r, err, "SELECT COUNT(*) FROM jobs WHERE tenant = $1 AND state <= 1", TEXT(t->id));
    t->jobs = row_int(&r, 0, 0);
    rows_free(&r);
    return st;
}

plm_status tenant_list(struct ledger *l, int (*each)(void *ctx, const struct tenant *t), void *ctx,
                       plm_error *err) {
    struct rows r = {0};
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = ask(l, &r, err, "SELECT " COLUMNS " FROM tenants ORDER BY name", 0, NULL);
    for (size_t i = 0; !st && i < r.n; i++) {
        struct tenant t;
        read_tenant(&t, &r, i);
        st = figures(l, &t, err);
        if (!st && each(ctx, &t)) {
            break;
        }
    }
    rows_free(&r);
    return turn_end(l, st, err);
}

/* ---- what they have had ---- */

plm_status usage_add(struct ledger *l, const char *tenant, int64_t requests, int64_t calls, int64_t tokens_in,
                     int64_t tokens_out, int64_t spend, plm_error *err) {
    return ASK(
        l, NULL, err,
        "INSERT INTO usage_days (tenant, day, requests, calls, tokens_in, tokens_out, spend)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, day) DO UPDATE SET"
        " requests = usage_days.requests + excluded.requests, calls = usage_days.calls + excluded.calls,"
        " tokens_in = usage_days.tokens_in + excluded.tokens_in,"
        " tokens_out = usage_days.tokens_out + excluded.tokens_out, spend = usage_days.spend + "
        "excluded.spend",
        TEXT(tenant), INT(day_of(l->now)), INT(requests), INT(calls), INT(tokens_in), INT(tokens_out),
        INT(spend));
}

plm_status quota_check(struct ledger *l, const char *tenant, const struct tenant_limits *m, int64_t *wait_s,
                       plm_error *err) {
    struct tenant t = {0};
    int64_t tomorrow = (day_of(l->now) + 1) * 86400 - l->now / 1000;
    snprintf(t.id, sizeof t.id, "%s", tenant);
    plm_status st = figures(l, &t, err);
    if (st) {
        return st;
    }
    *wait_s = tomorrow;
    if (m->day_requests > 0 && t.requests_today >= m->day_requests) {
        return fail(err, PLM_ELIMIT, "the quota of %lld requests a day is used up",
                    (long long)m->day_requests);
    }
    if (m->day_tokens > 0 && t.tokens_today >= m->day_tokens) {
        return fail(err, PLM_ELIMIT, "the quota of %lld tokens a day is used up", (long long)m->day_tokens);
    }
    if (m->month_spend > 0 && t.spend_month >= m->month_spend) {
        return fail(err, PLM_ELIMIT, "the quota of spend for this month is used up");
    }
    if (m->queued > 0 && t.jobs >= m->queued) {
        *wait_s = 10;
        return fail(err, PLM_ELIMIT, "%lld jobs are waiting already", (long long)t.jobs);
    }
    *wait_s = 0;
    return PLM_OK;
}
