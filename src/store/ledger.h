/* ledger.h: the second door of store/: what an augmentation service remembers. Tenants and their keys, jobs,
 * and the teacher's replies to each call of a job. In one SQLite file (one machine) or in PostgreSQL (workers
 * on any number of machines); the calls are the same.
 *
 * A job is durable once job_submit has returned. Whoever claims one holds a lease with a number (the fence);
 * everything a worker writes is checked against it, so a worker that was given up for dead writes nothing.
 * Bodies (request, replies, result) are sealed under a key of the hour in which the job came, kept in a
 * folder outside the database; keys go within 24 hours and with them whatever copies of the rows are left
 * anywhere. A handle may be used by several threads; they take turns. */
#ifndef STORE_LEDGER_H
#define STORE_LEDGER_H
#include "base/base.h"

struct ledger;
struct ledger_options {
    const char *db;   /* "sqlite:FILE" or "postgres://..." */
    const char *keys; /* folder of the hourly keys, 0700; the same for all processes of one database */
    int retain_s;     /* jobs and their results go after this; 0: 20 hours, at most 23 */
    int lease_s;      /* 0: 60 */
    int attempts;     /* starts of a job in a row without a new reply, before it is given up; 0: 5 */
    int key_s;        /* how long a key is used; 0: an hour */
};
plm_status ledger_open(struct ledger **out, const struct ledger_options *opt, plm_error *err);
void ledger_close(struct ledger *l);
/* One service a SQLite file: takes the lock, and gives back what a service that died had running. */
plm_status ledger_own(struct ledger *l, plm_error *err);
bool ledger_is_shared(const struct ledger *l); /* PostgreSQL */

/* ---- tenants ---- */
enum { TENANT_NAME_MAX = 64, TENANT_KEY_MAX = 96, LEDGER_ID = 33, SUBMIT_KEY_MAX = 128 };

struct tenant_limits {                             /* 0: none */
    int64_t day_requests, day_tokens, month_spend; /* spend in millionths of a money unit */
    int64_t minute_requests, queued;               /* queued: jobs waiting or running at once */
};
struct tenant {
    char id[LEDGER_ID], name[TENANT_NAME_MAX + 1];
    bool active;
    struct tenant_limits limits;
    int64_t created, requests_today, tokens_today, spend_month, jobs; /* tenant_list fills these */
};
/* key: 256 random bits, shown here and never again; only its hash is stored. */
plm_status tenant_add(struct ledger *l, const char *name, const struct tenant_limits *limits,
                      char key[TENANT_KEY_MAX], plm_error *err);
plm_status tenant_limit(struct ledger *l, const char *name, const struct tenant_limits *limits,
                        plm_error *err);
plm_status tenant_list(struct ledger *l, int (*each)(void *ctx, const struct tenant *t), void *ctx,
                       plm_error *err);
/* A new key; the old ones work for overlap_s more. */
plm_status tenant_rotate(struct ledger *l, const char *name, int64_t overlap_s, char key[TENANT_KEY_MAX],
                         plm_error *err);
plm_status tenant_suspend(struct ledger *l, const char *name, bool suspended, plm_error *err);
plm_status tenant_delete(struct ledger *l, const char *name, plm_error *err); /* with all it has here */
/* Whose key is this? PLM_ENOTFOUND: nobody's. The secret is compared in constant time. */
plm_status tenant_by_key(struct ledger *l, const char *key, struct tenant *out, plm_error *err);

/* ---- jobs, for their tenant: another's job is one that does not exist ---- */
enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };
const char *job_state_name(enum job_state state);
struct job_cost {
    int64_t calls, tokens_in, tokens_out, spend; /* spend in millionths */
};
struct job {
    char id[LEDGER_ID];
    enum job_state state;
    int64_t created, expires;                  /* seconds since 1970 */
    int64_t calls_done, calls_total, examples; /* calls_total: a guess until the job is done */
    int64_t tokens_in, tokens_out, spend;
    struct job_cost estimate; /* made before anything was paid */
    int64_t max_spend;        /* 0: no cap */
    bool may_retry; /* failed for a reason that passes: the same submission puts it back into the queue */
    char error[244], teacher[300];
};
/* submit_key: 1 to SUBMIT_KEY_MAX letters, digits, '-' and '_', the tenant's own; PLM_EINVAL: it is none. The
 * same key and request is the same job, and *fresh is false; PLM_EFORMAT: the key was used for another
 * request. PLM_ELIMIT: over a limit of the tenant, *wait_s says when to come back. max_spend: the job stops
 * before it costs more; of the submission that puts it into the queue, 0: no cap. */
plm_status job_submit(struct ledger *l, const struct tenant *t, const char *submit_key, const char *request,
                      size_t len, const struct job_cost *estimate, int64_t max_spend, struct job *out,
                      bool *fresh, int64_t *wait_s, plm_error *err);
plm_status job_look(struct ledger *l, const char *tenant, const char *id, struct job *out, plm_error *err);
/* *candidates of a job that is done; the caller's, plm_free. PLM_EINVAL: it is not done. */
plm_status job_result(struct ledger *l, const char *tenant, const char *id, char **candidates,
                      plm_error *err);
/* What each call took: each gets number, finish, tokens. In call order. */
plm_status job_audit(struct ledger *l, const char *tenant, const char *id,
                     int (*each)(void *ctx, int64_t number, const char *finish, int64_t tokens_in,
                                 int64_t tokens_out),
                     void *ctx, plm_error *err);
plm_status job_cancel(struct ledger *l, const char *tenant, const char *id, struct job *out, plm_error *err);
/* Acknowledged, or given up: all of it is deleted. */
plm_status job_drop(struct ledger *l, const char *tenant, const char *id, plm_error *err);

/* ---- jobs, for their worker ---- */
struct work {
    char id[LEDGER_ID], tenant[LEDGER_ID];
    int64_t fence, key_time;
    int64_t may_spend;   /* of the job's cap and the tenant's quota, what is left; below 0: as it likes */
    char *request;       /* freed by work_free */
    const char *teacher; /* the worker's to set, and its own: who answers. NULL: replies are not shared */
};
/* The next job, of the tenant that has had least; *found false: there is none. */
plm_status job_claim(struct ledger *l, const char *worker, struct work *out, bool *found, plm_error *err);
void work_free(struct work *w);
/* PLM_ESTOPPED from the calls below: the job is not ours any more (cancelled, expired, lease lost). */
plm_status job_beat(struct ledger *l, const struct work *w, int64_t done, int64_t total, int64_t examples,
                    plm_error *err);
/* May another call be paid? PLM_ELIMIT: the job's cap or the tenant's quota is used up. */
plm_status job_may_call(struct ledger *l, const struct work *w, plm_error *err);
/* *text NULL: no such reply. Both are the caller's. The same teacher's reply to the same call in another job
 * of this tenant, for as long as that job is here, counts as this job's: it is copied, costs nothing, and
 * *shared is true. */
plm_status reply_find(struct ledger *l, const struct work *w, const char *call, char **text, char **finish,
                      bool *shared, plm_error *err);
/* Stored and paid for in one transaction. */
plm_status reply_keep(struct ledger *l, const struct work *w, const char *call, const char *text,
                      const char *finish, int64_t tokens_in, int64_t tokens_out, int64_t spend,
                      plm_error *err);
plm_status job_finish(struct ledger *l, const struct work *w, const char *teacher, const char *candidates,
                      int64_t calls, int64_t examples, plm_error *err);
/* may_retry: the reason passes. It goes back into the queue by itself while attempts are left and again is
 * true, later and later. */
plm_status job_fail(struct ledger *l, const struct work *w, const char *why, bool may_retry, bool again,
                    plm_error *err);
plm_status job_release(struct ledger *l, const struct work *w, plm_error *err); /* back into the queue */

/* ---- upkeep ---- */
struct sweep {
    int64_t requeued, given_up, expired, keys_destroyed;
};
/* Leases that ran out, jobs that expired, keys that nothing needs. To be called every few seconds. */
plm_status ledger_sweep(struct ledger *l, struct sweep *out, plm_error *err);
struct ledger_stats {
    int64_t tenants, queued, running, done, failed, cancelled, oldest_queued_s;
    int64_t requests_today, calls_today, tokens_in_today, tokens_out_today;
};
plm_status ledger_stats(struct ledger *l, struct ledger_stats *out, plm_error *err);
#endif
