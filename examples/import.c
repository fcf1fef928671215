// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include "import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* As in drm/drm.h, which is not installed on every machine. */
struct drm_gem_close {
    uint32_t handle, pad;
};
struct drm_prime_handle {
    uint32_t handle, flags;
    int32_t fd;
};
#define DRM_IOCTL_GEM_CLOSE _IOW('d', 0x09, struct drm_gem_close)
#define DRM_IOCTL_PRIME_FD_TO_HANDLE _IOWR('d', 0x2e, struct drm_prime_handle)

/* As in lab/images/importer/lab-importer.h, which is not installed. */
struct lab_import {
    int32_t fd;                            /* in: the dma-buf */
    uint32_t flags, direction, fill;       /* in: LAB_IMPORT_HOLD; 1 for reading as a device */
    uint64_t bytes, shortest, longest;     /* out: the sum of all segments, and their sizes */
    uint32_t segments, crc32c;             /* out: number of segments, checksum of the data that the device reads */
    uint32_t foreign, reserved;
};
#define LAB_IMPORT _IOWR('L', 0x40, struct lab_import)
#define LAB_IMPORT_HOLD 1u

static int with_device(struct import *import, const char *path, unsigned long request, void *argument) {
    import->device = open(path, O_RDWR | O_CLOEXEC);
    if (import->device < 0) return -1;
    if (ioctl(import->device, request, argument) == 0) return 0;
    int error = errno;
    import_end(import);
    errno = error;
    return -1;
}

int import_into_card(struct import *import, const char *path, int fd) {
    struct drm_prime_handle prime = {.fd = fd};
    if (with_device(import, path, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime) < 0) return -1;
    import->handle = prime.handle;
    return 0;
}

int import_into_lab(struct import *import, const char *path, int fd) {
    struct lab_import lab = {.fd = fd, .flags = LAB_IMPORT_HOLD, .direction = 1};
    if (with_device(import, path, LAB_IMPORT, &lab) < 0) return -1;
    printf("imported: %llu bytes, crc32c 0x%08x\n", (unsigned long long)lab.bytes, lab.crc32c);
    return 0;
}

void import_end(struct import *import) {
    if (import->device < 0) return;
    /* A program that shares an open card must close each handle. Here, closing the device would close it too. */
    if (import->handle) ioctl(import->device, DRM_IOCTL_GEM_CLOSE, &(struct drm_gem_close){.handle = import->handle});
    close(import->device);
    *import = (struct import){.device = -1};
}
