/* support_gen.h: tiny models for tests of sessions: a random one, and one that writes a given text. */
#ifndef SUPPORT_GEN_H
#define SUPPORT_GEN_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include "base/base.h"
#include "model/model.h"
#include "tiny_model.h"
#include <cmocka.h> /* last: its fail() is a macro */

void assert_ok(plm_status st, const plm_error *err);
plm_model *open_random(const struct tiny_model *spec, int threads);
/* After '!' it writes the bytes of text, one a token, each byte at most once, and then the end token. */
plm_model *open_scripted(const char *text);
plm_session *open_session(const plm_model *m, int context);
/* n ids that a seed gives, none of them control. */
void random_ids(const plm_model *m, int32_t *ids, int n, uint64_t seed);
/* An adapter with random A and B. */
plm_adapter *random_adapter(const plm_model *m, uint64_t seed);
#endif
