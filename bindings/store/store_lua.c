/* store_lua.c – the module "store.core": Lua values to requests and rows to Lua values.
 *
 * A request is built in two passes. The first may raise: it looks each SQL text up (or
 * scans it), checks the statement's fields, and leaves on the Lua stack, statement by
 * statement, a header of four values and then the parameters in the order of their names.
 * The second allocates the request and copies from that stack; nothing in it raises.
 *
 * SQL texts are kept by their text, per VM, so that a text is scanned once.
 */
#include "store/store_lua.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "open.h"

#define DB_TYPE "store.db"
#define TX_TYPE "store.transaction"
#define WATCHER_TYPE "store.watcher"
#define SQL_TYPE "store.sql"

enum { MAX_STATEMENTS = 1000, MAX_TEXT = 64 << 20, TEXTS_KEPT = 512 };

/* ---------------------------------------------------------------- SQL texts */

static char texts_key; /* registry: text → userdata */

static int l_sql_gc(lua_State *L) {
    sr_store_sql **box = lua_touserdata(L, 1);
    if (*box && --(*box)->refs == 0) free(*box);
    *box = NULL;
    return 0;
}

static uint32_t hash_of(const char *text, size_t len) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)text[i]) * 16777619u;
    return h;
}

/* Scan the text at idx and push its userdata. */
static sr_store_sql *scan_text(lua_State *L, int idx) {
    sr_err err = {0};
    sr_sql scan = {0};
    size_t len;
    const char *text = lua_tolstring(L, idx, &len);
    if (sr_sql_single(text, len, &scan, &err) != 0) {
        (void)sr_throw(L, &err);
        return NULL;
    }
    sr_store_sql **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, SQL_TYPE);
    sr_store_sql *sql = malloc(sizeof *sql + len + 1);
    if (!sql) {
        luaL_error(L, "not enough memory");
        return NULL;
    }
    *box = sql;
    sql->refs = 1;
    sql->hash = hash_of(text, len);
    sql->len = len;
    sql->scan = scan;
    memcpy(sql->text, text, len + 1);
    return sql;
}

static void push_texts(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &texts_key) == LUA_TTABLE &&
        lua_rawlen(L, -1) < TEXTS_KEPT)
        return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &texts_key);
}

/* The scanned text of the string at idx; its userdata is pushed. The table also has the
 * texts in its sequence, which counts them. */
static sr_store_sql *push_sql(lua_State *L, int idx, const char *function) {
    if (lua_type(L, idx) != LUA_TSTRING) {
        (void)sr_raise(L, SR_USAGE, NULL, "%s expects an SQL text, got %s", function,
                       luaL_typename(L, idx));
        return NULL;
    }
    push_texts(L); /* texts */
    lua_pushvalue(L, idx);
    if (lua_rawget(L, -2) == LUA_TUSERDATA) {
        lua_remove(L, -2);
        return *(sr_store_sql **)lua_touserdata(L, -1);
    }
    lua_pop(L, 1);
    sr_store_sql *sql = scan_text(L, idx); /* texts, userdata */
    lua_pushvalue(L, idx);
    lua_pushvalue(L, -2);
    lua_rawset(L, -4);
    lua_pushvalue(L, idx);
    lua_rawseti(L, -3, (lua_Integer)lua_rawlen(L, -3) + 1);
    lua_remove(L, -2);
    return sql;
}

/* ---------------------------------------------------------------- first pass */

/* What the second pass has to allocate. */
typedef struct plan {
    const char *function;
    uint32_t count;
    size_t values, bytes;
} plan;

enum { HEADER = 4 }; /* sql, expect, when, code */

static void bad_value(lua_State *L, const plan *p, const char *name, const char *what) {
    (void)sr_raise(L, SR_USAGE, NULL, "%s: the parameter $%s is %s", p->function, name,
                   what);
}

/* Check the value on top. */
static void check_value(lua_State *L, plan *p, const char *name) {
    size_t len;
    const char *text;
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
    case LUA_TBOOLEAN: return;
    case LUA_TNUMBER:
        if (!lua_isinteger(L, -1) && !isfinite(lua_tonumber(L, -1)))
            bad_value(L, p, name, "not a finite number");
        return;
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        if (len > MAX_TEXT) bad_value(L, p, name, "longer than 64 MiB");
        if (!sr_store_is_text(text, len))
            bad_value(L, p, name,
                      "not UTF-8 text; store bytes as encoding.base64(bytes)");
        p->bytes += len;
        return;
    default: break;
    }
    char what[96];
    snprintf(what, sizeof what, "a %s; a column holds numbers, strings and booleans",
             luaL_typename(L, -1));
    bad_value(L, p, name, what);
}

/* A name given that the text does not have. */
static void surplus(lua_State *L, const plan *p, int params, const sr_store_sql *sql) {
    const char *names[SR_SQL_NAMES + 1];
    for (uint32_t i = 0; i < sql->scan.count; i++)
        names[i] =
            lua_pushlstring(L, sql->text + sql->scan.names[i].at, sql->scan.names[i].len);
    names[sql->scan.count] = NULL;
    lua_pushnil(L);
    while (lua_next(L, params)) {
        bool known = false;
        if (lua_type(L, -2) != LUA_TSTRING)
            (void)sr_raise(L, SR_USAGE, NULL,
                           "%s: parameters are named, {id = …}, got the key %s",
                           p->function, luaL_tolstring(L, -2, NULL));
        for (const char **n = names; *n; n++)
            known |= strcmp(*n, lua_tostring(L, -2)) == 0;
        if (!known) {
            const char *close = sr_suggest(lua_tostring(L, -2), names);
            (void)sr_raise(
                L, SR_USAGE, NULL, "%s: the SQL has no parameter $%s%s%s%s (in: %.160s)",
                p->function, lua_tostring(L, -2), close ? "; did you mean $" : "",
                close ? close : "", close ? "?" : "", sql->text);
        }
        lua_pop(L, 1);
    }
}

/* Push the values of the table at params (or nil) in the order of the text's names. */
static void push_values(lua_State *L, plan *p, int params, const sr_store_sql *sql) {
    uint32_t given = 0, found = 0, count = sql->scan.count;
    bool none = lua_isnil(L, params);
    if (!none && !lua_istable(L, params))
        (void)sr_raise(L, SR_USAGE, NULL, "%s: parameters are a table by name, got %s",
                       p->function, luaL_typename(L, params));
    if (none && count)
        (void)sr_raise(L, SR_USAGE, NULL, "%s: the SQL wants $%.*s; give {%.*s = …}",
                       p->function, (int)sql->scan.names[0].len,
                       sql->text + sql->scan.names[0].at, (int)sql->scan.names[0].len,
                       sql->text + sql->scan.names[0].at);
    luaL_checkstack(L, (int)count + SR_SQL_NAMES + 8, "too many parameters");
    for (uint32_t i = 0; i < count; i++) {
        const char *name =
            lua_pushlstring(L, sql->text + sql->scan.names[i].at, sql->scan.names[i].len);
        lua_pushvalue(L, -1);
        found += lua_rawget(L, params) != LUA_TNIL;
        check_value(L, p, name);
        lua_remove(L, -2);
    }
    p->values += count;
    if (none) return;
    lua_pushnil(L);
    while (lua_next(L, params)) {
        given++;
        lua_pop(L, 1);
    }
    if (given != found) surplus(L, p, params, sql);
}

/* Push header and values of one statement; params is an index or 0. */
static void plan_statement(lua_State *L, plan *p, int sql_idx, int params) {
    int at = lua_gettop(L) + 1;
    luaL_checkstack(L, HEADER + 8, "too many statements");
    sr_store_sql *sql = push_sql(L, sql_idx, p->function);
    lua_pushinteger(L, -1);
    lua_pushinteger(L, 0);
    lua_pushnil(L);
    if (!params) {
        lua_pushnil(L);
        params = at + HEADER;
        push_values(L, p, params, sql);
        lua_remove(L, params);
    } else {
        push_values(L, p, params, sql);
    }
    p->count++;
}

/* An entry of db:batch is {sql, params, expect =, when =, code =}. */

static void bad_entry(lua_State *L, const plan *p, const char *format,
                      const char *given) {
    char what[128];
    snprintf(what, sizeof what, format, given);
    (void)sr_raise(L, SR_USAGE, NULL, "%s: statement %u: %s", p->function, p->count + 1,
                   what);
}

static void check_entry_keys(lua_State *L, const plan *p, int entry) {
    const char *names[] = {"expect", "when", "code", NULL};
    lua_pushnil(L);
    while (lua_next(L, entry)) {
        lua_pop(L, 1);
        if (lua_isinteger(L, -1) &&
            (lua_tointeger(L, -1) == 1 || lua_tointeger(L, -1) == 2))
            continue;
        const char *key = luaL_tolstring(L, -1, NULL);
        bool known = false;
        for (const char **n = names; *n; n++)
            known |= strcmp(*n, key) == 0;
        if (!known) {
            const char *close = sr_suggest(key, names);
            char text[64];
            snprintf(text, sizeof text, "%.24s%s%s%s", key,
                     close ? "; did you mean " : "", close ? close : "",
                     close ? "?" : "");
            bad_entry(L, p, "it has no field %s", text);
        }
        lua_pop(L, 1);
    }
}

/* The integer field of the entry, at least `least`; `fallback` when it is absent. */
static lua_Integer entry_integer(lua_State *L, const plan *p, int entry, const char *key,
                                 lua_Integer least, lua_Integer fallback) {
    int exact = 1;
    lua_Integer value = fallback;
    if (lua_getfield(L, entry, key) != LUA_TNIL) {
        value =
            lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &exact) : least - 1;
        if (!exact || value < least)
            (void)sr_raise(L, SR_USAGE, NULL,
                           "%s: statement %u: %s is a whole number from %d, got %s",
                           p->function, p->count + 1, key, (int)least,
                           luaL_tolstring(L, -1, NULL));
    }
    lua_pop(L, 1);
    return value;
}

static void plan_entry(lua_State *L, plan *p, int entry) {
    int at;
    luaL_checkstack(L, HEADER + 16, "too many statements");
    if (!lua_istable(L, entry))
        bad_entry(L, p, "is {sql, params, …}, got %s", luaL_typename(L, entry));
    check_entry_keys(L, p, entry);
    lua_Integer expect = entry_integer(L, p, entry, "expect", 0, -1);
    lua_Integer when = entry_integer(L, p, entry, "when", 1, 0);
    if (when > (lua_Integer)p->count)
        bad_entry(L, p, "when is the number of an %s statement", "earlier");
    lua_rawgeti(L, entry, 1); /* sql, params */
    lua_rawgeti(L, entry, 2);
    at = lua_gettop(L) + 1;
    plan_statement(L, p, at - 2, at - 1);
    lua_pushinteger(L, expect);
    lua_replace(L, at + 1);
    lua_pushinteger(L, when);
    lua_replace(L, at + 2);
    int type = lua_getfield(L, entry, "code");
    if (type != LUA_TNIL && type != LUA_TSTRING)
        bad_entry(L, p, "code is a string, got %s", luaL_typename(L, -1));
    if (type == LUA_TSTRING) p->bytes += lua_rawlen(L, -1) + 1;
    lua_replace(L, at + 3);
    lua_remove(L, at - 1);
    lua_remove(L, at - 2);
}

/* ---------------------------------------------------------------- second pass */

static char *put_bytes(char **bytes, const char *text, size_t len) {
    char *at = *bytes;
    if (len) memcpy(at, text, len);
    *bytes += len;
    return at;
}

static sr_store_value to_value(lua_State *L, int idx, char **bytes) {
    sr_store_value v = {.type = SR_STORE_NULL};
    const char *text;
    switch (lua_type(L, idx)) {
    case LUA_TBOOLEAN:
        v.type = SR_STORE_INT;
        v.as.integer = lua_toboolean(L, idx);
        break;
    case LUA_TNUMBER:
        v.type = lua_isinteger(L, idx) ? SR_STORE_INT : SR_STORE_FLOAT;
        if (v.type == SR_STORE_INT)
            v.as.integer = lua_tointeger(L, idx);
        else
            v.as.number = lua_tonumber(L, idx);
        break;
    case LUA_TSTRING:
        v.type = SR_STORE_TEXT;
        text = lua_tolstring(L, idx, &v.as.text.len);
        v.as.text.data = put_bytes(bytes, text, v.as.text.len);
        break;
    default: break;
    }
    return v;
}

/* From the headers and values that begin at idx. */
static void fill(lua_State *L, sr_store_request *r, int idx) {
    sr_store_value *value = r->values;
    char *bytes = r->bytes;
    for (uint32_t i = 0; i < r->count; i++) {
        sr_store_stmt *s = &r->stmts[i];
        size_t len;
        s->sql = *(sr_store_sql **)lua_touserdata(L, idx);
        s->sql->refs++;
        s->expect = lua_tointeger(L, idx + 1);
        s->when = (uint32_t)lua_tointeger(L, idx + 2);
        if (lua_type(L, idx + 3) == LUA_TSTRING) {
            const char *code = lua_tolstring(L, idx + 3, &len);
            s->code = put_bytes(&bytes, code, len + 1);
        }
        s->values = value;
        idx += HEADER;
        for (uint32_t k = 0; k < s->sql->scan.count; k++)
            *value++ = to_value(L, idx++, &bytes);
    }
}

/* ---------------------------------------------------------------- rows */

static const char *push_cell(lua_State *L, const char *p) {
    int64_t integer;
    double number;
    uint32_t len;
    switch (*p++) {
    case SR_STORE_INT:
        memcpy(&integer, p, 8);
        lua_pushinteger(L, integer);
        return p + 8;
    case SR_STORE_FLOAT:
        memcpy(&number, p, 8);
        lua_pushnumber(L, number);
        return p + 8;
    case SR_STORE_TEXT:
        memcpy(&len, p, 4);
        lua_pushlstring(L, p + 4, len);
        return p + 4 + len;
    default: lua_pushnil(L); return p;
    }
}

/* Push the table of rows; with `first` only the first row, or nil. */
static void push_rows(lua_State *L, const sr_store_rows *rows, bool first) {
    const char *p = rows->cells.data;
    int names = lua_gettop(L) + 1;
    uint32_t count = first && rows->count > 1 ? 1 : rows->count;
    luaL_checkstack(L, (int)rows->columns + 6, "too many columns");
    for (uint32_t i = 0; rows->count && i < rows->columns; i++) {
        lua_pushstring(L, p);
        p += strlen(p) + 1;
    }
    if (!first) lua_createtable(L, (int)count, 0);
    for (uint32_t k = 1; k <= count; k++) {
        lua_createtable(L, 0, (int)rows->columns);
        for (uint32_t i = 0; i < rows->columns; i++) {
            lua_pushvalue(L, names + (int)i);
            p = push_cell(L, p);
            lua_rawset(L, -3);
        }
        if (!first) lua_rawseti(L, -2, k);
    }
    if (first && !count) lua_pushnil(L);
    lua_insert(L, names);
    lua_settop(L, names);
}

static void push_result(lua_State *L, const sr_store_stmt *s) {
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, s->changes);
    lua_setfield(L, -2, "changes");
    push_rows(L, &s->rows, false);
    lua_setfield(L, -2, "rows");
    if (!s->skipped) return;
    lua_pushboolean(L, true);
    lua_setfield(L, -2, "skipped");
}

static int raise_failure(lua_State *L, const sr_store_request *r) {
    sr_push_err(L, &r->err);
    if (r->failed && !r->single) {
        lua_pushinteger(L, r->failed);
        lua_setfield(L, -2, "index");
    }
    return lua_error(L);
}

/* ---------------------------------------------------------------- operations */

static int request_finish(lua_State *L, sr_op *op) {
    const sr_store_request *r = (const sr_store_request *)op;
    if (r->err.kind) return raise_failure(L, r);
    if (!r->count) return 0;
    if (r->first || r->plain) {
        push_rows(L, &r->stmts[0].rows, r->first);
    } else if (r->single) {
        push_result(L, &r->stmts[0]);
    } else {
        lua_createtable(L, (int)r->count, 0);
        for (uint32_t i = 0; i < r->count; i++) {
            push_result(L, &r->stmts[i]);
            lua_rawseti(L, -2, i + 1);
        }
    }
    return 1;
}

static void request_free(sr_op *op) {
    sr_store_request_free((sr_store_request *)op);
}

static void request_describe(const sr_op *op, char *buf, size_t size) {
    const sr_store_request *r = (const sr_store_request *)op;
    const char *text =
        r->count ? r->stmts[0].sql->text + r->stmts[0].sql->scan.start : "";
    snprintf(buf, size, "the store: %.80s", text);
}

/* Nothing stops it: a task that is cancelled leaves, what it queued is run. */
static const sr_op_class request_class = {.name = "store",
                                          .finish = request_finish,
                                          .free = request_free,
                                          .describe = request_describe};

/* A transaction that nobody will drive must not hold the writer. */
static void begin_cancel(sr_op *op) {
    sr_store_tx_abandon(((sr_store_request *)op)->tx);
}

static const sr_op_class begin_class = {.name = "store.transaction",
                                        .finish = request_finish,
                                        .cancel = begin_cancel,
                                        .free = request_free,
                                        .describe = request_describe};

typedef struct handle {
    sr_store_db *db; /* NULL: closed */
} handle;

typedef struct tx_handle {
    sr_store_db *db; /* held; NULL: over */
    sr_store_tx *tx;
} tx_handle;

static sr_store_db *check_db(lua_State *L, int idx) {
    const handle *h = sr_check_object(L, idx, DB_TYPE);
    if (!h->db) (void)sr_raise(L, SR_USAGE, "CLOSED", "the store is closed");
    return h->db;
}

static sr_store_request *request_new(lua_State *L, sr_store_db *db, sr_store_kind kind,
                                     const plan *p) {
    const sr_op_class *cls = kind == SR_STORE_BEGIN ? &begin_class : &request_class;
    sr_store_request *r =
        sr_store_request_new(db, kind, cls, p->count, p->values, p->bytes);
    if (!r) luaL_error(L, "not enough memory");
    return r;
}

static int go(lua_State *L, sr_store_request *r) {
    sr_store_submit(r);
    return sr_wait(L, &r->op, SR_FOREVER);
}

/* function(handle, sql, params): one statement. */
static sr_store_request *single(lua_State *L, sr_store_db *db, sr_store_kind kind,
                                const char *function) {
    plan p = {.function = function};
    lua_settop(L, 3);
    sr_can_wait(L);
    plan_statement(L, &p, 2, 3); /* from 4 */
    sr_store_request *r = request_new(L, db, kind, &p);
    fill(L, r, 4);
    r->single = true;
    return r;
}

static void refuse_read_only(lua_State *L, const sr_store_db *db) {
    if (sr_store_read_only(db))
        (void)sr_raise(L, SR_STORE, "READONLY", "%s was opened to be read only",
                       sr_store_place(db));
}

/* db:rows(sql, params) → {row…} */
static int l_rows(lua_State *L) {
    sr_store_request *r = single(L, check_db(L, 1), SR_STORE_READ, "db:rows");
    r->plain = true;
    return go(L, r);
}

/* db:row(sql, params) → the first row, or nil */
static int l_row(lua_State *L) {
    sr_store_request *r = single(L, check_db(L, 1), SR_STORE_READ, "db:row");
    r->first = true;
    return go(L, r);
}

/* db:exec(sql, params) → {changes =, rows =} */
static int l_exec(lua_State *L) {
    sr_store_db *db = check_db(L, 1);
    refuse_read_only(L, db);
    return go(L, single(L, db, SR_STORE_WRITE, "db:exec"));
}

/* db:batch{…} → a result per statement */
static int l_batch(lua_State *L) {
    sr_store_db *db = check_db(L, 1);
    plan p = {.function = "db:batch"};
    lua_settop(L, 2);
    refuse_read_only(L, db);
    if (!lua_istable(L, 2))
        return sr_raise(L, SR_USAGE, NULL, "db:batch expects {{sql, params}, …}, got %s",
                        luaL_typename(L, 2));
    size_t count = lua_rawlen(L, 2);
    if (count == 0 || count > MAX_STATEMENTS)
        return sr_raise(L, SR_USAGE, NULL, "db:batch expects 1 to %d statements, got %d",
                        MAX_STATEMENTS, (int)(count > INT32_MAX ? INT32_MAX : count));
    sr_can_wait(L);
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i);
        int entry = lua_gettop(L);
        plan_entry(L, &p, entry);
        lua_remove(L, entry);
    }
    sr_store_request *r = request_new(L, db, SR_STORE_WRITE, &p);
    fill(L, r, 3);
    return go(L, r);
}

/* db:opened(): waits until the file is open, or raises why it cannot be. */
static int l_opened(lua_State *L) {
    sr_store_db *db = check_db(L, 1);
    plan p = {.function = "store.open"};
    sr_can_wait(L);
    return go(L, request_new(L, db, SR_STORE_OPENED, &p));
}

/* ---------------------------------------------------------------- transactions */

static tx_handle *check_tx(lua_State *L, int idx) {
    tx_handle *h = sr_check_object(L, idx, TX_TYPE);
    if (!h->db)
        (void)sr_raise(L, SR_USAGE, "TRANSACTION",
                       "the transaction is over; its object is of no use any more");
    return h;
}

/* db:transaction() → an object whose begin() waits for the writer */
static int l_transaction(lua_State *L) {
    sr_store_db *db = check_db(L, 1);
    refuse_read_only(L, db);
    tx_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    *h = (tx_handle){0};
    luaL_setmetatable(L, TX_TYPE);
    h->tx = sr_store_tx_new(db);
    if (!h->tx) return luaL_error(L, "not enough memory");
    sr_store_hold(db);
    h->db = db;
    return 1;
}

static int tx_go(lua_State *L, const tx_handle *h, sr_store_request *r) {
    r->tx = sr_store_tx_ref(h->tx);
    return go(L, r);
}

static int tx_plain(lua_State *L, sr_store_kind kind) {
    const tx_handle *h = check_tx(L, 1);
    plan p = {.function = "db:transaction"};
    sr_can_wait(L);
    return tx_go(L, h, request_new(L, h->db, kind, &p));
}

static int l_tx_begin(lua_State *L) {
    return tx_plain(L, SR_STORE_BEGIN);
}

static int l_tx_commit(lua_State *L) {
    return tx_plain(L, SR_STORE_COMMIT);
}

static int l_tx_exec(lua_State *L) {
    const tx_handle *h = check_tx(L, 1);
    return tx_go(L, h, single(L, h->db, SR_STORE_STEP, "t:exec"));
}

static int l_tx_rows(lua_State *L) {
    const tx_handle *h = check_tx(L, 1);
    sr_store_request *r = single(L, h->db, SR_STORE_STEP, "t:rows");
    r->plain = true;
    return tx_go(L, h, r);
}

static int l_tx_row(lua_State *L) {
    const tx_handle *h = check_tx(L, 1);
    sr_store_request *r = single(L, h->db, SR_STORE_STEP, "t:row");
    r->first = true;
    return tx_go(L, h, r);
}

/* Roll back what was not committed; does not wait. */
static int l_tx_close(lua_State *L) {
    tx_handle *h = sr_check_object(L, 1, TX_TYPE);
    if (h->db) {
        sr_store_tx_abandon(h->tx);
        sr_store_release(h->db);
        h->db = NULL;
    }
    if (h->tx) sr_store_tx_unref(h->tx);
    h->tx = NULL;
    return 0;
}

/* ---------------------------------------------------------------- watching */

typedef struct watcher {
    sr_store_db *db; /* held; NULL: closed */
    uint64_t seen;
} watcher;

static int wait_finish(lua_State *L, sr_op *op) {
    lua_pushboolean(L, ((sr_store_wait *)op)->seen);
    return 1;
}

static void wait_cancel(sr_op *op) {
    sr_store_wait_cancel((sr_store_wait *)op);
}

static void wait_free(sr_op *op) {
    free(op);
}

static const sr_op_class wait_class = {.name = "watcher:wait",
                                       .finish = wait_finish,
                                       .cancel = wait_cancel,
                                       .free = wait_free};

/* db:watch() → watcher */
static int l_watch(lua_State *L) {
    sr_store_db *db = check_db(L, 1);
    watcher *w = lua_newuserdatauv(L, sizeof *w, 0);
    *w = (watcher){.seen = sr_store_commits(db)};
    luaL_setmetatable(L, WATCHER_TYPE);
    sr_store_hold(db);
    w->db = db;
    return 1;
}

/* watcher:wait(timeout?) → true when something was committed since catch_up() (or since
 * it was made), false when the time is over */
static int l_watcher_wait(lua_State *L) {
    watcher *w = sr_check_object(L, 1, WATCHER_TYPE);
    if (!w->db) return sr_raise(L, SR_USAGE, "CLOSED", "the watcher is closed");
    sr_loop *loop = sr_store_loop(w->db);
    double seconds = lua_isnoneornil(L, 2) ? -1 : sr_check_duration(L, 2);
    int64_t due = INT64_MAX;
    if (seconds >= 0 && seconds < 1e9)
        due = sr_mono(loop) + (int64_t)(seconds * (double)SR_NS);
    sr_can_wait(L);
    sr_store_wait *wait = calloc(1, sizeof *wait);
    if (!wait) return luaL_error(L, "not enough memory");
    sr_op_init(&wait->op, &wait_class, loop);
    sr_store_wait_start(wait, w->db, w->seen, due);
    return sr_wait(L, &wait->op, SR_FOREVER);
}

/* watcher:catch_up(): everything committed until now has been noticed. */
static int l_watcher_catch_up(lua_State *L) {
    watcher *w = sr_check_object(L, 1, WATCHER_TYPE);
    if (w->db) w->seen = sr_store_commits(w->db);
    return 0;
}

static int l_watcher_close(lua_State *L) {
    watcher *w = sr_check_object(L, 1, WATCHER_TYPE);
    if (w->db) sr_store_release(w->db);
    w->db = NULL;
    return 0;
}

/* ---------------------------------------------------------------- opening, closing */

static const sr_arg handle_args[] = {
    {"read_only", SR_BOOL, 0, "false", "no writing, no migration"},
    {"busy", SR_DURATION, 0, "30s", "how long to wait for another process that writes"},
    {"poll", SR_DURATION, 0, "250ms", "how often to look for commits of others"},
    {"hold", SR_DURATION, SR_POSITIVE, "5s", "how long db:transaction may take"},
    {"max_rows", SR_INT, SR_POSITIVE, "100000", "of one result", .max = 1e9},
    {"max_bytes", SR_INT, SR_POSITIVE, "67108864", "of one result", .max = 1e12},
    {"max_size", SR_INT, SR_POSITIVE, NULL, "of the file, bytes", .max = 1e15},
    {0}};
static const sr_spec handle_spec = {"store.open", "Open a database.", handle_args};

static int64_t to_ns(double seconds) {
    return (int64_t)((seconds < 1e9 ? seconds : 1e9) * (double)SR_NS);
}

/* handle(place, options) → db, which opens meanwhile */
static int l_handle(lua_State *L) {
    sr_err err;
    lua_settop(L, 2);
    const char *place = luaL_checkstring(L, 1);
    sr_args(L, 2, &handle_spec);
    sr_store_limits limits = {
        .rows = (uint32_t)sr_arg_int(L, 2, "max_rows", 100000),
        .bytes = (size_t)sr_arg_int(L, 2, "max_bytes", 64 << 20),
        .busy = to_ns(sr_arg_duration(L, 2, "busy", 30)),
        .poll = to_ns(sr_arg_duration(L, 2, "poll", 0.25)),
        .hold = to_ns(sr_arg_duration(L, 2, "hold", 5)),
        .max_size = sr_arg_int(L, 2, "max_size", 0),
    };
    handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    h->db = NULL;
    luaL_setmetatable(L, DB_TYPE);
    h->db = sr_store_open(sr_loop_of(L), &sr_store_sqlite, place,
                          sr_arg_bool(L, 2, "read_only", false), &limits, &err);
    return h->db ? 1 : sr_throw(L, &err);
}

static int close_finish(lua_State *L, sr_op *op) {
    (void)L;
    (void)op;
    return 0;
}

static void close_free(sr_op *op) {
    free(op);
}

/* Steady: who closes wants the files to be closed, cancelled or not. */
static const sr_op_class close_class = {
    .name = "db:close", .finish = close_finish, .free = close_free, .steady = true};

/* db:close(): gives the handle back; after the last one the file is closed on return. */
static int l_close(lua_State *L) {
    handle *h = sr_check_object(L, 1, DB_TYPE);
    if (!h->db) return 0;
    sr_can_wait(L);
    sr_op *op = calloc(1, sizeof *op);
    if (!op) return luaL_error(L, "not enough memory");
    sr_op_init(op, &close_class, sr_store_loop(h->db));
    sr_store_close(h->db, op);
    h->db = NULL;
    return sr_wait(L, op, SR_FOREVER);
}

static int l_gc(lua_State *L) {
    handle *h = sr_check_object(L, 1, DB_TYPE);
    if (h->db) sr_store_release(h->db);
    h->db = NULL;
    return 0;
}

static int l_place(lua_State *L) {
    lua_pushstring(L, sr_store_place(check_db(L, 1)));
    return 1;
}

/* ---------------------------------------------------------------- module */

static const luaL_Reg db_methods[] = {{"rows", l_rows},
                                      {"row", l_row},
                                      {"exec", l_exec},
                                      {"batch", l_batch},
                                      {"transaction", l_transaction},
                                      {"watch", l_watch},
                                      {"opened", l_opened},
                                      {"place", l_place},
                                      {"close", l_close},
                                      {NULL, NULL}};
static const luaL_Reg db_meta[] = {{"__gc", l_gc}, {"__close", l_close}, {NULL, NULL}};
static const luaL_Reg tx_methods[] = {
    {"begin", l_tx_begin}, {"exec", l_tx_exec},     {"rows", l_tx_rows},
    {"row", l_tx_row},     {"commit", l_tx_commit}, {"close", l_tx_close},
    {NULL, NULL}};
static const luaL_Reg tx_meta[] = {
    {"__gc", l_tx_close}, {"__close", l_tx_close}, {NULL, NULL}};
static const luaL_Reg watcher_methods[] = {{"wait", l_watcher_wait},
                                           {"catch_up", l_watcher_catch_up},
                                           {"close", l_watcher_close},
                                           {NULL, NULL}};
static const luaL_Reg watcher_meta[] = {
    {"__gc", l_watcher_close}, {"__close", l_watcher_close}, {NULL, NULL}};
static const luaL_Reg sql_meta[] = {{"__gc", l_sql_gc}, {NULL, NULL}};

static void open_type(lua_State *L, const char *name, const luaL_Reg *meta,
                      const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, meta, 0);
    if (methods) {
        lua_newtable(L);
        luaL_setfuncs(L, methods, 0);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
}

int luaopen_store_core(lua_State *L) {
    open_type(L, DB_TYPE, db_meta, db_methods);
    open_type(L, TX_TYPE, tx_meta, tx_methods);
    open_type(L, WATCHER_TYPE, watcher_meta, watcher_methods);
    open_type(L, SQL_TYPE, sql_meta, NULL);
    lua_newtable(L);
    lua_pushcfunction(L, l_handle);
    lua_setfield(L, -2, "handle");
    sr_store_open_jobs(L);
    sr_store_open_owner(L);
    return 1;
}
