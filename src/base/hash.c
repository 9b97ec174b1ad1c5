/* hash.c: SHA-256 through libsodium. */
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

_Static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(struct sha256),
               "sha256 has room for libsodium's state");

static crypto_hash_sha256_state *state(struct sha256 *h) {
    return (crypto_hash_sha256_state *)(void *)h->state;
}

void sha256_start(struct sha256 *h) {
    crypto_hash_sha256_init(state(h));
}

void sha256_add(struct sha256 *h, const void *data, size_t len) {
    crypto_hash_sha256_update(state(h), data, len);
}

void sha256_hex(struct sha256 *h, char hex[65]) {
    unsigned char digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(state(h), digest);
    sodium_bin2hex(hex, 65, digest, sizeof digest);
}

void sha256_of(const void *data, size_t len, char hex[65]) {
    struct sha256 h;
    sha256_start(&h);
    sha256_add(&h, data, len);
    sha256_hex(&h, hex);
}

plm_status sha256_file(const char *path, char hex[65], plm_error *err) {
    enum { PIECE = 1 << 18 };
    struct sha256 h;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return fail_errno(err, errno, path);
    plm_status st = PLM_OK;
    unsigned char *piece = NULL;
    if (fstat(fd, &info) || !S_ISREG(info.st_mode)) {
        st = fail(err, PLM_EINVAL, "%s: not a regular file", path);
        goto out;
    }
    if (!(piece = mem_alloc(PIECE, 1))) {
        st = fail(err, PLM_ENOMEM, "out of memory to hash %s", path);
        goto out;
    }
    sha256_start(&h);
    for (;;) {
        ssize_t n = read(fd, piece, PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            st = fail_errno(err, errno, path);
        if (n <= 0)
            break;
        sha256_add(&h, piece, (size_t)n);
    }
    if (!st)
        sha256_hex(&h, hex);
out:
    mem_free(piece);
    close(fd);
    return st;
}
