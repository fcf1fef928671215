// The same work as xen-zcopy's, in bare C with libxengnttab and no check of anything: the floor to compare with.
#ifndef FLOOR_H
#define FLOOR_H

#include <stdint.h>

// A map that is open.
struct floor_map {
    void *device;
    uint32_t fd;
};

// Opens gntdev, copies the directory's pages, makes a dma-buf. 0, or -1 with errno set.
int floor_map_open(struct floor_map *map, uint32_t domain, uint32_t directory, uint32_t pages, uint32_t *references);
// Closes the dma-buf, waits until it is released, closes gntdev. 0, or -1 with errno set.
int floor_map_close(struct floor_map *map);

// A grant device for the walks below, and its end.
void *floor_device_open(void);
void floor_device_close(void *device);
// Walks the directory as backends do today: maps and unmaps each page. 0, or -1 with errno set.
int floor_walk_by_mapping(void *device, uint32_t domain, uint32_t directory, uint32_t pages, uint32_t *references);
// Walks the directory by grant copies, with no check of what it says. 0, or -1 with errno set.
int floor_walk_by_copy(void *device, uint32_t domain, uint32_t directory, uint32_t pages, uint32_t *references);

#endif
