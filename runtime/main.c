/* main.c – the program: options that shape the VM, then lua/cli.lua as the main task.
 *
 * Permissions and the log are set before any Lua runs; every other option is Lua's
 * (lua/cli.lua), so a chunk given by -e, a script and the REPL are all tasks. The words
 * stay together in argv: lua/cli.lua skips the options taken here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "log.h"
#include "perm.h"
#include "signals.h"
#include "terminal.h"

enum { EXIT_USAGE = 2 };

typedef struct options {
    sr_perms *perms;
    sr_level level;
    int json;
    bool no_env; /* -E */
} options;

static int take_level(options *opts, const char *value, sr_err *err) {
    if (value && sr_log_level_of(value, &opts->level) == 0) return 1;
    return sr_fail(err, SR_USAGE, NULL,
                   "--log-level= is one of debug, info, warn, error; got %s",
                   value ? value : "nothing");
}

/* The flags of our own that may stand before the script: 1 taken, 0 not ours, -1 wrong.
 */
static int take_flag(options *opts, const char *flag, sr_err *err) {
    char name[64];
    const char *value = strchr(flag, '=');
    snprintf(name, sizeof name, "%.*s", (int)strcspn(flag, "="), flag);
    if (value) value++;
    if (strncmp(name, "--allow-", 8) == 0 || strncmp(name, "--deny-", 7) == 0 ||
        strcmp(name, "--read-only") == 0)
        return sr_perms_parse(opts->perms, name, value, err) == 0 ? 1 : -1;
    if (strcmp(name, "--log-level") == 0) return take_level(opts, value, err);
    if (strcmp(flag, "--log-json") == 0) return opts->json = 1;
    if (strcmp(flag, "--log-text") == 0) return opts->json = 0, 1;
    if (strcmp(flag, "-E") == 0) return opts->no_env = true;
    return 0;
}

/* Read our flags, up to the script's name. */
static int take_flags(options *opts, char **argv, sr_err *err) {
    for (int i = 1; argv[i] && argv[i][0] == '-' && argv[i][1]; i++) {
        if (strcmp(argv[i], "--") == 0) break;
        if (take_flag(opts, argv[i], err) < 0) return -1;
        bool has_value = strcmp(argv[i], "-e") == 0 || strcmp(argv[i], "-l") == 0 ||
                         strcmp(argv[i], "--sandbox-certs") == 0;
        if (has_value && argv[i + 1]) i++;
    }
    return 0;
}

static void harden(void) {
    struct rlimit limit = {0, 0};
#ifndef SR_SANITIZE            /* the leak checker traces its own process */
    prctl(PR_SET_DUMPABLE, 0); /* keys and secrets never reach a core file */
#endif
    setrlimit(RLIMIT_CORE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Make the VM; with -E, without Lua's own variables. Child processes still get them. */
static int make_vm(sr_loop *loop, const options *opts, sr_vm **ret_vm, sr_err *err) {
    static const char *const names[] = {"LUA_PATH", "LUA_PATH_5_4", "LUA_CPATH",
                                        "LUA_CPATH_5_4"};
    enum { NAMES = sizeof names / sizeof *names };
    char *values[NAMES] = {0};
    for (int i = 0; opts->no_env && i < NAMES; i++) {
        const char *value = getenv(names[i]);
        values[i] = value ? strdup(value) : NULL;
        unsetenv(names[i]);
    }
    int rc = sr_vm_new(loop, opts->perms, ret_vm, err);
    for (int i = 0; i < NAMES; i++) {
        if (values[i]) setenv(names[i], values[i], 1);
        free(values[i]);
    }
    return rc;
}

static int l_main(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "cli");
    lua_call(L, 1, 1);
    return 1;
}

/* Push cli.run and its argument, the list of words. */
static int push_main(lua_State *L, char **argv) {
    lua_pushcfunction(L, l_main);
    if (lua_pcall(L, 0, 1, 0) != LUA_OK) return -1;
    lua_getfield(L, -1, "run");
    lua_newtable(L);
    for (int i = 0; argv[i]; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    return 0;
}

static int complain(const sr_err *err) {
    fprintf(stderr, "secrun: %s\n", err->message);
    return err->kind == SR_USAGE ? EXIT_USAGE : EXIT_FAILURE;
}

static int complain_value(lua_State *L) {
    fprintf(stderr, "secrun: %s\n", luaL_tolstring(L, -1, NULL));
    return EXIT_FAILURE;
}

/* cli.run returns the status; if it raised, something of ours is broken. */
static int run(sr_vm *vm, char **argv) {
    sr_err err = {0};
    bool ok;
    int nresults;
    if (push_main(vm->L, argv) != 0) return complain_value(vm->L);
    if (sr_vm_run(vm, 1, &ok, &nresults, &err) != 0) return complain(&err);
    if (vm->exiting) return vm->status;
    if (!ok) return complain_value(vm->L);
    int status = (int)lua_tointeger(vm->L, -1);
    return status == EXIT_SUCCESS && vm->failed ? EXIT_FAILURE : status;
}

static int run_program(options *opts, char **argv) {
    sr_loop *loop = NULL;
    sr_vm *vm = NULL;
    sr_err err = {0};
    if (take_flags(opts, argv, &err) != 0 || sr_loop_new(&loop, &err) != 0) {
        sr_perms_free(opts->perms);
        return complain(&err);
    }
    harden();
    sr_log_start(opts->level, opts->json);
    int status = EXIT_FAILURE;
    if (make_vm(loop, opts, &vm, &err) == 0 && sr_signals_start(vm, &err) == 0)
        status = run(vm, argv);
    else
        status = complain(&err);
    sr_signals_stop();
    sr_vm_free(vm);
    sr_loop_free(loop);
    return status;
}

int main(int argc, char **argv) {
    options opts = {.perms = sr_perms_new(), .level = SR_INFO, .json = -1};
    sr_err err = {0};
    (void)argc;
    sr_terminal_start();
    int status = run_program(&opts, argv);
    if (sr_terminal_finish(&err) != 0 && complain(&err) && status == EXIT_SUCCESS)
        status = EXIT_FAILURE;
    return status;
}
