/* path.c – where a path leads, whether or not its end exists.
 *
 * realpath(3) needs the file to exist, and cutting the missing end off first would miss a
 * dangling link at the cut: opening it for writing creates the file it points to. So the
 * path is walked component by component with readlink. A component that does not exist
 * ends nothing: what follows is appended as it stands, with ".." taking one back.
 *
 * What is true when it is asked can change before the file is opened; permissions are a
 * fence around scripts, not a wall against another process of the same user.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "perm.h"

enum { LINKS_MAX = 40 };

struct walk {
    char done[PATH_MAX]; /* resolved so far, "" is the root */
    char rest[PATH_MAX]; /* still to walk */
    int links;
};

static int too_long(const char *path, sr_err *err) {
    return sr_fail(err, SR_IO, "ENAMETOOLONG", "the path %.100s… is too long", path);
}

/* rest = head + "/" + what was left of rest. */
static int push_front(struct walk *w, const char *head, const char *left) {
    char joined[PATH_MAX];
    int n = snprintf(joined, sizeof joined, "%s/%s", head, left);
    if (n < 0 || (size_t)n >= sizeof joined) return -1;
    memcpy(w->rest, joined, (size_t)n + 1);
    return 0;
}

static void take_back(struct walk *w) {
    char *slash = strrchr(w->done, '/');
    *(slash ? slash : w->done) = '\0';
}

/* Append a component; a link is replaced by its target, to be walked next. */
static int step(struct walk *w, const char *name, const char *left, bool follow) {
    char target[PATH_MAX];
    size_t base = strlen(w->done), len = strlen(name);
    if (base + len + 2 > sizeof w->done) return -1;
    w->done[base] = '/';
    memcpy(w->done + base + 1, name, len + 1);
    ssize_t n = follow ? readlink(w->done, target, sizeof target - 1) : -1;
    if (n < 0) return push_front(w, "", left) ? -1 : 0;
    target[n] = '\0';
    if (++w->links > LINKS_MAX) return -1;
    w->done[*target == '/' ? 0 : base] = '\0';
    return push_front(w, target, left);
}

static int walk(struct walk *w, bool follow_last) {
    for (;;) {
        char *name = w->rest + strspn(w->rest, "/");
        if (!*name) return 0;
        char copy[NAME_MAX + 1];
        size_t len = strcspn(name, "/");
        if (len > NAME_MAX) return -1;
        memcpy(copy, name, len);
        copy[len] = '\0';
        char left[PATH_MAX];
        const char *after = name + len;
        memcpy(left, after + strspn(after, "/"), strlen(after + strspn(after, "/")) + 1);
        bool last = !*left;
        if (strcmp(copy, ".") == 0 || strcmp(copy, "..") == 0) {
            if (copy[1] == '.') take_back(w);
            if (push_front(w, "", left)) return -1;
        } else if (step(w, copy, left, !last || follow_last)) {
            return -1;
        }
    }
}

int sr_path_resolve(const char *path, bool follow_last, char *ret_path, size_t size,
                    sr_err *err) {
    struct walk w = {.links = 0};
    char cwd[PATH_MAX] = "";
    if (*path != '/' && !getcwd(cwd, sizeof cwd))
        return sr_fail_errno(err, errno, "the working directory is gone");
    int n = snprintf(w.rest, sizeof w.rest, "%s/%s", cwd, path);
    if (n < 0 || (size_t)n >= sizeof w.rest) return too_long(path, err);
    if (walk(&w, follow_last)) {
        if (w.links > LINKS_MAX)
            return sr_fail(err, SR_IO, "ELOOP", "%.200s: too many symbolic links", path);
        return too_long(path, err);
    }
    const char *done = *w.done ? w.done : "/";
    if (strlen(done) >= size) return too_long(path, err);
    memcpy(ret_path, done, strlen(done) + 1);
    return 0;
}
