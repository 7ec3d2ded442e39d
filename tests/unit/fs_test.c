/* fs_test.c – files on a real disk: atomicity, modes, refusals, full and read-only disks.
 */
#include "sys/fs.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char top[64];

/* A path below a fresh folder; begin() makes it, end() removes it. */
static const char *at(const char *name) {
    static char paths[8][256];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", top, name);
    return path;
}

static void begin(void) {
    snprintf(top, sizeof top, "/tmp/fs_testXXXXXX");
    CHECK(mkdtemp(top) != NULL);
}

static void end(void) {
    sr_err err = {0};
    CHECK(sr_fs_remove_tree(top, &err) == 0);
    CHECK(access(top, F_OK) != 0);
}

static int put_text(const char *path, const char *text, sr_fs_write_opts opts,
                    sr_err *err) {
    return sr_fs_write(path, text, strlen(text), &opts, err);
}

static const sr_fs_write_opts atomic = {.mode = 0600, .atomic = true, .sync = true};

static const char *content(const char *path) {
    static char text[256];
    sr_buf buf = {0};
    sr_err err = {0};
    if (sr_fs_read(path, 200, NULL, &buf, &err)) return NULL;
    snprintf(text, sizeof text, "%s", buf.data);
    sr_buf_free(&buf);
    return text;
}

static mode_t mode_of(const char *path) {
    struct stat st;
    CHECK(lstat(path, &st) == 0);
    return st.st_mode & 07777;
}

static size_t entries(const char *path) {
    sr_buf buf = {0};
    sr_err err = {0};
    size_t n = 0;
    CHECK(sr_fs_list(path, &buf, &n, &err) == 0);
    sr_buf_free(&buf);
    return n;
}

TEST(fs_atomic_write_replaces_the_content_and_leaves_nothing_else) {
    sr_err err = {0};
    begin();
    CHECK(put_text(at("a"), "one", atomic, &err) == 0);
    CHECK_STR(content(at("a")), "one");
    CHECK(put_text(at("a"), "two", atomic, &err) == 0);
    CHECK_STR(content(at("a")), "two");
    CHECK_INT(entries(top), 1);
    end();
}

TEST(fs_mode_is_exact_whatever_the_umask) {
    sr_fs_write_opts o = atomic;
    sr_err err = {0};
    begin();
    mode_t old = umask(0077);
    o.mode = 0644;
    CHECK(put_text(at("open"), "x", o, &err) == 0);
    umask(0);
    o.mode = 0600;
    CHECK(put_text(at("shut"), "x", o, &err) == 0);
    umask(old);
    CHECK_INT(mode_of(at("open")), 0644);
    CHECK_INT(mode_of(at("shut")), 0600);
    end();
}

TEST(fs_atomic_write_replaces_a_link_and_not_its_target) {
    sr_err err = {0};
    begin();
    CHECK(put_text(at("target"), "old", atomic, &err) == 0);
    CHECK(symlink("target", at("link")) == 0);
    CHECK(put_text(at("link"), "new", atomic, &err) == 0);
    CHECK_STR(content(at("target")), "old");
    CHECK_STR(content(at("link")), "new");
    end();
}

TEST(fs_write_in_place_follows_a_link_and_keeps_the_mode) {
    sr_fs_write_opts o = {.mode = 0600};
    sr_err err = {0};
    begin();
    CHECK(put_text(at("target"), "long old text", atomic, &err) == 0);
    CHECK(chmod(at("target"), 0640) == 0);
    CHECK(symlink("target", at("link")) == 0);
    CHECK(put_text(at("link"), "new", o, &err) == 0);
    CHECK_STR(content(at("target")), "new");
    CHECK_INT(mode_of(at("target")), 0640);
    end();
}

TEST(fs_exclusive_write_is_a_conflict_when_the_name_exists) {
    sr_fs_write_opts o = atomic;
    sr_err err = {0};
    begin();
    o.exclusive = true;
    CHECK(put_text(at("a"), "one", o, &err) == 0);
    CHECK(put_text(at("a"), "two", o, &err) == -1);
    CHECK_INT(err.kind, SR_CONFLICT);
    o.atomic = false;
    CHECK(put_text(at("a"), "two", o, &err) == -1);
    CHECK_INT(err.kind, SR_CONFLICT);
    CHECK_STR(content(at("a")), "one");
    CHECK_INT(entries(top), 1);
    end();
}

TEST(fs_failed_write_names_path_and_mend_and_leaves_no_temporary_file) {
    sr_fs_write_opts o = atomic;
    sr_err err = {0};
    begin();
    CHECK(put_text(at("no/such/a"), "x", o, &err) == -1);
    CHECK_INT(err.kind, SR_NOT_FOUND);
    CHECK(strstr(err.message, at("no/such/a")));
    CHECK(mkdir(at("folder"), 0700) == 0);
    CHECK(put_text(at("folder"), "x", o, &err) == -1);
    CHECK_INT(err.kind, SR_IO);
    o.owner = "no-such-user-here";
    CHECK(put_text(at("b"), "x", o, &err) == -1);
    CHECK(strstr(err.message, "no-such-user-here"));
    CHECK(put_text(at(""), "x", atomic, &err) == -1);
    CHECK_INT(err.kind, SR_USAGE);
    CHECK_INT(entries(top), 1);
    end();
}

TEST(fs_full_disk_is_io_with_code_and_mend) {
    sr_fs_write_opts o = {.mode = 0600};
    sr_err err = {0};
    CHECK(put_text("/dev/full", "x", o, &err) == -1);
    CHECK_INT(err.kind, SR_IO);
    CHECK_STR(err.code, "ENOSPC");
    CHECK(strstr(err.message, "/dev/full") && strstr(err.message, "free some space"));
}

TEST(fs_disk_that_fills_up_keeps_the_old_content) {
    struct rlimit old, tight = {8192, 8192};
    static char large[65536];
    sr_err err = {0};
    begin();
    CHECK(put_text(at("a"), "old", atomic, &err) == 0);
    memset(large, 'x', sizeof large);
    /* RLIMIT_FSIZE makes the second write short and then fail, as a full disk does. */
    CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
    tight.rlim_max = old.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &tight) == 0);
    int rc = sr_fs_write(at("a"), large, sizeof large, &atomic, &err);
    CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
    signal(SIGXFSZ, handler);
    CHECK_INT(rc, -1);
    CHECK_STR(err.code, "EFBIG");
    CHECK_STR(content(at("a")), "old");
    CHECK_INT(entries(top), 1);
    end();
}

TEST(fs_read_only_disk_is_io_with_code_and_mend) {
    sr_err err = {0};
    (void)sr_fs_fail(&err, EROFS, "write", "/mnt/x");
    CHECK_INT(err.kind, SR_IO);
    CHECK_STR(err.code, "EROFS");
    CHECK(strstr(err.message, "/mnt/x") && strstr(err.message, "read-only"));
}

TEST(fs_read_is_bounded) {
    sr_buf buf = {0};
    sr_err err = {0};
    begin();
    CHECK(put_text(at("a"), "0123456789", atomic, &err) == 0);
    CHECK(sr_fs_read(at("a"), 10, NULL, &buf, &err) == 0);
    CHECK_INT(buf.len, 10);
    CHECK(sr_fs_read(at("a"), 9, NULL, &buf, &err) == -1);
    CHECK_INT(err.kind, SR_LIMIT);
    CHECK(sr_fs_read("/dev/zero", 100000, NULL, &buf, &err) == -1);
    CHECK_INT(err.kind, SR_LIMIT);
    CHECK(sr_fs_read(top, 10, NULL, &buf, &err) == -1);
    CHECK_STR(err.code, "EISDIR");
    sr_buf_free(&buf);
    end();
}

TEST(fs_read_takes_a_pipe_to_its_end_and_files_without_size) {
    int ends[2];
    char path[64];
    sr_buf buf = {0};
    sr_err err = {0};
    CHECK(pipe(ends) == 0 && write(ends[1], "piped", 5) == 5);
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    close(ends[1]);
    CHECK(sr_fs_read(path, 100, NULL, &buf, &err) == 0);
    CHECK_STR(buf.data, "piped");
    close(ends[0]);
    buf.len = 0;
    CHECK(sr_fs_read("/proc/self/status", 100000, NULL, &buf, &err) == 0);
    CHECK(strstr(buf.data, "Name:"));
    sr_buf_free(&buf);
}

TEST(fs_append_adds_and_makes_the_file_private) {
    sr_err err = {0};
    begin();
    CHECK(sr_fs_append(at("log"), "a\n", 2, 0600, true, &err) == 0);
    CHECK(sr_fs_append(at("log"), "b\n", 2, 0644, false, &err) == 0);
    CHECK_STR(content(at("log")), "a\nb\n");
    CHECK_INT(mode_of(at("log")), 0600);
    end();
}

TEST(fs_mkdir_with_parents_is_idempotent) {
    sr_err err = {0};
    bool made = false;
    begin();
    CHECK(sr_fs_mkdir(at("a/b/c//d/"), 0700, true, &made, &err) == 0 && made);
    CHECK_INT(mode_of(at("a/b/c/d")), 0700);
    CHECK(sr_fs_mkdir(at("a/b/c/d"), 0700, true, &made, &err) == 0 && !made);
    CHECK(sr_fs_mkdir(at("a/b"), 0700, false, &made, &err) == -1);
    CHECK_INT(err.kind, SR_CONFLICT);
    CHECK(sr_fs_mkdir(at("x/y"), 0700, false, &made, &err) == -1);
    CHECK_INT(err.kind, SR_NOT_FOUND);
    CHECK(put_text(at("file"), "", atomic, &err) == 0);
    CHECK(sr_fs_mkdir(at("file/y"), 0700, true, &made, &err) == -1);
    end();
}

TEST(fs_remove_tree_does_not_follow_links) {
    sr_err err = {0};
    bool made;
    begin();
    CHECK(sr_fs_mkdir(at("keep"), 0700, false, &made, &err) == 0);
    CHECK(put_text(at("keep/file"), "kept", atomic, &err) == 0);
    CHECK(sr_fs_mkdir(at("tree/sub"), 0700, true, &made, &err) == 0);
    CHECK(symlink("../keep", at("tree/link")) == 0);
    CHECK(put_text(at("tree/sub/file"), "x", atomic, &err) == 0);
    CHECK(sr_fs_remove_tree(at("tree"), &err) == 0);
    CHECK_STR(content(at("keep/file")), "kept");
    CHECK(symlink("keep", at("to-keep")) == 0);
    CHECK(sr_fs_remove_tree(at("to-keep"), &err) == -1);
    CHECK(strstr(err.message, "symbolic link"));
    CHECK_STR(content(at("keep/file")), "kept");
    end();
}

TEST(fs_remove_tree_refuses_the_root_and_dots) {
    const char *bad[] = {"/", ".", "..", "/tmp/.", "/tmp/..", "//", "tmp/"};
    sr_err err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(sr_fs_remove_tree(bad[i], &err) == -1);
        CHECK_INT(err.kind, SR_USAGE);
    }
}

TEST(fs_remove_takes_files_and_empty_folders) {
    sr_err err = {0};
    bool made;
    begin();
    CHECK(sr_fs_mkdir(at("d/e"), 0700, true, &made, &err) == 0);
    CHECK(sr_fs_remove(at("d"), &err) == -1);
    CHECK_STR(err.code, "ENOTEMPTY");
    CHECK(sr_fs_remove(at("d/e"), &err) == 0);
    CHECK(sr_fs_remove(at("d"), &err) == 0);
    CHECK(sr_fs_remove(at("d"), &err) == -1);
    CHECK_INT(err.kind, SR_NOT_FOUND);
    end();
}

TEST(fs_symlink_replace_switches_links_and_nothing_else) {
    sr_buf buf = {0};
    sr_err err = {0};
    begin();
    CHECK(sr_fs_symlink_replace("gen-1", at("current"), &err) == 0);
    CHECK(sr_fs_symlink_replace("gen-2", at("current"), &err) == 0);
    CHECK(sr_fs_readlink(at("current"), &buf, &err) == 0);
    CHECK_STR(buf.data, "gen-2");
    CHECK(put_text(at("file"), "kept", atomic, &err) == 0);
    CHECK(sr_fs_symlink_replace("gen-3", at("file"), &err) == -1);
    CHECK_INT(err.kind, SR_CONFLICT);
    CHECK_STR(content(at("file")), "kept");
    CHECK_INT(entries(top), 2);
    sr_buf_free(&buf);
    end();
}

TEST(fs_list_is_sorted_by_bytes) {
    sr_buf buf = {0};
    sr_err err = {0};
    size_t n = 0;
    begin();
    CHECK(put_text(at("b"), "", atomic, &err) == 0 &&
          put_text(at("a"), "", atomic, &err) == 0);
    CHECK(put_text(at("B"), "", atomic, &err) == 0 &&
          put_text(at(".h"), "", atomic, &err) == 0);
    CHECK(sr_fs_list(top, &buf, &n, &err) == 0);
    CHECK_INT(n, 4);
    CHECK(memcmp(buf.data, ".h\0B\0a\0b", 9) == 0);
    sr_buf_free(&buf);
    end();
}

TEST(fs_owner_texts_are_parsed) {
    uid_t uid = 7;
    gid_t gid = 7;
    sr_err err = {0};
    CHECK(sr_fs_owner("root:root", &uid, &gid, &err) == 0 && uid == 0 && gid == 0);
    CHECK(sr_fs_owner("12", &uid, &gid, &err) == 0 && uid == 12 && gid == (gid_t)-1);
    CHECK(sr_fs_owner(":34", &uid, &gid, &err) == 0 && uid == (uid_t)-1 && gid == 34);
    CHECK(sr_fs_owner("", &uid, &gid, &err) == -1);
    CHECK(sr_fs_owner("root:", &uid, &gid, &err) == -1);
    CHECK(sr_fs_owner("4294967295", &uid, &gid, &err) == -1);
}

TEST(fs_lock_is_held_until_closed_and_names_the_holder) {
    sr_err err = {0};
    int fd = -1, other = -1;
    char pid[32];
    begin();
    CHECK(sr_fs_trylock(at("lock"), &fd, &err) == 0);
    CHECK_INT(mode_of(at("lock")), 0600);
    CHECK(sr_fs_trylock(at("lock"), &other, &err) == -1);
    CHECK_INT(err.kind, SR_CONFLICT);
    CHECK(err.retryable);
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    CHECK(strstr(err.message, pid));
    close(fd);
    CHECK(sr_fs_trylock(at("lock"), &other, &err) == 0);
    close(other);
    end();
}

TEST(fs_lock_refuses_a_link) {
    sr_err err = {0};
    int fd = -1;
    begin();
    CHECK(symlink("elsewhere", at("lock")) == 0);
    CHECK(sr_fs_trylock(at("lock"), &fd, &err) == -1);
    CHECK_STR(err.code, "ELOOP");
    end();
}

TEST(fs_root_trusts_no_file_that_others_can_write) {
    sr_err err = {0};
    bool made;
    begin();
    CHECK(sr_fs_mkdir(at("d"), 0755, false, &made, &err) == 0);
    CHECK(put_text(at("d/conf"), "x", atomic, &err) == 0);
    CHECK(sr_fs_check_owner(at("d/conf"), &err) == 0);
    CHECK(chmod(at("d/conf"), 0620) == 0);
    int rc = sr_fs_check_owner(at("d/conf"), &err);
    CHECK_INT(rc, geteuid() == 0 ? -1 : 0);
    if (geteuid() == 0) {
        CHECK_INT(err.kind, SR_DENIED);
        CHECK(strstr(err.message, "chmod go-w"));
        CHECK(chmod(at("d/conf"), 0600) == 0 && chmod(at("d"), 0777) == 0);
        CHECK(sr_fs_check_owner(at("d/conf"), &err) == -1);
        CHECK(chmod(at("d"), 0755) == 0 && chown(at("d/conf"), 12, 12) == 0);
        CHECK(sr_fs_check_owner(at("d/conf"), &err) == -1);
        CHECK(strstr(err.message, "belongs to user 12"));
    }
    end();
}
