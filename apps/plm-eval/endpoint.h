/* endpoint.h: one question at a time to an OpenAI-compatible server, its answer streamed and timed. */
#ifndef PLM_EVAL_ENDPOINT_H
#define PLM_EVAL_ENDPOINT_H
#include "proxy.h"

enum outcome { ANSWERED, REFUSED, SILENT, CUT, REJECTED, OUTCOMES };
/* "answered", "refused": nothing was sent; "timed out": no byte within the time allowed; "cut": the answer
 * broke off; "rejected": an error status, or something that is no answer. */
extern const char *const outcome_names[OUTCOMES];

struct asked {
    enum outcome outcome;
    double first, whole; /* seconds since the question; NAN: never came */
    int pieces;          /* of text in the answer; servers send one a token */
    char why[300];       /* what went wrong, for people */
};

struct endpoint;
/* url: up to "/v1". model may be NULL where the server has but one. key_file: one line, sent as the bearer;
 * NULL: none. https, or http to this machine. ca_file: whom to trust; NULL: the system. timeout: seconds
 * without a byte after which the client gives up. */
plm_status endpoint_open(struct endpoint **out, const char *url, const char *model, const char *key_file,
                         const char *ca_file, int max_tokens, double timeout, plm_error *err);
void endpoint_close(struct endpoint *e);
const char *endpoint_host(const struct endpoint *e);
int endpoint_port(const struct endpoint *e);
bool endpoint_is_here(const struct endpoint *e); /* on this machine */
/* Opens a connection, through the proxy if there is one, asks, and reads the answer to its end. What the
 * server or the network does wrong is an outcome; an error is only what is wrong on this side. */
plm_status endpoint_ask(struct endpoint *e, struct proxy *through, const char *question, struct asked *out,
                        plm_error *err);
#endif
