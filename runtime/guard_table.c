/* guard_table.c – the table library of a cage, and pairs in order.
 *
 * A length is not to be trusted: a table with values at 1, 2, 4, 8 … answers # with 2^62,
 * and the stock insert, remove and sort would then loop for ever inside one C call. So
 * lengths are bounded, and every loop here reports its work to the guard.
 *
 * Order is part of a policy's result. pairs and next go through the keys sorted: numbers,
 * then strings by their bytes, then false and true; other keys have no order and are
 * refused. sort is a stable merge sort, so equal elements keep their order, and an order
 * function that contradicts itself is an error, always.
 */
#include "guard.h"

#include <string.h>

enum {
    LIST_MAX = 1000000, /* elements of a list */
    RESULTS_MAX = 8000, /* values one call may return */
    SORT_STEP = 16      /* work of one comparison, besides the strings */
};

/* The length of the list at argument 1. */
static lua_Integer list_length(lua_State *L, const char *name) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Unsigned n = lua_rawlen(L, 1);
    if (n > LIST_MAX)
        luaL_error(L, "table.%s: the list has more than %d elements", name, LIST_MAX);
    return (lua_Integer)n;
}

static int l_insert(lua_State *L) {
    lua_Integer n = list_length(L, "insert") + 1, pos = n;
    if (lua_gettop(L) == 3)
        pos = luaL_checkinteger(L, 2);
    else if (lua_gettop(L) != 2)
        return luaL_error(L,
                          "table.insert: give a list, perhaps a position, and a value");
    luaL_argcheck(L, pos >= 1 && pos <= n, 2, "position out of bounds");
    sr_guard_work(L, (size_t)(n - pos) * 2);
    for (lua_Integer i = n; i > pos; i--) {
        lua_rawgeti(L, 1, i - 1);
        lua_rawseti(L, 1, i);
    }
    lua_pushvalue(L, lua_gettop(L));
    lua_rawseti(L, 1, pos);
    return 0;
}

static int l_remove(lua_State *L) {
    lua_Integer n = list_length(L, "remove");
    lua_Integer pos = luaL_optinteger(L, 2, n);
    if (lua_gettop(L) > 1 && (n > 0 || pos != 0))
        luaL_argcheck(L, pos >= 1 && pos <= n + 1, 2, "position out of bounds");
    sr_guard_work(L, (size_t)(n > pos ? n - pos : 0) * 2);
    lua_rawgeti(L, 1, pos); /* the result */
    for (; pos < n; pos++) {
        lua_rawgeti(L, 1, pos + 1);
        lua_rawseti(L, 1, pos);
    }
    lua_pushnil(L);
    lua_rawseti(L, 1, pos);
    return 1;
}

static int l_concat(lua_State *L) {
    lua_Integer n = list_length(L, "concat");
    size_t sep_len, len;
    const char *sep = luaL_optlstring(L, 2, "", &sep_len);
    lua_Integer i = luaL_optinteger(L, 3, 1), last = luaL_optinteger(L, 4, n);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (; i <= last; i++) {
        int type = lua_rawgeti(L, 1, i);
        if (type != LUA_TSTRING && type != LUA_TNUMBER)
            return luaL_error(L, "table.concat: the value at index %I is a %s",
                              (LUAI_UACINT)i, lua_typename(L, type));
        lua_tolstring(L, -1, &len);
        sr_guard_work(L, 8 + (len + sep_len) / 16);
        luaL_addvalue(&b);
        if (i == last) break; /* the largest integer has no successor */
        luaL_addlstring(&b, sep, sep_len);
    }
    luaL_pushresult(&b);
    return 1;
}

static int l_pack(lua_State *L) {
    int n = lua_gettop(L);
    sr_guard_work(L, (size_t)n);
    lua_createtable(L, n, 1);
    lua_insert(L, 1);
    for (int i = n; i >= 1; i--)
        lua_rawseti(L, 1, i);
    lua_pushinteger(L, n);
    lua_setfield(L, 1, "n");
    return 1;
}

static int l_unpack(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer i = luaL_optinteger(L, 2, 1);
    lua_Integer last = luaL_optinteger(L, 3, (lua_Integer)lua_rawlen(L, 1));
    if (i > last) return 0;
    lua_Unsigned n = (lua_Unsigned)last - (lua_Unsigned)i;
    if (n >= RESULTS_MAX || !lua_checkstack(L, (int)n + 1))
        return luaL_error(L, "table.unpack: at most %d values at a time", RESULTS_MAX);
    sr_guard_work(L, (size_t)n);
    for (lua_Unsigned k = 0; k <= n; k++)
        lua_rawgeti(L, 1, (lua_Integer)((lua_Unsigned)i + k));
    return (int)n + 1;
}

/* ---------------------------------------------------------------- sort */

enum { LIST = 1, LESS = 2, FROM = 3, TO = 4 }; /* stack of l_sort */

static size_t text_work(lua_State *L, int idx) {
    return lua_type(L, idx) == LUA_TSTRING ? lua_rawlen(L, idx) / 16 : 0;
}

/* Is the value at a before the value at b? */
static bool before(lua_State *L, int a, int b) {
    if (lua_isnil(L, LESS)) {
        sr_guard_work(L, SORT_STEP + text_work(L, a));
        return lua_compare(L, a, b, LUA_OPLT);
    }
    sr_guard_work(L, SORT_STEP);
    lua_pushvalue(L, LESS);
    lua_pushvalue(L, a);
    lua_pushvalue(L, b);
    lua_call(L, 2, 1);
    bool less = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return less;
}

/* Merge [lo, mid) and [mid, hi) of the table at `from` into the one at `to`. */
static void merge(lua_State *L, int from, int to, lua_Integer lo, lua_Integer mid,
                  lua_Integer hi) {
    lua_Integer a = lo, b = mid;
    for (lua_Integer out = lo; out < hi; out++) {
        bool second;
        if (a < mid && b < hi) {
            lua_rawgeti(L, from, b);
            lua_rawgeti(L, from, a);
            second = before(L, lua_gettop(L) - 1, lua_gettop(L));
            lua_pop(L, second ? 1 : 0);
            if (!second) lua_remove(L, -2);
        } else {
            second = a >= mid;
            lua_rawgeti(L, from, second ? b : a);
            sr_guard_work(L, 1);
        }
        lua_rawseti(L, to, out);
        if (second)
            b++;
        else
            a++;
    }
}

/* Write the sorted elements back; two neighbours that are each before the other show an
 * order function that is none. */
static void write_back(lua_State *L, int from, lua_Integer n) {
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, from, i);
        if (i > 1 && !lua_isnil(L, LESS)) {
            lua_rawgeti(L, from, i - 1);
            int top = lua_gettop(L);
            if (before(L, top, top - 1) && before(L, top - 1, top))
                luaL_error(L, "table.sort: the order function says of two elements that "
                              "each comes before the other; use < instead of <=");
            lua_pop(L, 1);
        }
        lua_rawseti(L, LIST, i);
    }
}

static int l_sort(lua_State *L) {
    lua_Integer n = list_length(L, "sort");
    if (!lua_isnoneornil(L, LESS)) luaL_checktype(L, LESS, LUA_TFUNCTION);
    lua_settop(L, LESS);
    lua_createtable(L, (int)n, 0);
    lua_createtable(L, (int)n, 0);
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_rawgeti(L, LIST, i) == LUA_TNIL)
            return luaL_error(L, "table.sort: the list has a hole at %I", (LUAI_UACINT)i);
        lua_rawseti(L, FROM, i);
    }
    int from = FROM, to = TO;
    for (lua_Integer width = 1; width < n; width *= 2) {
        for (lua_Integer lo = 1; lo <= n; lo += 2 * width) {
            lua_Integer mid = lo + width, hi = mid + width;
            if (mid > n + 1) mid = n + 1;
            if (hi > n + 1) hi = n + 1;
            merge(L, from, to, lo, mid, hi);
        }
        int swap = from;
        from = to;
        to = swap;
    }
    write_back(L, from, n);
    return 0;
}

/* ---------------------------------------------------------------- pairs */

struct key {
    int rank; /* 0 number, 1 string, 2 boolean */
    bool integer;
    lua_Integer i;
    lua_Number n;
    const char *text;
    size_t len;
    lua_Integer at; /* where the key stands in the unsorted list */
};

static void read_key(lua_State *L, int idx, struct key *ret_key) {
    struct key key = {0};
    switch (lua_type(L, idx)) {
    case LUA_TNUMBER:
        key.integer = lua_isinteger(L, idx);
        if (key.integer)
            key.i = lua_tointeger(L, idx);
        else
            key.n = lua_tonumber(L, idx);
        break;
    case LUA_TSTRING:
        key.rank = 1;
        key.text = lua_tolstring(L, idx, &key.len);
        break;
    case LUA_TBOOLEAN:
        key.rank = 2;
        key.integer = true;
        key.i = lua_toboolean(L, idx);
        break;
    default:
        luaL_error(L, "pairs: the table has a %s as key, which has no order",
                   luaL_typename(L, idx));
    }
    *ret_key = key;
}

/* An integer against a float, exactly. */
static int compare_mixed(lua_Integer i, lua_Number n) {
    if (n >= 9223372036854775808.0) return -1;
    if (n < -9223372036854775808.0) return 1;
    lua_Integer whole = (lua_Integer)n; /* towards zero */
    if (i != whole) return i < whole ? -1 : 1;
    lua_Number rest = n - (lua_Number)whole;
    return rest > 0 ? -1 : rest < 0;
}

static int compare_keys(lua_State *L, const struct key *a, const struct key *b) {
    if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
    if (a->rank == 1) {
        size_t len = a->len < b->len ? a->len : b->len;
        sr_guard_work(L, 2 + len / 16);
        int order = memcmp(a->text, b->text, len);
        return order ? order : (a->len > b->len) - (a->len < b->len);
    }
    sr_guard_work(L, 2);
    if (a->integer && b->integer) return (a->i > b->i) - (a->i < b->i);
    if (a->integer) return compare_mixed(a->i, b->n);
    if (b->integer) return -compare_mixed(b->i, a->n);
    return (a->n > b->n) - (a->n < b->n);
}

static void sift(lua_State *L, struct key *keys, size_t root, size_t n) {
    struct key key = keys[root];
    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= n) break;
        if (child + 1 < n && compare_keys(L, &keys[child], &keys[child + 1]) < 0) child++;
        if (compare_keys(L, &key, &keys[child]) >= 0) break;
        keys[root] = keys[child];
        root = child;
    }
    keys[root] = key;
}

/* Heap sort: in place, no worst case, and keys are never equal. */
static void sort_keys(lua_State *L, struct key *keys, size_t n) {
    for (size_t i = n / 2; i-- > 0;)
        sift(L, keys, i, n);
    for (size_t i = n; i-- > 1;) {
        struct key top = keys[0];
        keys[0] = keys[i];
        keys[i] = top;
        sift(L, keys, 0, i);
    }
}

/* Push a list of the keys of the table at 1, as they come; return whether in order. */
static bool list_keys(lua_State *L, lua_Integer *ret_n) {
    struct key last = {0}, key;
    bool sorted = true;
    lua_Integer n = 0;
    lua_newtable(L);
    int list = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        read_key(L, -1, &key);
        if (n > 0 && sorted) sorted = compare_keys(L, &last, &key) < 0;
        last = key;
        sr_guard_work(L, 4);
        lua_pushvalue(L, -1);
        lua_rawseti(L, list, ++n);
    }
    *ret_n = n;
    return sorted;
}

/* Replace the list on top by one that is in order. */
static void order_list(lua_State *L, lua_Integer n) {
    int list = lua_gettop(L);
    struct key *keys = lua_newuserdatauv(L, (size_t)n * sizeof *keys, 0);
    for (lua_Integer i = 0; i < n; i++) {
        lua_rawgeti(L, list, i + 1);
        read_key(L, -1, &keys[i]); /* the list keeps the string alive */
        keys[i].at = i + 1;
        lua_pop(L, 1);
    }
    sort_keys(L, keys, (size_t)n);
    lua_createtable(L, (int)n, 0);
    for (lua_Integer i = 0; i < n; i++) {
        lua_rawgeti(L, list, keys[i].at);
        lua_rawseti(L, -2, i + 1);
    }
    lua_replace(L, list);
    lua_settop(L, list);
}

/* upvalues: keys in order, the position; argument 1 is the table */
static int l_step(lua_State *L) {
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));
    lua_settop(L, 1);
    for (;;) {
        sr_guard_work(L, 1);
        if (lua_rawgeti(L, lua_upvalueindex(1), ++i) == LUA_TNIL) return 1;
        lua_pushvalue(L, -1);
        if (lua_rawget(L, 1) != LUA_TNIL) break;
        lua_pop(L, 2); /* removed in the meantime */
    }
    lua_pushinteger(L, i);
    lua_replace(L, lua_upvalueindex(2));
    return 2;
}

int sr_guard_pairs(lua_State *L) {
    lua_Integer n;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    sr_guard_work(L, 1000); /* empty slots are passed over unseen */
    if (!list_keys(L, &n)) order_list(L, n);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, l_step, 2);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/* The smallest key beyond the one given. */
int sr_guard_next(lua_State *L) {
    struct key after = {0}, best = {0}, key;
    bool first = lua_isnoneornil(L, 2), found = false;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    sr_guard_work(L, 1000);
    if (!first) read_key(L, 2, &after);
    lua_pushnil(L); /* 3: the best so far */
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        read_key(L, -1, &key);
        sr_guard_work(L, 4);
        if (!first && compare_keys(L, &key, &after) <= 0) continue;
        if (found && compare_keys(L, &key, &best) >= 0) continue;
        found = true;
        best = key;
        lua_pushvalue(L, -1);
        lua_replace(L, 3);
    }
    if (!found) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushvalue(L, 3);
    lua_pushvalue(L, 3);
    lua_rawget(L, 1);
    return 2;
}

static const luaL_Reg table_lib[] = {
    {"concat", l_concat}, {"insert", l_insert}, {"pack", l_pack}, {"remove", l_remove},
    {"sort", l_sort},     {"unpack", l_unpack}, {NULL, NULL},
};

void sr_guard_table(lua_State *L) {
    luaL_setfuncs(L, table_lib, 0);
}
