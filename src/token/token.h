/* token.h: the door of token/. Text to ids and back, and chat templates.
 * Control ids come from a template alone; text is encoded with special parsing off (decisions 1, 2). */
#ifndef TOKEN_TOKEN_H
#define TOKEN_TOKEN_H
#include "modelfile/modelfile.h"

struct vocab;
/* Reads tokenizer.* keys; g may be closed afterwards. PLM_ENOTSUP names an unknown tokenizer or
 * pre-tokenizer. */
plm_status vocab_open(struct vocab **out, const struct gguf *g, plm_error *err);
void vocab_close(struct vocab *v);
int vocab_size(const struct vocab *v);
int32_t vocab_bos(const struct vocab *v); /* -1: none */
int32_t vocab_eos(const struct vocab *v); /* -1: none */
bool vocab_add_bos(const struct vocab *v);
bool vocab_is_end(const struct vocab *v, int32_t id);
bool vocab_is_control(const struct vocab *v, int32_t id);
int32_t vocab_find(const struct vocab *v, struct str text); /* the token with that text, -1 */

/* Growable list of ids with a ceiling of INT32_MAX / 2. */
struct ids {
    int32_t *v;
    size_t n, cap;
};
void ids_free(struct ids *l);
plm_status ids_push(struct ids *l, int32_t id, plm_error *err);
/* Appends; linear time for any input, valid UTF-8 or not; thread-safe. Decoding gives the text back, but
 * for things that published tokenizers do too: some bring text to NFC first, some put a blank before it or
 * take U+2581 for one, and bytes that the vocabulary has no token for are left out. */
plm_status vocab_encode(const struct vocab *v, const char *text, size_t len, bool special, struct ids *out,
                        plm_error *err);
/* The same for text that goes on after other text: no blank is put before it. Special parsing is off. */
plm_status vocab_continue(const struct vocab *v, const char *text, size_t len, struct ids *out,
                          plm_error *err);
/* Bytes of one id, borrowed or in tmp; control tokens give their text only with special. */
struct str vocab_bytes(const struct vocab *v, int32_t id, bool special, char tmp[8]);

/* Chat templates: recognised from the file's own template among the families supported. */
struct chat;
/* name NULL: from the file; "none": no template, *out is NULL. PLM_ENOTSUP names --chat-template and the
 * choices. */
plm_status chat_open(struct chat **out, const struct vocab *v, const struct gguf *g, const char *name,
                     plm_error *err);
void chat_close(struct chat *c);
const char *chat_name(const struct chat *c);
/* Markers of this family are ordinary text, so the guarantee against forged turns is weaker. */
bool chat_is_weak(const struct chat *c);
/* Appends ids; is_target may be NULL, else grows along with out (1: written by the assistant, end token
 * included). */
plm_status chat_encode(const struct chat *c, const struct vocab *v, const plm_message *m, size_t n,
                       struct ids *out, uint8_t **is_target, plm_error *err);
#endif
