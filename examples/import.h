/* SPDX-License-Identifier: MIT */
/* Hands a dma-buf to a device, as a backend does that shows it. */
#ifndef IMPORT_H
#define IMPORT_H

#include <stdint.h>

struct import {
    int device;      /* -1 if nothing is imported */
    uint32_t handle; /* the GEM handle, of a card */
};

/* Imports `fd` into a DRM device, for instance /dev/dri/card0; -1 with errno set. */
int import_into_card(struct import *import, const char *path, int fd);

/* Imports it into the lab's device that reads what a device would see; -1 with errno set. */
int import_into_lab(struct import *import, const char *path, int fd);

/* The device has it no more. */
void import_end(struct import *import);

#endif
