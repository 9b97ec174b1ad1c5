/* opt.h: a program's command line as two tables, commands and options. Parsing, usage, nearest names, the
 * manual page and the completion all come from them. */
#ifndef SHARED_OPT_H
#define SHARED_OPT_H
#include "base/base.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSE = 2 };

struct strings {
    const char *v[16];
    int n;
};

/* OPT_COUNT and OPT_AMOUNT: an int64_t and a double that are not below 0. */
enum opt_type { OPT_FLAG, OPT_TEXT, OPT_LIST, OPT_INT, OPT_U64, OPT_SIZE, OPT_REAL, OPT_COUNT, OPT_AMOUNT };

struct option {
    const char *name;  /* without dashes */
    char letter;       /* 0: none */
    const char *value; /* metavariable; NULL: a flag */
    enum opt_type type;
    size_t at; /* offsetof in struct args */
    const char *help;
};

struct args; /* each program's own: every option of every command */

struct command {
    const char *name;
    const char *usage; /* after "PROGRAM NAME" */
    const char *what;  /* one line */
    const char *more;  /* paragraphs for --help; may be NULL */
    const char *example;
    const char *options; /* names of its own options, space separated; shared ones are always taken */
    int (*run)(struct args *a);
};

struct program {
    const char *name, *what;
    const char *first;              /* the last line of the list of commands */
    const char *files;              /* FILES of the manual page */
    const char *shared;             /* names of the options that every command takes */
    const struct command *commands; /* ended by a row without a name, like the options */
    const struct option *options;
    size_t args_size;
    const void *defaults; /* a struct args to begin with; NULL: all zero */
    /* Sets what was told elsewhere than on the command line, which is read once more and stands above it.
     * NULL: nothing. */
    int (*elsewhere)(struct args *a, const char *command);
    size_t rest, n_rest, help; /* offsets in struct args: const char **, int and bool */
};

/* The whole of main: parses, runs one command and returns its exit status. Misuse is one sentence on stderr.
 */
int program_main(const struct program *p, int argc, char **argv);
/* A value into its field; false: it is none. A flag is set whatever the value. */
bool opt_store(void *args, const struct option *o, const char *value);
/* "PROGRAM help": usage of a command or of all (NULL), or the manual page, or what bash completes. */
int opt_help(const struct program *p, const char *command, bool man, bool completion);
#endif
