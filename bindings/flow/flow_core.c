/* flow_core.c – what durable flows need from C: who this process is, and texts without
 * secrets.
 *
 * The owner of a lease is "host:boot_id:pid:start_time". Two processes never have the
 * same one, also after a reboot and when a process id comes again, so a lease whose owner
 * is not us was taken by somebody else. Read once a process; the boot id stays the same
 * for its life, and after a fork no Lua runs in the child.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "open.h"

static int read_text(const char *path, char *buf, size_t size, sr_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);
    if (fd >= 0) close(fd);
    if (n <= 0) return sr_fail(err, SR_IO, NULL, "%s cannot be read", path);
    buf[n] = '\0';
    buf[strcspn(buf, "\n")] = '\0';
    return 0;
}

/* The 22nd field of /proc/self/stat; the second, the name, may hold anything. */
static int read_start(char *buf, size_t size, sr_err *err) {
    char text[1024];
    if (read_text("/proc/self/stat", text, sizeof text, err) != 0) return -1;
    char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (!at) return sr_fail(err, SR_IO, NULL, "/proc/self/stat cannot be understood");
    snprintf(buf, size, "%.*s", (int)strcspn(at + 1, " "), at + 1);
    return 0;
}

/* Host names have no colon, the other parts neither. */
static int read_owner(char *buf, size_t size, sr_err *err) {
    char host[128] = "", boot[64], start[32];
    if (gethostname(host, sizeof host - 1) != 0 || !*host)
        return sr_fail(err, SR_IO, NULL, "this machine's name cannot be read");
    for (char *p = host; *p; p++)
        if (*p == ':') *p = '_';
    if (read_text("/proc/sys/kernel/random/boot_id", boot, sizeof boot, err) != 0 ||
        read_start(start, sizeof start, err) != 0)
        return -1;
    snprintf(buf, size, "%s:%s:%ld:%s", host, boot, (long)getpid(), start);
    return 0;
}

/* core.owner() → this process as the owner of leases. */
static int l_owner(lua_State *L) {
    char owner[256];
    sr_err err = {0};
    if (read_owner(owner, sizeof owner, &err) != 0) return sr_throw(L, &err);
    lua_pushstring(L, owner);
    return 1;
}

/* core.redact(text) → the text without the values of secrets. Bytes after a NUL have no
 * place in a message and are dropped. */
static int l_redact(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    char *copy = lua_newuserdatauv(L, len + 1, 0); /* never gets longer */
    memcpy(copy, text, len + 1);
    sr_redact(copy);
    lua_pushstring(L, copy);
    return 1;
}

static const luaL_Reg functions[] = {
    {"owner", l_owner}, {"redact", l_redact}, {NULL, NULL}};

int luaopen_flow_core(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
