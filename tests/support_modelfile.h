/* support_modelfile.h: what tests of the file readers share. */
#ifndef TESTS_SUPPORT_MODELFILE_H
#define TESTS_SUPPORT_MODELFILE_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "gguf_bytes.h"
#include "modelfile/modelfile.h"

/* Parses an exact heap copy, so that one byte read too far is seen; expects a refusal with this status whose
 * sentence holds these words and names the file, and nothing set or left allocated. Frees r. */
void refuse_gguf(struct raw *r, plm_status st, const char *words);
void refuse_safetensors(const void *data, size_t n, plm_status st, const char *words);

/* A path in a folder of this process's own, removed by temp_clear. */
const char *temp_path(const char *name);
void temp_clear(void);

/* Runs what with mem_fail_at(1), (2) ... until it returns PLM_OK; every other answer must be PLM_ENOMEM.
 * Once with single failures, once with all allocations failing from the n-th on. Returns the allocations
 * made. */
long fail_each_allocation(plm_status (*what)(void *ctx, plm_error *err), void *ctx);

/* Peak memory of a call over what the process had before, in a child of its own. SIZE_MAX: the child died. */
size_t peak_of(void (*what)(void *ctx), void *ctx);
/* Before tests of memory: under a sanitizer its own is not the question. */
void skip_if_sanitized(void);
#endif
