#define _GNU_SOURCE
#include "dma-buf-shims.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

int czcopy_file_inode(int fd, uint64_t *inode, uint64_t *size) {
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    *inode = status.st_ino;
    *size = (uint64_t)status.st_size;
    // Before Linux 5.3 only lseek() returns the size of a dma-buf.
    if (*size == 0) {
        off_t end = lseek(fd, 0, SEEK_END);
        if (end > 0)
            *size = (uint64_t)end;
    }
    return 0;
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

int czcopy_udmabuf_create_list(int udmabuf, const struct czcopy_piece *pieces, uint32_t count) {
    struct udmabuf_create_list *list = calloc(1, sizeof(*list) + count * sizeof(list->list[0]));
    if (!list)
        return -ENOMEM;
    list->flags = UDMABUF_FLAGS_CLOEXEC;
    list->count = count;
    for (uint32_t i = 0; i < count; i++) {
        list->list[i].memfd = (uint32_t)pieces[i].memfd;
        list->list[i].offset = pieces[i].offset;
        list->list[i].size = pieces[i].size;
    }
    int dmabuf = ioctl(udmabuf, UDMABUF_CREATE_LIST, list);
    int error = errno;
    free(list);
    return dmabuf < 0 ? -error : dmabuf;
}

int czcopy_dmabuf_set_name(int dmabuf, const char *name) {
    return ioctl(dmabuf, DMA_BUF_SET_NAME, name) < 0 ? -errno : 0;
}

static uint32_t access_flags(int reads, int writes) {
    return (reads ? DMA_BUF_SYNC_READ : 0) | (writes ? DMA_BUF_SYNC_WRITE : 0);
}

int czcopy_dmabuf_sync(int dmabuf, int reads, int writes, int ends) {
    struct dma_buf_sync sync = {
        .flags = access_flags(reads, writes) | (ends ? DMA_BUF_SYNC_END : DMA_BUF_SYNC_START)};
    int result;
    // The ioctl waits for fences. A signal or a contended lock ends the wait early.
    do
        result = ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync);
    while (result < 0 && (errno == EINTR || errno == EAGAIN));
    return result < 0 ? -errno : 0;
}

int czcopy_dmabuf_export_sync_file(int dmabuf, int reads, int writes) {
    struct dma_buf_export_sync_file data = {.flags = access_flags(reads, writes), .fd = -1};
    return ioctl(dmabuf, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &data) < 0 ? -errno : data.fd;
}

int czcopy_dmabuf_import_sync_file(int dmabuf, int sync_file, int reads, int writes) {
    struct dma_buf_import_sync_file data = {
        .flags = access_flags(reads, writes), .fd = sync_file};
    return ioctl(dmabuf, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &data) < 0 ? -errno : 0;
}

int czcopy_sync_merge(int sync_file, int other, const char *name) {
    struct sync_merge_data data = {.fd2 = other};
    strncpy(data.name, name, sizeof(data.name) - 1);
    return ioctl(sync_file, SYNC_IOC_MERGE, &data) < 0 ? -errno : data.fence;
}

int czcopy_sync_information(int sync_file, struct sync_file_info *info) {
    return ioctl(sync_file, SYNC_IOC_FILE_INFO, info) < 0 ? -errno : 0;
}

static int64_t milliseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int czcopy_poll(struct pollfd *entries, uint32_t count, int milliseconds) {
    int64_t deadline = milliseconds > 0 ? milliseconds_now() + milliseconds : 0;
    for (;;) {
        int ready = poll(entries, count, milliseconds);
        if (ready >= 0)
            return ready;
        if (errno != EINTR)
            return -errno;
        if (milliseconds > 0) {
            int64_t left = deadline - milliseconds_now();
            milliseconds = left > 0 ? (int)left : 0;
        }
    }
}
