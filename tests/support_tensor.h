/* Shared by the tests of tensor/: tables, matrices of every format from random numbers, and a stage to run
 * ops on. */
#ifndef SUPPORT_TENSOR_H
#define SUPPORT_TENSOR_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "kern/kern.h"
#include "tensor/tensor.h"

#include <cmocka.h> /* last: it has a macro called fail */

struct stage {
    struct ops ops;
    struct arena arena;
};
/* Threads 1: no pool. */
void stage_open(struct stage *s, const struct kern *k, enum precision precision, int threads, int T,
                int width);
void stage_close(struct stage *s);

float *random_floats(struct rng *r, size_t n, float scale);
float *zeros(size_t n);
/* A matrix of any format that computes; its bytes are freed by mem_free((void *)m.data). */
struct matrix random_matrix(struct rng *r, enum dtype type, int out, int in);
float *matrix_floats(const struct matrix *w); /* [out, in] */

/* |a - b| / |b| as vectors. */
double distance(const float *a, const float *b, size_t n);
void assert_close(const float *a, const float *b, size_t n, double most);

extern const enum dtype every_type[];
extern const int n_types;
#endif
