/* support_store.h: short ways to fill a store and look into it. */
#ifndef SUPPORT_STORE_H
#define SUPPORT_STORE_H
#include "plm.h"
#include "support_folder.h"

/* Status 0, or the test fails with the sentence. */
void good(plm_status st, const plm_error *err);
plm_store *open_store(const char *path);
int64_t add(plm_store *st, const char *user, const char *kind, const char *input, const char *output);
size_t count(plm_store *st, const char *user);
/* One number from any SQL on the file, read behind the library's back. */
int64_t ask_file(const char *path, const char *sql);
void change_file(const char *path, const char *sql);
/* A record, a reply that quotes it, an example made of it and an adapter that learned both. */
struct family {
    int64_t record, reply, synthetic, adapter;
};
struct family add_family(plm_store *st, const char *user, const char *text, const char *adapter_path);
#endif
