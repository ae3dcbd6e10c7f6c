/* Loaded into a server before its own libraries. While the file FLAG exists, the server's volume looks full: writes inside a
   file succeed, and writes that would make a file longer fail as they do on a full volume. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int has_room(int file, off_t end)
{
    struct stat known;
    int before = errno;
    int room = access(FLAG, F_OK) != 0 || fstat(file, &known) != 0 || !S_ISREG(known.st_mode) || end <= known.st_size;
    errno = before;
    return room;
}

static off_t length(const struct iovec *parts, int count)
{
    off_t sum = 0;
    for (int part = 0; part < count; part++)
        sum += parts[part].iov_len;
    return sum;
}

#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))
#define FULL(failed) do { errno = ENOSPC; return failed; } while (0)

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset)
{
    if (!has_room(file, offset + (off_t) count)) FULL(-1);
    return NEXT(pwrite)(file, bytes, count, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset)
{
    if (!has_room(file, offset + (off_t) count)) FULL(-1);
    return NEXT(pwrite64)(file, bytes, count, offset);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset)
{
    if (!has_room(file, offset + length(parts, count))) FULL(-1);
    return NEXT(pwritev)(file, parts, count, offset);
}

ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t offset)
{
    if (!has_room(file, offset + length(parts, count))) FULL(-1);
    return NEXT(pwritev64)(file, parts, count, offset);
}

int posix_fallocate(int file, off_t offset, off_t count)
{
    return has_room(file, offset + count) ? NEXT(posix_fallocate)(file, offset, count) : ENOSPC;
}

int posix_fallocate64(int file, off64_t offset, off64_t count)
{
    return has_room(file, offset + count) ? NEXT(posix_fallocate64)(file, offset, count) : ENOSPC;
}
