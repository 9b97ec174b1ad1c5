/* Allocation, arenas, clocks, the processor and hashes. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "base/mem.h"

static void sizes_that_overflow_are_refused(void **state) {
    (void)state;
    size_t out;
    assert_null(mem_alloc(SIZE_MAX / 2, 3));
    assert_null(mem_zero(SIZE_MAX, 2));
    assert_null(mem_aligned(SIZE_MAX, 1));
    assert_null(mem_grow(NULL, SIZE_MAX / 8, 16));
    assert_null(mem_alloc((size_t)PTRDIFF_MAX + 1, 1));
    assert_false(mul_size(SIZE_MAX, 2, &out) || add_size(SIZE_MAX, 1, &out));
    assert_true(mul_size(3, 4, &out) && out == 12);
}

static void nothing_is_still_a_pointer(void **state) {
    (void)state;
    void *p[] = {mem_alloc(0, 8), mem_zero(8, 0), mem_aligned(0, 0), mem_dup("", 0)};
    for (int i = 0; i < 4; i++) {
        assert_non_null(p[i]);
        mem_free(p[i]);
    }
    mem_free(NULL);
}

static void aligned_memory_is_aligned_and_zero(void **state) {
    (void)state;
    for (size_t n = 1; n < 300; n += 37) {
        unsigned char *p = mem_aligned(n, 1);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xaa, n);
        mem_free(p);
    }
}

static void the_chosen_allocation_fails(void **state) {
    (void)state;
    long before = mem_count();
    mem_fail_at(2, false);
    void *a = mem_alloc(1, 1), *b = mem_zero(1, 1), *c = mem_aligned(1, 1);
    assert_true(a && !b && c);
    assert_int_equal(mem_count() - before, 3);
    mem_fail_at(2, true);
    void *d = mem_dupz("x"), *e = mem_dup("y", 1), *f = mem_grow(NULL, 1, 1);
    assert_true(d && !e && !f);
    mem_fail_at(0, false);
    void *g = mem_alloc(1, 1);
    assert_non_null(g);
    mem_free(a);
    mem_free(c);
    mem_free(d);
    mem_free(g);
}

static void arena_gives_aligned_zeroed_room_until_it_is_full(void **state) {
    (void)state;
    struct arena a;
    assert_int_equal(arena_open(&a, 1024, NULL), PLM_OK);
    unsigned char *p = arena_take(&a, 3, 5), *q = arena_take(&a, 64, 1);
    assert_true((uintptr_t)p % 64 == 0 && q == p + 64);
    size_t mark = arena_mark(&a);
    assert_int_equal(mark, arena_need(3, 5) + arena_need(64, 1));
    assert_null(arena_take(&a, 897, 1));
    assert_null(arena_take(&a, SIZE_MAX, 2));
    assert_null(arena_take(&a, SIZE_MAX, 1));
    unsigned char *r = arena_take(&a, 896, 1);
    for (size_t i = 0; i < 896; i++)
        assert_int_equal(r[i], 0);
    arena_reset(&a, mark);
    assert_ptr_equal(arena_take(&a, 1, 1), r);
    assert_int_equal(a.peak, 1024);
    arena_close(&a);
    plm_error err;
    assert_int_equal(arena_open(&a, SIZE_MAX - 5, &err), PLM_ENOMEM);
    arena_close(&a);
}

static void memory_planned_but_not_taken_is_not_resident(void **state) {
    (void)state;
    struct arena a;
    uint64_t before = process_anonymous();
    assert_int_equal(arena_open(&a, (size_t)256 << 20, NULL), PLM_OK);
    memset(arena_take(&a, 1 << 20, 1), 1, 1 << 20);
    uint64_t more = process_anonymous() - before;
    assert_true(more >= 1 << 20);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(more < 16 << 20);
#endif
    arena_close(&a);
}

static void clocks_run_and_can_be_stopped(void **state) {
    (void)state;
    char text[21];
    double from = clock_now();
    assert_true(clock_wall() > 1600000000);
    clock_freeze(1767323045);
    assert_int_equal(clock_wall(), 1767323045);
    clock_iso(clock_wall(), text);
    assert_string_equal(text, "2026-01-02T03:04:05Z");
    clock_freeze(0);
    clock_iso(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00Z");
    clock_iso(951782400, text);
    assert_string_equal(text, "2000-02-29T00:00:00Z");
    clock_iso(INT64_MAX, text);
    assert_string_equal(text, "0000-00-00T00:00:00Z");
    clock_iso(-62135596800, text);
    assert_string_equal(text, "0001-01-01T00:00:00Z");
    assert_true(clock_now() >= from && clock_now() - from < 10);
}

static void process_memory_is_measured(void **state) {
    (void)state;
    assert_true(process_rss() > 100000 && process_peak_rss() > 100000);
    uint64_t before = process_rss();
    char *p = mem_alloc(32 << 20, 1);
    memset(p, 1, 32 << 20);
    assert_true(process_rss() - before > 24 << 20);
    assert_true(process_peak_rss() - before > 24 << 20);
    mem_free(p);
}

static void cores_are_those_of_the_affinity(void **state) {
    (void)state;
    cpu_set_t old, one;
    assert_int_equal(sched_getaffinity(0, sizeof old, &old), 0);
    int all = cpu_cores();
    assert_true(all >= 1 && all <= CPU_COUNT(&old));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++) {
        if (CPU_ISSET(i, &old))
            CPU_SET(i, &one);
    }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(cpu_cores(), 1);
    sched_setaffinity(0, sizeof old, &old);
    assert_int_equal(cpu_cores(), all);
    assert_true(strlen(cpu_name()) > 0 && cpu_memory() > 1 << 20);
}

static void features_are_those_the_compiler_sees(void **state) {
    (void)state;
#if defined(__x86_64__)
    unsigned f = cpu_features();
    assert_int_equal(!!(f & CPU_AVX2), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"));
    assert_int_equal(!!(f & CPU_FMA), !!__builtin_cpu_supports("fma"));
    assert_int_equal(!!(f & CPU_AVX512),
                     __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"));
    assert_int_equal(!!(f & CPU_VNNI), !!__builtin_cpu_supports("avx512vnni"));
    assert_int_equal(!!(f & CPU_VBMI), !!__builtin_cpu_supports("avx512vbmi"));
#elif defined(__aarch64__)
    assert_true(cpu_features() & CPU_NEON);
#endif
}

static void hashes_are_sha256(void **state) {
    (void)state;
    char hex[65], path[] = "/tmp/plm-hash-XXXXXX";
    static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    sha256_of("abc", 3, hex);
    assert_string_equal(hex, abc);
    sha256_of("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    struct sha256 h;
    sha256_start(&h);
    sha256_add(&h, "a", 1);
    sha256_add(&h, "bc", 2);
    sha256_hex(&h, hex);
    assert_string_equal(hex, abc);
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "abc", 3), 3);
    close(fd);
    memset(hex, 0, sizeof hex);
    assert_int_equal(sha256_file(path, hex, NULL), PLM_OK);
    assert_string_equal(hex, abc);
    mem_fail_at(1, false);
    assert_int_equal(sha256_file(path, hex, NULL), PLM_ENOMEM);
    mem_fail_at(0, false);
    unlink(path);
    assert_int_equal(sha256_file(path, hex, NULL), PLM_ENOTFOUND);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(sha256_file(path, hex, NULL), PLM_EINVAL);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(nothing_is_still_a_pointer),
        cmocka_unit_test(aligned_memory_is_aligned_and_zero),
        cmocka_unit_test(the_chosen_allocation_fails),
        cmocka_unit_test(arena_gives_aligned_zeroed_room_until_it_is_full),
        cmocka_unit_test(memory_planned_but_not_taken_is_not_resident),
        cmocka_unit_test(clocks_run_and_can_be_stopped),
        cmocka_unit_test(process_memory_is_measured),
        cmocka_unit_test(cores_are_those_of_the_affinity),
        cmocka_unit_test(features_are_those_the_compiler_sees),
        cmocka_unit_test(hashes_are_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
