/* progress.c – the module "progress": how far long work has come.
 *
 *     renewing 120/500 24% 12.0/s 31s left  www.example.com
 *
 * On a terminal it is a live line on standard error, drawn at most ten times a second and
 * cut to the terminal's width; several at once share the line. Otherwise it is a log line
 * every ten seconds and one at the end. Rate and time left go by our clock; only the pace
 * of drawing goes by the real one. The timer below keeps no program alive.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli.h"
#include "terminal.h"

#define PROGRESS_TYPE "progress"

enum {
    DRAW_PAUSE_MS = 100, /* between two drawings */
    TICK_MS = 500,       /* drawing while nothing steps, so that the times move */
    LABEL_MAX = 64,
    TEXT_MAX = 200
};
#define LOG_PAUSE (10 * SR_NS)

typedef struct progress {
    struct progress *next; /* among those on show */
    sr_loop *loop;
    int64_t began, logged;   /* sr_mono() */
    lua_Integer done, total; /* total 0: not known */
    bool open;
    char label[LABEL_MAX], text[TEXT_MAX];
} progress;

static struct {
    progress *first;
    uv_timer_t tick;
    bool made;  /* the timer, once: there is one loop on a terminal */
    bool live;  /* a terminal is there to draw on */
    bool drawn; /* the line stands there now */
    bool dumb;  /* a terminal without control sequences */
    int width;  /* of what was drawn, for dumb terminals */
    int64_t at; /* of the last drawing, sr_cpu() */
} state;

/* ---------------------------------------------------------------- text */

static void show_time(char *buf, size_t size, double seconds) {
    long s = (long)(seconds + 0.5);
    if (s < 60)
        snprintf(buf, size, "%lds", s);
    else if (s < 3600)
        snprintf(buf, size, "%ldm %lds", s / 60, s % 60);
    else
        snprintf(buf, size, "%ldh %ldm", s / 3600, s % 3600 / 60);
}

static double elapsed(const progress *p) {
    return (double)(sr_mono(p->loop) - p->began) / (double)SR_NS;
}

/* "12.0/s 31s left", or the time it took so far when nothing can be said yet. */
static void add_pace(sr_buf *out, const progress *p) {
    char text[40];
    double seconds = elapsed(p), rate = seconds > 0 ? (double)p->done / seconds : 0;
    if (p->done > 0 && seconds >= 0.5) (void)sr_buf_printf(out, " %.1f/s", rate);
    if (p->done > 0 && p->total > p->done && seconds >= 0.5) {
        show_time(text, sizeof text, (double)(p->total - p->done) / rate);
        (void)sr_buf_printf(out, " %s left", text);
    } else if (seconds >= 1) {
        show_time(text, sizeof text, seconds);
        (void)sr_buf_printf(out, " %s", text);
    }
}

static void add_count(sr_buf *out, const progress *p, const char *of) {
    (void)sr_buf_printf(out, "%lld", (long long)p->done);
    if (p->total <= 0) return;
    int percent = (int)(100.0 * (double)p->done / (double)p->total);
    (void)sr_buf_printf(out, "%s%lld %d%%", of, (long long)p->total, percent);
}

static void describe(sr_buf *out, const progress *p) {
    (void)sr_buf_printf(out, "%s ", p->label);
    add_count(out, p, "/");
    add_pace(out, p);
    if (*p->text) (void)sr_buf_printf(out, "  %s", p->text);
}

/* ---------------------------------------------------------------- on a terminal */

static int columns(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                           : 80;
}

/* Cut to so many characters. */
static int cut(char *text, int max) {
    int n = 0;
    for (char *p = text; *p; p++) {
        if (((unsigned char)*p & 0xc0) == 0x80) continue;
        if (n == max) {
            *p = '\0';
            break;
        }
        n++;
    }
    return n;
}

static void hide_line(void) {
    if (!state.drawn) return;
    state.drawn = false;
    char clear[300];
    int n = snprintf(clear, sizeof clear, state.dumb ? "\r%*s\r" : "\r\033[K",
                     state.width < 250 ? state.width : 250, "");
    (void)sr_terminal_write(STDERR_FILENO, clear, (size_t)n);
}

static void draw_line(void) {
    sr_buf line = {0};
    if (!state.first || !state.live) return;
    for (const progress *p = state.first; p; p = p->next) {
        describe(&line, p);
        if (p->next) (void)sr_buf_puts(&line, " | ");
    }
    if (!line.oom) {
        hide_line();
        state.width = cut(line.data, columns() - 1);
        (void)sr_terminal_write(STDERR_FILENO, line.data, strlen(line.data));
        state.drawn = true;
        state.at = sr_cpu();
    }
    sr_buf_free(&line);
}

static void redraw(void) {
    if (!state.live || !sr_terminal_free(SR_SHOWN_PROGRESS)) return;
    if (state.drawn && sr_cpu() - state.at < DRAW_PAUSE_MS * (SR_NS / 1000)) return;
    draw_line();
}

/* ---------------------------------------------------------------- in the log */

static void log_progress(lua_State *L, progress *p) {
    sr_buf line = {0};
    p->logged = sr_mono(p->loop);
    add_count(&line, p, " of ");
    add_pace(&line, p);
    if (*p->text) (void)sr_buf_printf(&line, "  %s", p->text);
    if (!line.oom) sr_log(L, SR_INFO, "progress", "%s: %s", p->label, line.data);
    sr_buf_free(&line);
}

static void log_if_due(lua_State *L, progress *p) {
    if (!state.live && sr_mono(p->loop) - p->logged >= LOG_PAUSE) log_progress(L, p);
}

static void log_end(lua_State *L, const progress *p) {
    char took[40], total[40] = "";
    show_time(took, sizeof took, elapsed(p));
    if (p->total > 0) snprintf(total, sizeof total, " of %lld", (long long)p->total);
    sr_log(L, SR_INFO, "progress", "%s: ended, %lld%s in %s", p->label,
           (long long)p->done, total, took);
}

static void on_tick(uv_timer_t *timer) {
    (void)timer;
    redraw();
    for (progress *p = state.first; p; p = p->next)
        log_if_due(NULL, p);
}

/* ---------------------------------------------------------------- on show */

static void put_on_show(progress *p) {
    progress **last = &state.first;
    if (!state.first) {
        const char *term = getenv("TERM");
        state.live = isatty(STDERR_FILENO);
        state.dumb = !term || !*term || strcmp(term, "dumb") == 0;
        sr_terminal_line(SR_SHOWN_PROGRESS, hide_line, draw_line);
        if (!state.made) uv_timer_init(sr_uv(p->loop), &state.tick);
        state.made = true;
        uv_timer_start(&state.tick, on_tick, TICK_MS, TICK_MS);
        uv_unref((uv_handle_t *)&state.tick);
    }
    while (*last)
        last = &(*last)->next;
    *last = p;
    redraw();
}

static void take_off(progress *p) {
    progress **at = &state.first;
    while (*at && *at != p)
        at = &(*at)->next;
    if (*at) *at = p->next;
    hide_line();
    if (state.first) {
        redraw();
        return;
    }
    sr_terminal_line(SR_SHOWN_PROGRESS, NULL, NULL);
    uv_timer_stop(&state.tick);
}

static progress *check(lua_State *L) {
    return sr_check_object(L, 1, PROGRESS_TYPE);
}

/* Text for the line: no secret, no control character. */
static void set_text(char *to, size_t size, const char *text) {
    sr_buf clean = {0}, copy = {0};
    if (sr_buf_puts(&copy, text) == 0 && copy.data) {
        sr_redact(copy.data);
        sr_escape(&clean, copy.data, " ");
        snprintf(to, size, "%s", clean.data && !clean.oom ? clean.data : "");
    }
    sr_buf_free(&clean);
    sr_buf_free(&copy);
}

static const sr_arg start_args[] = {
    {"label", SR_STRING, SR_REQUIRED, NULL, "what is being done: \"renewing\""},
    {"total", SR_INT, 0, NULL, "steps in all, if known"},
    {0}};
static const sr_spec start_spec = {"progress.start", "Show the progress of long work.",
                                   start_args};

/* progress.start{label=, total=} → progress; close it, best by `local p <close> =`. */
static int l_start(lua_State *L) {
    sr_args(L, 1, &start_spec);
    progress *p = lua_newuserdatauv(L, sizeof *p, 0);
    *p = (progress){.loop = sr_loop_of(L), .open = true};
    luaL_setmetatable(L, PROGRESS_TYPE);
    set_text(p->label, sizeof p->label, sr_arg_string(L, 1, "label", "", NULL));
    p->total = sr_arg_int(L, 1, "total", 0);
    p->began = p->logged = sr_mono(p->loop);
    put_on_show(p);
    return 1;
}

/* progress:step(n?, text?) – n (1) more are done; text says which. */
static int l_step(lua_State *L) {
    progress *p = check(L);
    p->done += luaL_optinteger(L, 2, 1);
    const char *text = luaL_optstring(L, 3, NULL);
    if (text) set_text(p->text, sizeof p->text, text);
    if (!p->open) return 0;
    log_if_due(L, p);
    redraw();
    return 0;
}

/* progress:expect(total) – how many there are in all, when it is known only later. */
static int l_expect(lua_State *L) {
    check(L)->total = luaL_checkinteger(L, 2);
    return 0;
}

/* progress:close() – the line goes away. Also __close. */
static int l_close(lua_State *L) {
    progress *p = check(L);
    if (!p->open) return 0;
    p->open = false;
    take_off(p);
    if (!state.live) log_end(L, p);
    return 0;
}

static int l_gc(lua_State *L) {
    progress *p = luaL_testudata(L, 1, PROGRESS_TYPE);
    if (p && p->open) take_off(p);
    return 0;
}

static const luaL_Reg methods[] = {
    {"step", l_step}, {"expect", l_expect}, {"close", l_close}, {NULL, NULL}};
static const luaL_Reg functions[] = {{"start", l_start}, {NULL, NULL}};

int sr_open_progress(lua_State *L) {
    luaL_newmetatable(L, PROGRESS_TYPE);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__close");
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, functions);
    return 1;
}
