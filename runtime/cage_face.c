/* cage_face.c – the module "cage": run a file that is not trusted, take plain values out.
 *
 *     local cage = require "cage"
 *     local decision = cage.run{file = "policies/keys.lua", call = "check", args =
 * {request}} local estate = cage.data{file = path, what = "estate file", allowed =
 * {"orgs", …}}
 *
 * A failure inside raises here: kind limit (code time or memory) or usage (code syntax,
 * runtime or copy); its `where` is the place inside and `stats` what it took until then.
 * Files are read as the script may read files. The instant a cage shows is the loop's,
 * so a virtual clock holds inside too, unless `now` says otherwise.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cage.h"

enum { TEXT_MAX = 4 << 20, WORDS_MAX = 16, ARGS_MAX = 64 };

static const char cage_type[] = "cage";

static const sr_arg new_args[] = {
    {"text", SR_STRING, 0, NULL, "the chunk; or give file"},
    {"file", SR_STRING, SR_NONEMPTY, NULL, "path of the chunk"},
    {"name", SR_STRING, SR_NONEMPTY, NULL, "how messages call it; default: the file"},
    {"what", SR_STRING, SR_NONEMPTY, "chunk", "what it is: policy, estate file, …"},
    {"globals", SR_TABLE, 0, NULL, "plain values by name, set before it runs"},
    {"functions", SR_LIST, 0, NULL, "which extra words it has; default: all", "string"},
    {"allowed", SR_LIST, 0, NULL, "the only globals it may set; default: any", "string"},
    {"memory", SR_INT, SR_POSITIVE, "8388608", "bytes"},
    {"time", SR_DURATION, SR_POSITIVE, "200ms", "load and calls together"},
    {"now", SR_NUMBER, 0, NULL, "the instant it sees, UTC seconds; default: now"},
    {0}};
static const sr_arg run_args[] = {
    {"call", SR_STRING, SR_REQUIRED | SR_NONEMPTY, NULL, "global function to call"},
    {"args", SR_TABLE, 0, NULL, "its arguments, a list; the field n counts nils"},
    {"text", SR_STRING, 0, NULL, "the chunk; or give file"},
    {"file", SR_STRING, SR_NONEMPTY, NULL, "path of the chunk"},
    {"name", SR_STRING, SR_NONEMPTY, NULL, "how messages call it; default: the file"},
    {"what", SR_STRING, SR_NONEMPTY, "chunk", "what it is: policy, template, …"},
    {"globals", SR_TABLE, 0, NULL, "plain values by name, set before it runs"},
    {"functions", SR_LIST, 0, NULL, "which extra words it has; default: all", "string"},
    {"allowed", SR_LIST, 0, NULL, "the only globals it may set; default: any", "string"},
    {"memory", SR_INT, SR_POSITIVE, "8388608", "bytes"},
    {"time", SR_DURATION, SR_POSITIVE, "200ms", "load and call together"},
    {"now", SR_NUMBER, 0, NULL, "the instant it sees, UTC seconds; default: now"},
    {0}};

static const sr_spec new_spec = {"cage.new", "Load a chunk into a cage.", new_args};
static const sr_spec data_spec = {"cage.data", "What a chunk set.", new_args};
static const sr_spec run_spec = {"cage.run", "Load a chunk, call a function.", run_args};
static const sr_spec decide_spec = {"cage.decide", "Load a policy, ask it.", run_args};

/* ---------------------------------------------------------------- the object */

static sr_cage **push_box(lua_State *L) {
    sr_cage **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, cage_type);
    return box;
}

static void empty_box(sr_cage **box) {
    sr_cage_free(*box);
    *box = NULL;
}

static sr_cage *check_cage(lua_State *L) {
    sr_cage **box = sr_check_object(L, 1, cage_type);
    if (!*box) sr_raise(L, SR_USAGE, "closed", "this cage was closed");
    return *box;
}

static void push_stats(lua_State *L, const sr_cage *cage) {
    sr_cage_stats stats;
    sr_cage_get_stats(cage, &stats);
    lua_createtable(L, 0, 3);
    lua_pushnumber(L, (lua_Number)stats.cpu / SR_NS);
    lua_setfield(L, -2, "cpu");
    lua_pushinteger(L, (lua_Integer)stats.memory);
    lua_setfield(L, -2, "memory");
    lua_pushinteger(L, (lua_Integer)stats.memory_peak);
    lua_setfield(L, -2, "memory_peak");
}

/* Raise what happened inside. */
static int throw_inside(lua_State *L, const sr_cage *cage, const sr_err *err) {
    sr_push_err(L, err);
    push_stats(L, cage);
    lua_setfield(L, -2, "stats");
    if (*sr_cage_where(cage)) {
        lua_pushstring(L, sr_cage_where(cage));
        lua_setfield(L, -2, "where");
    }
    return lua_error(L);
}

/* ---------------------------------------------------------------- the source */

/* Read a regular file of at most `size` bytes into data. */
static int read_text(const char *path, char *data, size_t size, size_t *ret_len,
                     sr_err *err) {
    struct stat st;
    size_t len = 0;
    int rc = -1, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return sr_fail_errno(err, errno, "cannot read %s", path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        sr_fail(err, SR_USAGE, "file", "%s is not a regular file", path);
        goto out;
    }
    while (len < size) {
        ssize_t n = read(fd, data + len, size - len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            sr_fail_errno(err, errno, "cannot read %s", path);
            goto out;
        }
        if (n == 0) break;
        len += (size_t)n;
    }
    if (len == size) {
        sr_fail(err, SR_LIMIT, "file", "%s is longer than 4 MiB", path);
        goto out;
    }
    *ret_len = len;
    rc = 0;
out:
    close(fd);
    return rc;
}

/* Push the file's text; the room for it is Lua's, so that nothing is lost on an error. */
static const char *push_file(lua_State *L, const char *path, size_t *ret_len) {
    sr_err err = {0};
    struct stat st;
    sr_allow(L, SR_PERM_READ, path);
    size_t size =
        stat(path, &st) == 0 && st.st_size < TEXT_MAX ? (size_t)st.st_size + 1 : TEXT_MAX;
    char *data = lua_newuserdatauv(L, size, 0);
    if (read_text(path, data, size, ret_len, &err)) sr_throw(L, &err);
    return data;
}

/* ---------------------------------------------------------------- making one */

/* The words wanted of the list `functions` at argument 1; NULL for all. */
static const char *const *read_words(lua_State *L, const char **words) {
    if (sr_arg_push(L, 1, "functions") == LUA_TNIL) return NULL;
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    if (n > WORDS_MAX) sr_raise(L, SR_USAGE, "functions", "functions: too many words");
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        const char *word = lua_tostring(L, -1); /* the table keeps it */
        const char *const *known = sr_cage_words;
        while (*known && strcmp(*known, word) != 0)
            known++;
        if (!*known) {
            const char *near = sr_suggest(word, sr_cage_words);
            sr_raise(L, SR_USAGE, "functions", "functions: a cage has no '%s'%s%s%s",
                     word, near ? ", did you mean '" : "", near ? near : "",
                     near ? "'?" : "");
        }
        words[i - 1] = *known;
        lua_pop(L, 1);
    }
    words[n] = NULL;
    return words;
}

static void set_globals(lua_State *L, sr_cage *cage) {
    sr_err err = {0};
    if (sr_arg_push(L, 1, "globals") == LUA_TTABLE) {
        int globals = lua_gettop(L);
        for (lua_pushnil(L); lua_next(L, globals); lua_pop(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING)
                sr_raise(L, SR_USAGE, "globals", "globals: a name is a text, not a %s",
                         luaL_typename(L, -2));
            if (sr_cage_set(cage, lua_tostring(L, -2), L, -1, &err)) sr_throw(L, &err);
        }
    }
    if (sr_arg_push(L, 1, "allowed") == LUA_TTABLE && sr_cage_only(cage, L, -1, &err))
        sr_throw(L, &err);
    lua_pop(L, 2);
}

/* Make the cage that the checked table at 1 describes, in the box at 2, and run its
 * chunk. */
static sr_cage *make(lua_State *L, sr_cage **box) {
    sr_err err = {0};
    const char *words[WORDS_MAX + 1];
    sr_cage_limits limits = {
        .memory = (size_t)sr_arg_int(L, 1, "memory", 0),
        .time = sr_arg_duration(L, 1, "time", 0),
        .what = sr_arg_string(L, 1, "what", NULL, NULL),
        .words = read_words(L, words),
    };
    size_t len = 0;
    const char *text = sr_arg_string(L, 1, "text", NULL, &len);
    const char *file = sr_arg_string(L, 1, "file", NULL, NULL);
    if (!text == !file) sr_raise(L, SR_USAGE, "args", "cage: give either text or file");
    const char *name = sr_arg_string(L, 1, "name", file ? file : "text", NULL);
    if (file) text = push_file(L, file, &len);
    double now = sr_arg_number(L, 1, "now", sr_now(sr_loop_of(L)));
    *box = sr_cage_new(&limits, now, &err);
    if (!*box) sr_throw(L, &err);
    set_globals(L, *box);
    sr_cage_renew(*box);
    if (sr_cage_load(*box, name, text, len, &err)) throw_inside(L, *box, &err);
    lua_settop(L, 2);
    return *box;
}

/* cage.new(options) – an object with call, get, globals, decisions, stats, close. */
static int l_new(lua_State *L) {
    sr_args(L, 1, &new_spec);
    lua_settop(L, 1);
    make(L, push_box(L));
    return 1;
}

/* cage.data(options) – a table of every global the chunk set. */
static int l_data(lua_State *L) {
    sr_err err = {0};
    sr_args(L, 1, &data_spec);
    lua_settop(L, 1);
    sr_cage **box = push_box(L);
    if (sr_cage_globals(make(L, box), L, &err)) return throw_inside(L, *box, &err);
    empty_box(box);
    return 1;
}

/* Call what options name; the number of results, pushed. */
static int call(lua_State *L, sr_cage *cage) {
    sr_err err = {0};
    int first = lua_gettop(L) + 1, results = 0;
    lua_Integer n = 0;
    if (sr_arg_push(L, 1, "args") == LUA_TTABLE) {
        n = lua_getfield(L, -1, "n") == LUA_TNUMBER ? lua_tointeger(L, -1)
                                                    : (lua_Integer)lua_rawlen(L, -2);
        lua_pop(L, 1);
        if (n < 0 || n > ARGS_MAX)
            sr_raise(L, SR_USAGE, "args", "args: at most %d values", ARGS_MAX);
        luaL_checkstack(L, ARGS_MAX, "args");
        for (lua_Integer i = 1; i <= n; i++)
            lua_rawgeti(L, first, i);
    }
    const char *name = sr_arg_string(L, 1, "call", "", NULL);
    if (sr_cage_call(cage, name, L, first + 1, (int)n, &results, &err))
        throw_inside(L, cage, &err);
    return results;
}

/* cage.run(options) – the results of options.call. */
static int l_run(lua_State *L) {
    sr_args(L, 1, &run_spec);
    lua_settop(L, 1);
    sr_cage **box = push_box(L);
    int n = call(L, make(L, box));
    empty_box(box);
    return n;
}

/* cage.decide(options) – a list of all decisions made, returned or not, and the results.
 */
static int l_decide(lua_State *L) {
    sr_err err = {0};
    sr_args(L, 1, &decide_spec);
    lua_settop(L, 1);
    sr_cage **box = push_box(L);
    int n = call(L, make(L, box));
    if (sr_cage_decisions(*box, L, &err)) return throw_inside(L, *box, &err);
    lua_insert(L, -(n + 1));
    empty_box(box);
    return n + 1;
}

/* ---------------------------------------------------------------- methods */

/* cage:call(name, …) – each call has the whole time limit. */
static int l_call(lua_State *L) {
    sr_err err = {0};
    sr_cage *cage = check_cage(L);
    const char *name = luaL_checkstring(L, 2);
    int results = 0;
    sr_cage_renew(cage);
    if (sr_cage_call(cage, name, L, 3, lua_gettop(L) - 2, &results, &err))
        return throw_inside(L, cage, &err);
    return results;
}

/* cage:get(name) */
static int l_get(lua_State *L) {
    sr_err err = {0};
    sr_cage *cage = check_cage(L);
    sr_cage_renew(cage);
    if (sr_cage_get(cage, luaL_checkstring(L, 2), L, &err))
        return throw_inside(L, cage, &err);
    return 1;
}

/* cage:globals() */
static int l_globals(lua_State *L) {
    sr_err err = {0};
    sr_cage *cage = check_cage(L);
    if (sr_cage_globals(cage, L, &err)) return throw_inside(L, cage, &err);
    return 1;
}

/* cage:decisions() – all so far, in their order. */
static int l_decisions(lua_State *L) {
    sr_err err = {0};
    sr_cage *cage = check_cage(L);
    if (sr_cage_decisions(cage, L, &err)) return throw_inside(L, cage, &err);
    return 1;
}

/* cage:stats() – {cpu = seconds, memory = bytes, memory_peak = bytes} */
static int l_stats(lua_State *L) {
    push_stats(L, check_cage(L));
    return 1;
}

static int l_close(lua_State *L) {
    empty_box(sr_check_object(L, 1, cage_type));
    return 0;
}

static const luaL_Reg methods[] = {
    {"call", l_call},       {"get", l_get},
    {"globals", l_globals}, {"decisions", l_decisions},
    {"stats", l_stats},     {"close", l_close},
    {NULL, NULL},
};
static const luaL_Reg meta[] = {{"__gc", l_close}, {"__close", l_close}, {NULL, NULL}};
static const luaL_Reg functions[] = {
    {"new", l_new}, {"run", l_run}, {"decide", l_decide}, {"data", l_data}, {NULL, NULL}};

int sr_open_cage(lua_State *L) {
    luaL_newmetatable(L, cage_type);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
