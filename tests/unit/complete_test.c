/* complete_test.c – what Tab offers, found without running any Lua. */
#include "repl.h"
#include "unit.h"
#include "vm.h"

/* The words for a line, joined by spaces; the word begins behind the last break. */
static const char *offered(const char *setup, const char *line) {
    static char text[4096];
    sr_loop *loop;
    sr_vm *vm;
    sr_err err;
    text[0] = '\0';
    if (sr_loop_new(&loop, &err) != 0) return "no loop";
    if (sr_vm_new(loop, NULL, &vm, &err) != 0) return "no vm";
    if (luaL_dostring(vm->L, setup)) return lua_tostring(vm->L, -1);
    size_t start = strlen(line);
    while (start > 0 && !strchr(" \"'({", line[start - 1]))
        start--;
    char **words = sr_complete(vm, line, start);
    for (char **word = words; word && *word; word++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s",
                 word == words ? "" : " ", *word);
    sr_complete_free(words);
    sr_vm_free(vm);
    sr_loop_free(loop);
    return text;
}

TEST(globals_and_keywords) {
    CHECK_STR(offered("", "coll"), "collectgarbage");
    CHECK_STR(offered("elsewhere = 1", "else"), "else elseif elsewhere");
}

TEST(fields_through_tables) {
    CHECK_STR(offered("a = {b = {one = 1, only = 2, two = 3}}", "print(a.b.on"),
              "a.b.one a.b.only");
    CHECK_STR(offered("a = 5", "a.b.c"), "");
}

TEST(inherited_fields) {
    static const char setup[] = "base = {close = print, count = 1}"
                                "a = setmetatable({closed = true}, {__index = base})";
    CHECK_STR(offered(setup, "a.clo"), "a.close a.closed");
    CHECK_STR(offered(setup, "a:c"), "a:close");
}

TEST(methods_of_userdata_and_strings) {
    CHECK_STR(offered("", "io.stdout:setv"), "io.stdout:setvbuf");
    CHECK_STR(offered("s = 'x'", "s:low"), "s:lower");
}

TEST(an_index_function_is_not_called) {
    CHECK_STR(offered("a = setmetatable({}, {__index = function() error 'called' end})",
                      "a.b.c"),
              "");
}

TEST(a_loop_of_metatables_ends) {
    CHECK_STR(offered("a = {} setmetatable(a, {__index = a})", "a.x"), "");
}

TEST(names_that_are_no_names_are_left_out) {
    CHECK_STR(offered("a = {['b c'] = 1, [1] = 2, __private = 3, bc = 4}", "a."), "a.bc");
}

TEST(modules_inside_require) {
    CHECK_STR(offered("", "require \"progr"), "progress");
    CHECK_STR(offered("", "x = require('task"), "task");
}
