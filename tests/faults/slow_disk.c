/* A slow disk for one house: preloaded (LD_PRELOAD), it waits before each write to a log's files.
 *
 * $SLOW_DISK names a file that holds how many microseconds; the test may change it at any time. No file: no wait.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_of_a_log(int fd)
{
    char link[64], target[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, target, sizeof target - 1);
    if (size <= 0)
        return 0;
    target[size] = 0;
    return strstr(target, "/log.journal") || strstr(target, "/log.sqlite");
}

static void wait_a_while(int fd)
{
    const char *name = getenv("SLOW_DISK");
    char text[32];
    if (name == NULL || !is_of_a_log(fd))
        return;
    int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    if (size > 0) {
        text[size] = 0;
        usleep((useconds_t)atol(text));
    }
}

#define SLOW(type, name, arguments, names)                                     \
    type name arguments                                                        \
    {                                                                          \
        static type(*real) arguments;                                          \
        if (real == NULL)                                                      \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                         \
        wait_a_while(fd);                                                      \
        return real names;                                                     \
    }

SLOW(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
SLOW(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
SLOW(ssize_t, pwrite, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
SLOW(ssize_t, pwrite64, (int fd, const void *from, size_t size, off64_t at), (fd, from, size, at))
SLOW(int, fsync, (int fd), (fd))
SLOW(int, fdatasync, (int fd), (fd))
SLOW(int, ftruncate, (int fd, off_t size), (fd, size))
SLOW(int, ftruncate64, (int fd, off64_t size), (fd, size))
