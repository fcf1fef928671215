// System calls that only contract checks need.
#ifndef CCONTRACT_H
#define CCONTRACT_H

#include <stdint.h>

// The functions return 0 or more, or a negative errno. New descriptors are close-on-exec.

// Creates a memfd of `size` bytes with exactly these seals (F_SEAL_SHRINK and so on).
int contract_memfd(uint64_t size, int seals);

// vgem is a device without hardware. Its work on a buffer lasts until vgem_end(), at most 10 seconds.

// Opens the device; -ENODEV without the module vgem. Its buffers and work end when the last copy of the descriptor is closed.
int vgem_open(void);
// Creates a buffer of `pages` pages of 4096 bytes. Returns its number.
int vgem_create(int vgem, uint32_t pages);
// Exports a buffer. Returns the descriptor of the dma-buf.
int vgem_export(int vgem, uint32_t buffer);
// Attaches the device to a dma-buf. Returns vgem's number of the buffer.
int vgem_import(int vgem, int dmabuf);
// Begins to read or to write a buffer, for at most 10 seconds. Returns the number of the work; -EBUSY if the work would have to
// wait for other work on the buffer.
int vgem_begin(int vgem, uint32_t buffer, int writes);
// Ends the work.
int vgem_end(int vgem, uint32_t work);
// Starts a process that ends the work after `milliseconds` and then exits. Returns the id of the process.
int vgem_end_later(int vgem, uint32_t work, int milliseconds);

#endif
