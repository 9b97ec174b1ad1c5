#include "support_lora.h"
#include <ftw.h>
#include <unistd.h>

struct lora_shape small_shape(void) {
    return (struct lora_shape){.layers = 2,
                               .in = {16, 16, 16, 16, 16, 16, 24},
                               .out = {16, 8, 8, 16, 24, 24, 16},
                               .arch = "llama",
                               .permute_q = 4,
                               .permute_k = 2};
}

struct lora *load(const char *path, const struct lora_shape *s) {
    plm_error err = {0};
    struct lora *l = NULL;
    if (lora_load(&l, s, path, &err))
        fail_msg("%s", err.text);
    return l;
}

void save_gguf(const struct lora *l, const char *path) {
    plm_error err = {0};
    if (lora_save_gguf(l, path, &err))
        fail_msg("%s", err.text);
}

void assert_same_values(const struct lora *a, const struct lora *b) {
    assert_int_equal(a->layers, b->layers);
    assert_int_equal(a->rank, b->rank);
    assert_int_equal(a->targets, b->targets);
    assert_int_equal(a->parameters, b->parameters);
    assert_memory_equal(a->values, b->values, a->parameters * sizeof(float));
}

static char folder[64];

const char *temp_path(const char *name) {
    static char path[4][200];
    static int turn;
    if (!folder[0]) {
        strcpy(folder, "/tmp/plm-test-XXXXXX");
        assert_non_null(mkdtemp(folder));
    }
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info, (void)kind, (void)where;
    return remove(path);
}

void temp_clear(void) {
    if (folder[0])
        nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    folder[0] = 0;
}
