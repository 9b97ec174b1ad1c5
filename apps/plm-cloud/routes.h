/* routes.h: the service's addresses (docs/wire.md, docs/openapi.json). */
#ifndef PLM_CLOUD_ROUTES_H
#define PLM_CLOUD_ROUTES_H
#include "crew.h"
#include "net/server.h"

struct front; /* what the handlers share; thread-safe */
plm_status front_open(struct front **out, const struct args *c, struct ledger *l, struct crew *crew,
                      plm_error *err);
void front_close(struct front *f);
void front_drain(struct front *f); /* /readyz says no from now on */
extern const struct route front_routes[];
/* Before a body is read: is the sender's key known? false: it was answered. */
bool front_admit(void *ctx, struct exchange *x);
/* A finished request, for the metrics and the log. */
void front_log(void *ctx, const char *method, const char *route, int status, size_t bytes, double seconds);
#endif
