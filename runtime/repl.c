/* repl.c – lines of the REPL: libedit over the loop, history, Ctrl-C.
 *
 * The prompt is on show only while lua/repl.lua waits in core.read(); then every byte
 * typed goes from a uv_poll on descriptor 0 to libedit, and the line's end finishes the
 * wait. While a line runs, the terminal is in its ordinary mode and Ctrl-C is a signal
 * that cancels that line's task. Without a terminal on standard input lines are read
 * plainly.
 *
 * Of libedit: a redraw is rl_forced_update_display(), never rl_redisplay(); a line is
 * thrown away by removing and installing the handler; it must not catch signals.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <editline/readline.h>

#include "cli.h"
#include "repl.h"
#include "signals.h"
#include "terminal.h"

typedef struct reader {
    sr_op op;
    char *line; /* NULL at the end of the input */
    bool interrupted;
} reader;

static struct {
    sr_vm *vm;
    reader *reader; /* while the prompt is on show */
    sr_task *task;  /* of the line that runs; its userdata is held by lua/repl.lua */
    int interrupts; /* of that line */
    uv_poll_t poll;
    uv_signal_t resized, resumed;
    bool terminal, dumb, polls, history;
    int flags; /* of standard input, as whoever started us had them; −1: unknown */
    char *prompt;
    sr_buf input; /* without a terminal: read but not yet asked for */
} repl;

/* ---------------------------------------------------------------- the prompt */

static int columns(void) {
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                           : 80;
}

/* Take the prompt and what is typed away; it may fill several rows. */
static void hide_prompt(void) {
    char clear[64];
    int row = ((int)strlen(repl.prompt) + rl_point) / columns();
    if (repl.dumb)
        snprintf(clear, sizeof clear, "\n");
    else if (row > 0)
        snprintf(clear, sizeof clear, "\r\033[%dA\033[J", row);
    else
        snprintf(clear, sizeof clear, "\r\033[J");
    (void)sr_terminal_write(STDOUT_FILENO, clear, strlen(clear));
}

static void show_prompt(void) {
    rl_forced_update_display();
}

static void end_read(char *line, bool interrupted) {
    reader *r = repl.reader;
    repl.reader = NULL;
    if (repl.polls) uv_poll_stop(&repl.poll);
    if (repl.terminal) {
        rl_callback_handler_remove();
        sr_terminal_line(SR_SHOWN_PROMPT, NULL, NULL);
    }
    if (!r) {
        free(line);
        return;
    }
    r->line = line;
    r->interrupted = interrupted;
    sr_op_done(&r->op);
}

/* ---------------------------------------------------------------- with a terminal */

static bool line_ended;
static char *ended_line;

static void on_line(char *line) {
    line_ended = true;
    ended_line = line;
}

static bool hung_up(void) {
    int pending = 0;
    return ioctl(STDIN_FILENO, FIONREAD, &pending) == 0 && pending == 0;
}

static void on_typed(uv_poll_t *poll, int status, int events) {
    (void)poll;
    (void)events;
    if (status < 0 || hung_up()) {
        end_read(NULL, false);
        return;
    }
    line_ended = false;
    rl_callback_read_char();
    if (!line_ended) return;
    if (!ended_line) (void)sr_terminal_write(STDOUT_FILENO, "\n", 1);
    end_read(ended_line, false);
}

static void install(void) {
    rl_callback_handler_install(repl.prompt, on_line);
}

static void on_resized(uv_signal_t *signal, int number) {
    (void)signal;
    (void)number;
    rl_resize_terminal();
}

/* Back from Ctrl-Z: the shell left its own terminal mode. */
static void on_resumed(uv_signal_t *signal, int number) {
    (void)signal;
    (void)number;
    if (!repl.reader) return;
    rl_prep_terminal(1);
    rl_forced_update_display();
}

static char **words;
static size_t next_word;

static char *give_word(const char *text, int state) {
    (void)text;
    if (state == 0) next_word = 0;
    return words && words[next_word] ? strdup(words[next_word++]) : NULL;
}

static char **on_tab(const char *text, int start, int end) {
    char line[1024];
    (void)text;
    rl_attempted_completion_over = 1; /* no file names */
    if (end < start || (size_t)end >= sizeof line) return NULL;
    memcpy(line, rl_line_buffer, (size_t)end);
    line[end] = '\0';
    words = sr_complete(repl.vm, line, (size_t)start);
    char **matches = words ? rl_completion_matches(text, give_word) : NULL;
    sr_complete_free(words);
    words = NULL;
    return matches;
}

static void start_editor(sr_loop *loop) {
    static char name[] = "secrun", breaks[] = " \t\n\"'`@$><=;|&{}()[]+-*/%^#,~";
    const char *locale = setlocale(LC_CTYPE, "");
    if (!locale || strcmp(locale, "C") == 0) setlocale(LC_CTYPE, "C.UTF-8");
    rl_readline_name = name;
    rl_catch_signals = 0;
    rl_outstream = sr_terminal_stdout();
    rl_initialize();
    rl_basic_word_break_characters = breaks;
    rl_completion_append_character = '\0';
    rl_attempted_completion_function = on_tab;
    using_history();
    stifle_history(1000);
    uv_signal_init(sr_uv(loop), &repl.resized);
    uv_signal_init(sr_uv(loop), &repl.resumed);
    uv_signal_start(&repl.resized, on_resized, SIGWINCH);
    uv_signal_start(&repl.resumed, on_resumed, SIGCONT);
    uv_unref((uv_handle_t *)&repl.resized);
    uv_unref((uv_handle_t *)&repl.resumed);
}

/* ---------------------------------------------------------------- without a terminal */

/* Take the first line of the input, or all of it at its end. */
static bool take_line(bool at_end) {
    char *end = repl.input.len ? memchr(repl.input.data, '\n', repl.input.len) : NULL;
    if (!end && !(at_end && repl.input.len)) return false;
    size_t len = end ? (size_t)(end - repl.input.data) : repl.input.len;
    char *line = strndup(repl.input.data, len);
    size_t used = len + (end != NULL);
    memmove(repl.input.data, repl.input.data + used, repl.input.len - used);
    repl.input.len -= used;
    end_read(line, false);
    return true;
}

static void read_plain(void) {
    char *room = sr_buf_reserve(&repl.input, 4096);
    ssize_t n = room ? read(STDIN_FILENO, room, 4096) : -1;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) repl.input.len += (size_t)n;
    if (!take_line(n <= 0) && n <= 0) end_read(NULL, false);
}

static void on_plain(uv_poll_t *poll, int status, int events) {
    (void)poll;
    (void)status;
    (void)events;
    read_plain();
}

/* ---------------------------------------------------------------- reading a line */

static void reader_cancel(sr_op *op) {
    (void)op;
    end_read(NULL, false);
}

static void reader_free(sr_op *op) {
    reader *r = (reader *)op;
    free(r->line);
    free(r);
}

static int reader_finish(lua_State *L, sr_op *op) {
    reader *r = (reader *)op;
    lua_pushstring(L, r->line);
    lua_pushboolean(L, r->interrupted);
    return 2;
}

static const sr_op_class reader_class = {.name = "the next line of input",
                                         .finish = reader_finish,
                                         .cancel = reader_cancel,
                                         .free = reader_free};

static void begin_read(void) {
    fflush(stdout);
    sr_terminal_newline();
    if (repl.terminal) {
        install();
        sr_terminal_line(SR_SHOWN_PROMPT, hide_prompt, show_prompt);
        uv_poll_start(&repl.poll, UV_READABLE, on_typed);
        return;
    }
    (void)sr_terminal_write(STDOUT_FILENO, repl.prompt, strlen(repl.prompt));
    if (take_line(false)) return;
    if (repl.polls)
        uv_poll_start(&repl.poll, UV_READABLE, on_plain);
    else /* a file: never blocks */
        while (repl.reader)
            read_plain();
}

/* core.read(prompt) → line or nil at the end, whether Ctrl-C threw it away. */
static int l_read(lua_State *L) {
    const char *prompt = luaL_checkstring(L, 1);
    sr_can_wait(L);
    reader *r = calloc(1, sizeof *r);
    char *copy = r ? strdup(prompt) : NULL;
    if (!copy) {
        free(r);
        return luaL_error(L, "not enough memory");
    }
    free(repl.prompt);
    repl.prompt = copy;
    sr_op_init(&r->op, &reader_class, sr_loop_of(L));
    repl.reader = r;
    begin_read();
    return sr_wait(L, &r->op, SR_FOREVER);
}

/* ---------------------------------------------------------------- Ctrl-C */

static void say(const char *text) {
    sr_terminal_hide();
    (void)sr_terminal_write(STDERR_FILENO, text, strlen(text));
    sr_terminal_show();
}

static void on_interrupt(void *arg) {
    (void)arg;
    if (repl.reader) {
        (void)sr_terminal_write(STDOUT_FILENO, "^C\n", 3);
        end_read(NULL, true);
        return;
    }
    if (!repl.task || repl.task->state == TASK_DONE) return;
    switch (++repl.interrupts) {
    case 1: sr_task_cancel(repl.task, "interrupted (Ctrl-C)"); break;
    case 2:
        say("\nthe line goes on although it was cancelled; Ctrl-C once more leaves "
            "secrun\n");
        break;
    default: /* as the second SIGINT of a script */ fflush(stdout); _exit(130);
    }
}

/* core.watch(task) – the task that Ctrl-C cancels; nil: none. */
static int l_watch(lua_State *L) {
    repl.task = lua_isnoneornil(L, 1) ? NULL : sr_check_object(L, 1, SR_TASK_TYPE);
    if (repl.task) repl.interrupts = 0;
    return 0;
}

/* core.interrupted() → whether Ctrl-C came during the last line. */
static int l_interrupted(lua_State *L) {
    lua_pushboolean(L, repl.interrupts > 0);
    return 1;
}

/* ---------------------------------------------------------------- history */

/* core.remember(line) – in the editor's history. */
static int l_remember(lua_State *L) {
    if (repl.terminal) add_history(luaL_checkstring(L, 1));
    return 0;
}

static int make_folders(char *path) {
    for (char *p = path + 1; *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        int rc = mkdir(path, 0700);
        *p = '/';
        if (rc != 0 && errno != EEXIST) return -1;
    }
    return 0;
}

/* core.append(path, line) → whether it could be written; the file is ours alone. */
static int l_append(lua_State *L) {
    size_t len, path_len;
    const char *path = luaL_checklstring(L, 1, &path_len);
    luaL_checklstring(L, 2, &len);
    char *copy = lua_newuserdatauv(L, path_len + 1, 0);
    memcpy(copy, path, path_len + 1);
    lua_pushvalue(L, 2);
    lua_pushliteral(L, "\n");
    lua_concat(L, 2);
    sr_err err;
    bool ok = false;
    if (sr_allowed(repl.vm, SR_PERM_WRITE, path, &err) == 0 && make_folders(copy) == 0) {
        int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0) {
            ok = sr_terminal_write(fd, lua_tostring(L, -1), len + 1) == 0;
            close(fd);
        }
    }
    lua_pushboolean(L, ok);
    return 1;
}

/* core.redacted(text) → text with known secrets replaced. */
static int l_redacted(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    char *copy = lua_newuserdatauv(L, len + 1, 0);
    memcpy(copy, text, len + 1);
    sr_redact(copy);
    lua_pushstring(L, copy);
    return 1;
}

/* core.width() → columns of the terminal. */
static int l_width(lua_State *L) {
    lua_pushinteger(L, columns());
    return 1;
}

/* ---------------------------------------------------------------- start and end */

static void at_close(void *arg) {
    (void)arg;
    sr_signals_interrupt(NULL, NULL);
    end_read(NULL, false);
    if (repl.flags != -1) (void)fcntl(STDIN_FILENO, F_SETFL, repl.flags);
    free(repl.prompt);
    repl.prompt = NULL;
    sr_buf_free(&repl.input);
}

/* core.start() → whether a terminal is there. */
static int l_start(lua_State *L) {
    sr_loop *loop = sr_loop_of(L);
    const char *term = getenv("TERM");
    if (repl.vm) return luaL_error(L, "there is one REPL a program");
    repl.vm = sr_vm_of(L);
    repl.terminal = isatty(STDIN_FILENO);
    repl.dumb = !term || !*term || strcmp(term, "dumb") == 0;
    repl.flags = fcntl(STDIN_FILENO, F_GETFL);
    sr_at_close(L, at_close, NULL);
    if (repl.terminal) start_editor(loop);
    repl.polls = uv_poll_init(sr_uv(loop), &repl.poll, STDIN_FILENO) == 0;
    if (repl.terminal && !repl.polls)
        return luaL_error(L, "the terminal cannot be watched");
    sr_signals_interrupt(on_interrupt, NULL);
    lua_pushboolean(L, repl.terminal);
    return 1;
}

static const luaL_Reg functions[] = {{"start", l_start},
                                     {"read", l_read},
                                     {"watch", l_watch},
                                     {"interrupted", l_interrupted},
                                     {"remember", l_remember},
                                     {"append", l_append},
                                     {"redacted", l_redacted},
                                     {"width", l_width},
                                     {NULL, NULL}};

int sr_open_repl_core(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
