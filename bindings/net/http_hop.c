/* http_hop.c – one hop of an exchange: libcurl's options, the body going out, redirects.
 *
 * A hop starts from the request as it stands. A redirect changes the request (URL,
 * method, what may not go to another origin) and starts the next hop on the same easy
 * handle.
 *
 * What libcurl must not do: send a request twice by itself. It repeats one whose kept
 * connection died without an answer, whatever the method. For requests that are not
 * idempotent the body cannot be rewound once read, which makes libcurl fail with
 * CURLE_SEND_FAIL_REWIND instead; without a body they get a new connection.
 */
#include "net/http_exchange.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---------------------------------------------------------------- the request's body */

static size_t give_bytes(sr_http_exchange *x, char *to, size_t size) {
    const sr_buf *bytes = &x->req->bytes;
    size_t left = bytes->len - (size_t)x->sent_at;
    if (left > size) left = size;
    if (left) memcpy(to, bytes->data + x->sent_at, left);
    x->sent_at += (int64_t)left;
    return left;
}

static size_t give_file(sr_http_exchange *x, char *to, size_t size) {
    int64_t left = x->req->body_size - x->sent_at;
    if (left < (int64_t)size) size = (size_t)left;
    ssize_t got = size ? pread(x->req->fd, to, size, x->sent_at) : 0;
    if (got < 0 || (got == 0 && size)) {
        sr_fail_errno(&x->stop, got < 0 ? errno : EIO,
                      "%s: the file to send could not be read to its end",
                      x->req->url.peer);
        return CURL_READFUNC_ABORT;
    }
    x->sent_at += got;
    return (size_t)got;
}

static size_t on_give(char *to, size_t size, size_t count, void *arg) {
    sr_http_exchange *x = arg;
    if (x->req->body == SR_HTTP_BYTES) return give_bytes(x, to, size * count);
    if (x->req->body == SR_HTTP_FILE) return give_file(x, to, size * count);
    ssize_t got = x->events.pull(x->arg, to, size * count, &x->stop);
    if (got == SR_HTTP_PAUSE) {
        sr_http_set_paused(x, true);
        return CURL_READFUNC_PAUSE;
    }
    if (got < 0) return CURL_READFUNC_ABORT;
    x->sent_at += got;
    return (size_t)got;
}

/* libcurl wants to send the body again: only what has no other effect may be. */
static int on_rewind(void *arg, curl_off_t offset, int origin) {
    sr_http_exchange *x = arg;
    bool replay = x->req->idempotent && x->req->body != SR_HTTP_PULL;
    if (origin != SEEK_SET || offset != 0 || (x->sent_at && !replay))
        return CURL_SEEKFUNC_FAIL;
    x->sent_at = 0;
    return CURL_SEEKFUNC_OK;
}

static void set_body(sr_http_exchange *x, CURL *easy) {
    const sr_http_request *req = x->req;
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_give);
    curl_easy_setopt(easy, CURLOPT_READDATA, x);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_rewind);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, x);
    if (req->body == SR_HTTP_PULL) {
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        return;
    }
    bool bytes = req->body == SR_HTTP_BYTES;
    int64_t size = bytes ? (int64_t)req->bytes.len : req->body_size;
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
    if (bytes && (req->idempotent || !size))
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, size ? req->bytes.data : "");
    if (!size && !req->idempotent) curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
}

/* POST, PUT and PATCH announce the length of their body even when it is empty. */
static bool wants_length(const char *method) {
    return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
           strcmp(method, "PATCH") == 0;
}

static void set_method(sr_http_exchange *x, CURL *easy) {
    sr_http_request *req = x->req;
    if (req->body == SR_HTTP_NO_BODY && wants_length(req->method))
        req->body = SR_HTTP_BYTES;
    if (req->body != SR_HTTP_NO_BODY) {
        set_body(x, easy);
        if (strcmp(req->method, "POST") != 0 || req->body == SR_HTTP_PULL)
            curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, req->method);
    } else if (strcmp(req->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (strcmp(req->method, "GET") != 0) {
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, req->method);
    }
}

/* ---------------------------------------------------------------- a hop */

static char no_expect[] = "Expect:", no_type[] = "Content-Type:";

/* Chain our lines into the list that libcurl reads, without copying them. */
static int set_lines(sr_http_exchange *x) {
    const sr_http_request *req = x->req;
    size_t count = req->header_count, n = 0;
    struct curl_slist *nodes = x->few;
    if (count + 2 > SR_HTTP_FEW) {
        free(x->lines);
        nodes = x->lines = calloc(count + 2, sizeof *nodes);
        if (!nodes) return -1;
    }
    for (size_t i = 0; i < count; i++)
        nodes[n++].data = req->headers[i].line;
    if (req->body != SR_HTTP_NO_BODY) {
        nodes[n++].data = no_expect;
        if (!sr_http_request_has(req, "content-type")) nodes[n++].data = no_type;
    }
    for (size_t i = 0; i < n; i++)
        nodes[i].next = i + 1 < n ? &nodes[i + 1] : NULL;
    curl_easy_setopt(x->transfer.easy, CURLOPT_HTTPHEADER, n ? nodes : NULL);
    return 0;
}

static void set_version(const sr_http_exchange *x, CURL *easy) {
    const sr_http_request *req = x->req;
    long version = CURL_HTTP_VERSION_1_1;
    if (req->version != 11 && req->url.https)
        version = CURL_HTTP_VERSION_2TLS;
    else if (req->version == 20)
        version = CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, version);
    curl_easy_setopt(easy, CURLOPT_PIPEWAIT, version != CURL_HTTP_VERSION_1_1 ? 1L : 0L);
}

/* The proxy that the environment names for this URL; what libcurl would read. */
static const char *proxy_from_env(bool https) {
    const char *const names[2][4] = {
        {"http_proxy", "all_proxy", "ALL_PROXY", NULL},
        {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"}};
    for (int i = 0; i < 4 && names[https][i]; i++) {
        const char *value = getenv(names[https][i]);
        if (value && *value) return value;
    }
    return NULL;
}

/* Behind a proxy the guard cannot see addresses, so literal ones are looked at, and
 * nothing may go around the proxy. */
static void set_proxy(sr_http_exchange *x, CURL *easy) {
    const sr_http_request *req = x->req;
    const char *proxy = req->proxy;
    if (!proxy && req->public_only) proxy = proxy_from_env(req->url.https);
    x->proxied = proxy && *proxy;
    if (proxy) curl_easy_setopt(easy, CURLOPT_PROXY, proxy);
    if (req->public_only && x->proxied)
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    else if (req->no_proxy)
        curl_easy_setopt(easy, CURLOPT_NOPROXY, req->no_proxy);
}

/* Undo what an earlier transfer of this handle set; see sr_http_is_plain(). */
static void set_back(CURL *easy) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L); /* also: no upload, with body */
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 0L);
}

/* Requests that set nothing beyond what set_back() and the next request set again. */
bool sr_http_is_plain(const sr_http_exchange *x) {
    const sr_http_request *req = x->req;
    return !req->raw && !req->proxy && !req->no_proxy && !req->public_only &&
           (req->body == SR_HTTP_NO_BODY || req->body == SR_HTTP_BYTES) &&
           !sr_http_request_has(req, "accept-encoding");
}

static int configure(sr_http_exchange *x, bool used) {
    CURL *easy = x->transfer.easy;
    const sr_http_request *req = x->req;
    if (used) set_back(easy);
    set_method(x, easy);
    if (set_lines(x) < 0) return -1;
    sr_http_set_callbacks(x, easy);
    set_version(x, easy);
    set_proxy(x, easy);
    curl_easy_setopt(easy, CURLOPT_URL, req->url.text);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, req->last ? 1L : 0L);
    if (req->raw || sr_http_request_has(req, "accept-encoding"))
        curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, NULL);
    return 0;
}

/* Refuse what the guard cannot see on a socket: a literal address behind a proxy. */
static int check_literal(const sr_http_exchange *x, sr_err *err) {
    const char *host = x->req->url.host;
    struct sockaddr_storage at = {0};
    if (!x->req->public_only) return 0;
    bool literal = uv_ip4_addr(host, 0, (struct sockaddr_in *)(void *)&at) == 0 ||
                   uv_ip6_addr(host, 0, (struct sockaddr_in6 *)(void *)&at) == 0;
    size_t len = strlen(host);
    bool local = strcmp(host, "localhost") == 0 ||
                 (len > 10 && strcmp(host + len - 10, ".localhost") == 0);
    if (!local && !(literal && sr_http_private_address((struct sockaddr *)&at))) return 0;
    return sr_fail(err, SR_DENIED, "PRIVATE_ADDRESS",
                   "%s: not a public address, and this URL was given by somebody else; "
                   "refused",
                   x->req->url.peer);
}

static int find_pool(sr_http_exchange *x, sr_http_pool **ret_pool, sr_err *err) {
    sr_http_request *req = x->req;
    static const char *const system[] = {"system"};
    bool tls = req->url.https || (req->proxy && *req->proxy);
    if (tls && req->verify && !req->ca &&
        sr_http_ca_get(x->loop, system, 1, &req->ca, err) < 0)
        return -1;
    sr_http_pool_key key = {tls && req->verify ? req->ca : NULL,
                            req->identity,
                            req->resolve,
                            req->verify,
                            req->public_only,
                            req->pool_total,
                            req->pool_host};
    return sr_http_pool_get(x->loop, &key, ret_pool, err);
}

/* Start the transfer of the request as it stands. */
int sr_http_start_hop(sr_http_exchange *x, sr_err *err) {
    sr_http_pool *pool;
    sr_http_request *req = x->req;
    if (req->vm && sr_allowed(req->vm, SR_PERM_NET, req->url.peer, err) < 0) return -1;
    if (check_literal(x, err) < 0 || find_pool(x, &pool, err) < 0) return -1;
    bool used;
    if (x->transfer.easy) curl_easy_cleanup(x->transfer.easy); /* of the hop before */
    x->transfer.easy = sr_http_pool_easy(pool, &used);
    if (!x->transfer.easy || configure(x, used) < 0)
        return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a request");
    x->taken = x->sent_at = 0;
    x->refused = (sr_err){0};
    x->head_bytes = 0;
    x->head_lines = 0;
    x->head_done = x->connecting = false;
    x->result.status = 0;
    return sr_http_pool_add(pool, &x->transfer, err);
}

/* ---------------------------------------------------------------- redirects */

static bool is_redirect(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 ||
           status == 308;
}

/* Whether this hop's body is only read to keep the connection. */
bool sr_http_will_follow(const sr_http_exchange *x) {
    sr_http_field location;
    const sr_buf *head = &x->result.head;
    return x->req->redirects > 0 && is_redirect(x->result.status) && head->len &&
           sr_http_find(head->data, head->len, "location", &location);
}

/* Drop the headers that `unwanted` names: credentials, or those of a body. */
static void drop_headers(sr_http_request *req, bool (*unwanted)(const sr_http_header *)) {
    size_t kept = 0;
    for (size_t i = 0; i < req->header_count; i++) {
        sr_http_header *header = &req->headers[i];
        if (unwanted(header)) {
            sr_wipe(header->line, strlen(header->line));
            free(header->line);
        } else {
            req->headers[kept++] = *header;
        }
    }
    req->header_count = kept;
}

static bool is_private(const sr_http_header *header) {
    return header->private || strncasecmp(header->line, "authorization", 13) == 0 ||
           strncasecmp(header->line, "cookie", 6) == 0;
}

static bool is_of_body(const sr_http_header *header) {
    return strncasecmp(header->line, "content-", 8) == 0;
}

static void drop_body(sr_http_request *req) {
    sr_buf_free(&req->bytes);
    req->body = SR_HTTP_NO_BODY;
    drop_headers(req, is_of_body);
}

/* RFC 9110 15.4: which method goes on. */
static int adapt_method(sr_http_request *req, int status, sr_err *err) {
    bool head = strcmp(req->method, "HEAD") == 0;
    bool post = strcmp(req->method, "POST") == 0;
    if ((status == 303 && !head) || (status < 303 && post)) {
        memcpy(req->method, "GET", 4);
        req->idempotent = true;
        drop_body(req);
        return 0;
    }
    if (req->body == SR_HTTP_PULL)
        return sr_fail(err, SR_PROTOCOL, "CURLE_SEND_FAIL_REWIND",
                       "%s redirects a request whose body cannot be sent again; ask the "
                       "target itself",
                       req->url.peer);
    return 0;
}

static int check_target(const sr_http_exchange *x, const sr_http_url *next, sr_err *err) {
    const sr_http_request *req = x->req;
    if (x->hops >= req->redirects)
        return sr_fail(err, SR_PROTOCOL, "CURLE_TOO_MANY_REDIRECTS",
                       "%s: more than %d redirects, the last one to %.120s",
                       req->url.peer, req->redirects, next->shown);
    if (req->url.https && !next->https)
        return sr_fail(err, SR_PROTOCOL, "REDIRECT_DOWNGRADE",
                       "%s redirects from https to http (%.120s); refused", req->url.peer,
                       next->shown);
    return 0;
}

/* Change the request to the redirect's target and start it. */
int sr_http_follow(sr_http_exchange *x, sr_err *err) {
    sr_http_request *req = x->req;
    const sr_buf *head = &x->result.head;
    sr_http_field location;
    sr_http_url next = {0};
    sr_http_find(head->data, head->len, "location", &location);
    if (sr_http_url_join(&req->url, location.value, location.value_len, &next, err) < 0)
        return -1;
    if (check_target(x, &next, err) < 0 || adapt_method(req, x->result.status, err) < 0) {
        sr_http_url_free(&next);
        return -1;
    }
    if (!sr_http_url_same_origin(&req->url, &next)) {
        drop_headers(req, is_private);
        sr_http_identity_unref(req->identity);
        req->identity = NULL;
    }
    sr_http_url_free(&req->url);
    req->url = next;
    x->hops++;
    return sr_http_start_hop(x, err);
}
