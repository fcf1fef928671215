#define _GNU_SOURCE
#include "linux-shims.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int czcopy_dmabuf_set_name(int dmabuf, const char *name) {
    return ioctl(dmabuf, DMA_BUF_SET_NAME, name) < 0 ? -errno : 0;
}

int czcopy_dmabuf_sync(int dmabuf, int reads, int writes, int ends) {
    struct dma_buf_sync sync = {
        .flags = (reads ? DMA_BUF_SYNC_READ : 0) | (writes ? DMA_BUF_SYNC_WRITE : 0) |
                 (ends ? DMA_BUF_SYNC_END : DMA_BUF_SYNC_START),
    };
    int result;
    // It waits for fences, and a signal or a contended lock ends the wait early.
    do
        result = ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync);
    while (result < 0 && (errno == EINTR || errno == EAGAIN));
    return result < 0 ? -errno : 0;
}

int czcopy_heap_allocate(int heap, uint64_t size) {
    struct dma_heap_allocation_data data = {.len = size, .fd_flags = O_CLOEXEC | O_RDWR};
    return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) < 0 ? -errno : (int)data.fd;
}

int czcopy_udmabuf_create(int udmabuf, int memfd, uint64_t offset, uint64_t size) {
    struct udmabuf_create create = {
        .memfd = (uint32_t)memfd, .flags = UDMABUF_FLAGS_CLOEXEC, .offset = offset, .size = size};
    int dmabuf = ioctl(udmabuf, UDMABUF_CREATE, &create);
    return dmabuf < 0 ? -errno : dmabuf;
}

int czcopy_memfd(const char *name, uint64_t size) {
    int memfd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memfd < 0)
        return -errno;
    if (ftruncate(memfd, (off_t)size) < 0 || fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) {
        int error = errno;
        close(memfd);
        return -error;
    }
    return memfd;
}

const char *czcopy_errno_name(int error) {
    return strerrorname_np(error);
}

int czcopy_file_identity(int fd, uint64_t *inode, uint64_t *size) {
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    *inode = status.st_ino;
    // A dma-buf tells its size by seeking; fstat does so only since Linux 5.3.
    off_t end = lseek(fd, 0, SEEK_END);
    *size = (uint64_t)(end >= 0 ? end : status.st_size);
    return 0;
}
