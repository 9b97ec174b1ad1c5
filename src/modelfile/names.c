/* names.c: the sorted index of names. */
#include "modelfile/names.h"
#include <stdlib.h>
#include <string.h>

static int str_order(struct str a, struct str b) {
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int slot_order(const void *a, const void *b) {
    const struct name_slot *x = a, *y = b;
    int c = str_order(x->name, y->name);
    return c ? c : (x->at > y->at) - (x->at < y->at);
}

bool names_open(struct names *x, size_t n) {
    x->n = n;
    x->slot = n ? mem_zero(n, sizeof *x->slot) : NULL;
    return !n || x->slot;
}

void names_sort(struct names *x) {
    if (x->n)
        qsort(x->slot, x->n, sizeof *x->slot, slot_order);
}

void names_close(struct names *x) {
    mem_free(x->slot);
    *x = (struct names){0};
}

size_t names_twice(const struct names *x) {
    for (size_t i = 1; i < x->n; i++)
        if (str_order(x->slot[i - 1].name, x->slot[i].name) == 0)
            return x->slot[i].at;
    return SIZE_MAX;
}

size_t names_find(const struct names *x, struct str name) {
    size_t from = 0, to = x->n;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        int c = str_order(name, x->slot[mid].name);
        if (c == 0)
            return x->slot[mid].at;
        if (c < 0)
            to = mid;
        else
            from = mid + 1;
    }
    return SIZE_MAX;
}
