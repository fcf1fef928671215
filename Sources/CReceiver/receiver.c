#define _GNU_SOURCE
#include "CReceiver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <receiver-shims.h>
#include <socket-shims.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <xen-zcopyd.h>

// The descriptor of the receiver's end of the socket.
enum { daemon_end = 0 };

// Reads /proc only. Even fstat() on a FUSE file may block until its server answers.
static int is_dma_buf(int descriptor) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", descriptor);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    size_t length = 0;
    ssize_t count;
    while ((count = read(file, text + length, sizeof text - 1 - length)) > 0) length += (size_t)count;
    close(file);
    text[length] = 0;
    // Only the fdinfo of a dma-buf has an exporter.
    return !strncmp(text, "exp_name:", 9) || strstr(text, "\nexp_name:");
}

static int is_memory_file(int descriptor) {
    return fcntl(descriptor, F_GET_SEALS) >= 0;
}

static void say(const void *bytes, size_t count, const int *descriptors, size_t descriptor_count) {
    // The daemon reads each reply before it sends the next request, so this does not block.
    if (czcopy_send(daemon_end, bytes, count, descriptors, descriptor_count) < 0) _exit(1);
}

static void close_all(const int *descriptors, size_t count) {
    for (size_t i = 0; i < count; i++) close(descriptors[i]);
}

static void receive(int socket, const czcopy_receiver_request *request) {
    static struct {
        czcopy_receiver_reply reply;
        char bytes[XEN_ZCOPYD_MESSAGE_MAX];
    } message;
    int descriptors[CZCOPY_DESCRIPTORS_RECEIVED_MAX], passed[CZCOPY_DESCRIPTORS_RECEIVED_MAX], is_short = 0;
    size_t count, passed_count = 0;
    int status = czcopy_receive(socket, message.bytes, sizeof message.bytes, descriptors, &count, &is_short);
    for (size_t i = 0; i < count && count <= request->most; i++)
        if (request->takes_memory_files ? is_memory_file(descriptors[i]) : is_dma_buf(descriptors[i]))
            passed[passed_count++] = descriptors[i];
    message.reply = (czcopy_receiver_reply){CZCOPY_RECEIVER_RECEIVE, status, (uint32_t)count, (uint32_t)is_short};
    say(&message, sizeof message.reply + (status > 0 ? (size_t)status : 0), passed, passed_count);
    close_all(descriptors, count);
}

// Waits for a request, or for the end of the connection.
static void wait_for_daemon(void) {
    struct pollfd entry = {.fd = daemon_end, .events = POLLIN};
    while (poll(&entry, 1, -1) < 0)
        ;
}

static void serve(void) {
    prctl(PR_SET_NAME, CZCOPY_RECEIVER_NAME);
    czcopy_receiver_reply done = {.task = CZCOPY_RECEIVER_DONE};
    czcopy_receiver_reply ready = {.task = CZCOPY_RECEIVER_READY};
    say(&ready, sizeof ready, NULL, 0);
    for (;;) {
        czcopy_receiver_request request;
        int sockets[CZCOPY_DESCRIPTORS_RECEIVED_MAX];
        size_t count;
        wait_for_daemon();
        int status = czcopy_receive(daemon_end, &request, sizeof request, sockets, &count, NULL);
        if (status == -EAGAIN) continue;
        if (status != (int)sizeof request) _exit(status == 0 ? 0 : 1);
        if (request.task == CZCOPY_RECEIVER_GO_ON) continue;
        if (request.task == CZCOPY_RECEIVER_RECEIVE && count == 1)
            receive(sockets[0], &request);
        else
            wait_for_daemon();
        close_all(sockets, count);
        say(&done, sizeof done, NULL, 0);
    }
}

__attribute__((constructor(101))) static void begin(int count, char **arguments) {
    if (count > 0 && !strcmp(arguments[0], CZCOPY_RECEIVER_NAME)) serve();
}
