/* ledger_jobs.c: jobs; the replies to their calls are in ledger_replies.c. Each function is one transaction;
 * what a worker writes is written where its fence still holds and nowhere else. The queue gives the next job
 * of the tenant that has had the fewest tokens; what a job is expected to take counts as had from the moment
 * it starts. */
#include <stdio.h>
#include <string.h>
#include "base/hash.h"
#include "store/ledger_db.h"

enum { BODY_MAX = 34 << 20 };

const char *job_state_name(enum job_state state) {
    static const char *const names[] = {"queued", "running", "done", "failed", "cancelled"};
    return names[state];
}

/* ---- reading ---- */

#define COLUMNS                                                                                            \
    "jobs.id, jobs.state, jobs.created, jobs.expires, jobs.calls_done, jobs.calls_total, jobs.examples,"   \
    " jobs.tokens_in, jobs.tokens_out, jobs.spend, jobs.may_retry, jobs.error, jobs.teacher, jobs.digest," \
    " jobs.key_time, jobs.est_calls, jobs.est_in, jobs.est_out, jobs.est_spend, jobs.max_spend"
enum { DIGEST = 13, KEY_TIME = 14, ESTIMATE = 15, MAX_SPEND = 19 };

static void read_job(struct job *j, const struct rows *r) {
    *j = (struct job){.state = (enum job_state)row_int(r, 0, 1),
                      .created = row_int(r, 0, 2) / 1000,
                      .expires = row_int(r, 0, 3) / 1000,
                      .calls_done = row_int(r, 0, 4),
                      .calls_total = row_int(r, 0, 5),
                      .examples = row_int(r, 0, 6),
                      .tokens_in = row_int(r, 0, 7),
                      .tokens_out = row_int(r, 0, 8),
                      .spend = row_int(r, 0, 9),
                      .may_retry = row_int(r, 0, 10) != 0,
                      .estimate = {row_int(r, 0, ESTIMATE), row_int(r, 0, ESTIMATE + 1),
                                   row_int(r, 0, ESTIMATE + 2), row_int(r, 0, ESTIMATE + 3)},
                      .max_spend = row_int(r, 0, MAX_SPEND)};
    snprintf(j->id, sizeof j->id, "%s", row_text(r, 0, 0));
    snprintf(j->error, sizeof j->error, "%s", row_text(r, 0, 11));
    snprintf(j->teacher, sizeof j->teacher, "%s", row_text(r, 0, 12));
}

static plm_status no_job(plm_error *err) {
    return fail(err, PLM_ENOTFOUND, "there is no such job");
}

static plm_status not_ours(plm_error *err) {
    return fail(err, PLM_ESTOPPED, "the job is not this worker's any more");
}

void seal_name(char out[160], const char *job, const char *what) {
    snprintf(out, 160, "%s/%s", job, what);
}

// Inside a turn. ENOTFOUND: no job of this tenant by that id, or one that is over its time.
static plm_status find_job(struct ledger *l, const char *tenant, const char *id, struct rows *r,
                           plm_error *err) {
    plm_status st =
        ASK(l, r, err, "SELECT " COLUMNS " FROM jobs WHERE id = $1 AND tenant = $2 AND expires > $3",
            TEXT(id), TEXT(tenant), INT(l->now));
    return st ? st : r->n ? PLM_OK : no_job(err);
}

plm_status job_look(struct ledger *l, const char *tenant, const char *id, struct job *out, plm_error *err) {
    struct rows r = {0};
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = find_job(l, tenant, id, &r, err);
    if (!st) {
        read_job(out, &r);
    }
    rows_free(&r);
    return turn_end(l, st, err);
}

plm_status job_result(struct ledger *l, const char *tenant, const char *id, char **candidates,
                      plm_error *err) {
    struct rows r = {0};
    char what[160];
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = ASK(l, &r, err,
             "SELECT state, key_time, result FROM jobs WHERE id = $1 AND tenant = $2 AND expires > $3",
             TEXT(id), TEXT(tenant), INT(l->now));
    if (!st && !r.n) {
        st = no_job(err);
    } else if (!st && row_int(&r, 0, 0) != JOB_DONE) {
        st = fail(err, PLM_EINVAL, "the job is not done: it is %s",
                  job_state_name((enum job_state)row_int(&r, 0, 0)));
    }
    seal_name(what, id, "result");
    st = st ? st
            : vault_open_seal(l->vault, row_int(&r, 0, 1), what, r.cells[2].p, r.cells[2].n, candidates, err);
    rows_free(&r);
    return turn_end(l, st, err);
}

plm_status job_audit(struct ledger *l, const char *tenant, const char *id,
                     int (*each)(void *ctx, int64_t number, const char *finish, int64_t tokens_in,
                                 int64_t tokens_out),
                     void *ctx, plm_error *err) {
    struct rows r = {0};
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = find_job(l, tenant, id, &r, err);
    rows_free(&r);
    st = st ? st
            : ASK(l, &r, err,
                  "SELECT number, finish, tokens_in, tokens_out FROM replies WHERE job = $1 ORDER BY number",
                  TEXT(id));
    for (size_t i = 0; !st && i < r.n; i++) {
        if (each(ctx, row_int(&r, i, 0), row_text(&r, i, 1), row_int(&r, i, 2), row_int(&r, i, 3))) {
            break;
        }
    }
    rows_free(&r);
    return turn_end(l, st, err);
}

/* ---- coming and going ---- */

static bool good_submit_key(const char *key) {
    size_t n = strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
    return n && n <= SUBMIT_KEY_MAX && !key[n];
}

// Inside a turn: the job that this tenant made with this key, if there is one.
static plm_status find_same(struct ledger *l, const struct tenant *t, const char *hash, const char *request,
                            size_t len, int64_t max_spend, struct job *out, bool *found, plm_error *err) {
    struct rows r = {0};
    struct str lock = str_of(l->driver->lock);
    char digest[65], sql[600];
    snprintf(sql, sizeof sql, "SELECT " COLUMNS " FROM jobs WHERE tenant = $1 AND submit_key = $2%.*s",
             (int)lock.n, lock.p);
    plm_status st = ASK(l, &r, err, sql, TEXT(t->id), TEXT(hash));
    *found = !st && r.n;
    if (!*found) {
        rows_free(&r);
        return st;
    }
    read_job(out, &r);
    st = vault_digest(l->vault, row_int(&r, 0, KEY_TIME), "request", request, len, digest, err);
    bool over = st == PLM_ENOTFOUND || row_int(&r, 0, 3) <= l->now;
    if (over) { // past its time, and not swept yet
        *found = false;
        st = ASK(l, NULL, err, "DELETE FROM jobs WHERE id = $1", TEXT(out->id));
    } else if (!st && strcmp(digest, row_text(&r, 0, DIGEST)) != 0) {
        st = fail(err, PLM_EFORMAT, "this Idempotency-Key was used for another request");
    } else if (!st && out->state == JOB_QUEUED) {
        st = ASK(l, NULL, err, "UPDATE jobs SET max_spend = $2 WHERE id = $1", TEXT(out->id), INT(max_spend));
        out->max_spend = max_spend;
    } else if (!st && out->state == JOB_FAILED && out->may_retry) {
        st = ASK(l, NULL, err,
                 "UPDATE jobs SET state = 0, attempts = 0, not_before = $2, error = '', may_retry = 0,"
                 " max_spend = $3 WHERE id = $1",
                 TEXT(out->id), INT(l->now), INT(max_spend));
        out->max_spend = max_spend;
        out->state = JOB_QUEUED;
        out->error[0] = 0;
        out->may_retry = false;
    }
    rows_free(&r);
    return st;
}

// Inside a turn. Who comes back after a pause has no claim to what was served meanwhile.
static plm_status no_credit(struct ledger *l, const char *tenant, plm_error *err) {
    return ASK(
        l, NULL, err,
        "UPDATE tenants SET served = (SELECT CASE WHEN MIN(t.served) > tenants.served THEN MIN(t.served)"
        " ELSE tenants.served END FROM tenants t WHERE EXISTS"
        " (SELECT 1 FROM jobs WHERE jobs.tenant = t.id AND jobs.state <= 1))"
        " WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.tenant = $1 AND jobs.state <= 1)"
        " AND EXISTS (SELECT 1 FROM jobs WHERE jobs.state <= 1)",
        TEXT(tenant));
}

static plm_status insert_job(struct ledger *l, const struct tenant *t, const char *hash, const char *request,
                             size_t len, const struct job_cost *e, int64_t max_spend, struct job *out,
                             plm_error *err) {
    struct bytes sealed = {0};
    char digest[65], what[160];
    int64_t key_time;
    *out = (struct job){.state = JOB_QUEUED,
                        .created = l->now / 1000,
                        .expires = (l->now + l->retain_ms) / 1000,
                        .estimate = *e,
                        .max_spend = max_spend};
    random_id(out->id);
    seal_name(what, out->id, "request");
    plm_status st = vault_now(l->vault, l->now, &key_time, err);
    st = st ? st : vault_digest(l->vault, key_time, "request", request, len, digest, err);
    st = st ? st : vault_seal(l->vault, key_time, what, request, len, &sealed, err);
    if (st) {
        return st;
    }
    st = ASK(
        l, NULL, err,
        "INSERT INTO jobs (id, tenant, submit_key, digest, key_time, state, created, expires, not_before,"
        " lease, worker, fence, attempts, weight, reserved, calls_done, calls_total, examples, tokens_in,"
        " tokens_out, spend, may_retry, error, teacher, request, result, est_calls, est_in, est_out,"
        " est_spend, max_spend) VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $6, 0, '', 0, 0, $8, 0, 0, 0, 0, 0,"
        " 0, 0, 0, '', '', $9, $10, $11, $12, $13, $14, $15)",
        TEXT(out->id), TEXT(t->id), TEXT(hash), TEXT(digest), INT(key_time), INT(l->now),
        INT(l->now + l->retain_ms), INT(e->tokens_in + e->tokens_out), BYTES(sealed.data, sealed.len),
        BYTES("", 0), INT(e->calls), INT(e->tokens_in), INT(e->tokens_out), INT(e->spend), INT(max_spend));
    bytes_free(&sealed);
    return st;
}

static plm_status submit_once(struct ledger *l, const struct tenant *t, const char *hash, const char *request,
                              size_t len, const struct job_cost *e, int64_t max_spend, struct job *out,
                              bool *fresh, int64_t *wait_s, plm_error *err) {
    char sql[80];
    bool found = false;
    *fresh = false;
    *wait_s = 0;
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = find_same(l, t, hash, request, len, max_spend, out, &found, err);
    if (!st && !found) {
        // One submission of a tenant at a time, so that its limits hold.
        snprintf(sql, sizeof sql, "SELECT id FROM tenants WHERE id = $1%s", l->driver->lock);
        st = ASK(l, NULL, err, sql, TEXT(t->id));
        st = st ? st : quota_check(l, t->id, &t->limits, wait_s, err);
        st = st ? st : no_credit(l, t->id, err);
        st = st ? st : insert_job(l, t, hash, request, len, e, max_spend, out, err);
        st = st ? st : usage_add(l, t->id, 1, 0, 0, 0, 0, err);
        *fresh = !st;
    }
    return turn_end(l, st, err);
}

plm_status job_submit(struct ledger *l, const struct tenant *t, const char *submit_key, const char *request,
                      size_t len, const struct job_cost *estimate, int64_t max_spend, struct job *out,
                      bool *fresh, int64_t *wait_s, plm_error *err) {
    char hash[65];
    if (!good_submit_key(submit_key)) {
        return fail(err, PLM_EINVAL, "an Idempotency-Key is 1 to %d letters, digits, - and _",
                    SUBMIT_KEY_MAX);
    }
    sha256_of(submit_key, strlen(submit_key), hash);
    plm_status st = submit_once(l, t, hash, request, len, estimate, max_spend, out, fresh, wait_s, err);
    // Two servers may be given the same submission at once: whoever comes second finds the other's job.
    for (int i = 0; st == PLM_EBUSY && l->driver->shared && i < 3; i++) {
        st = submit_once(l, t, hash, request, len, estimate, max_spend, out, fresh, wait_s, err);
    }
    return st;
}

// Inside a turn: what was reserved for a job and not used was not had.
static plm_status unreserve(struct ledger *l, const char *id, plm_error *err) {
    plm_status st = ASK(l, NULL, err,
                        "UPDATE tenants SET served = served - (SELECT reserved FROM jobs WHERE id = $1)"
                        " WHERE id = (SELECT tenant FROM jobs WHERE id = $1)",
                        TEXT(id));
    return st ? st : ASK(l, NULL, err, "UPDATE jobs SET reserved = 0 WHERE id = $1", TEXT(id));
}

plm_status job_cancel(struct ledger *l, const char *tenant, const char *id, struct job *out, plm_error *err) {
    struct rows r = {0};
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = find_job(l, tenant, id, &r, err);
    if (!st) {
        read_job(out, &r);
    }
    if (!st && out->state <= JOB_RUNNING) {
        st = unreserve(l, id, err);
        st = st ? st
                : ASK(l, NULL, err, "UPDATE jobs SET state = 4, lease = 0, request = $2 WHERE id = $1",
                      TEXT(id), BYTES("", 0));
        st = st ? st : ASK(l, NULL, err, "DELETE FROM replies WHERE job = $1", TEXT(id));
        out->state = JOB_CANCELLED;
    }
    rows_free(&r);
    return turn_end(l, st, err);
}

plm_status job_drop(struct ledger *l, const char *tenant, const char *id, plm_error *err) {
    struct rows r = {0};
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = find_job(l, tenant, id, &r, err);
    st = st ? st : unreserve(l, id, err);
    st = st ? st : ASK(l, NULL, err, "DELETE FROM jobs WHERE id = $1", TEXT(id));
    rows_free(&r);
    return turn_end(l, st, err);
}

/* ---- work ---- */

void work_free(struct work *w) {
    if (w->request) {
        explicit_bzero(w->request, strlen(w->request));
    }
    mem_free(w->request);
    w->request = NULL;
}

// Inside a turn: takes a job that the queue gave.
static plm_status take_job(struct ledger *l, const char *worker, struct work *out, int64_t left,
                           plm_error *err) {
    struct rows r = {0};
    int64_t reserve = left > 0 ? left : 0;
    plm_status st = ASK(l, &r, err,
                        "UPDATE jobs SET state = 1, lease = $2, worker = $3, fence = fence + 1,"
                        " attempts = attempts + 1, reserved = $4 WHERE id = $1 RETURNING fence",
                        TEXT(out->id), INT(l->now + l->lease_ms), TEXT(worker), INT(reserve));
    out->fence = row_int(&r, 0, 0);
    rows_free(&r);
    return st ? st
              : ASK(l, NULL, err, "UPDATE tenants SET served = served + $2 WHERE id = $1", TEXT(out->tenant),
                    INT(reserve));
}

// Inside a turn: how much of the job's cap and of its tenant's quota is left.
static plm_status read_purse(struct ledger *l, struct work *w, int64_t job_left, int64_t month,
                             plm_error *err) {
    struct rows r = {0};
    plm_status st = PLM_OK;
    w->may_spend = job_left;
    if (month > 0) {
        st = ASK(l, &r, err,
                 "SELECT CAST(SUM(spend) AS BIGINT) FROM usage_days WHERE tenant = $1 AND day >= $2",
                 TEXT(w->tenant), INT(month_start(l->now)));
        int64_t left = month > row_int(&r, 0, 0) ? month - row_int(&r, 0, 0) : 0;
        w->may_spend = job_left < 0 || left < job_left ? left : job_left;
        rows_free(&r);
    }
    return st;
}

plm_status job_claim(struct ledger *l, const char *worker, struct work *out, bool *found, plm_error *err) {
    struct rows r = {0};
    char sql[900], what[160];
    *out = (struct work){.request = NULL};
    *found = false;
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    snprintf(sql, sizeof sql,
             "SELECT jobs.id, jobs.tenant, jobs.key_time, jobs.request,"
             " jobs.weight - jobs.tokens_in - jobs.tokens_out, CASE WHEN jobs.max_spend = 0 THEN -1"
             " WHEN jobs.max_spend > jobs.spend THEN jobs.max_spend - jobs.spend ELSE 0 END,"
             " tenants.month_spend FROM jobs JOIN tenants ON tenants.id = jobs.tenant"
             " WHERE jobs.state = 0 AND jobs.not_before <= $1 AND jobs.expires > $1 AND tenants.active = 1"
             " ORDER BY tenants.served, jobs.created, jobs.id LIMIT 1%s",
             l->driver->skip);
    st = ASK(l, &r, err, sql, INT(l->now));
    if (!st && r.n) {
        snprintf(out->id, sizeof out->id, "%s", row_text(&r, 0, 0));
        snprintf(out->tenant, sizeof out->tenant, "%s", row_text(&r, 0, 1));
        out->key_time = row_int(&r, 0, 2);
        seal_name(what, out->id, "request");
        st = vault_open_seal(l->vault, out->key_time, what, r.cells[3].p, r.cells[3].n, &out->request, err);
        if (st == PLM_ENOTFOUND || st == PLM_EFORMAT) {
            // Its key is gone: nobody can do it any more, and it must not stand in the way of others.
            st = ASK(l, NULL, err,
                     "UPDATE jobs SET state = 3, may_retry = 0, error = 'its request can''t be read'"
                     " WHERE id = $1",
                     TEXT(out->id));
        } else if (!st) {
            st = take_job(l, worker, out, row_int(&r, 0, 4), err);
            st = st ? st : read_purse(l, out, row_int(&r, 0, 5), row_int(&r, 0, 6), err);
            *found = !st;
        }
    }
    rows_free(&r);
    st = turn_end(l, st, err);
    if (st) {
        work_free(out);
        *found = false;
    }
    return st;
}

plm_status fenced(struct ledger *l, plm_error *err, const char *sql, size_t n, const struct cell *args) {
    struct rows r = {0};
    plm_status st = ask(l, &r, err, sql, n, args);
    int64_t changed = r.changed;
    rows_free(&r);
    return st ? st : changed ? PLM_OK : not_ours(err);
}

plm_status job_beat(struct ledger *l, const struct work *w, int64_t done, int64_t total, int64_t examples,
                    plm_error *err) {
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = UPDATE_FENCED(l, err, "lease = $3, calls_done = $4, calls_total = $5, examples = $6", TEXT(w->id),
                       INT(w->fence), INT(l->now + l->lease_ms), INT(done), INT(total), INT(examples));
    return turn_end(l, st, err);
}

plm_status job_may_call(struct ledger *l, const struct work *w, plm_error *err) {
    struct rows r = {0};
    struct tenant_limits m = {0};
    int64_t wait_s;
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = ASK(l, &r, err,
             "SELECT tenants.day_tokens, tenants.month_spend, jobs.max_spend, jobs.spend FROM jobs JOIN "
             "tenants ON tenants.id = jobs.tenant"
             " WHERE jobs.id = $1 AND jobs.fence = $2 AND jobs.state = 1",
             TEXT(w->id), INT(w->fence));
    if (!st && !r.n) {
        st = not_ours(err);
    }
    m.day_tokens = row_int(&r, 0, 0);
    m.month_spend = row_int(&r, 0, 1);
    if (!st && row_int(&r, 0, 2) > 0 && row_int(&r, 0, 3) >= row_int(&r, 0, 2)) {
        st = fail(err, PLM_ELIMIT, "the request's cap of %g is spent", (double)row_int(&r, 0, 2) / 1e6);
    }
    rows_free(&r);
    st = st || (!m.day_tokens && !m.month_spend) ? st : quota_check(l, w->tenant, &m, &wait_s, err);
    return turn_end(l, st, err);
}

plm_status job_finish(struct ledger *l, const struct work *w, const char *teacher, const char *candidates,
                      int64_t calls, int64_t examples, plm_error *err) {
    struct bytes sealed = {0};
    char what[160];
    seal_name(what, w->id, "result");
    plm_status st = vault_seal(l->vault, w->key_time, what, candidates, strlen(candidates), &sealed, err);
    st = st ? st : turn_begin(l, err);
    if (st) {
        bytes_free(&sealed);
        return st;
    }
    st = UPDATE_FENCED(l, err,
                       "state = 2, lease = 0, result = $3, teacher = $4, calls_done = $5, calls_total = $5,"
                       " examples = $6, request = $7",
                       TEXT(w->id), INT(w->fence), BYTES(sealed.data, sealed.len), TEXT(teacher), INT(calls),
                       INT(examples), BYTES("", 0));
    st = st ? st : unreserve(l, w->id, err);
    bytes_free(&sealed);
    return turn_end(l, st, err);
}

plm_status job_fail(struct ledger *l, const struct work *w, const char *why, bool may_retry, bool again,
                    plm_error *err) {
    struct rows r = {0};
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = ASK(l, &r, err, "SELECT attempts FROM jobs" FENCED, TEXT(w->id), INT(w->fence));
    int64_t attempts = row_int(&r, 0, 0);
    st = st ? st : r.n ? PLM_OK : not_ours(err);
    rows_free(&r);
    st = st ? st : unreserve(l, w->id, err);
    if (!st && again && attempts < l->attempts) {
        int64_t pause = (int64_t)5000 << (attempts < 7 ? attempts : 7);
        st = UPDATE_FENCED(l, err, "state = 0, lease = 0, not_before = $3", TEXT(w->id), INT(w->fence),
                           INT(l->now + pause));
    } else if (!st) {
        st = UPDATE_FENCED(l, err, "state = 3, lease = 0, error = $3, may_retry = $4", TEXT(w->id),
                           INT(w->fence), TEXT(why), INT(may_retry));
        // For good: what was asked and answered is needed no more; what it took stays for the audit.
        if (!st && !may_retry) {
            st = ASK(l, NULL, err, "UPDATE jobs SET request = $2 WHERE id = $1", TEXT(w->id), BYTES("", 0));
            st = st ? st
                    : ASK(l, NULL, err, "UPDATE replies SET body = $2 WHERE job = $1", TEXT(w->id),
                          BYTES("", 0));
        }
    }
    return turn_end(l, st, err);
}

plm_status job_release(struct ledger *l, const struct work *w, plm_error *err) {
    plm_status st = turn_begin(l, err);
    if (st) {
        return st;
    }
    st = unreserve(l, w->id, err);
    st = st ? st
            : UPDATE_FENCED(l, err, "state = 0, lease = 0, not_before = $3, attempts = attempts - 1",
                            TEXT(w->id), INT(w->fence), INT(l->now));
    return turn_end(l, st, err);
}
