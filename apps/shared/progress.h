/* progress.h: how far a long command is. */
#ifndef SHARED_PROGRESS_H
#define SHARED_PROGRESS_H
#include "base/base.h"

/* A bar with time left, on stderr and only on a terminal. */
struct progress {
    const char *label;
    double start, shown;
    bool on;
};
void progress_start(struct progress *p, bool quiet, const char *label);
void progress_at(struct progress *p, double done, double total, const char *note); /* note may be NULL */
void progress_end(struct progress *p);                                             /* clears the line */
#endif
