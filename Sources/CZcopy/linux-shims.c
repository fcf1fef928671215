#define _GNU_SOURCE
#include "linux-shims.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

int czcopy_epoll_create(void) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    return epoll < 0 ? -errno : epoll;
}

static int control(int epoll, int operation, int descriptor, uint64_t number, uint32_t interest) {
    struct epoll_event event = {.data.u64 = number};
    if (interest & CZCOPY_READABLE)
        event.events |= EPOLLIN;
    if (interest & CZCOPY_WRITABLE)
        event.events |= EPOLLOUT;
    return epoll_ctl(epoll, operation, descriptor, &event) < 0 ? -errno : 0;
}

int czcopy_epoll_add(int epoll, int descriptor, uint64_t number, uint32_t interest) {
    return control(epoll, EPOLL_CTL_ADD, descriptor, number, interest);
}

int czcopy_epoll_change(int epoll, int descriptor, uint64_t number, uint32_t interest) {
    return control(epoll, EPOLL_CTL_MOD, descriptor, number, interest);
}

int czcopy_epoll_remove(int epoll, int descriptor) {
    return epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, NULL) < 0 ? -errno : 0;
}

static uint32_t readiness(uint32_t events) {
    // The caller gets the error when it reads or writes.
    if (events & (EPOLLERR | EPOLLHUP))
        return CZCOPY_READABLE | CZCOPY_WRITABLE;
    return (events & EPOLLIN ? CZCOPY_READABLE : 0) | (events & EPOLLOUT ? CZCOPY_WRITABLE : 0);
}

int czcopy_epoll_wait(int epoll, czcopy_ready *ready, int milliseconds) {
    struct epoll_event events[CZCOPY_READY_CAPACITY];
    int count = epoll_wait(epoll, events, CZCOPY_READY_CAPACITY, milliseconds);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++)
        ready[i] = (czcopy_ready){events[i].data.u64, readiness(events[i].events)};
    return count;
}

int czcopy_timer(uint64_t nanoseconds) {
    struct timespec interval = {
        .tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};
    struct itimerspec setting = {.it_interval = interval, .it_value = interval};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer < 0)
        return -errno;
    if (timerfd_settime(timer, 0, &setting, NULL) < 0) {
        int error = errno;
        close(timer);
        return -error;
    }
    return timer;
}

void czcopy_drain_timer(int timer) {
    uint64_t expirations;
    // The descriptor is non-blocking: EAGAIN means that the timer has not expired.
    if (read(timer, &expirations, sizeof(expirations)) < 0)
        return;
}

int czcopy_signals(const int *numbers, size_t count) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < count; i++)
        if (sigaddset(&set, numbers[i]) < 0)
            return -errno;
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error)
        return -error;
    int signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return signals < 0 ? -errno : signals;
}

int czcopy_next_signal(int signals) {
    struct signalfd_siginfo info;
    return read(signals, &info, sizeof(info)) == sizeof(info) ? (int)info.ssi_signo : 0;
}

int czcopy_pidfd(int process) {
    int descriptor = (int)syscall(SYS_pidfd_open, process, 0);
    return descriptor < 0 ? -errno : descriptor;
}

extern char **environ;

// Returns the environment with one more variable, which replaces an existing one of the same name.
static char **environment_with(const char *variable, const char *value, char **entry) {
    size_t count = 0, length = strlen(variable);
    while (environ[count])
        count++;
    char **result = calloc(count + 2, sizeof(*result));
    *entry = malloc(length + strlen(value) + 2);
    if (!result || !*entry) {
        free(result);
        free(*entry);
        return NULL;
    }
    sprintf(*entry, "%s=%s", variable, value);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], *entry, length + 1))
            result[kept++] = environ[i];
    result[kept] = *entry;
    return result;
}

// Starts a program that inherits `descriptor` under the number `number`, which may be the same. Returns the process id, or a
// negative errno.
static int spawn(char *const *arguments, char *const *environment, int descriptor, int number) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, ignored;
    pid_t process;
    sigemptyset(&none);
    sigemptyset(&ignored);
    sigaddset(&ignored, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    // The program must not inherit that this process ignores SIGPIPE.
    posix_spawnattr_setsigdefault(&attributes, &ignored);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    // Clears close-on-exec in the child only, even if both numbers are the same.
    int error = posix_spawn_file_actions_adddup2(&actions, descriptor, number);
    if (!error)
        error = posix_spawnp(&process, arguments[0], &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return error ? -error : process;
}

int czcopy_spawn(char *const *arguments, int descriptor, const char *variable, const char *value) {
    char *entry;
    char **environment = environment_with(variable, value, &entry);
    if (!environment)
        return -ENOMEM;
    int process = spawn(arguments, environment, descriptor, descriptor);
    free(environment);
    free(entry);
    return process;
}

int czcopy_ask(const char *program, const char *option, int *answer) {
    char *const arguments[] = {(char *)program, (char *)option, NULL};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    int process = spawn(arguments, environ, ends[1], STDOUT_FILENO);
    close(ends[1]);
    if (process < 0)
        close(ends[0]);
    else
        *answer = ends[0];
    return process;
}

int czcopy_reap(int process) {
    int status;
    pid_t result;
    do
        result = waitpid(process, &status, 0);
    while (result < 0 && errno == EINTR);
    if (result < 0)
        return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

const char *czcopy_errno_name(int error) {
    return strerrorname_np(error);
}

int czcopy_exec_again(const char *program) {
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    if (file < 0) return -errno;
    // Each argument ends with a 0 byte.
    static char text[65536];
    static char *arguments[4096];
    size_t length = 0;
    ssize_t count;
    while ((count = read(file, text + length, sizeof text - 1 - length)) > 0) length += (size_t)count;
    close(file);
    text[length] = 0;
    size_t index = 0;
    for (size_t start = 0; start < length && index < 4095; start += strlen(text + start) + 1)
        arguments[index++] = text + start;
    arguments[index] = NULL;
    execv(program, arguments);
    return -errno;
}
