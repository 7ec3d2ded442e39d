/* log.c – levelled lines on standard error: text on a terminal, JSON lines otherwise.
 *
 *     warn: renew: 3 names are still pending (task 4, org Example Corp)
 *     {"time":"2026-11-23T17:00:00.123Z","level":"warn","component":"renew","task":4,
 *      "org":"Example Corp","message":"3 names are still pending"}
 *
 * Known secrets are replaced in every text before it is escaped, because escaping could
 * hide them from the search. A line is made whole in memory and written by one write, so
 * that lines of several processes do not mix. A line that cannot be written is dropped:
 * there is no other place to say so.
 *
 * Fields come from log.with{…} and, for everything a VM logs, from log.context{…}.
 */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "terminal.h"
#include "vm.h"

#define LOGGER_TYPE "log"
enum { MESSAGE_MAX = 32768, FIELDS_MAX = 32 };

static struct {
    sr_level least;
    bool json, started;
} config = {.least = SR_INFO};

static const char context_key;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

int sr_log_level_of(const char *name, sr_level *ret_level) {
    for (int i = SR_DEBUG; i <= SR_ERROR; i++) {
        if (strcmp(level_names[i], name) != 0) continue;
        *ret_level = (sr_level)i;
        return 0;
    }
    return -1;
}

void sr_log_start(sr_level least, int json) {
    config.least = least;
    config.json = json < 0 ? !isatty(STDERR_FILENO) : json > 0;
    config.started = true;
}

/* ---------------------------------------------------------------- one line */

static void add_json(sr_buf *out, const char *text) {
    for (const char *p = text; *p;) {
        unsigned char c = (unsigned char)*p;
        size_t len = sr_shown_len(p);
        if (c == '"' || c == '\\')
            (void)sr_buf_printf(out, "\\%c", c);
        else if (c == '\n')
            (void)sr_buf_puts(out, "\\n");
        else if (len == 0)
            (void)sr_buf_printf(out, "\\\\x%02x", c); /* not UTF-8: as text \xNN */
        else if (c < 0x20 || c == 0x7f)
            (void)sr_buf_printf(out, "\\u%04x", c);
        else
            (void)sr_buf_append(out, p, len);
        p += len ? len : 1;
    }
}

static void add_time(sr_buf *out, double now) {
    time_t seconds = (time_t)now;
    struct tm tm;
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)sr_buf_printf(out, "%s.%03dZ", text, (int)((now - (double)seconds) * 1000));
}

/* Text with known secrets replaced; freed by sr_buf_free. */
static const char *redacted(sr_buf *buf, const char *text) {
    if (sr_buf_puts(buf, text) != 0 || !buf->data) return "";
    sr_redact(buf->data);
    return buf->data;
}

/* A field's value as text; numbers and strings only, as fields_of made them. */
static const char *value_text(lua_State *L, int idx, char *buf, size_t size) {
    if (lua_isinteger(L, idx))
        snprintf(buf, size, "%lld", (long long)lua_tointeger(L, idx));
    else if (lua_type(L, idx) == LUA_TNUMBER)
        snprintf(buf, size, "%.14g", lua_tonumber(L, idx));
    else
        return lua_tostring(L, idx);
    return buf;
}

static void add_field(sr_buf *out, lua_State *L, bool first) {
    char number[40];
    sr_buf key = {0}, value = {0};
    const char *name = redacted(&key, lua_tostring(L, -2));
    const char *text =
        redacted(&value, value_text(L, lua_gettop(L), number, sizeof number));
    if (config.json) {
        (void)sr_buf_puts(out, ",\"");
        add_json(out, name);
        bool bare = lua_type(L, -1) == LUA_TNUMBER &&
                    strspn(text, "-0123456789.") == strlen(text);
        (void)sr_buf_puts(out, bare ? "\":" : "\":\"");
        add_json(out, text);
        if (!bare) (void)sr_buf_puts(out, "\"");
    } else {
        (void)sr_buf_puts(out, first ? " (" : ", ");
        sr_escape(out, name, " ");
        (void)sr_buf_puts(out, " ");
        sr_escape(out, text, " ");
    }
    sr_buf_free(&key);
    sr_buf_free(&value);
}

/* The fields of the table at idx; raw access only, so nothing here can raise. */
static int add_fields(sr_buf *out, lua_State *L, int idx, int shown) {
    int n = 0;
    for (lua_pushnil(L); n < FIELDS_MAX && lua_next(L, idx); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1)) continue;
        add_field(out, L, shown + n == 0);
        n++;
    }
    if (n == FIELDS_MAX) lua_pop(L, 1);
    return n;
}

/* Fields of the VM and of the line: idx or 0. */
static int add_all_fields(sr_buf *out, lua_State *L, int idx, int shown) {
    if (!L || !lua_checkstack(L, 6)) return shown;
    int top = lua_gettop(L);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &context_key) == LUA_TTABLE)
        shown += add_fields(out, L, top + 1, shown);
    if (idx) shown += add_fields(out, L, idx, shown);
    lua_settop(L, top);
    return shown;
}

typedef struct entry {
    lua_State *L; /* NULL: no task, no fields */
    int fields;   /* stack index of the line's own, or 0 */
    sr_level level;
    const char *where, *message;
} entry;

static void format_json(sr_buf *line, const entry *e, sr_task *task) {
    (void)sr_buf_puts(line, "{\"time\":\"");
    add_time(line, sr_now(task ? task->vm->loop : NULL));
    (void)sr_buf_printf(line, "\",\"level\":\"%s\",\"component\":\"",
                        level_names[e->level]);
    add_json(line, e->where);
    (void)sr_buf_puts(line, "\"");
    if (task) (void)sr_buf_printf(line, ",\"task\":%u", task->id);
    (void)add_all_fields(line, e->L, e->fields, 1);
    (void)sr_buf_puts(line, ",\"message\":\"");
    add_json(line, e->message);
    (void)sr_buf_puts(line, "\"}\n");
}

/* The main task is not named: on a terminal it is the usual case. */
static void format_text(sr_buf *line, const entry *e, sr_task *task) {
    int shown = 0;
    (void)sr_buf_printf(line, "%s: ", level_names[e->level]);
    sr_escape(line, e->where, " ");
    (void)sr_buf_puts(line, ": ");
    sr_escape(line, e->message, "\n    ");
    if (task && task != task->vm->main)
        shown = sr_buf_printf(line, " (task %u", task->id) == 0;
    shown = add_all_fields(line, e->L, e->fields, shown);
    (void)sr_buf_puts(line, shown ? ")\n" : "\n");
}

static void write_entry(entry e) {
    sr_task *task = e.L ? sr_task_of(e.L) : NULL;
    sr_buf line = {0}, message = {0}, where = {0};
    e.message = redacted(&message, e.message);
    e.where = redacted(&where, e.where);
    if (config.json)
        format_json(&line, &e, task);
    else
        format_text(&line, &e, task);
    if (!line.oom) {
        if (!config.json) fflush(stdout); /* what was printed before stands before */
        sr_terminal_hide();
        (void)sr_terminal_write(STDERR_FILENO, line.data, line.len);
        sr_terminal_show();
    }
    sr_buf_free(&line);
    sr_buf_free(&message);
    sr_buf_free(&where);
}

static bool wanted(sr_level level) {
    if (!config.started) sr_log_start(config.least, -1);
    return level >= config.least;
}

void sr_log(lua_State *L, sr_level level, const char *where, const char *fmt, ...) {
    char *text = NULL;
    va_list ap;
    if (!wanted(level)) return;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    if (n > MESSAGE_MAX) memcpy(text + MESSAGE_MAX - 4, "...", 4);
    write_entry((entry){.L = L, .level = level, .where = where, .message = text});
    free(text);
}

/* ---------------------------------------------------------------- module "log" */

/* Stack: format, args… | leaves the text there alone. One text is not a format. */
static const char *message_of(lua_State *L, int first) {
    luaL_checkany(L, first);
    if (lua_gettop(L) == first) return luaL_tolstring(L, first, NULL);
    int nargs = lua_gettop(L) - first + 1;
    lua_getglobal(L, LUA_STRLIBNAME);
    lua_getfield(L, -1, "format");
    lua_replace(L, -2);
    lua_insert(L, first);
    lua_call(L, nargs, 1);
    return luaL_checkstring(L, -1);
}

/* The calling file's name without folder and suffix: "renew". */
static void component_of(lua_State *L, char *buf, size_t size) {
    lua_Debug ar;
    snprintf(buf, size, "script");
    if (!lua_getstack(L, 1, &ar) || !lua_getinfo(L, "S", &ar) || !ar.short_src[0]) return;
    const char *base = strrchr(ar.short_src, '/');
    base = base ? base + 1 : ar.short_src;
    size_t len = strlen(base);
    if (len > 4 && strcmp(base + len - 4, ".lua") == 0) len -= 4;
    snprintf(buf, size, "%.*s", (int)len, base);
}

/* Stack: format, … from `first` on; fields: index of the logger's, or 0. */
static int log_at(lua_State *L, sr_level level, int first, int fields) {
    char where[LUA_IDSIZE];
    if (!wanted(level)) return 0;
    const char *text = message_of(L, first);
    component_of(L, where, sizeof where);
    if (strlen(text) > MESSAGE_MAX) {
        lua_pushlstring(L, text, MESSAGE_MAX);
        lua_pushliteral(L, "...");
        lua_concat(L, 2);
        text = lua_tostring(L, -1);
    }
    write_entry((entry){L, fields, level, where, text});
    return 0;
}

/* log.debug(format, …), log.info, log.warn, log.error: string.format rules; a text alone
 * is taken as it is. Upvalue 1: the level. */
static int l_log(lua_State *L) {
    return log_at(L, (sr_level)lua_tointeger(L, lua_upvalueindex(1)), 1, 0);
}

/* logger:info(format, …) and the like. */
static int l_logger_log(lua_State *L) {
    sr_check_object(L, 1, LOGGER_TYPE);
    lua_getiuservalue(L, 1, 1);
    lua_replace(L, 1);
    return log_at(L, (sr_level)lua_tointeger(L, lua_upvalueindex(1)), 2, 1);
}

/* Copy the pairs of the table at from into the one at to, values as text or number. */
static void merge_fields(lua_State *L, int from, int to) {
    for (lua_pushnil(L); lua_next(L, from); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                     "log: fields have names, got the key %s",
                     luaL_tolstring(L, -2, NULL));
        lua_pushvalue(L, -2);
        if (lua_type(L, -2) == LUA_TNUMBER)
            lua_pushvalue(L, -2);
        else
            luaL_tolstring(L, -2, NULL);
        lua_rawset(L, to);
    }
}

static void push_logger(lua_State *L) { /* fields → logger */
    lua_newuserdatauv(L, 1, 1);
    luaL_setmetatable(L, LOGGER_TYPE);
    lua_insert(L, -2);
    lua_setiuservalue(L, -2, 1);
}

/* log.with{org = …} → logger whose lines carry these fields. */
static int l_with(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_newtable(L);
    merge_fields(L, 1, 2);
    push_logger(L);
    return 1;
}

/* logger:with{…} → logger with these fields besides. */
static int l_logger_with(lua_State *L) {
    sr_check_object(L, 1, LOGGER_TYPE);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    lua_newtable(L);
    lua_getiuservalue(L, 1, 1);
    merge_fields(L, 4, 3);
    lua_pop(L, 1);
    merge_fields(L, 2, 3);
    push_logger(L);
    return 1;
}

/* log.context{flow = …, org = …} – fields of every line this VM logs from now on. */
static int l_context(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_newtable(L);
    merge_fields(L, 1, 2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &context_key);
    return 0;
}

/* log.redact(text) → the text with every known secret replaced, for what leaves the
 * process by other ways than the log. */
static int l_redact(lua_State *L) {
    sr_buf buf = {0};
    const char *text = luaL_checkstring(L, 1);
    lua_pushstring(L, redacted(&buf, text));
    sr_buf_free(&buf);
    return 1;
}

static void set_levels(lua_State *L, lua_CFunction fn) {
    for (int level = SR_DEBUG; level <= SR_ERROR; level++) {
        lua_pushinteger(L, level);
        lua_pushcclosure(L, fn, 1);
        lua_setfield(L, -2, level_names[level]);
    }
}

int sr_open_log(lua_State *L) {
    luaL_newmetatable(L, LOGGER_TYPE);
    lua_newtable(L);
    set_levels(L, l_logger_log);
    lua_pushcfunction(L, l_logger_with);
    lua_setfield(L, -2, "with");
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    set_levels(L, l_log);
    lua_pushcfunction(L, l_with);
    lua_setfield(L, -2, "with");
    lua_pushcfunction(L, l_context);
    lua_setfield(L, -2, "context");
    lua_pushcfunction(L, l_redact);
    lua_setfield(L, -2, "redact");
    return 1;
}
