/* Import of git histories, made by the git program in the test's folder; and hostile repositories. */
#include "base/mem.h"
#include "support_import.h"

/* Runs a shell line inside the repository r of the folder, with two people's identities at hand. */
static void in_repo(struct folder *f, const char *line) {
    char command[2048];
    snprintf(
        command, sizeof command,
        "cd %s/r && export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null && "
        "ana() { GIT_AUTHOR_NAME='Ana Li' GIT_AUTHOR_EMAIL=ana@x.org GIT_COMMITTER_NAME=c "
        "GIT_COMMITTER_EMAIL=c@x "
        "GIT_AUTHOR_DATE='2026-01-02T00:00:00Z' git commit -q --no-gpg-sign --allow-empty \"$@\"; } && "
        "bo() { GIT_AUTHOR_NAME=Bo GIT_AUTHOR_EMAIL=bo@x.org GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@x "
        "git commit -q --no-gpg-sign --allow-empty \"$@\"; } && %s",
        f->path, line);
    assert_int_equal(system(command), 0);
}

static const char *make_repo(struct folder *f) {
    mkdir(in_folder(f, "r"), 0700);
    in_repo(f, "git init -q -b main . && git config user.email Ana@X.org");
    static char path[100];
    snprintf(path, sizeof path, "%s/r", f->path);
    return path;
}

static void own_commits_become_records(void **state) {
    static struct import i;
    const char *repo = make_repo(*state);
    in_repo(*state,
            "mkdir 'a b' && echo 1 > 'a b/ü c.txt' && echo 2 > two && git add . && "
            "ana -m 'Add two files' -m 'Because they\nwere missing.' -m 'Signed-off-by: Ana <a@x>\nCc: b' && "
            "echo 3 > two && bo -am 'Bo changes two' && "
            "ana -m 'No body and no files' && "
            "echo 4 > two && ana -am 'Change two' && "
            "git revert --no-edit HEAD >/dev/null 2>&1; ana -m 'fixup! Change two' && "
            "ana -m 'Only a body' -m 'Note: this is text, not a trailer block.\nReally.'");
    import_run(&i, *state, repo, (plm_import_options){0});
    assert_int_equal(i.st, PLM_OK);
    assert_string_equal(i.report.format, "git");
    char *first =
        strstr(i.records, "commit|Because they\nwere missing.\n\nFiles:\na b/ü c.txt\ntwo\n|Add two files|");
    if (!first) {
        fail_msg("%s", i.records);
    }
    assert_non_null(strstr(i.records, "commit|Files:\ntwo\n|Change two|"));
    assert_non_null(
        strstr(i.records, "commit|Note: this is text, not a trailer block.\nReally.|Only a body|"));
    assert_non_null(strstr(i.records, "/r@"));
    assert_non_null(strstr(i.records, "|1767312000\n"));
    assert_null(strstr(i.records, "Bo changes"));
    assert_non_null(strstr(i.skips, "its body is empty")); // nothing to tell the subject from
    assert_non_null(strstr(i.skips, "it is a merge, a revert or a fix-up"));
    assert_int_equal(i.report.added, 3);
    assert_int_equal(i.report.others, 1 + (i.report.seen == 8)); // the revert is by whoever runs this
    import_run(&i, *state, repo, (plm_import_options){0});
    assert_int_equal(i.report.added, 0);
    assert_int_equal(i.report.known, 3);
}

static void me_names_a_person_by_name_or_address(void **state) {
    static struct import i;
    const char *repo = make_repo(*state);
    in_repo(*state, "echo 1 > a && git add . && ana -m 'By Ana' && echo 2 > a && bo -am 'By Bo'");
    static const char *const names[] = {"Bo", "BO@x.org", "bo"};
    for (size_t k = 0; k < 3; k++) {
        import_run(&i, *state, repo, (plm_import_options){.me = names[k]});
        assert_int_equal(i.st, PLM_OK);
        assert_non_null(strstr(i.records, "|By Bo|"));
        assert_null(strstr(i.records, "Ana"));
        assert_int_equal(i.report.others, 1);
    }
    import_run(&i, *state, repo, (plm_import_options){.me = "nobody"});
    assert_int_equal(i.st, PLM_ENOTFOUND);
    assert_non_null(strstr(i.err.text, "none of its 2 rows is by nobody"));
}

static void merges_are_left_out_and_long_file_lists_are_cut(void **state) {
    static struct import i;
    const char *repo = make_repo(*state);
    in_repo(
        *state,
        "ana -m Root && git checkout -q -b side && for n in $(seq 60); do echo $n > f$n; done && git add . "
        "&& ana -m 'Sixty files' && git checkout -q main && echo x > m && git add . && ana -m 'Main file' "
        "&& git -c user.name=Ana -c user.email=ana@x.org merge -q --no-edit side >/dev/null 2>&1");
    import_run(&i, *state, repo, (plm_import_options){0});
    assert_int_equal(i.st, PLM_OK);
    assert_null(strstr(i.records, "Merge"));
    assert_non_null(strstr(i.records, "\nand 20 more\n|Sixty files|"));
    assert_int_equal(i.report.seen, 3);
}

static void odd_histories_are_one_sentence(void **state) {
    static struct import i;
    const char *repo = make_repo(*state);
    import_run(&i, *state, repo, (plm_import_options){0});
    assert_int_equal(i.st, PLM_EIO);
    assert_non_null(strstr(i.err.text, "git says: fatal: "));
    in_repo(*state, "git config --unset user.email && ana -m One");
    setenv("HOME", "/nonexistent", 1);
    setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
    import_run(&i, *state, repo, (plm_import_options){0});
    assert_int_equal(i.st, PLM_EINVAL);
    assert_non_null(strstr(i.err.text, "git knows no user.email; say whose commits with --me"));
    // Not UTF-8, whatever its encoding header says.
    in_repo(*state, "printf 'tree %s\\nparent %s\\nauthor Ana <ana@x.org> 1 +0000\\ncommitter c <c@x> 1 "
                    "+0000\\n\\nCaf\\351"
                    "\\n\\nbody\\n' $(git rev-parse HEAD^{tree} HEAD) > ../c && "
                    "git update-ref HEAD $(git hash-object -t commit -w ../c)");
    import_run(&i, *state, repo, (plm_import_options){.me = "ana@x.org"});
    assert_non_null(strstr(i.skips, "is not UTF-8"));
    char missing[120];
    snprintf(missing, sizeof missing, "%s/none", repo);
    import_run(&i, *state, missing, (plm_import_options){0});
    assert_int_equal(i.st, PLM_ENOTFOUND);
    mkdir(missing, 0700);
    import_run(&i, *state, missing, (plm_import_options){.format = "git", .me = "zoe"});
    assert_true(i.st != PLM_OK);
}

static void a_long_message_is_skipped_and_the_rest_read(void **state) {
    static struct import i;
    const char *repo = make_repo(*state);
    in_repo(*state, "echo 1 > a && git add . && (printf 'Long one\\n\\n'; head -c 200000 /dev/zero | tr "
                    "'\\0' x) > ../msg && "
                    "ana -F ../msg && echo 2 > a && ana -am 'Short one'");
    import_run(&i, *state, repo, (plm_import_options){0});
    assert_int_equal(i.st, PLM_OK);
    assert_non_null(strstr(i.skips, "it is too long"));
    assert_non_null(strstr(i.records, "|Short one|"));
}

static void a_hostile_repository_runs_nothing(void **state) {
    static struct import i;
    struct folder *f = *state;
    const char *repo = make_repo(f);
    char evil[120], line[2000];
    snprintf(evil, sizeof evil, "%s/evil", f->path);
    snprintf(line, sizeof line, "#!/bin/sh\ntouch %s/ran\n", f->path);
    write_text(evil, line);
    chmod(evil, 0755);
    in_repo(f, "echo '* diff=evil filter=evil' > .gitattributes && echo 1 > a && git add . && ana -m 'One' "
               "&& echo 2 > a && "
               "ana -am 'Two'");
    snprintf(
        line, sizeof line,
        "for key in core.pager core.fsmonitor diff.external diff.evil.textconv diff.evil.command gpg.program "
        "gpg.ssh.program core.editor core.sshCommand filter.evil.clean filter.evil.smudge "
        "filter.evil.process "
        "credential.helper alias.log uploadpack.packObjectsHook core.gitProxy pager.log; do git config $key "
        "%s; "
        "done; git config log.showSignature true; git config core.hooksPath %s; git config alias.log '!%s'; "
        "git config alias.config '!%s'",
        evil, f->path, evil, evil);
    in_repo(f, line);
    // A commit with a signature, so that there is something to be checked by the program named.
    in_repo(f, "tree=$(git rev-parse HEAD^{tree}) && printf 'tree %s\\nparent %s\\nauthor Ana <ana@x.org> "
               "1767312000 +0000\\n"
               "committer c <c@x> 1767312000 +0000\\ngpgsig -----BEGIN PGP SIGNATURE-----\\n \\n abc\\n "
               "-----END PGP "
               "SIGNATURE-----\\n\\nSigned\\n\\nbody\\n' $tree $(git rev-parse HEAD) > ../c && "
               "git update-ref HEAD $(git hash-object -t commit -w ../c)");
    import_run(&i, f, repo, (plm_import_options){0});
    assert_int_equal(i.st, PLM_OK);
    assert_int_equal(i.report.added, 3);
    assert_int_equal(access(in_folder(f, "ran"), F_OK), -1);
    // The trap is real: git run carelessly falls into it.
    in_repo(f, "git --no-pager log -p --show-signature >/dev/null 2>&1; test -e ../ran && rm ../ran");
    // Objects that are missing are not fetched by a command that the repository names.
    snprintf(line, sizeof line,
             "git config remote.o.url 'ext::%s' && git config remote.o.promisor true && "
             "git config protocol.ext.allow always && git config extensions.partialClone o && "
             "rm -f .git/objects/$(git rev-parse HEAD^{tree} | sed 's|..|&/|')",
             evil);
    in_repo(f, line);
    import_run(&i, f, repo, (plm_import_options){.me = "zoe"});
    assert_true(i.st != PLM_OK);
    assert_int_equal(access(in_folder(f, "ran"), F_OK), -1);
}

static void environment_of_git_does_not_get_through(void **state) {
    static struct import i;
    const char *repo = make_repo(*state);
    in_repo(*state, "echo 1 > a && git add . && ana -m 'One'");
    setenv("GIT_DIR", "/nonexistent", 1);
    setenv("GIT_EXTERNAL_DIFF", "/bin/false", 1);
    setenv("GIT_CONFIG_COUNT", "1", 1);
    setenv("GIT_CONFIG_KEY_0", "user.email", 1);
    setenv("GIT_CONFIG_VALUE_0", "bo@x.org", 1);
    import_run(&i, *state, repo, (plm_import_options){0});
    unsetenv("GIT_DIR");
    unsetenv("GIT_EXTERNAL_DIFF");
    unsetenv("GIT_CONFIG_COUNT");
    assert_int_equal(i.st, PLM_OK);
    assert_int_equal(i.report.added, 1);
}

static void failed_allocations_import_all_or_nothing(void **state) {
    struct folder *f = *state;
    const char *repo = make_repo(f);
    in_repo(f, "echo 1 > a && git add . && ana -m 'One' && echo 2 > a && ana -am 'Two'");
    plm_kinds *kinds = NULL;
    plm_store *st = NULL;
    assert_int_equal(plm_kinds_open(&kinds, NULL, NULL), PLM_OK);
    assert_int_equal(plm_store_open(&st, in_folder(f, "s.db"), false, NULL), PLM_OK);
    bool failed = true;
    for (long n = 1; failed; n++) {
        size_t have = 0;
        mem_fail_at(n, false);
        plm_status rc =
            plm_import(st, kinds, repo, &(plm_import_options){.user = "ana"}, NULL, NULL, NULL, NULL);
        mem_fail_at(0, false);
        assert_int_equal(plm_store_count(st, NULL, &have, NULL), PLM_OK);
        failed = rc != PLM_OK;
        assert_int_equal(have, failed ? 0 : 2);
        assert_true(n < 1000);
    }
    plm_store_close(st);
    plm_kinds_close(kinds);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_drop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(own_commits_become_records),
        TEST(me_names_a_person_by_name_or_address),
        TEST(merges_are_left_out_and_long_file_lists_are_cut),
        TEST(odd_histories_are_one_sentence),
        TEST(a_long_message_is_skipped_and_the_rest_read),
        TEST(a_hostile_repository_runs_nothing),
        TEST(environment_of_git_does_not_get_through),
        TEST(failed_allocations_import_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
