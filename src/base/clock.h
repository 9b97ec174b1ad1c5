/* clock.h: wall and monotonic time; tests can replace the wall clock. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H
#include <pthread.h>
#include <stdint.h>
#include <stddef.h>
int64_t clock_wall(void);        /* seconds since 1970 */
double clock_now(void);          /* monotonic seconds */
void clock_freeze(int64_t wall); /* tests: clock_wall returns this; 0: real again */
/* A condition that is waited on by clock_now's clock: one that is set back must not make a waiter sleep. */
void clock_cond_init(pthread_cond_t *c);
/* Until somebody signals it or the time is over. */
void clock_cond_wait(pthread_cond_t *c, pthread_mutex_t *locked, double seconds);
void clock_iso(int64_t wall, char out[21]); /* "2026-01-02T03:04:05Z" */
uint64_t process_rss(void);                 /* resident bytes now, 0 if unknown */
uint64_t process_peak_rss(void);
uint64_t process_anonymous(void); /* resident bytes that are not file pages */
#endif
