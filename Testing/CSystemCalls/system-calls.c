#define _GNU_SOURCE
#include "CSystemCalls.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// A system call with a number and an argument that no other code uses. It marks the beginning and the end of the body.
#define MARK SYS_personality
#define MARK_ARGUMENT 0xffffffffu

static void mark(void) {
    syscall(MARK, MARK_ARGUMENT);
}

static int is_mark(pid_t child) {
    struct __ptrace_syscall_info info;
    return ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY &&
           info.entry.nr == MARK && info.entry.args[0] == MARK_ARGUMENT;
}

static int is_entry(pid_t child) {
    struct __ptrace_syscall_info info;
    return ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY;
}

static int trace(pid_t child) {
    int status, marks = 0, count = 0;
    if (waitpid(child, &status, __WALL) < 0 || !WIFSTOPPED(status)) return -ECHILD;
    if (ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0) return -errno;
    while (marks < 2) {
        if (ptrace(PTRACE_SYSCALL, child, 0, 0) < 0) return -errno;
        if (waitpid(child, &status, __WALL) < 0 || !WIFSTOPPED(status)) return -ECHILD;
        if (WSTOPSIG(status) != (SIGTRAP | 0x80) || !is_entry(child)) continue;
        if (is_mark(child)) marks++;
        else if (marks == 1) count++;
    }
    return count;
}

int csystemcalls_count(void (*body)(void *context), void *context) {
    pid_t child = fork();
    if (child < 0) return -errno;
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) _exit(1);
        raise(SIGSTOP);
        mark();
        body(context);
        mark();
        _exit(0);
    }
    int result = trace(child), status;
    kill(child, SIGKILL);
    waitpid(child, &status, __WALL);
    return result;
}
