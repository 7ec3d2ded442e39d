/* terminal.c – standard output and error, and the line on show below them.
 *
 * stdout becomes a stream of ours, so that print, io.write and C libraries all pass one
 * place: it hides the line on show, writes everything or remembers the first error, and
 * ends the program quietly when nobody reads the pipe any more. stderr is replaced only
 * on a terminal, where lines are on show.
 *
 * An unfinished line of output stays as it is: nothing is drawn until its end comes.
 */
#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "signals.h"

static struct {
    struct {
        void (*hide)(void);
        void (*show)(void);
    } lines[SR_SHOWN];
    int hidden;    /* nesting of hide */
    bool mid_line; /* the terminal's cursor stands behind unfinished output */
    int lost;      /* errno of the first failed write to standard output */
    FILE *below;   /* the C library's stdout */
    char buffer[32768];
} state;

static const int fds[] = {STDOUT_FILENO, STDERR_FILENO};

/* ---------------------------------------------------------------- the line on show */

static bool covered(sr_shown which) {
    return which == SR_SHOWN_PROGRESS && state.lines[SR_SHOWN_PROMPT].show;
}

bool sr_terminal_free(sr_shown which) {
    return !state.hidden && !state.mid_line && !covered(which);
}

void sr_terminal_line(sr_shown which, void (*hide)(void), void (*show)(void)) {
    state.lines[which].hide = hide;
    state.lines[which].show = show;
}

void sr_terminal_hide(void) {
    if (state.hidden++ || state.mid_line) return;
    for (int i = 0; i < SR_SHOWN; i++)
        if (state.lines[i].hide && !covered((sr_shown)i)) state.lines[i].hide();
}

void sr_terminal_show(void) {
    if (--state.hidden || state.mid_line) return;
    for (int i = 0; i < SR_SHOWN; i++)
        if (state.lines[i].show && !covered((sr_shown)i)) state.lines[i].show();
}

void sr_terminal_newline(void) {
    if (!state.mid_line) return;
    (void)sr_terminal_write(STDOUT_FILENO, "\n", 1);
    state.mid_line = false;
}

/* ---------------------------------------------------------------- streams */

int sr_terminal_write(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            poll(&wait, 1, -1);
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

static void note_loss(int fd) {
    if (fd != STDOUT_FILENO || state.lost) return;
    state.lost = errno;
    if (errno == EPIPE) sr_signals_raise(SIGPIPE);
}

/* Of fopencookie: bytes written, 0 for an error. */
static ssize_t on_write(void *cookie, const char *data, size_t len) {
    int fd = *(const int *)cookie, saved = 0;
    bool terminal = isatty(fd);
    if (terminal) sr_terminal_hide();
    int rc = sr_terminal_write(fd, data, len);
    if (rc != 0) {
        saved = errno;
        note_loss(fd);
    }
    if (terminal) {
        if (len > 0) state.mid_line = data[len - 1] != '\n';
        sr_terminal_show();
    }
    errno = saved;
    return rc == 0 ? (ssize_t)len : 0;
}

static int on_seek(void *cookie, off64_t *offset, int whence) {
    off_t at = lseek(*(const int *)cookie, (off_t)*offset, whence);
    if (at < 0) return -1;
    *offset = at;
    return 0;
}

static FILE *stream(const int *fd) {
    return fopencookie((void *)fd, "w",
                       (cookie_io_functions_t){.write = on_write, .seek = on_seek});
}

void sr_terminal_start(void) {
    state.below = stdout;
    FILE *out = stream(&fds[0]);
    if (out) {
        bool terminal = isatty(STDOUT_FILENO);
        setvbuf(out, state.buffer, terminal ? _IOLBF : _IOFBF, sizeof state.buffer);
        stdout = out;
    }
    FILE *err = isatty(STDERR_FILENO) ? stream(&fds[1]) : NULL;
    if (!err) return;
    setvbuf(err, NULL, _IONBF, 0);
    stderr = err;
}

FILE *sr_terminal_stdout(void) {
    return state.below ? state.below : stdout;
}

int sr_terminal_finish(sr_err *err) {
    errno = 0;
    if (fflush(stdout) != 0 && !state.lost) state.lost = errno;
    if (!state.lost || state.lost == EPIPE) return 0;
    return sr_fail_errno(err, state.lost, "standard output could not be written");
}

/* ---------------------------------------------------------------- escaping */

size_t sr_shown_len(const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    size_t len = s[0] < 0x80   ? 1
                 : s[0] < 0xc2 ? 0
                 : s[0] < 0xe0 ? 2
                 : s[0] < 0xf0 ? 3
                               : 4;
    if (s[0] > 0xf4) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (s[0] == 0xc2 && s[1] < 0xa0) return 0; /* C1 controls */
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90)) return 0;
    if ((s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    if (s[0] == 0xe2 && s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae) return 0;
    if (s[0] == 0xe2 && s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9) return 0;
    return len; /* the last two: line separators and changes of direction */
}

void sr_escape(sr_buf *out, const char *text, const char *newline) {
    for (const char *p = text; *p;) {
        size_t len = sr_shown_len(p);
        if (*p == '\n') {
            (void)sr_buf_puts(out, newline);
            p++;
        } else if (len == 0 || (unsigned char)*p == 0x7f ||
                   ((unsigned char)*p < 0x20 && *p != '\t')) {
            (void)sr_buf_printf(out, "\\x%02x", (unsigned char)*p);
            p++;
        } else {
            (void)sr_buf_append(out, p, len);
            p += len;
        }
    }
}
