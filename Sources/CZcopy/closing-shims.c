#define _GNU_SOURCE
#include "closing-shims.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

// What is to be closed goes through a pipe: writing to it never waits, and each reader gets whole numbers.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int ends[2] = {-1, -1};
static unsigned threads;
static atomic_uint closing;

static void *close_all(void *unused) {
    (void)unused;
    for (;;) {
        int descriptor;
        ssize_t count = read(ends[0], &descriptor, sizeof descriptor);
        if (count < 0 && errno == EINTR) continue;
        if (count != sizeof descriptor) return NULL;
        close(descriptor);
        atomic_fetch_sub(&closing, 1);
    }
}

static int open_pipe(void) {
    if (ends[0] >= 0) return 0;
    int made[2];
    if (pipe2(made, O_CLOEXEC) < 0) return -errno;
    if (fcntl(made[1], F_SETFL, O_NONBLOCK) < 0) {
        int error = errno;
        close(made[0]);
        close(made[1]);
        return -error;
    }
    // Room for more numbers than this process may have descriptors; without the right to that, for 16384.
    (void)fcntl(made[1], F_SETPIPE_SZ, 1 << 20);
    ends[0] = made[0];
    ends[1] = made[1];
    return 0;
}

static void start_thread(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (pthread_attr_init(&attributes)) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 128 << 10);
    // A thread begins with its maker's mask: signals are the others'.
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (!pthread_create(&thread, &attributes, close_all, NULL)) threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

void czcopy_close_aside(int descriptor) {
    pthread_mutex_lock(&lock);
    int is_passed = 0;
    if (open_pipe() == 0) {
        unsigned waiting = atomic_fetch_add(&closing, 1) + 1;
        if (waiting > threads && threads < CZCOPY_CLOSERS_MAX) start_thread();
        is_passed = threads > 0 && write(ends[1], &descriptor, sizeof descriptor) == sizeof descriptor;
        if (!is_passed) atomic_fetch_sub(&closing, 1);
    }
    pthread_mutex_unlock(&lock);
    if (!is_passed) close(descriptor);
}

unsigned czcopy_closing_count(void) {
    return atomic_load(&closing);
}
