/* schedule_lua.c – the module "schedule.core": cron expressions and zones as objects.
 *
 * A schedule keeps the zone it was made with alive as its user value. Reading zone files,
 * catching up and words are schedule.lua's.
 */
#include <math.h>
#include <string.h>

#include "flow/cron_msg.h"
#include "open.h"

#define ZONE_TYPE "schedule.zone"
#define CRON_TYPE "schedule.cron"

typedef struct cron_box {
    sr_cron cron;
    const sr_zone *zone; /* NULL: UTC */
} cron_box;

/* Whole seconds; anything that is no instant of a calendar is refused. */
static int64_t check_instant(lua_State *L, int idx) {
    lua_Number n = luaL_checknumber(L, idx);
    if (!(n > -1e12 && n < 1e12))
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "argument %d: an instant is UTC seconds, got %s", idx,
                 luaL_tolstring(L, idx, NULL));
    return (int64_t)floor(n);
}

static int push_firing(lua_State *L, int64_t fire) {
    if (fire == SR_CRON_NEVER)
        lua_pushnil(L);
    else
        lua_pushinteger(L, fire);
    return 1;
}

/* ---------------------------------------------------------------- zones */

/* core.check_zone(name): raises usage unless it can be the name of a zone. */
static int l_check_zone(lua_State *L) {
    sr_err err = {0};
    if (sr_zone_check_name(luaL_checkstring(L, 1), &err)) return sr_throw(L, &err);
    return 0;
}

/* core.zone(bytes, name) → zone. Raises protocol for a damaged file. */
static int l_zone(lua_State *L) {
    sr_err err = {0};
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    const char *name = luaL_checkstring(L, 2);
    sr_zone **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, ZONE_TYPE);
    if (sr_zone_parse(data, len, name, box, &err)) return sr_throw(L, &err);
    return 1;
}

static int l_zone_gc(lua_State *L) {
    sr_zone **box = luaL_checkudata(L, 1, ZONE_TYPE);
    sr_zone_free(*box);
    *box = NULL;
    return 0;
}

/* core.offset(zone?, instant) → seconds east of UTC, abbreviation, summer time? */
static int l_offset(lua_State *L) {
    sr_zone **box = lua_isnil(L, 1) ? NULL : sr_check_object(L, 1, ZONE_TYPE);
    sr_offset offset = sr_zone_at(box ? *box : NULL, check_instant(L, 2));
    lua_pushinteger(L, offset.seconds);
    lua_pushstring(L, offset.name);
    lua_pushboolean(L, offset.dst);
    return 3;
}

/* ---------------------------------------------------------------- schedules */

/* core.cron(text, zone?) → schedule. Raises usage (code SCHEDULE). */
static int l_cron(lua_State *L) {
    sr_err err = {0};
    sr_cron cron;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_settop(L, 2);
    sr_zone **zone = lua_isnil(L, 2) ? NULL : sr_check_object(L, 2, ZONE_TYPE);
    if (sr_cron_parse(text, len, &cron, &err)) return sr_throw(L, &err);
    cron_box *box = lua_newuserdatauv(L, sizeof *box, 1);
    *box = (cron_box){cron, zone ? *zone : NULL};
    luaL_setmetatable(L, CRON_TYPE);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

/* cron:next(after) → the first firing after it, or nil. */
static int l_next(lua_State *L) {
    const cron_box *box = sr_check_object(L, 1, CRON_TYPE);
    return push_firing(L, sr_cron_next(&box->cron, box->zone, check_instant(L, 2)));
}

/* cron:last(since, until) → the last firing after `since` and not after `until`. */
static int l_last(lua_State *L) {
    const cron_box *box = sr_check_object(L, 1, CRON_TYPE);
    int64_t since = check_instant(L, 2), until = check_instant(L, 3);
    return push_firing(L, sr_cron_last(&box->cron, box->zone, since, until));
}

/* core.jitter(name, firing) → a number in [0, 1). */
static int l_jitter(lua_State *L) {
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    lua_pushnumber(L, sr_cron_jitter(name, len, check_instant(L, 2)));
    return 1;
}

static const luaL_Reg functions[] = {{"check_zone", l_check_zone}, {"zone", l_zone},
                                     {"offset", l_offset},         {"cron", l_cron},
                                     {"jitter", l_jitter},         {NULL, NULL}};

static const luaL_Reg cron_methods[] = {{"next", l_next}, {"last", l_last}, {NULL, NULL}};

int luaopen_schedule_core(lua_State *L) {
    luaL_newmetatable(L, ZONE_TYPE);
    lua_pushcfunction(L, l_zone_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, CRON_TYPE);
    luaL_newlib(L, cron_methods);
    lua_setfield(L, -2, "__index");
    luaL_newlib(L, functions);
    return 1;
}
