/* log.c – levelled lines on standard error: text on a terminal, JSON lines otherwise.
 *
 * Every line is made whole in memory, redacted, stripped of control characters and written
 * by one write, so that lines of several processes do not mix. A line on show (progress,
 * the REPL's prompt) is hidden before and redrawn after.
 */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vm.h"

static struct {
    sr_level least;
    bool json, started;
    void (*hide)(void);
    void (*show)(void);
} config = {.least = SR_INFO};

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

void sr_log_line(void (*hide)(void), void (*show)(void)) {
    config.hide = hide;
    config.show = show;
}

static void add_json(sr_buf *out, const char *text) {
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            (void)sr_buf_printf(out, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f)
            (void)sr_buf_printf(out, "\\u%04x", *p);
        else
            (void)sr_buf_append(out, p, 1);
    }
}

static void add_plain(sr_buf *out, const char *text) {
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '\n' || *p == '\t' || (*p >= 0x20 && *p != 0x7f))
            (void)sr_buf_append(out, p, 1);
        else
            (void)sr_buf_printf(out, "\\x%02x", *p);
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

static void write_line(sr_buf *line) {
    if (line->oom) return;
    sr_redact(line->data);
    if (config.hide) config.hide();
    size_t len = strlen(line->data), sent = 0;
    while (sent < len) {
        ssize_t n = write(STDERR_FILENO, line->data + sent, len - sent);
        if (n <= 0) break; /* nobody reads our log; there is no place to say so */
        sent += (size_t)n;
    }
    if (config.show) config.show();
}

void sr_log(lua_State *L, sr_level level, const char *where, const char *fmt, ...) {
    if (!config.started) sr_log_start(config.least, -1);
    if (level < config.least) return;
    sr_task *task = L ? sr_task_of(L) : NULL;
    sr_buf text = {0}, line = {0};
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *at = n < 0 ? NULL : sr_buf_reserve(&text, (size_t)n);
    if (!at) return;
    va_start(ap, fmt);
    vsnprintf(at, (size_t)n + 1, fmt, ap);
    va_end(ap);
    text.len += (size_t)n;
    if (config.json) {
        (void)sr_buf_puts(&line, "{\"time\":\"");
        add_time(&line, sr_now(task ? task->vm->loop : NULL));
        (void)sr_buf_printf(&line, "\",\"level\":\"%s\",\"component\":\"", level_names[level]);
        add_json(&line, where);
        if (task) (void)sr_buf_printf(&line, "\",\"task\":%u,\"message\":\"", task->id);
        else (void)sr_buf_puts(&line, "\",\"message\":\"");
        add_json(&line, text.data);
        (void)sr_buf_puts(&line, "\"}\n");
    } else {
        (void)sr_buf_printf(&line, "%s: ", level_names[level]);
        add_plain(&line, where);
        (void)sr_buf_puts(&line, ": ");
        add_plain(&line, text.data);
        (void)sr_buf_puts(&line, "\n");
    }
    write_line(&line);
    sr_buf_free(&line);
    sr_buf_free(&text);
}

/* ---------------------------------------------------------------- module "log" */

static int log_at(lua_State *L, sr_level level) {
    const char *text = luaL_checkstring(L, 1);
    if (lua_gettop(L) > 1) {
        lua_getglobal(L, LUA_STRLIBNAME);
        lua_getfield(L, -1, "format");
        lua_replace(L, -2);
        lua_insert(L, 1);
        lua_call(L, lua_gettop(L) - 1, 1);
        text = luaL_checkstring(L, -1);
    }
    lua_Debug ar;
    char where[LUA_IDSIZE] = "script";
    if (lua_getstack(L, 1, &ar) && lua_getinfo(L, "S", &ar) && ar.short_src[0])
        snprintf(where, sizeof where, "%s", ar.short_src);
    sr_log(L, level, where, "%s", text);
    return 0;
}

/* log.debug(format, …), log.info, log.warn, log.error: string.format rules. */
static int l_debug(lua_State *L) {
    return log_at(L, SR_DEBUG);
}
static int l_info(lua_State *L) {
    return log_at(L, SR_INFO);
}
static int l_warn(lua_State *L) {
    return log_at(L, SR_WARN);
}
static int l_error(lua_State *L) {
    return log_at(L, SR_ERROR);
}

static const luaL_Reg functions[] = {
    {"debug", l_debug}, {"info", l_info}, {"warn", l_warn}, {"error", l_error}, {NULL, NULL}};

int sr_open_log(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
