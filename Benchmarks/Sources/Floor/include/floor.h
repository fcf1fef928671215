// The same work as xen-zcopy's, in bare C with the Xen libraries and no check of anything: the floor to compare with.
// What returns int returns 0, or -1 with errno set.
#ifndef FLOOR_H
#define FLOOR_H

#include <stddef.h>
#include <stdint.h>

// The processor's counter, which no kernel is asked for. In the lab's `bench` it goes on by two with each instruction.
static inline uint64_t floor_counter(void) {
#ifdef __x86_64__
    return __builtin_ia32_rdtsc();
#else
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#endif
}

// Keeps for the next buffer what is freed, as in a program that has had larger ones. Else it depends on where the heap
// happens to end whether each round gives pages back to the kernel, and faults them in again.
void floor_keep_heap(void);

// References in a page of a directory, after the reference of the next page.
enum { FLOOR_PER_PAGE = 1023 };

// --- Mapping another domain's buffer ----------------------------------------

// A map that is open.
struct floor_map {
    void *device;
    uint32_t fd;
};

// Opens gntdev, copies the directory's pages, makes a dma-buf.
int floor_map_open(struct floor_map *map, uint32_t domain, uint32_t directory, uint32_t pages, uint32_t *references);
// Closes the dma-buf, waits until it is released, closes gntdev.
int floor_map_close(struct floor_map *map);

// A grant device for the walks below, and its end.
void *floor_device_open(void);
void floor_device_close(void *device);
// Walks the directory as backends do today: maps and unmaps each page.
int floor_walk_by_mapping(void *device, uint32_t domain, uint32_t directory, uint32_t pages, uint32_t *references);
// Walks the directory by grant copies, with no check of what it says.
int floor_walk_by_copy(void *device, uint32_t domain, uint32_t directory, uint32_t pages, uint32_t *references);

// --- Sharing a buffer with another domain -----------------------------------

enum floor_source { FLOOR_GNTALLOC, FLOOR_UDMABUF, FLOOR_SYSTEM_HEAP, FLOOR_DESCRIPTOR };

// A buffer that is shared, and its directory.
struct floor_share {
    // Of gntalloc: two handles, as many as xen-zcopy opens.
    void *allocator, *pages;
    void *directory_allocator, *directory;
    // Of a dma-buf, and the memory file of which it was made, if it was.
    void *device;
    int fd, file;
    uint32_t count, directory_count;
};

// Gets memory, or a copy of the descriptor of memory that there is; grants it page by page, lists the references.
int floor_share_open(struct floor_share *share, enum floor_source source, int fd, uint32_t peer, uint32_t pages,
                     uint32_t *references);
// Takes the grants away, and the memory.
int floor_share_close(struct floor_share *share);

// --- Asking another process --------------------------------------------------

// A process that sends each message of at most 256 bytes back.
struct floor_message {
    int socket, server;
};

int floor_message_open(struct floor_message *message);
// Sends a message of 256 bytes, and receives it.
int floor_message_send(struct floor_message *message);
// Ends the process.
void floor_message_close(struct floor_message *message);

// --- Copying another domain's buffer ----------------------------------------

// A memory file of as many pages as the buffer has, mapped; a dma-buf of it; and what copies into it.
struct floor_copy {
    void *device, *segments, *memory;
    int fd;
    const uint32_t *references;
    uint32_t domain, pages;
};

// The references must live as long as the copy.
int floor_copy_open(struct floor_copy *copy, uint32_t domain, const uint32_t *references, uint32_t pages);
void floor_copy_close(struct floor_copy *copy);
// Copies all of it in one call.
int floor_copy_all(struct floor_copy *copy);
// Copies a rectangle's rows in one call: where the first begins, how far apart they are, and how long each is, in bytes.
int floor_copy_rows(struct floor_copy *copy, size_t start, size_t stride, size_t row, uint32_t rows);
// Begins or ends writing by the processor, so that devices see what is written.
int floor_copy_sync(struct floor_copy *copy, int ends);
// Copies as much of this domain's own memory.
void floor_copy_local(struct floor_copy *copy, const void *source);

#endif
