// Counts allocations, where the program is linked with --wrap for the functions that allocate.
#ifndef CALLOCATIONS_H
#define CALLOCATIONS_H

#include <stddef.h>
#include <stdint.h>

// The most return addresses that are kept of one allocation.
#define CALLOCATIONS_DEPTH 24

// Counts from now on, whichever thread allocates; the calling thread is the one whose callers are kept.
void callocations_begin(void);
// Counts no more. How many there were since the call above.
uint64_t callocations_end(void);
// Does not count what the calling thread allocates until it resumes. Pairs may be nested.
void callocations_pause(void);
void callocations_resume(void);
// The return addresses of the first allocation that was counted, the innermost first: how many, at most the room.
size_t callocations_first(uintptr_t *addresses, size_t room);
// Forgets the first allocation; the next one is the first then.
void callocations_forget(void);

#endif
