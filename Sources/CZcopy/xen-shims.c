#define _GNU_SOURCE
#include "xen-shims.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xen/gntalloc.h>
// Both headers use types without including the headers that define them.
#include <xen/grant_table.h>
#include <xen/gntdev.h>
#include <xentoollog.h>

struct czcopy_logger {
    // The first member, so that the library's pointer to it also points to this structure.
    struct xentoollog_logger interface;
    czcopy_log_emit emit;
    void *context;
};

static void vmessage(struct xentoollog_logger *logger, xentoollog_level level, int error,
                     const char *context, const char *format, va_list arguments) {
    struct czcopy_logger *self = (struct czcopy_logger *)logger;
    char text[512];
    int saved = errno;
    // The libraries log before they return, and their caller reads errno after that. So errno is preserved.
    vsnprintf(text, sizeof(text), format, arguments);
    self->emit(self->context, level, error, text);
    errno = saved;
    (void)context;
}

static void destroy(struct xentoollog_logger *logger) {
    free(logger);
}

struct xentoollog_logger *czcopy_logger_new(czcopy_log_emit emit, void *context) {
    struct czcopy_logger *self = calloc(1, sizeof(*self));
    if (!self)
        return NULL;
    self->interface.vmessage = vmessage;
    self->interface.destroy = destroy;
    self->emit = emit;
    self->context = context;
    return &self->interface;
}

void czcopy_logger_free(struct xentoollog_logger *logger) {
    free(logger);
}

int czcopy_wait_released(int gntdev, uint32_t dmabuf, uint32_t milliseconds) {
    struct ioctl_gntdev_dmabuf_exp_wait_released wait = {.fd = dmabuf, .wait_to_ms = milliseconds};
    return ioctl(gntdev, IOCTL_GNTDEV_DMABUF_EXP_WAIT_RELEASED, &wait) < 0 ? -errno : 0;
}

int czcopy_probe_export(int gntdev) {
    return ioctl(gntdev, IOCTL_GNTDEV_DMABUF_EXP_FROM_REFS, NULL) < 0 ? -errno : 0;
}

int czcopy_probe_import(int gntdev) {
    return czcopy_release_import(gntdev, UINT32_MAX);
}

int czcopy_release_import(int gntdev, uint32_t dmabuf) {
    struct ioctl_gntdev_dmabuf_imp_release release = {.fd = dmabuf, .reserved = 0};
    return ioctl(gntdev, IOCTL_GNTDEV_DMABUF_IMP_RELEASE, &release) < 0 ? -errno : 0;
}

int czcopy_silence(int gntdev, uint64_t index) {
    struct ioctl_gntdev_unmap_notify notify = {.index = index, .action = 0};
    return ioctl(gntdev, IOCTL_GNTDEV_SET_UNMAP_NOTIFY, &notify) < 0 ? -errno : 0;
}

int czcopy_grant_pages(int gntalloc, uint32_t domain, uint32_t count, int writable,
                       uint32_t *references, uint64_t *index) {
    struct ioctl_gntalloc_alloc_gref *grant =
        calloc(1, sizeof(*grant) + count * sizeof(grant->gref_ids[0]));
    if (!grant)
        return -ENOMEM;
    grant->domid = (uint16_t)domain;
    grant->flags = writable ? GNTALLOC_FLAG_WRITABLE : 0;
    grant->count = count;
    int error = ioctl(gntalloc, IOCTL_GNTALLOC_ALLOC_GREF, grant) < 0 ? -errno : 0;
    if (!error) {
        memcpy(references, grant->gref_ids, count * sizeof(references[0]));
        *index = grant->index;
    }
    free(grant);
    return error;
}

int czcopy_notify_unmap(int gntalloc, uint64_t index, uint32_t byte, uint32_t port) {
    struct ioctl_gntalloc_unmap_notify notify = {.index = index};
    if (byte != UINT32_MAX) {
        notify.index += byte;
        notify.action |= UNMAP_NOTIFY_CLEAR_BYTE;
    }
    if (port != UINT32_MAX) {
        notify.event_channel_port = port;
        notify.action |= UNMAP_NOTIFY_SEND_EVENT;
    }
    return ioctl(gntalloc, IOCTL_GNTALLOC_SET_UNMAP_NOTIFY, &notify) < 0 ? -errno : 0;
}

int czcopy_end_grants(int gntalloc, uint64_t index, uint32_t count) {
    struct ioctl_gntalloc_dealloc_gref grants = {.index = index, .count = count};
    return ioctl(gntalloc, IOCTL_GNTALLOC_DEALLOC_GREF, &grants) < 0 ? -errno : 0;
}

int czcopy_adopt(int opened, int inherited) {
    struct stat own, other;
    int error = 0;
    if (fstat(opened, &own) < 0 || fstat(inherited, &other) < 0)
        error = -errno;
    else if (!S_ISCHR(other.st_mode) || other.st_rdev != own.st_rdev)
        error = -EINVAL;
    else if (dup3(inherited, opened, O_CLOEXEC) < 0)
        error = -errno;
    close(inherited);
    return error;
}
