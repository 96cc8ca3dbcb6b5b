/* Records what a process does to the files under $RECORD_UNDER into $RECORD_LOG, for test_power_cut.py.
 *
 * Preloaded into a writer, it sees every write, truncation, sync and removal in the order in which the program made
 * them. A record is: kind (1 byte), length of the path (2), offset (8), length of the data (4), path, data; host order.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int log_file = -1;

static void record(char kind, const char *path, uint64_t offset, const void *data, uint32_t size) {
    const char *under = getenv("RECORD_UNDER"), *log = getenv("RECORD_LOG");
    if (!under || !log || strncmp(path, under, strlen(under)) != 0) return;
    if (log_file < 0) log_file = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    uint16_t length = (uint16_t)strlen(path);
    size_t total = 15 + length + size;
    char *entry = malloc(total);
    entry[0] = kind;
    memcpy(entry + 1, &length, 2);
    memcpy(entry + 3, &offset, 8);
    memcpy(entry + 11, &size, 4);
    memcpy(entry + 15, path, length);
    if (size) memcpy(entry + 15 + length, data, size);
    if (REAL(write)(log_file, entry, total) != (ssize_t)total) abort();
    free(entry);
}

static void record_fd(char kind, int fd, uint64_t offset, const void *data, uint32_t size) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || fd == log_file) return;
    path[length] = 0;
    record(kind, path, offset, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    ssize_t done = REAL(pwrite)(fd, data, size, offset);
    if (done > 0) record_fd('w', fd, (uint64_t)offset, data, (uint32_t)done);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    ssize_t done = REAL(pwrite64)(fd, data, size, offset);
    if (done > 0) record_fd('w', fd, (uint64_t)offset, data, (uint32_t)done);
    return done;
}

ssize_t write(int fd, const void *data, size_t size) {
    off_t before = lseek(fd, 0, SEEK_CUR);
    ssize_t done = REAL(write)(fd, data, size);
    if (done > 0 && before >= 0) record_fd('w', fd, (uint64_t)before, data, (uint32_t)done);
    return done;
}

int ftruncate(int fd, off_t size) {
    int failed = REAL(ftruncate)(fd, size);
    if (!failed) record_fd('t', fd, (uint64_t)size, NULL, 0);
    return failed;
}

int ftruncate64(int fd, off64_t size) {
    int failed = REAL(ftruncate64)(fd, size);
    if (!failed) record_fd('t', fd, (uint64_t)size, NULL, 0);
    return failed;
}

int fsync(int fd) {
    int failed = REAL(fsync)(fd);
    if (!failed) record_fd('s', fd, 0, NULL, 0);
    return failed;
}

int fdatasync(int fd) {
    int failed = REAL(fdatasync)(fd);
    if (!failed) record_fd('s', fd, 0, NULL, 0);
    return failed;
}

int unlink(const char *path) {
    char full[PATH_MAX];
    if (!realpath(path, full)) return REAL(unlink)(path);
    int failed = REAL(unlink)(path);
    if (!failed) record('u', full, 0, NULL, 0);
    return failed;
}
