#include "CContract.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

// The necessary parts of drm.h, drm_mode.h and vgem_drm.h, which are not in the include path on every system.
struct version {
    int major, minor, patch;
    size_t name_length;
    char *name;
    size_t date_length;
    char *date;
    size_t description_length;
    char *description;
};
struct prime_handle {
    uint32_t handle, flags;
    int32_t descriptor;
};
struct create_dumb {
    uint32_t height, width, bits_per_pixel, flags;
    uint32_t handle, pitch;
    uint64_t size;
};
struct fence_attach {
    uint32_t handle, flags, fence, pad;
};
struct fence_signal {
    uint32_t fence, flags;
};
#define FENCE_WRITE 1u
#define VERSION _IOWR('d', 0x00, struct version)
#define PRIME_HANDLE_TO_FD _IOWR('d', 0x2d, struct prime_handle)
#define PRIME_FD_TO_HANDLE _IOWR('d', 0x2e, struct prime_handle)
#define CREATE_DUMB _IOWR('d', 0xb2, struct create_dumb)
#define FENCE_ATTACH _IOWR('d', 0x41, struct fence_attach)
#define FENCE_SIGNAL _IOW('d', 0x42, struct fence_signal)

int vgem_open(void) {
    for (int number = 0; number < 64; number++) {
        char path[32], name[8] = "";
        snprintf(path, sizeof(path), "/dev/dri/card%d", number);
        int card = open(path, O_RDWR | O_CLOEXEC);
        if (card < 0)
            continue;
        struct version version = {.name = name, .name_length = sizeof(name) - 1};
        if (!ioctl(card, VERSION, &version) && !strcmp(name, "vgem"))
            return card;
        close(card);
    }
    return -ENODEV;
}

int vgem_create(int vgem, uint32_t pages) {
    struct create_dumb dumb = {.width = 4096, .height = pages, .bits_per_pixel = 8};
    return ioctl(vgem, CREATE_DUMB, &dumb) < 0 ? -errno : (int)dumb.handle;
}

int vgem_export(int vgem, uint32_t buffer) {
    struct prime_handle prime = {.handle = buffer, .flags = O_CLOEXEC | O_RDWR};
    return ioctl(vgem, PRIME_HANDLE_TO_FD, &prime) < 0 ? -errno : prime.descriptor;
}

int vgem_import(int vgem, int dmabuf) {
    struct prime_handle prime = {.descriptor = dmabuf};
    return ioctl(vgem, PRIME_FD_TO_HANDLE, &prime) < 0 ? -errno : (int)prime.handle;
}

int vgem_begin(int vgem, uint32_t buffer, int writes) {
    struct fence_attach attach = {.handle = buffer, .flags = writes ? FENCE_WRITE : 0};
    return ioctl(vgem, FENCE_ATTACH, &attach) < 0 ? -errno : (int)attach.fence;
}

int vgem_end(int vgem, uint32_t work) {
    struct fence_signal signal = {.fence = work};
    return ioctl(vgem, FENCE_SIGNAL, &signal) < 0 ? -errno : 0;
}

int vgem_end_later(int vgem, uint32_t work, int milliseconds) {
    pid_t process = fork();
    if (process < 0)
        return -errno;
    if (process > 0)
        return process;
    struct timespec rest = {
        .tv_sec = milliseconds / 1000, .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    while (nanosleep(&rest, &rest) < 0 && errno == EINTR)
        ;
    _exit(vgem_end(vgem, work) ? 1 : 0);
}
