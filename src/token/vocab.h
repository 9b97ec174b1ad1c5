/* vocab.h: inside token/. The vocabulary as held in memory, and the steps of encoding.
 * Token texts are kept as the bytes they stand for, so everything after vocab_open works on plain
 * bytes: the byte alphabet of the file is gone. Ids are indices; every id stored here is in range. */
#ifndef TOKEN_VOCAB_H
#define TOKEN_VOCAB_H
#include "base/base.h"
#include "token/token.h"

enum token_type { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE };

/* Longest text of a token, and of one that is searched for in the text (bounds the search a byte). */
enum { TOKEN_MAX = 65535, TOKEN_MATCH_MAX = 255 };

/* Bytes to id, open addressing over ids; keys are the vocabulary's own texts. */
struct text_index {
    uint64_t *slot; /* half of the hash << 32 | id + 1; 0: free */
    size_t mask;
    bool twins; /* a text was added twice */
};

/* Pairs of ids to the rank of their merge. */
struct bpe {
    uint64_t *pair; /* left << 32 | right */
    uint32_t *rank; /* MERGE_NONE: free slot */
    size_t mask;
    int32_t *result;   /* [merges] id that a merge gives */
    int32_t byte[256]; /* id of each single byte, -1: none */
};
#define MERGE_NONE UINT32_MAX

/* Tokens with scores. */
struct spm {
    uint32_t *rank;      /* [n] smaller merges first */
    uint8_t (*meet)[32]; /* [256] bit b of row a: bytes a, b stand side by side in some ordinary token */
    size_t longest;      /* bytes of an ordinary token */
    int32_t byte[256];   /* byte tokens, -1: none */
    bool space_prefix;   /* text after a control token, or at the start, begins with a blank */
};

struct splitter; /* a pre-tokenizer, compiled */

struct vocab {
    int n;
    char *text;                      /* bytes of all tokens, one after another */
    uint32_t *at;                    /* [n + 1] offsets into text */
    uint8_t *type;                   /* [n] enum token_type */
    struct text_index plain, marked; /* normal and byte tokens; unknown, control and user-defined ones */
    uint8_t starts[256]; /* bit 0: a user-defined token starts with this byte; bit 1: any marked one */
    size_t longest;      /* of the marked ones */
    bool scored;         /* spm holds; otherwise bpe and split */
    struct bpe bpe;
    struct spm spm;
    struct splitter *split;
    int32_t bos, eos;
    bool add_bos;
    int32_t *end;
    size_t n_end;
};

static inline struct str token_text(const struct vocab *v, int32_t id) {
    return (struct str){v->text + v->at[id], v->at[id + 1] - v->at[id]};
}

/* ---- index.c ---- */
#define HASH_START 14695981039346656037u
static inline uint64_t hash_byte(uint64_t h, char c) {
    return (h ^ (unsigned char)c) * 1099511628211u;
}
plm_status index_open(struct text_index *x, size_t n, plm_error *err);
void index_close(struct text_index *x);
/* The first of several equal texts stays. */
plm_status index_add(struct text_index *x, const struct vocab *v, int32_t id, plm_error *err);
int32_t index_find(const struct text_index *x, const struct vocab *v, struct str s);
int32_t index_find_hashed(const struct text_index *x, const struct vocab *v, struct str s, uint64_t hash);
/* The longest marked token at the start of s that may be matched in this mode, or -1. */
int32_t index_match(const struct vocab *v, struct str s, bool special, size_t *len);

/* ---- alphabet.c: the printable stand-ins of bytes in byte-level BPE files ---- */
/* Writes the bytes that text stands for (never more than text.n); characters outside stay as they are. */
size_t alphabet_bytes(struct str text, char *out);

/* ---- split.c ---- */
plm_status splitter_open(struct splitter **out, struct str name, plm_error *err);
void splitter_close(struct splitter *s);
bool splitter_whole_first(const struct splitter *s); /* a piece that is a token is taken as it is */
bool splitter_adds_bos(const struct splitter *s);    /* unless the file says otherwise */
bool splitter_composes(const struct splitter *s);    /* text is brought to NFC first */
/* One text being cut. text must outlive it and be valid UTF-8. */
struct cut {
    const struct splitter *how;
    struct str rest;
    void *match;
};
plm_status cut_open(struct cut *c, const struct splitter *s, plm_error *err);
void cut_start(struct cut *c, struct str text);
/* *n bytes of the next piece, 0 at the end. */
plm_status cut_next(struct cut *c, size_t *n, plm_error *err);
void cut_close(struct cut *c);

/* ---- merge.c ---- */
/* Scratch that grows to the longest piece of a call. */
struct symbol {
    int32_t id, prev, next; /* places of others, -1: none */
    uint32_t rank;          /* of the merge with next */
};
struct merge_work {
    struct symbol *symbol; /* with scores, a symbol's place is that of its first byte in the piece */
    size_t cap;
    uint64_t *heap; /* rank << 32 | place */
    size_t n_heap, heap_cap;
};
void merge_work_free(struct merge_work *w);
plm_status merge_reserve(struct merge_work *w, size_t n, plm_error *err);
/* Merges the linked symbols from place 0 on, and appends what is left. */
plm_status merge_symbols(const struct vocab *v, struct str piece, struct merge_work *w, struct ids *out,
                         plm_error *err);

/* ---- bpe.c ---- */
plm_status bpe_open(struct vocab *v, const struct gguf_array *merges, plm_error *err);
void bpe_close(struct bpe *b);
uint32_t bpe_rank(const struct bpe *b, int32_t left, int32_t right);
plm_status bpe_piece(const struct vocab *v, struct str piece, struct merge_work *w, struct ids *out,
                     plm_error *err);

/* ---- spm.c ---- */
/* Writes text with blanks for U+2581; never more than text.n. */
size_t spm_unblank(struct str text, char *out);
plm_status spm_open(struct vocab *v, const struct gguf_array *scores, plm_error *err);
void spm_close(struct spm *s);
uint32_t spm_rank(const struct vocab *v, struct str pair); /* of the merge that gives these bytes */
/* The byte tokens of a character that has no token. */
plm_status spm_bytes(const struct vocab *v, struct str c, struct ids *out, plm_error *err);
plm_status spm_text(const struct vocab *v, struct str text, struct merge_work *w, struct ids *out,
                    plm_error *err);

/* ---- compose.c ---- */
/* Appends text in normal form C; bytes that are not UTF-8 pass as they are. Linear. */
plm_status compose_text(struct str text, struct bytes *out, plm_error *err);
#endif
