/* store_lua.c – the module "store.core": Lua values to requests and rows to Lua values.
 *
 * A method checks its arguments, has its request planned and filled (store_plan.c), hands
 * it to the database and waits; the results are pushed when the task goes on.
 */
#include "store/store_lua.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "open.h"

#define DB_TYPE "store.db"
#define TX_TYPE "store.transaction"
#define WATCHER_TYPE "store.watcher"

enum { MAX_STATEMENTS = 1000 };

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
                                     const sr_store_plan *p) {
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
    sr_store_plan p = {.function = function};
    lua_settop(L, 3);
    sr_can_wait(L);
    sr_store_plan_statement(L, &p, 2, 3); /* from 4 */
    sr_store_request *r = request_new(L, db, kind, &p);
    sr_store_plan_fill(L, r, 4);
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
    sr_store_plan p = {.function = "db:batch"};
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
        sr_store_plan_entry(L, &p, entry);
        lua_remove(L, entry);
    }
    sr_store_request *r = request_new(L, db, SR_STORE_WRITE, &p);
    sr_store_plan_fill(L, r, 3);
    return go(L, r);
}

/* db:opened(): waits until the file is open, or raises why it cannot be. */
static int l_opened(lua_State *L) {
    sr_store_db *db = check_db(L, 1);
    sr_store_plan p = {.function = "store.open"};
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
    sr_store_plan p = {.function = "db:transaction"};
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

static void open_type(lua_State *L, const char *name, const luaL_Reg *meta,
                      const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, meta, 0);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int luaopen_store_core(lua_State *L) {
    open_type(L, DB_TYPE, db_meta, db_methods);
    open_type(L, TX_TYPE, tx_meta, tx_methods);
    open_type(L, WATCHER_TYPE, watcher_meta, watcher_methods);
    sr_store_open_plan(L);
    lua_newtable(L);
    lua_pushcfunction(L, l_handle);
    lua_setfield(L, -2, "handle");
    sr_store_open_jobs(L);
    sr_store_open_owner(L);
    return 1;
}
