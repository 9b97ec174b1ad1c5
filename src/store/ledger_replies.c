/* ledger_replies.c: the teacher's replies to the calls of a job. A reply is kept with its job and goes with
 * it; while it is here, an equal call of another job of the same tenant takes a copy of it in place of
 * paying. Both hashes of a call are keyed: one for its job, one for its tenant, whose key is that of the hour
 * in which the job came, so that a search tries the hours of the tenant's jobs. */
#include <stdio.h>
#include <string.h>
#include "store/ledger_db.h"

struct reply {
    char *text, *finish; /* NULL: none */
};

static void reply_free(struct reply *r) {
    if (r->text) {
        explicit_bzero(r->text, strlen(r->text));
    }
    mem_free(r->text);
    mem_free(r->finish);
    *r = (struct reply){0};
}

// The row's finish and body, in its first two columns, sealed under the job and the hash of its call.
static plm_status open_reply(struct ledger *l, const struct rows *r, const char *job, const char *key,
                             int64_t key_time, struct reply *out, plm_error *err) {
    char what[160];
    seal_name(what, job, key);
    plm_status st = vault_open_seal(l->vault, key_time, what, r->cells[1].p, r->cells[1].n, &out->text, err);
    out->finish = st ? NULL : mem_dupz(row_text(r, 0, 0));
    if (!st && !out->finish) {
        reply_free(out);
        st = fail(err, PLM_ENOMEM, "no memory for a reply");
    }
    return st;
}

/* ---- replies of other jobs ---- */

static plm_status shared_key(struct ledger *l, const struct work *w, int64_t key_time, const char *call,
                             char key[65], plm_error *err) {
    struct bytes b;
    bytes_init(&b, 1 << 16);
    bytes_printf(&b, "%s\n%s", w->teacher, call);
    plm_status st = bytes_status(&b, "a call", err);
    st = st ? st : vault_digest(l->vault, key_time, w->tenant, b.data, b.len, key, err);
    bytes_free(&b);
    return st;
}

// Inside a turn: among the tenant's jobs of one hour.
static plm_status find_in_hour(struct ledger *l, const struct work *w, int64_t key_time, const char *call,
                               struct reply *out, plm_error *err) {
    struct rows r = {0};
    char key[65];
    plm_status st = shared_key(l, w, key_time, call, key, err);
    st = st ? st
            : ASK(l, &r, err,
                  "SELECT replies.finish, replies.body, replies.job, replies.call FROM replies"
                  " JOIN jobs ON jobs.id = replies.job WHERE replies.shared = $1 AND jobs.tenant = $2"
                  " AND jobs.key_time = $3 AND jobs.expires > $4 AND LENGTH(replies.body) > 0 LIMIT 1",
                  TEXT(key), TEXT(w->tenant), INT(key_time), INT(l->now));
    if (!st && r.n) {
        st = open_reply(l, &r, row_text(&r, 0, 2), row_text(&r, 0, 3), key_time, out, err);
    }
    rows_free(&r);
    // A key that is gone took its replies along, and a damaged reply is of no use to others.
    return st == PLM_ENOTFOUND || st == PLM_EFORMAT ? PLM_OK : st;
}

static plm_status find_shared(struct ledger *l, const struct work *w, const char *call, struct reply *out,
                              plm_error *err) {
    struct rows r = {0};
    plm_status st = ASK(l, &r, err, "SELECT DISTINCT key_time FROM jobs WHERE tenant = $1 AND expires > $2",
                        TEXT(w->tenant), INT(l->now));
    for (size_t i = 0; i < r.n && !st && !out->text; i++) {
        st = find_in_hour(l, w, row_int(&r, i, 0), call, out, err);
    }
    rows_free(&r);
    return st;
}

/* ---- keeping ---- */

// Inside a turn. key: the call's hash for this job. What the teacher could not answer is not shared.
static plm_status put_reply(struct ledger *l, const struct work *w, const char *call, const char *key,
                            const char *text, const char *finish, int64_t tokens_in, int64_t tokens_out,
                            int64_t spend, plm_error *err) {
    struct bytes sealed = {0};
    char what[160], shared[65] = "";
    seal_name(what, w->id, key);
    plm_status st = vault_seal(l->vault, w->key_time, what, text, strlen(text), &sealed, err);
    if (!st && w->teacher && strcmp(finish, "none") != 0) {
        st = shared_key(l, w, w->key_time, call, shared, err);
    }
    st = st ? st
            : UPDATE_FENCED(
                  l, err,
                  "lease = $3, attempts = 0, calls_done = calls_done + 1, tokens_in = tokens_in + $4,"
                  " tokens_out = tokens_out + $5, spend = spend + $6",
                  TEXT(w->id), INT(w->fence), INT(l->now + l->lease_ms), INT(tokens_in), INT(tokens_out),
                  INT(spend));
    st = st ? st
            : ASK(l, NULL, err,
                  "INSERT INTO replies (job, call, number, finish, tokens_in, tokens_out, body, shared)"
                  " VALUES ($1, $2, (SELECT COUNT(*) FROM replies WHERE job = $1), $3, $4, $5, $6, $7)",
                  TEXT(w->id), TEXT(key), TEXT(finish), INT(tokens_in), INT(tokens_out),
                  BYTES(sealed.data, sealed.len), TEXT(shared));
    bytes_free(&sealed);
    return st;
}

plm_status reply_find(struct ledger *l, const struct work *w, const char *call, char **text, char **finish,
                      bool *shared, plm_error *err) {
    struct rows r = {0};
    struct reply reply = {0};
    char key[65];
    *text = *finish = NULL;
    *shared = false;
    plm_status st = vault_digest(l->vault, w->key_time, w->id, call, strlen(call), key, err);
    st = st ? st : turn_begin(l, err);
    if (st) {
        return st;
    }
    st = ASK(l, &r, err, "SELECT finish, body FROM replies WHERE job = $1 AND call = $2", TEXT(w->id),
             TEXT(key));
    if (!st && r.n) {
        st = open_reply(l, &r, w->id, key, w->key_time, &reply, err);
    } else if (!st && w->teacher) {
        st = find_shared(l, w, call, &reply, err);
        *shared = reply.text != NULL;
        struct work copy = *w;
        copy.teacher = NULL; // not shared on: its text would outlive the hours of the job that paid
        st = st || !*shared ? st : put_reply(l, &copy, call, key, reply.text, reply.finish, 0, 0, 0, err);
    }
    rows_free(&r);
    st = turn_end(l, st, err);
    if (st) {
        reply_free(&reply);
        *shared = false;
    }
    *text = reply.text;
    *finish = reply.finish;
    return st;
}

plm_status reply_keep(struct ledger *l, const struct work *w, const char *call, const char *text,
                      const char *finish, int64_t tokens_in, int64_t tokens_out, int64_t spend,
                      plm_error *err) {
    char key[65];
    int64_t tokens = tokens_in + tokens_out;
    plm_status st = vault_digest(l->vault, w->key_time, w->id, call, strlen(call), key, err);
    st = st ? st : turn_begin(l, err);
    if (st) {
        return st;
    }
    st = put_reply(l, w, call, key, text, finish, tokens_in, tokens_out, spend, err);
    // Tokens come out of what was reserved while it lasts; beyond, the tenant has had more.
    st = st ? st
            : ASK(l, NULL, err,
                  "UPDATE tenants SET served = served + (SELECT CASE WHEN $2 > reserved THEN $2 - reserved "
                  "ELSE 0 END"
                  " FROM jobs WHERE id = $1) WHERE id = (SELECT tenant FROM jobs WHERE id = $1)",
                  TEXT(w->id), INT(tokens));
    st = st ? st
            : ASK(l, NULL, err,
                  "UPDATE jobs SET reserved = CASE WHEN $2 > reserved THEN 0 ELSE reserved - $2 END WHERE id "
                  "= $1",
                  TEXT(w->id), INT(tokens));
    st = st ? st : usage_add(l, w->tenant, 0, 1, tokens_in, tokens_out, spend, err);
    return turn_end(l, st, err);
}
