/* Loaded before the C library: counts the calls that touch files under a directory, and lets one of them fail or kill.

   faults_arm(prefix, kinds, at, what, stays): calls of `kinds` (1 changes, 2 reads) with paths under `prefix` are counted;
   number `at` fails with errno `what`, or kills the process if `what` is 0; with `stays` all later ones fail too.
   Removing files never fails for want of space. faults_seen() is the count. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char prefix[4096];
static int kinds, what, stays;
static long at, seen;

void faults_arm(const char *p, int k, long n, int w, int s) {
    strncpy(prefix, p, sizeof prefix - 1);
    kinds = k, at = n, what = w, stays = s, seen = 0;
}

long faults_seen(void) { return seen; }

static int under(const char *path) { return kinds && path && !strncmp(path, prefix, strlen(prefix)); }

static int fd_under(int fd) {
    char link[64], path[4096];
    if (!kinds || fd < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return under(path);
}

static int hit(int kind, int ours) {
    if (!ours || !(kinds & kind)) return 0;
    long n = __sync_add_and_fetch(&seen, 1);
    if (!at || n < at || (n > at && !stays)) return 0;
    if (!what) kill(getpid(), SIGKILL);
    errno = what;
    return 1;
}

static int removes(int ours) { return what == ENOSPC ? 0 : hit(1, ours); }

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define OPEN(name, at_arg, at_name) \
    int name(at_arg const char *path, int flags, ...) { \
        REAL(name); va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
        if (hit(flags & (O_WRONLY | O_RDWR | O_CREAT) ? 1 : 2, under(path))) return -1; \
        return real(at_name path, flags, mode); }
#define COMMA ,
OPEN(open, , )
OPEN(open64, , )
OPEN(openat, int fd COMMA, fd COMMA)
OPEN(openat64, int fd COMMA, fd COMMA)

#define CALL(type, name, kind, test, arguments, values) \
    type name arguments { REAL(name); if (hit(kind, test)) return -1; return real values; }
CALL(ssize_t, write, 1, fd_under(fd), (int fd, const void *b, size_t n), (fd, b, n))
CALL(ssize_t, pwrite, 1, fd_under(fd), (int fd, const void *b, size_t n, off_t o), (fd, b, n, o))
CALL(ssize_t, pwrite64, 1, fd_under(fd), (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o))
CALL(ssize_t, writev, 1, fd_under(fd), (int fd, const struct iovec *v, int n), (fd, v, n))
CALL(int, fsync, 1, fd_under(fd), (int fd), (fd))
CALL(int, fdatasync, 1, fd_under(fd), (int fd), (fd))
CALL(int, ftruncate, 1, fd_under(fd), (int fd, off_t n), (fd, n))
CALL(int, ftruncate64, 1, fd_under(fd), (int fd, off64_t n), (fd, n))
CALL(int, rename, 1, under(a), (const char *a, const char *b), (a, b))
CALL(int, renameat, 1, under(a), (int c, const char *a, int d, const char *b), (c, a, d, b))
CALL(int, mkdir, 1, under(path), (const char *path, mode_t m), (path, m))
CALL(int, mkdirat, 1, under(path), (int fd, const char *path, mode_t m), (fd, path, m))
CALL(int, chmod, 1, under(path), (const char *path, mode_t m), (path, m))
CALL(ssize_t, read, 2, fd_under(fd), (int fd, void *b, size_t n), (fd, b, n))
CALL(ssize_t, pread, 2, fd_under(fd), (int fd, void *b, size_t n, off_t o), (fd, b, n, o))
CALL(ssize_t, pread64, 2, fd_under(fd), (int fd, void *b, size_t n, off64_t o), (fd, b, n, o))

#define REMOVE(name, test, arguments, values) \
    int name arguments { REAL(name); if (removes(test)) return -1; return real values; }
REMOVE(unlink, under(path), (const char *path), (path))
REMOVE(unlinkat, under(path) || fd_under(fd), (int fd, const char *path, int flags), (fd, path, flags))
REMOVE(rmdir, under(path), (const char *path), (path))

DIR *opendir(const char *path) {
    REAL(opendir);
    if (hit(2, under(path))) return NULL;
    return real(path);
}
