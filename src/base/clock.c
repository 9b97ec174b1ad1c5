/* clock.c: time, and the memory of this process as the kernel counts it. */
#include "base/clock.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t frozen;

int64_t clock_wall(void) {
    int64_t fixed = atomic_load(&frozen);
    return fixed ? fixed : (int64_t)time(NULL);
}

double clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void clock_freeze(int64_t wall) {
    atomic_store(&frozen, wall);
}

void clock_cond_init(pthread_cond_t *c) {
    pthread_condattr_t steady;
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(c, &steady);
    pthread_condattr_destroy(&steady);
}

void clock_cond_wait(pthread_cond_t *c, pthread_mutex_t *locked, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (int64_t)(seconds * 1e9);
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    pthread_cond_timedwait(c, locked, &until);
}

void clock_iso(int64_t wall, char out[21]) {
    time_t t = (time_t)wall;
    struct tm tm;
    char text[96];
    if (wall < -62167219200 || wall > 253402300799 || !gmtime_r(&t, &tm)) /* years 0000 to 9999 have a form */
        tm = (struct tm){.tm_year = -1900, .tm_mon = -1};
    snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1,
             tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    memcpy(out, text, 20);
    out[20] = 0;
}

/* The kB after key in a /proc file, as bytes; 0 if there is none. */
static uint64_t proc_kb(const char *path, const char *key) {
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    const char *at = strstr(text, key);
    return at ? strtoull(at + strlen(key), NULL, 10) * 1024 : 0;
}

uint64_t process_rss(void) {
    return proc_kb("/proc/self/status", "\nVmRSS:");
}

uint64_t process_peak_rss(void) {
    return proc_kb("/proc/self/status", "\nVmHWM:");
}

uint64_t process_anonymous(void) {
    uint64_t exact = proc_kb("/proc/self/smaps_rollup", "\nAnonymous:");
    return exact ? exact : proc_kb("/proc/self/status", "\nRssAnon:");
}
