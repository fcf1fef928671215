#define _GNU_SOURCE
#include "socket-shims.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int address(const char *path, struct sockaddr_un *address, socklen_t *length) {
    size_t count = strlen(path);
    if (count == 0 || count >= sizeof address->sun_path) return -ENAMETOOLONG;
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, count);
    *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + count + 1);
    // A path that begins with @ is in the abstract name space.
    if (path[0] == '@') {
        address->sun_path[0] = 0;
        *length -= 1;
    }
    return 0;
}

int czcopy_connect(const char *path, int type, int is_non_blocking) {
    struct sockaddr_un name;
    socklen_t length;
    int status = address(path, &name, &length);
    if (status < 0) return status;
    int file = socket(AF_UNIX, type | SOCK_CLOEXEC | (is_non_blocking ? SOCK_NONBLOCK : 0), 0);
    if (file < 0) return -errno;
    while (connect(file, (struct sockaddr *)&name, length) < 0) {
        if (errno == EINTR) continue;
        int error = errno;
        close(file);
        return -error;
    }
    return file;
}

int czcopy_listen(const char *path, mode_t mode) {
    struct sockaddr_un name;
    socklen_t length;
    int status = address(path, &name, &length);
    if (status < 0) return status;
    struct stat there;
    int is_file = path[0] != '@';
    if (is_file && lstat(path, &there) == 0) {
        if (!S_ISSOCK(there.st_mode)) return -EEXIST;
        int served = czcopy_connect(path, SOCK_SEQPACKET, 1);
        if (served >= 0) close(served);
        // EAGAIN: a process serves the socket, and its queue is full.
        if (served >= 0 || served == -EAGAIN) return -EADDRINUSE;
        if (unlink(path) < 0) return -errno;
    }
    int file = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (file < 0) return -errno;
    // No client can connect between bind() and chmod(), because the socket does not listen yet.
    if (bind(file, (struct sockaddr *)&name, length) < 0 || (is_file && chmod(path, mode) < 0) ||
        listen(file, SOMAXCONN) < 0) {
        int error = errno;
        close(file);
        return -error;
    }
    return file;
}

int czcopy_accept(int socket) {
    int file;
    do {
        file = accept4(socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } while (file < 0 && errno == EINTR);
    return file < 0 ? -errno : file;
}

int czcopy_peer(int socket, int32_t *process, uint32_t *user, uint32_t *group) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -errno;
    *process = credentials.pid;
    *user = credentials.uid;
    *group = credentials.gid;
    return 0;
}

int czcopy_peer_groups(int socket, uint32_t *groups, size_t room) {
    _Static_assert(sizeof(gid_t) == sizeof(uint32_t), "groups are written in place");
    if (room > 65536) room = 65536;
    socklen_t length = (socklen_t)(room * sizeof *groups);
    // On ERANGE the kernel returns the required length.
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &length) < 0 && errno != ERANGE) return -errno;
    return (int)(length / sizeof *groups);
}

int czcopy_send(int socket, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count) {
    if (descriptor_count > CZCOPY_DESCRIPTORS_RECEIVED_MAX) return -EINVAL;
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(CZCOPY_DESCRIPTORS_RECEIVED_MAX * sizeof(int))];
    if (descriptor_count > 0) {
        memset(control, 0, sizeof control);
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(descriptor_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(descriptor_count * sizeof(int));
        memcpy(CMSG_DATA(header), descriptors, descriptor_count * sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

int czcopy_receive(int socket, void *bytes, size_t room, int *descriptors, size_t *descriptor_count, int *is_short) {
    struct iovec vector = {.iov_base = bytes, .iov_len = room};
    // Room for the maximum number of descriptors, and for unrequested credentials, which must not displace descriptors.
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(CZCOPY_DESCRIPTORS_RECEIVED_MAX * sizeof(int)) +
                                          CMSG_SPACE(sizeof(struct ucred))];
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    *descriptor_count = 0;
    ssize_t received;
    do {
        received = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (received < 0 && errno == EINTR);
    if (received < 0) return -errno;
    size_t found = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (count > CZCOPY_DESCRIPTORS_RECEIVED_MAX - found) count = CZCOPY_DESCRIPTORS_RECEIVED_MAX - found;
        memcpy(descriptors + found, CMSG_DATA(header), count * sizeof(int));
        found += count;
    }
    *descriptor_count = found;
    if (is_short) *is_short = (message.msg_flags & MSG_CTRUNC) != 0;
    return message.msg_flags & MSG_TRUNC ? -EMSGSIZE : (int)received;
}

int czcopy_receive_bytes(int socket, void *bytes, size_t room, int *has_descriptors) {
    struct iovec vector = {.iov_base = bytes, .iov_len = room};
    // Without room for control data, the kernel installs no descriptors in this process, and sets MSG_CTRUNC.
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    ssize_t received;
    do {
        received = recvmsg(socket, &message, MSG_DONTWAIT | MSG_PEEK);
    } while (received < 0 && errno == EINTR);
    *has_descriptors = received >= 0 && message.msg_flags & MSG_CTRUNC;
    if (received < 0) return -errno;
    if (*has_descriptors) return (int)received;
    // Removes the same message, because no other process reads from this socket. Its bytes were already copied.
    while (recv(socket, NULL, 0, MSG_DONTWAIT) < 0)
        if (errno != EINTR) return -errno;
    return message.msg_flags & MSG_TRUNC ? -EMSGSIZE : (int)received;
}

int czcopy_end(int socket) {
    int on = 1;
    // No message arrives after this.
    shutdown(socket, SHUT_RDWR);
    // An empty message has credentials, and the end of the connection has none. This distinguishes the two.
    if (setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0) return 1;
    for (;;) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred))];
        struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
        if (recvmsg(socket, &message, MSG_DONTWAIT | MSG_PEEK) < 0) {
            if (errno == EINTR) continue;
            return 0;
        }
        if (message.msg_flags & MSG_CTRUNC) return 1;
        if (message.msg_controllen == 0 || recv(socket, NULL, 0, MSG_DONTWAIT) < 0) return 0;
    }
}

int czcopy_unreceived(int socket) {
    int count;
    return ioctl(socket, SIOCOUTQ, &count) < 0 ? -errno : count;
}

int czcopy_has_ended(int socket) {
    struct pollfd entry = {.fd = socket, .events = POLLRDHUP};
    int ready;
    do {
        ready = poll(&entry, 1, 0);
    } while (ready < 0 && errno == EINTR);
    return ready != 0;
}

int czcopy_random(void *bytes, size_t count) {
    char *next = bytes;
    while (count > 0) {
        ssize_t got = getrandom(next, count, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno;
        next += got;
        count -= (size_t)got;
    }
    return 0;
}
