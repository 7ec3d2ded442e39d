/* http_target.c – the server of the HTTP benchmark: answers every request with the same
 * 200 and 120 bytes, keeps connections, one thread, epoll. Prints its port, ends with its
 * standard input.
 *
 * It reads requests without a body only as far as it must: a request ends at the first
 * empty line. Several in one read are answered one by one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, MOST = 65536 };

static const char answer[] =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 120\r\n"
    "Replay-Nonce: abcdefghijklmnopqrstuvwxyz\r\nServer: bench\r\n\r\n"
    "{\"status\":\"valid\",\"expires\":\"2030-01-01T00:00:00Z\",\"identifiers\":[{"
    "\"type\":"
    "\"dns\",\"value\":\"www.example.com\"}],\"pad\":\"123\"}";

static unsigned char
    matched[MOST]; /* bytes of the empty line seen so far, by descriptor */

/* Count the requests that end in these bytes. */
static int requests(int fd, const char *data, ssize_t len) {
    static const char end[] = "\r\n\r\n";
    int count = 0;
    for (ssize_t i = 0; i < len; i++) {
        if (data[i] != end[matched[fd]])
            matched[fd] = data[i] == '\r';
        else if (++matched[fd] == 4)
            count++, matched[fd] = 0;
    }
    return count;
}

static int serve(int fd) {
    char data[16384];
    ssize_t len = read(fd, data, sizeof data);
    if (len <= 0) return len < 0 && errno == EAGAIN ? 0 : -1;
    for (int n = requests(fd, data, len); n > 0; n--)
        if (write(fd, answer, sizeof answer - 1) != (ssize_t)sizeof answer - 1) return -1;
    return 0;
}

static void take(int epoll, int listener) {
    int one = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (fd >= MOST || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            close(fd);
        else
            matched[fd] = 0;
    }
}

static int listen_on_loopback(void) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, size) < 0 || listen(fd, 1024) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) < 0)
        return -1;
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

int main(void) {
    int listener = listen_on_loopback(), epoll = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || epoll < 0) return perror("http_target"), 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = STDIN_FILENO;
    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == STDIN_FILENO) return 0;
            if (fd == listener)
                take(epoll, listener);
            else if (serve(fd) < 0)
                close(fd);
        }
    }
}
