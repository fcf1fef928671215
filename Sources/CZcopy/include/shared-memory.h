// Access to memory that another domain writes at the same time.
//
// Such memory is outside what C and Swift assume of memory: two reads of one word may differ. Each access
// here is done exactly once, with the order that its name says, and works on a copy from then on.
#ifndef CZCOPY_SHARED_MEMORY_H
#define CZCOPY_SHARED_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// The word, read once; what the other side wrote before it is seen after it.
static inline uint32_t czcopy_load_acquire_32(const void *address) {
    return __atomic_load_n((const uint32_t *)address, __ATOMIC_ACQUIRE);
}

// Writes the word once; what was written before it is seen by who sees it.
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
