// Shims over Linux calls whose constants are macros that Swift cannot import.
#ifndef CZCOPY_LINUX_SHIMS_H
#define CZCOPY_LINUX_SHIMS_H

#include <stddef.h>
#include <stdint.h>

// The calls below return 0 or more, or a negative errno, unless they say otherwise.

// epoll. The caller gives each descriptor a number and the readiness to wait for: either or both of these.
#define CZCOPY_READABLE 1u
#define CZCOPY_WRITABLE 2u
int czcopy_epoll_create(void);
int czcopy_epoll_add(int epoll, int descriptor, uint64_t number, uint32_t interest);
int czcopy_epoll_change(int epoll, int descriptor, uint64_t number, uint32_t interest);
int czcopy_epoll_remove(int epoll, int descriptor);

// The number and the readiness of a descriptor. A descriptor with an error or a hangup is both readable and writable.
typedef struct {
    uint64_t number;
    uint32_t readiness;
} czcopy_ready;

// Maximum number of descriptors that one wait reports.
#define CZCOPY_READY_CAPACITY 16
// Waits at most that many milliseconds, or without a limit for -1. Writes the descriptors that are ready to `ready`, which
// has room for CZCOPY_READY_CAPACITY, and returns their number.
int czcopy_epoll_wait(int epoll, czcopy_ready *ready, int milliseconds);

// Starts a program with one option. The caller reads the program's standard output from the descriptor `*answer`, which is
// non-blocking, and closes the descriptor. Returns the process id, or a negative errno.
int czcopy_ask(const char *program, const char *option, int *answer);

// Makes a timer that expires each time that many nanoseconds have passed: a descriptor, non-blocking and close-on-exec.
int czcopy_timer(uint64_t nanoseconds);
// Clears the expirations of a timer.
void czcopy_drain_timer(int timer);
// Blocks signals and makes a descriptor, non-blocking and close-on-exec, from which they are read.
int czcopy_signals(const int *numbers, size_t count);
// Returns the next signal of such a descriptor, or 0.
int czcopy_next_signal(int signals);
// Returns a descriptor that becomes readable when the process has ended.
int czcopy_pidfd(int process);
// Starts a program, searched in PATH, with no signal blocked. The program inherits standard input, output and error, and
// `descriptor` under the same number. Its environment has one more variable. Returns the process id, or a negative errno.
int czcopy_spawn(char *const *arguments, int descriptor, const char *variable, const char *value);
// Executes a program in this process, with the arguments with which the process was started. Returns a negative errno.
int czcopy_exec_again(const char *program);
// Waits for a child process. Returns its exit code, or 128 plus the number of the signal that ended it.
int czcopy_reap(int process);

// Returns the name of an errno, for instance "EINVAL", or NULL.
const char *czcopy_errno_name(int error);

#endif
