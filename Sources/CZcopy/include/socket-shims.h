// Shims over Unix sockets that pass descriptors. Swift cannot import the macros of cmsg(3).
#ifndef CZCOPY_SOCKET_SHIMS_H
#define CZCOPY_SOCKET_SHIMS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// The calls below return 0 or more, or a negative errno.

// Maximum number of descriptors that this project sends with one message.
#define CZCOPY_DESCRIPTORS_MAX 16
// Maximum number of descriptors with one message in Linux.
#define CZCOPY_DESCRIPTORS_RECEIVED_MAX 253

// Makes a socket of type SOCK_SEQPACKET, non-blocking and close-on-exec, that listens at a path. Replaces an existing socket
// that no process serves; EADDRINUSE if a process serves it.
int czcopy_listen(const char *path, mode_t mode);
// Accepts the next connection of such a socket, non-blocking and close-on-exec.
int czcopy_accept(int socket);
// Makes a socket of type SOCK_SEQPACKET or SOCK_DGRAM that is connected to a path, non-blocking on request.
int czcopy_connect(const char *path, int type, int is_non_blocking);
// Gets the process id, user id and group id of the other side of a connection.
int czcopy_peer(int socket, int32_t *process, uint32_t *user, uint32_t *group);
// Gets the supplementary groups of the other side at the time of its connection. Returns their number. If that is more than
// `room`, writes none.
int czcopy_peer_groups(int socket, uint32_t *groups, size_t room);

// Sends one message with descriptors, without SIGPIPE and without waiting. EAGAIN if the other side does not read.
int czcopy_send(int socket, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count);
// Receives one message without waiting. Returns the number of bytes: 0 at the end of the connection, and for an empty
// message; EMSGSIZE if the message was longer than `room`. In all these cases the caller owns the descriptors of the
// message, which are close-on-exec and at most CZCOPY_DESCRIPTORS_RECEIVED_MAX. *is_short, if not NULL, is set if more
// descriptors were sent than this process had room for.
int czcopy_receive(int socket, void *bytes, size_t room, int *descriptors, size_t *descriptor_count, int *is_short);
// Receives one message without waiting, if it has no descriptors. Returns the number of bytes, with the same errors. If the
// message has descriptors, sets *has_descriptors and leaves the whole message in the socket; the bytes are those of that
// message.
int czcopy_receive_bytes(int socket, void *bytes, size_t room, int *has_descriptors);
// Shuts a connection down for both sides, and removes the queued messages that have no descriptors. Returns 1 if a message
// with descriptors is queued: the last close of the socket may then block. Returns 0 if the queue is empty.
int czcopy_end(int socket);
// Returns the size of the messages that the other side has not received, or 0 if it has received all.
int czcopy_unreceived(int socket);
// Whether the other side has closed the connection or its sending half. This distinguishes the end of the connection from an
// empty message.
int czcopy_has_ended(int socket);
// Fills a buffer with random bytes from getrandom(2).
int czcopy_random(void *bytes, size_t count);

#endif
