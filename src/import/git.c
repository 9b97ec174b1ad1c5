/* git.c: a person's own commits as records: from body and files to the subject line. git itself reads the
 * repository, which is taken as hostile: its settings may name programs (a pager, signature checks, external
 * diffs, file system monitors, addresses to fetch from), so each of those is switched off. Merges, reverts
 * and fix-ups teach nothing about how a person words a subject, and are left out. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "import/inside.h"
#include "import/program.h"

enum { FILES_SHOWN = 40 };

/* Told to every git that is started, before its command. */
#define SAFE                                                                                    \
    "git", "--no-pager", "--no-replace-objects", "-c", "core.fsmonitor=false", "-c",            \
        "log.showSignature=false", "-c", "core.pager=cat", "-c", "protocol.allow=never", "-c",  \
        "core.hooksPath=/dev/null", "-c", "diff.external=", "-c", "core.quotePath=false", "-c", \
        "log.mailmap=false"

struct commit {
    struct bytes hash, name, mail, time, subject, body, files;
    size_t n_files;
    bool whole; /* nothing of it was too long */
};

static void commit_clear(struct commit *c) {
    struct bytes *const parts[] = {&c->hash, &c->name, &c->mail, &c->time, &c->subject, &c->body, &c->files};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        bytes_clear(parts[i]);
    }
    c->n_files = 0;
    c->whole = true;
}

/* "Signed-off-by: A <a@b>": a word without blanks, a colon, a blank. */
static bool is_trailer(struct str line) {
    size_t n = 0;
    while (n < line.n && (isalnum((unsigned char)line.p[n]) || line.p[n] == '-')) {
        n++;
    }
    return n > 0 && n + 1 < line.n && line.p[n] == ':' && line.p[n + 1] == ' ';
}

/* Takes the last paragraph off where it is all trailers. */
static struct str without_trailers(struct str body) {
    body = str_trim(body);
    size_t at = body.n;
    while (at > 0 && !(body.p[at - 1] == '\n' && at < body.n && body.p[at] == '\n')) {
        at--;
    }
    struct str last = {body.p + at, body.n - at}, line;
    last = str_trim(last);
    bool trailers = last.n > 0;
    while (trailers && str_cut(&last, '\n', &line)) {
        trailers = is_trailer(line);
    }
    return trailers ? str_trim((struct str){body.p, at}) : body;
}

static bool teaches_nothing(const char *subject) {
    static const char *const starts[] = {
        "Revert \"", "Merge branch ", "Merge pull request ", "Merge remote-tracking ", "fixup! ",
        "squash! ",  "amend! "};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        if (strncmp(subject, starts[i], strlen(starts[i])) == 0) {
            return true;
        }
    }
    return false;
}

static const char *text_of(const struct bytes *b) {
    return b->data ? b->data : "";
}

static plm_status take_commit(struct sink *s, const struct commit *c, const char *me, plm_error *err) {
    char where[WHERE_MAX], source[STORE_SOURCE_MAX];
    if (strcasecmp(me, text_of(&c->name)) != 0 && strcasecmp(me, text_of(&c->mail)) != 0) {
        sink_other(s);
        return PLM_OK;
    }
    snprintf(where, sizeof where, "commit %.12s", text_of(&c->hash));
    snprintf(source, sizeof source, "%.4000s@%.12s", s->source, text_of(&c->hash));
    if (!c->whole) {
        sink_skip(s, where, "it is too long");
        return PLM_OK;
    }
    if (teaches_nothing(text_of(&c->subject))) {
        sink_skip(s, where, "it is a merge, a revert or a fix-up");
        return PLM_OK;
    }
    struct bytes input;
    bytes_init(&input, 2 * STORE_TEXT_MAX);
    struct str body = without_trailers((struct str){text_of(&c->body), c->body.len});
    bytes_put(&input, body.p, body.n);
    if (c->n_files) {
        bytes_printf(&input, "%sFiles:\n%s", body.n ? "\n\n" : "", text_of(&c->files));
        if (c->n_files > FILES_SHOWN) {
            bytes_printf(&input, "and %zu more\n", c->n_files - FILES_SHOWN);
        }
    }
    plm_status fault = bytes_status(&input, where, err);
    if (!fault) {
        int64_t when = 0;
        parse_i64(str_of(text_of(&c->time)), &when);
        plm_record r = {
            .when = when, .input = text_of(&input), .output = text_of(&c->subject), .source = source};
        fault = sink_take(s, s->kind, &r, where, err);
    }
    bytes_free(&input);
    return fault;
}

static void add_file(struct commit *c, struct str name) {
    if (name.n == 0) {
        return;
    }
    c->n_files++;
    if (c->n_files <= FILES_SHOWN) {
        bytes_put(&c->files, name.p, name.n);
        bytes_putc(&c->files, '\n');
    }
}

/* Does this piece begin a commit? \1 and its hash; a file's name can't be told from it for certain, but all
 * that a clever name could do is to spoil rows of its own repository. */
static bool begins_commit(struct str piece) {
    if ((piece.n != 41 && piece.n != 65) || piece.p[0] != '\1') {
        return false;
    }
    for (size_t i = 1; i < piece.n; i++) {
        if (!isxdigit((unsigned char)piece.p[i])) {
            return false;
        }
    }
    return true;
}

static plm_status read_pieces(struct sink *s, struct program *git, const char *me, struct commit *c,
                              struct bytes *piece, plm_error *err) {
    plm_status fault = PLM_OK;
    bool whole, more = true, open = false;
    while (!(fault = program_piece(git, STORE_TEXT_MAX, piece, &whole, &more, err)) && more) {
        struct str text = {text_of(piece), piece->len};
        if (!begins_commit(text)) {
            // git writes a newline between a commit and the names of its files.
            size_t skip = text.n && text.p[0] == '\n' && c->n_files == 0;
            add_file(c, (struct str){text.p + skip, text.n - skip});
            continue;
        }
        if (open && (fault = take_commit(s, c, me, err))) {
            return fault;
        }
        commit_clear(c);
        open = true;
        bytes_put(&c->hash, text.p + 1, text.n - 1);
        struct bytes *const parts[] = {&c->name, &c->mail, &c->time, &c->subject, &c->body};
        for (size_t i = 0; i < sizeof parts / sizeof *parts && more; i++) {
            if ((fault = program_piece(git, STORE_TEXT_MAX, parts[i], &whole, &more, err))) {
                return fault;
            }
            c->whole &= whole;
        }
    }
    return fault ? fault : open ? take_commit(s, c, me, err) : PLM_OK;
}

static plm_status read_commits(struct sink *s, struct program *git, const char *me, plm_error *err) {
    struct commit c = {.whole = true};
    struct bytes piece;
    struct bytes *const parts[] = {&c.hash, &c.name, &c.mail, &c.time, &c.subject, &c.body, &piece};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        bytes_init(parts[i], STORE_TEXT_MAX + 1);
    }
    bytes_init(&c.files, FILES_SHOWN * (size_t)(STORE_TEXT_MAX + 2));
    plm_status fault = read_pieces(s, git, me, &c, &piece, err);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        bytes_free(parts[i]);
    }
    bytes_free(&c.files);
    return fault;
}

/* What git says is the person's address. */
static plm_status own_address(const char *path, struct bytes *address, plm_error *err) {
    char *const argv[] = {SAFE,         "-C", (char *)(uintptr_t)path, "config", "--null", "--get",
                          "user.email", NULL};
    struct program *git = NULL;
    bool whole = true, more = false;
    int status;
    plm_status fault = program_start(&git, argv, err);
    if (fault) {
        return fault;
    }
    fault = program_piece(git, STORE_NAME_MAX, address, &whole, &more, err);
    program_end(git, &status, NULL);
    if (!fault && (!more || !whole || address->len == 0)) {
        fault = fail(err, PLM_EINVAL, "%s: git knows no user.email; say whose commits with --me", path);
    }
    return fault;
}

static plm_status read_log(struct sink *s, const char *path, const char *me, plm_error *err) {
    char *const argv[] = {SAFE,
                          "-C",
                          (char *)(uintptr_t)path,
                          "log",
                          "-z",
                          "--name-only",
                          "--no-merges",
                          "--no-renames",
                          "--no-ext-diff",
                          "--no-textconv",
                          "--no-show-signature",
                          "--ignore-submodules=all",
                          "-O/dev/null",
                          "--no-color",
                          "--no-notes",
                          "--encoding=UTF-8",
                          "--reverse",
                          "--format=%x01%H%x00%an%x00%ae%x00%at%x00%s%x00%b",
                          "HEAD",
                          "--",
                          NULL};
    struct program *git = NULL;
    int status;
    char talk[256];
    plm_status fault = program_start(&git, argv, err);
    if (fault) {
        return fault;
    }
    fault = read_commits(s, git, me, err);
    program_end(git, &status, talk);
    if (!fault && status != 0) {
        fault = fail(err, PLM_EIO, "%s: git says: %s", path, *talk ? talk : "nothing, and fails");
    }
    return fault;
}

plm_status read_git(struct sink *s, const char *path, plm_error *err) {
    struct bytes address;
    bytes_init(&address, STORE_NAME_MAX + 1);
    plm_status fault = s->opt->me ? PLM_OK : own_address(path, &address, err);
    if (!fault) {
        fault = read_log(s, path, s->opt->me ? s->opt->me : text_of(&address), err);
    }
    bytes_free(&address);
    return fault;
}
