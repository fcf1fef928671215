// Shims over Linux calls whose numbers are macros that Swift cannot import.
#ifndef CZCOPY_LINUX_SHIMS_H
#define CZCOPY_LINUX_SHIMS_H

#include <stddef.h>
#include <stdint.h>

// The calls below return 0 or more, or a negative errno, unless they say otherwise.

// DMA_BUF_SET_NAME: 31 bytes and a NUL at most.
int czcopy_dmabuf_set_name(int dmabuf, const char *name);
// DMA_BUF_IOCTL_SYNC: CPU access starts or ends.
int czcopy_dmabuf_sync(int dmabuf, int reads, int writes, int ends);
// DMA_HEAP_IOCTL_ALLOC: the new dma-buf, close-on-exec, readable and writable.
int czcopy_heap_allocate(int heap, uint64_t size);
// UDMABUF_CREATE over a whole memfd: the new dma-buf, close-on-exec.
int czcopy_udmabuf_create(int udmabuf, int memfd, uint64_t offset, uint64_t size);
// A memfd of that many bytes that is sealed against shrinking, as udmabuf asks.
int czcopy_memfd(const char *name, uint64_t size);

// The name of an errno, for instance "EINVAL", or NULL.
const char *czcopy_errno_name(int error);

// The inode number and size in bytes of an open file; 0 or a negative errno.
int czcopy_file_identity(int fd, uint64_t *inode, uint64_t *size);

#endif
