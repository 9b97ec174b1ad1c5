/* make_tiny_model.c: the tiny random model of the tests, as a file for whoever wants to try a command:
 * make-tiny-model OUT.gguf [--arch llama|qwen2] [--type Q4_1] [--seed N] [--layers N] [--width N] [--context
 * N] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../tests/tiny_model.h"

static int misuse(void) {
    fputs("usage: make-tiny-model OUT.gguf [--arch llama|qwen2] [--type Q4_1] [--seed N] [--layers N] "
          "[--width N]\n"
          "                       [--context N]\n",
          stderr);
    return 2;
}

static int type_of(const char *name) {
    for (int i = 0; i < DT_LIMIT; i++)
        if (dtype_of(i) && strcmp(dtype_of(i)->name, name) == 0)
            return i;
    return -1;
}

int main(int argc, char **argv) {
    struct tiny_model m = {0};
    const char *out = NULL;
    for (int i = 1; i < argc; i++) {
        int64_t n = 0;
        if (argv[i][0] != '-') {
            if (out)
                return misuse();
            out = argv[i];
            continue;
        }
        const char *option = argv[i], *value = i + 1 < argc ? argv[++i] : "";
        bool number = parse_i64(str_of(value), &n) && n >= 0 && n <= 1 << 20;
        if (strcmp(option, "--arch") == 0)
            m.arch = value;
        else if (strcmp(option, "--type") == 0 && type_of(value) >= 0)
            m.type = type_of(value);
        else if (strcmp(option, "--seed") == 0 && number)
            m.seed = (uint64_t)n;
        else if (strcmp(option, "--layers") == 0 && number)
            m.layers = (int)n;
        else if (strcmp(option, "--width") == 0 && number)
            m.width = (int)n;
        else if (strcmp(option, "--context") == 0 && number)
            m.context = (int)n;
        else
            return misuse();
    }
    if (!out)
        return misuse();
    plm_error err;
    if (tiny_model_write(out, &m, &err)) {
        fprintf(stderr, "make-tiny-model: %s\n", err.text);
        return 1;
    }
    return 0;
}
