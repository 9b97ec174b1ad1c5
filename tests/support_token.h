/* support_token.h: real models where they are installed, and small vocabularies written on the spot. */
#ifndef SUPPORT_TOKEN_H
#define SUPPORT_TOKEN_H
#include "base/json.h"
#include "token/token.h"

/* Seconds of processor time that a MiB may take: far above what it does on a busy machine, far below what
 * anything quadratic would. Sanitizers are slower. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MIB_SECONDS 60.0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MIB_SECONDS 60.0
#endif
#endif
#ifndef MIB_SECONDS
#define MIB_SECONDS 5.0
#endif

/* Path of a real model, or NULL when it is not on this machine. Valid until the next call. */
const char *model_path(const char *file);
/* tests/data/FILE parsed. */
json_t *data_json(const char *file);

/* What a small vocabulary is made of; fake_default gives 256 bytes, some merges and marked tokens;
 * fake_scored a SentencePiece one of marked, 256 byte, and some scored tokens. */
struct fake {
    const char *model, *pre;
    const char *token[600];
    int32_t type[600];
    size_t n;
    const char *merge[400];
    size_t n_merges;
    int64_t bos, eos;     /* -1: key absent */
    int add_bos;          /* -1: key absent */
    const char *template; /* NULL: absent */
    bool no_types, no_merges;
    float score[600];
    bool scored;
    int space_prefix;        /* -1: key absent */
    struct str raw_key, raw; /* one more key with a raw array */
    char text[600][16];      /* room for the byte tokens */
};
void fake_default(struct fake *f);
void fake_scored(struct fake *f);
int32_t fake_add_scored(struct fake *f, const char *token, float score);
int32_t fake_add(struct fake *f, const char *token, int type);
/* Writes the file, opens it and its vocabulary. */
plm_status fake_open(const struct fake *f, struct gguf **g, struct vocab **v, plm_error *err);
/* The same where it has to be possible, and its end. */
struct opened {
    struct gguf *g;
    struct vocab *v;
};
struct opened open_fake(const struct fake *f);
void fake_close(struct opened *o);
/* The same bytes in the file's printable alphabet. */
void fake_alphabet(unsigned char byte, char out[3]);
/* Ids of text, by a vocabulary that has to be able to; n in *n. */
int32_t *encode_all(const struct vocab *v, const char *text, size_t len, bool special, size_t *n);
/* Asserts that decoding the ids gives text. */
void assert_decodes(const struct vocab *v, const int32_t *ids, size_t n, const char *text, size_t len);
#endif
