/* terminal.h – standard output and error, and the line on show below them (internal).
 *
 * A progress line and the REPL's prompt stand on the last line of the terminal. Whatever
 * is written to standard output or error goes through here, so that the line is taken
 * away before and drawn again behind it.
 */
#ifndef SR_TERMINAL_H
#define SR_TERMINAL_H

#include <stdio.h>

#include "secrun.h"

/* Lines that can be on show. While the prompt is, progress is not drawn. */
typedef enum sr_shown { SR_SHOWN_PROGRESS, SR_SHOWN_PROMPT, SR_SHOWN } sr_shown;

/* Put our streams in the place of stdout and stderr; before any Lua state is made. */
void sr_terminal_start(void);
/* Flush; -1 (kind io) when something written to standard output was lost. */
int sr_terminal_finish(sr_err *err);

/* Register how a line is taken away and drawn; NULL takes it out. */
void sr_terminal_line(sr_shown which, void (*hide)(void), void (*show)(void));
/* Bracket what draws over the line on show. They nest. */
void sr_terminal_hide(void);
void sr_terminal_show(void);
/* May this line be drawn now? Not behind an unfinished line of output. */
bool sr_terminal_free(sr_shown which);
/* End an unfinished line of output. */
void sr_terminal_newline(void);

/* Write all of it, also to a full pipe; 0 or -1 with errno. */
int sr_terminal_write(int fd, const char *data, size_t len);
/* The stream below ours, for libraries that need a descriptor. */
FILE *sr_terminal_stdout(void);

/* Copy text with everything a terminal or a log reader could act on escaped: control
 * characters (also C1 in UTF-8) and bytes that are not UTF-8 as \xNN. Line ends become
 * `newline`. */
void sr_escape(sr_buf *out, const char *text, const char *newline);
/* Length of the UTF-8 sequence at text, 0 when it is not one or is a C1 control. */
size_t sr_shown_len(const char *text);

#endif
