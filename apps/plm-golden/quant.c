/* quant.c: blocks of each GGUF type against the f32 they mean, and the quantisers against stored blocks.
 * Types that plm does not convert are left out of both. */
#include "golden.h"
#include "modelfile/modelfile.h"
#include <stdio.h>
#include <string.h>

static int bytes_that_differ(const void *a, const void *b, size_t n) {
    const unsigned char *p = a, *q = b;
    int wrong = 0;
    for (size_t i = 0; i < n; i++)
        wrong += p[i] != q[i];
    return wrong;
}

static const struct safe_tensor *find(const struct safetensors *s, const char *type, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", type, what);
    return safetensors_find(s, name);
}

static plm_status check_type(struct golden *g, const struct safetensors *s, const struct dtype_info *info,
                             plm_error *err) {
    const struct safe_tensor *f32 = find(s, info->name, "f32"), *blocks = find(s, info->name, "blocks");
    const struct safe_tensor *source = safetensors_find(s, "source.f32");
    char check[64];
    if (!f32 || !blocks || !info->to_f32)
        return PLM_OK;
    size_t n = f32->bytes / sizeof(float);
    if (n % (size_t)info->block || blocks->bytes != n / (size_t)info->block * (size_t)info->bytes) {
        return fail(err, PLM_EFORMAT, "%s.blocks does not have the size of %zu weights", info->name, n);
    }
    float *made = mem_aligned(n, sizeof *made);
    void *made_blocks = mem_aligned(blocks->bytes, 1), *in = mem_aligned(blocks->bytes, 1);
    plm_status st =
        made && made_blocks && in ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for %s", info->name);
    if (!st) {
        memcpy(in, blocks->data, blocks->bytes);
        info->to_f32(made, in, n);
        snprintf(check, sizeof check, "quant.dequantise.%s", info->name);
        report_most(g, check, bytes_that_differ(made, f32->data, f32->bytes), 0);
    }
    /* Only the simple types have their blocks made from source.f32; a k-quant's are random. */
    bool simple = info->block == 32 || info->block == 1;
    if (!st && info->from_f32 && simple && source && source->bytes == f32->bytes) {
        memcpy(made, source->data, source->bytes);
        info->from_f32(made_blocks, made, n);
        snprintf(check, sizeof check, "quant.quantise.%s", info->name);
        report_most(g, check, bytes_that_differ(made_blocks, blocks->data, blocks->bytes), 0);
    }
    mem_free(made);
    mem_free(made_blocks);
    mem_free(in);
    return st;
}

plm_status check_quant(struct golden *g, plm_error *err) {
    char path[4096];
    struct safetensors *s = NULL;
    path_of(g, path, "quant", "", ".safetensors");
    plm_status st = safetensors_open(&s, path, err);
    for (int type = 0; !st && type < DT_LIMIT; type++) {
        const struct dtype_info *info = dtype_of(type);
        if (info && info->name)
            st = check_type(g, s, info, err);
    }
    safetensors_close(s);
    return st;
}
