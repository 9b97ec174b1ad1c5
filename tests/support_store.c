#include "support_store.h"
#include <sqlite3.h>

void good(plm_status st, const plm_error *err) {
    if (st) {
        fail_msg("%s: %s", plm_status_name(st), err->text);
    }
}

plm_store *open_store(const char *path) {
    plm_store *st = NULL;
    plm_error err = {0};
    good(plm_store_open(&st, path, false, &err), &err);
    return st;
}

int64_t add(plm_store *st, const char *user, const char *kind, const char *input, const char *output) {
    plm_error err = {0};
    int64_t id = 0;
    plm_record r = {.user = user, .kind = kind, .input = input, .output = output, .source = "test"};
    good(plm_store_add(st, &r, &id, NULL, &err), &err);
    return id;
}

size_t count(plm_store *st, const char *user) {
    plm_error err = {0};
    size_t n = 0;
    good(plm_store_count(st, &(plm_query){.user = user}, &n, &err), &err);
    return n;
}

int64_t ask_file(const char *path, const char *sql) {
    sqlite3 *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL)) {
        fail_msg("%s", sqlite3_errmsg(db));
    }
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t n = sqlite3_column_type(stmt, 0) == SQLITE_TEXT
                    ? !strcmp((const char *)sqlite3_column_text(stmt, 0), "ok")
                    : sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return n;
}

void change_file(const char *path, const char *sql) {
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why)) {
        fail_msg("%s", why);
    }
    sqlite3_close(db);
}

struct family add_family(plm_store *st, const char *user, const char *text, const char *adapter_path) {
    struct family f = {0};
    plm_error err = {0};
    char hash[128], title[128];
    snprintf(title, sizeof title, "Title of %.80s", text);
    f.record = add(st, user, "note", text, title);
    snprintf(hash, sizeof hash, "hash-%lld", (long long)f.record);
    plm_reply r = {.user = user,
                   .kind = "note",
                   .teacher = "t",
                   .call_hash = hash,
                   .text = text,
                   .finish = "stop",
                   .sources = &f.record,
                   .n_sources = 1,
                   .tokens_in = 7,
                   .tokens_out = 9,
                   .seconds = 0.25};
    good(plm_store_add_reply(st, &r, &f.reply, &err), &err);
    plm_synthetic s = {.user = user,
                       .kind = "note",
                       .mode = "rewrite",
                       .input = text,
                       .output = title,
                       .verdict = "kept",
                       .teacher = "t",
                       .reply = f.reply,
                       .sources = &f.record,
                       .n_sources = 1,
                       .weight = 0.5,
                       .nll = 1.25,
                       .z = -0.75};
    good(plm_store_add_synthetic(st, &s, &f.synthetic, &err), &err);
    int64_t rows[] = {f.record, -f.synthetic};
    plm_installed a = {.user = user,
                       .kind = "note",
                       .path = adapter_path,
                       .sha256 = "s",
                       .base_sha256 = "b",
                       .arm = "real+syn",
                       .metrics = "{}",
                       .scale = 1,
                       .records = rows,
                       .n_records = 2};
    good(plm_store_install(st, &a, &f.adapter, &err), &err);
    return f;
}
