/* store_owner.c – who we are among the processes that share a store, and whether another
 * one still lives.
 *
 * An owner is "host:boot_id:pid:start_time". The boot and the start time (field 22 of
 * /proc/PID/stat) tell a process from a later one of the same number.
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/store_lua.h"

typedef struct owner {
    char host[128], boot[64];
    long pid;
    unsigned long long start;
} owner;

/* The file's first bytes as text without the line's end; empty when it cannot be read. */
static void read_text(const char *path, char *buf, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, buf, size - 1) : -1;
    if (fd >= 0) close(fd);
    buf[n > 0 ? n : 0] = '\0';
    buf[strcspn(buf, "\n")] = '\0';
}

/* Field 22 of /proc/PID/stat, counted behind the name, which may hold anything. 0: there
 * is no such process, or it is a zombie. */
static unsigned long long start_of(long pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    read_text(path, text, sizeof text);
    const char *p = strrchr(text, ')');
    if (!p || p[1] != ' ' || p[2] == 'Z' || p[2] == 'X') return 0;
    p += 2; /* field 3 */
    for (int field = 3; field < 22 && p; field++) {
        p = strchr(p, ' ');
        if (p) p++;
    }
    return p ? strtoull(p, NULL, 10) : 0;
}

static void fill_own(owner *o) {
    read_text("/proc/sys/kernel/hostname", o->host, sizeof o->host);
    read_text("/proc/sys/kernel/random/boot_id", o->boot, sizeof o->boot);
    for (char *p = o->host; *p; p++)
        if (*p == ':' || isspace((unsigned char)*p)) *p = '-';
    o->pid = (long)getpid();
    o->start = start_of(o->pid);
}

/* Copy the part up to the next colon; NULL when it is empty, too long or the last. */
static const char *part(const char *text, char *buf, size_t size) {
    size_t len = strcspn(text, ":");
    if (!len || len >= size || !text[len]) return NULL;
    memcpy(buf, text, len);
    buf[len] = '\0';
    return text + len + 1;
}

static int parse(const char *text, owner *o) {
    char *end;
    if (!(text = part(text, o->host, sizeof o->host)) ||
        !(text = part(text, o->boot, sizeof o->boot)) || !isdigit((unsigned char)*text))
        return -1;
    o->pid = strtol(text, &end, 10);
    if (*end != ':' || !isdigit((unsigned char)end[1])) return -1;
    o->start = strtoull(end + 1, &end, 10);
    return *end ? -1 : 0;
}

/* owner() → text, and its parts as a table */
static int l_owner(lua_State *L) {
    owner o;
    fill_own(&o);
    char text[256];
    snprintf(text, sizeof text, "%s:%s:%ld:%llu", o.host, o.boot, o.pid, o.start);
    lua_pushstring(L, text);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, o.host);
    lua_setfield(L, -2, "host");
    lua_pushinteger(L, o.pid);
    lua_setfield(L, -2, "pid");
    return 2;
}

/* owner_gone(text) → true: it was a process of this machine and does not live any more;
 * false: it lives; nil: it is of another machine, or not an owner's text */
static int l_owner_gone(lua_State *L) {
    owner own, other;
    fill_own(&own);
    if (parse(luaL_checkstring(L, 1), &other) != 0 || strcmp(own.host, other.host) != 0)
        lua_pushnil(L);
    else
        lua_pushboolean(L, strcmp(own.boot, other.boot) != 0 ||
                               start_of(other.pid) != other.start);
    return 1;
}

void sr_store_open_owner(lua_State *L) {
    lua_pushcfunction(L, l_owner);
    lua_setfield(L, -2, "owner");
    lua_pushcfunction(L, l_owner_gone);
    lua_setfield(L, -2, "owner_gone");
}
