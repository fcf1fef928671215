// What only checks ask of the kernel.
#ifndef CCONTRACT_H
#define CCONTRACT_H

#include <stdint.h>

// The calls below return 0 or more, or a negative errno. Descriptors that they make are close-on-exec.

// A memfd of that many bytes, with those seals (F_SEAL_SHRINK and so on) and no others.
int contract_memfd(uint64_t size, int seals);

// vgem, a device without hardware: it works on memory for as long as it is told.

// Opens the device: -ENODEV without the module vgem. What it has ends with the last copy of the descriptor.
int vgem_open(void);
// Makes a buffer of that many pages of 4096 bytes: its number.
int vgem_create(int vgem, uint32_t pages);
// A dma-buf of a buffer.
int vgem_export(int vgem, uint32_t buffer);
// Attaches the device to a dma-buf: the number of the buffer that it is to vgem.
int vgem_import(int vgem, int dmabuf);
// Begins to read or to write a buffer, for 10 seconds at most: the number of the work. -EBUSY if others work on it whom such
// work would have to wait for.
int vgem_begin(int vgem, uint32_t buffer, int writes);
// Ends that work.
int vgem_end(int vgem, uint32_t work);
// Starts a process that ends that work after so many milliseconds, and then itself: its id.
int vgem_end_later(int vgem, uint32_t work, int milliseconds);

#endif
