// Shims over Linux calls whose numbers are macros that Swift cannot import.
#ifndef CZCOPY_LINUX_SHIMS_H
#define CZCOPY_LINUX_SHIMS_H

#include <stddef.h>
#include <stdint.h>

// The calls below return 0 or more, or a negative errno, unless they say otherwise.

// epoll, with a number of the caller's for each descriptor, and what it is waited for: either or both of these.
#define CZCOPY_READABLE 1u
#define CZCOPY_WRITABLE 2u
int czcopy_epoll_create(void);
int czcopy_epoll_add(int epoll, int descriptor, uint64_t number, uint32_t interest);
int czcopy_epoll_change(int epoll, int descriptor, uint64_t number, uint32_t interest);
int czcopy_epoll_remove(int epoll, int descriptor);

// A descriptor that is ready, by its number. One in error or at its end is ready for either.
typedef struct {
    uint64_t number;
    uint32_t readiness;
} czcopy_ready;

// The most that one wait tells.
#define CZCOPY_READY_CAPACITY 16
// Waits so many milliseconds, -1 for ever; what is ready, and how many, no more than there is room for.
int czcopy_epoll_wait(int epoll, czcopy_ready *ready, int milliseconds);

// Starts a program with one option. What it writes to its standard output can be read, without waiting, from the descriptor at
// `answer`, which is the caller's. Returns its number, or a negative errno.
int czcopy_ask(const char *program, const char *option, int *answer);

// A timer that expires every so many nanoseconds: a descriptor, non-blocking and close-on-exec.
int czcopy_timer(uint64_t nanoseconds);
// Forgets that a timer has expired.
void czcopy_drain_timer(int timer);
// Blocks signals and makes a descriptor, non-blocking and close-on-exec, that reads them.
int czcopy_signals(const int *numbers, size_t count);
// The next signal of such a descriptor, or 0.
int czcopy_next_signal(int signals);
// A descriptor that is readable once the process has ended.
int czcopy_pidfd(int process);
// Starts a program found by PATH, with no signal blocked and one more descriptor than standard input, output and error,
// under its own number; and with one more variable in its environment. The process id, or a negative errno.
int czcopy_spawn(char *const *arguments, int descriptor, const char *variable, const char *value);
// Puts a program in this process's place, with the arguments that this one was started with. Returns a negative errno.
int czcopy_exec_again(const char *program);
// Waits for a child that has ended: its exit code, or 128 and its signal.
int czcopy_reap(int process);

// The name of an errno, for instance "EINVAL", or NULL.
const char *czcopy_errno_name(int error);

#endif
