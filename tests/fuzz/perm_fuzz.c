/* perm_fuzz.c – hosts, networks and paths from hostile bytes.
 *
 * One input is a target. A host that parses is covered by itself and by "*"; a resolved
 * path is absolute, has no "." or ".." in it, and resolves to itself.
 */
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "perm.h"
#include "perm_net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

static void check_net(const char *text) {
    sr_net net, any;
    if (sr_net_parse(text, &net) || net.kind == SR_NET_UNIX) return;
    MUST(sr_net_parse("*", &any) == 0);
    MUST(sr_net_covers(&any, &net));
    if (net.kind == SR_NET_NAME || net.kind == SR_NET_ADDRESS)
        MUST(sr_net_covers(&net, &net));
}

static void check_path(const char *text) {
    char path[PATH_MAX], again[PATH_MAX];
    sr_err err = {0};
    if (sr_path_resolve(text, true, path, sizeof path, &err)) return;
    MUST(path[0] == '/' && !strstr(path, "//"));
    MUST(!strstr(path, "/./") && !strstr(path, "/../"));
    MUST(sr_path_resolve(path, true, again, sizeof again, &err) == 0);
    MUST(strcmp(path, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char text[2 * PATH_MAX];
    if (size >= sizeof text) return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    check_net(text);
    check_path(text);
    return 0;
}
