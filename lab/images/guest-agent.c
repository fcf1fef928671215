// guest-agent: runs commands in a guest for dom0's guest-exec.
//
// Both programs communicate through XenStore, in the guest's own data/lab directory.
// This needs no grants and event channels besides the guest's connection to XenStore,
// so it does not affect the results of scenarios. dom0 writes below control/, the guest
// below job/. Each side watches only the other's directory, so its own writes do not
// wake it.
//
//   ready                 the guest accepts jobs
//   control/JOB/command   dom0: start this with /bin/sh
//   control/JOB/signal    dom0: send this signal (a number)
//   control/JOB/taken     dom0: how many pieces of output it has read
//   job/JOB/output/SLOT   guest: piece number N of the output is in slot N % 16
//   job/JOB/status        guest: exit status, 128 + N when signal N killed it
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store.h"

#define MAX_JOBS 32

struct job {
    char name[64];
    pid_t pid;
    int output;         // read end of the job's stdout and stderr; -1: end of file
    int status;         // -1: still running
    unsigned written;   // pieces of output
    unsigned taken;     // pieces that dom0 has read
};

static struct job jobs[MAX_JOBS];

static struct job *find(const char *name)
{
    for (int i = 0; i < MAX_JOBS; i++)
        if (jobs[i].pid && !strcmp(jobs[i].name, name))
            return &jobs[i];
    return NULL;
}

static void put(const char *path, const void *data, unsigned length)
{
    if (!store_write(path, data, length))
        fprintf(stderr, "guest-agent: cannot write %s: %s\n", path, strerror(errno));
}

static void finish(struct job *job)
{
    char path[MAX_PATH], text[16];

    snprintf(path, sizeof path, "data/lab/job/%.63s/status", job->name);
    snprintf(text, sizeof text, "%d", job->status);
    put(path, text, strlen(text));
    job->pid = 0;
}

static void start(const char *name, const char *command)
{
    struct job *job = NULL;
    int pipes[2];

    for (int i = 0; i < MAX_JOBS && !job; i++)
        if (!jobs[i].pid)
            job = &jobs[i];
    if (!job || pipe2(pipes, O_CLOEXEC) < 0) {
        fprintf(stderr, "guest-agent: no room for job %s\n", name);
        return;
    }
    memset(job, 0, sizeof *job);
    snprintf(job->name, sizeof job->name, "%s", name);
    job->status = -1;

    job->pid = fork();
    if (job->pid == 0) {
        sigset_t none;

        setsid();
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        dup2(open("/dev/null", O_RDONLY), 0);
        dup2(pipes[1], 1);
        dup2(pipes[1], 2);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    job->output = pipes[0];
    if (job->pid < 0)
        job->pid = 0;
}

static void on_control(const char *path)
{
    char name[64], what[16];
    unsigned length;
    struct job *job;
    char *value;

    if (sscanf(path, "data/lab/control/%63[^/]/%15s", name, what) != 2)
        return;
    value = store_read(path, &length);
    if (!value)
        return;         // dom0 removes the nodes of a job
    job = find(name);
    if (!job && !strcmp(what, "command"))
        start(name, value);
    else if (job && !strcmp(what, "signal"))
        kill(-job->pid, atoi(value));   // the whole process group, as a terminal would
    else if (job && !strcmp(what, "taken"))
        job->taken = atoi(value);
    free(value);
}

static void on_output(struct job *job)
{
    char data[PIECE_SIZE], path[MAX_PATH];
    ssize_t length = read(job->output, data, sizeof data);

    if (length <= 0) {
        close(job->output);
        job->output = -1;
        return;
    }
    snprintf(path, sizeof path, "data/lab/job/%.63s/output/%u", job->name, job->written++ % SLOTS);
    put(path, data, length);
}

static void on_child(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int i = 0; i < MAX_JOBS; i++)
            if (jobs[i].pid == pid)
                jobs[i].status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(void)
{
    sigset_t child;
    int children, store;

    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    children = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);

    store = store_open();
    put("data/lab/control", "", 0);
    if (!store_watch("data/lab/control")) {
        perror("guest-agent: cannot watch data/lab/control");
        return 1;
    }
    put("data/lab/ready", "1", 1);

    for (;;) {
        struct pollfd fds[2 + MAX_JOBS] = {
            { .fd = store, .events = POLLIN },
            { .fd = children, .events = POLLIN },
        };
        char *path;

        for (int i = 0; i < MAX_JOBS; i++) {
            struct job *job = &jobs[i];
            int open = job->pid && job->output >= 0 && job->written - job->taken < SLOTS;

            fds[2 + i] = (struct pollfd){ .fd = open ? job->output : -1, .events = POLLIN };
        }
        if (poll(fds, 2 + MAX_JOBS, -1) < 0 && errno != EINTR)
            return 1;

        if (fds[1].revents) {
            struct signalfd_siginfo info;

            while (read(children, &info, sizeof info) > 0)
                ;
            on_child();
        }
        for (int i = 0; i < MAX_JOBS; i++) {
            if (fds[2 + i].revents)
                on_output(&jobs[i]);
            if (jobs[i].pid && jobs[i].output < 0 && jobs[i].status >= 0)
                finish(&jobs[i]);
        }
        while ((path = store_event())) {
            on_control(path);
            free(path);
        }
    }
}
