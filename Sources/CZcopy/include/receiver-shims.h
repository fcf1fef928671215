// The receiver: a separate process that receives and closes the descriptors of clients. This header has its protocol.
#ifndef CZCOPY_RECEIVER_SHIMS_H
#define CZCOPY_RECEIVER_SHIMS_H

#include <stdint.h>

// Closing a FUSE file waits for its server. If the server hangs, nothing interrupts the wait. Closing a TCP socket that
// lingers waits too. Descriptors that a client has chosen must therefore never enter the descriptor table of a process that
// has other work. docs/untrusted-descriptors.md describes this.
//
// The receiver communicates over one socket of type SOCK_SEQPACKET. It sends READY. After that it replies to each request
// before it reads the next one. A request is sent with sockets, which the receiver owns from then on. The receiver exits
// when the other end of the socket is closed in all processes.

// A program that is started under this name is a receiver and does nothing else.
#define CZCOPY_RECEIVER_NAME "zcopyd-receiver"

// From the receiver: it has started. The message has no descriptors.
#define CZCOPY_RECEIVER_READY 1u
// Receives the next message from the one socket of the request. The bytes of the message follow the reply, which is sent
// before any descriptor is closed.
#define CZCOPY_RECEIVER_RECEIVE 2u
// Closes the sockets, and the descriptors that are queued in them, when the next request arrives or the other end is closed.
// The sender closes its own descriptors of the sockets before that, so that the receiver's close is the last one.
#define CZCOPY_RECEIVER_CLOSE 3u
// Has no effect of its own: it is the next request that a CLOSE waits for. It has no reply.
#define CZCOPY_RECEIVER_GO_ON 4u
// In a reply: all descriptors of the request are closed.
#define CZCOPY_RECEIVER_DONE 5u

typedef struct {
    uint32_t task;
    // RECEIVE passes on no descriptors if the message has more than this number of them.
    uint32_t most;
    // RECEIVE passes on only dma-bufs; or only memory files, which stand for dma-bufs on a simulated machine.
    uint32_t takes_memory_files;
} czcopy_receiver_request;

typedef struct {
    uint32_t task;
    // For RECEIVE, as for czcopy_receive: the number of bytes or a negative errno; the number of descriptors received;
    // whether more were sent.
    int32_t status;
    uint32_t count;
    uint32_t is_short;
} czcopy_receiver_reply;

// Starts a program as a receiver. It inherits only its end of the socket, and all signals that can be blocked are blocked in
// it. Returns the other end, close-on-exec, or a negative errno. The receiver is not a child of this process, so it is not
// reaped here. `user`, the user's number, is its argument and appears in the list of processes.
int czcopy_receiver_start(const char *program, const char *user, int *process);
// Sends a signal to a process through its pidfd. Returns 0, or a negative errno.
int czcopy_signal(int pidfd, int signal);

#endif
