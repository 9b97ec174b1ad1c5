/* safe_header.h: the JSON header of a safetensors file as a table. A parser of its own, for it must be strict
 * where JSON libraries are kind (whole numbers, duplicates) and small where they are large: what it allocates
 * is bounded by the header's length. */
#ifndef MODELFILE_SAFE_HEADER_H
#define MODELFILE_SAFE_HEADER_H
#include "modelfile/modelfile.h"

struct safe_entry {
    char *name; /* owned, unescaped, NUL-terminated, without NUL inside */
    int dtype;  /* row of safe_dtype */
    int n_dims;
    uint64_t shape[8];
    uint64_t begin, end; /* from the start of the data */
};

struct safe_entries {
    struct safe_entry *e;
    size_t n, cap;
};

/* The format's own types: name, bits a value, and plm's number for it or -1. */
struct safe_dtype {
    const char *name;
    unsigned bits;
    int type;
};
extern const struct safe_dtype safe_dtypes[];

plm_status safe_header_parse(struct safe_entries *out, const char *text, size_t len, const char *file,
                             plm_error *err);
void safe_entries_free(struct safe_entries *s);
#endif
