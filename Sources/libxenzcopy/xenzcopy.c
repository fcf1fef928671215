// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include "xenzcopy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Xen runs on little-endian machines only, and so does the protocol"
#endif

#define TIMEOUT_MS 30000u
/* One request is reserved for a call that waits. */
#define BEGUN_MAX (XEN_ZCOPYD_REQUESTS_MAX - 1)
/* More buffers or domains than a machine can have. A daemon that sends more is assumed never to stop. */
#define ENTRIES_MAX 262144u

/* A request that has no reply yet. */
struct request {
    uint64_t number; /* 0 for none */
    uint32_t type;
    struct xen_zcopyd_id id; /* all 0 if it names no buffer */
    uint32_t ending;         /* UNMAP or UNSHARE, if it made a buffer that could not be received; else 0 */
    int has_no_dmabuf;       /* it makes a buffer without a dma-buf, whose reply has no descriptor */
    int is_quiet;            /* made by the library, which drops the reply; not sent yet while the number is 0 */
};

/* An event that arrived while a call waited for a reply. */
struct kept_event {
    struct xenzcopy_event event;
    /* For DONE: the buffer's description, or the error's text. The handle frees it. */
    void *details;
};

struct xenzcopy_handle {
    int socket;
    int is_over;
    uint32_t timeout_ms;
    uint64_t last_number;
    struct request called; /* of the call that waits now */
    struct request begun[BEGUN_MAX];
    size_t begun_count;
    struct timespec wait_start; /* of the call that waits now; all 0 until the clock was read */

    struct kept_event *kept; /* a ring buffer */
    size_t kept_first, kept_count, kept_room;

    uint32_t error_code, error_domain;
    char error_text[XEN_ZCOPYD_TEXT_SIZE];

    /* The last message, and its descriptor or -1. The descriptor is lost if this process had no free descriptor number. */
    int descriptor, is_descriptor_lost;
    size_t length;
    union {
        struct xen_zcopyd_header header;
        struct xen_zcopyd_hello hello;
        struct xen_zcopyd_description description;
        struct xen_zcopyd_frame frame;
        struct xen_zcopyd_list_reply list;
        struct xen_zcopyd_stats stats;
        struct xen_zcopyd_event event;
        struct xen_zcopyd_error error;
        uint8_t bytes[XEN_ZCOPYD_MESSAGE_MAX];
    } message;
};

/* ---- Errors ---- */

static int fail(xenzcopy_handle *handle, int error, uint32_t code, uint32_t domain, const char *text) {
    handle->error_code = code;
    handle->error_domain = domain;
    snprintf(handle->error_text, sizeof handle->error_text, "%s", text);
    /* The text is one line, even if the daemon sent control characters. */
    for (char *next = handle->error_text; *next; next++)
        if ((unsigned char)*next < 0x20 || *next == 0x7f) *next = '?';
    errno = error;
    return -1;
}

static int fail_here(xenzcopy_handle *handle, int error, const char *what) {
    char text[XEN_ZCOPYD_TEXT_SIZE];
    snprintf(text, sizeof text, "%s: %s", what, strerror(error));
    return fail(handle, error, 0, XEN_ZCOPYD_ANY_DOMAIN, text);
}

static int fail_over(void) {
    /* The error text of the call that ended the connection is kept. */
    errno = ENOTCONN;
    return -1;
}

static void drop_descriptor(xenzcopy_handle *handle) {
    if (handle->descriptor >= 0) close(handle->descriptor);
    handle->descriptor = -1;
}

/* Ends the connection. The socket stays open, so that its number is not reused while the caller polls it. */
static int end(xenzcopy_handle *handle, int error, uint32_t code, const char *text) {
    drop_descriptor(handle);
    shutdown(handle->socket, SHUT_RDWR);
    handle->is_over = 1;
    return fail(handle, error, code, XEN_ZCOPYD_ANY_DOMAIN, text);
}

static int end_wrong(xenzcopy_handle *handle) {
    return end(handle, EPROTO, 0, "xen-zcopyd sent what is no message of its protocol; is it of the same release?");
}

static int end_late(xenzcopy_handle *handle) {
    return end(handle, ECONNABORTED, 0,
               "xen-zcopyd did not answer in time; the connection is given up; see journalctl -u xen-zcopyd");
}

static int error_of_code(uint32_t code) {
    static const int errors[] = {
        [XEN_ZCOPYD_E_MESSAGE] = EPROTO,         [XEN_ZCOPYD_E_VERSION] = EPROTONOSUPPORT,
        [XEN_ZCOPYD_E_PERMISSION] = EACCES,      [XEN_ZCOPYD_E_UNKNOWN] = ENOENT,
        [XEN_ZCOPYD_E_INVALID] = EINVAL,         [XEN_ZCOPYD_E_LIMIT] = EDQUOT,
        [XEN_ZCOPYD_E_REFUSED] = EBADMSG,        [XEN_ZCOPYD_E_UNSUPPORTED] = EOPNOTSUPP,
        [XEN_ZCOPYD_E_RESOURCES] = ENOMEM,       [XEN_ZCOPYD_E_BUSY] = EBUSY,
        [XEN_ZCOPYD_E_TIMEOUT] = ETIMEDOUT,      [XEN_ZCOPYD_E_GONE] = ESRCH,
        [XEN_ZCOPYD_E_UNAVAILABLE] = ENODEV,     [XEN_ZCOPYD_E_SLOW] = ENOBUFS,
        [XEN_ZCOPYD_E_STOPPING] = ESHUTDOWN,     [XEN_ZCOPYD_E_FAILED] = EIO,
    };
    return code < sizeof errors / sizeof *errors && errors[code] ? errors[code] : EIO;
}

const char *xenzcopy_error(const xenzcopy_handle *handle, uint32_t *code) {
    if (code) *code = handle->error_code;
    return handle->error_text;
}

/* ---- Time ---- */

static int set_socket_timeout(xenzcopy_handle *handle, int option, uint32_t milliseconds) {
    struct timeval limit = {0};
    if (milliseconds != XENZCOPY_FOREVER) {
        limit.tv_sec = (time_t)(milliseconds / 1000);
        limit.tv_usec = (suseconds_t)(milliseconds % 1000) * 1000;
    }
    return setsockopt(handle->socket, SOL_SOCKET, option, &limit, sizeof limit);
}

int xenzcopy_set_timeout(xenzcopy_handle *handle, uint32_t milliseconds) {
    if (milliseconds == 0) return fail_here(handle, EINVAL, "a time-out of 0");
    if (set_socket_timeout(handle, SO_RCVTIMEO, milliseconds) < 0 ||
        set_socket_timeout(handle, SO_SNDTIMEO, milliseconds) < 0)
        return fail_here(handle, errno, "cannot set the time-out");
    handle->timeout_ms = milliseconds;
    return 0;
}

/*
 * Whether the current call has waited for too long. If the daemon sends nothing, the socket's timeout ends the wait without a
 * read of the clock. This function covers the rare other cases: a daemon that sends other messages, and signals.
 */
static int is_late(xenzcopy_handle *handle, uint32_t limit_ms) {
    struct timespec now, *start = &handle->wait_start;
    if (limit_ms == XENZCOPY_FOREVER) return 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (start->tv_sec == 0 && start->tv_nsec == 0) *start = now;
    return (int64_t)(now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000 >= (int64_t)limit_ms;
}

/* ---- Sending ---- */

static int is_terminated(const char *text, size_t size) {
    return memchr(text, 0, size) != NULL;
}

static int names_buffer(uint32_t type) {
    switch (type) {
    case XEN_ZCOPYD_UNMAP:
    case XEN_ZCOPYD_UNSHARE:
    case XEN_ZCOPYD_DESCRIBE:
    case XEN_ZCOPYD_OPEN:
    case XEN_ZCOPYD_WAIT:
    case XEN_ZCOPYD_REFRESH:
    case XEN_ZCOPYD_READ:
    case XEN_ZCOPYD_WRITE:
    case XEN_ZCOPYD_PUBLISH:
    case XEN_ZCOPYD_FRAME:
        return 1;
    default:
        return 0;
    }
}

/* The size of a request without the array that follows the structure; 0 for a type that is not a request. */
static size_t request_size(uint32_t type) {
    switch (type) {
    case XEN_ZCOPYD_HELLO: return sizeof(struct xen_zcopyd_hello);
    case XEN_ZCOPYD_MAP: return sizeof(struct xen_zcopyd_map);
    case XEN_ZCOPYD_MAP_PUBLISHED: return sizeof(struct xen_zcopyd_map_published);
    case XEN_ZCOPYD_SHARE: return sizeof(struct xen_zcopyd_share);
    case XEN_ZCOPYD_UNMAP:
    case XEN_ZCOPYD_UNSHARE:
    case XEN_ZCOPYD_DESCRIBE:
    case XEN_ZCOPYD_OPEN: return sizeof(struct xen_zcopyd_buffer_request);
    case XEN_ZCOPYD_WAIT: return sizeof(struct xen_zcopyd_wait);
    case XEN_ZCOPYD_REFRESH: return sizeof(struct xen_zcopyd_refresh);
    case XEN_ZCOPYD_READ: return sizeof(struct xen_zcopyd_read);
    case XEN_ZCOPYD_WRITE: return sizeof(struct xen_zcopyd_write);
    case XEN_ZCOPYD_PUBLISH: return sizeof(struct xen_zcopyd_publish);
    case XEN_ZCOPYD_LIST: return sizeof(struct xen_zcopyd_list);
    case XEN_ZCOPYD_SUBSCRIBE: return sizeof(struct xen_zcopyd_subscribe);
    case XEN_ZCOPYD_FRAME: return sizeof(struct xen_zcopyd_frame);
    case XEN_ZCOPYD_STATS: return sizeof(struct xen_zcopyd_header);
    default: return 0;
    }
}

/* Whether the daemon would accept the message. For a malformed message it ends the connection. */
static int is_request(uint32_t type, const void *message, size_t tail_size, int fd) {
    size_t tail_expected = 0;
    int has_descriptor = 0;
    if (type == XEN_ZCOPYD_MAP) {
        const struct xen_zcopyd_map *map = message;
        if (map->reference_count > XEN_ZCOPYD_REFERENCES_MAX || !is_terminated(map->name, sizeof map->name)) return 0;
        tail_expected = map->reference_count * sizeof(uint32_t);
    } else if (type == XEN_ZCOPYD_MAP_PUBLISHED) {
        const struct xen_zcopyd_map_published *map = message;
        if (!is_terminated(map->name, sizeof map->name) || !is_terminated(map->path, sizeof map->path)) return 0;
    } else if (type == XEN_ZCOPYD_SHARE) {
        const struct xen_zcopyd_share *share = message;
        if (!is_terminated(share->heap, sizeof share->heap) || !is_terminated(share->name, sizeof share->name) ||
            !is_terminated(share->publish, sizeof share->publish))
            return 0;
        has_descriptor = share->memory == XEN_ZCOPYD_MEMORY_DESCRIPTOR;
    } else if (type == XEN_ZCOPYD_REFRESH) {
        const struct xen_zcopyd_refresh *refresh = message;
        if (refresh->range_count > XEN_ZCOPYD_RANGES_MAX) return 0;
        tail_expected = refresh->range_count * sizeof(struct xen_zcopyd_range);
    } else if (type == XEN_ZCOPYD_WRITE) {
        const struct xen_zcopyd_write *write = message;
        if (write->range.length == 0 || write->range.length > XEN_ZCOPYD_WRITE_MAX) return 0;
        tail_expected = write->range.length;
    } else if (type == XEN_ZCOPYD_PUBLISH) {
        const struct xen_zcopyd_publish *publish = message;
        if (!is_terminated(publish->publish, sizeof publish->publish)) return 0;
    }
    return tail_size == tail_expected && has_descriptor == (fd >= 0);
}

/* Whether the message makes a buffer that has no dma-buf. */
static int makes_no_dmabuf(uint32_t type, const void *message) {
    switch (type) {
    case XEN_ZCOPYD_MAP: return ((const struct xen_zcopyd_map *)message)->mechanism == XEN_ZCOPYD_MECHANISM_CPU;
    case XEN_ZCOPYD_MAP_PUBLISHED:
        return ((const struct xen_zcopyd_map_published *)message)->mechanism == XEN_ZCOPYD_MECHANISM_CPU;
    case XEN_ZCOPYD_SHARE: return ((const struct xen_zcopyd_share *)message)->memory == XEN_ZCOPYD_MEMORY_GNTALLOC;
    default: return 0;
    }
}

static int receive(xenzcopy_handle *handle, int flags);
static int keep(xenzcopy_handle *handle);

/* The daemon has closed its side. Its earlier messages can still be received, and may include the reason. */
static int end_closed(xenzcopy_handle *handle) {
    for (unsigned count = 0; count < XENZCOPY_EVENTS_MAX; count++) {
        int got = receive(handle, MSG_DONTWAIT);
        if (got < 0 || (got > 0 && keep(handle) < 0)) return -1;
        if (got == 0) break;
    }
    return end(handle, ECONNRESET, 0, "xen-zcopyd has closed the connection; see journalctl -u xen-zcopyd");
}

/* Sends a structure and the array that follows it, as `request`. Waits, or fails with EAGAIN if `flags` has MSG_DONTWAIT. */
static int send_request(xenzcopy_handle *handle, struct request *request, uint32_t type, const void *message,
                        const void *tail, size_t tail_size, int fd, int flags) {
    if (handle->is_over) return fail_over();
    if (!is_request(type, message, tail_size, fd))
        return fail_here(handle, EINVAL, "a count, a text or a descriptor of this request does not belong to it");

    size_t size = request_size(type);
    struct xen_zcopyd_header header = {
        .type = type, .length = (uint32_t)(size + tail_size), .request = ++handle->last_number};
    struct iovec parts[] = {
        {.iov_base = &header, .iov_len = sizeof header},
        {.iov_base = (uint8_t *)message + sizeof header, .iov_len = size - sizeof header},
        {.iov_base = (void *)tail, .iov_len = tail_size},
    };
    struct msghdr packet = {.msg_iov = parts, .msg_iovlen = tail_size ? 3 : 2};
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    if (fd >= 0) {
        packet.msg_control = &control;
        packet.msg_controllen = sizeof control;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    *request = (struct request){
        .number = header.request, .type = type, .has_no_dmabuf = makes_no_dmabuf(type, message)};
    if (names_buffer(type)) request->id = ((const struct xen_zcopyd_buffer_request *)message)->id;
    handle->wait_start = (struct timespec){0};

    while (sendmsg(handle->socket, &packet, MSG_NOSIGNAL | flags) < 0) {
        int error = errno;
        if (error == EINTR && !is_late(handle, handle->timeout_ms)) continue;
        request->number = 0;
        if (error == EPIPE || error == ECONNRESET || error == ENOTCONN) return end_closed(handle);
        if (error == EINTR || (error == EAGAIN && !(flags & MSG_DONTWAIT))) return end_late(handle);
        return fail_here(handle, error, "cannot send to xen-zcopyd");
    }
    return 0;
}

/* ---- Receiving ---- */

/* The request that a reply or an error belongs to, or NULL. */
static struct request *request_of(xenzcopy_handle *handle, uint64_t number) {
    if (number == 0) return NULL;
    if (handle->called.number == number) return &handle->called;
    for (size_t index = 0; index < handle->begun_count; index++)
        if (handle->begun[index].number == number) return &handle->begun[index];
    return NULL;
}

static int is_reply(const xenzcopy_handle *handle, const struct request *request) {
    const struct xen_zcopyd_description *buffer = &handle->message.description;
    size_t size = sizeof(struct xen_zcopyd_header);
    int has_descriptor = 0;
    switch (request->type) {
    case XEN_ZCOPYD_HELLO:
        size = sizeof(struct xen_zcopyd_hello);
        break;
    case XEN_ZCOPYD_MAP:
    case XEN_ZCOPYD_MAP_PUBLISHED:
    case XEN_ZCOPYD_SHARE:
    case XEN_ZCOPYD_OPEN:
        has_descriptor = !request->has_no_dmabuf;
        /* fallthrough */
    case XEN_ZCOPYD_DESCRIBE:
    case XEN_ZCOPYD_PUBLISH:
        if (handle->length != sizeof *buffer || !is_terminated(buffer->name, sizeof buffer->name) ||
            !is_terminated(buffer->text, sizeof buffer->text))
            return 0;
        if (names_buffer(request->type) && memcmp(&buffer->id, &request->id, sizeof request->id)) return 0;
        size = sizeof *buffer;
        break;
    case XEN_ZCOPYD_READ:
        has_descriptor = 1;
        break;
    case XEN_ZCOPYD_FRAME:
        if (handle->length != sizeof handle->message.frame ||
            memcmp(&handle->message.frame.id, &request->id, sizeof request->id))
            return 0;
        size = sizeof handle->message.frame;
        break;
    case XEN_ZCOPYD_LIST:
        /* A reply with `more` must have entries, or the number of replies would have no bound. */
        if (handle->length < sizeof handle->message.list || handle->message.list.more > 1 ||
            (handle->message.list.more && !handle->message.list.count))
            return 0;
        size = sizeof handle->message.list +
               (size_t)handle->message.list.count * sizeof(struct xen_zcopyd_list_entry);
        break;
    case XEN_ZCOPYD_STATS:
        if (handle->length < sizeof handle->message.stats || handle->message.stats.more > 1) return 0;
        size = sizeof handle->message.stats;
        break;
    }
    return handle->length == size && has_descriptor == (handle->descriptor >= 0 || handle->is_descriptor_lost);
}

/* What RELEASED says with a code. */
static const char release_unknown[] = "it is unknown whether the buffer is still held; xenzcopy_describe says why";

static int is_event(const xenzcopy_handle *handle) {
    uint32_t event = handle->message.event.event;
    return handle->length == sizeof handle->message.event && handle->message.header.request == 0 &&
           handle->descriptor < 0 && !handle->is_descriptor_lost && (event & XEN_ZCOPYD_EVENTS) == event && event &&
           !(event & (event - 1));
}

static int is_error(const xenzcopy_handle *handle) {
    const struct xen_zcopyd_error *error = &handle->message.error;
    return handle->length == sizeof *error && handle->descriptor < 0 && !handle->is_descriptor_lost && error->code &&
           is_terminated(error->text, sizeof error->text);
}

/* Takes the first descriptor of a packet, and closes all others. Returns the number of descriptors in the packet. */
static size_t take_descriptors(xenzcopy_handle *handle, struct msghdr *packet) {
    size_t count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(packet); header; header = CMSG_NXTHDR(packet, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t end = header->cmsg_len - CMSG_LEN(0);
        for (size_t next = 0; next + sizeof(int) <= end; next += sizeof(int)) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + next, sizeof fd);
            if (count++) close(fd);
            else handle->descriptor = fd;
        }
    }
    return count;
}

/*
 * Replaces a reply whose descriptor was lost, because this process had no free descriptor number, with an error. The
 * connection stays open. The buffer that the request made must be ended, because no process can use it.
 */
static void refuse_unreceived(xenzcopy_handle *handle, struct request *request) {
    struct xen_zcopyd_error error = {
        .header = {.type = XEN_ZCOPYD_ERROR, .length = sizeof error, .request = request->number},
        .code = XEN_ZCOPYD_E_RESOURCES,
        .domain = XEN_ZCOPYD_ANY_DOMAIN,
        .text = "this process has no descriptor left for the buffer; raise its limit (ulimit -n)",
    };
    if (request->type == XEN_ZCOPYD_SHARE) request->ending = XEN_ZCOPYD_UNSHARE;
    else if (!names_buffer(request->type)) request->ending = XEN_ZCOPYD_UNMAP;
    if (request->ending) request->id = handle->message.description.id;
    handle->message.error = error;
    handle->length = sizeof error;
}

/*
 * Sends, without waiting, the requests that end buffers that could not be received. Requests that the socket does not accept
 * now are sent before the next message is received. There is a next message: if the socket is full, the daemon has requests
 * of this client to answer.
 */
static void send_quiet(xenzcopy_handle *handle) {
    for (size_t index = 0; index < handle->begun_count; index++) {
        struct request *request = &handle->begun[index];
        if (!request->is_quiet || request->number) continue;
        struct xen_zcopyd_buffer_request message = {
            .header = {.type = request->type, .length = sizeof message, .request = handle->last_number + 1},
            .id = request->id};
        /* The function that receives reports the end of the connection. */
        if (send(handle->socket, &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
        request->number = ++handle->last_number;
    }
}

/* As receive(), but also returns the replies to quiet requests. */
static int receive_any(xenzcopy_handle *handle, int flags) {
    struct iovec part = {.iov_base = handle->message.bytes, .iov_len = sizeof handle->message.bytes};
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr packet = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    drop_descriptor(handle);
    send_quiet(handle);
    ssize_t length = recvmsg(handle->socket, &packet, MSG_CMSG_CLOEXEC | flags);
    /* If the daemon closed with unread messages, the first call reports the reset. Its earlier messages follow. */
    if (length < 0 && errno == ECONNRESET) length = recvmsg(handle->socket, &packet, MSG_CMSG_CLOEXEC | flags);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (length < 0 && errno != ECONNRESET) {
        int error = errno;
        return end(handle, error, 0, strerror(error));
    }
    size_t descriptors = length < 0 ? 0 : take_descriptors(handle, &packet);
    if (length <= 0) return end(handle, ECONNRESET, 0, "xen-zcopyd has closed the connection; see journalctl -u xen-zcopyd");

    const struct xen_zcopyd_header *header = &handle->message.header;
    handle->length = (size_t)length;
    int is_cut = packet.msg_flags & MSG_CTRUNC;
    handle->is_descriptor_lost = is_cut && descriptors == 0;
    if (descriptors > 1 || (is_cut && descriptors > 0) || packet.msg_flags & MSG_TRUNC ||
        handle->length < sizeof *header || header->length != handle->length)
        return end_wrong(handle);
    if (header->type == XEN_ZCOPYD_EVENT) return is_event(handle) ? 1 : end_wrong(handle);

    struct request *request = request_of(handle, header->request);
    if (header->type == XEN_ZCOPYD_ERROR && is_error(handle)) {
        const struct xen_zcopyd_error *error = &handle->message.error;
        if (header->request == 0) return end(handle, error_of_code(error->code), error->code, error->text);
        if (request) return 1;
    }
    if (!request || header->type != (request->type | XEN_ZCOPYD_REPLY) || !is_reply(handle, request))
        return end_wrong(handle);
    if (handle->is_descriptor_lost) refuse_unreceived(handle, request);
    return 1;
}

/* Whether the received message is the reply to a quiet request. If so, removes the request. */
static int forget_quiet(xenzcopy_handle *handle) {
    struct request *request = request_of(handle, handle->message.header.request);
    if (!request || !request->is_quiet) return 0;
    *request = handle->begun[--handle->begun_count];
    return 1;
}

/*
 * Receives one valid message: an event, or the reply to a request. Returns 1. Returns 0 if no message arrived before the
 * socket's timeout, or before a signal, or if there is none now with MSG_DONTWAIT (errno is EINTR for a signal, else EAGAIN).
 * Returns -1 if the connection has ended.
 */
static int receive(xenzcopy_handle *handle, int flags) {
    int got;
    do got = receive_any(handle, flags);
    while (got > 0 && forget_quiet(handle));
    return got;
}

/* ---- Calls that wait ---- */

/* Waits for a reply to `called`, the request that was sent last. The reply is then in `message`. */
static int await(xenzcopy_handle *handle, uint32_t limit_ms) {
    for (;;) {
        int got = receive(handle, 0);
        if (got < 0) return -1;
        if (got == 0 && errno != EINTR) return end_late(handle);
        if (got > 0 && handle->message.header.request == handle->called.number) break;
        if (got > 0 && keep(handle) < 0) return -1;
        if (is_late(handle, limit_ms)) return end_late(handle);
    }
    const struct xen_zcopyd_error *error = &handle->message.error;
    if (handle->message.header.type != XEN_ZCOPYD_ERROR) return 0;
    int status = handle->is_descriptor_lost ? EMFILE : error_of_code(error->code);
    return fail(handle, status, error->code, error->domain, error->text);
}

static int call(xenzcopy_handle *handle, uint32_t type, const void *message, const void *tail, size_t tail_size, int fd) {
    if (send_request(handle, &handle->called, type, message, tail, tail_size, fd, 0) < 0) return -1;
    int status = await(handle, handle->timeout_ms);
    handle->called.number = 0;
    return status;
}

static int take_descriptor(xenzcopy_handle *handle) {
    int fd = handle->descriptor;
    handle->descriptor = -1;
    return fd;
}

/* Makes a call whose reply has the description and the descriptor of a buffer. */
static int call_for_buffer(xenzcopy_handle *handle, uint32_t type, const void *message, const void *tail, size_t tail_size,
                           int fd, struct xen_zcopyd_description *buffer) {
    if (call(handle, type, message, tail, tail_size, fd) == 0) {
        if (buffer) *buffer = handle->message.description;
        return handle->called.has_no_dmabuf ? XENZCOPY_NO_DMABUF : take_descriptor(handle);
    }
    if (handle->is_over || !handle->called.ending) return -1;
    /* The buffer was made and must be ended. The reply to that request overwrites the error, so the error is saved. */
    struct xen_zcopyd_error error = handle->message.error;
    struct xen_zcopyd_buffer_request request = {.id = handle->called.id};
    call(handle, handle->called.ending, &request, NULL, 0, -1);
    return handle->is_over ? -1 : fail(handle, EMFILE, error.code, error.domain, error.text);
}

int xenzcopy_map(xenzcopy_handle *handle, const struct xen_zcopyd_map *map, const uint32_t *references,
                 struct xen_zcopyd_description *buffer) {
    /* If there is a count without references, is_request() refuses the request. */
    size_t count = references ? map->reference_count : 0;
    return call_for_buffer(handle, XEN_ZCOPYD_MAP, map, references, count * sizeof *references, -1, buffer);
}

int xenzcopy_map_published(xenzcopy_handle *handle, const struct xen_zcopyd_map_published *map,
                           struct xen_zcopyd_description *buffer) {
    return call_for_buffer(handle, XEN_ZCOPYD_MAP_PUBLISHED, map, NULL, 0, -1, buffer);
}

int xenzcopy_share(xenzcopy_handle *handle, const struct xen_zcopyd_share *share, int fd,
                   struct xen_zcopyd_description *buffer) {
    return call_for_buffer(handle, XEN_ZCOPYD_SHARE, share, NULL, 0, fd, buffer);
}

int xenzcopy_open_buffer(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, struct xen_zcopyd_description *buffer) {
    struct xen_zcopyd_buffer_request request = {.id = *id};
    return call_for_buffer(handle, XEN_ZCOPYD_OPEN, &request, NULL, 0, -1, buffer);
}

int xenzcopy_unmap(xenzcopy_handle *handle, const struct xen_zcopyd_id *id) {
    struct xen_zcopyd_buffer_request request = {.id = *id};
    return call(handle, XEN_ZCOPYD_UNMAP, &request, NULL, 0, -1);
}

int xenzcopy_unshare(xenzcopy_handle *handle, const struct xen_zcopyd_id *id) {
    struct xen_zcopyd_buffer_request request = {.id = *id};
    return call(handle, XEN_ZCOPYD_UNSHARE, &request, NULL, 0, -1);
}

static struct kept_event *kept_at(const xenzcopy_handle *handle, size_t index) {
    return &handle->kept[(handle->kept_first + index) % handle->kept_room];
}

/* Whether the buffer's last event, its release, arrived while a call waited. */
static int is_released(const xenzcopy_handle *handle, const struct xen_zcopyd_id *id) {
    for (size_t index = handle->kept_count; index-- > 0;) {
        const struct xenzcopy_event *event = &kept_at(handle, index)->event;
        if (event->event == XEN_ZCOPYD_EVENT_RELEASED && !memcmp(&event->id, id, sizeof *id)) return event->code == 0;
    }
    return 0;
}

int xenzcopy_wait(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint32_t timeout_ms) {
    if (is_released(handle, id)) return 0;
    struct xen_zcopyd_wait wait = {.id = *id, .timeout_ms = timeout_ms};
    uint32_t limit = handle->timeout_ms;
    if (timeout_ms == XENZCOPY_FOREVER || limit >= XENZCOPY_FOREVER - timeout_ms) limit = XENZCOPY_FOREVER;
    else limit += timeout_ms;

    if (send_request(handle, &handle->called, XEN_ZCOPYD_WAIT, &wait, NULL, 0, -1, 0) < 0) return -1;
    set_socket_timeout(handle, SO_RCVTIMEO, limit);
    int status = await(handle, limit), error = errno;
    handle->called.number = 0;
    set_socket_timeout(handle, SO_RCVTIMEO, handle->timeout_ms);
    errno = error;
    return status;
}

int xenzcopy_refresh(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint32_t flags,
                     const struct xen_zcopyd_range *ranges, size_t count) {
    /* A count that does not fit in 32 bits would be truncated. Any count above the bound is refused. */
    uint32_t range_count = count > XEN_ZCOPYD_RANGES_MAX ? XEN_ZCOPYD_RANGES_MAX + 1 : (uint32_t)count;
    struct xen_zcopyd_refresh refresh = {.id = *id, .flags = flags, .range_count = range_count};
    return call(handle, XEN_ZCOPYD_REFRESH, &refresh, ranges, ranges ? range_count * sizeof *ranges : 0, -1);
}

int xenzcopy_read(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint64_t offset, uint64_t length) {
    struct xen_zcopyd_read read = {.id = *id, .range = {.offset = offset, .length = length}};
    struct stat file;
    if (call(handle, XEN_ZCOPYD_READ, &read, NULL, 0, -1) < 0) return -1;
    if (fstat(handle->descriptor, &file) < 0 || !S_ISREG(file.st_mode) || file.st_size < 0 ||
        (uint64_t)file.st_size < offset || (uint64_t)file.st_size - offset < length)
        return end_wrong(handle);
    return take_descriptor(handle);
}

int xenzcopy_write(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint64_t offset, const void *bytes,
                   size_t length) {
    const uint8_t *next = bytes;
    while (length > 0) {
        size_t part = length < XEN_ZCOPYD_WRITE_MAX ? length : XEN_ZCOPYD_WRITE_MAX;
        struct xen_zcopyd_write write = {.id = *id, .range = {.offset = offset, .length = part}};
        if (call(handle, XEN_ZCOPYD_WRITE, &write, next, part, -1) < 0) return -1;
        next += part;
        offset += part;
        length -= part;
    }
    return 0;
}

int xenzcopy_publish(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, const char *name,
                     struct xen_zcopyd_description *buffer) {
    struct xen_zcopyd_publish publish = {.id = *id};
    size_t length = strlen(name);
    if (length >= sizeof publish.publish) return fail_here(handle, ENAMETOOLONG, "the name has more than 31 bytes");
    memcpy(publish.publish, name, length);
    if (call(handle, XEN_ZCOPYD_PUBLISH, &publish, NULL, 0, -1) < 0) return -1;
    if (buffer) *buffer = handle->message.description;
    return 0;
}

int xenzcopy_describe(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, struct xen_zcopyd_description *buffer) {
    struct xen_zcopyd_buffer_request request = {.id = *id};
    if (call(handle, XEN_ZCOPYD_DESCRIBE, &request, NULL, 0, -1) < 0) return -1;
    *buffer = handle->message.description;
    return 0;
}

int xenzcopy_frame(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint32_t frame, uint32_t page,
                   uint32_t *number) {
    struct xen_zcopyd_frame request = {.id = *id, .frame = frame, .page = page};
    if (call(handle, XEN_ZCOPYD_FRAME, &request, NULL, 0, -1) < 0) return -1;
    if (number) *number = handle->message.frame.frame;
    return 0;
}

int xenzcopy_subscribe(xenzcopy_handle *handle, uint32_t events, uint32_t domain, int own) {
    struct xen_zcopyd_subscribe request = {.events = events, .domain = domain, .own = own != 0};
    return call(handle, XEN_ZCOPYD_SUBSCRIBE, &request, NULL, 0, -1);
}

/*
 * Makes a call that gets several replies. Returns the elements of all replies in one array, which the caller frees. Each
 * reply has its elements at `offset`. If memory runs out, the remaining replies are still received, because the daemon sends
 * them in any case.
 */
static int call_for_array(xenzcopy_handle *handle, uint32_t type, const void *message, size_t offset, size_t element_size,
                          void **elements, size_t *element_count) {
    uint8_t *array = NULL;
    size_t count = 0, more_count;
    int status, more, has_memory = 1;
    status = send_request(handle, &handle->called, type, message, NULL, 0, -1, 0);
    if (status < 0) return -1;
    do {
        status = await(handle, handle->timeout_ms);
        if (status < 0) break;
        more = type == XEN_ZCOPYD_LIST ? handle->message.list.more == 1 : handle->message.stats.more == 1;
        more_count = (handle->length - offset) / element_size;
        if (count + more_count > ENTRIES_MAX) {
            status = end_wrong(handle);
        } else if (has_memory && more_count > 0) {
            uint8_t *larger = realloc(array, (count + more_count) * element_size);
            has_memory = larger != NULL;
            if (larger) {
                array = larger;
                memcpy(array + count * element_size, handle->message.bytes + offset, more_count * element_size);
            }
        }
        count += more_count;
        if (status == 0 && more && is_late(handle, handle->timeout_ms)) status = end_late(handle);
    } while (status == 0 && more);
    handle->called.number = 0;
    if (status == 0 && !has_memory) status = fail_here(handle, ENOMEM, "cannot keep the reply");
    if (status < 0) {
        int error = errno;
        free(array);
        errno = error;
        return -1;
    }
    *elements = array;
    *element_count = count;
    return 0;
}

int xenzcopy_list(xenzcopy_handle *handle, uint32_t domain, struct xen_zcopyd_list_entry **entries, size_t *count) {
    struct xen_zcopyd_list request = {.domain = domain};
    void *array;
    if (call_for_array(handle, XEN_ZCOPYD_LIST, &request, sizeof(struct xen_zcopyd_list_reply), sizeof **entries, &array,
                       count) < 0)
        return -1;
    *entries = array;
    for (size_t index = 0; index < *count; index++) (*entries)[index].name[XEN_ZCOPYD_NAME_SIZE - 1] = 0;
    return 0;
}

int xenzcopy_stats(xenzcopy_handle *handle, struct xen_zcopyd_stats **stats, size_t *count) {
    struct xen_zcopyd_header request = {0};
    void *array;
    if (call_for_array(handle, XEN_ZCOPYD_STATS, &request, 0, sizeof **stats, &array, count) < 0) return -1;
    *stats = array;
    return 0;
}

/* ---- Events ---- */

/* Makes an event of the received message and its descriptor. Removes the request that the message answers. */
static struct xenzcopy_event take_event(xenzcopy_handle *handle) {
    const struct xen_zcopyd_header *header = &handle->message.header;
    struct request *request = request_of(handle, header->request);
    struct xenzcopy_event event = {.fd = -1};
    if (!request) {
        event.event = handle->message.event.event;
        event.domain = handle->message.event.domain;
        event.id = handle->message.event.id;
        if (event.event == XEN_ZCOPYD_EVENT_RELEASED) event.code = handle->message.event.frame;
        else event.frame = handle->message.event.frame;
        event.page = handle->message.event.page;
        return event;
    }
    event.event = XENZCOPY_EVENT_DONE;
    event.domain = XEN_ZCOPYD_ANY_DOMAIN;
    event.id = request->id;
    event.request = request->number;
    event.type = request->type;
    event.fd = take_descriptor(handle);
    if (header->type == XEN_ZCOPYD_ERROR) {
        event.domain = handle->message.error.domain;
        event.code = handle->message.error.code;
    } else if (handle->length == sizeof handle->message.description) {
        event.domain = handle->message.description.domain;
        event.id = handle->message.description.id;
    } else if (request->type == XEN_ZCOPYD_FRAME) {
        event.frame = handle->message.frame.frame;
        event.page = handle->message.frame.page;
    }
    if (request->ending) {
        *request = (struct request){.type = request->ending, .id = request->id, .is_quiet = 1};
        send_quiet(handle);
    } else {
        *request = handle->begun[--handle->begun_count];
    }
    return event;
}

/* Removes all but the last FRAME and the last USED of each buffer. */
static void drop_old_frames(xenzcopy_handle *handle) {
    size_t kept = 0;
    for (size_t index = 0; index < handle->kept_count; index++) {
        const struct kept_event *old = kept_at(handle, index);
        int is_old = 0;
        if (old->event.event & (XEN_ZCOPYD_EVENT_FRAME | XEN_ZCOPYD_EVENT_USED))
            for (size_t later = index + 1; later < handle->kept_count && !is_old; later++) {
                const struct xenzcopy_event *event = &kept_at(handle, later)->event;
                is_old = event->event == old->event.event && !memcmp(&event->id, &old->event.id, sizeof event->id);
            }
        if (!is_old) *kept_at(handle, kept++) = *old;
    }
    handle->kept_count = kept;
}

/* Makes room for one more event. Returns 0, or -1 with errno set. */
static int make_room(xenzcopy_handle *handle) {
    if (handle->kept_count < handle->kept_room) return 0;
    if (handle->kept_room == XENZCOPY_EVENTS_MAX) {
        drop_old_frames(handle);
        errno = ENOBUFS;
        return handle->kept_count < handle->kept_room ? 0 : -1;
    }
    size_t room = handle->kept_room ? handle->kept_room * 2 : 16;
    struct kept_event *larger = malloc(room * sizeof *larger);
    if (!larger) return -1;
    for (size_t index = 0; index < handle->kept_count; index++) larger[index] = *kept_at(handle, index);
    free(handle->kept);
    handle->kept = larger;
    handle->kept_first = 0;
    handle->kept_room = room;
    return 0;
}

/* Keeps the received message for xenzcopy_next_event(). */
static int keep(xenzcopy_handle *handle) {
    const struct xen_zcopyd_header *header = &handle->message.header;
    struct kept_event kept = {.details = NULL};
    size_t size = header->type == XEN_ZCOPYD_ERROR                             ? sizeof handle->message.error.text
                  : handle->length == sizeof handle->message.description ? sizeof handle->message.description
                                                                         : 0;
    if (make_room(handle) < 0)
        return end(handle, errno, 0,
                   errno == ENOMEM ? "no memory for an event"
                                   : "too many events came while a call waited; call xenzcopy_next_event more often");
    if (size > 0) {
        kept.details = malloc(size);
        if (!kept.details) return end(handle, ENOMEM, 0, "no memory for an event");
        memcpy(kept.details,
               header->type == XEN_ZCOPYD_ERROR ? (void *)handle->message.error.text : handle->message.bytes, size);
    }
    kept.event = take_event(handle);
    handle->kept_count++;
    *kept_at(handle, handle->kept_count - 1) = kept;
    return 0;
}

int xenzcopy_next_event(xenzcopy_handle *handle, struct xenzcopy_event *event, struct xen_zcopyd_description *buffer) {
    if (handle->kept_count > 0) {
        struct kept_event kept = *kept_at(handle, 0);
        handle->kept_first = (handle->kept_first + 1) % handle->kept_room;
        handle->kept_count--;
        *event = kept.event;
        if (event->code) fail(handle, 0, event->code, event->domain, kept.details ? kept.details : release_unknown);
        else if (kept.details && buffer) memcpy(buffer, kept.details, sizeof *buffer);
        free(kept.details);
        return 1;
    }
    if (handle->is_over) return fail_over();
    int got = receive(handle, MSG_DONTWAIT);
    if (got <= 0) return got;
    int is_description = handle->message.header.type != XEN_ZCOPYD_ERROR &&
                         handle->length == sizeof handle->message.description;
    *event = take_event(handle);
    if (event->code)
        fail(handle, 0, event->code, event->domain,
             event->event == XENZCOPY_EVENT_DONE ? handle->message.error.text : release_unknown);
    else if (is_description && buffer) *buffer = handle->message.description;
    return 1;
}

int xenzcopy_begin(xenzcopy_handle *handle, const void *message, size_t length, int fd, uint64_t *request) {
    if (handle->is_over) return fail_over();
    uint32_t type = length < sizeof(struct xen_zcopyd_header) ? 0 : ((const struct xen_zcopyd_header *)message)->type;
    size_t size = request_size(type);
    if (size == 0 || length < size || type == XEN_ZCOPYD_HELLO || type == XEN_ZCOPYD_LIST || type == XEN_ZCOPYD_STATS)
        return fail_here(handle, EINVAL, "this is no request that can be begun");
    if (handle->begun_count == BEGUN_MAX) return fail_here(handle, EAGAIN, "too many requests are on their way");
    if (send_request(handle, &handle->begun[handle->begun_count], type, message, (const uint8_t *)message + size,
                     length - size, fd, MSG_DONTWAIT) < 0)
        return -1;
    *request = handle->begun[handle->begun_count++].number;
    return 0;
}

/* ---- The connection ---- */

static xenzcopy_handle *give_up(xenzcopy_handle *handle, int error, const char *text, char *out, size_t out_size) {
    if (out && out_size > 0) snprintf(out, out_size, "%s", text);
    xenzcopy_close(handle);
    errno = error;
    return NULL;
}

static int set_up(xenzcopy_handle *handle) {
    int type, domain, flags;
    socklen_t size = sizeof type;
    if (getsockopt(handle->socket, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
        getsockopt(handle->socket, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0)
        return fail_here(handle, errno, "cannot use the socket");
    if (domain != AF_UNIX || type != SOCK_SEQPACKET)
        return fail_here(handle, EPROTOTYPE, "cannot use the socket, which is no Unix socket of type SOCK_SEQPACKET");
    flags = fcntl(handle->socket, F_GETFL);
    if (flags < 0 || (flags & O_NONBLOCK && fcntl(handle->socket, F_SETFL, flags & ~O_NONBLOCK) < 0) ||
        fcntl(handle->socket, F_SETFD, FD_CLOEXEC) < 0)
        return fail_here(handle, errno, "cannot set up the socket");
    return xenzcopy_set_timeout(handle, TIMEOUT_MS);
}

static int greet(xenzcopy_handle *handle) {
    struct xen_zcopyd_hello hello = {.magic = XEN_ZCOPYD_MAGIC, .version = XEN_ZCOPYD_VERSION};
    char text[128];
    if (call(handle, XEN_ZCOPYD_HELLO, &hello, NULL, 0, -1) < 0) return -1;
    if (handle->message.hello.magic != XEN_ZCOPYD_MAGIC)
        return fail_here(handle, EPROTO, "what answers there is no xen-zcopyd");
    if (handle->message.hello.version == XEN_ZCOPYD_VERSION) return 0;
    snprintf(text, sizeof text, "xen-zcopyd speaks version %u of the protocol, and this library version %u",
             (unsigned)handle->message.hello.version, XEN_ZCOPYD_VERSION);
    return fail(handle, EPROTONOSUPPORT, 0, XEN_ZCOPYD_ANY_DOMAIN, text);
}

/* Makes a handle of a socket, and sets the socket up. Closes both on failure. */
static xenzcopy_handle *handle_of(int socket, char *error, size_t error_size) {
    xenzcopy_handle *handle = calloc(1, sizeof *handle);
    if (!handle) {
        if (socket >= 0) close(socket);
        return give_up(NULL, ENOMEM, "no memory for a connection", error, error_size);
    }
    handle->socket = socket;
    handle->descriptor = -1;
    if (set_up(handle) < 0) return give_up(handle, errno, handle->error_text, error, error_size);
    return handle;
}

static xenzcopy_handle *greeted(xenzcopy_handle *handle, char *error, size_t error_size) {
    if (handle && greet(handle) < 0) return give_up(handle, errno, handle->error_text, error, error_size);
    return handle;
}

xenzcopy_handle *xenzcopy_adopt(int socket, char *error, size_t error_size) {
    return greeted(handle_of(socket, error, error_size), error, error_size);
}

xenzcopy_handle *xenzcopy_open(const char *path, char *error, size_t error_size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[XEN_ZCOPYD_TEXT_SIZE];
    if (!path) path = secure_getenv(XEN_ZCOPYD_SOCKET_VARIABLE);
    if (!path || !*path) path = XEN_ZCOPYD_SOCKET;
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path) {
        snprintf(text, sizeof text, "the path of xen-zcopyd's socket is longer than %zu bytes", sizeof address.sun_path - 1);
        return give_up(NULL, ENAMETOOLONG, text, error, error_size);
    }
    memcpy(address.sun_path, path, length);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (path[0] == '@') address.sun_path[0] = 0;
    else size++;

    int file = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (file < 0) {
        int status = errno;
        snprintf(text, sizeof text, "cannot make a socket: %s", strerror(status));
        return give_up(NULL, status, text, error, error_size);
    }
    /* The socket's timeout also limits connect(), which waits while the daemon's queue is full. */
    xenzcopy_handle *handle = handle_of(file, error, error_size);
    if (!handle) return NULL;
    while (connect(file, (struct sockaddr *)&address, size) < 0) {
        int status = errno;
        if (status == EINTR && !is_late(handle, handle->timeout_ms)) continue;
        const char *advice = status == ENOENT || status == ECONNREFUSED ? "; start it: systemctl start xen-zcopyd"
                             : status == EACCES ? "; only root and members of the group xen-zcopy may use it"
                                                : "";
        snprintf(text, sizeof text, "cannot connect to xen-zcopyd at %s: %s%s", path, strerror(status), advice);
        return give_up(handle, status, text, error, error_size);
    }
    return greeted(handle, error, error_size);
}

void xenzcopy_close(xenzcopy_handle *handle) {
    if (!handle) return;
    for (size_t index = 0; index < handle->kept_count; index++) {
        const struct kept_event *kept = kept_at(handle, index);
        if (kept->event.fd >= 0) close(kept->event.fd);
        free(kept->details);
    }
    free(handle->kept);
    drop_descriptor(handle);
    if (handle->socket >= 0) close(handle->socket);
    free(handle);
}

int xenzcopy_fd(const xenzcopy_handle *handle) {
    return handle->socket;
}

/* ---- Identifiers ---- */

void xenzcopy_id_text(const struct xen_zcopyd_id *id, char text[33]) {
    for (size_t index = 0; index < sizeof id->bytes; index++)
        snprintf(text + 2 * index, 3, "%02x", (unsigned)id->bytes[index]);
}

static int digit(char character) {
    if (character >= '0' && character <= '9') return character - '0';
    if (character >= 'a' && character <= 'f') return character - 'a' + 10;
    if (character >= 'A' && character <= 'F') return character - 'A' + 10;
    return -1;
}

int xenzcopy_id_parse(const char *text, struct xen_zcopyd_id *id) {
    struct xen_zcopyd_id parsed = {0};
    for (size_t index = 0; index < 2 * sizeof id->bytes; index++) {
        int value = digit(text[index]);
        if (value < 0) {
            errno = EINVAL;
            return -1;
        }
        parsed.bytes[index / 2] = (uint8_t)(parsed.bytes[index / 2] << 4 | value);
    }
    if (text[2 * sizeof id->bytes]) {
        errno = EINVAL;
        return -1;
    }
    *id = parsed;
    return 0;
}
