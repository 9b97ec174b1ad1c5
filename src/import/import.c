/* import.c: from a source to records. Finds out what the source is, hands it to a reader, and keeps the
 * books: every row is stored, known, somebody else's, or skipped with where and why. All of it is one
 * transaction. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "import/inside.h"

static const struct format {
    const char *name, *kind; /* kind: where none was asked for; NULL: the rows tell */
    plm_status (*read)(struct sink *s, const char *path, plm_error *err);
} formats[] = {
    {"jsonl", NULL, read_jsonl}, {"csv", NULL, read_csv},   {"markdown", "note", read_markdown},
    {"git", "commit", read_git}, {"lamp", NULL, read_lamp},
};

static const struct format *format_named(const char *name) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, name) == 0) {
            return &formats[i];
        }
    }
    return NULL;
}

static bool holds(const char *folder, const char *name) {
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path && (file_exists(path) || dir_exists(path));
}

static bool ends_with(const char *path, const char *suffix) {
    size_t n = strlen(path), k = strlen(suffix);
    return n > k && strcasecmp(path + n - k, suffix) == 0;
}

/* By the first character that is no blank. */
static const char *sniff(const char *path) {
    char head[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof head);
    if (fd >= 0) {
        close(fd);
    }
    struct str text = {head, n > 0 ? (size_t)n : 0};
    if (str_starts(text, "\xef\xbb\xbf")) {
        text.p += 3;
        text.n -= 3;
    }
    text = str_trim(text);
    if (str_starts(text, "{")) {
        return "jsonl";
    }
    if (str_starts(text, "[")) {
        return "lamp";
    }
    return str_starts(text, "# ") || str_starts(text, "---\n") || str_starts(text, "---\r\n") ? "markdown"
                                                                                              : NULL;
}

static const char *detect_file(const char *path) {
    static const struct {
        const char *suffix, *format;
    } suffixes[] = {{".jsonl", "jsonl"},
                    {".ndjson", "jsonl"},
                    {".csv", "csv"},
                    {".md", "markdown"},
                    {".markdown", "markdown"}};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (ends_with(path, suffixes[i].suffix)) {
            return suffixes[i].format;
        }
    }
    return sniff(path);
}

static plm_status choose(const char *source, const char *asked, const struct format **out, plm_error *err) {
    struct stat info;
    bool standard = strcmp(source, "-") == 0;
    if (!standard && stat(source, &info)) {
        return fail_errno(err, errno, source);
    }
    bool folder = !standard && S_ISDIR(info.st_mode);
    if (!standard && !folder && !S_ISREG(info.st_mode)) {
        return fail(err, PLM_EINVAL, "%s is neither a file nor a folder", source);
    }
    if (!standard && !folder && info.st_size == 0) {
        return fail(err, PLM_EFORMAT, "%s is empty", source);
    }
    const char *name = asked && strcmp(asked, "auto") != 0 ? asked : NULL;
    if (!name && standard) {
        name = "jsonl";
    } else if (!name && folder) {
        bool bare = holds(source, "HEAD") && holds(source, "objects") && holds(source, "refs");
        name = bare || holds(source, ".git") ? "git" : "markdown";
    } else if (!name && !(name = detect_file(source))) {
        return fail(err, PLM_EFORMAT, "%s: can't tell what this is; say it with --format", source);
    }
    *out = format_named(name);
    if (!*out) {
        return fail(err, PLM_EINVAL, "there is no format \"%s\": jsonl, csv, markdown, git, lamp", name);
    }
    if ((standard && (*out)->read != read_jsonl) ||
        (folder && (*out)->read != read_git && (*out)->read != read_markdown)) {
        return fail(err, PLM_EINVAL, "%s can't be read as %s", standard ? "standard input" : source, name);
    }
    return PLM_OK;
}

void sink_skip(struct sink *s, const char *where, const char *why) {
    s->report->seen++;
    s->report->skipped++;
    if (!*s->first_bad) {
        snprintf(s->first_bad, sizeof s->first_bad, "%s: %s", where, why);
    }
    if (s->skipped) {
        s->skipped(s->ctx, where, why);
    }
}

void sink_other(struct sink *s) {
    s->report->seen++;
    s->report->others++;
}

bool sink_is_me(const struct sink *s, const char *author) {
    return !s->opt->me || !author || strcasecmp(s->opt->me, author) == 0;
}

const char *text_fault(const char *text, size_t len) {
    if (memchr(text, '\0', len)) {
        return "it holds a NUL byte";
    }
    return utf8_valid(text, len, NULL) ? NULL : "it is not UTF-8";
}

static bool blank(const char *text) {
    return str_trim(str_of(text)).n == 0;
}

plm_status sink_take(struct sink *s, const plm_kind *kind, const plm_record *r, const char *where,
                     plm_error *err) {
    char why[256];
    plm_error bad = {0};
    plm_record record = *r;
    record.user = s->opt->user;
    record.kind = kind->name;
    record.local_only |= s->opt->local_only;
    if (blank(r->output)) {
        snprintf(why, sizeof why, "its %s is empty", kind->output_field);
        sink_skip(s, where, why);
    } else if (blank(r->input) && kind->modes != PLM_MODE_REVERSE) {
        snprintf(why, sizeof why, "its %s is empty", kind->input_field);
        sink_skip(s, where, why);
    } else if (!kind_takes(kind, r->output)) {
        snprintf(why, sizeof why, "\"%.60s\" is none of the answers of the kind %s", r->output, kind->name);
        why[utf8_whole(why, strlen(why))] = '\0';
        sink_skip(s, where, why);
    } else if (record_check(&record, &bad)) {
        sink_skip(s, where, bad.text);
    } else {
        bool added = false;
        plm_status fault = s->st ? plm_store_add(s->st, &record, NULL, &added, err) : PLM_OK;
        if (fault) {
            return fault;
        }
        s->report->seen++;
        s->report->added += added;
        s->report->known += !added;
    }
    return PLM_OK;
}

/* It failed if there was something and none of it was good. */
static plm_status verdict(const struct sink *s, plm_error *err) {
    const plm_import_report *r = s->report;
    if (r->added || r->known) {
        return PLM_OK;
    }
    if (r->seen == 0) {
        return fail(err, PLM_EFORMAT, "%s: there is nothing in it to import", s->source);
    }
    if (r->skipped == 0) {
        return fail(err, PLM_ENOTFOUND, "%s: none of its %zu rows is by %s", s->source, r->seen,
                    s->opt->me ? s->opt->me : "you");
    }
    return fail(err, PLM_EFORMAT, "%s: none of its %zu rows was good; %s", s->source, r->seen, s->first_bad);
}

static plm_status check_options(const plm_kinds *kinds, const plm_import_options *opt, const plm_kind **kind,
                                plm_error *err) {
    if (!opt || !opt->user || !*opt->user) {
        return fail(err, PLM_EINVAL, "say whose records these are");
    }
    *kind = plm_kind_find(kinds, opt->kind);
    if (opt->kind && !*kind) {
        return fail(err, PLM_EINVAL, "there is no kind \"%s\"", opt->kind);
    }
    return PLM_OK;
}

plm_status plm_import(plm_store *st, const plm_kinds *kinds, const char *source,
                      const plm_import_options *opt, plm_import_report *report, plm_skip_fn skipped,
                      void *ctx, plm_error *err) {
    plm_import_report counts = {0};
    struct sink s = {.st = st,
                     .kinds = kinds,
                     .opt = opt,
                     .source = source,
                     .report = &counts,
                     .skipped = skipped,
                     .ctx = ctx};
    const struct format *format = NULL;
    plm_status fault = check_options(kinds, opt, &s.kind, err);
    if (fault || (fault = choose(source, opt->format, &format, err))) {
        return fault;
    }
    counts.format = format->name;
    if (!s.kind && format->kind && !(s.kind = plm_kind_find(kinds, format->kind))) {
        return fail(err, PLM_EINVAL, "there is no kind \"%s\"", format->kind);
    }
    if ((fault = plm_store_begin(st, err))) {
        return fault;
    }
    fault = format->read(&s, source, err);
    if (!fault) {
        fault = verdict(&s, err);
    }
    plm_status ended = plm_store_end(st, fault == PLM_OK, fault ? NULL : err);
    fault = fault ? fault : ended;
    if (report) {
        *report = counts; // also on failure: how much of it was bad
    }
    return fault;
}
