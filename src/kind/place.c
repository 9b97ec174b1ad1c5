/* place.c: in which line of a kinds file something stands. The JSON parser does not keep that, so the text,
 * which is known to be valid JSON by then, is walked again when there is something to complain about. */
#include <string.h>

#include "kind/inside.h"

// Behind the string that begins at i; *from and *n are what is between its quotation marks.
static size_t past_string(const char *text, size_t i, size_t *from, size_t *n) {
    *from = ++i;
    while (text[i] && text[i] != '"') {
        i += text[i] == '\\' && text[i + 1] ? 2 : 1;
    }
    *n = i - *from;
    return text[i] ? i + 1 : i;
}

size_t kind_line(const char *text, size_t number, const char *key) {
    size_t line = 1, found = 1, depth = 0, element = 0, counted = 0;
    bool fresh = true; // the next value begins an element of the list
    for (size_t i = 0; text[i];) {
        for (; counted < i; counted++) {
            line += text[counted] == '\n';
        }
        char c = text[i];
        bool blank = c == ' ' || c == '\n' || c == '\r' || c == '\t';
        if (depth == 1 && fresh && !blank && c != ']' && c != ',') {
            fresh = false;
            found = ++element == number ? line : found;
        }
        if (c == '"') {
            size_t from, n, next = past_string(text, i, &from, &n);
            bool here =
                key && element == number && depth == 2 && n == strlen(key) && !memcmp(text + from, key, n);
            for (i = next; here && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t');
                 i++) {
            }
            if (here && text[i] == ':') {
                return line;
            }
            continue;
        }
        fresh = fresh || (depth == 1 && c == ',');
        depth += c == '{' || c == '[';
        depth -= (c == '}' || c == ']') && depth;
        if (depth == 1 && element == number && c == '}') {
            return found;
        }
        i++;
    }
    return found;
}
