/* log.c: structured lines on stderr. */
#include "log.h"

#include <string.h>
#include <unistd.h>

void log_begin(struct log_line *l, const char *level, const char *event) {
    char now[21];
    clock_iso(clock_wall(), now);
    bytes_init(&l->b, 1 << 14);
    bytes_printf(&l->b, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", now, level, event);
}

void log_text(struct log_line *l, const char *name, const char *value) {
    bytes_printf(&l->b, ",\"%s\":", name);
    bytes_json(&l->b, value, strlen(value));
}

void log_int(struct log_line *l, const char *name, int64_t value) {
    bytes_printf(&l->b, ",\"%s\":%lld", name, (long long)value);
}

void log_real(struct log_line *l, const char *name, double value) {
    bytes_printf(&l->b, ",\"%s\":%.3f", name, value);
}

void log_end(struct log_line *l) {
    bytes_puts(&l->b, "}\n");
    // A log that can't be written stops nothing.
    if (!l->b.st && write(STDERR_FILENO, l->b.data, l->b.len) < 0) {
        l->b.len = 0;
    }
    bytes_free(&l->b);
}
