#define _GNU_SOURCE
#include "floor.h"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xengnttab.h>

enum { PAGE = 4096 };

static void set(struct floor_copy *copy, uint32_t index, size_t local, size_t length) {
    xengnttab_grant_copy_segment_t *segments = copy->segments;
    segments[index] = (xengnttab_grant_copy_segment_t){
        .source.foreign = {.ref = copy->references[local / PAGE],
                           .offset = (uint16_t)(local % PAGE),
                           .domid = (uint16_t)copy->domain},
        .dest.virt = (char *)copy->memory + local,
        .len = (uint16_t)length,
        .flags = GNTCOPY_source_gref,
    };
}

static int run(struct floor_copy *copy, uint32_t count) {
    xengnttab_grant_copy_segment_t *segments = copy->segments;
    if (xengnttab_grant_copy(copy->device, count, segments))
        return -1;
    for (uint32_t i = 0; i < count; i++)
        if (segments[i].status != GNTST_okay)
            return -1;
    return 0;
}

int floor_copy_open(struct floor_copy *copy, uint32_t domain, const uint32_t *references, uint32_t pages) {
    size_t size = (size_t)pages * PAGE;
    int memory = memfd_create("floor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0 || ftruncate(memory, (off_t)size) || fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK))
        return -1;
    struct udmabuf_create create = {.memfd = (uint32_t)memory, .flags = UDMABUF_FLAGS_CLOEXEC, .size = size};
    int udmabuf = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
    *copy = (struct floor_copy){
        .device = xengnttab_open(NULL, 0),
        .segments = calloc(pages, sizeof(xengnttab_grant_copy_segment_t)),
        .memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0),
        .fd = ioctl(udmabuf, UDMABUF_CREATE, &create),
        .references = references,
        .domain = domain,
        .pages = pages,
    };
    close(udmabuf);
    close(memory);
    return copy->device && copy->segments && copy->memory != MAP_FAILED && copy->fd >= 0 ? 0 : -1;
}

void floor_copy_close(struct floor_copy *copy) {
    munmap(copy->memory, (size_t)copy->pages * PAGE);
    close(copy->fd);
    free(copy->segments);
    xengnttab_close(copy->device);
}

int floor_copy_all(struct floor_copy *copy) {
    for (uint32_t page = 0; page < copy->pages; page++)
        set(copy, page, (size_t)page * PAGE, PAGE);
    return run(copy, copy->pages);
}

int floor_copy_rows(struct floor_copy *copy, size_t start, size_t stride, size_t row, uint32_t rows) {
    uint32_t count = 0;
    for (uint32_t y = 0; y < rows; y++) {
        size_t at = start + y * stride, end = at + row;
        while (at < end) {
            size_t rest = PAGE - at % PAGE, length = end - at < rest ? end - at : rest;
            set(copy, count++, at, length);
            at += length;
        }
    }
    return run(copy, count);
}

int floor_copy_sync(struct floor_copy *copy, int ends) {
    struct dma_buf_sync sync = {.flags = DMA_BUF_SYNC_WRITE | (ends ? DMA_BUF_SYNC_END : DMA_BUF_SYNC_START)};
    return ioctl(copy->fd, DMA_BUF_IOCTL_SYNC, &sync);
}

void floor_copy_local(struct floor_copy *copy, const void *source) {
    memcpy(copy->memory, source, (size_t)copy->pages * PAGE);
}
