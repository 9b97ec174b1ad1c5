/* support_lora.h: the small adapter of tests/data/modelfile, and adapters made byte by byte. */
#ifndef TESTS_SUPPORT_LORA_H
#define TESTS_SUPPORT_LORA_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "gguf_bytes.h"
#include "lora/lora.h"

#define GGUF_ADAPTER PLM_TEST_DATA "/modelfile/adapter.gguf"
#define PEFT_ADAPTER PLM_TEST_DATA "/modelfile/adapter"

/* Two layers of width 16, 4 heads, 2 for keys, ffn 24, of the llama family. */
struct lora_shape small_shape(void);
struct lora *load(const char *path, const struct lora_shape *s);
void save_gguf(const struct lora *l, const char *path);
void assert_same_values(const struct lora *a, const struct lora *b);
const char *temp_path(const char *name); /* in a folder of this process's own */
void temp_clear(void);
#endif
