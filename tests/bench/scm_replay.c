/* scm_replay.c – the server of the SCM list benchmark: answers GET /api/ssl/v1 with pages
 * of a list of N certificates in the bytes that the real one was seen to send. One
 * thread, one connection at a time. scm_replay N; prints its port, ends with its standard
 * input.
 *
 * Every page is made when asked for, from position= and size=, with the total in
 * X-Total-Count; the cost is this process's own.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 200, ENTRY = 512 };

static long total;
static char body[MOST * ENTRY + 16], head[512], in[16384];
static size_t in_len;

/* The value of name= in the request line, or fallback. */
static long parameter(const char *line, const char *name, long fallback) {
    const char *at = strstr(line, name);
    return at ? strtol(at + strlen(name), NULL, 10) : fallback;
}

static size_t fill_page(long position, long size) {
    char *p = body;
    *p++ = '[';
    for (long i = position; i < position + size && i < total; i++)
        p += snprintf(p, ENTRY,
                      "%s{\"sslId\":%ld,\"commonName\":\"host-%05ld.example.com\","
                      "\"subjectAlternativeNames\":[\"host-%05ld.example.com\","
                      "\"www.host-%05ld.example.com\"],\"serialNumber\":"
                      "\"39:F4:86:C2:%02lX:%02lX:B3:8B:3F:7E:53:8A:51:39:C8:70\"}",
                      i > position ? "," : "", i + 58, i, i, i, i >> 8 & 255, i & 255);
    *p++ = ']';
    return (size_t)(p - body);
}

static int send_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0) return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int answer(int fd, const char *line) {
    long size = parameter(line, "size=", MOST);
    size_t len = fill_page(parameter(line, "position=", 0), size > MOST ? MOST : size);
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 200 \r\nX-Total-Count: %ld\r\n"
                     "Content-Type: application/json;charset=UTF-8\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     total, len);
    return send_all(fd, head, (size_t)n) || send_all(fd, body, len) ? -1 : 0;
}

/* Read what is there and answer the requests that are whole. -1: the connection ended. */
static int serve(int fd) {
    ssize_t n = read(fd, in + in_len, sizeof in - 1 - in_len);
    if (n <= 0) return -1;
    in_len += (size_t)n;
    in[in_len] = '\0';
    char *end;
    while ((end = strstr(in, "\r\n\r\n"))) {
        if (answer(fd, in) < 0) return -1;
        in_len -= (size_t)(end + 4 - in);
        memmove(in, end + 4, in_len + 1);
    }
    return 0;
}

static int listen_on_loopback(void) {
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 8) < 0)
        return -1;
    if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0) return -1;
    printf("%d\n", ntohs(addr.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    int one = 1, conn = -1, listener = listen_on_loopback();
    total = argc > 1 ? strtol(argv[1], NULL, 10) : 100000;
    if (listener < 0) return 1;
    for (;;) {
        struct pollfd fds[] = {{0, POLLIN, 0}, {conn < 0 ? listener : conn, POLLIN, 0}};
        if (poll(fds, 2, -1) < 0 || fds[0].revents) return 0;
        if (conn < 0) {
            conn = accept(listener, NULL, NULL);
            if (conn >= 0) setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            in_len = 0;
        } else if (serve(conn) < 0) {
            close(conn);
            conn = -1;
        }
    }
}
