#include "floor.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xengnttab.h>

static uint32_t take(const uint32_t *page, uint32_t *references, uint32_t done, uint32_t pages) {
    uint32_t count = pages - done < FLOOR_PER_PAGE ? pages - done : FLOOR_PER_PAGE;
    memcpy(references + done, page + 1, count * sizeof(uint32_t));
    return done + count;
}

int floor_walk_by_copy(void *device, uint32_t domain, uint32_t directory, uint32_t pages, uint32_t *references) {
    uint32_t page[FLOOR_PER_PAGE + 1], done = 0;
    while (done < pages) {
        xengnttab_grant_copy_segment_t segment = {
            .source.foreign = {.ref = directory, .domid = (uint16_t)domain},
            .dest.virt = page,
            .len = sizeof(page),
            .flags = GNTCOPY_source_gref,
        };
        if (xengnttab_grant_copy(device, 1, &segment) || segment.status != GNTST_okay)
            return -1;
        done = take(page, references, done, pages);
        directory = page[0];
    }
    return 0;
}

int floor_map_open(struct floor_map *map, uint32_t domain, uint32_t directory, uint32_t pages, uint32_t *references) {
    xengnttab_handle *device = xengnttab_open(NULL, 0);
    if (!device || floor_walk_by_copy(device, domain, directory, pages, references))
        return -1;
    map->device = device;
    return xengnttab_dmabuf_exp_from_refs(device, domain, 0, pages, references, &map->fd);
}

int floor_map_close(struct floor_map *map) {
    if (close((int)map->fd) || xengnttab_dmabuf_exp_wait_released(map->device, map->fd, 10000))
        return -1;
    return xengnttab_close(map->device);
}

void *floor_device_open(void) {
    return xengnttab_open(NULL, 0);
}

void floor_device_close(void *device) {
    xengnttab_close(device);
}

int floor_walk_by_mapping(void *device, uint32_t domain, uint32_t directory, uint32_t pages, uint32_t *references) {
    uint32_t done = 0;
    while (done < pages) {
        uint32_t *page = xengnttab_map_grant_ref(device, domain, directory, PROT_READ);
        if (!page)
            return -1;
        done = take(page, references, done, pages);
        directory = page[0];
        if (xengnttab_unmap(device, page, 1))
            return -1;
    }
    return 0;
}
