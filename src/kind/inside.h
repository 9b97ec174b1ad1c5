/* inside.h: the built-in table, shared by the files of kind/. */
#ifndef KIND_INSIDE_H
#define KIND_INSIDE_H
#include "kind/kind.h"

extern const plm_kind kind_table[];
extern const size_t n_kind_table;
/* The line of a key of the number-th object (from 1) of a list of objects; key NULL or not there: of the
 * object. */
size_t kind_line(const char *text, size_t number, const char *key);
#endif
