// Counts allocations. The program must be linked with --wrap for each allocating function.
#ifndef CALLOCATIONS_H
#define CALLOCATIONS_H

#include <stddef.h>
#include <stdint.h>

// The maximum number of return addresses that are kept for one allocation.
#define CALLOCATIONS_DEPTH 24

// Starts to count the allocations of all threads. Return addresses are kept only for the calling thread.
void callocations_begin(void);
// Stops counting. Returns the number of allocations since callocations_begin().
uint64_t callocations_end(void);
// Excludes the calling thread's allocations until callocations_resume(). Pairs may be nested.
void callocations_pause(void);
void callocations_resume(void);
// Writes the return addresses of the first counted allocation, the innermost first. Returns their number, at most `room`.
size_t callocations_first(uintptr_t *addresses, size_t room);
// Discards the first allocation; the next one becomes the first.
void callocations_forget(void);

#endif
