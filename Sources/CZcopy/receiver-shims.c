#define _GNU_SOURCE
#include "receiver-shims.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void close_all_but(int one, int other) {
    unsigned low = (unsigned)(one < other ? one : other), high = (unsigned)(one < other ? other : one);
    if (low > 0) close_range(0, low - 1, 0);
    if (high > low + 1) close_range(low + 1, high - 1, 0);
    close_range(high + 1, ~0u, 0);
}

// Starts the program as a child of a child that exits at once, so that neither this process nor its successor after an exec
// has to reap it. Neither child is made with fork(), which would copy the mappings of other domains' memory.
static int start_orphan(const char *program, char **arguments, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attributes, int socket, int report) {
    sigset_t all, before;
    sigfillset(&all);
    // The child shares this process's memory, so no signal handler may run in it.
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t child = vfork();
    if (child == 0) {
        // The child has a copy of each descriptor. A file that this process closes meanwhile would stay open until the child
        // exits.
        close_all_but(socket, report);
        pid_t process;
        int error = posix_spawn(&process, program, actions, attributes, arguments, environ);
        int answer = error ? -error : process;
        _exit(write(report, &answer, sizeof answer) != sizeof answer);
    }
    int error = child < 0 ? errno : 0;
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

static int spawn(const char *program, const char *user, int socket, int report) {
    char *arguments[] = {CZCOPY_RECEIVER_NAME, (char *)user, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t all;
    sigfillset(&all);
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return -error;
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        posix_spawnattr_setsigmask(&attributes, &all);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        error = posix_spawn_file_actions_adddup2(&actions, socket, 0);
        if (!error) error = posix_spawn_file_actions_addclosefrom_np(&actions, 1);
        if (!error) error = -start_orphan(program, arguments, &actions, &attributes, socket, report);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return -error;
}

int czcopy_receiver_start(const char *program, const char *user, int *process) {
    int ends[2], reports[2];
    if (pipe2(reports, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
    int status = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0 ? -errno : 0;
    if (status == 0) {
        status = spawn(program, user, ends[1], reports[1]);
        close(ends[1]);
        if (status == 0 && read(reports[0], process, sizeof *process) != sizeof *process) status = -EAGAIN;
        if (status == 0 && *process < 0) status = *process;
        if (status < 0) close(ends[0]);
    }
    close(reports[0]);
    close(reports[1]);
    return status < 0 ? status : ends[0];
}

int czcopy_signal(int pidfd, int signal) {
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}
