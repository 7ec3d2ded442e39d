/* trace.c – tracebacks across coroutines and spawn sites, and who waits where. */
#include <stdio.h>
#include <string.h>

#include "vm.h"

void sr_push_where(lua_State *L) {
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline > 0) {
            lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
            return;
        }
    }
    lua_pushliteral(L, "");
}

/* The spawn site of the task, or nothing. */
static void add_spawn_site(lua_State *L, sr_task *task) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, task); /* trace, task? */
    if (lua_isuserdata(L, -1)) {
        lua_getiuservalue(L, -1, 2);
        if (lua_isstring(L, -1) && lua_rawlen(L, -1) > 0) {
            lua_pushfstring(L, "%s\nspawned at %s", lua_tostring(L, -3),
                            lua_tostring(L, -1));
            lua_replace(L, -4);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

void sr_push_trace(lua_State *L, int level) {
    luaL_checkstack(L, 20, "no stack for a traceback");
    luaL_traceback(L, L, NULL, level);
    sr_task *task = sr_task_of(L);
    if (!task) return;
    for (sr_frame *frame = task->frames; frame; frame = frame->up) {
        lua_pushliteral(L, "\nresumed by ");
        luaL_traceback(L, frame->L, NULL, 0);
        lua_concat(L, 3);
    }
    add_spawn_site(L, task);
}

/* ---------------------------------------------------------------- who is in the way */

/* Find the name of the function on top of L in package.loaded, as luaL_traceback does:
 * "table.sort". Pops the function. */
static bool global_name(lua_State *L, char *buf, size_t size) {
    bool found = false;
    int top = lua_gettop(L); /* function */
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    for (lua_pushnil(L); !found && lua_next(L, -2); lua_pop(L, 1)) {
        if (!lua_istable(L, -1) || lua_type(L, -2) != LUA_TSTRING) continue;
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING || !lua_rawequal(L, -1, top)) continue;
            const char *module = lua_tostring(L, -4);
            if (strcmp(module, LUA_GNAME) == 0)
                snprintf(buf, size, "%s", lua_tostring(L, -2));
            else
                snprintf(buf, size, "%s.%s", module, lua_tostring(L, -2));
            found = true;
            lua_pop(L, 2);
            break;
        }
        if (found) {
            lua_pop(L, 2);
            break;
        }
    }
    lua_settop(L, top - 1);
    return found;
}

static bool name_c_function(lua_State *L, lua_Debug *ar, char *buf, size_t size) {
    lua_getinfo(L, "Snf", ar); /* function */
    if (strcmp(ar->what, "C") != 0) {
        lua_pop(L, 1);
        return false;
    }
    if (global_name(L, buf, size)) {
        static const char *const transparent[] = {"pcall", "xpcall", "try", "error",
                                                  NULL};
        for (int i = 0; transparent[i]; i++)
            if (strcmp(buf, transparent[i]) == 0) return false;
        return true;
    }
    if (!ar->name) return false;
    snprintf(buf, size, "%s%s", strcmp(ar->namewhat, "metamethod") == 0 ? "__" : "",
             ar->name);
    return true;
}

/* The nearest C function with a name, from level on. */
static bool name_culprit(lua_State *L, int level, char *buf, size_t size) {
    lua_Debug ar;
    luaL_checkstack(L, 20, NULL);
    for (; lua_getstack(L, level, &ar); level++) {
        if (name_c_function(L, &ar, buf, size)) return true;
        lua_getinfo(L, "n", &ar);
        if (ar.name && strcmp(ar.namewhat, "metamethod") == 0) {
            snprintf(buf, size, "__%s", ar.name + (strncmp(ar.name, "__", 2) ? 0 : 2));
            return true;
        }
    }
    return false;
}

/* What keeps the wait from yielding: looked for on the coroutine that is not yieldable
 * (level 0 is the waiting function itself), then on those that resumed it, where level 0
 * is the function that did (coroutine.close). */
const char *sr_in_the_way(lua_State *L, sr_task *task, char *buf, size_t size) {
    sr_frame *frame = task ? task->frames : NULL;
    bool stuck = false;
    for (int level = 1;; level = 0) {
        stuck |= !lua_isyieldable(L);
        if (stuck && name_culprit(L, level, buf, size)) return buf;
        if (!frame) break;
        L = frame->L;
        frame = frame->up;
    }
    snprintf(buf, size, "a C function");
    return buf;
}

/* ---------------------------------------------------------------- dump
 *
 * Tasks in the same state at the same place are told together: their number, the ids of
 * the first and what the first waits for. The list is bounded as well.
 */
enum { GROUPS_SHOWN = 100, IDS_SHOWN = 5, LIST = 2, GROUPS = 3 /* on the stack */ };

static void set_text(lua_State *L, const char *key, const char *text) {
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

/* Key on top: push its group, made when it is the first of it. Pops the key. */
static void push_group(lua_State *L, const char *what) {
    lua_pushvalue(L, -1);
    if (lua_rawget(L, GROUPS) == LUA_TTABLE) {
        lua_remove(L, -2);
        return;
    }
    lua_pop(L, 1);
    lua_createtable(L, 0, 5);
    set_text(L, "what", what);
    set_text(L, "ids", "");
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "text");
    lua_pushvalue(L, -1);
    lua_rawseti(L, LIST, (lua_Integer)lua_rawlen(L, LIST) + 1);
    lua_insert(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, GROUPS);
}

static lua_Integer integer_of(lua_State *L, const char *key) {
    lua_getfield(L, -1, key);
    lua_Integer n = lua_tointeger(L, -1);
    lua_pop(L, 1);
    return n;
}

/* Count the task in the group on top. */
static void count_task(lua_State *L, const sr_task *task, const char *what) {
    lua_Integer count = integer_of(L, "count") + 1;
    lua_pushinteger(L, count);
    lua_setfield(L, -2, "count");
    lua_getfield(L, -1, "what");
    if (strcmp(lua_tostring(L, -1), what) != 0) {
        lua_pushboolean(L, true);
        lua_setfield(L, -3, "mixed");
    }
    lua_pop(L, 1);
    if (count > IDS_SHOWN) return;
    lua_getfield(L, -1, "ids");
    lua_pushfstring(L, "%s%s%d", lua_tostring(L, -1), count > 1 ? ", " : "",
                    (int)task->id);
    lua_setfield(L, -3, "ids");
    lua_pop(L, 1);
}

static void gather_task(lua_State *L, sr_task *task) {
    static const char *const states[] = {"new", "ready", "running", "waiting", "done"};
    char what[160];
    sr_task_describe(task, what, sizeof what);
    luaL_checkstack(L, 20, NULL);
    luaL_traceback(L, task->inner ? task->inner : task->L, states[task->state], 0);
    add_spawn_site(L, task);
    push_group(L, what);
    count_task(L, task, what);
    lua_pop(L, 1);
}

static void gather_scope(lua_State *L, sr_scope *scope) {
    for (sr_task *task = scope->tasks; task; task = task->next_task)
        gather_task(L, task);
    for (sr_scope *child = scope->children; child; child = child->next)
        gather_scope(L, child);
}

/* The group on top: a head line, then the traceback without its first line, the state. */
static void print_group(lua_State *L) {
    lua_Integer count = integer_of(L, "count");
    lua_getfield(L, -1, "text");
    lua_getfield(L, -2, "ids");
    lua_getfield(L, -3, "what");
    lua_getfield(L, -4, "mixed");
    const char *text = lua_tostring(L, -4), *what = lua_tostring(L, -2);
    int state = (int)strcspn(text, "\n");
    if (count > 1) fprintf(stderr, "%lld tasks: ", (long long)count);
    fprintf(stderr, "task %s%s %.*s%s%s%s%s\n", lua_tostring(L, -3),
            count > IDS_SHOWN ? ", …" : "", state, text, *what ? " for " : "", what,
            lua_toboolean(L, -1) ? " and others" : "", text + state);
    lua_pop(L, 4);
}

/* Print those with several tasks, or those with one, while there is room in *left. The
 * number of tasks that were not told. */
static lua_Integer print_groups(lua_State *L, bool several, lua_Integer *left) {
    lua_Integer groups = (lua_Integer)lua_rawlen(L, LIST), untold = 0;
    for (lua_Integer i = 1; i <= groups; i++) {
        lua_rawgeti(L, LIST, i);
        lua_Integer count = integer_of(L, "count");
        if (several != (count > 1))
            ; /* in the other round */
        else if ((*left)-- > 0)
            print_group(L);
        else
            untold += count;
        lua_pop(L, 1);
    }
    return untold;
}

static int l_dump(lua_State *L) {
    sr_vm *vm = lua_touserdata(L, 1);
    lua_newtable(L); /* groups in order */
    lua_newtable(L); /* groups by their text */
    gather_scope(L, &vm->root);
    lua_Integer left = GROUPS_SHOWN;
    lua_Integer untold = print_groups(L, true, &left);
    untold += print_groups(L, false, &left);
    if (untold > 0)
        fprintf(stderr, "… and %lld tasks at %lld other places\n", (long long)untold,
                (long long)-left);
    return 0;
}

void sr_dump_tasks(sr_loop *loop) {
    for (sr_vm *vm = loop->vms; vm; vm = vm->next) {
        fprintf(stderr, "--- %u tasks\n", vm->ntasks);
        lua_pushcfunction(vm->L, l_dump);
        lua_pushlightuserdata(vm->L, vm);
        if (lua_pcall(vm->L, 1, 0, 0) != LUA_OK) lua_pop(vm->L, 1);
    }
    fflush(stderr);
}
