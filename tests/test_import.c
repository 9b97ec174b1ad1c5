/* Import of files: what becomes a record, what is skipped and why, and what fails as a whole. */
#include <fcntl.h>
#include <sys/wait.h>
#include "base/clock.h"
#include "base/mem.h"
#include "support_import.h"

static void import_text(struct import *i, struct folder *f, const char *name, const char *text,
                        plm_import_options opt) {
    write_text(in_folder(f, name), text);
    unlink(in_folder(f, "s.db"));
    char path[200];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    import_run(i, f, path, opt);
}

#define SAYS(text, part)                                        \
    do {                                                        \
        if (!strstr(text, part)) {                              \
            fail_msg("\"%s\" does not say \"%s\"", text, part); \
        }                                                       \
    } while (0)

static void jsonl_rows_of_every_shape(void **state) {
    static struct import i;
    import_text(&i, *state, "a.jsonl",
                "\xef\xbb\xbf{\"text\": \"body\", \"title\": \"T1\", \"date\": \"2026-01-02\", \"source\": "
                "\"book\"}\r\n"
                "\n   \n"
                "{\"prompt\": \"q\", \"answer\": \"a\"}\n"
                "{\"prompt\": \"q2\", \"completion\": \"a2\", \"time\": 86400}\n"
                "{\"review\": \"nice\", \"rating\": 5}\n"
                "{\"kind\": \"mail\", \"input\": \"i\", \"output\": \"o\"}\n"
                "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", "
                "\"content\": \"yo\"}]}\n"
                "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", "
                "\"content\": \"u\"},"
                " {\"role\": \"assistant\", \"content\": \"v\"}]}\n"
                "{\"tweet\": \"only what I wrote\"}",
                (plm_import_options){0});
    assert_int_equal(i.st, PLM_OK);
    assert_string_equal(i.report.format, "jsonl");
    SAYS(i.records, "note|body|T1|book|1767312000\n");
    SAYS(i.records, "chat|q|a|");
    SAYS(i.records, "a.jsonl|86400\n");
    SAYS(i.records, "review|nice|5|");
    SAYS(i.records, "mail|i|o|");
    SAYS(i.records, "chat|hi|yo|");
    SAYS(i.records, "chat|System: s\n\nUser: u|v|");
    assert_string_equal(import_counts(&i), "8 7 0 0 1"); // a lone tweet needs its kind said
    import_text(&i, *state, "a.jsonl", "{\"tweet\": \"only what I wrote\"}",
                (plm_import_options){.kind = "tweet"});
    SAYS(i.records, "tweet||only what I wrote|");
}

static void bad_jsonl_rows_are_skipped_with_line_and_reason(void **state) {
    static const struct {
        const char *row, *why;
    } bad[] = {
        {"{\"text\": \"a\"}", "lacks the fields"},
        {"[1, 2]", "not a JSON object"},
        {"7", "not a JSON object"},
        {"null", "not a JSON object"},
        {"{\"text\": \"a\", \"title\": \"b\"} {\"text\": \"a\"}", "not valid JSON"},
        {"{\"text\": \"a\", \"title\": \"b\",}", "not valid JSON"},
        {"// comment", "not valid JSON"},
        {"{\"text\": \"a\", \"text\": \"c\", \"title\": \"b\"}", "duplicate"},
        {"{\"text\": \"a\", \"title\": \"\"}", "its title is empty"},
        {"{\"text\": \" \", \"title\": \"b\"}", "its text is empty"},
        {"{\"text\": \"a\", \"title\": null}", "must be texts"},
        {"{\"text\": [\"a\"], \"title\": \"b\"}", "must be texts"},
        {"{\"text\": \"a\\u0000b\", \"title\": \"b\"}", "must be texts or numbers, without NUL"},
        {"{\"text\": \"a\", \"title\": \"\\ud800\"}", "not valid JSON"},
        {"{\"text\": \"a\", \"title\": \"\xff\"}", "it is not UTF-8"},
        {"\xff\xfe{", "it is not UTF-8"},
        {"\x1f\x8b\x08", "it is not UTF-8"},
        {"{\"text\": NaN, \"title\": \"b\"}", "not valid JSON"},
        {"{\"text\": 1e400, \"title\": \"b\"}", "not valid JSON"},
        {"{\"text\": \"a\", \"title\": \"b\"", "not valid JSON"},
        {"{\"messages\": []}", "at least two"},
        {"{\"messages\": [{\"role\": \"user\"}, 3]}", "a role and a content"},
        {"{\"messages\": [{\"role\": \"owner\", \"content\": \"x\"}, {\"role\": \"user\", \"content\": "
         "\"x\"}]}",
         "must be system"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"user\", \"content\": "
         "\"x\"}]}",
         "last message"},
        {"{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}, {\"role\": \"user\", \"content\": "
         "\"x\"}]}",
         "must follow"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": "
         "\"\"}]}",
         "is empty"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": null}, {\"role\": \"assistant\", \"content\": "
         "\"x\"}]}",
         "a role and a content"},
    };
    static struct import i;
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "{\"text\": \"good\", \"title\": \"G\"}\n%s\n{\"text\": \"fine\", \"title\": \"F\"}\n",
                 bad[k].row);
        import_text(&i, *state, "a.jsonl", text, (plm_import_options){.kind = "note"});
        if (i.st || strcmp(import_counts(&i), "3 2 0 0 1") || !strstr(i.skips, bad[k].why) ||
            strncmp(i.skips, "line 2: ", 8)) {
            fail_msg("row %s: %s; %s; %s", bad[k].row, import_counts(&i), i.skips, i.err.text);
        }
    }
}

static void nul_bytes_and_deep_nesting_are_skipped(void **state) {
    static struct import i;
    struct folder *f = *state;
    char path[100];
    snprintf(path, sizeof path, "%s/a.jsonl", f->path);
    const char text[] = "{\"text\": \"good\", \"title\": \"G\"}\n{\"text\": \"a\0b\", \"title\": \"x\"}\n";
    write_bytes(path, text, sizeof text - 1);
    import_run(&i, f, path, (plm_import_options){.kind = "note"});
    assert_string_equal(i.skips, "line 2: it holds a NUL byte\n");
    FILE *file = fopen(path, "w");
    for (int deep = 0; deep < 100000; deep++) {
        fputc('[', file);
    }
    fputs("\n{\"text\": \"more\", \"title\": \"M\"}\n", file);
    fclose(file);
    import_run(&i, f, path, (plm_import_options){.kind = "note"});
    SAYS(i.skips, "line 1: the line: JSON is nested deeper than 64");
    assert_string_equal(import_counts(&i), "2 1 0 0 1");
}

static void a_huge_line_is_never_held(void **state) {
    static struct import i;
    struct folder *f = *state;
    char path[100];
    snprintf(path, sizeof path, "%s/a.jsonl", f->path);
    write_text(path, "{\"text\": \"good\", \"title\": \"G\"}\n{\"text\": \"");
    // 2 GB without a newline, as a hole in the file: NUL bytes that take no disk.
    assert_int_equal(truncate(path, (off_t)1 << 31), 0);
    FILE *file = fopen(path, "a");
    fputs("\"}\n{\"text\": \"last\", \"title\": \"L\"}\n", file);
    fclose(file);
    uint64_t before = process_peak_rss();
    import_run(&i, f, path, (plm_import_options){.kind = "note"});
    assert_int_equal(i.st, PLM_OK);
    assert_string_equal(import_counts(&i), "3 2 0 0 1");
    assert_string_equal(i.skips, "line 2: it is longer than 1 MiB\n");
    assert_true(process_peak_rss() - before < 32 << 20);
}

static void nothing_good_fails_and_says_why(void **state) {
    static struct import i;
    struct folder *f = *state;
    import_text(&i, f, "a.jsonl", "{\"x\": 1}\n7\n", (plm_import_options){.kind = "note"});
    assert_int_equal(i.st, PLM_EFORMAT);
    SAYS(i.err.text, "none of its 2 rows was good; line 1: it lacks the fields of its kind");
    assert_string_equal(import_counts(&i), "2 0 0 0 2");
    import_text(&i, f, "a.jsonl", "", (plm_import_options){0});
    assert_int_equal(i.st, PLM_EFORMAT);
    SAYS(i.err.text, "a.jsonl is empty");
    import_text(&i, f, "a.jsonl", "\n \n\n", (plm_import_options){0});
    SAYS(i.err.text, "there is nothing in it to import");
    import_text(&i, f, "a.csv", "text,title\n", (plm_import_options){0});
    SAYS(i.err.text, "there is nothing in it to import");
    import_run(&i, f, in_folder(f, "none.jsonl"), (plm_import_options){0});
    assert_int_equal(i.st, PLM_ENOTFOUND);
    import_text(&i, f, "a.bin", "\x01\x02\x03", (plm_import_options){0});
    SAYS(i.err.text, "can't tell what this is");
    import_text(&i, f, "a.jsonl", "{}", (plm_import_options){.format = "mbox"});
    SAYS(i.err.text, "there is no format \"mbox\"");
    import_text(&i, f, "a.jsonl", "{}", (plm_import_options){.format = "git"});
    assert_true(i.st != PLM_OK);
    import_text(&i, f, "a.jsonl", "{}", (plm_import_options){.kind = "nonsense"});
    SAYS(i.err.text, "there is no kind \"nonsense\"");
    char fifo[100];
    snprintf(fifo, sizeof fifo, "%s/pipe.jsonl", f->path);
    mkfifo(fifo, 0600);
    import_run(&i, f, fifo, (plm_import_options){0});
    SAYS(i.err.text, "neither a file nor a folder");
}

static void importing_twice_adds_nothing(void **state) {
    static struct import i;
    struct folder *f = *state;
    char path[100];
    snprintf(path, sizeof path, "%s/a.jsonl", f->path);
    write_text(path, "{\"text\": \"a\", \"title\": \"b\"}\n{\"text\": \"a\", \"title\": \"b\"}\n{\"text\": "
                     "\"c\", \"title\": \"d\"}\n");
    import_run(&i, f, path, (plm_import_options){0});
    assert_string_equal(import_counts(&i), "3 2 1 0 0");
    import_run(&i, f, path, (plm_import_options){0});
    assert_int_equal(i.st, PLM_OK);
    assert_string_equal(import_counts(&i), "3 0 3 0 0");
}

static void an_author_who_is_not_me_is_counted_apart(void **state) {
    static struct import i;
    import_text(&i, *state, "a.jsonl",
                "{\"text\": \"a\", \"title\": \"b\", \"author\": \"ANA@x.org\"}\n"
                "{\"text\": \"c\", \"title\": \"d\", \"author\": \"bo@x.org\"}\n{\"text\": \"e\", \"title\": "
                "\"f\"}\n",
                (plm_import_options){.me = "ana@x.org"});
    assert_string_equal(import_counts(&i), "3 2 0 1 0");
    import_text(&i, *state, "a.jsonl", "{\"text\": \"c\", \"title\": \"d\", \"author\": \"bo@x.org\"}\n",
                (plm_import_options){.me = "ana@x.org"});
    assert_int_equal(i.st, PLM_ENOTFOUND);
    SAYS(i.err.text, "none of its 1 rows is by ana@x.org");
}

static void times_are_read_in_common_forms(void **state) {
    static const struct {
        const char *text;
        long long when;
    } cases[] = {
        {"\"1970-01-02\"", 86400},
        {"\"2000-02-29T12:00:00Z\"", 951825600},
        {"\"2000-02-29 12:00\"", 951825600},
        {"\"2000-02-29T12:00:00.250+01:30\"", 951820200},
        {"\"2000-02-29T12:00:00 -0100\"", 951829200},
        {"\"2012-06\"", 1338508800},
        {"\"20120601\"", 1338508800},
        {"20120601", 1338508800},
        {"\"2012\"", 1325376000},
        {"1338508800", 1338508800},
        {"\"yesterday\"", 0},
        {"\"2012-13-01\"", 0},
        {"\"2012-06-01T\"", 0},
        {"\"2012-06-01T12:00:00+\"", 0},
        {"\"\"", 0},
        {"[]", 0},
        {"-5", 0},
    };
    static struct import i;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char row[200], want[100];
        snprintf(row, sizeof row, "{\"text\": \"a\", \"title\": \"b\", \"date\": %s}\n", cases[k].text);
        snprintf(want, sizeof want, "a.jsonl|%lld\n", cases[k].when);
        import_text(&i, *state, "a.jsonl", row, (plm_import_options){0});
        SAYS(i.records, want);
    }
}

static void csv_with_quotes_newlines_and_other_separators(void **state) {
    static struct import i;
    import_text(&i, *state, "a.csv",
                "\xef\xbb\xbfTitle,Text,Date\r\n"
                "One,\"first \"\"quoted\"\"\r\nsecond line, with comma\",2026-01-02\r\n"
                "\r\n"
                "Two,plain,\n"
                "\"\",no title,\n"
                "Three,too,many,fields\n"
                "Four,bad\"quote,\n"
                "Five,\"after\" quote,\n"
                "Six,\xff,\n"
                "Seven,\"last",
                (plm_import_options){0});
    assert_int_equal(i.st, PLM_OK);
    assert_string_equal(i.report.format, "csv");
    SAYS(i.records, "note|first \"quoted\"\r\nsecond line, with comma|One|");
    SAYS(i.records, "note|plain|Two|");
    assert_string_equal(import_counts(&i), "8 2 0 0 6");
    SAYS(i.skips, "line 6: its title is empty\n");
    SAYS(i.skips, "line 7: it has 4 fields, the header has 3\n");
    SAYS(i.skips, "line 8: a quote stands in the middle of a field\n");
    SAYS(i.skips, "line 9: a quote stands in the middle of a field\n");
    SAYS(i.skips, "line 10: it is not UTF-8\n");
    SAYS(i.skips, "line 11: a quoted field in it never ends\n");
    import_text(&i, *state, "a.csv", "text;title\na, b;T\n", (plm_import_options){0});
    SAYS(i.records, "note|a, b|T|");
    import_text(&i, *state, "a.csv", "text\ttitle\na, b\tT\n", (plm_import_options){0});
    SAYS(i.records, "note|a, b|T|");
    import_text(&i, *state, "a.csv", "text,text\na,b\n", (plm_import_options){0});
    SAYS(i.err.text, "the header names \"text\" twice");
    import_text(&i, *state, "a.csv", "text,\"title\na,b\n", (plm_import_options){0});
    SAYS(i.err.text, "line 1: a quoted field in it never ends");
}

static void csv_limits_hold(void **state) {
    static struct import i;
    struct folder *f = *state;
    char path[100];
    snprintf(path, sizeof path, "%s/a.csv", f->path);
    FILE *file = fopen(path, "w");
    fputs("text,title\n\"", file);
    for (int k = 0; k < 3 << 20; k++) {
        fputc(k % 80 ? 'x' : '\n', file);
    }
    fputs("\",T\nshort,S\n", file);
    for (int k = 0; k < 5000; k++) {
        fputs("a,", file);
    }
    fwrite("\nz\0z,N\nend,E\n", 1, 13, file);
    fclose(file);
    import_run(&i, f, path, (plm_import_options){0});
    SAYS(i.skips, "line 2: it is longer than 1 MiB");
    SAYS(i.skips, "it has more than 256 fields");
    SAYS(i.skips, "it holds a NUL byte");
    SAYS(i.records, "note|short|S|");
    SAYS(i.records, "note|end|E|");
}

static void markdown_files_and_their_titles(void **state) {
    static struct import i;
    import_text(&i, *state, "a.md",
                "---\ntitle: \"Front\"\ndate: 2026-01-02\ntags: [x]\n---\n\n# Front\n\nThe body.\n\n# Not a "
                "note\nmore\n",
                (plm_import_options){0});
    assert_string_equal(i.report.format, "markdown");
    SAYS(i.records, "note|The body.\n\n# Not a note\nmore|Front|");
    SAYS(i.records, "a.md|1767312000\n");
    import_text(&i, *state, "a.md",
                "# First #\r\n\r\none\r\n```\r\n# code\r\n```\r\n# Second\ntwo\n## Sub\nsub\n# Empty\n",
                (plm_import_options){0});
    SAYS(i.records, "note|one\r\n```\r\n# code\r\n```|First|");
    SAYS(i.records, "note|two\n## Sub\nsub|Second|");
    SAYS(i.skips, "line 11: its text is empty");
    assert_string_equal(import_counts(&i), "3 2 0 0 1");
    import_text(&i, *state, "a.md", "no title here\n", (plm_import_options){0});
    SAYS(i.err.text, "neither a title in front matter nor a first-level heading");
    import_text(&i, *state, "a.md", "---\nno end of front matter\n# H\ntext\n", (plm_import_options){0});
    SAYS(i.records, "note|text|H|");
    SAYS(i.skips, "line 1: there is text before the first heading");
    import_text(&i, *state, "a.md", "---\ndate: 2026-01-02\n---\n# Dated\ntext\n", (plm_import_options){0});
    SAYS(i.records, "a.md|1767312000\n");
}

static void a_folder_of_markdown(void **state) {
    static struct import i;
    struct folder *f = *state;
    char root[100];
    static const char *const folders[] = {"n", "n/sub", "n/.hidden"};
    for (size_t k = 0; k < 3; k++) {
        mkdir(in_folder(f, folders[k]), 0700);
    }
    write_text(in_folder(f, "n/b.md"), "# B\nbee\n");
    write_text(in_folder(f, "n/a.markdown"), "# A\nay\n");
    write_text(in_folder(f, "n/sub/c.MD"), "# C\nsee\n");
    write_text(in_folder(f, "n/other.txt"), "# X\nnot this\n");
    write_text(in_folder(f, "n/.hidden/d.md"), "# D\nnor this\n");
    write_text(in_folder(f, "n/sub/bad.md"), "# bad\n\xff\n");
    write_text(in_folder(f, "n/empty.md"), "");
    snprintf(root, sizeof root, "%s/n", f->path);
    assert_int_equal(symlink(root, in_folder(f, "n/sub/loop")), 0);
    import_run(&i, f, root, (plm_import_options){0});
    assert_int_equal(i.st, PLM_OK);
    SAYS(i.records, "note|ay|A|");
    SAYS(i.records, "note|bee|B|");
    SAYS(i.records, "note|see|C|");
    assert_null(strstr(i.records, "this"));
    SAYS(i.skips, "bad.md: it is not UTF-8");
    assert_int_equal(i.report.added, 3);
    import_run(&i, f, root, (plm_import_options){0});
    assert_int_equal(i.report.added, 0);
}

static void an_export_comes_back_whole(void **state) {
    static struct import i, again;
    struct folder *f = *state;
    char export[100];
    snprintf(export, sizeof export, "%s/e.jsonl", f->path);
    import_text(&i, f, "a.jsonl",
                "{\"text\": \"a\", \"title\": \"b \\u00fc\", \"time\": 99999}\n{\"prompt\": \"p\", "
                "\"answer\": \"q\"}\n"
                "{\"review\": \"r\", \"rating\": \"3\"}\n",
                (plm_import_options){0});
    plm_store *st = NULL;
    assert_int_equal(plm_store_open(&st, in_folder(f, "s.db"), true, NULL), PLM_OK);
    assert_int_equal(plm_store_export(st, "ana", export, NULL), PLM_OK);
    plm_store_close(st);
    unlink(in_folder(f, "s.db"));
    import_run(&again, f, export, (plm_import_options){0});
    assert_int_equal(again.st, PLM_OK);
    assert_string_equal(import_counts(&again), "3 3 0 0 0");
    assert_string_equal(again.records, i.records);
}

#define LAMP4 "\"Generate a headline for the following article: x\""

static void lamp_profiles_become_records(void **state) {
    static struct import i;
    struct folder *f = *state;
    static const char *const file =
        "[{\"id\": 11, \"user_id\": 7, \"input\": " LAMP4
        ", \"profile\": [{\"id\": 1, \"title\": \"T\", \"text\":"
        " \"body\", \"date\": \"2012-06-01\"}, {\"id\": \"2\", \"title\": \"no text\"}, 5]},\n"
        " {\"id\": \"12\", \"user_id\": \"ben\", \"input\": " LAMP4
        ", \"profile\": [{\"title\": \"B\", \"text\": \"by ben\"}]},\n"
        " {\"id\": \"13\", \"user_id\": 7, \"input\": " LAMP4 ", \"profile\": []}]";
    import_text(&i, f, "q.json", file, (plm_import_options){.me = "7"});
    assert_int_equal(i.st, PLM_OK);
    assert_string_equal(i.report.format, "lamp");
    SAYS(i.records, "lamp-4|body|T|");
    SAYS(i.records, "|1338508800\n");
    assert_null(strstr(i.records, "ben"));
    assert_string_equal(import_counts(&i), "3 1 0 0 2");
    import_text(&i, f, "q.json", file, (plm_import_options){.user = "ben"});
    SAYS(i.records, "lamp-4|by ben|B|");
    import_text(&i, f, "q.json", file, (plm_import_options){0});
    assert_int_equal(i.st, PLM_ENOTFOUND);
    SAYS(i.err.text, "no history of \"ana\"; say whose with --me (such as 7)");
}

static void lamp_tasks_map_their_fields(void **state) {
    static const struct {
        const char *input, *item, *record;
    } cases[] = {
        {"Which tag does this movie relate to among the following tags? Just answer with the tag name "
         "without further "
         "explanation. tags: [sci-fi, based on a book, comedy, action, twist ending, dystopia, dark comedy, "
         "classic, "
         "psychology, fantasy, romance, thought-provoking, social commentary, violence, true story] "
         "description: x",
         "{\"description\": \"d\", \"tag\": \"comedy\"}", "lamp-2|d|comedy|"},
        {"What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 "
         "without "
         "further explanation. review: x",
         "{\"text\": \"d\", \"score\": 5}", "lamp-3|d|5|"},
        {"Generate a title for the following abstract of a paper: x",
         "{\"abstract\": \"d\", \"title\": \"t\"}", "lamp-5|d|t|"},
        {"Paraphrase the following tweet without any explanation before or after it: x",
         "{\"text\": \"mine\"}", "lamp-7||mine|"},
    };
    static struct import i;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char file[1024];
        snprintf(file, sizeof file, "[{\"id\": \"1\", \"input\": \"%s\", \"profile\": [%s]}]", cases[k].input,
                 cases[k].item);
        import_text(&i, *state, "q.json", file, (plm_import_options){0});
        SAYS(i.records, cases[k].record);
    }
    import_text(
        &i, *state, "q.json",
        "[{\"id\": \"1\", \"input\": \"What is the score of the following review on a scale of 1 to 5? just "
        "answer with 1, 2, 3, 4, or 5 without further explanation. review: x\", \"profile\": [{\"text\": "
        "\"a\","
        " \"score\": 6}]}]",
        (plm_import_options){0});
    SAYS(i.err.text, "\"6\" is none of the answers of the kind lamp-3");
}

static void lamp_1_makes_balanced_pairs(void **state) {
    static struct import i;
    import_text(&i, *state, "q.json",
                "[{\"id\": \"1\", \"user_id\": \"a\", \"input\": \"For an author who has written the paper "
                "with the title"
                " ...\", \"profile\": [{\"title\": \"P1\", \"citation\": \"C1\"}, {\"title\": \"P2\", "
                "\"citation\": \"C2\"},"
                " {\"title\": \"Old ships\", \"citation\": \"C3\"}, {\"title\": \"Green tea\"}, {\"title\": "
                "\"Black tea\"}]}, {\"id\": \"2\", \"user_id\": \"b\", \"input\": \"x\", \"profile\":"
                " [{\"title\": \"Q\", \"citation\": \"D\"}]}]",
                (plm_import_options){.me = "a"});
    assert_int_equal(i.st, PLM_OK);
    SAYS(i.records,
         "the title \"P1\", which reference is related? Just answer with [1] or [2] without explanation. "
         "[1]: \"C1\" [2]: \"D\"|[1]|");
    SAYS(i.records, "[1]: \"D\" [2]: \"C2\"|[2]|");
    // Without a citation the person's own nearest title is the right answer.
    SAYS(i.records,
         "the title \"Green tea\", which reference is related? Just answer with [1] or [2] without "
         "explanation. [1]: \"D\" [2]: \"Black tea\"|[2]|");
    SAYS(i.records, "[1]: \"Green tea\" [2]: \"D\"|[1]|");
    assert_string_equal(import_counts(&i), "5 5 0 0 0");
    import_text(&i, *state, "q.json",
                "[{\"id\": \"1\", \"input\": \"For an author who has written the paper\", \"profile\":"
                " [{\"title\": \"P1\"}, {}, {\"title\": \"P2\"}]}]",
                (plm_import_options){0});
    SAYS(i.skips, "profile item 1: the file holds nobody else's reference to compare with");
    SAYS(i.skips, "profile item 2: it has no title");
}

static void malformed_lamp_files_are_refused(void **state) {
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{}", "is a JSON list"},
        {"null", "is a JSON list"},
        {"[", "ends in the middle of question 1"},
        {"[{\"id\": \"1\", \"input\": " LAMP4 ", \"profile\": []}", "ends in the middle of question 1"},
        {"[{\"id\": \"1\", \"input\": \"who knows\", \"profile\": []}]", "worded like no LaMP task"},
        {"[{\"id\": \"1\", \"input\": " LAMP4 "}]", "question 1: it needs an id, an input and a profile"},
        {"[{\"id\": null, \"input\": " LAMP4 ", \"profile\": []}]", "it needs an id"},
        {"[{\"id\": \"1\", \"input\": " LAMP4 ", \"profile\": {}}]", "it needs an id"},
        {"[{\"id\": \"1\", \"id\": \"2\"}]", "duplicate"},
        {"[3]", "it needs an id"},
        {"[,]", "question 1"},
        {"[{}{}]", "question 1: not valid JSON"},
        {"[\"\xff\"]", "not UTF-8"},
        {"[]", "there is nothing in it to import"},
    };
    static struct import i;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        import_text(&i, *state, "q.json", cases[k].text, (plm_import_options){.format = "lamp"});
        if (i.st == PLM_OK || !strstr(i.err.text, cases[k].says)) {
            fail_msg("%s: %s", cases[k].text, i.err.text);
        }
    }
}

static void a_truncated_lamp_file_imports_nothing(void **state) {
    static struct import i;
    struct folder *f = *state;
    static const char *const file =
        "[{\"id\": \"1\", \"user_id\": \"ana\", \"input\": " LAMP4
        ", \"profile\": [{\"title\": \"T\", \"text\": \"b\"}]},"
        " {\"id\": \"2\", \"user_id\": \"bo\", \"input\": " LAMP4 ", \"profile\": []}]";
    for (size_t cut = 1; cut < strlen(file); cut++) {
        char path[100];
        snprintf(path, sizeof path, "%s/q.json", f->path);
        write_bytes(path, file, cut);
        import_run(&i, f, path, (plm_import_options){.format = "lamp"});
        assert_true(i.st != PLM_OK);
        assert_string_equal(i.records, "");
    }
}

static void a_failure_inside_leaves_an_outer_transaction_alone(void **state) {
    struct folder *f = *state;
    char path[100];
    plm_store *st = NULL;
    plm_kinds *kinds = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/a.jsonl", f->path);
    write_text(path, "7\n");
    assert_int_equal(plm_store_open(&st, in_folder(f, "s.db"), false, NULL), PLM_OK);
    assert_int_equal(plm_kinds_open(&kinds, NULL, NULL), PLM_OK);
    assert_int_equal(plm_store_begin(st, NULL), PLM_OK);
    plm_record r = {.user = "ana", .kind = "note", .input = "x", .output = "y"};
    assert_int_equal(plm_store_add(st, &r, NULL, NULL, NULL), PLM_OK);
    assert_int_equal(
        plm_import(st, kinds, path, &(plm_import_options){.user = "ana"}, NULL, NULL, NULL, NULL),
        PLM_EFORMAT);
    assert_int_equal(plm_store_end(st, true, NULL), PLM_OK);
    assert_int_equal(plm_store_count(st, NULL, &n, NULL), PLM_OK);
    assert_int_equal(n, 1);
    plm_kinds_close(kinds);
    plm_store_close(st);
}

static void failed_allocations_import_all_or_nothing(void **state) {
    static const struct {
        const char *name, *text;
    } files[] = {
        {"a.jsonl",
         "{\"text\": \"a\", \"title\": \"b\"}\n{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"},"
         " {\"role\": \"assistant\", \"content\": \"yo\"}]}\n"},
        {"a.csv", "text,title\na,b\nc,d\n"},
        {"a.md", "---\nauthor: x\n---\n# A\na\n# B\nb\n"},
        {"q.json", "[{\"id\": \"1\", \"input\": " LAMP4 ", \"profile\": [{\"title\": \"T\", \"text\": \"b\"},"
                   " {\"title\": \"U\", \"text\": \"c\"}]}]"},
    };
    struct folder *f = *state;
    plm_kinds *kinds = NULL;
    assert_int_equal(plm_kinds_open(&kinds, NULL, NULL), PLM_OK);
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        char path[100];
        snprintf(path, sizeof path, "%s/%s", f->path, files[k].name);
        write_text(path, files[k].text);
        bool failed = true;
        for (long n = 1; failed; n++) {
            plm_store *st = NULL;
            size_t have = 0;
            unlink(in_folder(f, "s.db"));
            assert_int_equal(plm_store_open(&st, in_folder(f, "s.db"), false, NULL), PLM_OK);
            mem_fail_at(n, false);
            plm_status rc =
                plm_import(st, kinds, path, &(plm_import_options){.user = "ana"}, NULL, NULL, NULL, NULL);
            mem_fail_at(0, false);
            assert_int_equal(plm_store_count(st, NULL, &have, NULL), PLM_OK);
            failed = rc != PLM_OK;
            if (have != (failed ? 0 : 2) || (failed && rc != PLM_ENOMEM)) {
                fail_msg("%s, allocation %ld: %s with %zu records", files[k].name, n, plm_status_name(rc),
                         have);
            }
            plm_store_close(st);
            assert_true(n < 1000);
        }
    }
    plm_kinds_close(kinds);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_drop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(jsonl_rows_of_every_shape),
        TEST(bad_jsonl_rows_are_skipped_with_line_and_reason),
        TEST(nul_bytes_and_deep_nesting_are_skipped),
        TEST(a_huge_line_is_never_held),
        TEST(nothing_good_fails_and_says_why),
        TEST(importing_twice_adds_nothing),
        TEST(an_author_who_is_not_me_is_counted_apart),
        TEST(times_are_read_in_common_forms),
        TEST(csv_with_quotes_newlines_and_other_separators),
        TEST(csv_limits_hold),
        TEST(markdown_files_and_their_titles),
        TEST(a_folder_of_markdown),
        TEST(an_export_comes_back_whole),
        TEST(lamp_profiles_become_records),
        TEST(lamp_tasks_map_their_fields),
        TEST(lamp_1_makes_balanced_pairs),
        TEST(malformed_lamp_files_are_refused),
        TEST(a_truncated_lamp_file_imports_nothing),
        TEST(a_failure_inside_leaves_an_outer_transaction_alone),
        TEST(failed_allocations_import_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
