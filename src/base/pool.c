/* pool.c: worker threads for one parallel loop at a time.
 *
 * The loop is a row of equal pieces, and each thread has a range of them to begin with, which it goes through
 * from the front: so it walks one long run of memory. Who has none left takes the back half of another's. A
 * range is one word with the job's number; who swaps it owns what he took off it. A job ends when its last
 * piece has been done, and only then are its fields written for the next one: so a swap that succeeds proves
 * that the fields read before it were those of that job, and a worker that comes late or never comes is not
 * waited for.
 *
 * An idle worker spins for a little and then sleeps on a futex. Workers are pinned only when there is one for
 * every core. The caller's thread is never pinned, it is not ours: where the system keeps it on a worker's
 * core, that worker goes to the core that is left. */
#include "base/pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"

enum {
    LOOKS = 64, /* at the ticket, between looks at the clock */
    STAY = 16,  /* jobs that a caller brings from a worker's core before that worker goes */
    MAX_THREADS = 1024,
    MAX_PIECES = 0xffff,
};
/* Seconds that a worker spins for a job, and the caller for the last piece. */
static const double SPIN = 80e-6, WAIT_SPIN = 50e-6;

struct worker {
    _Alignas(64) _Atomic uint64_t range; /* job number << 32 | first piece << 16 | past the last */
    struct pool *pool;
    pthread_t thread;
    int number, core; /* where it is pinned; -1: nowhere */
};

struct pool {
    int threads, started; /* with the caller; without */
    bool crammed;         /* more threads than cores: who waits gives its core away */
    int spare;            /* the core that no worker is pinned to; -1: none are pinned */
    int crowded;          /* jobs in a row whose caller was on another one */
    pthread_mutex_t turn;
    struct worker *workers; /* the first is whoever calls */

    _Alignas(64) _Atomic uint32_t bell; /* the job's number: what sleepers sleep on */
    _Atomic uint32_t sleepers;
    atomic_bool closing;

    /* The job. Read by workers before they know that it is still theirs, hence atomic. */
    _Alignas(64) _Atomic size_t n, grain;
    _Atomic(pool_fn) fn;
    _Atomic(void *) ctx;

    _Alignas(64) _Atomic uint32_t done; /* pieces of this job that are finished */
    _Atomic uint32_t caller_sleeps;
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); // some tens of cycles, where yield takes none
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen) {
    syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int most) {
    syscall(SYS_futex, (void *)word, FUTEX_WAKE_PRIVATE, most, NULL, NULL, 0);
}

static uint64_t range_of(uint64_t job, size_t from, size_t to) {
    return job << 32 | from << 16 | to;
}

static size_t left_of(uint64_t range) {
    return (range & 0xffff) - (range >> 16 & 0xffff);
}

/* Does the first piece of one's own range; false: it is empty. */
static bool do_own(struct pool *p, struct worker *me) {
    uint64_t r = atomic_load_explicit(&me->range, memory_order_acquire);
    for (;;) {
        if (left_of(r) == 0)
            return false;
        size_t n = atomic_load_explicit(&p->n, memory_order_relaxed);
        size_t grain = atomic_load_explicit(&p->grain, memory_order_relaxed);
        pool_fn fn = atomic_load_explicit(&p->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&p->ctx, memory_order_relaxed);
        if (!atomic_compare_exchange_weak_explicit(&me->range, &r, r + (1 << 16), memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        size_t from = (r >> 16 & 0xffff) * grain;
        fn(ctx, from, n - from < grain ? n : from + grain, me->number);
        return true;
    }
}

/* The back half of another's range becomes one's own, if that is still empty, and so only of the same job:
 * the next one may have brought a range of one's own meanwhile. False: there is nothing to do. */
static bool take_over(struct pool *p, struct worker *me) {
    uint64_t mine = atomic_load_explicit(&me->range, memory_order_acquire), job = mine >> 32;
    if (left_of(mine))
        return true;
    for (int i = 1; i < p->threads; i++) {
        struct worker *other = &p->workers[(me->number + i) % p->threads];
        uint64_t r = atomic_load_explicit(&other->range, memory_order_acquire);
        for (;;) {
            size_t to = r & 0xffff, half = (left_of(r) + 1) / 2;
            if (half == 0 || r >> 32 != job)
                break;
            if (!atomic_compare_exchange_weak_explicit(&other->range, &r, r - half, memory_order_acq_rel,
                                                       memory_order_acquire))
                continue;
            atomic_store_explicit(&me->range, range_of(job, to - half, to), memory_order_release);
            return true;
        }
    }
    return false;
}

/* Takes and does pieces of the job on offer until none is left. While finished pieces are not yet counted the
 * job can't end, so all of them are of the same one. */
static void work(struct pool *p, struct worker *me) {
    uint32_t finished = 0;
    do
        while (do_own(p, me))
            finished++;
    while (take_over(p, me));
    if (finished) {
        atomic_fetch_add(&p->done, finished);
        if (me->number && atomic_load(&p->caller_sleeps))
            futex_wake(&p->done, 1);
    }
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    struct pool *p = w->pool;
    uint32_t seen = 0;
    while (!atomic_load(&p->closing)) {
        double until = clock_now() + SPIN;
        for (int looks = 0; atomic_load_explicit(&p->bell, memory_order_acquire) == seen; relax()) {
            if (++looks < LOOKS)
                continue;
            if (clock_now() > until)
                break;
            looks = 0;
            if (p->crammed)
                sched_yield();
        }
        uint32_t bell = atomic_load(&p->bell);
        if (bell != seen) {
            seen = bell;
            work(p, w);
            continue;
        }
        atomic_fetch_add(&p->sleepers, 1);
        if (!atomic_load(&p->closing))
            futex_wait(&p->bell, seen);
        atomic_fetch_sub(&p->sleepers, 1);
    }
    return NULL;
}

static void pin(struct worker *w, int core) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)core, &one);
    pthread_setaffinity_np(w->thread, sizeof one, &one);
    w->core = core;
}

/* Worker i to the i-th core that this process may use. Not being allowed to is no failure. */
static void pin_workers(struct pool *p) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) || CPU_COUNT(&allowed) != p->threads)
        return;
    for (int cpu = 0, i = 0; cpu < CPU_SETSIZE && i < p->threads; cpu++) {
        if (!CPU_ISSET((size_t)cpu, &allowed))
            continue;
        if (i == 0)
            p->spare = cpu;
        else
            pin(&p->workers[i], cpu);
        i++;
    }
}

/* Leaves the caller the core that it is on, if it seems to stay there. */
static void make_room(struct pool *p) {
    int core = p->spare < 0 ? -1 : sched_getcpu();
    p->crowded = core == p->spare ? 0 : p->crowded + 1;
    if (p->crowded < STAY)
        return;
    p->crowded = 0;
    for (int i = 1; i <= p->started; i++)
        if (p->workers[i].core == core) {
            pin(&p->workers[i], p->spare);
            p->spare = core;
            return;
        }
}

plm_status pool_open(struct pool **out, int threads, plm_error *err) {
    if (threads < 0 || threads > MAX_THREADS)
        return fail(err, PLM_EINVAL, "%d threads: give 1 to %d, or 0 for one a core", threads, MAX_THREADS);
    if (threads == 0)
        threads = cpu_cores();
    struct pool *p = mem_aligned(1, sizeof *p);
    struct worker *workers = mem_aligned((size_t)threads, sizeof *workers);
    if (!p || !workers) {
        mem_free(p);
        mem_free(workers);
        return fail(err, PLM_ENOMEM, "out of memory for %d threads", threads);
    }
    p->threads = threads;
    p->crammed = threads > cpu_cores();
    p->spare = -1;
    p->workers = workers;
    pthread_mutex_init(&p->turn, NULL);
    for (int i = 0; i < threads; i++)
        workers[i] = (struct worker){.pool = p, .number = i, .core = -1};
    for (int i = 1; i < threads; i++) {
        struct worker *w = &workers[i];
        int why = pthread_create(&w->thread, NULL, worker_main, w);
        if (why) {
            pool_close(p);
            return fail(err, PLM_ENOMEM, "thread %d of %d could not be started (error %d)", i + 1, threads,
                        why);
        }
        p->started++;
    }
    pin_workers(p);
    *out = p;
    return PLM_OK;
}

void pool_close(struct pool *p) {
    if (!p)
        return;
    atomic_store(&p->closing, true);
    atomic_fetch_add(&p->bell, 1);
    futex_wake(&p->bell, INT_MAX);
    for (int i = 1; i <= p->started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_mutex_destroy(&p->turn);
    mem_free(p->workers);
    mem_free(p);
}

int pool_threads(const struct pool *p) {
    return p ? p->threads : 1;
}

static void run_here(size_t n, size_t grain, pool_fn fn, void *ctx) {
    for (size_t from = 0; from < n; from += grain) {
        if (n - from <= grain) {
            fn(ctx, from, n, 0);
            return;
        }
        fn(ctx, from, from + grain, 0);
    }
}

/* Until the pieces that others took are done: spins, then sleeps. */
static void wait_done(struct pool *p, uint32_t pieces) {
    double until = 0;
    uint32_t d;
    for (int looks = 0; (d = atomic_load(&p->done)) != pieces; relax()) {
        if (++looks < LOOKS)
            continue;
        looks = 0;
        double now = clock_now();
        if (until == 0)
            until = now + WAIT_SPIN;
        if (now < until) {
            if (p->crammed)
                sched_yield();
            continue;
        }
        atomic_store(&p->caller_sleeps, 1);
        d = atomic_load(&p->done);
        if (d != pieces)
            futex_wait(&p->done, d);
        atomic_store(&p->caller_sleeps, 0);
    }
}

void pool_for(struct pool *p, size_t n, size_t grain, pool_fn fn, void *ctx) {
    if (n == 0)
        return;
    if (grain == 0)
        grain = 1;
    if (n / grain >= MAX_PIECES)
        grain = n / (MAX_PIECES - 1) + 1;
    if (!p) {
        run_here(n, grain, fn, ctx);
        return;
    }
    pthread_mutex_lock(&p->turn);
    size_t pieces = n / grain + (n % grain != 0);
    if (pieces == 1 || p->threads == 1) {
        run_here(n, grain, fn, ctx); /* in our turn: what belongs to worker 0 is ours */
        pthread_mutex_unlock(&p->turn);
        return;
    }
    make_room(p);
    atomic_store_explicit(&p->n, n, memory_order_relaxed);
    atomic_store_explicit(&p->grain, grain, memory_order_relaxed);
    atomic_store_explicit(&p->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&p->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    uint32_t job = atomic_load_explicit(&p->bell, memory_order_relaxed) + 1;
    size_t threads = (size_t)p->threads;
    for (size_t i = 0; i < threads; i++)
        atomic_store_explicit(
            &p->workers[i].range,
            range_of(job, (pieces * i + threads - 1) / threads, (pieces * (i + 1) + threads - 1) / threads),
            memory_order_release);
    atomic_store(&p->bell, job);
    uint32_t sleepers = atomic_load(&p->sleepers);
    if (sleepers)
        futex_wake(&p->bell, pieces - 1 < INT_MAX ? (int)(pieces - 1) : INT_MAX);
    work(p, &p->workers[0]);
    wait_done(p, (uint32_t)pieces);
    pthread_mutex_unlock(&p->turn);
}
