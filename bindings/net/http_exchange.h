/* http_exchange.h – the exchange as http_client.c and http_hop.c share it. Private to
 * them. */
#ifndef HTTP_EXCHANGE_H
#define HTTP_EXCHANGE_H

#include "net/http_client.h"
#include "net/http_pool.h"

enum { SR_HTTP_FEW = 8 };

struct sr_http_exchange {
    sr_http_transfer transfer; /* first: the pool gives it back */
    sr_loop *loop;
    sr_http_request *req;
    sr_http_events events;
    void *arg;
    sr_http_result result;
    struct curl_slist few[SR_HTTP_FEW]; /* header lines, chained; point into req */
    struct curl_slist *lines;           /* the same when they are more */
    sr_timer total, connect;
    sr_err stop;    /* why a callback stopped libcurl */
    sr_err refused; /* why an address was not tried; counts if no other one connects */
    char text[CURL_ERROR_SIZE];
    int64_t taken;   /* decoded body bytes of this hop */
    int64_t sent_at; /* next byte of the request's body */
    size_t head_bytes;
    int head_lines, hops;
    bool head_done, connecting, outside, away, proxied, paused, done;
};

/* http_client.c */
void sr_http_set_callbacks(sr_http_exchange *x, CURL *easy);
/* Waiting for our own side; the virtual clock is not held meanwhile. */
void sr_http_set_paused(sr_http_exchange *x, bool paused);

/* http_hop.c: start the transfer of the request as it stands. */
int sr_http_start_hop(sr_http_exchange *x, sr_err *err);
/* Whether the easy handle may make another transfer after this one. */
bool sr_http_is_plain(const sr_http_exchange *x);
/* Whether the response at hand leads on, so that its body is only read to keep the
 * connection. */
bool sr_http_will_follow(const sr_http_exchange *x);
/* Change the request to the redirect's target and start it. */
int sr_http_follow(sr_http_exchange *x, sr_err *err);

#endif
