// Shims over the Xen libraries and the kernel's Xen devices.
#ifndef CZCOPY_XEN_SHIMS_H
#define CZCOPY_XEN_SHIMS_H

#include <stdint.h>

struct xentoollog_logger;

// Receives one message of a Xen library: the level of xentoollog_level, errno or -1, and the text.
typedef void (*czcopy_log_emit)(void *context, int level, int error, const char *message);

// Makes a logger for xengnttab_open() and similar functions. It passes each message to `emit`. NULL if out of memory.
// Without a logger, those libraries write to standard error.
struct xentoollog_logger *czcopy_logger_new(czcopy_log_emit emit, void *context);
void czcopy_logger_free(struct xentoollog_logger *logger);

// The calls below return 0 or a negative errno.

// IOCTL_GNTDEV_DMABUF_EXP_WAIT_RELEASED on a gntdev handle's fd. xengnttab_dmabuf_exp_wait_released()
// turns ENOENT (never existed) into success and logs each timeout, so it is not suitable for polling.
int czcopy_wait_released(int gntdev, uint32_t dmabuf, uint32_t milliseconds);

// IOCTL_GNTDEV_DMABUF_EXP_FROM_REFS with a NULL argument, which checks for the ioctl without any effect:
// -ENOTTY if it is not built into this kernel, -EINVAL if it is built but this is a PV domain, -EFAULT if it is usable.
int czcopy_probe_export(int gntdev);

// IOCTL_GNTDEV_DMABUF_IMP_RELEASE of an invalid descriptor: -ENOENT if it is usable, -ENOTTY if it is not built into this
// kernel.
int czcopy_probe_import(int gntdev);

// IOCTL_GNTDEV_DMABUF_IMP_RELEASE with the reserved field set to zero; libxengnttab leaves it uninitialised.
int czcopy_release_import(int gntdev, uint32_t dmabuf);

// IOCTL_GNTDEV_SET_UNMAP_NOTIFY without an action, for the mapping at an index of a gntdev's open file. It removes the
// notification.
int czcopy_silence(int gntdev, uint64_t index);

// The ioctls of /dev/xen/gntalloc that libxengnttab uses, one function each. xengntshr_share_pages() of that library removes
// the pages from the open file's list at once, so that they end with the mapping. Pages on the list outlive the mapping, as
// long as the file is open.
// IOCTL_GNTALLOC_ALLOC_GREF. Gets the references, and the index at which the pages are mapped.
int czcopy_grant_pages(int gntalloc, uint32_t domain, uint32_t count, int writable,
                       uint32_t *references, uint64_t *index);
// IOCTL_GNTALLOC_SET_UNMAP_NOTIFY of the page at an index; UINT32_MAX stands for no byte or no port.
int czcopy_notify_unmap(int gntalloc, uint64_t index, uint32_t byte, uint32_t port);
// IOCTL_GNTALLOC_DEALLOC_GREF.
int czcopy_end_grants(int gntalloc, uint64_t index, uint32_t count);

// Replaces the open file of the descriptor `opened` with that of `inherited`, close-on-exec. Both must be of the same device;
// else -EINVAL. Closes `inherited` in any case.
int czcopy_adopt(int opened, int inherited);

#endif
