// Shims over Unix sockets that pass descriptors: the macros of cmsg(3) cannot be imported.
#ifndef CZCOPY_SOCKET_SHIMS_H
#define CZCOPY_SOCKET_SHIMS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// The calls below return 0 or more, or a negative errno.

// The most descriptors that this project sends with one message.
#define CZCOPY_DESCRIPTORS_MAX 16
// The most that Linux lets come with one.
#define CZCOPY_DESCRIPTORS_RECEIVED_MAX 253

// A socket of type SOCK_SEQPACKET, non-blocking and close-on-exec, that listens at a path. A socket that is there already
// and that nobody serves is replaced; EADDRINUSE if somebody does.
int czcopy_listen(const char *path, mode_t mode);
// The next connection of such a socket, non-blocking and close-on-exec.
int czcopy_accept(int socket);
// A socket that is connected to a path, of type SOCK_SEQPACKET or SOCK_DGRAM, non-blocking if asked for.
int czcopy_connect(const char *path, int type, int is_non_blocking);
// Who is on the other side of a connection.
int czcopy_peer(int socket, int32_t *process, uint32_t *user, uint32_t *group);
// The other groups that it was in when it connected: how many, which may be more than the room; then none are written.
int czcopy_peer_groups(int socket, uint32_t *groups, size_t room);

// Sends one message, with descriptors, without SIGPIPE and without waiting. EAGAIN: the other side does not read.
int czcopy_send(int socket, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count);
// Receives one message without waiting. The number of bytes, 0 at the end of the connection and for a message of none;
// EMSGSIZE if it was longer than the room. In all these cases the descriptors that came with it are the caller's: close-on-exec,
// at most CZCOPY_DESCRIPTORS_RECEIVED_MAX. Whether more were sent, which this process had no room for, goes to *is_short, if given.
int czcopy_receive(int socket, void *bytes, size_t room, int *descriptors, size_t *descriptor_count, int *is_short);
// Receives one message without waiting, unless descriptors come with it, which stay in the socket with all of it. The number of
// bytes and the same errors. Whether there are descriptors goes to *has_descriptors; bytes are theirs then.
int czcopy_receive_bytes(int socket, void *bytes, size_t room, int *has_descriptors);
// Ends a connection for both sides, and takes from it what has come without descriptors. 1 if there are others: to close the socket
// for the last time may wait then. 0 if nothing is in it.
int czcopy_end(int socket);
// What messages take that the other side has not received: 0 if it has received all.
int czcopy_unreceived(int socket);
// Whether the other side has ended the connection, or will send nothing more: what tells that from a message of no bytes.
int czcopy_has_ended(int socket);
// Bytes of randomness that nobody can guess.
int czcopy_random(void *bytes, size_t count);

#endif
