/* ledger_keys.c: the hourly keys that bodies are sealed under (XChaCha20-Poly1305), one file each in a folder
 * of their own, named by the second at which their hour began. A key is made by whoever needs it first (a
 * file is linked into place whole, so that of two makers one wins), overwritten and removed when its time is
 * over, and forgotten in memory with it. What was sealed under it can't be read after that, wherever copies
 * are. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "store/ledger_db.h"

enum { CACHED = 64 };

struct vault {
    char *folder;
    int64_t key_ms, retain_ms;
    pthread_mutex_t lock; /* of the cache */
    struct {
        int64_t time; /* 0: free */
        unsigned char key[KEY_BYTES];
    } cache[CACHED];
    size_t next;
};

plm_status vault_open(struct vault **out, const char *folder, int64_t key_ms, int64_t retain_ms,
                      plm_error *err) {
    struct stat s;
    plm_status st = dir_make(folder, err);
    if (st) {
        return st;
    }
    if (sodium_init() < 0) {
        return fail(err, PLM_EIO, "libsodium can't be started");
    }
    if (stat(folder, &s)) {
        return fail_errno(err, errno, folder);
    }
    if (s.st_mode & 077) {
        return fail(err, PLM_EINVAL, "%s: the folder of the keys is open to others: chmod 700", folder);
    }
    struct vault *v = mem_zero(1, sizeof *v);
    if (v) {
        v->folder = mem_dupz(folder);
        v->key_ms = key_ms;
        v->retain_ms = retain_ms;
        pthread_mutex_init(&v->lock, NULL);
    }
    if (!v || !v->folder) {
        mem_free(v);
        return fail(err, PLM_ENOMEM, "no memory for the keys");
    }
    *out = v;
    return PLM_OK;
}

void vault_close(struct vault *v) {
    if (v) {
        sodium_memzero(v->cache, sizeof v->cache);
        pthread_mutex_destroy(&v->lock);
        mem_free(v->folder);
        mem_free(v);
    }
}

static bool key_path(const struct vault *v, int64_t time, const char *tail, char out[4096]) {
    int n = snprintf(out, 4096, "%s/%" PRId64 "%s", v->folder, time / 1000, tail);
    return n > 0 && n < 4096;
}

static void remember(struct vault *v, int64_t time, const unsigned char key[KEY_BYTES]) {
    pthread_mutex_lock(&v->lock);
    size_t i = v->next++ % CACHED;
    v->cache[i].time = time;
    memcpy(v->cache[i].key, key, KEY_BYTES);
    pthread_mutex_unlock(&v->lock);
}

static bool recall(struct vault *v, int64_t time, unsigned char key[KEY_BYTES]) {
    bool found = false;
    pthread_mutex_lock(&v->lock);
    for (size_t i = 0; !found && i < CACHED; i++) {
        found = v->cache[i].time == time;
        if (found) {
            memcpy(key, v->cache[i].key, KEY_BYTES);
        }
    }
    pthread_mutex_unlock(&v->lock);
    return found;
}

// Forgets the key of that time, and all that began before the other.
static void unlearn(struct vault *v, int64_t time, int64_t before) {
    pthread_mutex_lock(&v->lock);
    for (size_t i = 0; i < CACHED; i++) {
        if (v->cache[i].time == time || v->cache[i].time < before) {
            sodium_memzero(&v->cache[i], sizeof v->cache[i]);
        }
    }
    pthread_mutex_unlock(&v->lock);
}

static plm_status sync_folder(const struct vault *v, plm_error *err) {
    int fd = open(v->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    plm_status st = fd < 0 || fsync(fd) ? fail_errno(err, errno, v->folder) : PLM_OK;
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

// ENOTFOUND: there is none.
static plm_status read_key(struct vault *v, int64_t time, unsigned char key[KEY_BYTES], plm_error *err) {
    char path[4096];
    if (recall(v, time, key)) {
        return PLM_OK;
    }
    if (!key_path(v, time, ".key", path)) {
        return fail(err, PLM_ELIMIT, "the folder's name is too long for keys");
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT ? fail(err, PLM_ENOTFOUND, "the key of this job was destroyed: it is too old")
                               : fail_errno(err, errno, path);
    }
    ssize_t n = read(fd, key, KEY_BYTES);
    close(fd);
    if (n != KEY_BYTES) {
        return fail(err, PLM_EIO, "%s is no key", path);
    }
    remember(v, time, key);
    return PLM_OK;
}

static plm_status write_file(const char *path, const unsigned char *data, size_t n, int flags,
                             plm_error *err) {
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    bool ok = fd >= 0 && write(fd, data, n) == (ssize_t)n && fsync(fd) == 0;
    plm_status st = ok ? PLM_OK : fail_errno(err, errno, path);
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

static plm_status make_key(struct vault *v, int64_t time, plm_error *err) {
    unsigned char key[KEY_BYTES];
    char path[4096], beside[4096], tail[40];
    snprintf(tail, sizeof tail, ".%08x.new", randombytes_random());
    if (!key_path(v, time, ".key", path) || !key_path(v, time, tail, beside)) {
        return fail(err, PLM_ELIMIT, "the folder's name is too long for keys");
    }
    randombytes_buf(key, sizeof key);
    plm_status st = write_file(beside, key, sizeof key, O_CREAT | O_EXCL, err);
    if (!st && link(beside, path) && errno != EEXIST) {
        st = fail_errno(err, errno, path);
    }
    unlink(beside);
    sodium_memzero(key, sizeof key);
    return st ? st : sync_folder(v, err);
}

plm_status vault_now(struct vault *v, int64_t now, int64_t *key_time, plm_error *err) {
    unsigned char key[KEY_BYTES];
    *key_time = now - now % v->key_ms;
    plm_status st = read_key(v, *key_time, key, err);
    if (st == PLM_ENOTFOUND) {
        st = make_key(v, *key_time, err);
        st = st ? st : read_key(v, *key_time, key, err);
    }
    sodium_memzero(key, sizeof key);
    return st;
}

plm_status vault_seal(struct vault *v, int64_t key_time, const char *what, const void *data, size_t n,
                      struct bytes *out, plm_error *err) {
    enum {
        NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
        TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES
    };
    unsigned char key[KEY_BYTES], nonce[NONCE];
    plm_status st = read_key(v, key_time, key, err);
    if (st) {
        return st;
    }
    unsigned char *sealed = mem_alloc(n + TAG, 1);
    bytes_init(out, NONCE + TAG + n);
    if (sealed) {
        randombytes_buf(nonce, sizeof nonce);
        crypto_aead_xchacha20poly1305_ietf_encrypt(sealed, NULL, data, n, (const unsigned char *)what,
                                                   strlen(what), NULL, nonce, key);
        bytes_put(out, nonce, sizeof nonce);
        bytes_put(out, sealed, n + TAG);
    }
    sodium_memzero(key, sizeof key);
    mem_free(sealed);
    if (!sealed || out->st) {
        bytes_free(out);
        return fail(err, PLM_ENOMEM, "no memory to seal a body");
    }
    return PLM_OK;
}

plm_status vault_open_seal(struct vault *v, int64_t key_time, const char *what, const void *data, size_t n,
                           char **text, plm_error *err) {
    enum {
        NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
        TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES
    };
    unsigned char key[KEY_BYTES];
    if (n < NONCE + TAG) {
        return fail(err, PLM_EFORMAT, "a stored body is damaged");
    }
    plm_status st = read_key(v, key_time, key, err);
    if (st) {
        return st;
    }
    const unsigned char *in = data;
    char *plain = mem_alloc(n - NONCE - TAG + 1, 1);
    int bad = plain
                  ? crypto_aead_xchacha20poly1305_ietf_decrypt((unsigned char *)plain, NULL, NULL, in + NONCE,
                                                               n - NONCE, (const unsigned char *)what,
                                                               strlen(what), in, key)
                  : 0;
    sodium_memzero(key, sizeof key);
    if (!plain || bad) {
        mem_free(plain);
        return plain ? fail(err, PLM_EFORMAT, "a stored body is damaged")
                     : fail(err, PLM_ENOMEM, "no memory for a body");
    }
    plain[n - NONCE - TAG] = 0;
    *text = plain;
    return PLM_OK;
}

plm_status vault_digest(struct vault *v, int64_t key_time, const char *what, const void *data, size_t n,
                        char hex[65], plm_error *err) {
    unsigned char key[KEY_BYTES], hash[32];
    crypto_generichash_state state;
    plm_status st = read_key(v, key_time, key, err);
    if (!st) {
        crypto_generichash_init(&state, key, sizeof key, sizeof hash);
        crypto_generichash_update(&state, (const unsigned char *)what, strlen(what) + 1);
        crypto_generichash_update(&state, data, n);
        crypto_generichash_final(&state, hash, sizeof hash);
        sodium_bin2hex(hex, 65, hash, sizeof hash);
        sodium_memzero(&state, sizeof state);
        sodium_memzero(key, sizeof key);
    }
    return st;
}

static plm_status destroy(struct vault *v, int64_t time, const char *name, plm_error *err) {
    unsigned char nothing[KEY_BYTES] = {0};
    char path[4096];
    unlearn(v, time, 0);
    if (snprintf(path, sizeof path, "%s/%s", v->folder, name) >= (int)sizeof path) {
        return fail(err, PLM_ELIMIT, "the folder's name is too long for keys");
    }
    plm_status st = write_file(path, nothing, sizeof nothing, 0, err);
    if (st == PLM_ENOTFOUND) {
        return PLM_OK; // another process was faster
    }
    if (!st && unlink(path) && errno != ENOENT) {
        st = fail_errno(err, errno, path);
    }
    return st;
}

plm_status vault_sweep(struct vault *v, int64_t now, const int64_t *needed, size_t n, int64_t *destroyed,
                       plm_error *err) {
    DIR *d = opendir(v->folder);
    struct dirent *e;
    plm_status st = d ? PLM_OK : fail_errno(err, errno, v->folder);
    int64_t gone = 0;
    while (!st && (e = readdir(d))) {
        struct str rest = str_of(e->d_name), number;
        int64_t s;
        if (!str_cut(&rest, '.', &number) || !parse_i64(number, &s) || s < 0 || s > INT64_MAX / 1000) {
            continue;
        }
        int64_t time = s * 1000, over = time + v->key_ms;
        // A file beside its place belongs to a maker that died. A job that comes as the hour ends may be
        // stored a moment later: the key waits for it.
        bool kept = !str_ends(rest, "new") && now < over + v->retain_ms, used = now < over + v->key_ms / 12;
        for (size_t i = 0; kept && i < n; i++) {
            used = used || needed[i] == time;
        }
        if (kept ? !used : now >= over) {
            st = destroy(v, time, e->d_name, err);
            gone += !st;
        }
    }
    if (d) {
        closedir(d);
    }
    if (!st && gone) {
        st = sync_folder(v, err);
    }
    *destroyed = gone;
    // Another process may have destroyed what is remembered here.
    unlearn(v, -1, now - v->key_ms);
    return st;
}
