/* secrets.c: finds what must not leave the device: e-mail addresses, phone, card and bank numbers, network
 * addresses, links, keys and passwords. Structure and check digits decide, not a model. Names of people and
 * places are not found here; docs/privacy.md says so. */
#include "augment/inside.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <math.h>
#include <string.h>

struct scan {
    const char *s;
    size_t n;
};

static unsigned char at(const struct scan *t, size_t i) {
    return i < t->n ? (unsigned char)t->s[i] : 0;
}

static bool digit(unsigned char c) {
    return c >= '0' && c <= '9';
}

static bool letter(unsigned char c) {
    return (c | 32) >= 'a' && (c | 32) <= 'z';
}

static bool wordy(unsigned char c) // part of a word, in any script
{
    return digit(c) || letter(c) || c == '_' || c >= 0x80;
}

static bool starts(const struct scan *t, size_t i, const char *word) {
    size_t n = strlen(word);
    return i <= t->n && n <= t->n - i && strncasecmp(t->s + i, word, n) == 0;
}

/* ---- placeholders that are already in the text ---- */

// "[TYPE_12]" right here: its length, else 0.
static size_t literal(const struct scan *t, size_t i) {
    enum { TYPE_MAX = 16, DIGITS_MAX = 9 };
    if (at(t, i) != '[') {
        return 0;
    }
    size_t j = i + 1, k;
    while (j - i <= TYPE_MAX && at(t, j) >= 'A' && at(t, j) <= 'Z') {
        j++;
    }
    for (k = j + 1; k - j <= DIGITS_MAX && digit(at(t, k)); k++) {
    }
    return j > i + 1 && at(t, j) == '_' && k > j + 1 && at(t, k) == ']' ? k + 1 - i : 0;
}

bool placeholder_next(const char *text, size_t len, size_t *from, size_t *n) {
    struct scan t = {text, len};
    for (size_t i = *from; i < len; i++) {
        *n = literal(&t, i);
        if (*n) {
            *from = i;
            return true;
        }
    }
    return false;
}

/* ---- links and addresses ---- */

// How far a link reaches; closing punctuation belongs to the sentence.
static size_t link_end(const struct scan *t, size_t i) {
    size_t open = 0, j = i;
    for (; j < t->n; j++) {
        unsigned char c = at(t, j);
        if (c <= ' ' || strchr("<>\"`{}|\\^", c) || (c == ')' && !open)) {
            break;
        }
        open += (c == '(') - (size_t)(c == ')');
    }
    while (j > i && strchr(".,;:!?'*_]", at(t, j - 1))) {
        j--;
    }
    return j;
}

static size_t url(const struct scan *t, size_t i) {
    if ((i && wordy(at(t, i - 1))) || !letter(at(t, i))) {
        return 0;
    }
    if (starts(t, i, "www.") && wordy(at(t, i + 4))) {
        return link_end(t, i) - i;
    }
    if (starts(t, i, "mailto:")) {
        return link_end(t, i) - i > 7 ? link_end(t, i) - i : 0;
    }
    size_t j = i;
    while (j < t->n && j - i < 32 && (letter(at(t, j)) || digit(at(t, j)) || strchr("+.-", at(t, j)))) {
        j++;
    }
    if (j - i < 2 || !starts(t, j, "://")) {
        return 0;
    }
    size_t end = link_end(t, i);
    return end > j + 3 ? end - i : 0;
}

// "example.org/path" without a scheme: only well-known endings, so that file names stay.
static size_t bare_url(const struct scan *t, size_t i) {
    static const char *const ends[] = {"com", "org", "net", "io", "dev",  "de",  "fr", "uk",
                                       "edu", "gov", "eu",  "co", "info", "app", "ai", "ch",
                                       "at",  "nl",  "it",  "es", "ru",   "cn",  "jp", "me"};
    if ((i && (wordy(at(t, i - 1)) || strchr("./@-", at(t, i - 1)))) || !wordy(at(t, i))) {
        return 0;
    }
    size_t j = i, dot = 0;
    while (j < t->n && (letter(at(t, j)) || digit(at(t, j)) || at(t, j) == '-' || at(t, j) == '.')) {
        dot = at(t, j) == '.' ? j : dot;
        j++;
    }
    if (!dot || at(t, j) != '/' || !wordy(at(t, j + 1))) {
        return 0;
    }
    for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
        if (strlen(ends[k]) == j - dot - 1 && starts(t, dot + 1, ends[k])) {
            return link_end(t, i) - i;
        }
    }
    return 0;
}

static size_t email(const struct scan *t, size_t i) {
    if ((i && (wordy(at(t, i - 1)) || strchr(".+%-", at(t, i - 1)))) ||
        !(wordy(at(t, i)) || at(t, i) == '+')) {
        return 0;
    }
    size_t j = i;
    while (j < t->n && j - i <= 64 && (wordy(at(t, j)) || strchr(".+%-'&~#/=?!", at(t, j)))) {
        j++;
    }
    size_t host = j + 1;
    if (at(t, j) == '@') {
        ;
    } else if (starts(t, j, "\xef\xbc\xa0")) { // full-width @
        host = j + 3;
    } else {
        return 0;
    }
    size_t k = host, dot = 0;
    while (k < t->n && (wordy(at(t, k)) || ((at(t, k) == '.' || at(t, k) == '-') && wordy(at(t, k + 1))))) {
        dot = at(t, k) == '.' ? k : dot;
        k++;
    }
    bool named = dot > host && k - dot > 2 && !digit(at(t, dot + 1));
    return named ? k - i : 0;
}

/* ---- network addresses ---- */

static size_t ipv4(const struct scan *t, size_t i) {
    if (!digit(at(t, i)) || (i && (wordy(at(t, i - 1)) || at(t, i - 1) == '.'))) {
        return 0;
    }
    size_t j = i;
    for (int part = 0; part < 4; part++) {
        int v = 0, n = 0;
        while (digit(at(t, j)) && n < 4) {
            v = v * 10 + (at(t, j++) - '0');
            n++;
        }
        if (!n || n > 3 || v > 255 || (part < 3 && at(t, j++) != '.')) {
            return 0;
        }
    }
    bool more = at(t, j) == '.' && digit(at(t, j + 1));
    return wordy(at(t, j)) || more ? 0 : j - i;
}

static size_t ipv6(const struct scan *t, size_t i) {
    if (!(isxdigit(at(t, i)) || (at(t, i) == ':' && at(t, i + 1) == ':')) ||
        (i && (wordy(at(t, i - 1)) || at(t, i - 1) == ':'))) {
        return 0;
    }
    char buf[INET6_ADDRSTRLEN + 1];
    size_t j = i, colons = 0, digits = 0, groups = 0;
    while (j < t->n && j - i < INET6_ADDRSTRLEN &&
           (isxdigit(at(t, j)) || at(t, j) == ':' || at(t, j) == '.')) {
        colons += at(t, j) == ':';
        digits += digit(at(t, j));
        groups += isxdigit(at(t, j)) && (j == i || at(t, j - 1) == ':');
        j++;
    }
    while (j > i && (at(t, j - 1) == '.' || (at(t, j - 1) == ':' && at(t, j - 2) != ':'))) {
        j--;
    }
    if (colons < 2 || groups < 2 || !digits || j - i < 6 || j - i > INET6_ADDRSTRLEN - 1 || wordy(at(t, j))) {
        return 0;
    }
    memcpy(buf, t->s + i, j - i);
    buf[j - i] = 0;
    struct in6_addr a;
    return inet_pton(AF_INET6, buf, &a) == 1 ? j - i : 0;
}

/* ---- numbers with separators ---- */

// One separator inside a number: how many bytes; 0: none. Blanks and hyphens of all widths people type.
static size_t separator(const struct scan *t, size_t i, const char *ascii) {
    static const char *const wide[] = {"\xc2\xa0",     "\xe2\x80\x89", "\xe2\x80\xaf", "\xe2\x80\x90",
                                       "\xe2\x80\x91", "\xe2\x80\x92", "\xe2\x80\x93"};
    if (at(t, i) && at(t, i) < 0x80 && strchr(ascii, at(t, i))) {
        return 1;
    }
    for (size_t k = 0; k < sizeof wide / sizeof *wide; k++) {
        if (starts(t, i, wide[k])) {
            return strlen(wide[k]);
        }
    }
    return 0;
}

static bool luhn(const char *d, size_t n) {
    int sum = 0;
    for (size_t i = 0; i < n; i++) {
        int v = d[n - 1 - i] - '0';
        v = i % 2 ? v * 2 : v;
        sum += v > 9 ? v - 9 : v;
    }
    return sum % 10 == 0;
}

static size_t card(const struct scan *t, size_t i) {
    if (at(t, i) < '2' || at(t, i) > '6' || (i && (wordy(at(t, i - 1)) || strchr(".,-+", at(t, i - 1))))) {
        return 0;
    }
    char d[20];
    size_t n = 0, j = i, end = 0;
    while (n < 20 && digit(at(t, j))) {
        d[n++] = (char)at(t, j++);
        size_t gap = separator(t, j, " -.");
        bool edge = !digit(at(t, j)) && !(gap && digit(at(t, j + gap)));
        if (n >= 13 && n <= 19 && edge && !wordy(at(t, j)) && luhn(d, n)) {
            end = j;
        }
        j += digit(at(t, j + gap)) ? gap : 0;
    }
    return n < 20 && end ? end - i : 0;
}

static size_t iban(const struct scan *t, size_t i) {
    if ((i && wordy(at(t, i - 1))) || !letter(at(t, i)) || !letter(at(t, i + 1)) || !digit(at(t, i + 2)) ||
        !digit(at(t, i + 3))) {
        return 0;
    }
    char v[36];
    size_t n = 0, j = i, best = 0;
    while (n < 34 && (letter(at(t, j)) || digit(at(t, j)))) {
        v[n++] = (char)toupper(at(t, j++));
        size_t gap = separator(t, j, " -");
        if (n >= 15 && !letter(at(t, j)) && !digit(at(t, j))) {
            unsigned rest = 0; // of the number with its first four characters moved to the end
            for (size_t k = 0; k < n; k++) {
                char c = v[(k + 4) % n];
                rest = digit((unsigned char)c) ? (rest * 10 + (unsigned)(c - '0')) % 97
                                               : (rest * 100 + (unsigned)(c - 'A' + 10)) % 97;
            }
            best = rest == 1 ? j : best;
        }
        j += gap;
    }
    return best ? best - i : 0;
}

static bool is_date(const struct scan *t, size_t i) {
    int a, b, y, used = 0;
    char buf[24] = {0};
    memcpy(buf, t->s + i, t->n - i < sizeof buf - 1 ? t->n - i : sizeof buf - 1);
    if (sscanf(buf, "%2d%*1[./-]%2d%*1[./-]%4d%n", &a, &b, &y, &used) == 3 && used >= 6 && a <= 31 &&
        b <= 31 && (y >= 1000 || y < 100) && !digit((unsigned char)buf[used])) {
        return y >= 1000 || !strchr("./-", buf[used]) || !buf[used];
    }
    used = 0;
    return sscanf(buf, "%4d%*1[./-]%2d%*1[./-]%2d%n", &y, &a, &b, &used) == 3 && used >= 8 && y >= 1000 &&
           a <= 12 && b <= 31;
}

static bool after_word(const struct scan *t, size_t i, const char *const *words, size_t n) {
    size_t j = i;
    while (j && i - j < 6 && strchr(" :.=#(\t", at(t, j - 1))) {
        j--;
    }
    for (size_t k = 0; k < n; k++) {
        size_t len = strlen(words[k]);
        if (j >= len && starts(t, j - len, words[k]) && (j == len || !letter(at(t, j - len - 1)))) {
            return true;
        }
    }
    return false;
}

// The shapes in which people write phone numbers; plain long numbers (sums, ids, dates) are left alone.
static size_t phone(const struct scan *t, size_t i) {
    static const char *const calls[] = {"tel",   "telephone", "phone",     "call",        "mobile",
                                        "cell",  "fax",       "whatsapp",  "ring",        "telefon",
                                        "handy", "mobil",     "number is", "reach me at", "text me at"};
    unsigned char c = at(t, i);
    if (!(digit(c) || c == '+' || c == '(') ||
        (i && (wordy(at(t, i - 1)) || strchr("+$", at(t, i - 1)) ||
               (strchr(".,-/", at(t, i - 1)) && i > 1 && digit(at(t, i - 2)))))) {
        return 0;
    }
    if (c != '+' && is_date(t, i)) {
        return 0;
    }
    size_t j = i + (c == '+' || c == '('), n = 0, end = 0, groups[16] = {0}, g = 0, slashes = 0;
    bool open = c == '(';
    while (j < t->n && n < 17) {
        if (digit(at(t, j))) {
            groups[g]++;
            n++;
            end = ++j;
            continue;
        }
        size_t gap = 0;
        bool closes = at(t, j) == ')' && open, opens = at(t, j) == '(' && !open && n <= 3;
        gap = closes || opens ? 1 : separator(t, j, slashes ? " -." : " -./");
        open = closes ? false : opens ? true : open;
        slashes += at(t, j) == '/';
        size_t next = j + gap;
        if (gap && !digit(at(t, next))) { // ") " and " (" are one gap
            size_t second = at(t, next) == '(' && !open ? 1 : separator(t, next, " -");
            open = at(t, next) == '(' ? true : open;
            next += second;
        }
        if (!gap || !digit(at(t, next)) || g == 15) {
            break;
        }
        g += groups[g] > 0;
        j = next;
    }
    if (n < 6 || n > 16 || open || wordy(at(t, end)) || (at(t, end) == '.' && digit(at(t, end + 1)))) {
        return 0;
    }
    bool american = g >= 2 && groups[g] == 4 && groups[g - 1] == 3 && groups[g - 2] == 3 &&
                    (g == 2 || (g == 3 && groups[0] == 1));
    bool plain_american = g == 0 && n == 10 && c >= '2' && at(t, i + 3) >= '2';
    bool national = (c == '0' || (c == '(' && at(t, i + 1) == '0')) && groups[0] >= 2 &&
                    (g ? n >= 9 && n <= 15 : n == 10 || n == 11);
    bool abroad = c == '+' && n >= (g ? 7 : 8) && n <= 15;
    bool called = after_word(t, i, calls, sizeof calls / sizeof *calls);
    return american || plain_american || national || abroad || called ? end - i : 0;
}

/* ---- keys ---- */

static bool key_char(unsigned char c) {
    return digit(c) || letter(c) || (c && strchr("_-+/=.", c));
}

// Text that no person types: many changes between letters, capitals and digits, and little repetition.
static bool looks_random(const char *s, size_t n) {
    size_t seen[256] = {0}, changes = 0, digits = 0, lower = 0, upper = 0;
    int last = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        int cls = digit(c) ? 1 : c >= 'a' && c <= 'z' ? 2 : c >= 'A' && c <= 'Z' ? 3 : 4;
        changes += i && cls != last;
        digits += cls == 1;
        lower += cls == 2;
        upper += cls == 3;
        seen[c]++;
        last = cls;
    }
    double bits = 0;
    for (size_t c = 0; c < 256; c++) {
        double p = (double)seen[c] / (double)n;
        bits -= seen[c] ? p * log2(p) : 0;
    }
    bool mixed = digits >= 2 ? changes * 4 >= n : n >= 24 && changes * 5 >= n * 2;
    return mixed && lower + upper >= 3 && bits >= (n >= 32 ? 3.0 : 3.4);
}

// How far characters of keys go from here, at most max; punctuation of the sentence is left off.
static size_t key_run(const struct scan *t, size_t i, size_t max) {
    size_t j = i;
    while (j < t->n && j - i < max && key_char(at(t, j))) {
        j++;
    }
    while (j > i && strchr(".=-", at(t, j - 1)) && !(at(t, j - 1) == '=' && j - i > 20)) {
        j--;
    }
    return j - i;
}

static size_t key(const struct scan *t, size_t i) {
    enum { KEY_WINDOW = 128 }; // what is looked at to decide, so that long runs take linear time

    static const struct {
        const char *start;
        size_t rest;
    } known[] = {{"sk-", 16},    {"sk_live_", 8}, {"sk_test_", 8}, {"pk_live_", 8}, {"rk_live_", 8},
                 {"ghp_", 20},   {"gho_", 20},    {"ghs_", 20},    {"ghu_", 20},    {"github_pat_", 20},
                 {"glpat-", 16}, {"xoxb-", 10},   {"xoxp-", 10},   {"AKIA", 16},    {"ASIA", 16},
                 {"AIza", 30},   {"hf_", 20},     {"npm_", 20},    {"ya29.", 20},   {"SG.", 30},
                 {"dop_v1_", 20}};
    if (i && key_char(at(t, i - 1)) && at(t, i - 1) != '=') {
        return 0;
    }
    size_t n = key_run(t, i, KEY_WINDOW);
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        size_t len = strlen(known[k].start);
        if (n >= len + known[k].rest && strncmp(t->s + i, known[k].start, len) == 0) {
            return key_run(t, i, t->n);
        }
    }
    bool all = n > 40 && strncmp(t->s + i, "eyJ", 3) == 0;
    // A path or a dotted name is judged by its parts: it is a key only if its first part is one.
    size_t part = 0;
    while (part < n && !strchr("/.", at(t, i + part))) {
        part++;
    }
    all = all || (part >= 20 && looks_random(t->s + i, part));
    return all ? key_run(t, i, t->n) : 0;
}

static size_t private_key(const struct scan *t, size_t i) {
    if (!starts(t, i, "-----BEGIN ")) {
        return 0;
    }
    const char *end = memmem(t->s + i + 11, t->n - i - 11, "-----END ", 9);
    if (!end) {
        return t->n - i;
    }
    const char *close = memmem(end + 9, t->n - (size_t)(end + 9 - t->s), "-----", 5);
    return close ? (size_t)(close + 5 - (t->s + i)) : t->n - i;
}

// The value behind "password:" and its like.
static size_t password(const struct scan *t, size_t i) {
    static const char *const names[] = {"password", "passwd", "passwort", "passphrase", "pwd",
                                        "secret",   "token",  "api key",  "apikey",     "api_key",
                                        "api-key",  "bearer", "pin"};
    size_t j = i;
    while (j && i - j < 4 && strchr(" :=\"'", at(t, j - 1))) {
        j--;
    }
    bool assigned = memchr(t->s + j, ':', i - j) || memchr(t->s + j, '=', i - j);
    bool bearer = j >= 6 && starts(t, j - 6, "bearer") && i > j;
    if ((!assigned && !bearer) || at(t, i) <= ' ' || strchr("\"'(<[{:=", at(t, i)) ||
        (i && !strchr(" :=\"'", at(t, i - 1))) || !after_word(t, j, names, sizeof names / sizeof *names)) {
        return 0;
    }
    size_t end = i;
    while (end < t->n && at(t, end) > ' ' && !strchr("\"'<>,;)", at(t, end))) {
        end++;
    }
    while (end > i && strchr(".!?", at(t, end - 1))) {
        end--;
    }
    return end - i >= 4 && (!bearer || assigned || end - i >= 12) ? end - i : 0;
}

/* ---- the scan ---- */

static const struct {
    size_t (*find)(const struct scan *, size_t);
    const char *type;
} finders[] = {{literal, "TEXT"}, {url, "URL"},   {private_key, "KEY"}, {password, "KEY"},
               {email, "EMAIL"},  {iban, "IBAN"}, {key, "KEY"},         {bare_url, "URL"},
               {ipv6, "IP"},      {ipv4, "IP"},   {card, "CARD"},       {phone, "PHONE"}};

plm_status secrets_find(const char *text, size_t len, struct secret **out, size_t *n, plm_error *err) {
    struct scan t = {text, len};
    struct secret *v = NULL;
    size_t count = 0, cap = 0;
    for (size_t i = 0; i < len;) {
        size_t used = 0, f = 0;
        for (; f < sizeof finders / sizeof *finders && !used; f++) {
            used = finders[f].find(&t, i);
        }
        if (!used) {
            i++;
            continue;
        }
        if (count == cap) {
            cap = cap ? cap * 2 : 16;
            struct secret *more = mem_grow(v, cap, sizeof *v);
            if (!more) {
                mem_free(v);
                return fail(err, PLM_ENOMEM, "no memory to redact a record");
            }
            v = more;
        }
        v[count++] = (struct secret){i, used, finders[f - 1].type};
        i += used;
    }
    *out = v;
    *n = count;
    return PLM_OK;
}
