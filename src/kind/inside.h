/* inside.h: the built-in table, shared by the files of kind/. */
#ifndef KIND_INSIDE_H
#define KIND_INSIDE_H
#include "kind/kind.h"

extern const plm_kind kind_table[];
extern const size_t n_kind_table;
#endif
