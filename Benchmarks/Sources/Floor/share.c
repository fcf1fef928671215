#define _GNU_SOURCE
#include "floor.h"

#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xengnttab.h>

enum { PAGE = 4096, DIRECTORY_PAGES = 64 };

static int udmabuf(int *file, uint64_t size) {
    int memory = *file = memfd_create("floor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0 || ftruncate(memory, (off_t)size) || fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK))
        return -1;
    int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
    struct udmabuf_create create = {.memfd = (uint32_t)memory, .flags = UDMABUF_FLAGS_CLOEXEC, .size = size};
    int fd = ioctl(device, UDMABUF_CREATE, &create);
    close(device);
    return fd;
}

static int system_heap(uint64_t size) {
    int heap = open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC);
    struct dma_heap_allocation_data data = {.len = size, .fd_flags = O_CLOEXEC | O_RDWR};
    int result = ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data);
    close(heap);
    return result ? -1 : (int)data.fd;
}

static int share_dmabuf(struct floor_share *share, enum floor_source source, int fd, uint32_t peer,
                        uint32_t *references) {
    uint64_t size = (uint64_t)share->count * PAGE;
    struct stat status;
    share->fd = source == FLOOR_UDMABUF       ? udmabuf(&share->file, size)
                : source == FLOOR_SYSTEM_HEAP ? system_heap(size)
                                              : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (share->fd < 0 || fstat(share->fd, &status))
        return -1;
    share->device = xengnttab_open(NULL, 0);
    if (!share->device)
        return -1;
    return xengnttab_dmabuf_imp_to_refs(share->device, peer, (uint32_t)share->fd, share->count, references);
}

static int share_pages(struct floor_share *share, uint32_t peer, uint32_t *references) {
    share->allocator = xengntshr_open(NULL, 0);
    if (!share->allocator)
        return -1;
    share->pages = xengntshr_share_pages(share->allocator, peer, (int)share->count, references, 1);
    return share->pages ? 0 : -1;
}

static int share_directory(struct floor_share *share, uint32_t peer, const uint32_t *references) {
    uint32_t listed[DIRECTORY_PAGES], count = (share->count + FLOOR_PER_PAGE - 1) / FLOOR_PER_PAGE;
    share->directory_count = count;
    share->directory_allocator = xengntshr_open(NULL, 0);
    if (!share->directory_allocator)
        return -1;
    share->directory = xengntshr_share_pages(share->directory_allocator, peer, (int)count, listed, 0);
    if (!share->directory)
        return -1;
    for (uint32_t page = 0; page < count; page++) {
        uint32_t *words = (uint32_t *)share->directory + page * (FLOOR_PER_PAGE + 1), done = page * FLOOR_PER_PAGE;
        uint32_t rest = share->count - done;
        words[0] = page + 1 < count ? listed[page + 1] : 0;
        memcpy(words + 1, references + done, (rest < FLOOR_PER_PAGE ? rest : FLOOR_PER_PAGE) * sizeof(uint32_t));
    }
    return 0;
}

int floor_share_open(struct floor_share *share, enum floor_source source, int fd, uint32_t peer, uint32_t pages,
                     uint32_t *references) {
    *share = (struct floor_share){.count = pages, .file = -1};
    if (source == FLOOR_GNTALLOC ? share_pages(share, peer, references)
                                 : share_dmabuf(share, source, fd, peer, references))
        return -1;
    return share_directory(share, peer, references);
}

int floor_share_close(struct floor_share *share) {
    int failed = 0;
    if (share->device) {
        failed |= xengnttab_dmabuf_imp_release(share->device, (uint32_t)share->fd);
        failed |= close(share->fd);
        failed |= share->file < 0 ? 0 : close(share->file);
        failed |= xengnttab_close(share->device);
    } else {
        failed |= xengntshr_unshare(share->allocator, share->pages, share->count);
        failed |= xengntshr_close(share->allocator);
    }
    failed |= xengntshr_unshare(share->directory_allocator, share->directory, share->directory_count);
    failed |= xengntshr_close(share->directory_allocator);
    return failed ? -1 : 0;
}
