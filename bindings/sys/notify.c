/* notify.c – the module "notify": what systemd is told about this service.
 *
 *     notify.send "READY=1\nSTATUS=working"     -- false when nobody asked to be told
 *     local every = notify.watchdog()           -- seconds between two signs of life
 *
 * The protocol of sd_notify(3): one datagram to the unix socket that $NOTIFY_SOCKET
 * names, by path or, after "@", in the abstract namespace. Sending never blocks; a
 * manager that does not read is an error of its own and not a reason to wait.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "open.h"

/* 0, or -1 for a name that is no address of a unix socket. */
static int address_of(const char *name, struct sockaddr_un *ret_un, socklen_t *ret_len,
                      sr_err *err) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t len = strlen(name);
    if ((*name != '/' && *name != '@') || len < 2 || len >= sizeof un.sun_path)
        return sr_fail(err, SR_USAGE, "NOTIFY_SOCKET",
                       "$NOTIFY_SOCKET is a path or \"@name\", got \"%.100s\"", name);
    memcpy(un.sun_path, name, len);
    if (*name == '@') un.sun_path[0] = '\0';
    *ret_un = un;
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return 0;
}

static int notify(const char *name, const char *text, size_t len, sr_err *err) {
    struct sockaddr_un un;
    socklen_t size;
    if (address_of(name, &un, &size, err)) return -1;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return sr_fail_errno(err, errno, "cannot notify the service manager");
    ssize_t sent = sendto(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL,
                          (const struct sockaddr *)&un, size);
    int errnum = errno;
    close(fd);
    if (sent == (ssize_t)len) return 0;
    return sr_fail_errno(err, errnum, "cannot notify the service manager at %s", name);
}

/* notify.send(text) → true; false without $NOTIFY_SOCKET. Raises io, usage. */
static int l_send(lua_State *L) {
    sr_err err = {0};
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    const char *name = getenv("NOTIFY_SOCKET");
    if (name && *name && notify(name, text, len, &err)) return sr_throw(L, &err);
    lua_pushboolean(L, name && *name);
    return 1;
}

/* A whole number in the environment, or 0. */
static long long number_of(const char *name) {
    const char *text = getenv(name);
    char *end;
    if (!text || !*text) return 0;
    long long n = strtoll(text, &end, 10);
    return *end || n < 0 ? 0 : n;
}

/* notify.watchdog() → seconds within which "WATCHDOG=1" has to come, or nil. */
static int l_watchdog(lua_State *L) {
    long long usec = number_of("WATCHDOG_USEC"), pid = number_of("WATCHDOG_PID");
    if (usec == 0 || (pid != 0 && pid != getpid())) return 0;
    lua_pushnumber(L, (lua_Number)usec / 1e6);
    return 1;
}

static const luaL_Reg functions[] = {
    {"send", l_send}, {"watchdog", l_watchdog}, {NULL, NULL}};

int luaopen_notify(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
