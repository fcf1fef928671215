// Shims over Linux calls whose numbers are macros that Swift cannot import.
#ifndef CZCOPY_LINUX_SHIMS_H
#define CZCOPY_LINUX_SHIMS_H

#include <stddef.h>
#include <stdint.h>

// The calls below return 0 or more, or a negative errno, unless they say otherwise.

// epoll, with a number of the caller's for each descriptor that is waited on for input.
int czcopy_epoll_create(void);
int czcopy_epoll_add(int epoll, int descriptor, uint64_t number);
int czcopy_epoll_remove(int epoll, int descriptor);
// Waits so many milliseconds, -1 for ever; the numbers of what is ready, and how many.
int czcopy_epoll_wait(int epoll, uint64_t *numbers, int capacity, int milliseconds);

// A timer that expires every so many nanoseconds: a descriptor, non-blocking and close-on-exec.
int czcopy_timer(uint64_t nanoseconds);
// Forgets that a timer has expired.
void czcopy_drain_timer(int timer);
// Blocks two signals and makes a descriptor, non-blocking and close-on-exec, that reads them.
int czcopy_signals(int first, int second);
// The next signal of such a descriptor, or 0.
int czcopy_next_signal(int signals);
// A descriptor that is readable once the process has ended.
int czcopy_pidfd(int process);
// Starts a program found by PATH, with no signal blocked and one more descriptor than standard input, output and error,
// under its own number; and with one more variable in its environment. The process id, or a negative errno.
int czcopy_spawn(char *const *arguments, int descriptor, const char *variable, const char *value);
// Waits for a child that has ended: its exit code, or 128 and its signal.
int czcopy_reap(int process);

// The name of an errno, for instance "EINVAL", or NULL.
const char *czcopy_errno_name(int error);

#endif
