/* clock.h: wall and monotonic time; tests can replace the wall clock. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H
#include <stdint.h>
#include <stddef.h>
int64_t clock_wall(void);                   /* seconds since 1970 */
double clock_now(void);                     /* monotonic seconds */
void clock_freeze(int64_t wall);            /* tests: clock_wall returns this; 0: real again */
void clock_iso(int64_t wall, char out[21]); /* "2026-01-02T03:04:05Z" */
uint64_t process_rss(void);                 /* resident bytes now, 0 if unknown */
uint64_t process_peak_rss(void);
uint64_t process_anonymous(void); /* resident bytes that are not file pages */
#endif
