// Counts system calls, for tests.
#ifndef CSYSTEMCALLS_H
#define CSYSTEMCALLS_H

// Runs `body` in a forked child and returns the number of system calls that it makes; -errno if the child cannot be traced.
// The child has one thread: the body must not wait for another thread.
int csystemcalls_count(void (*body)(void *context), void *context);

#endif
