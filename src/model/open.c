/* open.c: a model's life from file to close, what it says of itself, and its hash. The file stays mapped and
 * is never written. A hash is of the bytes that are mapped: a file replaced since is an error, not another
 * hash. */
#include "model/inside.h"
#include "base/hash.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static plm_status keep_text(char **out, struct str text, plm_error *err) {
    *out = mem_dup(text.p ? text.p : "", text.n);
    return *out ? PLM_OK : fail(err, PLM_ENOMEM, "no memory to open the model");
}

static void describe(plm_model *m) {
    const struct config *c = &m->cfg;
    plm_model_facts *f = &m->facts;
    f->arch = c->arch;
    f->name = m->name;
    f->path = m->path;
    f->types = m->types;
    f->chat_template = m->chat ? chat_name(m->chat) : NULL;
    f->weak_template = m->chat && chat_is_weak(m->chat);
    f->cpu = ops_kernel_name(m->kern);
    f->vocab = c->vocab;
    f->width = c->width;
    f->ffn_width = c->ffn;
    f->layers = c->layers;
    f->heads = c->heads;
    f->kv_heads = c->kv_heads;
    f->head_width = c->head_width;
    f->context = c->context;
    f->threads = pool_threads(m->pool);
    f->file_bytes = gguf_map(m->file)->size;

    m->shape = (struct lora_shape){.layers = c->layers, .arch = c->arch};
    for (int i = 0; i < LORA_LINEARS; i++) {
        m->shape.in[i] = linear_in(c, i);
        m->shape.out[i] = linear_out(c, i);
    }
    if (c->permuted) {
        m->shape.permute_q = c->heads;
        m->shape.permute_k = c->kv_heads;
    }
}

static plm_status open_parts(plm_model *m, const plm_model_options *opt, plm_error *err) {
    struct str type = {0}, name = {0};
    bool found;
    plm_status st = gguf_open(&m->file, m->path, err);
    if (!st)
        st = gguf_string(m->file, "general.type", &type, &found, err);
    if (!st && found && !str_eq(type, "model")) {
        st = fail(err, PLM_EFORMAT, "it holds %s %.*s, not a model",
                  strchr("aeiou", type.n ? type.p[0] : ' ') ? "an" : "a", (int)(type.n < 40 ? type.n : 40),
                  type.p);
    }
    if (!st)
        st = gguf_string(m->file, "general.name", &name, &found, err);
    if (!st)
        st = keep_text(&m->name, name, err);
    const struct family *family = NULL;
    if (!st)
        st = config_read(&m->cfg, &family, m->file, err);
    if (!st)
        st = weights_bind(m, family, err);
    if (!st && !opt->no_repack && !ops_kernel_exact(m->kern))
        st = weights_keep_units(m, err);
    if (!st)
        st = vocab_open(&m->vocab, m->file, err);
    if (!st && vocab_size(m->vocab) != m->cfg.vocab) {
        st = fail(err, PLM_EFORMAT, "the vocabulary has %d tokens, but token_embd.weight %d rows",
                  vocab_size(m->vocab), m->cfg.vocab);
    }
    if (!st)
        st = chat_open(&m->chat, m->vocab, m->file, opt->chat_template, err);
    return st;
}

plm_status plm_model_open(plm_model **out, const char *path, const plm_model_options *opt, plm_error *err) {
    static const plm_model_options defaults;
    if (!out || !path)
        return fail(err, PLM_EINVAL, "plm_model_open needs a place for the model and a path");
    if (!opt)
        opt = &defaults;
    if (opt->threads < 0)
        return fail(err, PLM_EINVAL, "%d threads are impossible", opt->threads);
    plm_model *m = mem_zero(1, sizeof *m);
    if (!m)
        return fail(err, PLM_ENOMEM, "no memory to open the model");
    pthread_mutex_init(&m->lock, NULL);
    plm_status st = ops_kernels(&m->kern, opt->cpu, err);
    if (!st)
        st = keep_text(&m->path, str_of(path), err);
    if (!st && opt->digest_cache)
        st = keep_text(&m->digest_cache, str_of(opt->digest_cache), err);
    if (!st) {
        plm_error own = {0};
        st = open_parts(m, opt, &own);
        // Errors of reading name the file already.
        if (st && strncmp(own.text, path, strlen(path)) != 0)
            fail(err, st, "%s: %s", path, own.text);
        else if (st)
            fail(err, st, "%s", own.text);
    }
    if (!st)
        st = pool_open(&m->pool, opt->threads, err);
    if (st) {
        plm_model_close(m);
        return st;
    }
    describe(m);
    *out = m;
    return PLM_OK;
}

void plm_model_close(plm_model *m) {
    if (!m)
        return;
    pool_close(m->pool);
    mem_free(m->profile);
    chat_close(m->chat);
    vocab_close(m->vocab);
    weights_free(m);
    gguf_close(m->file);
    mem_free(m->name);
    mem_free(m->path);
    mem_free(m->digest_cache);
    pthread_mutex_destroy(&m->lock);
    mem_free(m);
}

const plm_model_facts *plm_model_describe(const plm_model *m) {
    return &m->facts;
}

plm_status plm_model_ceilings(const plm_model *m, plm_ceilings *out, plm_error *err) {
    struct ceilings c;
    plm_status st = ops_ceilings(&c, m->kern, m->pool, err);
    if (st == PLM_OK)
        *out = (plm_ceilings){c.f32, c.bf16, c.int8, c.read};
    return st;
}

plm_status plm_model_profile(plm_model *m, plm_error *err) {
    mem_free(m->profile);
    m->profile = mem_zero(1, sizeof *m->profile);
    return m->profile ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a profile");
}

size_t plm_model_times(const plm_model *m, plm_op_time *out, size_t cap) {
    for (size_t i = 0; m->profile && i < OP_KINDS && i < cap; i++) {
        const struct op_cost *c = &m->profile->cost[i];
        out[i] = (plm_op_time){op_name[i], c->calls, c->seconds, c->operations, c->bytes};
    }
    return m->profile ? OP_KINDS : 0;
}

/* ---- the hash, and the file that remembers it ----
 * A line a model: "device inode size mtime-in-ns header-sha256 file-sha256". It is a cache: a line or file
 * that can't be read is as good as none, and one that can't be written costs only time. */

enum { CACHE_LINES = 200, CACHE_BYTES = 1 << 16, CACHE_LINE = 256 };

static void cache_key(const plm_model *m, char key[CACHE_LINE]) {
    const struct map *map = gguf_map(m->file);
    char header[65];
    sha256_of(map->data, gguf_data_at(m->file), header);
    snprintf(key, CACHE_LINE, "%" PRId64 " %" PRId64 " %zu %" PRId64 " %s ", map->dev, map->ino, map->size,
             map->mtime_ns, header);
}

static bool is_hex64(struct str s) {
    if (s.n != 64)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!strchr("0123456789abcdef", s.p[i]))
            return false;
    }
    return true;
}

static bool cache_find(const char *path, const char *key, char hex[65]) {
    struct bytes file;
    bytes_init(&file, CACHE_BYTES);
    bool found = false;
    if (!file_read(path, CACHE_BYTES, &file, NULL)) {
        struct str rest = {file.data, file.len}, line;
        while (!found && str_cut(&rest, '\n', &line)) {
            if (!str_starts(line, key))
                continue;
            struct str hash = {line.p + strlen(key), line.n - strlen(key)};
            found = is_hex64(hash);
            if (found)
                memcpy(hex, hash.p, 64), hex[64] = 0;
        }
    }
    bytes_free(&file);
    return found;
}

/* The new line first, then the old ones of other files. */
static void cache_store(const char *path, const char *key, const char *hex) {
    struct bytes old, text;
    bytes_init(&old, CACHE_BYTES);
    bytes_init(&text, CACHE_BYTES);
    bytes_printf(&text, "%s%s\n", key, hex);
    if (!file_read(path, CACHE_BYTES, &old, NULL)) {
        struct str rest = {old.data, old.len}, line;
        for (int n = 1; n < CACHE_LINES && str_cut(&rest, '\n', &line);) {
            if (!line.n || line.n > CACHE_LINE || str_starts(line, key))
                continue;
            bytes_put(&text, line.p, line.n);
            bytes_putc(&text, '\n');
            n++;
        }
    }
    if (!bytes_status(&text, "the digest cache", NULL))
        (void)!file_replace(path, text.data, text.len, NULL);
    bytes_free(&old);
    bytes_free(&text);
}

static plm_status still_mapped(const plm_model *m, plm_error *err) {
    const struct map *map = gguf_map(m->file);
    struct stat s;
    if (stat(m->path, &s))
        return fail(err, PLM_EIO, "%s has gone since it was opened", m->path);
    int64_t mtime_ns = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec;
    if ((int64_t)s.st_dev == map->dev && (int64_t)s.st_ino == map->ino && (size_t)s.st_size == map->size &&
        mtime_ns == map->mtime_ns) {
        return PLM_OK;
    }
    return fail(err, PLM_EIO, "%s has changed since it was opened", m->path);
}

static plm_status digest_locked(plm_model *m, plm_error *err) {
    char key[CACHE_LINE], hex[65];
    cache_key(m, key);
    if (!m->digest_cache || !cache_find(m->digest_cache, key, hex)) {
        // Read, not hashed from the map: a model's pages should not become resident for this.
        plm_status st = still_mapped(m, err);
        if (!st)
            st = sha256_file(m->path, hex, err);
        if (!st)
            st = still_mapped(m, err);
        if (st)
            return st;
        if (m->digest_cache)
            cache_store(m->digest_cache, key, hex);
    }
    memcpy(m->digest, hex, sizeof m->digest);
    return PLM_OK;
}

plm_status plm_model_digest(const plm_model *m, char hex[65], plm_error *err) {
    plm_model *own =
        (plm_model *)m; // the hash is the one thing of a model that comes later; the lock guards it
    pthread_mutex_lock(&own->lock);
    plm_status st = own->digest[0] ? PLM_OK : digest_locked(own, err);
    if (!st)
        memcpy(hex, own->digest, sizeof own->digest);
    pthread_mutex_unlock(&own->lock);
    return st;
}
