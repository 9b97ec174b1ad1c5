/* ledger_db.h: inside the ledger: one way to speak to either database, and the keys. Parameters are written
 * $1, $2, ... which both know; values are integers, texts and bytes, nothing else. */
#ifndef STORE_LEDGER_DB_H
#define STORE_LEDGER_DB_H
#include <pthread.h>
#include "store/ledger.h"

enum cell_type { CELL_INT, CELL_TEXT, CELL_BYTES };
struct cell {
    enum cell_type type;
    int64_t i;
    const void *p; /* TEXT: NUL-terminated; both in rows and in arguments */
    size_t n;
};
#define INT(value) ((struct cell){CELL_INT, (value), NULL, 0})
#define TEXT(value) ((struct cell){CELL_TEXT, 0, (value), strlen(value)})
#define BYTES(data, len) ((struct cell){CELL_BYTES, 0, (data), (len)})

struct rows {                /* a whole result, copied */
    size_t n, columns, room; /* room: cells that there is memory of */
    struct cell *cells;
    int64_t changed; /* rows, by INSERT, UPDATE or DELETE */
};
int64_t row_int(const struct rows *r, size_t row, size_t column);
const char *row_text(const struct rows *r, size_t row, size_t column);
void rows_free(struct rows *r);
/* For drivers: room for n cells, empty ones behind those that were there, and a copy of bytes into one. */
plm_status rows_room(struct rows *r, size_t n, plm_error *err);
plm_status cell_copy(struct cell *c, enum cell_type type, const void *data, size_t n, plm_error *err);

struct driver {
    plm_status (*open)(void **db, const char *where, plm_error *err);
    void (*close)(void *db);
    /* One statement. out may be NULL. */
    plm_status (*run)(void *db, const char *sql, const struct cell *args, size_t n, struct rows *out,
                      plm_error *err);
    plm_status (*script)(void *db, const char *sql, plm_error *err); /* many, no parameters */
    const char *begin, *now; /* SQL; now: milliseconds since 1970, NULL: this machine's clock */
    const char *lock, *skip; /* behind a SELECT whose rows are going to be changed */
    const char *has_tables;  /* SQL: a row if the ledger's tables are there */
    bool shared;
};
extern const struct driver ledger_sqlite, ledger_postgres;

enum { KEY_BYTES = 32 };
struct vault; /* ledger_keys.c */

struct ledger {
    const struct driver *driver;
    void *db;
    struct vault *vault;
    char *path; /* of a SQLite file */
    int lock;   /* of that file; -1: not held */
    int64_t retain_ms, lease_ms, attempts;
    int64_t now; /* of the transaction under way */
    pthread_mutex_t turn;
};

/* A turn with a transaction in it. end commits if st is PLM_OK and always ends the turn. */
plm_status turn_begin(struct ledger *l, plm_error *err);
plm_status turn_end(struct ledger *l, plm_status st, plm_error *err);
plm_status ask(struct ledger *l, struct rows *out, plm_error *err, const char *sql, size_t n,
               const struct cell *args);
#define ASK(l, out, err, sql, ...)                                                    \
    ask(l, out, err, sql, sizeof((struct cell[]){__VA_ARGS__}) / sizeof(struct cell), \
        (struct cell[]){__VA_ARGS__})

/* One UPDATE of jobs that ends in the fence's condition; ESTOPPED where it no longer holds. */
#define FENCED " WHERE id = $1 AND fence = $2 AND state = 1"
plm_status fenced(struct ledger *l, plm_error *err, const char *sql, size_t n, const struct cell *args);
#define UPDATE_FENCED(l, err, set, ...)           \
    fenced(l, err, "UPDATE jobs SET " set FENCED, \
           sizeof((struct cell[]){__VA_ARGS__}) / sizeof(struct cell), (struct cell[]){__VA_ARGS__})
/* What a sealed body of a job is bound to. */
void seal_name(char out[160], const char *job, const char *what);

int64_t day_of(int64_t ms);
int64_t month_start(int64_t ms); /* the first day of its month, as a day */
void random_id(char id[LEDGER_ID]);
/* Adds to the tenant's figures of today. */
plm_status usage_add(struct ledger *l, const char *tenant, int64_t requests, int64_t calls, int64_t tokens_in,
                     int64_t tokens_out, int64_t spend, plm_error *err);
/* PLM_ELIMIT, with *wait_s, where the tenant has had what it may have. */
plm_status quota_check(struct ledger *l, const char *tenant, const struct tenant_limits *m, int64_t *wait_s,
                       plm_error *err);

/* ---- keys: times in milliseconds ---- */
plm_status vault_open(struct vault **out, const char *folder, int64_t key_ms, int64_t retain_ms,
                      plm_error *err);
void vault_close(struct vault *v);
/* The key for what comes now; made if it is the first. *key_time names it. */
plm_status vault_now(struct vault *v, int64_t now, int64_t *key_time, plm_error *err);
/* PLM_ENOTFOUND: destroyed. what is bound into the seal: it opens under the same words alone. */
plm_status vault_seal(struct vault *v, int64_t key_time, const char *what, const void *data, size_t n,
                      struct bytes *out, plm_error *err);
plm_status vault_open_seal(struct vault *v, int64_t key_time, const char *what, const void *data, size_t n,
                           char **text, plm_error *err);
/* A hash that says nothing without the key. */
plm_status vault_digest(struct vault *v, int64_t key_time, const char *what, const void *data, size_t n,
                        char hex[65], plm_error *err);
/* Destroys each key that is over age, and each old one that needed (of n key times) does not hold. */
plm_status vault_sweep(struct vault *v, int64_t now, const int64_t *needed, size_t n, int64_t *destroyed,
                       plm_error *err);
#endif
