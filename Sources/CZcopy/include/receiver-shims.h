// A process apart that receives and closes what clients send along, and how it is spoken to.
#ifndef CZCOPY_RECEIVER_SHIMS_H
#define CZCOPY_RECEIVER_SHIMS_H

#include <stdint.h>

// close(2) waits for the server of a file of FUSE, where nothing ends the wait if that does not answer, and for a TCP socket that
// lingers. So descriptors that a client has chosen never come into the table of a process that has more to do than close them.
//
// The process speaks over one socket of type SOCK_SEQPACKET. It says READY, and after that answers each request before it reads the
// next. A request carries sockets; they are the process's from then on. It ends when nobody has the other end any more.

// The name under which the program is this process and nothing else.
#define CZCOPY_RECEIVER_NAME "zcopyd-receiver"

// It has started. Nothing else goes along.
#define CZCOPY_RECEIVER_READY 1u
// Receives the next message of the one socket. The reply has its bytes behind it, and comes before anything is closed.
#define CZCOPY_RECEIVER_RECEIVE 2u
// Closes the sockets, and what is in them, once another request or the end has come: whoever sends them closes its own before that,
// which would else be the last.
#define CZCOPY_RECEIVER_CLOSE 3u
// Nothing but that; has no reply.
#define CZCOPY_RECEIVER_GO_ON 4u
// In a reply: all that a request has brought is closed.
#define CZCOPY_RECEIVER_DONE 5u

typedef struct {
    uint32_t task;
    // RECEIVE passes no descriptors on where more than these have come,
    uint32_t most;
    // and of those dma-bufs only; or memory files, which a simulated machine takes for dma-bufs.
    uint32_t takes_memory_files;
} czcopy_receiver_request;

typedef struct {
    uint32_t task;
    // Of RECEIVE, as of czcopy_receive: the number of bytes or a negative errno; how many descriptors came; and whether more were
    // sent.
    int32_t status;
    uint32_t count;
    uint32_t is_short;
} czcopy_receiver_reply;

// Starts a program as this process, which inherits nothing but its end of the socket, and no signal reaches but SIGKILL. The other
// end, close-on-exec, or a negative errno. It is no child of this process, which need not reap it. The user's number is for those
// who look at the list of processes.
int czcopy_receiver_start(const char *program, const char *user, int *process);
// Sends a signal to a process, by its pidfd. 0, or a negative errno.
int czcopy_signal(int pidfd, int signal);

#endif
