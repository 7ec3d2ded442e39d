/* stream_addr.c – socket addresses as text and back. Pure. */
#include "stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

int sr_addr_port(const struct sockaddr *sa) {
    if (sa->sa_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)sa)->sin_port);
    if (sa->sa_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)sa)->sin6_port);
    return 0;
}

void sr_addr_host(const struct sockaddr *sa, char *buf, size_t size) {
    if (!size) return;
    buf[0] = 0;
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        inet_ntop(AF_INET, &in->sin_addr, buf, (socklen_t)size);
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)sa;
        inet_ntop(AF_INET6, &in6->sin6_addr, buf, (socklen_t)size);
    } else if (sa->sa_family == AF_UNIX) {
        const struct sockaddr_un *un = (const void *)sa;
        snprintf(buf, size, "%.*s", (int)sizeof un->sun_path, un->sun_path);
    }
}

void sr_addr_text(const struct sockaddr *sa, char *buf, size_t size) {
    char host[sizeof((struct sockaddr_un *)0)->sun_path + 1];
    sr_addr_host(sa, host, sizeof host);
    if (sa->sa_family == AF_INET)
        snprintf(buf, size, "%s:%d", host, sr_addr_port(sa));
    else if (sa->sa_family == AF_INET6)
        snprintf(buf, size, "[%s]:%d", host, sr_addr_port(sa));
    else
        snprintf(buf, size, "unix:%s", host);
}

int sr_addr_parse(const char *host, int port, struct sockaddr_storage *ret_addr,
                  sr_err *err) {
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    if (port < 0 || port > 65535)
        return sr_fail(err, SR_USAGE, NULL, "port %d is not between 0 and 65535", port);
    if (strcmp(host, "localhost") == 0) host = "127.0.0.1";
    memset(ret_addr, 0, sizeof *ret_addr);
    if (uv_ip4_addr(host, port, &in) == 0) {
        memcpy(ret_addr, &in, sizeof in);
        return 0;
    }
    if (uv_ip6_addr(host, port, &in6) == 0) {
        memcpy(ret_addr, &in6, sizeof in6);
        return 0;
    }
    return sr_fail(err, SR_USAGE, NULL,
                   "'%s' is not an address; give one, such as 127.0.0.1, 0.0.0.0 or ::1",
                   host);
}
