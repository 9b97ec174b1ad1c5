/* program.c: starting git and reading from it. No shell, a fixed list of arguments, and an environment of
 * what git needs to find itself and its owner's settings: no GIT_ variable gets through, because those can
 * name programs to run. Passing the environment on is not reading it: nothing here depends on its content. */
#include "import/program.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char *const passed_on[] = {"PATH=", "HOME=", "XDG_CONFIG_HOME=", "USER=", "LOGNAME=", "TMPDIR="};
static const char *const added[] = {
    "LC_ALL=C",             // messages that can be quoted
    "GIT_OPTIONAL_LOCKS=0", // look, don't touch
    "GIT_TERMINAL_PROMPT=0",
    "GIT_ALLOW_PROTOCOL=none", // a partial clone may not fetch what it lacks: its address could be a command
};
enum { PASSED = sizeof passed_on / sizeof *passed_on, ADDED = sizeof added / sizeof *added };

static void build_environment(char *out[PASSED + ADDED + 1]) {
    size_t n = 0;
    for (size_t i = 0; i < ADDED; i++) {
        out[n++] = (char *)(uintptr_t)added[i];
    }
    for (char **e = environ; e && *e && n < PASSED + ADDED; e++) {
        for (size_t i = 0; i < PASSED; i++) {
            if (strncmp(*e, passed_on[i], strlen(passed_on[i])) == 0) {
                out[n++] = *e;
                break;
            }
        }
    }
    out[n] = NULL;
}

plm_status program_start(struct program **out, char *const *argv, plm_error *err) {
    int ends[2] = {-1, -1};
    char *environment[PASSED + ADDED + 1];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    plm_status fault = PLM_OK;
    pid_t pid = 0;
    struct program *p = mem_zero(1, sizeof *p);
    if (!p) {
        fault = fail(err, PLM_ENOMEM, "out of memory");
        goto out;
    }
    p->talk = memfd_create("talk", MFD_CLOEXEC);
    if (p->talk < 0 || pipe2(ends, O_CLOEXEC)) {
        fault = fail_errno(err, errno, argv[0]);
        goto out;
    }
    build_environment(environment);
    int rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, p->talk, 2);
    rc = rc ? rc : posix_spawnp(&pid, argv[0], &actions, NULL, argv, environment);
    if (rc) {
        fault = rc == ENOENT ? fail(err, PLM_ENOTFOUND, "the program %s is not installed", argv[0])
                             : fail_errno(err, rc, argv[0]);
        goto out;
    }
    p->pid = pid;
    p->out = ends[0];
    ends[0] = -1;
    *out = p;
out:
    posix_spawn_file_actions_destroy(&actions);
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) {
            close(ends[i]);
        }
    }
    if (fault && p) {
        if (p->talk >= 0) {
            close(p->talk);
        }
        mem_free(p);
    }
    return fault;
}

static plm_status fill(struct program *p, plm_error *err) {
    ssize_t n;
    do {
        n = read(p->out, p->buf, sizeof p->buf);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return fail_errno(err, errno, "reading from git");
    }
    p->ended = n == 0;
    p->from = 0;
    p->to = (size_t)n;
    return PLM_OK;
}

plm_status program_piece(struct program *p, size_t max, struct bytes *piece, bool *whole, bool *more,
                         plm_error *err) {
    bytes_clear(piece);
    *whole = true;
    *more = false;
    for (;;) {
        if (p->from == p->to) {
            plm_status fault = p->ended ? PLM_OK : fill(p, err);
            if (fault || p->ended) {
                return fault;
            }
        }
        *more = true;
        const char *at = p->buf + p->from, *nul = memchr(at, '\0', p->to - p->from);
        size_t n = nul ? (size_t)(nul - at) : p->to - p->from;
        size_t room = max - piece->len, take = n < room ? n : room;
        bytes_put(piece, at, take);
        *whole &= take == n;
        p->from += n + (nul != NULL);
        if (nul) {
            return bytes_status(piece, "git's output", err);
        }
    }
}

void program_end(struct program *p, int *status, char talk[256]) {
    int state = 0;
    *status = -1;
    if (!p) {
        return;
    }
    if (!p->ended) {
        kill((pid_t)p->pid, SIGKILL);
    }
    close(p->out);
    while (waitpid((pid_t)p->pid, &state, 0) < 0 && errno == EINTR) {
    }
    *status = WIFEXITED(state) ? WEXITSTATUS(state) : -1;
    if (talk) {
        ssize_t n = pread(p->talk, talk, 255, 0);
        talk[n > 0 ? n : 0] = '\0';
        talk[strcspn(talk, "\n")] = '\0';
    }
    close(p->talk);
    mem_free(p);
}
