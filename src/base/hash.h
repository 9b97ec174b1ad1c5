/* hash.h: SHA-256 (libsodium) in one piece or many, as hex. */
#ifndef BASE_HASH_H
#define BASE_HASH_H
#include "base/status.h"
struct sha256 {
    _Alignas(16) unsigned char state[128];
};
void sha256_start(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *data, size_t len);
void sha256_hex(struct sha256 *h, char hex[65]);
void sha256_of(const void *data, size_t len, char hex[65]);
plm_status sha256_file(const char *path, char hex[65], plm_error *err);
#endif
