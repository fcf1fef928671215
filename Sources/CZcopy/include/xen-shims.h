// Shims over the Xen libraries and the kernel's Xen devices.
#ifndef CZCOPY_XEN_SHIMS_H
#define CZCOPY_XEN_SHIMS_H

#include <stdint.h>

struct xentoollog_logger;

// Receives one message of a Xen library: level as in xentoollog_level, errno or -1, the text.
typedef void (*czcopy_log_emit)(void *context, int level, int error, const char *message);

// A logger for xengnttab_open() and its siblings that hands each message to `emit`. NULL without memory.
// Without one, those libraries write to standard error by themselves.
struct xentoollog_logger *czcopy_logger_new(czcopy_log_emit emit, void *context);
void czcopy_logger_free(struct xentoollog_logger *logger);

// The calls below return 0 or a negative errno.

// IOCTL_GNTDEV_DMABUF_EXP_WAIT_RELEASED on a gntdev handle's fd. xengnttab_dmabuf_exp_wait_released()
// turns ENOENT (never existed) into success and logs each timeout, so that it cannot be polled.
int czcopy_wait_released(int gntdev, uint32_t dmabuf, uint32_t milliseconds);

// IOCTL_GNTDEV_DMABUF_EXP_FROM_REFS with no argument, to ask without any effect whether it is there:
// -ENOTTY not built into this kernel, -EINVAL built but this is a PV domain, -EFAULT usable.
int czcopy_probe_export(int gntdev);

// IOCTL_GNTDEV_DMABUF_IMP_RELEASE of no file: -ENOENT usable, -ENOTTY not built into this kernel.
int czcopy_probe_import(int gntdev);

// IOCTL_GNTDEV_DMABUF_IMP_RELEASE with the reserved field zero; libxengnttab leaves it uninitialised.
int czcopy_release_import(int gntdev, uint32_t dmabuf);

#endif
