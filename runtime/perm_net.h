/* perm_net.h – hosts, suffixes and networks as permissions name them (internal, pure). */
#ifndef SR_PERM_NET_H
#define SR_PERM_NET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct sr_net {
    enum { SR_NET_ANY, SR_NET_NAME, SR_NET_SUFFIX, SR_NET_ADDRESS, SR_NET_UNIX } kind;
    char host[256];   /* NAME, SUFFIX: lower case, no final dot; "x.y" for "*.x.y" */
    uint8_t addr[16]; /* ADDRESS: IPv4 as ::ffff:a.b.c.d */
    int bits;         /* ADDRESS: length of the prefix, 128 for one address */
    int port;         /* 0: any */
    char path[256];   /* UNIX: as written */
} sr_net;

/* "host", "host:443", "*.suffix:443", "*", "10.0.0.0/8", "[2001:db8::]/32", "[::1]:443",
 * "2001:db8::1", "unix:/run/x.sock". 0 or -1. */
int sr_net_parse(const char *text, sr_net *ret_net);
/* Is the target (a name or one address) covered by the rule? unix paths are compared by
 * the caller. */
bool sr_net_covers(const sr_net *rule, const sr_net *target);

#endif
