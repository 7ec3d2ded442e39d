/* perm_test.c – permissions: lists, paths through links, hosts and addresses, programs.
 */
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "perm.h"
#include "perm_net.h"
#include "unit.h"

/* Permissions from flags separated by blanks; a flag without '=' has no value. */
static sr_perms *perms_of(const char *flags) {
    sr_perms *perms = sr_perms_new();
    sr_err err = {0};
    char copy[1024], *save, *flag;
    snprintf(copy, sizeof copy, "%s", flags);
    for (flag = strtok_r(copy, " ", &save); flag; flag = strtok_r(NULL, " ", &save)) {
        char *value = strchr(flag, '=');
        if (value) *value++ = '\0';
        if (sr_perms_parse(perms, flag, value, &err))
            unit_fail(__FILE__, __LINE__, "%s: %s", flag, err.message);
    }
    return perms;
}

static bool allowed(const char *flags, sr_perm what, const char *target) {
    sr_perms *perms = perms_of(flags);
    sr_err err = {0};
    int rc = sr_perms_check(perms, what, target, &err);
    sr_perms_free(perms);
    if (rc) CHECK_INT(err.kind, SR_DENIED);
    return rc == 0;
}

static bool net(const char *flags, const char *target) {
    return allowed(flags, SR_PERM_NET, target);
}

static const char *why(const char *flags, sr_perm what, const char *target) {
    static sr_err err;
    sr_perms *perms = perms_of(flags);
    err = (sr_err){0};
    (void)sr_perms_check(perms, what, target, &err);
    sr_perms_free(perms);
    return err.message;
}

/* A fresh folder to be removed by the caller's own steps; its real path. */
static const char *fresh_folder(void) {
    static char real[PATH_MAX];
    char name[] = "/tmp/perm_test_XXXXXX";
    CHECK(mkdtemp(name));
    CHECK(realpath(name, real));
    return real;
}

static const char *join(const char *folder, const char *name) {
    static char paths[32][PATH_MAX];
    static int at;
    char joined[PATH_MAX], *path = paths[at++ % 32];
    snprintf(joined, sizeof joined, "%.2000s/%.1000s", folder, name);
    memcpy(path, joined, sizeof joined);
    return path;
}

static const char *flag(const char *name, const char *value) {
    static char text[PATH_MAX + 64];
    snprintf(text, sizeof text, "%s=%s", name, value);
    return text;
}

TEST(perm_everything_is_allowed_without_flags) {
    CHECK(net("", "example.com:443"));
    CHECK(allowed("", SR_PERM_RUN, "sh"));
    CHECK_INT(sr_perms_check(NULL, SR_PERM_READ, "/etc/passwd", NULL), 0);
    CHECK(!sr_perms_limited(NULL));
}

TEST(perm_one_flag_leaves_the_others_alone) {
    CHECK(!net("--allow-net=a.example", "b.example:443"));
    CHECK(allowed("--allow-net=a.example", SR_PERM_READ, "/etc/passwd"));
}

TEST(perm_empty_list_allows_nothing) {
    CHECK(!net("--allow-net=", "localhost:80"));
    CHECK(!allowed("--allow-run=", SR_PERM_RUN, "true"));
}

TEST(perm_flags_of_one_kind_add_up) {
    CHECK(net("--allow-net=a.example --allow-net=b.example", "b.example:1"));
    CHECK(net("--allow-net=a.example --allow-net=b.example", "a.example:1"));
}

TEST(perm_net_hosts_and_ports) {
    CHECK(net("--allow-net=a.example:443", "a.example:443"));
    CHECK(!net("--allow-net=a.example:443", "a.example:80"));
    CHECK(net("--allow-net=a.example", "a.example:80"));
    CHECK(net("--allow-net=A.Example", "a.eXample.:80"));
    CHECK(!net("--allow-net=a.example", "xa.example:80"));
    CHECK(net("--allow-net=*", "anything:80"));
    CHECK(!net("--allow-net=*:443", "anything:80"));
}

TEST(perm_net_suffix_is_below_the_domain_only) {
    CHECK(net("--allow-net=*.sectigo.com", "hard.cert-manager.sectigo.com:443"));
    CHECK(!net("--allow-net=*.sectigo.com", "sectigo.com:443"));
    CHECK(!net("--allow-net=*.sectigo.com", "evilsectigo.com:443"));
    CHECK(!net("--allow-net=*.sectigo.com", "sectigo.com.evil.net:443"));
}

TEST(perm_net_networks) {
    CHECK(net("--allow-net=10.0.0.0/8", "10.255.1.2:443"));
    CHECK(!net("--allow-net=10.0.0.0/8", "11.0.0.1:443"));
    CHECK(!net("--allow-net=10.0.0.0/8", "ten.example:443"));
    CHECK(net("--allow-net=10.0.0.0/8:443", "10.1.1.1:443"));
    CHECK(!net("--allow-net=10.0.0.0/8:443", "10.1.1.1:80"));
    CHECK(net("--allow-net=192.168.1.128/25", "192.168.1.200:1"));
    CHECK(!net("--allow-net=192.168.1.128/25", "192.168.1.100:1"));
    CHECK(net("--allow-net=[2001:db8::]/32:443", "[2001:db8:1::1]:443"));
    CHECK(!net("--allow-net=2001:db8::/32", "[2001:db9::1]:443"));
    CHECK(net("--allow-net=::1", "[::1]:8080"));
    CHECK(net("--allow-net=0.0.0.0/0", "8.8.8.8:53"));
}

TEST(perm_net_spellings_of_one_address_are_one) {
    static const char *const spellings[] = {
        "127.0.0.1:80",          "127.1:80",           "0x7f.0.0.1:80",  "2130706433:80",
        "[::ffff:127.0.0.1]:80", "[::ffff:7f00:1]:80", "017700000001:80"};
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        CHECK(!net("--deny-net=127.0.0.0/8", spellings[i]));
        CHECK(net("--allow-net=127.0.0.1", spellings[i]));
    }
    CHECK(!net("--deny-net=fe80::/10", "[fe80::1%eth0]:80"));
}

TEST(perm_net_unix_sockets_are_paths) {
    CHECK(net("--allow-net=unix:/run/secrun", "unix:/run/secrun/control.sock"));
    CHECK(!net("--allow-net=unix:/run/secrun", "unix:/run/other.sock"));
    CHECK(!net("--allow-net=*", "unix:/run/other.sock"));
    CHECK(!net("--allow-net=unix:/run/secrun", "run:80"));
}

TEST(perm_net_peer_is_allowed_by_name_or_address_and_denied_by_either) {
    sr_perms *by_name = perms_of("--allow-net=db.example:5432");
    sr_perms *by_address = perms_of("--allow-net=10.0.0.0/8");
    sr_perms *denied = perms_of("--allow-net=db.example --deny-net=10.0.0.0/8");
    sr_err err = {0};
    CHECK_INT(sr_perms_check_peer(by_name, "db.example:5432", "10.1.1.1:5432", &err), 0);
    CHECK_INT(sr_perms_check_peer(by_address, "db.example:5432", "10.1.1.1:5432", &err),
              0);
    CHECK_INT(sr_perms_check_peer(denied, "db.example:5432", "10.1.1.1:5432", &err), -1);
    CHECK_INT(sr_perms_check_peer(denied, "db.example:5432", "11.1.1.1:5432", &err), 0);
    sr_perms_free(by_name);
    sr_perms_free(by_address);
    sr_perms_free(denied);
}

TEST(perm_deny_wins) {
    CHECK(!net("--allow-net=*.example --deny-net=bad.example", "bad.example:1"));
    CHECK(net("--allow-net=*.example --deny-net=bad.example", "good.example:1"));
    CHECK(!net("--deny-net --allow-net=*", "good.example:1"));
    CHECK(!allowed("--allow-read=/etc --deny-read=/etc/shadow", SR_PERM_READ,
                   "/etc/shadow"));
    CHECK(allowed("--allow-read=/etc --deny-read=/etc/shadow", SR_PERM_READ,
                  "/etc/passwd"));
}

TEST(perm_paths_are_compared_by_component) {
    CHECK(allowed("--allow-read=/usr/lib", SR_PERM_READ, "/usr/lib"));
    CHECK(allowed("--allow-read=/usr/lib", SR_PERM_READ, "/usr/lib/x/y"));
    CHECK(allowed("--allow-read=/usr/lib/", SR_PERM_READ, "/usr//lib/./x"));
    CHECK(!allowed("--allow-read=/usr/lib", SR_PERM_READ, "/usr/library"));
    CHECK(!allowed("--allow-read=/usr/lib", SR_PERM_READ, "/usr/lib/../share"));
    CHECK(!allowed("--allow-read=/usr/lib", SR_PERM_READ, "/usr/lib/none/../../share"));
    CHECK(allowed("--allow-read=/", SR_PERM_READ, "/anything"));
}

TEST(perm_links_do_not_lead_out) {
    const char *folder = fresh_folder();
    const char *in = join(folder, "in"), *out = join(folder, "out");
    const char *link = join(in, "link"), *dangling = join(in, "dangling");
    CHECK(mkdir(in, 0700) == 0 && mkdir(out, 0700) == 0);
    CHECK(symlink("../out", link) == 0);
    CHECK(symlink(join(out, "new"), dangling) == 0);
    CHECK(allowed(flag("--allow-write", in), SR_PERM_WRITE, join(in, "new")));
    CHECK(!allowed(flag("--allow-write", in), SR_PERM_WRITE, join(link, "file")));
    CHECK(!allowed(flag("--allow-write", in), SR_PERM_WRITE, dangling));
    CHECK(!allowed(flag("--allow-write", in), SR_PERM_WRITE, join(link, "../in/../x")));
    CHECK(allowed(flag("--allow-write", out), SR_PERM_WRITE, join(link, "file")));
    CHECK(allowed(flag("--allow-write", link), SR_PERM_WRITE, join(out, "file")));
    CHECK(unlink(link) == 0 && unlink(dangling) == 0);
    CHECK(rmdir(in) == 0 && rmdir(out) == 0 && rmdir(folder) == 0);
}

TEST(perm_links_in_a_circle_end) {
    const char *folder = fresh_folder(), *a = join(folder, "a"), *b = join(folder, "b");
    char path[PATH_MAX];
    sr_err err = {0};
    CHECK(symlink("b", a) == 0 && symlink("a", b) == 0);
    CHECK_INT(sr_path_resolve(join(a, "x"), true, path, sizeof path, &err), -1);
    CHECK_STR(err.code, "ELOOP");
    CHECK_INT(sr_path_resolve(a, false, path, sizeof path, &err), 0);
    CHECK_STR(path, a);
    CHECK(unlink(a) == 0 && unlink(b) == 0 && rmdir(folder) == 0);
}

TEST(perm_path_of_what_does_not_exist) {
    char path[PATH_MAX];
    sr_err err = {0};
    CHECK_INT(sr_path_resolve("/no/such/./folder/../file", true, path, sizeof path, &err),
              0);
    CHECK_STR(path, "/no/such/file");
    CHECK_INT(sr_path_resolve("/../..", true, path, sizeof path, &err), 0);
    CHECK_STR(path, "/");
    static char longest[PATH_MAX * 2];
    memset(longest, 'a', sizeof longest - 1);
    CHECK_INT(sr_path_resolve(longest, true, path, sizeof path, &err), -1);
    CHECK_STR(err.code, "ENAMETOOLONG");
}

TEST(perm_programs_by_name_and_path) {
    CHECK(allowed("--allow-run=true", SR_PERM_RUN, "true"));
    CHECK(!allowed("--allow-run=true", SR_PERM_RUN, "false"));
    CHECK(!allowed("--allow-run=true", SR_PERM_RUN, "/tmp/true"));
    CHECK(allowed("--allow-run=no-such-program", SR_PERM_RUN, "no-such-program"));
}

TEST(perm_program_links_are_followed_for_deny_only) {
    const char *folder = fresh_folder(), *one = join(folder, "one"),
               *two = join(folder, "two");
    CHECK(symlink("/bin/sh", one) == 0 && symlink("/bin/sh", two) == 0);
    CHECK(allowed(flag("--allow-run", one), SR_PERM_RUN, one));
    CHECK(!allowed(flag("--allow-run", one), SR_PERM_RUN, two));
    CHECK(!allowed(flag("--deny-run", one), SR_PERM_RUN, two));
    CHECK(!allowed(flag("--deny-run", "sh"), SR_PERM_RUN, one));
    CHECK(unlink(one) == 0 && unlink(two) == 0 && rmdir(folder) == 0);
}

TEST(perm_env_names_and_prefixes) {
    CHECK(allowed("--allow-env=HOME,SCM_*", SR_PERM_ENV, "SCM_PASSWORD"));
    CHECK(allowed("--allow-env=HOME,SCM_*", SR_PERM_ENV, "HOME"));
    CHECK(!allowed("--allow-env=HOME,SCM_*", SR_PERM_ENV, "HOMES"));
    CHECK(!allowed("--allow-env=HOME,SCM_*", SR_PERM_ENV, "PATH"));
}

TEST(perm_read_only_forbids_files_and_programs) {
    CHECK(!allowed("--read-only", SR_PERM_WRITE, "/tmp/x"));
    CHECK(!allowed("--read-only --allow-run=true", SR_PERM_RUN, "true"));
    CHECK(allowed("--read-only", SR_PERM_READ, "/etc/passwd"));
    CHECK(net("--read-only", "example.com:443"));
}

TEST(perm_denials_name_the_mend) {
    CHECK_STR(why("--allow-net=a.example", SR_PERM_NET, "b.example:443"),
              "may not connect to b.example:443: add it to --allow-net, as in "
              "--allow-net=b.example:443");
    CHECK_STR(why("--deny-env=SCM_*", SR_PERM_ENV, "SCM_PASSWORD"),
              "may not read the variable SCM_PASSWORD: --deny-env=SCM_* forbids it");
    CHECK_STR(why("--read-only", SR_PERM_WRITE, "/x"),
              "may not write /x: --read-only forbids it");
}

TEST(perm_malformed_flags_are_refused) {
    static const char *const bad[][2] = {
        {"--allow-nte", "x"},          {"--allow-net", NULL},
        {"--read-only", "yes"},        {"--allow-net", "a b"},
        {"--allow-net", "host:99999"}, {"--allow-net", "host:"},
        {"--allow-net", "1.2.3.4/33"}, {"--allow-net", "host/8"},
        {"--allow-net", "[::1"},       {"--allow-net", "a.*.b"},
        {"--allow-net", "host:80x"},   {"--allow-net", "unix:"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sr_perms *perms = sr_perms_new();
        sr_err err = {0};
        CHECK_INT(sr_perms_parse(perms, bad[i][0], bad[i][1], &err), -1);
        CHECK_INT(err.kind, SR_USAGE);
        sr_perms_free(perms);
    }
}

TEST(perm_a_copy_allows_the_same_and_lives_on_its_own) {
    sr_perms *perms =
        perms_of("--allow-net=*.a.example --deny-net=bad.a.example --read-only "
                 "--allow-run=true --allow-read=/etc");
    sr_perms *copy = sr_perms_copy(perms);
    sr_err err = {0};
    sr_perms_free(perms);
    CHECK(copy && sr_perms_limited(copy));
    CHECK_INT(sr_perms_check(copy, SR_PERM_NET, "x.a.example:1", &err), 0);
    CHECK_INT(sr_perms_check(copy, SR_PERM_NET, "bad.a.example:1", &err), -1);
    CHECK_INT(sr_perms_check(copy, SR_PERM_READ, "/etc/passwd", &err), 0);
    CHECK_INT(sr_perms_check(copy, SR_PERM_WRITE, "/tmp/x", &err), -1);
    sr_perms_free(copy);
}

/* ---- needs */

static int l_narrow(lua_State *L) {
    sr_perms_narrow(L, 2, lua_touserdata(L, 1));
    return 0;
}

/* Narrow by the table that the Lua expression makes. */
static int narrow(sr_perms *perms, const char *needs) {
    lua_State *L = luaL_newstate();
    char text[512];
    snprintf(text, sizeof text, "return %s", needs);
    lua_pushcfunction(L, l_narrow);
    lua_pushlightuserdata(L, perms);
    CHECK_INT(luaL_loadstring(L, text), LUA_OK);
    lua_call(L, 0, 1);
    int status = lua_pcall(L, 2, 0, 0);
    lua_close(L);
    return status;
}

static bool narrowed(const char *flags, const char *needs, sr_perm what,
                     const char *target) {
    sr_perms *perms = perms_of(flags);
    sr_err err = {0};
    CHECK_INT(narrow(perms, needs), LUA_OK);
    int rc = sr_perms_check(perms, what, target, &err);
    sr_perms_free(perms);
    return rc == 0;
}

TEST(perm_needs_narrow) {
    const char *needs = "{net = {'*.sectigo.com'}, run = false, store = 'write'}";
    CHECK(narrowed("", needs, SR_PERM_NET, "x.sectigo.com:443"));
    CHECK(!narrowed("", needs, SR_PERM_NET, "example.com:443"));
    CHECK(!narrowed("", needs, SR_PERM_RUN, "true"));
    CHECK(narrowed("", needs, SR_PERM_READ, "/etc/passwd"));
    CHECK(narrowed("", "{net = true}", SR_PERM_NET, "example.com:443"));
    CHECK(!narrowed("", "{net = {}}", SR_PERM_NET, "example.com:443"));
}

TEST(perm_needs_cannot_widen) {
    CHECK(!narrowed("--allow-net=a.example", "{net = '*'}", SR_PERM_NET, "b.example:1"));
    CHECK(narrowed("--allow-net=a.example", "{net = '*'}", SR_PERM_NET, "a.example:1"));
    CHECK(!narrowed("--deny-net=a.example", "{net = 'a.example'}", SR_PERM_NET,
                    "a.example:1"));
    CHECK(!narrowed("--read-only", "{write = '/tmp'}", SR_PERM_WRITE, "/tmp/x"));
}
