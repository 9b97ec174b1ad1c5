/* test_augment_redact.c: what is found and hidden, what is left alone, and that it comes back unchanged. The
 * generated set at the end measures recall and precision for each type. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "augment/inside.h"

/* The types found in a text, "EMAIL URL"; static. */
static const char *types_in(const char *text) {
    static char out[400];
    struct secret *v = NULL;
    size_t n = 0;
    assert_int_equal(secrets_find(text, strlen(text), &v, &n, NULL), PLM_OK);
    out[0] = 0;
    for (size_t i = 0; i < n; i++)
        snprintf(out + strlen(out), sizeof out - strlen(out), "%s%s", i ? " " : "", v[i].type);
    mem_free(v);
    return out;
}

static void expect_types(const char *text, const char *types) {
    const char *got = types_in(text);
    if (strcmp(got, types) != 0)
        print_message("%s: got \"%s\", not \"%s\"\n", text, got, types);
    assert_string_equal(got, types);
}

static void each_type_is_found(void **s) {
    (void)s;
    expect_types("Write to ada.lovelace+notes@mail.example.org, please.", "EMAIL");
    expect_types("Schreib an jürgen@müller.de heute", "EMAIL");
    expect_types("(ada@example.com)", "EMAIL");
    expect_types("See https://example.org/a?b=c&d=(e), then go.", "URL");
    expect_types("www.example.org is down", "URL");
    expect_types("postgres://bob:hunter22@db.example.org:5432/x", "URL");
    expect_types("look at example.com/pricing today", "URL");
    expect_types("Call +49 30 901820 now", "PHONE");
    expect_types("Call (555) 123-4567.", "PHONE");
    expect_types("555-123-4567 or 1-800-555-0199", "PHONE PHONE");
    expect_types("Tel.: 030/1234567", "PHONE");
    expect_types("01.23.45.67.89 is her number", "PHONE");
    expect_types("07911 123456", "PHONE");
    expect_types("phone 4412345", "PHONE");
    expect_types("card 4111 1111 1111 1111 expires", "CARD");
    expect_types("5500-0000-0000-0004", "CARD");
    expect_types("378282246310005", "CARD");
    expect_types("IBAN DE89 3704 0044 0532 0130 00 please", "IBAN");
    expect_types("GB82WEST12345698765432", "IBAN");
    expect_types("server 192.168.17.4 is up", "IP");
    expect_types("2001:db8::8a2e:370:7334 and fe80::1ff:fe23:4567:890a", "IP IP");
    expect_types("export KEY=sk-abcdEFGH1234ijklMNOP5678", "KEY");
    expect_types("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "KEY");
    expect_types("AKIAIOSFODNN7EXAMPLE", "KEY");
    expect_types("hash 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "KEY");
    expect_types("my password: hunter2!", "KEY");
    expect_types("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY----- tail", "KEY");
    expect_types("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N", "KEY");
    expect_types("already [EMAIL_1] here", "TEXT");
}

static void ordinary_text_is_left_alone(void **s) {
    (void)s;
    const char *const plain[] = {
        "The meeting is on 2024-01-15 at 10:30, or 15.01.2024 10:30.",
        "It costs 1,234.56 euro for 12 posts.",
        "Version 1.2.3 of src/base/json.c, line 120-135",
        "Call me on Monday",
        "std::vector<int> and a::b",
        "We were 1500000000 strong in 1999-2003",
        "getElementByIdentifierAndClassName works",
        "see @alice about it",
        "https is a scheme, www too",
        "4111 1111 1111 1112 is no card",
        "The password is not here",
        "Room 4, 18:00, 7:12 from platform 9, lane 3 until 7:45",
        "3 + 4 = 7 and 100-200 pages",
        "e.g. this or i.e. that",
        "1.5.2024 is a date and 12/31/2023 too",
        "ISO 8601 and RFC 2616",
        "[1] and [Figure 2] and [TODO]",
        "the 25th, the 3rd; 10:00-11:30",
        "internationalisation_of_everything",
    };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        expect_types(plain[i], "");
}

static void check_round_trip(const char *text) {
    struct redactor r = {0};
    char *hidden = NULL;
    assert_int_equal(redact_text(&r, 1, false, text, &hidden, NULL), PLM_OK);
    struct bytes b;
    bytes_init(&b, 1 << 20);
    size_t len = strlen(hidden), done = 0, at = 0, n = 0;
    while (placeholder_next(hidden, len, &at, &n)) {
        bytes_put(&b, hidden + done, at - done);
        bool known = false;
        for (size_t i = 0; i < r.n; i++)
            if (strlen(r.slots[i].placeholder) == n && memcmp(r.slots[i].placeholder, hidden + at, n) == 0) {
                bytes_put(&b, text + r.slots[i].where.at, r.slots[i].where.len);
                known = true;
            }
        assert_true(known);
        at += n;
        done = at;
    }
    bytes_put(&b, hidden + done, len - done);
    assert_string_equal(b.data, text);
    bytes_free(&b);
    plm_free(hidden);
    redactor_free(&r);
}

static void hidden_text_comes_back_unchanged(void **s) {
    (void)s;
    check_round_trip("Mail ada@example.org and bob@example.org, then ada@example.org again.");
    check_round_trip("[EMAIL_1] was there before ada@example.org, and so was [TEXT_1] and [[URL_2]]");
    check_round_trip("");
    check_round_trip("nothing here");
    check_round_trip("https://a.example/x https://a.example/x +49 30 901820 [PHONE_1]");
}

static void equal_secrets_share_a_placeholder(void **s) {
    (void)s;
    struct redactor r = {0};
    char *a = NULL, *b = NULL;
    assert_int_equal(redact_text(&r, 1, false, "ada@example.org or bob@example.org", &a, NULL), PLM_OK);
    assert_int_equal(redact_text(&r, 2, true, "bob@example.org, ada@example.org", &b, NULL), PLM_OK);
    assert_string_equal(a, "[EMAIL_1] or [EMAIL_2]");
    assert_string_equal(b, "[EMAIL_2], [EMAIL_1]");
    plm_free(a);
    plm_free(b);
    redactor_free(&r);
}

/* ---- a generated set ---- */

static struct rng dice;

static int roll(int n) {
    return (int)rng_below(&dice, (uint64_t)n);
}

static void put_digits(char *out, int n) {
    size_t at = strlen(out);
    for (int i = 0; i < n; i++)
        out[at++] = (char)('0' + roll(10));
    out[at] = 0;
}

static void put_random(char *out, int n) {
    static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t at = strlen(out);
    for (int i = 0; i < n; i++)
        out[at++] = set[roll(62)];
    out[at] = 0;
}

static void make_card(char *out) {
    char d[17];
    int sum = 0;
    d[0] = (char)('3' + roll(3) + (roll(3) == 0));
    for (int i = 1; i < 15; i++)
        d[i] = (char)('0' + roll(10));
    for (int i = 0; i < 15; i++) {
        int v = (d[i] - '0') * (i % 2 ? 1 : 2);
        sum += v > 9 ? v - 9 : v;
    }
    d[15] = (char)('0' + (10 - sum % 10) % 10);
    int style = roll(3);
    for (int i = 0; i < 16; i++)
        sprintf(out + strlen(out), "%s%c",
                i && i % 4 == 0 ? (style == 0   ? " "
                                   : style == 1 ? "-"
                                                : "")
                                : "",
                d[i]);
}

static void make_iban(char *out) {
    static const struct {
        const char *country;
        int digits;
    } c[] = {{"DE", 18}, {"FR", 23}, {"ES", 20}, {"AT", 16}, {"CH", 17}, {"IT", 22}, {"PL", 24}};
    int k = roll(7), rest = 0;
    char body[40] = "", whole[60];
    put_digits(body, c[k].digits);
    snprintf(whole, sizeof whole, "%s%d%d00", body, c[k].country[0] - 'A' + 10, c[k].country[1] - 'A' + 10);
    for (char *p = whole; *p; p++)
        rest = (rest * 10 + *p - '0') % 97;
    snprintf(whole, sizeof whole, "%s%02d%s", c[k].country, 98 - rest, body);
    bool blanks = roll(2);
    for (int i = 0; whole[i]; i++)
        sprintf(out + strlen(out), "%s%c", blanks && i && i % 4 == 0 ? " " : "", whole[i]);
}

static void make_phone(char *out) {
    static const char *const shapes[] = {"+49 30 #######", "+1 (2##) 5##-####", "2##-5##-####",
                                         "(3##) 4##-####", "+44 20 #### ####",  "0##/#######",
                                         "0171 #######",   "+33 1 ## ## ## ##", "0# ## ## ## ##",
                                         "+4366########",  "2##.5##.####",      "+1-2##-5##-####"};
    const char *p = shapes[roll(12)];
    for (; *p; p++) {
        size_t at = strlen(out);
        out[at] = *p == '#' ? (char)('0' + roll(10)) : *p;
        out[at + 1] = 0;
    }
}

static void make_email(char *out) {
    static const char *const a[] = {"ada", "bob.miller", "j_smith", "info+x", "k.o-neil", "x", "sales2024"};
    static const char *const b[] = {"example.org", "mail.example.co.uk", "uni-bonn.de", "x.io",
                                    "my-firm.example"};
    sprintf(out, "%s@%s", a[roll(7)], b[roll(5)]);
}

static void make_ip(char *out) {
    if (roll(2))
        sprintf(out, "%d.%d.%d.%d", roll(256), roll(256), roll(256), roll(256));
    else
        sprintf(out, "2001:db8:%x:%x::%x", roll(65536), 1 + roll(65535), 1 + roll(65535));
}

static void make_url(char *out) {
    static const char *const s[] = {"https://", "http://", "www.", "ftp://", "https://user:pw@"};
    static const char *const h[] = {"example.org", "docs.example.com:8080", "x.example/path"};
    static const char *const t[] = {"", "/a/b?c=d", "/~ada/#top", "/x_(y)"};
    sprintf(out, "%s%s%s", s[roll(5)], h[roll(3)], t[roll(4)]);
}

static void make_key(char *out) {
    static const char *const p[] = {"sk-", "ghp_", "AKIA", "glpat-", "", "", "xoxb-"};
    strcpy(out, p[roll(7)]);
    put_random(out, 36);
}

static void make_nothing(char *out) {
    int k = roll(8);
    if (k == 0)
        sprintf(out, "20%02d-%02d-%02d", roll(30), 1 + roll(12), 1 + roll(28));
    else if (k == 1)
        sprintf(out, "%d.%d.20%02d", 1 + roll(28), 1 + roll(12), roll(30));
    else if (k == 2)
        sprintf(out, "%d:%02d", roll(24), roll(60));
    else if (k == 3)
        sprintf(out, "%d,%03d.%02d euro", 1 + roll(99), roll(1000), roll(100));
    else if (k == 4)
        sprintf(out, "version %d.%d.%d", roll(20), roll(20), roll(20));
    else if (k == 5)
        sprintf(out, "order %d", roll(1000000));
    else if (k == 6)
        sprintf(out, "src/net/client_%d.c:%d", roll(10), roll(999));
    else
        sprintf(out, "pages %d-%d", roll(300), 300 + roll(300));
}

static void structured_ids_are_found_and_little_else(void **s) {
    (void)s;
    static const struct {
        const char *type;
        void (*make)(char *);
    } kinds[] = {{"EMAIL", make_email}, {"PHONE", make_phone}, {"CARD", make_card}, {"IBAN", make_iban},
                 {"IP", make_ip},       {"URL", make_url},     {"KEY", make_key},   {"", make_nothing}};
    static const char *const before[] = {"Write it down: ", "I think ",     "Use ", "(",
                                         "They said \"",    "the new one, "};
    static const char *const after[] = {", please.",       ".", " works", ")", "\" again",
                                        " and then we go", "!", "\nbye"};
    enum { EACH = 2000 };
    size_t made = 0, hit = 0, found = 0, wrong = 0;
    rng_seed(&dice, 5, 5);
    for (size_t k = 0; k < 8; k++) {
        size_t kind_hit = 0;
        for (int i = 0; i < EACH; i++) {
            char secret[200] = "", text[400];
            kinds[k].make(secret);
            const char *a = before[roll(6)];
            snprintf(text, sizeof text, "%s%s%s", a, secret, after[roll(8)]);
            struct secret *v = NULL;
            size_t n = 0, from = strlen(a), len = strlen(secret);
            assert_int_equal(secrets_find(text, strlen(text), &v, &n, NULL), PLM_OK);
            bool whole = false;
            for (size_t j = 0; j < n; j++) {
                bool inside = v[j].at >= from && v[j].at + v[j].len <= from + len;
                whole = whole || (v[j].at <= from && v[j].at + v[j].len >= from + len);
                found++;
                wrong += !*kinds[k].type || !inside;
            }
            made += *kinds[k].type != 0;
            kind_hit += whole && *kinds[k].type;
            if (*kinds[k].type && !whole && kind_hit + 10 > (size_t)i)
                print_message("missed %s: %s\n", kinds[k].type, text);
            mem_free(v);
        }
        hit += kind_hit;
        if (*kinds[k].type) {
            print_message("%-6s recall %.4f\n", kinds[k].type, (double)kind_hit / EACH);
            assert_true((double)kind_hit / EACH >= .995);
        }
    }
    print_message("recall %.4f, precision %.4f of %zu\n", (double)hit / (double)made,
                  1 - (double)wrong / (double)found, found);
    assert_true((double)hit / (double)made >= .995);
    assert_true(1 - (double)wrong / (double)found >= .95);
}

static void long_hostile_text_is_scanned_in_linear_time(void **s) {
    (void)s;
    static const char *const units[] = {"a",    "1",    "a@",          "a.",   "=a",  "1-",     "[A_",
                                        "://",  "http", "-----BEGIN ", "::1",  "+1 ", "token=", "\xc3\xa9",
                                        "DE12", "(",    "0 ",          "www.", "eyJ", "/a1B2"};
    enum { SIZE = 1 << 16 };
    char *text = mem_alloc(SIZE + 32, 1);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t n = 0, len = strlen(units[u]);
        while (n < SIZE) {
            memcpy(text + n, units[u], len);
            n += len;
        }
        text[n] = 0;
        struct secret *v = NULL;
        size_t found;
        double from = clock_now();
        assert_int_equal(secrets_find(text, n, &v, &found, NULL), PLM_OK);
        if (clock_now() - from > 1)
            print_message("%s took %.2f s\n", units[u], clock_now() - from);
        assert_true(clock_now() - from < 3);
        mem_free(v);
    }
    mem_free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_is_found),
        cmocka_unit_test(ordinary_text_is_left_alone),
        cmocka_unit_test(hidden_text_comes_back_unchanged),
        cmocka_unit_test(equal_secrets_share_a_placeholder),
        cmocka_unit_test(structured_ids_are_found_and_little_else),
        cmocka_unit_test(long_hostile_text_is_scanned_in_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
