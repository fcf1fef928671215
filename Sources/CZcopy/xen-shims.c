#include "xen-shims.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
// Both use types without including what defines them.
#include <xen/grant_table.h>
#include <xen/gntdev.h>
#include <xentoollog.h>

struct czcopy_logger {
    // First, so that the library's pointer to it is a pointer to this.
    struct xentoollog_logger interface;
    czcopy_log_emit emit;
    void *context;
};

static void vmessage(struct xentoollog_logger *logger, xentoollog_level level, int error,
                     const char *context, const char *format, va_list arguments) {
    struct czcopy_logger *self = (struct czcopy_logger *)logger;
    char text[512];
    int saved = errno;
    // The libraries log before they return, with errno still to be read by the caller.
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
