/* program.h: inside import/. A program run without a shell, its output read piece by piece up to NUL bytes.
 */
#ifndef IMPORT_PROGRAM_H
#define IMPORT_PROGRAM_H
#include "base/base.h"

struct program {
    int out, talk; /* its standard output; a memory file with its standard error */
    long pid;
    char buf[1 << 16];
    size_t from, to;
    bool ended;
};

/* argv ends with NULL; argv[0] is looked for in PATH. */
plm_status program_start(struct program **out, char *const *argv, plm_error *err);
/* The bytes before the next NUL. More than max: cut there, *whole false. *more false: the output has ended.
 */
plm_status program_piece(struct program *p, size_t max, struct bytes *piece, bool *whole, bool *more,
                         plm_error *err);
/* Waits for its end; killed first unless its output was read to the end. *status is its exit status, -1 for a
 * signal; talk (may be NULL) gets the first line of its standard error. */
void program_end(struct program *p, int *status, char talk[256]);
#endif
