// fd-store: the part of a service manager that a file descriptor store requires. Like systemd, it keeps each open file once: a second
// descriptor of the same file is silently closed.
//
//   fd-store SOCKET COMMAND...
//
// Runs the command with NOTIFY_SOCKET and keeps the descriptors that it stores (FDSTORE=1). Forwards SIGTERM; if the store is not
// empty when the command has ended, starts the command once more with the stored descriptors. Forwards SIGINT too, and then exits
// with the command, which closes the store.
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CAPACITY = 4096, PER_MESSAGE = 16 };

static struct { int file; char name[64]; } store[CAPACITY];
static int count;

static void fail(const char *what) {
    fprintf(stderr, "fd-store: %s: %s\n", what, strerror(errno));
    exit(1);
}

// The value of the line NAME=...; NULL if there is none.
static char *field(const char *text, const char *name, char *value, size_t room) {
    size_t length = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, name, length) || line[length] != '=') continue;
        snprintf(value, room, "%.*s", (int)strcspn(line + length + 1, "\n"), line + length + 1);
        return value;
    }
    return NULL;
}

// Like systemd's same_fd, which compares the results of fstat if the kernel has no kcmp.
static int is_same(int one, int other) {
    long order = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, one, other);
    if (order >= 0) return order == 0;
    struct stat first, second;
    if (fstat(one, &first) < 0 || fstat(other, &second) < 0) return 0;
    if (S_ISCHR(first.st_mode) || S_ISBLK(first.st_mode)) return 0;
    return first.st_dev == second.st_dev && first.st_ino == second.st_ino &&
        (first.st_mode & S_IFMT) == (second.st_mode & S_IFMT) && fcntl(one, F_GETFL) == fcntl(other, F_GETFL);
}

static int is_stored(int file) {
    for (int index = 0; index < count; index++)
        if (is_same(store[index].file, file)) return 1;
    return 0;
}

static void take_message(int notify) {
    char text[4096], name[64] = "stored", value[16];
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(PER_MESSAGE * sizeof(int))];
    struct iovec vector = {text, sizeof text - 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(notify, &message, MSG_CMSG_CLOEXEC);
    if (length < 0) return;
    text[length] = 0;
    field(text, "FDNAME", name, sizeof name);
    if (field(text, "READY", value, sizeof value)) printf("ready\n");
    if (field(text, "FDSTOREREMOVE", value, sizeof value))
        for (int index = 0; index < count; index++) {
            if (strcmp(store[index].name, name)) continue;
            close(store[index].file);
            store[index--] = store[--count];
        }
    int keeps = field(text, "FDSTORE", value, sizeof value) != NULL;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        size_t files = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < files; index++) {
            int file;
            memcpy(&file, CMSG_DATA(header) + index * sizeof(int), sizeof file);
            // Descriptors that are not stored are closed. This is also the reply to a BARRIER.
            if (!keeps || count == CAPACITY || is_stored(file)) {
                close(file);
                continue;
            }
            store[count].file = file;
            snprintf(store[count++].name, sizeof store[0].name, "%s", name);
        }
    }
}

static pid_t start(char **command, const sigset_t *none) {
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child > 0) return child;
    char number[16];
    static char names[CAPACITY * 65];
    // First move all descriptors above the numbers that they will get.
    for (int index = 0; index < count; index++) {
        int file = fcntl(store[index].file, F_DUPFD, 3 + count);
        if (file < 0) fail("dup");
        store[index].file = file;
        strcat(strcat(names, index ? ":" : ""), store[index].name);
    }
    for (int index = 0; index < count; index++) {
        dup2(store[index].file, 3 + index);
        close(store[index].file);
    }
    if (count > 0) {
        snprintf(number, sizeof number, "%d", count);
        setenv("LISTEN_FDS", number, 1);
        setenv("LISTEN_FDNAMES", names, 1);
        snprintf(number, sizeof number, "%d", getpid());
        setenv("LISTEN_PID", number, 1);
    }
    sigprocmask(SIG_SETMASK, none, NULL);
    execvp(command[0], command);
    fail(command[0]);
    return -1;
}

int main(int argc, char **argv) {
    if (argc < 3 || strlen(argv[1]) >= sizeof((struct sockaddr_un *)0)->sun_path) {
        fprintf(stderr, "usage: fd-store SOCKET COMMAND...\n");
        return 64;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, argv[1]);
    unlink(argv[1]);
    int notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (notify < 0 || bind(notify, (struct sockaddr *)&address, sizeof address) < 0) fail(argv[1]);
    setenv("NOTIFY_SOCKET", argv[1], 1);
    char capacity[16];
    snprintf(capacity, sizeof capacity, "%d", CAPACITY);
    setenv("FDSTORE", capacity, 1);
    setvbuf(stdout, NULL, _IOLBF, 0);

    sigset_t signals, none;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, &none);
    int told = signalfd(-1, &signals, SFD_CLOEXEC);
    int starts_again = 0;
    pid_t child = start(argv + 2, &none);
    for (;;) {
        struct pollfd polled[] = {{.fd = notify, .events = POLLIN}, {.fd = told, .events = POLLIN}};
        if (poll(polled, 2, -1) < 0) fail("poll");
        // Messages first: a process may have sent some just before it ended.
        if (polled[0].revents) {
            take_message(notify);
            continue;
        }
        struct signalfd_siginfo info;
        if (read(told, &info, sizeof info) != sizeof info) fail("signalfd");
        if (info.ssi_signo != SIGCHLD) {
            starts_again = info.ssi_signo == SIGTERM;
            kill(child, (int)info.ssi_signo);
            continue;
        }
        int status;
        if (waitpid(child, &status, WNOHANG) != child) continue;
        if (!starts_again || count == 0) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        printf("starting again with %d descriptors\n", count);
        starts_again = 0;
        child = start(argv + 2, &none);
    }
}
