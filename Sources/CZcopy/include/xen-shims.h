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

// IOCTL_GNTDEV_SET_UNMAP_NOTIFY with no action, for what is mapped at that index of a gntdev's open file.
int czcopy_silence(int gntdev, uint64_t index);

// What libxengnttab does with /dev/xen/gntalloc, one ioctl each. Its xengntshr_share_pages() takes the pages off the open
// file's list at once, so that they end with the mapping; those that are on the list outlive it, as long as the file is open.
// IOCTL_GNTALLOC_ALLOC_GREF: the references, and the index at which they are mapped.
int czcopy_grant_pages(int gntalloc, uint32_t domain, uint32_t count, int writable,
                       uint32_t *references, uint64_t *index);
// IOCTL_GNTALLOC_SET_UNMAP_NOTIFY of the page at an index; UINT32_MAX for no byte and for no port.
int czcopy_notify_unmap(int gntalloc, uint64_t index, uint32_t byte, uint32_t port);
// IOCTL_GNTALLOC_DEALLOC_GREF.
int czcopy_end_grants(int gntalloc, uint64_t index, uint32_t count);

// Puts the open file behind `inherited` in the place of the one behind `opened`, which must be of the same device, closed on
// exec; closes `inherited` in any case. -EINVAL for another file.
int czcopy_adopt(int opened, int inherited);

#endif
