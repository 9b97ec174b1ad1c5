/* opt.c: parses options by the table, prints usage and the man page from it, and names the nearest
 * right option for a wrong one. Holds no option itself. */
#include "shared/opt.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plm.h"

/* Levenshtein distance of two short names. */
static size_t distance(const char *a, const char *b) {
    size_t n = strlen(b), row[64];
    if (n >= 63)
        return 99;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

static bool listed(const char *list, const char *name) {
    struct str rest = str_of(list), one;
    while (str_cut(&rest, ' ', &one))
        if (str_eq(one, name))
            return true;
    return false;
}

static bool takes(const struct program *p, const struct command *c, const struct option *o) {
    return listed(p->shared, o->name) || listed(c->options, o->name);
}

static const char *nearest_command(const struct program *p, const char *name) {
    const char *best = NULL;
    size_t least = 4;
    for (const struct command *c = p->commands; c->name; c++) {
        size_t d = distance(name, c->name);
        if (d < least) {
            least = d;
            best = c->name;
        }
    }
    return best;
}

static const char *nearest_option(const struct program *p, const struct command *c, const char *name) {
    const char *best = NULL;
    size_t least = 4;
    for (const struct option *o = p->options; o->name; o++) {
        size_t d = takes(p, c, o) ? distance(name, o->name) : 99;
        if (d < least) {
            least = d;
            best = o->name;
        }
    }
    return best;
}

static const struct option *find_long(const struct program *p, const struct command *c, struct str name) {
    for (const struct option *o = p->options; o->name; o++)
        if (takes(p, c, o) && str_eq(name, o->name))
            return o;
    return NULL;
}

static const struct option *find_letter(const struct program *p, const struct command *c, char letter) {
    for (const struct option *o = p->options; o->name; o++)
        if (takes(p, c, o) && o->letter == letter)
            return o;
    return NULL;
}

static int misuse(const struct program *p, const struct command *c, const char *what, const char *more) {
    fprintf(stderr, "%s %s: %s%s (see %s %s --help)\n", p->name, c->name, what, more, p->name, c->name);
    return EXIT_MISUSE;
}

bool opt_store(void *a, const struct option *o, const char *value) {
    void *field = (char *)a + o->at;
    int64_t i;
    uint64_t u;
    double d;
    switch (o->type) {
    case OPT_FLAG:
        *(bool *)field = true;
        return true;
    case OPT_TEXT:
        *(const char **)field = value;
        return true;
    case OPT_LIST: {
        struct strings *s = field;
        if (s->n == (int)(sizeof s->v / sizeof *s->v))
            return false;
        s->v[s->n++] = value;
        return true;
    }
    case OPT_INT:
        if (!parse_i64(str_of(value), &i) || i < -1000000000 || i > 1000000000)
            return false;
        *(int *)field = (int)i;
        return true;
    case OPT_U64:
        if (!parse_u64(str_of(value), &u))
            return false;
        *(uint64_t *)field = u;
        return true;
    case OPT_SIZE:
        if (!parse_size(str_of(value), &u))
            return false;
        *(uint64_t *)field = u;
        return true;
    case OPT_REAL:
        if (!parse_f64(str_of(value), &d))
            return false;
        *(double *)field = d;
        return true;
    case OPT_COUNT:
        if (!parse_i64(str_of(value), &i) || i < 0 || i > 1000000000000000)
            return false;
        *(int64_t *)field = i;
        return true;
    case OPT_AMOUNT:
        if (!parse_f64(str_of(value), &d) || !(d >= 0 && d <= 1e9))
            return false;
        *(double *)field = d;
        return true;
    }
    return false;
}

static int bad_value(const struct program *p, const struct command *c, const struct option *o,
                     const char *value) {
    char text[200];
    snprintf(text, sizeof text, "--%s takes %s, not \"%.80s\"", o->name, o->value, value);
    return misuse(p, c, text, "");
}

static int unknown(const struct program *p, const struct command *c, const char *shown, const char *name) {
    char text[200];
    const char *near = nearest_option(p, c, name);
    if (near)
        snprintf(text, sizeof text, "no option %.60s; did you mean --%s?", shown, near);
    else
        snprintf(text, sizeof text, "no option %.60s", shown);
    return misuse(p, c, text, "");
}

/* One argument that starts with a dash; *i advances over a separate value. */
static int parse_dashed(void *a, const struct program *p, const struct command *c, int argc, char **argv,
                        int *i) {
    const char *arg = argv[*i], *value = NULL;
    const struct option *o;
    if (arg[1] == '-') {
        struct str rest = str_of(arg + 2), name;
        bool joined = strchr(arg, '=') != NULL;
        str_cut(&rest, '=', &name);
        o = find_long(p, c, name);
        if (!o) {
            char plain[64];
            snprintf(plain, sizeof plain, "%.*s", (int)(name.n < 60 ? name.n : 60), name.p);
            return unknown(p, c, arg, plain);
        }
        if (joined)
            value = rest.p;
        if (joined && !o->value)
            return misuse(p, c, "this option takes no value: --", o->name);
    } else {
        o = find_letter(p, c, arg[1]);
        if (!o)
            return unknown(p, c, arg, arg + 1);
        if (arg[2] && !o->value)
            return unknown(p, c, arg, arg + 1);
        value = arg[2] ? arg + 2 : NULL;
    }
    if (o->value && !value) {
        if (*i + 1 >= argc)
            return misuse(p, c, "a value is missing after --", o->name);
        value = argv[++*i];
    }
    return opt_store(a, o, value) ? EXIT_DONE : bad_value(p, c, o, value);
}

static int parse(void *a, const struct program *p, const struct command *c, int argc, char **argv) {
    bool options_end = false;
    const char **rest = mem_zero((size_t)argc + 1, sizeof *rest);
    int n = 0, rc = rest ? EXIT_DONE : misuse(p, c, "out of memory", "");
    const char ***kept = (const char ***)((char *)a + p->rest);
    mem_free(*kept);
    *kept = rest;
    for (int i = 0; i < argc && rc == EXIT_DONE; i++) {
        const char *arg = argv[i];
        if (options_end || arg[0] != '-' || !arg[1])
            rest[n++] = arg;
        else if (strcmp(arg, "--") == 0)
            options_end = true;
        else
            rc = parse_dashed(a, p, c, argc, argv, &i);
    }
    *(int *)((char *)a + p->n_rest) = n;
    return rc;
}

static void print_option(const struct option *o) {
    char left[64];
    snprintf(left, sizeof left, "%s%c%s --%s%s%s", o->letter ? "-" : " ", o->letter ? o->letter : ' ',
             o->letter ? "," : " ", o->name, o->value ? " " : "", o->value ? o->value : "");
    printf("  %-30s %s\n", left, o->help);
}

static void usage(const struct program *p, const struct command *c) {
    if (!c) {
        printf("%s %s: %s\n\nusage: %s COMMAND [options]\n\n", p->name, plm_version(), p->what, p->name);
        for (c = p->commands; c->name; c++)
            printf("  %-12s %s\n", c->name, c->what);
        printf("\n%s COMMAND --help explains one. %s\n", p->name, p->first);
        return;
    }
    printf("usage: %s %s %s\n\n%s\n", p->name, c->name, c->usage, c->what);
    if (c->more)
        printf("\n%s\n", c->more);
    printf("\n");
    for (const struct option *o = p->options; o->name; o++)
        if (listed(c->options, o->name))
            print_option(o);
    printf("\nshared:\n");
    for (const struct option *o = p->options; o->name; o++)
        if (listed(p->shared, o->name) && !listed(c->options, o->name))
            print_option(o);
    printf("\nexample:\n  %s\n", c->example);
}

/* roff needs its dashes and leading dots escaped. */
static void roff(const char *text) {
    for (const char *p = text; *p; p++) {
        if (*p == '-')
            fputs("\\-", stdout);
        else if (*p == '\\')
            fputs("\\e", stdout);
        else if ((*p == '.' || *p == '\'') && (p == text || p[-1] == '\n'))
            printf("\\&%c", *p);
        else
            putchar(*p);
    }
}

static void man_option(const struct option *o) {
    printf(".TP\n.B ");
    if (o->letter)
        printf("\\-%c, ", o->letter);
    printf("\\-\\-");
    roff(o->name);
    if (o->value) {
        printf(" \\fI");
        roff(o->value);
        printf("\\fR");
    }
    printf("\n");
    roff(o->help);
    printf("\n");
}

static void man_upper(const char *name) {
    for (; *name; name++)
        putchar(*name >= 'a' && *name <= 'z' ? *name - 'a' + 'A' : *name);
}

static void print_man(const struct program *p) {
    printf(".TH ");
    man_upper(p->name);
    printf(" 1 \"\" \"plm %s\" \"User Commands\"\n.SH NAME\n", plm_version());
    roff(p->name);
    printf(" \\- ");
    roff(p->what);
    printf("\n.SH SYNOPSIS\n.B ");
    roff(p->name);
    printf("\n.I command\n[options]\n.SH COMMANDS\n");
    for (const struct command *c = p->commands; c->name; c++) {
        printf(".SS ");
        roff(p->name);
        printf(" %s ", c->name);
        roff(c->usage);
        printf("\n");
        roff(c->what);
        printf("\n");
        if (c->more) {
            printf(".PP\n");
            roff(c->more);
            printf("\n");
        }
        for (const struct option *o = p->options; o->name; o++)
            if (listed(c->options, o->name))
                man_option(o);
        printf(".PP\nExample:\n.PP\n.EX\n");
        roff(c->example);
        printf("\n.EE\n");
    }
    printf(".SH OPTIONS OF EVERY COMMAND\n");
    for (const struct option *o = p->options; o->name; o++)
        if (listed(p->shared, o->name))
            man_option(o);
    printf(".SH EXIT STATUS\n0 done, 1 failed, 2 misuse.\n.SH FILES\n%s\n", p->files);
}

static void complete_options(const struct program *p, const char *names) {
    for (const struct option *o = p->options; o->name; o++)
        if (listed(names, o->name))
            printf(" --%s", o->name);
}

static void print_completion(const struct program *p) {
    printf("_%s() {\n    local words=\n    case $COMP_CWORD:${COMP_WORDS[1]} in\n    1:*) words=\"", p->name);
    for (const struct command *c = p->commands; c->name; c++)
        printf("%s%s", c == p->commands ? "" : " ", c->name);
    printf("\" ;;\n");
    for (const struct command *c = p->commands; c->name; c++) {
        printf("    *:%s) words=\"", c->name);
        complete_options(p, p->shared);
        complete_options(p, c->options);
        printf("\" ;;\n");
    }
    printf("    esac\n    local now=${COMP_WORDS[COMP_CWORD]}\n"
           "    [[ $COMP_CWORD = 1 || $now = -* ]] || return 0 # then bash offers files\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$now\"))\n}\ncomplete -o default -F _%s %s\n",
           p->name, p->name);
}

/* ---- running ---- */

static const struct command *opt_command(const struct program *p, const char *name) {
    for (const struct command *c = p->commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

int opt_help(const struct program *p, const char *command, bool man, bool completion) {
    const struct command *c = command ? opt_command(p, command) : NULL;
    if (command && !c) {
        fprintf(stderr, "%s help: no command \"%s\"\n", p->name, command);
        return EXIT_MISUSE;
    }
    if (man)
        print_man(p);
    else if (completion)
        print_completion(p);
    else
        usage(p, c);
    return EXIT_DONE;
}

static int run(const struct program *p, int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        usage(p, NULL);
        return argc < 2 ? EXIT_MISUSE : EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("%s %s\n", p->name, plm_version());
        return EXIT_DONE;
    }
    const struct command *c = opt_command(p, argv[1]);
    if (!c) {
        const char *near = nearest_command(p, argv[1]);
        if (near)
            fprintf(stderr, "%s: no command \"%s\"; did you mean %s?\n", p->name, argv[1], near);
        else
            fprintf(stderr, "%s: no command \"%s\" (see %s --help)\n", p->name, argv[1], p->name);
        return EXIT_MISUSE;
    }
    struct args *a = mem_zero(1, p->args_size);
    if (a && p->defaults)
        memcpy(a, p->defaults, p->args_size);
    int rc = a ? parse(a, p, c, argc - 2, argv + 2) : misuse(p, c, "out of memory", "");
    bool help = a && *(bool *)((char *)a + p->help);
    if (rc == EXIT_DONE && p->elsewhere && !help) {
        rc = p->elsewhere(a, c->name);
        rc = rc ? rc : parse(a, p, c, argc - 2, argv + 2);
    }
    if (rc == EXIT_DONE && help)
        usage(p, c);
    else if (rc == EXIT_DONE)
        rc = c->run(a);
    if (a)
        mem_free(*(const char ***)((char *)a + p->rest));
    mem_free(a);
    return rc;
}

int program_main(const struct program *p, int argc, char **argv) {
    setlocale(LC_CTYPE, "C.UTF-8");
    signal(SIGPIPE, SIG_IGN);
    int rc = run(p, argc, argv);
    if (fflush(stdout) != 0 && rc == EXIT_DONE) {
        fprintf(stderr, "%s: could not write all of the result\n", p->name);
        rc = EXIT_FAILED;
    }
    return rc;
}
