/* fake_teacher.h: starts tests/fake_teacher.py for a test program and stops it with it. */
#ifndef FAKE_TEACHER_H
#define FAKE_TEACHER_H
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct fake_teacher {
    pid_t pid;
    int in, port;
    char log[64], url[200];
};

/* Starts a Python program of tests/ that prints its port. 0: running. Its standard input is ours: it ends
 * when we do. */
static inline int fake_run(struct fake_teacher *f, const char *program, const char *first,
                           const char *second) {
    char path[400];
    int to[2], from[2];
    snprintf(path, sizeof path, "%s/tests/%s", PLM_SOURCE_DIR, program);
    if (pipe(to) || pipe(from))
        return -1;
    f->pid = fork();
    if (f->pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[1]);
        close(from[0]);
        execlp("python3", "python3", path, first, second, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    f->in = to[1];
    FILE *out = fdopen(from[0], "r");
    int ok = out && fscanf(out, "%d", &f->port) == 1;
    if (out)
        fclose(out);
    return ok ? 0 : -1;
}

static inline int fake_start(struct fake_teacher *f) {
    snprintf(f->log, sizeof f->log, "/tmp/plm-fake-%d.log", (int)getpid());
    unlink(f->log);
    return fake_run(f, "fake_teacher.py", f->log, NULL);
}

static inline void fake_stop(struct fake_teacher *f) {
    char head[80];
    snprintf(head, sizeof head, "%s.head", f->log);
    close(f->in);
    waitpid(f->pid, NULL, 0);
    unlink(f->log);
    unlink(head);
}

/* The address of a behaviour, without the last part. */
static inline const char *fake_base(struct fake_teacher *f, const char *behaviour) {
    snprintf(f->url, sizeof f->url, "http://127.0.0.1:%d/%s/v1", f->port, behaviour);
    return f->url;
}

/* Everything received so far (free it), and forgets it. head: the keys that came with it. */
static inline char *fake_received(struct fake_teacher *f, int head) {
    char path[80];
    snprintf(path, sizeof path, "%s%s", f->log, head ? ".head" : "");
    FILE *in = fopen(path, "rb");
    char *text = calloc(1, 1 << 22);
    if (in) {
        size_t n = fread(text, 1, (1 << 22) - 1, in);
        text[n] = 0;
        fclose(in);
    }
    unlink(path);
    return text;
}
/* The one of a test program, as its group's fixture. */
static struct fake_teacher fake;

static inline int fake_open(void **s) {
    (void)s;
    return fake_start(&fake);
}

static inline int fake_close(void **s) {
    (void)s;
    fake_stop(&fake);
    return 0;
}
#endif
