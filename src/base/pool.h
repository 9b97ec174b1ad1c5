/* pool.h: pinned worker threads that spin briefly, then sleep. The caller is worker 0.
 * pool_for splits [0, n) into pieces of at least grain, handed out dynamically; what a piece writes
 * must depend on the piece alone, so that results do not depend on the number of threads. */
#ifndef BASE_POOL_H
#define BASE_POOL_H
#include "base/status.h"

struct pool;
typedef void (*pool_fn)(void *ctx, size_t from, size_t to, int worker);

plm_status pool_open(struct pool **out, int threads, plm_error *err); /* 0: one a core */
void pool_close(struct pool *p);
int pool_threads(const struct pool *p);
/* Runs fn over [0, n) on all workers and returns when done. Callers from several threads take turns.
 * p NULL runs it here. */
void pool_for(struct pool *p, size_t n, size_t grain, pool_fn fn, void *ctx);
#endif
