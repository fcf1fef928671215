// guest-exec: runs a command in a guest, from dom0, through its guest-agent.
//
//   guest-exec DOMID wait SECONDS                  wait until the guest accepts jobs
//   guest-exec DOMID run JOB SECONDS COMMAND       run, copy its output, exit with its status
//   guest-exec DOMID signal JOB NUMBER             send a signal to a running job
//
// SECONDS 0 means no limit. Exit status: the command's own, 128 + N if signal N
// killed it, 124 after the time limit, 125 if the guest has ended or XenStore fails.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store.h"

static int store;
static char base[64];
static const char *domid;

static void fail(const char *what)
{
    fprintf(stderr, "guest-exec: domain %s: %s\n", domid, what);
    exit(125);
}

static char *get(const char *format, const char *job, unsigned *length)
{
    char path[MAX_PATH];

    snprintf(path, sizeof path, format, base, job);
    return store_read(path, length);
}

static void put(const char *job, const char *what, const char *value)
{
    char path[MAX_PATH];

    snprintf(path, sizeof path, "%s/control/%s/%s", base, job, what);
    if (!store_write(path, value, strlen(value)))
        fail("cannot write to XenStore; is the guest still there?");
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

// The path of the next event, or NULL after the deadline.
static char *next_event(double deadline)
{
    for (;;) {
        struct pollfd fd = { .fd = store, .events = POLLIN };
        char *event = store_event();
        double left = deadline ? deadline - now() : 3600;

        if (event)
            return event;
        if (left <= 0)
            return NULL;
        poll(&fd, 1, left * 1000 + 1);
    }
}

static void watch(const char *path)
{
    if (!store_watch(path))
        fail("cannot watch XenStore");
}

static int wait_ready(double deadline)
{
    char path[MAX_PATH], *event;

    snprintf(path, sizeof path, "%s/ready", base);
    watch(path);
    while ((event = next_event(deadline))) {
        unsigned length;
        char *ready = store_read(path, &length);

        free(event);
        if (ready)
            return 0;
    }
    return 124;
}

static void forget(const char *job)
{
    char path[MAX_PATH];

    snprintf(path, sizeof path, "%s/control/%s", base, job);
    store_remove(path);
    snprintf(path, sizeof path, "%s/job/%s", base, job);
    store_remove(path);
}

static int run(const char *job, double deadline, const char *command)
{
    char path[MAX_PATH], text[16], *event;
    unsigned length, taken = 0;

    forget(job);
    snprintf(path, sizeof path, "%s/job/%s", base, job);
    watch(path);
    watch("@releaseDomain");
    put(job, "command", command);

    while ((event = next_event(deadline))) {
        const char *changed = event;
        const char *slash = strrchr(changed, '/');
        const char *node = slash ? slash + 1 : changed;
        char *value;

        if (strstr(changed, "/output/")) {
            // Pieces arrive in order. The guest reuses a slot only after `taken` counts its piece.
            if ((unsigned)atoi(node) == taken % SLOTS &&
                (value = store_read(changed, &length))) {
                fwrite(value, 1, length, stdout);
                fflush(stdout);
                free(value);
                if (++taken % (SLOTS / 4) == 0) {
                    snprintf(text, sizeof text, "%u", taken);
                    put(job, "taken", text);
                }
            }
        } else if (!strcmp(node, "status") && (value = get("%s/job/%s/status", job, &length))) {
            int status = atoi(value);

            forget(job);
            return status;
        } else if (!(value = get("%s/control/%s/command", job, &length))) {
            fail("the guest ended while a job ran in it");
        } else {
            free(value);
        }
        free(event);
    }
    put(job, "signal", "9");
    fprintf(stderr, "guest-exec: domain %s: time limit exceeded, killed: %s\n", domid, command);
    return 124;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[2] : "";
    double deadline;

    domid = argc > 1 ? argv[1] : "?";
    snprintf(base, sizeof base, "/local/domain/%s/data/lab", domid);
    store = store_open();

    if (!strcmp(verb, "wait") && argc == 4) {
        deadline = atof(argv[3]) ? now() + atof(argv[3]) : 0;
        return wait_ready(deadline);
    }
    if (!strcmp(verb, "run") && argc == 6) {
        deadline = atof(argv[4]) ? now() + atof(argv[4]) : 0;
        return run(argv[3], deadline, argv[5]);
    }
    if (!strcmp(verb, "signal") && argc == 5) {
        put(argv[3], "signal", argv[4]);
        return 0;
    }
    fail("usage: guest-exec DOMID wait SECONDS | run JOB SECONDS COMMAND | signal JOB NUMBER");
}
