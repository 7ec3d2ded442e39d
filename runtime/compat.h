/* compat.h – the one place for calls that differ between library versions. */
#ifndef SR_COMPAT_H
#define SR_COMPAT_H

#include <lua.h>

/* Close a thread's pending to-be-closed variables and reset it. Lua 5.4.6 renamed and
 * extended lua_resetthread(). */
static inline int sr_closethread(lua_State *co, lua_State *from) {
#if LUA_VERSION_RELEASE_NUM >= 50406
    return lua_closethread(co, from);
#else
    (void)from;
    return lua_resetthread(co);
#endif
}

#endif
