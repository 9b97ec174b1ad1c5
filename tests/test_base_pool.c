/* The pool: every index once, whatever the threads; sleeping workers cost nothing. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"

static const int counts[] = {1, 2, 3, 7};

struct sums {
    unsigned char hits[5000];
    double partial[5000];
    atomic_int bad;
    size_t grain, n;
    int threads;
};

static void touch(void *ctx, size_t from, size_t to, int worker) {
    struct sums *s = ctx;
    /* Pieces are the same for every number of threads. */
    if (from % s->grain || (to != from + s->grain && to != s->n) || to <= from || worker < 0 ||
        worker >= s->threads)
        atomic_fetch_add(&s->bad, 1);
    for (size_t i = from; i < to; i++) {
        s->hits[i]++;
        s->partial[from] += 1.0 / (double)(i + 1);
    }
}

static void run(struct pool *p, struct sums *s, size_t n, size_t grain) {
    memset(s, 0, sizeof *s);
    s->grain = grain ? grain : 1;
    s->n = n;
    s->threads = pool_threads(p);
    pool_for(p, n, grain, touch, s);
    assert_int_equal(s->bad, 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(s->hits[i], 1);
    for (size_t i = n; i < 5000; i++)
        assert_int_equal(s->hits[i], 0);
}

static void every_index_once_and_the_same_result_for_any_threads(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 3, 16, 17, 1000, 5000}, grains[] = {0, 1, 3, 16, 999, 6000};
    static struct sums alone, s;
    for (size_t c = 0; c < 4; c++) {
        struct pool *p;
        assert_int_equal(pool_open(&p, counts[c], NULL), PLM_OK);
        assert_int_equal(pool_threads(p), counts[c]);
        for (size_t i = 0; i < 8; i++) {
            for (size_t g = 0; g < 6; g++) {
                run(NULL, &alone, sizes[i], grains[g]);
                run(p, &s, sizes[i], grains[g]);
                assert_memory_equal(s.partial, alone.partial, sizeof s.partial);
            }
        }
        pool_close(p);
    }
}

static void many_small_loops_in_a_row(void **state) {
    (void)state;
    static struct sums s;
    for (size_t c = 1; c < 4; c++) {
        struct pool *p;
        assert_int_equal(pool_open(&p, counts[c], NULL), PLM_OK);
        for (int i = 0; i < 3000; i++) {
            if (i % 300 == 0)
                usleep(500); /* let the workers fall asleep */
            memset(&s, 0, 64);
            s.grain = 1;
            s.n = (size_t)(i % 9);
            s.threads = counts[c];
            pool_for(p, s.n, 1, touch, &s);
            for (size_t k = 0; k < s.n; k++)
                assert_int_equal(s.hits[k], 1);
        }
        assert_int_equal(s.bad, 0);
        pool_close(p);
    }
}

struct caller {
    struct pool *pool;
    atomic_size_t *inside, *most;
    size_t total;
};

static void count(void *ctx, size_t from, size_t to, int worker) {
    (void)worker;
    struct caller *c = ctx;
    for (size_t i = from; i < to; i++)
        __atomic_fetch_add(&c->total, 1, __ATOMIC_RELAXED);
}

static void *call_often(void *arg) {
    struct caller *c = arg;
    for (int i = 0; i < 500; i++)
        pool_for(c->pool, 50, 7, count, c);
    return NULL;
}

static void several_callers_take_turns(void **state) {
    (void)state;
    struct pool *p;
    struct caller c[4];
    pthread_t t[4];
    assert_int_equal(pool_open(&p, 3, NULL), PLM_OK);
    for (int i = 0; i < 4; i++) {
        c[i] = (struct caller){.pool = p};
        assert_int_equal(pthread_create(&t[i], NULL, call_often, &c[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(c[i].total, 25000);
    }
    pool_close(p);
}

static double cpu_seconds(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           1e-6 * (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static void idle_workers_sleep(void **state) {
    (void)state;
    static struct sums s;
    struct pool *p;
    assert_int_equal(pool_open(&p, 3, NULL), PLM_OK);
    run(p, &s, 100, 1);
    usleep(20000);
    double from = cpu_seconds();
    usleep(300000);
    assert_true(cpu_seconds() - from < 0.05);
    pool_close(p);
}

static void nap(void *ctx, size_t from, size_t to, int worker) {
    (void)ctx;
    (void)to;
    (void)worker;
    usleep(from ? 60000 : 120000);
}

static void caller_sleeps_while_others_finish(void **state) {
    (void)state;
    struct pool *p;
    assert_int_equal(pool_open(&p, 2, NULL), PLM_OK);
    double from = cpu_seconds();
    for (int i = 0; i < 3; i++)
        pool_for(p, 2, 1, nap, NULL);
    assert_true(cpu_seconds() - from < 0.05);
    pool_close(p);
}

struct place {
    int caller;
    atomic_int together;
};

static void look_where(void *ctx, size_t from, size_t to, int worker) {
    struct place *p = ctx;
    (void)from;
    (void)to;
    if (worker && sched_getcpu() == p->caller)
        atomic_fetch_add(&p->together, 1);
    usleep(50);
}

static void a_worker_leaves_the_core_that_its_caller_is_kept_on(void **state) {
    (void)state;
    cpu_set_t before, one;
    struct place where = {0};
    struct pool *p;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(pool_open(&p, CPU_COUNT(&before), NULL), PLM_OK);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &before))
            where.caller = cpu; // the last worker's
    CPU_ZERO(&one);
    CPU_SET((size_t)where.caller, &one);
    assert_int_equal(pthread_setaffinity_np(pthread_self(), sizeof one, &one), 0);
    for (int i = 0; i < 100; i++)
        pool_for(p, 8, 1, look_where, &where);
    where.together = 0;
    for (int i = 0; i < 100; i++)
        pool_for(p, 8, 1, look_where, &where);
    assert_int_equal(where.together, 0);
    pthread_setaffinity_np(pthread_self(), sizeof before, &before);
    pool_close(p);
}

static void senseless_thread_counts_are_refused(void **state) {
    (void)state;
    struct pool *p;
    plm_error err;
    assert_int_equal(pool_open(&p, -1, &err), PLM_EINVAL);
    assert_int_equal(pool_open(&p, 1000000, &err), PLM_EINVAL);
    assert_int_equal(pool_open(&p, 0, &err), PLM_OK);
    assert_true(pool_threads(p) >= 1);
    pool_close(p);
    pool_close(NULL);
    assert_int_equal(pool_threads(NULL), 1);
}

static void each_failed_allocation_is_a_clean_status(void **state) {
    (void)state;
    for (long i = 1; i <= 2; i++) {
        struct pool *p;
        mem_fail_at(i, false);
        plm_status st = pool_open(&p, 3, NULL);
        mem_fail_at(0, false);
        assert_int_equal(st, PLM_ENOMEM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_once_and_the_same_result_for_any_threads),
        cmocka_unit_test(many_small_loops_in_a_row),
        cmocka_unit_test(several_callers_take_turns),
        cmocka_unit_test(idle_workers_sleep),
        cmocka_unit_test(caller_sleeps_while_others_finish),
        cmocka_unit_test(a_worker_leaves_the_core_that_its_caller_is_kept_on),
        cmocka_unit_test(senseless_thread_counts_are_refused),
        cmocka_unit_test(each_failed_allocation_is_a_clean_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
