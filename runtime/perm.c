/* perm.c – what a VM may touch.
 *
 * For each of net, read, write, run and env there are lists of what is allowed and one of
 * what is denied. No list: everything. The command line makes one list, each `needs` one
 * more; a target must be found in every one of them, and in the denied list not at all.
 *
 * Paths are compared after both were resolved (path.c). A program is compared by the path
 * it is found at, its last link not followed, so that allowing one name of a multi-call
 * binary does not allow the others; a denied program is denied under all its names.
 */
#include "perm.h"
#include "practice.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "perm_net.h"

struct rule {
    struct rule *next;
    sr_net net;
    char *path;   /* READ, WRITE, unix: resolved; RUN: where it is found */
    char *direct; /* RUN: with its last link followed */
    char text[];  /* as written; ENV compares it */
};

/* One list of allowed targets. */
struct layer {
    struct layer *next;
    struct rule *rules;
    bool needs; /* from a script's needs, else from the flags */
};

struct set {
    struct layer *layers;
    struct rule *denied;
    bool deny_all;
};

struct sr_perms {
    struct set sets[SR_PERMS];
    bool read_only;
};

static const struct {
    const char *name, *verb, *example;
} words[SR_PERMS] = {
    [SR_PERM_NET] = {"net", "connect to", "host:port"},
    [SR_PERM_READ] = {"read", "read", "path"},
    [SR_PERM_WRITE] = {"write", "write", "path"},
    [SR_PERM_RUN] = {"run", "run", "program"},
    [SR_PERM_ENV] = {"env", "read the variable", "NAME"},
};

static int no_memory(sr_err *err) {
    return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for permissions");
}

/* ---------------------------------------------------------------- life */

sr_perms *sr_perms_new(void) {
    return calloc(1, sizeof(sr_perms));
}

static void free_rules(struct rule *rule) {
    while (rule) {
        struct rule *next = rule->next;
        free(rule->path);
        free(rule->direct);
        free(rule);
        rule = next;
    }
}

void sr_perms_free(sr_perms *perms) {
    if (!perms) return;
    for (int what = 0; what < SR_PERMS; what++) {
        struct set *set = &perms->sets[what];
        free_rules(set->denied);
        while (set->layers) {
            struct layer *next = set->layers->next;
            free_rules(set->layers->rules);
            free(set->layers);
            set->layers = next;
        }
    }
    free(perms);
}

static int copy_rules(const struct rule *from, struct rule **to) {
    for (; from; from = from->next) {
        size_t size = sizeof *from + strlen(from->text) + 1;
        struct rule *rule = malloc(size);
        if (!rule) return -1;
        memcpy(rule, from, size);
        rule->next = NULL;
        rule->path = from->path ? strdup(from->path) : NULL;
        rule->direct = from->direct ? strdup(from->direct) : NULL;
        *to = rule;
        to = &rule->next;
        if ((from->path && !rule->path) || (from->direct && !rule->direct)) return -1;
    }
    return 0;
}

static int copy_set(const struct set *from, struct set *to) {
    struct layer **at = &to->layers;
    to->deny_all = from->deny_all;
    if (copy_rules(from->denied, &to->denied)) return -1;
    for (const struct layer *layer = from->layers; layer; layer = layer->next) {
        *at = calloc(1, sizeof **at);
        if (!*at) return -1;
        (*at)->needs = layer->needs;
        if (copy_rules(layer->rules, &(*at)->rules)) return -1;
        at = &(*at)->next;
    }
    return 0;
}

sr_perms *sr_perms_copy(const sr_perms *perms) {
    sr_perms *copy = sr_perms_new();
    if (!copy || !perms) return copy;
    copy->read_only = perms->read_only;
    for (int what = 0; what < SR_PERMS; what++) {
        if (copy_set(&perms->sets[what], &copy->sets[what]) == 0) continue;
        sr_perms_free(copy);
        return NULL;
    }
    return copy;
}

bool sr_perms_limited(const sr_perms *perms) {
    if (!perms) return false;
    if (perms->read_only) return true;
    for (int what = 0; what < SR_PERMS; what++) {
        const struct set *set = &perms->sets[what];
        if (set->layers || set->denied || set->deny_all) return true;
    }
    return false;
}

/* ---------------------------------------------------------------- programs */

static bool is_program(const char *path) {
    return access(path, X_OK) == 0;
}

/* The path a program's name stands for: found along PATH unless it has a slash. A name
 * that is found nowhere stands for itself. */
static int locate(const char *name, bool follow, char ret_path[PATH_MAX], sr_err *err) {
    if (strchr(name, '/')) return sr_path_resolve(name, follow, ret_path, PATH_MAX, err);
    const char *dirs = getenv("PATH");
    for (const char *dir = dirs ? dirs : "/usr/bin:/bin"; *dir;) {
        char path[PATH_MAX];
        size_t len = strcspn(dir, ":");
        int n = snprintf(path, sizeof path, "%.*s/%s", (int)len, len ? dir : ".", name);
        if (n > 0 && (size_t)n < sizeof path && is_program(path))
            return sr_path_resolve(path, follow, ret_path, PATH_MAX, err);
        dir += len + (dir[len] == ':');
    }
    if (strlen(name) >= PATH_MAX)
        return sr_fail(err, SR_USAGE, "ENAMETOOLONG", "the program's name is too long");
    memcpy(ret_path, name, strlen(name) + 1);
    return 0;
}

/* ---------------------------------------------------------------- rules */

static int set_path(char **ret_path, const char *path, sr_err *err) {
    *ret_path = strdup(path);
    return *ret_path ? 0 : no_memory(err);
}

static int read_rule(struct rule *rule, sr_perm what, sr_err *err) {
    char path[PATH_MAX];
    switch (what) {
    case SR_PERM_NET:
        if (sr_net_parse(rule->text, &rule->net))
            return sr_fail(err, SR_USAGE, "permission",
                           "'%s' is neither a host, host:port, *.suffix, a network like "
                           "10.0.0.0/8 nor unix:/path",
                           rule->text);
        if (rule->net.kind != SR_NET_UNIX) return 0;
        if (sr_path_resolve(rule->net.path, true, path, sizeof path, err)) return -1;
        return set_path(&rule->path, path, err);
    case SR_PERM_READ:
    case SR_PERM_WRITE:
        if (sr_path_resolve(rule->text, true, path, sizeof path, err)) return -1;
        return set_path(&rule->path, path, err);
    case SR_PERM_RUN:
        if (locate(rule->text, false, path, err) || set_path(&rule->path, path, err))
            return -1;
        if (locate(rule->text, true, path, err)) return -1;
        return set_path(&rule->direct, path, err);
    default: return 0;
    }
}

static int add_rule(struct rule **list, sr_perm what, const char *text, size_t len,
                    sr_err *err) {
    struct rule *rule = calloc(1, sizeof *rule + len + 1);
    if (!rule) return no_memory(err);
    memcpy(rule->text, text, len);
    if (read_rule(rule, what, err)) {
        free_rules(rule);
        return -1;
    }
    rule->next = *list;
    *list = rule;
    return 0;
}

static int add_list(struct rule **list, sr_perm what, const char *value, sr_err *err) {
    while (*value) {
        size_t len = strcspn(value, ",");
        if (len > 0 && add_rule(list, what, value, len, err)) return -1;
        value += len + (value[len] == ',');
    }
    return 0;
}

/* The list that the flags fill, or a new one for a script's needs. */
static struct layer *layer_of(struct set *set, bool needs) {
    if (!needs)
        for (struct layer *layer = set->layers; layer; layer = layer->next)
            if (!layer->needs) return layer;
    struct layer *layer = calloc(1, sizeof *layer);
    if (!layer) return NULL;
    layer->needs = needs;
    layer->next = set->layers;
    set->layers = layer;
    return layer;
}

static int find_perm(const char *name) {
    for (int what = 0; what < SR_PERMS; what++)
        if (strcmp(name, words[what].name) == 0) return what;
    return -1;
}

int sr_perms_parse(sr_perms *perms, const char *flag, const char *value, sr_err *err) {
    bool deny = strncmp(flag, "--deny-", 7) == 0;
    if (strcmp(flag, "--read-only") == 0) {
        if (value) return sr_fail(err, SR_USAGE, "flag", "--read-only takes no value");
        perms->read_only = true;
        return 0;
    }
    int what =
        deny || strncmp(flag, "--allow-", 8) == 0 ? find_perm(flag + (deny ? 7 : 8)) : -1;
    if (what < 0)
        return sr_fail(err, SR_USAGE, "flag",
                       "unknown flag %s; there are --allow- and --deny- with net, read, "
                       "write, run and env, and --read-only",
                       flag);
    struct set *set = &perms->sets[what];
    if (deny && !value) {
        set->deny_all = true;
        return 0;
    }
    if (!value)
        return sr_fail(err, SR_USAGE, "flag",
                       "%s needs a list: %s=%s,…; without the flag everything is allowed",
                       flag, flag, words[what].example);
    if (deny) return add_list(&set->denied, (sr_perm)what, value, err);
    struct layer *layer = layer_of(set, false);
    return layer ? add_list(&layer->rules, (sr_perm)what, value, err) : no_memory(err);
}

/* ---------------------------------------------------------------- asking */

/* What is asked for, read once for all rules. */
struct target {
    const char *text;
    sr_net net, peer; /* peer: the resolved address */
    bool has_peer;
    char path[PATH_MAX], direct[PATH_MAX];
};

static int read_target(struct target *t, sr_perm what, sr_err *err) {
    switch (what) {
    case SR_PERM_NET:
        if (sr_net_parse(t->text, &t->net))
            return sr_fail(err, SR_DENIED, "permission", "'%s' is no host:port", t->text);
        if (t->net.kind != SR_NET_UNIX) return 0;
        return sr_path_resolve(t->net.path, true, t->path, sizeof t->path, err);
    case SR_PERM_READ:
    case SR_PERM_WRITE: return sr_path_resolve(t->text, true, t->path, PATH_MAX, err);
    case SR_PERM_RUN:
        if (locate(t->text, false, t->path, err)) return -1;
        return locate(t->text, true, t->direct, err);
    default: return 0;
    }
}

static bool is_below(const char *path, const char *root) {
    size_t len = strlen(root);
    if (strcmp(root, "/") == 0) return true;
    return strncmp(path, root, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static bool covers_name(const char *rule, const char *name) {
    size_t len = strlen(rule);
    if (len > 0 && rule[len - 1] == '*') return strncmp(rule, name, len - 1) == 0;
    return strcmp(rule, name) == 0;
}

static bool covers(const struct rule *rule, sr_perm what, const struct target *t,
                   bool deny) {
    switch (what) {
    case SR_PERM_NET:
        if (rule->path)
            return t->net.kind == SR_NET_UNIX && is_below(t->path, rule->path);
        return sr_net_covers(&rule->net, &t->net) ||
               (t->has_peer && sr_net_covers(&rule->net, &t->peer));
    case SR_PERM_READ:
    case SR_PERM_WRITE: return is_below(t->path, rule->path);
    case SR_PERM_RUN:
        return strcmp(t->path, rule->path) == 0 ||
               (deny && strcmp(t->direct, rule->direct) == 0);
    default: return covers_name(rule->text, t->text);
    }
}

static const struct rule *find(const struct rule *rule, sr_perm what,
                               const struct target *t, bool deny) {
    while (rule && !covers(rule, what, t, deny))
        rule = rule->next;
    return rule;
}

static int check(const sr_perms *perms, sr_perm what, struct target *t, sr_err *err) {
    const struct set *set = &perms->sets[what];
    const char *verb = words[what].verb, *name = words[what].name;
    if (perms->read_only && (what == SR_PERM_WRITE || what == SR_PERM_RUN))
        return sr_fail(err, SR_DENIED, "permission",
                       "may not %s %s: --read-only forbids it", verb, t->text);
    if (set->deny_all)
        return sr_fail(err, SR_DENIED, "permission",
                       "may not %s %s: --deny-%s forbids it", verb, t->text, name);
    if (!set->layers && !set->denied) return 0;
    if (read_target(t, what, err)) return -1;
    const struct rule *denied = find(set->denied, what, t, true);
    if (denied)
        return sr_fail(err, SR_DENIED, "permission",
                       "may not %s %s: --deny-%s=%s forbids it", verb, t->text, name,
                       denied->text);
    for (const struct layer *layer = set->layers; layer; layer = layer->next) {
        if (find(layer->rules, what, t, false)) continue;
        if (what == SR_PERM_NET && sr_practice_folder())
            return sr_fail(
                err, SR_DENIED, "permission",
                "may not %s %s: a run with --sandbox reaches this machine only", verb,
                t->text);
        if (layer->needs)
            return sr_fail(
                err, SR_DENIED, "permission",
                "may not %s %s: the script's `needs` does not name it; add it to "
                "%s = {…}",
                verb, t->text, name);
        return sr_fail(err, SR_DENIED, "permission",
                       "may not %s %s: add it to --allow-%s, as in --allow-%s=%s", verb,
                       t->text, name, name, t->text);
    }
    return 0;
}

/* Nothing is said about it; saves making room for a target. */
static bool is_open(const sr_perms *perms, sr_perm what) {
    if (!perms) return true;
    const struct set *set = &perms->sets[what];
    return !perms->read_only && !set->deny_all && !set->layers && !set->denied;
}

int sr_perms_check(const sr_perms *perms, sr_perm what, const char *target, sr_err *err) {
    if (is_open(perms, what)) return 0;
    struct target t = {.text = target};
    return check(perms, what, &t, err);
}

int sr_perms_check_peer(const sr_perms *perms, const char *target, const char *address,
                        sr_err *err) {
    if (is_open(perms, SR_PERM_NET)) return 0;
    struct target t = {.text = target, .has_peer = true};
    if (sr_net_parse(address, &t.peer))
        return sr_fail(err, SR_INTERNAL, NULL, "'%s' is no address", address);
    return check(perms, SR_PERM_NET, &t, err);
}

/* ---------------------------------------------------------------- needs */

static void add_need(lua_State *L, struct layer *layer, sr_perm what) {
    sr_err err = {0};
    size_t len;
    if (lua_type(L, -1) != LUA_TSTRING)
        sr_raise(L, SR_USAGE, "needs", "needs.%s: expected texts, got a %s",
                 words[what].name, luaL_typename(L, -1));
    const char *text = lua_tolstring(L, -1, &len);
    if (add_rule(&layer->rules, what, text, len, &err)) sr_throw(L, &err);
}

/* The value on top of the stack is needs[name]. */
static void narrow_one(lua_State *L, sr_perms *perms, sr_perm what) {
    if (lua_type(L, -1) == LUA_TBOOLEAN && lua_toboolean(L, -1)) return;
    struct layer *layer = layer_of(&perms->sets[what], true);
    if (!layer) luaL_error(L, "not enough memory");
    if (lua_type(L, -1) == LUA_TBOOLEAN) return;
    if (lua_type(L, -1) != LUA_TTABLE) {
        add_need(L, layer, what);
        return;
    }
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        add_need(L, layer, what);
        lua_pop(L, 1);
    }
}

void sr_perms_narrow(lua_State *L, int idx, sr_perms *perms) {
    static const char *const names[] = {"net", "read",  "write", "run",
                                        "env", "store", NULL};
    idx = lua_absindex(L, idx);
    if (!perms) sr_raise(L, SR_INTERNAL, "needs", "needs: this VM has no permissions");
    if (!lua_istable(L, idx))
        sr_raise(L, SR_USAGE, "needs", "needs: expected a table, got a %s",
                 luaL_typename(L, idx));
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        int what = find_perm(name);
        if (what >= 0) {
            narrow_one(L, perms, (sr_perm)what);
        } else if (strcmp(name, "store") != 0) {
            const char *near = sr_suggest(name, names);
            sr_raise(L, SR_USAGE, "needs", "needs.%s means nothing%s%s%s", name,
                     near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
        }
    }
}
