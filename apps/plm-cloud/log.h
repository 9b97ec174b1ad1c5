/* log.h: what happened, one JSON object a line on stderr. Ids, sizes, codes and times; never a text of a
 * request, a reply or a key. */
#ifndef PLM_CLOUD_LOG_H
#define PLM_CLOUD_LOG_H
#include "base/base.h"

struct log_line {
    struct bytes b;
};
void log_begin(struct log_line *l, const char *level, const char *event);
void log_text(struct log_line *l, const char *name, const char *value);
void log_int(struct log_line *l, const char *name, int64_t value);
void log_real(struct log_line *l, const char *name, double value);
void log_end(struct log_line *l); /* written in one piece */
#endif
