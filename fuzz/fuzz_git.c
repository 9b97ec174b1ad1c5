/* fuzz_git.c: bytes as what `git log` prints, imported into a store. The linker puts the two functions below
 * in the place of those that start and end a program (--wrap, see CMakeLists.txt); the rest is the product's.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "import/program.h"

static const uint8_t *output;
static size_t output_size;

plm_status __wrap_program_start(struct program **out, char *const *argv, plm_error *err);
void __wrap_program_end(struct program *p, int *status, char talk[256]);

plm_status __wrap_program_start(struct program **out, char *const *argv, plm_error *err) {
    PROMISE(strcmp(argv[0], "git") == 0);
    struct program *p = mem_zero(1, sizeof *p);
    if (!p)
        return fail(err, PLM_ENOMEM, "out of memory to start git");
    p->out = open(fuzz_file(output, output_size), O_RDONLY | O_CLOEXEC);
    PROMISE(p->out >= 0);
    *out = p;
    return PLM_OK;
}

void __wrap_program_end(struct program *p, int *status, char talk[256]) {
    *status = 0;
    if (talk)
        talk[0] = 0;
    if (p)
        close(p->out);
    mem_free(p);
}

static char folder[] = "/dev/shm/plm-fuzz-XXXXXX", database[64];
static plm_store *store;
static plm_kinds *kinds;

static void remove_folder(void) {
    static const char *const endings[] = {"", "-wal", "-shm", ".lock", "-lock", "-journal"};
    plm_kinds_close(kinds);
    plm_store_close(store);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char path[96];
        snprintf(path, sizeof path, "%s%s", database, endings[i]);
        unlink(path);
    }
    rmdir(folder);
}

/* Once, on the first call of all, which is with no bytes and while no allocation is made to fail. */
static void open_store(void) {
    plm_error err;
    PROMISE(mkdtemp(folder));
    snprintf(database, sizeof database, "%s/s.db", folder);
    PROMISE(plm_store_open(&store, database, false, &err) == PLM_OK);
    PROMISE(plm_kinds_open(&kinds, NULL, &err) == PLM_OK);
    atexit(remove_folder);
}

static void check_skip(void *ctx, const char *where, const char *why) {
    ++*(size_t *)ctx;
    PROMISE(where[0] && why[0]);
}

int fuzz_git(const uint8_t *data, size_t size) {
    if (!store)
        open_store();
    output = data;
    output_size = size;
    const char *const people[] = {"ana@example.org", NULL};
    for (int i = 0; i < 2; i++) {
        plm_import_options opt = {.user = "ana", .format = "git", .me = people[i]};
        plm_import_report report = {0};
        plm_error err = {0};
        size_t skips = 0;
        plm_status st = plm_import(store, kinds, folder, &opt, &report, check_skip, &skips, &err);
        PROMISE((st == PLM_OK) == !err.text[0]);
        PROMISE(st || report.seen == report.added + report.known + report.others + report.skipped);
        PROMISE(st || skips == report.skipped);
    }
    return 0;
}
