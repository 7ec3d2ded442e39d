/* smtp_lua.c – module "smtp": hand one mail to one server.
 *
 *     local smtp = require "smtp"
 *     local sent = smtp.send{host = "mail.example.com", port = 587, user = "u",
 *       password = secret "env:MAIL_PASSWORD", from = "a@example.com",
 *       to = {"b@example.com"}, message = text}
 *     sent.accepted, sent.refused      -- addresses; {to, code, enhanced, text,
 * temporary}
 *
 * Raises when no recipient was accepted: usage, denied, dns, connect, tls, timeout, auth,
 * not_found (no such mailbox), limit, rate_limited, protocol, io; err.retryable says that
 * it may work later, err.status is the server's code. The message is built by "mail".
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "net/http_pool.h"
#include "net/smtp.h"
#include "open.h"

#define BOX_TYPE "smtp.send box"

enum { MOST_RECIPIENTS = 100, MOST_CAS = 64, MOST_BYTES = 32 << 20 };

static const sr_arg args[] = {
    {"host", SR_STRING, SR_REQUIRED | SR_NONEMPTY, NULL, "name or address of the server",
     NULL, 0},
    {"port", SR_INT, SR_POSITIVE, "587; 465 with implicit TLS; 25 without", NULL, NULL,
     65535},
    {"tls", SR_ENUM, 0, "starttls", "starttls (required), implicit, or none",
     "starttls|implicit|none", 0},
    {"user", SR_STRING, SR_NONEMPTY, NULL, "login", NULL, 0},
    {"password", SR_SECRET, 0, NULL, "its password", NULL, 0},
    {"ca", SR_ANY, 0, "system", "path, folder, PEM text, \"system\" or a list of them",
     NULL, 0},
    {"helo", SR_STRING, SR_NONEMPTY, "this machine's name", "how we introduce ourselves",
     NULL, 0},
    {"from", SR_STRING, SR_REQUIRED, NULL, "address of the envelope", NULL, 0},
    {"to", SR_LIST, SR_REQUIRED | SR_NONEMPTY, NULL, "addresses of the envelope",
     "string", 0},
    {"message", SR_STRING, SR_REQUIRED | SR_NONEMPTY, NULL, "text with CRLF lines", NULL,
     0},
    {"timeout", SR_DURATION, SR_POSITIVE, "60s", "for everything", NULL, 0},
    {"connect_timeout", SR_DURATION, SR_POSITIVE, "15s", "until the server greets", NULL,
     0},
    {0}};
static const sr_spec spec = {"smtp.send", "Hand a mail to a server.", args};

/* ---------------------------------------------------------------- options */

static int l_box_free(lua_State *L) {
    sr_smtp_mail **box = lua_touserdata(L, 1);
    sr_smtp_mail_free(*box);
    *box = NULL;
    return 0;
}

static void check(lua_State *L, int rc, const sr_err *err) {
    if (rc < 0) sr_throw(L, err);
}

static char *copy(lua_State *L, const char *text) {
    char *made = strdup(text);
    if (!made) luaL_error(L, "not enough memory");
    return made;
}

/* A host or the name we greet with: what may stand in a URL and after EHLO. */
static void check_name(lua_State *L, const char *option, const char *name) {
    size_t len = strlen(name);
    bool good = len > 0 && len <= 255 && name[0] != '-';
    for (const char *p = name; *p && good; p++)
        good = isalnum((unsigned char)*p) || strchr(".-_:", *p);
    if (!good)
        sr_raise(L, SR_USAGE, "BAD_OPTION",
                 "smtp.send: %s: expected a name or an address, got \"%s\"", option,
                 name);
}

static const char *own_name(char *buf, size_t size) {
    if (uv_os_gethostname(buf, &size) < 0) return "localhost";
    for (const char *p = buf; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr(".-_", *p)) return "localhost";
    return *buf ? buf : "localhost";
}

static void fill_server(lua_State *L, sr_smtp_mail *mail) {
    char name[256], url[800], peer[300];
    const char *tls = sr_arg_string(L, 1, "tls", "starttls", NULL);
    mail->tls = *tls == 's'   ? SR_SMTP_STARTTLS_TLS
                : *tls == 'i' ? SR_SMTP_IMPLICIT_TLS
                              : SR_SMTP_NO_TLS;
    static const int ports[] = {587, 465, 25};
    const char *host = sr_arg_string(L, 1, "host", "", NULL);
    const char *helo = sr_arg_string(L, 1, "helo", NULL, NULL);
    int port = (int)sr_arg_int(L, 1, "port", ports[mail->tls]);
    check_name(L, "host", host);
    if (!helo) helo = own_name(name, sizeof name);
    check_name(L, "helo", helo);
    snprintf(peer, sizeof peer, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
    snprintf(url, sizeof url, "smtp%s://%s/%s",
             mail->tls == SR_SMTP_IMPLICIT_TLS ? "s" : "", peer, helo);
    mail->host = copy(L, host);
    mail->peer = copy(L, peer);
    mail->url = copy(L, url);
}

static void fill_login(lua_State *L, sr_smtp_mail *mail) {
    const char *user = sr_arg_string(L, 1, "user", NULL, NULL);
    bool has_password = sr_arg_push(L, 1, "password") != LUA_TNIL;
    if ((user != NULL) != has_password)
        sr_raise(L, SR_USAGE, "BAD_OPTION", "smtp.send: give user and password, or none");
    if (user && mail->tls == SR_SMTP_NO_TLS)
        sr_raise(L, SR_USAGE, "BAD_OPTION",
                 "smtp.send: a password is not sent without TLS; use tls = \"starttls\" "
                 "or \"implicit\"");
    if (user) {
        size_t len;
        const char *password = sr_check_secret(L, -1, &len);
        if (!len || strlen(password) != len || strpbrk(password, "\r\n"))
            sr_raise(L, SR_USAGE, "BAD_OPTION",
                     "smtp.send: the password is empty or has more than one line");
        mail->user = copy(L, user);
        sr_redact_add(password, len);
        if (sr_buf_append(&mail->password, password, len) < 0)
            luaL_error(L, "not enough memory");
    }
    lua_pop(L, 1);
}

static const char *ca_source(lua_State *L, int idx) {
    size_t len;
    const char *source =
        lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &len) : "";
    if (!*source || strlen(source) != len)
        sr_raise(L, SR_USAGE, "BAD_OPTION",
                 "smtp.send: ca: expected a path, PEM text or a list of them");
    if (strcmp(source, "system") != 0 && !strstr(source, "-----BEGIN "))
        sr_allow(L, SR_PERM_READ, source);
    return source;
}

static void fill_ca(lua_State *L, sr_smtp_mail *mail) {
    const char *sources[MOST_CAS] = {"system"};
    size_t count = 1;
    sr_err err = {0};
    int top = lua_gettop(L), type = sr_arg_push(L, 1, "ca"), idx = top + 1;
    if (type == LUA_TTABLE) {
        count = lua_rawlen(L, idx);
        if (count < 1 || count > MOST_CAS)
            sr_raise(L, SR_USAGE, "BAD_OPTION", "smtp.send: ca: expected 1 to %d sources",
                     MOST_CAS);
        luaL_checkstack(L, MOST_CAS, "ca");
        for (size_t i = 0; i < count; i++) {
            lua_rawgeti(L, idx, (lua_Integer)i + 1);
            sources[i] = ca_source(L, -1); /* stays on the stack meanwhile */
        }
    } else if (type != LUA_TNIL) {
        sources[0] = ca_source(L, idx);
    }
    if (mail->tls != SR_SMTP_NO_TLS)
        check(L, sr_http_ca_get(sr_loop_of(L), sources, count, &mail->ca, &err), &err);
    lua_settop(L, top);
}

static void fill_envelope(lua_State *L, sr_smtp_mail *mail) {
    size_t len;
    sr_err err = {0};
    const char *from = sr_arg_string(L, 1, "from", "", &len);
    check(L, sr_smtp_check_address(from, len, &err), &err);
    mail->from = copy(L, from);
    sr_arg_push(L, 1, "to");
    size_t count = lua_rawlen(L, -1);
    if (count < 1 || count > MOST_RECIPIENTS)
        sr_raise(L, SR_USAGE, "BAD_OPTION", "smtp.send: to: expected 1 to %d addresses",
                 MOST_RECIPIENTS);
    mail->to = calloc(count, sizeof *mail->to);
    if (!mail->to) luaL_error(L, "not enough memory");
    mail->to_count = count;
    for (size_t i = 0; i < mail->to_count; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        const char *to = lua_tolstring(L, -1, &len);
        if (!to) sr_raise(L, SR_USAGE, "BAD_OPTION", "smtp.send: to: expected addresses");
        check(L, sr_smtp_check_address(to, len, &err), &err);
        mail->to[i] = copy(L, to);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* Lines end in CRLF and are no longer than 998 bytes (RFC 5322 2.1.1). */
static void fill_message(lua_State *L, sr_smtp_mail *mail) {
    size_t len, start = 0;
    const char *text = sr_arg_string(L, 1, "message", "", &len);
    bool good = len <= MOST_BYTES && len >= 2 && memcmp(text + len - 2, "\r\n", 2) == 0;
    for (size_t i = 0; i < len && good; i++) {
        if (text[i] == '\n') {
            good = i > 0 && text[i - 1] == '\r' && i - 1 - start <= 998;
            start = i + 1;
        } else if (text[i] == '\r') {
            good = i + 1 < len && text[i + 1] == '\n';
        }
    }
    if (!good)
        sr_raise(L, SR_USAGE, "BAD_MESSAGE",
                 "smtp.send: message: every line ends in CRLF and has at most 998 bytes; "
                 "build it with mail.build");
    if (sr_buf_append(&mail->message, text, len) < 0) luaL_error(L, "not enough memory");
}

/* Check the table at 1 and fill a mail, which a userdata at the top frees on errors. */
static sr_smtp_mail **read_options(lua_State *L) {
    sr_args(L, 1, &spec);
    sr_smtp_mail **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    if (luaL_newmetatable(L, BOX_TYPE)) {
        lua_pushcfunction(L, l_box_free);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    sr_smtp_mail *mail = *box = sr_smtp_mail_new();
    if (!mail) luaL_error(L, "not enough memory");
    mail->vm = sr_vm_of(L);
    mail->timeout = sr_arg_duration(L, 1, "timeout", 60);
    mail->connect_timeout = sr_arg_duration(L, 1, "connect_timeout", 15);
    fill_server(L, mail);
    fill_login(L, mail);
    fill_envelope(L, mail);
    fill_message(L, mail);
    fill_ca(L, mail);
    return box;
}

/* ---------------------------------------------------------------- the wait */

typedef struct handing {
    sr_op op;
    sr_smtp_send *send; /* NULL: cancelled, or not started */
    sr_err err;         /* it could not be started */
} handing;

static void push_refused(lua_State *L, const char *to, const sr_smtp_reply *reply) {
    lua_createtable(L, 0, 5);
    lua_pushstring(L, to);
    lua_setfield(L, -2, "to");
    lua_pushinteger(L, reply->code);
    lua_setfield(L, -2, "code");
    lua_pushstring(L, reply->enhanced);
    lua_setfield(L, -2, "enhanced");
    char text[sizeof reply->text];
    snprintf(text, sizeof text, "%s", reply->text);
    sr_redact(text);
    lua_pushstring(L, text);
    lua_setfield(L, -2, "text");
    lua_pushboolean(L, sr_smtp_is_temporary(reply));
    lua_setfield(L, -2, "temporary");
}

static int handing_finish(lua_State *L, sr_op *op) {
    handing *w = (handing *)op;
    if (w->err.kind != SR_NONE) return sr_throw(L, &w->err);
    const sr_err *err = sr_smtp_error_of(w->send);
    if (err->kind != SR_NONE) return sr_throw(L, err);
    const sr_smtp_dialogue *d = sr_smtp_dialogue_of(w->send);
    char *const *to = sr_smtp_mail_of(w->send)->to;
    lua_createtable(L, 0, 4);
    lua_newtable(L);
    lua_newtable(L);
    for (size_t i = 0; i < d->to_count; i++) {
        bool good = d->to[i].code / 100 == 2;
        if (good)
            lua_pushstring(L, to[i]);
        else
            push_refused(L, to[i], &d->to[i]);
        int list = good ? -3 : -2;
        lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
    }
    lua_setfield(L, -3, "refused");
    lua_setfield(L, -2, "accepted");
    lua_pushfstring(L, "%d %s", d->last.code, d->last.text);
    lua_setfield(L, -2, "reply");
    lua_pushboolean(L, d->encrypted);
    lua_setfield(L, -2, "encrypted");
    return 1;
}

static void handing_cancel(sr_op *op) {
    handing *w = (handing *)op;
    sr_smtp_free(w->send);
    w->send = NULL;
    sr_op_done(op);
}

static void handing_free(sr_op *op) {
    handing *w = (handing *)op;
    sr_smtp_free(w->send);
    free(w);
}

static void handing_describe(const sr_op *op, char *buf, size_t size) {
    const handing *w = (const handing *)op;
    snprintf(buf, size, "mail to %s", w->send ? sr_smtp_mail_of(w->send)->peer : "");
}

static const sr_op_class handing_class = {"smtp.send", handing_finish, handing_cancel,
                                          handing_free, handing_describe};

static void sent(void *arg, sr_smtp_send *send) {
    (void)send;
    sr_op_done(&((handing *)arg)->op);
}

static int l_send(lua_State *L) {
    lua_settop(L, 1);
    sr_can_wait(L);
    sr_smtp_mail **box = read_options(L);
    handing *w = calloc(1, sizeof *w);
    if (!w) return luaL_error(L, "not enough memory");
    sr_smtp_mail *mail = *box;
    *box = NULL;
    sr_op_init(&w->op, &handing_class, sr_loop_of(L));
    if (sr_smtp_start(w->op.loop, mail, sent, w, &w->send, &w->err) < 0)
        sr_op_done(&w->op);
    return sr_wait(L, &w->op, SR_FOREVER);
}

/* smtp.check_address(text): raises usage when it cannot stand in an envelope. */
static int l_check_address(lua_State *L) {
    size_t len;
    sr_err err = {0};
    const char *text = luaL_checklstring(L, 1, &len);
    check(L, sr_smtp_check_address(text, len, &err), &err);
    return 0;
}

/* smtp.close_idle(): forget the pools, which connections of HTTP share. */
static int l_close_idle(lua_State *L) {
    sr_http_pool_close_idle(sr_loop_of(L));
    return 0;
}

int luaopen_smtp(lua_State *L) {
    static const luaL_Reg functions[] = {{"send", l_send},
                                         {"check_address", l_check_address},
                                         {"close_idle", l_close_idle},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
