/* alphabet.c: byte-level BPE files write each byte as one printable character. Printable Latin-1
 * bytes stand for themselves; the other 68 are U+0100 and up, in order. */
#include <string.h>
#include "token/vocab.h"

static bool stands_for_itself(uint32_t c) {
    return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xFF && c != 0xAD);
}

/* The byte behind a character, -1: none. */
static int byte_of(uint32_t c) {
    if (stands_for_itself(c)) {
        return (int)c;
    }
    if (c < 0x100 || c >= 0x100 + 68) {
        return -1;
    }
    c -= 0x100;
    return (int)(c < 33 ? c : c < 67 ? c - 33 + 0x7F : 0xAD);
}

size_t alphabet_bytes(struct str text, char *out) {
    size_t n = 0;
    while (text.n) {
        size_t len;
        int byte = byte_of(utf8_next(text.p, text.n, &len));
        if (byte >= 0 && len <= 2) {
            out[n++] = (char)byte;
        } else {
            memcpy(out + n, text.p, len);
            n += len;
        }
        text.p += len;
        text.n -= len;
    }
    return n;
}
