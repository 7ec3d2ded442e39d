/* main.c – the program: options that shape the VM, then lua/cli.lua as the main task.
 *
 * Permissions and the log are set before any Lua runs; every other option is Lua's
 * (lua/cli.lua), so a chunk given by -e, a script and the REPL are all tasks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "log.h"
#include "perm.h"
#include "signals.h"

enum { EXIT_USAGE = 2 };

typedef struct options {
    sr_perms *perms;
    sr_level level;
    int json;
} options;

/* The flags of our own that may stand before the script: 1 taken, 0 not ours, -1 wrong. */
static int take_flag(options *opts, const char *flag, sr_err *err) {
    const char *value = strchr(flag, '=');
    value = value ? value + 1 : "";
    if (strncmp(flag, "--allow-", 8) == 0 || strncmp(flag, "--deny-", 7) == 0 ||
        strcmp(flag, "--read-only") == 0) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(flag, "="), flag);
        return sr_perms_parse(opts->perms, name, strchr(flag, '=') ? value : NULL, err) == 0
                   ? 1
                   : -1;
    }
    if (strncmp(flag, "--log-level=", 12) == 0) {
        if (sr_log_level_of(value, &opts->level) == 0) return 1;
        return sr_fail(err, SR_USAGE, NULL,
                       "--log-level is one of debug, info, warn, error; got %s", value);
    }
    if (strcmp(flag, "--log-json") == 0) {
        opts->json = 1;
        return 1;
    }
    return 0;
}

/* Take our flags out of argv, up to the script's name; the rest keeps its order. */
static int take_flags(options *opts, int *argc, char **argv, sr_err *err) {
    int kept = 1;
    bool ours = true;
    for (int i = 1; i < *argc; i++) {
        if (ours && (argv[i][0] != '-' || strcmp(argv[i], "--") == 0)) ours = false;
        int rc = ours ? take_flag(opts, argv[i], err) : 0;
        if (rc < 0) return -1;
        if (rc > 0) continue;
        argv[kept++] = argv[i];
        bool has_value = strcmp(argv[i], "-e") == 0 || strcmp(argv[i], "-l") == 0;
        if (ours && has_value && i + 1 < *argc) argv[kept++] = argv[++i];
    }
    *argc = kept;
    argv[kept] = NULL;
    return 0;
}

static void harden(void) {
    struct rlimit limit;
#ifndef SR_SANITIZE /* the leak checker traces its own process */
    prctl(PR_SET_DUMPABLE, 0); /* keys and secrets never reach a core file */
#endif
    limit = (struct rlimit){0, 0};
    setrlimit(RLIMIT_CORE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int l_main(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "cli");
    lua_call(L, 1, 1);
    return 1;
}

/* Push cli.run and its argument, the list of words. */
static int push_main(lua_State *L, int argc, char **argv) {
    lua_pushcfunction(L, l_main);
    if (lua_pcall(L, 0, 1, 0) != LUA_OK) return -1;
    lua_getfield(L, -1, "run");
    lua_createtable(L, argc, 0);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    return 0;
}

static int complain(const sr_err *err) {
    fprintf(stderr, "secrun: %s\n", err->message);
    return err->kind == SR_USAGE ? EXIT_USAGE : EXIT_FAILURE;
}

/* cli.run returns the status; if it raised, something of ours is broken. */
static int run(sr_vm *vm, int argc, char **argv) {
    sr_err err = {0};
    bool ok;
    int nresults;
    if (push_main(vm->L, argc, argv) != 0) {
        fprintf(stderr, "secrun: %s\n", luaL_tolstring(vm->L, -1, NULL));
        return EXIT_FAILURE;
    }
    if (sr_vm_run(vm, 1, &ok, &nresults, &err) != 0) return complain(&err);
    if (vm->exiting) return vm->status;
    if (!ok) {
        fprintf(stderr, "secrun: %s\n", luaL_tolstring(vm->L, -1, NULL));
        return EXIT_FAILURE;
    }
    int status = (int)lua_tointeger(vm->L, -1);
    return status == EXIT_SUCCESS && vm->failed ? EXIT_FAILURE : status;
}

int main(int argc, char **argv) {
    options opts = {.perms = sr_perms_new(), .level = SR_INFO, .json = -1};
    sr_loop *loop = NULL;
    sr_vm *vm = NULL;
    sr_err err = {0};
    if (take_flags(&opts, &argc, argv, &err) != 0) {
        sr_perms_free(opts.perms);
        return complain(&err);
    }
    harden();
    sr_log_start(opts.level, opts.json);
    if (sr_loop_new(&loop, &err) != 0) {
        sr_perms_free(opts.perms);
        return complain(&err);
    }
    int status = EXIT_FAILURE;
    if (sr_vm_new(loop, opts.perms, &vm, &err) == 0 && sr_signals_start(vm, &err) == 0)
        status = run(vm, argc, argv);
    else
        status = complain(&err);
    sr_signals_stop();
    sr_vm_free(vm);
    sr_loop_free(loop);
    return status;
}
