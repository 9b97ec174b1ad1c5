/* names.h: finds things by name: a sorted index, so that a file full of chosen names costs n log n
 * and never n * n. The names are borrowed. */
#ifndef MODELFILE_NAMES_H
#define MODELFILE_NAMES_H
#include "base/base.h"

struct names {
    struct name_slot {
        struct str name;
        size_t at;
    } * slot;
    size_t n;
};

/* slot[0..n) is filled by the caller between these two. */
bool names_open(struct names *x, size_t n); /* false: no memory */
void names_sort(struct names *x);
void names_close(struct names *x);
/* Two slots of the same name: the name's later place; SIZE_MAX: all differ. */
size_t names_twice(const struct names *x);
size_t names_find(const struct names *x, struct str name); /* SIZE_MAX: absent */
#endif
