#define _GNU_SOURCE
#include "closing-shims.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

// What is to be closed goes through a pipe: writing to it never waits.
struct closer {
    int ends[2];
    int is_open, has_thread;
    atomic_uint count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct closer closers[CZCOPY_CLOSERS_MAX];

static void *close_all(void *argument) {
    struct closer *closer = argument;
    for (;;) {
        int descriptor;
        ssize_t count = read(closer->ends[0], &descriptor, sizeof descriptor);
        if (count < 0 && errno == EINTR) continue;
        if (count != sizeof descriptor) return NULL;
        close(descriptor);
        atomic_fetch_sub(&closer->count, 1);
    }
}

static int open_pipe(struct closer *closer) {
    if (closer->is_open) return 0;
    if (pipe2(closer->ends, O_CLOEXEC) < 0) return -errno;
    if (fcntl(closer->ends[1], F_SETFL, O_NONBLOCK) < 0) {
        int error = errno;
        close(closer->ends[0]);
        close(closer->ends[1]);
        return -error;
    }
    // Room for more numbers than this process may have descriptors; without the right to that, for 16384.
    (void)fcntl(closer->ends[1], F_SETPIPE_SZ, 1 << 20);
    closer->is_open = 1;
    return 0;
}

static void start_thread(struct closer *closer) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (pthread_attr_init(&attributes)) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 128 << 10);
    // A thread begins with its maker's mask: signals are the others'.
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    closer->has_thread = !pthread_create(&thread, &attributes, close_all, closer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

void czcopy_close_aside(int descriptor, uint32_t user) {
    struct closer *closer = &closers[user % CZCOPY_CLOSERS_MAX];
    int is_passed = 0;
    pthread_mutex_lock(&lock);
    if (open_pipe(closer) == 0) {
        if (!closer->has_thread) start_thread(closer);
        atomic_fetch_add(&closer->count, 1);
        is_passed = closer->has_thread && write(closer->ends[1], &descriptor, sizeof descriptor) == sizeof descriptor;
        if (!is_passed) atomic_fetch_sub(&closer->count, 1);
    }
    pthread_mutex_unlock(&lock);
    if (!is_passed) close(descriptor);
}

unsigned czcopy_closing_count(uint32_t user) {
    return atomic_load(&closers[user % CZCOPY_CLOSERS_MAX].count);
}
