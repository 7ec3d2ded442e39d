/* clock_lua.c – time as scripts see it: os.time and os.date on our clock, and "time". */
#include <math.h>
#include <string.h>
#include <time.h>

#include "vm.h"

/* os.time() asks our clock; os.time(table) is stock. */
static int l_os_time(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        lua_pushinteger(L, (lua_Integer)floor(sr_now(sr_loop_of(L))));
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* os.date(format?, time?) with our clock's "now" as default. */
static int l_os_date(lua_State *L) {
    lua_settop(L, 2);
    if (lua_isnil(L, 1)) {
        lua_pushliteral(L, "%c");
        lua_replace(L, 1);
    }
    if (lua_isnil(L, 2)) {
        lua_pushinteger(L, (lua_Integer)floor(sr_now(sr_loop_of(L))));
        lua_replace(L, 2);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 2, LUA_MULTRET);
    return lua_gettop(L);
}

/* time.now() → UTC seconds with fraction. */
static int l_now(lua_State *L) {
    lua_pushnumber(L, sr_now(sr_loop_of(L)));
    return 1;
}

/* time.mono() → monotonic seconds. */
static int l_mono(lua_State *L) {
    lua_pushnumber(L, (double)sr_mono(sr_loop_of(L)) / (double)SR_NS);
    return 1;
}

/* time.cpu() → real seconds, for measuring only; never virtual. */
static int l_cpu(lua_State *L) {
    lua_pushnumber(L, (double)sr_cpu() / (double)SR_NS);
    return 1;
}

/* time.rfc3339(instant) → "2026-11-23T17:00:00Z". */
static int l_rfc3339(lua_State *L) {
    lua_Number instant = luaL_checknumber(L, 1);
    if (!(fabs(instant) < 2.5e11))
        return sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "time.rfc3339: %g is not an instant",
                        instant);
    time_t seconds = (time_t)floor(instant);
    struct tm tm;
    char text[40];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    lua_pushstring(L, text);
    return 1;
}

/* Exactly n digits and then `after` (NUL for nothing); moves the text on. */
static bool number(const char **text, int n, char after, int *ret) {
    int value = 0;
    for (; n > 0; n--, (*text)++) {
        if (**text < '0' || **text > '9') return false;
        value = value * 10 + (**text - '0');
    }
    if (after && *(*text)++ != after) return false;
    *ret = value;
    return true;
}

/* The offset of "Z" or "+hh:mm", in seconds; -1 for anything else. */
static int parse_zone(const char *text, long *ret_offset) {
    int h, m;
    char sign = *text++;
    *ret_offset = 0;
    if ((sign == 'Z' || sign == 'z') && !*text) return 0;
    if ((sign != '+' && sign != '-') || !number(&text, 2, ':', &h) ||
        !number(&text, 2, 0, &m) || *text)
        return -1;
    *ret_offset = (h * 3600L + m * 60L) * (sign == '-' ? -1 : 1);
    return 0;
}

static double fraction(const char **text) {
    double value = 0, place = 0.1;
    if (**text != '.') return 0;
    for ((*text)++; **text >= '0' && **text <= '9'; (*text)++) {
        value += (**text - '0') * place;
        place /= 10;
    }
    return value;
}

/* time.parse(text) → instant of an RFC 3339 date-time, or nil. */
static int l_parse(lua_State *L) {
    const char *text = luaL_checkstring(L, 1);
    struct tm tm = {0};
    long offset;
    if (!number(&text, 4, '-', &tm.tm_year) || !number(&text, 2, '-', &tm.tm_mon) ||
        !number(&text, 2, 0, &tm.tm_mday) || !*text || !strchr("Tt ", *text++) ||
        !number(&text, 2, ':', &tm.tm_hour) || !number(&text, 2, ':', &tm.tm_min) ||
        !number(&text, 2, 0, &tm.tm_sec))
        return 0;
    double rest = fraction(&text);
    if (parse_zone(text, &offset) != 0) return 0;
    struct tm want = tm;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    time_t seconds = timegm(&tm);
    if (tm.tm_mday != want.tm_mday || tm.tm_hour != want.tm_hour ||
        tm.tm_mon + 1 != want.tm_mon)
        return 0; /* 30 February and the like */
    lua_pushnumber(L, (double)(seconds - offset) + rest);
    return 1;
}

/* time.show(seconds) → "3d 4h", "12m", "850ms": at most two units. */
static int l_show(lua_State *L) {
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}};
    double left = luaL_checknumber(L, 1);
    const char *sign = left < 0 ? "-" : "";
    left = fabs(left);
    if (left < 1) {
        lua_pushfstring(L, "%s%dms", sign, (int)lround(left * 1000));
        return 1;
    }
    for (int i = 0; i < 4; i++) {
        if (left < units[i].seconds) continue;
        long n = (long)(left / units[i].seconds);
        long rest =
            i < 3 ? (long)((left - (double)n * units[i].seconds) / units[i + 1].seconds)
                  : 0;
        if (rest > 0)
            lua_pushfstring(L, "%s%I%s %I%s", sign, (LUAI_UACINT)n, units[i].unit,
                            (LUAI_UACINT)rest, units[i + 1].unit);
        else
            lua_pushfstring(L, "%s%I%s", sign, (LUAI_UACINT)n, units[i].unit);
        return 1;
    }
    return 0;
}

/* time.virtual(instant?) – from now on time jumps from timer to timer. For tests. */
static int l_virtual(lua_State *L) {
    sr_loop *loop = sr_loop_of(L);
    sr_clock_virtual(loop, luaL_optnumber(L, 1, sr_now(loop)));
    return 0;
}

/* time.advance(duration) – move the virtual clock; timers due fire at the next wait. */
static int l_advance(lua_State *L) {
    sr_clock_advance(sr_loop_of(L), sr_check_duration(L, 1));
    return 0;
}

/* time.real() – back to the system's clock. */
static int l_real(lua_State *L) {
    sr_clock_real(sr_loop_of(L));
    return 0;
}

static const luaL_Reg functions[] = {
    {"now", l_now},     {"mono", l_mono}, {"cpu", l_cpu},         {"rfc3339", l_rfc3339},
    {"parse", l_parse}, {"show", l_show}, {"virtual", l_virtual}, {"advance", l_advance},
    {"real", l_real},   {NULL, NULL}};

static void wrap_os(lua_State *L, const char *name, lua_CFunction fn) {
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, fn, 1);
    lua_setfield(L, -2, name);
}

int sr_open_time(lua_State *L) {
    lua_getglobal(L, LUA_OSLIBNAME);
    wrap_os(L, "time", l_os_time);
    wrap_os(L, "date", l_os_date);
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
