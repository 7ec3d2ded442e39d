/* http_pool.h – connections of the HTTP client: libcurl multi handles on the loop.
 *
 * libcurl reuses a connection when host, port and its own TLS options agree. It cannot
 * see what we put into an SSL_CTX, nor whose addresses a `resolve` pinned. So everything
 * that makes two connections to one host differ is part of a pool's key, and each pool is
 * one multi handle: its connections, its DNS cache, its limits.
 *
 * A transfer is added, then ends exactly once: by its done function (called from the
 * loop, never inside libcurl), or by sr_http_pool_remove(), after which nothing is
 * called.
 */
#ifndef HTTP_POOL_H
#define HTTP_POOL_H

#include <curl/curl.h>

#include "net/http_ca.h"
#include "secrun.h"

typedef struct sr_http_pool sr_http_pool;
typedef struct sr_http_transfer sr_http_transfer;

/* Two keys are equal when every member is; resolve by its text. */
typedef struct sr_http_pool_key {
    sr_http_ca *ca;             /* NULL when verify is false */
    sr_http_identity *identity; /* NULL: no client certificate */
    const char *resolve;        /* "host:port:address\n…" or NULL */
    bool verify;
    bool public_only; /* refuse addresses that are not of the public Internet */
    int total, per_host;
} sr_http_pool_key;

/* First member of whatever is transferred. CURLOPT_PRIVATE of the easy handle is it. */
struct sr_http_transfer {
    sr_http_pool *pool; /* NULL when not added */
    CURL *easy;
    void (*done)(sr_http_transfer *transfer, CURLcode code);
    void (*abandon)(sr_http_transfer *transfer); /* the loop closes; removed already */
    sr_http_transfer *prev, *next;
};

/* Initialise libcurl once in the process. 0 or -1. */
int sr_http_global_init(sr_err *err);
/* The pool of that key. It stays while transfers are in it; idle ones beyond 16 are
 * closed, the oldest first. */
int sr_http_pool_get(sr_loop *loop, const sr_http_pool_key *key, sr_http_pool **ret_pool,
                     sr_err *err);
/* An easy handle with what belongs to the pool (TLS, sockets, resolve) and to every
 * request (protocols, user agent, compression) set; NULL without memory. *ret_used: it
 * made transfers before, so whatever differs from one to the next is still set. */
CURL *sr_http_pool_easy(sr_http_pool *pool, bool *ret_used);
/* The same, never used before: for other protocols, whose handles are not kept. */
CURL *sr_http_pool_new_easy(sr_http_pool *pool);
/* Keep a handle for the next sr_http_pool_easy(), or free it. Not in a transfer. */
void sr_http_pool_keep(sr_http_pool *pool, CURL *easy);
/* Start transfer->easy, which came from sr_http_pool_easy() of this pool. */
int sr_http_pool_add(sr_http_pool *pool, sr_http_transfer *transfer, sr_err *err);
/* Take it out, finished or not. Not from inside libcurl. Allowed when not added. */
void sr_http_pool_remove(sr_http_transfer *transfer);
const sr_http_pool_key *sr_http_pool_key_of(const sr_http_pool *pool);

/* Close the connections of pools in which nothing is under way. */
void sr_http_pool_close_idle(sr_loop *loop);

/* Open a socket for CURLOPT_OPENSOCKETFUNCTION and keep its watcher until it is closed.
 */
curl_socket_t sr_http_pool_socket(sr_http_pool *pool,
                                  const struct curl_sockaddr *address);
/* What the pool's CURLOPT_CLOSESOCKETFUNCTION does, for one of the caller's own. */
int sr_http_pool_close_socket(sr_http_pool *pool, curl_socket_t fd);

#endif
