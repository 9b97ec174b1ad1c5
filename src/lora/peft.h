/* peft.h: the names in a PEFT folder, for its reader and its writer. */
#ifndef LORA_PEFT_H
#define LORA_PEFT_H
#include "lora/build.h"

#define PEFT_CONFIG "adapter_config.json"
#define PEFT_TENSORS "adapter_model.safetensors"
#define PEFT_WORDS "plm.json"

/* A tree of JSON is many times its text: 1 KB is usual, this bounds what a hostile one costs. */
enum { PEFT_TEXT_MAX = 256 << 10 };

plm_status peft_path(char **out, const char *dir, const char *name, plm_error *err); /* freed with mem_free */
#endif
