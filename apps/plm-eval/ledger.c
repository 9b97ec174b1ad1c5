/* ledger.c: a line is written in one piece and synced before the cell counts as done; what a crash left half
 * written has no newline and goes. */
#include "ledger.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *text_of(const json_t *line, const char *name) {
    const char *text = json_text(line, name);
    return text ? text : "";
}

void ledger_key(char out[400], const json_t *line) {
    snprintf(out, 400, "%.20s|%.10s|%lld|%.60s|%lld|%.10s|%lld|%.20s|%.100s|%.100s|%d", text_of(line, "task"),
             text_of(line, "split"), (long long)json_integer_value(json_object_get(line, "user")),
             text_of(line, "arm"), (long long)json_integer_value(json_object_get(line, "bm25")),
             text_of(line, "point"), (long long)json_integer_value(json_object_get(line, "seed")),
             text_of(line, "config"), text_of(line, "teacher"), text_of(line, "student"),
             json_is_true(json_object_get(line, "guarded")));
}

static plm_status read_lines(struct ledger *l, const char *path, char *text, size_t *whole, plm_error *err) {
    size_t number = 0;
    *whole = 0;
    for (char *end; (end = strchr(text + *whole, '\n')); *whole = (size_t)(end - text) + 1) {
        char what[300], key[400];
        json_t *line = NULL;
        snprintf(what, sizeof what, "%.200s line %zu", path, ++number);
        plm_status st = json_parse(&line, text + *whole, (size_t)(end - text) - *whole, what, err);
        if (st)
            return st;
        ledger_key(key, line);
        if (json_object_set_new(l->cells, key, line))
            return fail(err, PLM_ENOMEM, "out of memory");
    }
    return PLM_OK;
}

plm_status ledger_open(struct ledger *l, const char *path, plm_error *err) {
    struct bytes text;
    size_t whole = 0;
    *l = (struct ledger){.fd = -1, .cells = json_object()};
    bytes_init(&text, (size_t)1 << 30);
    plm_status st = l->cells ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK && file_exists(path))
        st = file_read(path, (size_t)1 << 30, &text, err);
    if (st == PLM_OK && text.len)
        st = read_lines(l, path, text.data, &whole, err);
    if (st == PLM_OK) {
        l->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (l->fd < 0 || ftruncate(l->fd, (off_t)whole) || lseek(l->fd, 0, SEEK_END) < 0)
            st = fail_errno(err, errno, path);
    }
    bytes_free(&text);
    if (st)
        ledger_close(l);
    return st;
}

void ledger_close(struct ledger *l) {
    if (l->fd >= 0)
        close(l->fd);
    json_decref(l->cells);
    *l = (struct ledger){.fd = -1};
}

const json_t *ledger_find(const struct ledger *l, const char *key) {
    return json_object_get(l->cells, key);
}

plm_status ledger_add(struct ledger *l, json_t *line, plm_error *err) {
    char key[400], *text = json_dumps(line, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(9));
    struct bytes b;
    plm_status st = PLM_OK;
    bytes_init(&b, 1 << 26);
    if (text)
        bytes_printf(&b, "%s\n", text);
    plm_free(text);
    st = text ? bytes_status(&b, "a result", err) : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t at = 0; st == PLM_OK && at < b.len;) {
        ssize_t n = write(l->fd, b.data + at, b.len - at);
        if (n < 0 && errno != EINTR)
            st = fail_errno(err, errno, "results.jsonl");
        at += n > 0 ? (size_t)n : 0;
    }
    if (st == PLM_OK && fdatasync(l->fd) && errno != EINVAL && errno != EROFS)
        st = fail_errno(err, errno, "results.jsonl");
    bytes_free(&b);
    ledger_key(key, line);
    if (st == PLM_OK && json_object_set(l->cells, key, line))
        st = fail(err, PLM_ENOMEM, "out of memory");
    return st;
}
