#include "CAllocations.h"

#include <stdatomic.h>
#include <stdbool.h>

static atomic_bool counting;
static _Atomic uint64_t count;
static _Thread_local unsigned paused;
// The frame of the function that called callocations_begin(); 0 in other threads.
static _Thread_local uintptr_t top;
static uintptr_t first[CALLOCATIONS_DEPTH];
static _Atomic size_t first_depth;

void callocations_begin(void) {
    // Use the caller's frame: this function returns before any allocation is counted.
    top = *(uintptr_t *)__builtin_frame_address(0);
    atomic_store(&count, 0);
    atomic_store(&counting, true);
}

uint64_t callocations_end(void) {
    atomic_store(&counting, false);
    top = 0;
    return atomic_load(&count);
}

void callocations_pause(void) {
    paused++;
}

void callocations_resume(void) {
    paused--;
}

size_t callocations_first(uintptr_t *addresses, size_t room) {
    size_t depth = atomic_load(&first_depth);
    if (depth > room) depth = room;
    for (size_t index = 0; index < depth; index++) addresses[index] = first[index];
    return depth;
}

void callocations_forget(void) {
    atomic_store(&first_depth, 0);
}

// Follows frame pointers, which Swift's code and runtime have. A function without a frame pointer may use the register for another
// value. The walk reads only addresses between this frame and `top`, which are this thread's stack, so that such a value ends the walk
// or adds a wrong address, but cannot cause a fault.
static void keep(uintptr_t address, uintptr_t frame) {
    size_t depth = 0;
    first[depth++] = address;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    while (depth < CALLOCATIONS_DEPTH && frame > here && frame < top && frame % sizeof frame == 0) {
        const uintptr_t *pair = (const uintptr_t *)frame;
        first[depth++] = pair[1];
        here = frame;
        frame = pair[0];
    }
    atomic_store(&first_depth, depth);
}

static inline void note(void *address, void *frame) {
    if (!atomic_load(&counting) || paused > 0) return;
    atomic_fetch_add(&count, 1);
    if (atomic_load(&first_depth) == 0) keep((uintptr_t)address, *(uintptr_t *)frame);
}

// A macro, so that the return address and the frame are those of the wrapping function.
#define NOTE() note(__builtin_return_address(0), __builtin_frame_address(0))

void *__real_malloc(size_t size);
void *__real_calloc(size_t number, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_memalign(size_t alignment, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);

void *__wrap_malloc(size_t size) {
    NOTE();
    return __real_malloc(size);
}

void *__wrap_calloc(size_t number, size_t size) {
    NOTE();
    return __real_calloc(number, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    NOTE();
    return __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    NOTE();
    return __real_aligned_alloc(alignment, size);
}

void *__wrap_memalign(size_t alignment, size_t size) {
    NOTE();
    return __real_memalign(alignment, size);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
    NOTE();
    return __real_posix_memalign(memory, alignment, size);
}
