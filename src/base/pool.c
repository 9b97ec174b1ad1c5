/* pool.c: worker threads for one parallel loop at a time.
 *
 * The loop is a row of equal pieces. `ticket` holds the job's number and how many pieces are not yet taken;
 * who takes one off it by compare-and-swap owns that piece. A job ends when its last piece has been done, and
 * only then are its fields written for the next one: so a swap that succeeds proves that the fields read
 * before it were those of that job, and a worker that comes late or never comes is not waited for.
 *
 * An idle worker spins for a little, gives its core away between looks, and then sleeps on a futex. Workers
 * are pinned only when there is one for every core; the caller's thread is never pinned, it is not ours. */
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
    MAX_THREADS = 1024,
};
/* Seconds that a worker spins for a job, and the caller for the last piece. */
static const double SPIN = 80e-6, WAIT_SPIN = 50e-6;

struct worker {
    struct pool *pool;
    pthread_t thread;
    int number;
};

struct pool {
    int threads, started; /* with the caller; without */
    pthread_mutex_t turn;
    struct worker *workers;

    _Alignas(64) _Atomic uint64_t ticket; /* job number << 32 | pieces not yet taken */
    _Atomic uint32_t bell;                /* changes with each job: what sleepers sleep on */
    _Atomic uint32_t sleepers;
    atomic_bool closing;

    /* The job. Read by workers before they know that it is still theirs, hence atomic. */
    _Alignas(64) _Atomic size_t n, grain, pieces;
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

static bool job_waits(struct pool *p) {
    return (uint32_t)atomic_load_explicit(&p->ticket, memory_order_acquire) != 0;
}

/* Takes and does pieces of the job on offer until none is left. */
static void work(struct pool *p, int number) {
    uint32_t finished = 0;
    uint64_t t = atomic_load_explicit(&p->ticket, memory_order_acquire);
    while ((uint32_t)t) {
        size_t n = atomic_load_explicit(&p->n, memory_order_relaxed);
        size_t grain = atomic_load_explicit(&p->grain, memory_order_relaxed);
        size_t pieces = atomic_load_explicit(&p->pieces, memory_order_relaxed);
        pool_fn fn = atomic_load_explicit(&p->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&p->ctx, memory_order_relaxed);
        uint64_t taken = t;
        if (!atomic_compare_exchange_weak_explicit(&p->ticket, &t, t - 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        size_t from = (pieces - (uint32_t)taken) * grain;
        fn(ctx, from, n - from < grain ? n : from + grain, number);
        finished++;
        t = taken - 1;
        if ((uint32_t)t)
            t = atomic_load_explicit(&p->ticket, memory_order_acquire);
        /* While our finished pieces are not yet counted the job can't end, so t is still of the same job. */
    }
    if (finished) {
        atomic_fetch_add(&p->done, finished);
        if (number && atomic_load(&p->caller_sleeps))
            futex_wake(&p->done, 1);
    }
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    struct pool *p = w->pool;
    while (!atomic_load(&p->closing)) {
        double until = clock_now() + SPIN;
        for (int looks = 0; !job_waits(p); relax()) {
            if (++looks < LOOKS)
                continue;
            if (clock_now() > until)
                break;
            looks = 0;
            sched_yield(); /* should the caller be on this core, it goes first */
        }
        if (job_waits(p)) {
            work(p, w->number);
            continue;
        }
        uint32_t seen = atomic_load(&p->bell);
        atomic_fetch_add(&p->sleepers, 1);
        if (!job_waits(p) && !atomic_load(&p->closing))
            futex_wait(&p->bell, seen);
        atomic_fetch_sub(&p->sleepers, 1);
    }
    return NULL;
}

/* Worker i to the i-th core that this process may use. Not being allowed to is no failure. */
static void pin_workers(struct pool *p) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) || CPU_COUNT(&allowed) != p->threads)
        return;
    int i = 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE && i < p->threads; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        if (i > 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            pthread_setaffinity_np(p->workers[i - 1].thread, sizeof one, &one);
        }
        i++;
    }
}

plm_status pool_open(struct pool **out, int threads, plm_error *err) {
    if (threads < 0 || threads > MAX_THREADS)
        return fail(err, PLM_EINVAL, "%d threads: give 1 to %d, or 0 for one a core", threads, MAX_THREADS);
    if (threads == 0)
        threads = cpu_cores();
    struct pool *p = mem_aligned(1, sizeof *p);
    struct worker *workers = mem_zero((size_t)threads, sizeof *workers);
    if (!p || !workers) {
        mem_free(p);
        mem_free(workers);
        return fail(err, PLM_ENOMEM, "out of memory for %d threads", threads);
    }
    p->threads = threads;
    p->workers = workers;
    pthread_mutex_init(&p->turn, NULL);
    for (int i = 1; i < threads; i++) {
        struct worker *w = &workers[i - 1];
        *w = (struct worker){.pool = p, .number = i};
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
    for (int i = 0; i < p->started; i++)
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
    if (n / grain >= UINT32_MAX)
        grain = n / (UINT32_MAX - 1) + 1;
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
    atomic_store_explicit(&p->n, n, memory_order_relaxed);
    atomic_store_explicit(&p->grain, grain, memory_order_relaxed);
    atomic_store_explicit(&p->pieces, pieces, memory_order_relaxed);
    atomic_store_explicit(&p->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&p->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    uint64_t job = (atomic_load_explicit(&p->ticket, memory_order_relaxed) >> 32) + 1;
    atomic_store(&p->ticket, job << 32 | pieces);
    atomic_fetch_add(&p->bell, 1);
    uint32_t sleepers = atomic_load(&p->sleepers);
    if (sleepers)
        futex_wake(&p->bell, pieces - 1 < INT_MAX ? (int)(pieces - 1) : INT_MAX);
    work(p, 0);
    wait_done(p, (uint32_t)pieces);
    pthread_mutex_unlock(&p->turn);
}
