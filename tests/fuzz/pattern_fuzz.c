/* pattern_fuzz.c – the bound on what a pattern may cost, against Lua's own matcher.
 *
 * One input is a pattern, a NUL and a subject. What the bound lets pass must end soon in
 * string.find, string.match and string.gsub.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

static lua_State *L;

/* Call string.<name>(subject, pattern, extra…). */
static void call(const char *name, const char *subject, size_t len, const char *pattern,
                 const char *extra) {
    int64_t began = sr_cpu_thread();
    lua_settop(L, 1);
    lua_getfield(L, 1, name);
    lua_pushlstring(L, subject, len);
    lua_pushstring(L, pattern);
    if (extra) lua_pushstring(L, extra);
    (void)lua_pcall(L, extra ? 3 : 2, 0, 0); /* a pattern may be refused */
    MUST(sr_cpu_thread() - began < 2 * SR_NS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = memchr(data, 0, size);
    if (!L) {
        MUST((L = luaL_newstate()));
        luaL_requiref(L, "string", luaopen_string, 0);
    }
    if (!zero || zero - data > SR_PATTERN_SIZE) return 0;
    const char *pattern = (const char *)data, *subject = (const char *)zero + 1;
    size_t pattern_len = (size_t)(zero - data), len = size - pattern_len - 1;
    if (len > SR_PATTERN_SUBJECT) return 0;
    double cost = sr_pattern_cost(pattern, pattern_len, subject, len, true);
    if (cost > SR_PATTERN_STEPS) return 0;
    if (cost < 0) return 0;
    call("find", subject, len, pattern, NULL);
    call("match", subject, len, pattern, NULL);
    call("gsub", subject, len, pattern, "x");
    return 0;
}
