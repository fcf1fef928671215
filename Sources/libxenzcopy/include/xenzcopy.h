/* SPDX-License-Identifier: MIT */
/*
 * libxenzcopy: buffers of other Xen domains as dma-bufs, through the daemon xen-zcopyd.
 *
 * A handle is one connection to the daemon. Its buffers are released when it is closed by xenzcopy_close() or by the end of
 * the process, except for those that were made with XEN_ZCOPYD_PERSISTENT.
 *
 * Requests are the structures of xen-zcopyd.h. The caller fills in everything except the header. Each field has a meaning
 * when it is 0, so a designated initialiser needs only the other fields:
 *
 *     struct xen_zcopyd_description buffer;
 *     int fd = xenzcopy_map(handle, &(struct xen_zcopyd_map){.domain = 3, .directory = 812, .size = 8294400}, NULL, &buffer);
 *
 * Errors: functions return -1 (or NULL) with errno set, and xenzcopy_error() returns one line for people. The daemon's codes
 * correspond to these values of errno:
 *
 *     XEN_ZCOPYD_E_MESSAGE      EPROTO           XEN_ZCOPYD_E_RESOURCES    ENOMEM
 *     XEN_ZCOPYD_E_VERSION      EPROTONOSUPPORT  XEN_ZCOPYD_E_BUSY         EBUSY
 *     XEN_ZCOPYD_E_PERMISSION   EACCES           XEN_ZCOPYD_E_TIMEOUT      ETIMEDOUT
 *     XEN_ZCOPYD_E_UNKNOWN      ENOENT           XEN_ZCOPYD_E_GONE         ESRCH
 *     XEN_ZCOPYD_E_INVALID      EINVAL           XEN_ZCOPYD_E_UNAVAILABLE  ENODEV
 *     XEN_ZCOPYD_E_LIMIT        EDQUOT           XEN_ZCOPYD_E_SLOW         ENOBUFS
 *     XEN_ZCOPYD_E_REFUSED      EBADMSG          XEN_ZCOPYD_E_STOPPING     ESHUTDOWN
 *     XEN_ZCOPYD_E_UNSUPPORTED  EOPNOTSUPP       XEN_ZCOPYD_E_FAILED       EIO
 *
 * These errors come from the library:
 *
 *     EINVAL   the daemon would end the connection because of such a request; it was not sent
 *     ENOMEM   this process is out of memory
 *     EMFILE   this process has no descriptor left for the buffer; the code is XEN_ZCOPYD_E_RESOURCES. The connection stays
 *              open. A buffer that was made in vain is unmapped or unshared; RELEASED reports the end of it.
 *
 * These errors end the connection, and every call after them fails with ENOTCONN:
 *
 *     ECONNRESET    the daemon has ended, or has closed the connection
 *     ESHUTDOWN     the daemon is stopping
 *     ECONNABORTED  the daemon did not answer in time
 *     EPROTO        one side sent a malformed message
 *     ENOBUFS       this client does not read its messages, or more events arrived than the handle keeps
 *
 * A restart or an upgrade of the daemon keeps connections and buffers. A REFRESH or READ that is in progress fails with
 * EBUSY: call it again. ECONNRESET and ESHUTDOWN mean that the daemon has ended. All its buffers have ended too, persistent
 * ones included. Call xenzcopy_close(), then xenzcopy_open().
 *
 * A persistent buffer outlives its client, but not the daemon. A client that comes back gets it by its identifier with
 * xenzcopy_open_buffer(). Descriptors of dma-bufs stay valid as long as they are open.
 *
 * The caller closes the descriptors that functions return. They are close-on-exec. Descriptors that the caller passes stay
 * the caller's own.
 *
 * Threads: only one thread at a time may use a handle. Different handles are independent, and the library has no global
 * state. After fork(2) only one of the two processes may use a handle, and the other may only close it. No call raises
 * SIGPIPE. Signals whose handlers return do not interrupt calls.
 */
#ifndef XENZCOPY_H
#define XENZCOPY_H

#include <stddef.h>
#include <stdint.h>

#include "xen-zcopyd.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xenzcopy_handle xenzcopy_handle;

/* No time limit. */
#define XENZCOPY_FOREVER 0xffffffffu

/* ---- The connection ---- */

/*
 * Connects to the daemon at `path`; NULL stands for $XEN_ZCOPYD_SOCKET or, if that is not set, XEN_ZCOPYD_SOCKET. A path that
 * begins with @ is in the abstract name space.
 *
 * On failure returns NULL with errno set, and writes one line to `error`, which has room for `error_size` bytes (NULL and 0
 * for no text): ENOENT and ECONNREFUSED if no daemon runs, EACCES if this user may not connect, EDQUOT if the maximum number
 * of clients is connected, EPROTONOSUPPORT if the daemon has another protocol version, ENAMETOOLONG if the path is too long
 * for a socket's address.
 */
xenzcopy_handle *xenzcopy_open(const char *path, char *error, size_t error_size);

/*
 * Takes over a Unix socket of type SOCK_SEQPACKET that is already connected, for instance one that another process passed.
 * The handle owns the socket from now on, and no other code may use it. If the function fails, it closes the socket. The
 * socket becomes blocking and close-on-exec. EPROTOTYPE if it is of another type.
 */
xenzcopy_handle *xenzcopy_adopt(int socket, char *error, size_t error_size);

/* Closes the connection. This releases the buffers that were made through it and are not persistent. NULL is allowed. */
void xenzcopy_close(xenzcopy_handle *handle);

/*
 * The connection's descriptor. Poll it for POLLIN, and call xenzcopy_next_event() until it returns 0. Do so before each poll,
 * because other calls may receive events too, which the handle keeps. Do not use the descriptor for anything else.
 */
int xenzcopy_fd(const xenzcopy_handle *handle);

/*
 * Sets how long a call waits for the daemon, in milliseconds, or XENZCOPY_FOREVER; the default is 30,000. EINVAL for 0. A
 * daemon that sends other messages meanwhile can extend this to three times as long. After that the connection is closed
 * (ECONNABORTED), because the state of the request is unknown.
 */
int xenzcopy_set_timeout(xenzcopy_handle *handle, uint32_t milliseconds);

/*
 * The error of the last call that failed, in one line, or "" if none has failed. The text is valid until the next call with
 * this handle. `code`, if not NULL, gets the daemon's XEN_ZCOPYD_E_*, or 0 if the error is not from the daemon.
 */
const char *xenzcopy_error(const xenzcopy_handle *handle, uint32_t *code);

/* ---- Buffers ---- */

/* What a call returns in place of a descriptor for a buffer that was requested without a dma-buf. */
#define XENZCOPY_NO_DMABUF (-2)

/*
 * Makes a dma-buf of another domain's pages. `references` has map->reference_count grant references if there is no
 * directory; else it is NULL. `buffer`, if not NULL, gets the description. Returns the dma-buf's descriptor; with
 * XEN_ZCOPYD_MECHANISM_CPU XENZCOPY_NO_DMABUF.
 */
int xenzcopy_map(xenzcopy_handle *handle, const struct xen_zcopyd_map *map, const uint32_t *references,
                 struct xen_zcopyd_description *buffer);

/* The same, with all parameters from the owner's publication in XenStore. Its frames are events (XEN_ZCOPYD_EVENT_FRAME). */
int xenzcopy_map_published(xenzcopy_handle *handle, const struct xen_zcopyd_map_published *map,
                           struct xen_zcopyd_description *buffer);

/*
 * Grants the pages of a dma-buf to another domain. With XEN_ZCOPYD_MEMORY_DESCRIPTOR the dma-buf is `fd`; else it is new
 * memory, and `fd` is -1. `buffer`, if not NULL, gets the description; the peer needs its `directory`. Returns the dma-buf's
 * descriptor; with XEN_ZCOPYD_MEMORY_GNTALLOC XENZCOPY_NO_DMABUF.
 */
int xenzcopy_share(xenzcopy_handle *handle, const struct xen_zcopyd_share *share, int fd,
                   struct xen_zcopyd_description *buffer);

/*
 * Gets a live buffer of this or of another connection by its identifier. Returns the dma-buf's descriptor.
 *
 * Only the user that made a buffer, and root, may do more with it than xenzcopy_describe(); for others the calls fail with
 * ENOENT.
 */
int xenzcopy_open_buffer(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, struct xen_zcopyd_description *buffer);

/*
 * Begins the release of a mapped buffer. The release completes when the dma-buf has no holder any more. Close its
 * descriptors, and end everything that has imported them. Then wait for XEN_ZCOPYD_EVENT_RELEASED, or call xenzcopy_wait().
 * Only after that may a backend report to its frontend that the buffer is destroyed.
 *
 * Each buffer gets RELEASED, as its last event. The event has a code if it cannot be determined whether the buffer is held.
 */
int xenzcopy_unmap(xenzcopy_handle *handle, const struct xen_zcopyd_id *id);

/*
 * Begins the release of a shared buffer. The release completes when the peer has unmapped the pages. Wait for it as after
 * xenzcopy_unmap().
 */
int xenzcopy_unshare(xenzcopy_handle *handle, const struct xen_zcopyd_id *id);

/*
 * Waits until a buffer is released, then returns 0. ETIMEDOUT if the buffer is still held after `timeout_ms` milliseconds
 * (XENZCOPY_FOREVER for no limit); the text names the holders. xenzcopy_begin() can wait without blocking. If the release was
 * reported while another call waited, this call sends nothing. The event stays for xenzcopy_next_event().
 */
int xenzcopy_wait(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint32_t timeout_ms);

/*
 * Updates a buffer of the mechanism COPY with the current contents of the domain's memory. With XEN_ZCOPYD_WRITE_BACK in
 * `flags` it copies to the domain instead. Copies `count` ranges, or the whole buffer if `count` is 0.
 */
int xenzcopy_refresh(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint32_t flags,
                     const struct xen_zcopyd_range *ranges, size_t count);

/*
 * Copies `length` bytes of a mapped buffer, or of a shared one without a dma-buf, from `offset` on, with their current
 * contents; 0 stands for the rest. Returns the descriptor of a memory file that has the bytes at the same offset and zeros
 * elsewhere. pread(2) of it is always safe; check its size before you map it.
 */
int xenzcopy_read(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint64_t offset, uint64_t length);

/*
 * Writes `length` bytes to a mapped buffer, or to a shared one without a dma-buf, from `offset` on, in several requests if
 * they are many. EBADMSG if the domain has granted its pages for reading only.
 */
int xenzcopy_write(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint64_t offset, const void *bytes,
                   size_t length);

/*
 * Publishes a shared buffer in XenStore, with frames: for a buffer without a dma-buf, which is written after it was shared.
 * `name` has 1 to 31 letters, digits, - and _. The text of `buffer`, if not NULL, is the publication's path.
 */
int xenzcopy_publish(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, const char *name,
                     struct xen_zcopyd_description *buffer);

/* Describes a buffer, including its holders. */
int xenzcopy_describe(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, struct xen_zcopyd_description *buffer);

/*
 * For a mapped buffer, reports that `frame` was used and that the owner may draw there again. For a shared buffer, announces
 * a new frame that begins at `page`; `frame` is 0. `number`, if not NULL, gets the frame's number.
 */
int xenzcopy_frame(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint32_t frame, uint32_t page,
                   uint32_t *number);

/*
 * Lists the buffers that this client may see, of one domain or of XEN_ZCOPYD_ANY_DOMAIN. The caller must free(3) `*entries`,
 * which is NULL if there are none.
 */
int xenzcopy_list(xenzcopy_handle *handle, uint32_t domain, struct xen_zcopyd_list_entry **entries, size_t *count);

/* Gets counters and limits: first of all domains together, then of each domain. The caller must free(3) `*stats`. */
int xenzcopy_stats(xenzcopy_handle *handle, struct xen_zcopyd_stats **stats, size_t *count);

/* Writes the identifier as 32 hexadecimal digits and a 0 byte, the first byte first, as in lists and logs. */
void xenzcopy_id_text(const struct xen_zcopyd_id *id, char text[33]);

/* Parses an identifier in this form; -1 with EINVAL if the text is not one. */
int xenzcopy_id_parse(const char *text, struct xen_zcopyd_id *id);

/* ---- Events, and requests that do not block ---- */

/*
 * Selects the events that this client gets from now on, in place of the previous selection: these XEN_ZCOPYD_EVENT_* of the
 * buffers that it may see, or only of its own buffers if `own` is not 0, of one domain or of XEN_ZCOPYD_ANY_DOMAIN. A client
 * that does not subscribe gets RELEASED, LATE, CLOSING and DOMAIN_GONE of its own buffers.
 */
int xenzcopy_subscribe(xenzcopy_handle *handle, uint32_t events, uint32_t domain, int own);

/* A request of xenzcopy_begin() was answered. */
#define XENZCOPY_EVENT_DONE 0x80000000u

struct xenzcopy_event {
    uint32_t event;          /* one XEN_ZCOPYD_EVENT_*, or XENZCOPY_EVENT_DONE */
    uint32_t domain;         /* DONE: the domain that an error concerns, or XEN_ZCOPYD_ANY_DOMAIN */
    struct xen_zcopyd_id id; /* all 0 for DOMAIN_GONE; DONE: of the request, or of the buffer that it made */
    uint32_t frame;          /* of FRAME and USED; DONE: of a request FRAME */
    uint32_t page;
    uint64_t request;        /* DONE: the number from xenzcopy_begin(); else 0, like all fields that follow except `code` */
    uint32_t type;           /* DONE: the type of the request, for instance XEN_ZCOPYD_MAP */
    uint32_t code;           /* DONE: 0, or the error XEN_ZCOPYD_E_*; xenzcopy_error() has the text.
                                RELEASED: 0, or XEN_ZCOPYD_E_FAILED if it is unknown whether the buffer is held */
    int fd;                  /* DONE: the descriptor in the reply, which the caller closes; else -1 */
};

/*
 * Sends a request without blocking. Its reply is an event of the kind DONE. `message` is a structure of xen-zcopyd.h and the
 * array that follows it, `length` bytes in total. The caller sets header.type, and the library sets the rest of the header.
 * `fd` is the dma-buf of a SHARE with XEN_ZCOPYD_MEMORY_DESCRIPTOR; else -1. LIST, STATS and HELLO are refused (EINVAL).
 *
 * Returns 0, with the request's number in `*request`. EAGAIN if XEN_ZCOPYD_REQUESTS_MAX - 1 requests have no reply yet, or if
 * the daemon has not read the previous ones; call xenzcopy_next_event() first. Nothing was sent then. For instance, to wait
 * for a release:
 *
 *     struct xen_zcopyd_wait wait = {.header.type = XEN_ZCOPYD_WAIT, .id = buffer.id, .timeout_ms = 5000};
 *     xenzcopy_begin(handle, &wait, sizeof wait, -1, &request);
 */
int xenzcopy_begin(xenzcopy_handle *handle, const void *message, size_t length, int fd, uint64_t *request);

/*
 * Gets the next event without blocking. Returns 1, or 0 if there is no event now, or -1 when the connection has ended and all
 * earlier events were returned. `buffer`, if not NULL, gets the description if the event is DONE and its reply has one; else
 * it is not changed.
 *
 * The handle keeps events that arrive while another call waits, in their order, XENZCOPY_EVENTS_MAX at most. At that bound,
 * only the last FRAME and the last USED of each buffer are kept. If that is not enough, the connection ends with ENOBUFS, and
 * no event before that is lost.
 */
int xenzcopy_next_event(xenzcopy_handle *handle, struct xenzcopy_event *event, struct xen_zcopyd_description *buffer);

#define XENZCOPY_EVENTS_MAX 4096u

#ifdef __cplusplus
}
#endif

#endif
