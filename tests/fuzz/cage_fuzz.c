/* cage_fuzz.c – hostile chunks in a cage.
 *
 * One input is the text of a chunk. Whatever it says, the cage ends within its time and
 * memory, fails with usage or limit, and closes.
 */
#include <stdint.h>
#include <stdlib.h>

#include "cage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

enum { MEMORY = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sr_cage_limits limits = {.memory = MEMORY, .time = 0.05, .what = "fuzz"};
    sr_cage_stats stats;
    sr_err err = {0};
    lua_State *L = luaL_newstate();
    sr_cage *cage = sr_cage_new(&limits, 1700000000, &err);
    MUST(L && cage);
    int rc = sr_cage_load(cage, "fuzz.lua", (const char *)data, size, &err);
    MUST(rc == 0 || err.kind == SR_USAGE || err.kind == SR_LIMIT);
    if (rc == 0) {
        int top = lua_gettop(L);
        rc = sr_cage_globals(cage, L, &err);
        MUST(lua_gettop(L) == top + (rc == 0));
        rc = sr_cage_decisions(cage, L, &err);
        MUST(rc == 0 || err.kind == SR_USAGE || err.kind == SR_LIMIT);
    }
    sr_cage_get_stats(cage, &stats);
    MUST(stats.memory_peak <= MEMORY);
    MUST(stats.cpu < SR_NS);
    sr_cage_free(cage);
    lua_close(L);
    return 0;
}
