/* fuzz_safetensors.c: bytes as a safetensors file: its tensors cover the data exactly, or it is refused. */
#include "fuzz.h"

#include <string.h>

#include "modelfile/modelfile.h"

int fuzz_safetensors(const uint8_t *data, size_t size) {
    struct safetensors *s = NULL;
    plm_error err = {0};
    plm_status st = safetensors_parse(&s, data, size, "fuzz", &err);
    PROMISE((st == PLM_OK) == (s != NULL));
    PROMISE(!st || (st == err.code && strncmp(err.text, "fuzz: ", 6) == 0));
    if (st)
        return 0;
    size_t covered = 0, header = 8;
    for (int i = 0; i < 8; i++)
        header += (size_t)data[i] << (8 * i);
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const struct safe_tensor *t = safetensors_at(s, i);
        const uint8_t *at = t->data;
        PROMISE(t->name[0] && safetensors_find(s, t->name) == t && t->n_dims >= 0 && t->n_dims <= 8);
        PROMISE(at >= data + header && t->bytes <= (size_t)(data + size - at));
        covered += t->bytes;
    }
    PROMISE(covered == size - header);
    safetensors_close(s);
    return 0;
}
