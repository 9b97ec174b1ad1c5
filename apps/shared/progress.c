/* progress.c: one line on stderr, written over again, with the time that is left. */
#include "shared/progress.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

void progress_start(struct progress *p, bool quiet, const char *label) {
    *p = (struct progress){.label = label, .start = clock_now(), .on = !quiet && isatty(STDERR_FILENO)};
}

static void format_left(char out[32], double seconds) {
    if (seconds < 90)
        snprintf(out, 32, "%.0f s left", seconds);
    else
        snprintf(out, 32, "%.0f min left", ceil(seconds / 60));
}

void progress_at(struct progress *p, double done, double total, const char *note) {
    double now = clock_now(), share = total > 0 ? done / total : 0;
    if (!p->on || (now - p->shown < 0.1 && done < total))
        return;
    p->shown = now;
    char bar[25], left[32] = "";
    int full = (int)(share * 24);
    for (int i = 0; i < 24; i++)
        bar[i] = i < full ? '=' : i == full ? '>' : ' ';
    bar[24] = 0;
    if (share > 0.01 && share < 1)
        format_left(left, (now - p->start) * (1 - share) / share);
    fprintf(stderr, "\r%-22.22s [%s] %3.0f%%  %s  %.40s\033[K", p->label, bar, share * 100, left,
            note ? note : "");
    fflush(stderr);
}

void progress_end(struct progress *p) {
    if (p->on)
        fprintf(stderr, "\r\033[K");
}
