// Counts system calls, for tests.
#ifndef CSYSTEMCALLS_H
#define CSYSTEMCALLS_H

// Runs `body` in a copy of this process and counts the system calls that it makes; -errno if that cannot be traced.
// The copy has one thread: the body waits for no other.
int csystemcalls_count(void (*body)(void *context), void *context);

#endif
