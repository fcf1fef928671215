// Shims over Linux calls for memory files, dma-bufs and sync files.
#ifndef CZCOPY_DMA_BUF_SHIMS_H
#define CZCOPY_DMA_BUF_SHIMS_H

#include <linux/sync_file.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>

// The calls below return 0 or more, or a negative errno. New descriptors are close-on-exec.

// Makes a memfd of that many bytes, sealed against shrinking, as udmabuf requires.
int czcopy_memfd(const char *name, uint64_t size);
// Gets the inode number of an open file, and its size in bytes.
int czcopy_file_inode(int fd, uint64_t *inode, uint64_t *size);

// DMA_HEAP_IOCTL_ALLOC. Returns the new dma-buf, readable and writable.
int czcopy_heap_allocate(int heap, uint64_t size);
// UDMABUF_CREATE of a piece of a memfd. Returns the new dma-buf.
int czcopy_udmabuf_create(int udmabuf, int memfd, uint64_t offset, uint64_t size);

// A piece of a memfd.
struct czcopy_piece {
    int32_t memfd;
    uint64_t offset, size;
};
// UDMABUF_CREATE_LIST of `count` pieces, one after the other. Returns the new dma-buf.
int czcopy_udmabuf_create_list(int udmabuf, const struct czcopy_piece *pieces, uint32_t count);

// DMA_BUF_SET_NAME: at most 31 bytes and a NUL.
int czcopy_dmabuf_set_name(int dmabuf, const char *name);
// DMA_BUF_IOCTL_SYNC: starts or ends an access by the processor. Repeats the call on EINTR and EAGAIN.
int czcopy_dmabuf_sync(int dmabuf, int reads, int writes, int ends);
// DMA_BUF_IOCTL_EXPORT_SYNC_FILE. Returns the new sync file.
int czcopy_dmabuf_export_sync_file(int dmabuf, int reads, int writes);
// DMA_BUF_IOCTL_IMPORT_SYNC_FILE.
int czcopy_dmabuf_import_sync_file(int dmabuf, int sync_file, int reads, int writes);

// SYNC_IOC_MERGE. Returns the new sync file. The name is truncated to 31 bytes.
int czcopy_sync_merge(int sync_file, int other, const char *name);
// SYNC_IOC_FILE_INFO. The caller has filled in `info`.
int czcopy_sync_information(int sync_file, struct sync_file_info *info);

// poll(2). After a signal, continues for the remaining time.
int czcopy_poll(struct pollfd *entries, uint32_t count, int milliseconds);

#endif
