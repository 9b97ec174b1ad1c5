/* fuzz_server.c: what our own code reads of a request's head: a Host header and, on the second line, a path.
 */
#include "fuzz.h"

#include <string.h>

#include "base/mem.h"
#include "net/server.h"

int fuzz_server(const uint8_t *data, size_t size) {
    static const char *const patterns[] = {"/healthz", "/v1/jobs/{}", "/v1/jobs/{}/events", "{}"};
    static const char *const names[] = {"plm.example.org", NULL};
    char *text = mem_dup((const char *)data, size), part[65];
    if (!text)
        return 0;
    char *path = strchr(text, '\n');
    if (path)
        *path++ = 0;
    bool ours = host_allowed(text, "127.0.0.1", names);
    PROMISE(!ours || strlen(text) < 32); // the longest of our names with a port
    PROMISE(!ours || !strpbrk(text, " /@\t"));
    PROMISE(!ours || host_allowed(text, "127.9.9.9", names) || strstr(text, "127.0.0.1"));
    for (size_t i = 0; path && i < sizeof patterns / sizeof *patterns; i++) {
        if (route_matches(patterns[i], path, part)) {
            const char *hole = strstr(patterns[i], "{}");
            PROMISE(!hole == !*part && strlen(part) <= 64 && !strpbrk(part, "/.%"));
            PROMISE(strlen(path) == strlen(patterns[i]) + (hole ? strlen(part) - 2 : 0));
        }
    }
    mem_free(text);
    return 0;
}
