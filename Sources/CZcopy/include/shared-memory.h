// Access to memory that another domain may write at the same time.
//
// C and Swift assume that memory does not change between two reads of one word. This memory may. Each function here
// accesses the memory exactly once, with the memory order in its name. The caller then works on a copy.
#ifndef CZCOPY_SHARED_MEMORY_H
#define CZCOPY_SHARED_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Reads the word once. Values that the other side wrote before the word are visible after this read.
static inline uint32_t czcopy_load_acquire_32(const void *address) {
    return __atomic_load_n((const uint32_t *)address, __ATOMIC_ACQUIRE);
}

// Writes the word once. A reader that sees the word also sees all earlier writes.
static inline void czcopy_store_release_32(void *address, uint32_t value) {
    __atomic_store_n((uint32_t *)address, value, __ATOMIC_RELEASE);
}

static inline uint8_t czcopy_load_acquire_8(const void *address) {
    return __atomic_load_n((const uint8_t *)address, __ATOMIC_ACQUIRE);
}

static inline void czcopy_store_release_8(void *address, uint8_t value) {
    __atomic_store_n((uint8_t *)address, value, __ATOMIC_RELEASE);
}

// Copies to or from shared memory. The barriers keep the compiler from reading the source again later.
static inline void czcopy_copy(void *destination, const void *source, size_t count) {
    __asm__ volatile("" ::: "memory");
    memcpy(destination, source, count);
    __asm__ volatile("" ::: "memory");
}

#endif
