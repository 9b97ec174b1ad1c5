/* fuzz.h: what each fuzz_NAME.c defines: int fuzz_NAME(data, size), which gives arbitrary bytes to one
 * parser, uses what it returned, frees it and returns 0. It asserts what must hold for any input. It is
 * linked with libFuzzer (preset fuzz), and in every build with replay.c, which runs fuzz/corpus/NAME through
 * it. */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H
#include <stddef.h>
#include <stdint.h>

int fuzz_jsonl(const uint8_t *data, size_t size);
int fuzz_words(const uint8_t *data, size_t size);
int fuzz_gguf(const uint8_t *data, size_t size);
int fuzz_safetensors(const uint8_t *data, size_t size);
int fuzz_adapter(const uint8_t *data, size_t size);
int fuzz_token(const uint8_t *data, size_t size);
int fuzz_git(const uint8_t *data, size_t size);
int fuzz_jsonl_import(const uint8_t *data, size_t size);
int fuzz_markdown(const uint8_t *data, size_t size);
int fuzz_reply(const uint8_t *data, size_t size);
int fuzz_server(const uint8_t *data, size_t size);
int fuzz_eval(const uint8_t *data, size_t size);

/* The bytes as a file, for parsers that take a path; the same path on each call. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* A promise of the code under test: stops the program where it does not hold, in every build. */
#define PROMISE(what) ((what) ? (void)0 : __builtin_trap())
#endif
