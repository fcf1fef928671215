/* SPDX-License-Identifier: MIT */
/* Imports a dma-buf into a device, like a backend that displays the buffer. */
#ifndef IMPORT_H
#define IMPORT_H

#include <stdint.h>

struct import {
    int device;      /* -1 if nothing is imported */
    uint32_t handle; /* the GEM handle, for a card */
};

/* Imports `fd` into a DRM device, for instance /dev/dri/card0. Returns 0, or -1 with errno set. */
int import_into_card(struct import *import, const char *path, int fd);

/* Imports `fd` into the lab's device, which reads the buffer like a real device. Returns 0, or -1 with errno set. */
int import_into_lab(struct import *import, const char *path, int fd);

/* Ends the import. The device no longer holds the buffer. */
void import_end(struct import *import);

#endif
