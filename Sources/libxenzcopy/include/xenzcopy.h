/* SPDX-License-Identifier: MIT */
/*
 * libxenzcopy: buffers of other Xen domains as dma-bufs, by way of the daemon xen-zcopyd.
 *
 * A handle is one connection to the daemon. What is made through it is released when it ends, by xenzcopy_close or by the
 * end of the process, except for what was made with XEN_ZCOPYD_PERSISTENT.
 *
 * Requests are the structures of xen-zcopyd.h, of which the caller fills in all but the header; what is 0 there has a
 * meaning, so that a designated initialiser says all:
 *
 *     struct xen_zcopyd_description buffer;
 *     int fd = xenzcopy_map(handle, &(struct xen_zcopyd_map){.domain = 3, .directory = 812, .size = 8294400}, NULL, &buffer);
 *
 * Errors: functions return -1 (or NULL) with errno set, and xenzcopy_error() has one line for people. Of the daemon's codes
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
 * and without the daemon's word: EINVAL, a request that the daemon would end the connection for; ENOMEM here; EMFILE, this
 * process has no descriptor left for the buffer, with the code XEN_ZCOPYD_E_RESOURCES: the connection goes on, and a buffer
 * that was made for nothing is unmapped or unshared, of which RELEASED tells.
 *
 * These end the connection: ECONNRESET, the daemon has ended or has closed it; ESHUTDOWN, the daemon ends; ECONNABORTED, it
 * did not answer in time; EPROTO, one side sent what is no message of the protocol; ENOBUFS, this client does not read what
 * it is sent, or more events came than are kept. Every call after that fails with ENOTCONN.
 *
 * A restart or an upgrade of the daemon keeps connections and buffers; a REFRESH or READ that is under way fails with EBUSY,
 * and is to be asked once more. ECONNRESET and ESHUTDOWN mean that the daemon has
 * ended: all its buffers are over, persistent ones too, and xenzcopy_close() and xenzcopy_open() are all that is left to do.
 * A persistent buffer outlives its client, not the daemon: a client that comes back gets it by its identifier, with
 * xenzcopy_open_buffer(). A descriptor of a dma-buf stays good for as long as it is open, whatever ends.
 *
 * Descriptors that functions return are the caller's to close, and close-on-exec. Those that the caller passes stay its own.
 *
 * Threads: one handle is for one thread at a time; different handles are independent, and the library has no state of its
 * own. After fork(2) only one of the two processes may use a handle, and the other may only close it. No call raises
 * SIGPIPE; signals whose handlers return do not interrupt calls.
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

/* Stands for no time limit. */
#define XENZCOPY_FOREVER 0xffffffffu

/* ---- The connection ---- */

/*
 * Connects to the daemon at `path`; NULL stands for $XEN_ZCOPYD_SOCKET or, if that is not set, XEN_ZCOPYD_SOCKET. A path that
 * begins with @ is in the abstract name space.
 *
 * NULL with errno set, and one line in `error`, which has room for `error_size` bytes (NULL and 0: not wanted): ENOENT and
 * ECONNREFUSED if no daemon runs, EACCES if this user may not connect, EDQUOT if as many clients as may be are connected,
 * EPROTONOSUPPORT if it speaks another version, ENAMETOOLONG for a path that no socket can have.
 */
xenzcopy_handle *xenzcopy_open(const char *path, char *error, size_t error_size);

/*
 * The same over a socket that is connected already, of type SOCK_SEQPACKET, for instance one that another process passed.
 * It is the handle's from here on, and is closed if this fails; nobody else may use it. It becomes blocking and close-on-exec.
 * EPROTOTYPE if it is of another type.
 */
xenzcopy_handle *xenzcopy_adopt(int socket, char *error, size_t error_size);

/* Ends the connection, and with it everything that was made through it and is not persistent. NULL is allowed. */
void xenzcopy_close(xenzcopy_handle *handle);

/*
 * The connection's descriptor, to poll for POLLIN: then call xenzcopy_next_event() until it returns 0. Other calls may
 * receive events too and keep them, so do that after them as well, before the next poll. Nothing else may be done with it.
 */
int xenzcopy_fd(const xenzcopy_handle *handle);

/*
 * How long a call waits for the daemon, in milliseconds, or XENZCOPY_FOREVER; 30,000 at first. A daemon that sends other
 * things meanwhile can stretch it to three times that. EINVAL for 0. When it is over the connection ends (ECONNABORTED), since nobody
 * could tell what became of the request.
 */
int xenzcopy_set_timeout(xenzcopy_handle *handle, uint32_t milliseconds);

/*
 * What the last call that failed has to say, in one line, or "" if none has; valid until the next call with this handle.
 * `code`, if not NULL, gets the daemon's XEN_ZCOPYD_E_*, or 0 if the daemon had no part in it.
 */
const char *xenzcopy_error(const xenzcopy_handle *handle, uint32_t *code);

/* ---- Buffers ---- */

/*
 * Makes a dma-buf of another domain's pages. `references` are map->reference_count grant references, if there is no
 * directory; else NULL. `buffer`, if not NULL, gets the description. Returns the dma-buf's descriptor.
 */
int xenzcopy_map(xenzcopy_handle *handle, const struct xen_zcopyd_map *map, const uint32_t *references,
                 struct xen_zcopyd_description *buffer);

/* The same of what the owner published in XenStore, whose frames are events then (XEN_ZCOPYD_EVENT_FRAME). */
int xenzcopy_map_published(xenzcopy_handle *handle, const struct xen_zcopyd_map_published *map,
                           struct xen_zcopyd_description *buffer);

/*
 * Grants the pages of a dma-buf to another domain: of `fd` with XEN_ZCOPYD_MEMORY_DESCRIPTOR, else of new memory, with -1 for
 * `fd`. `buffer`, if not NULL, gets the description, of which the peer needs `directory`. Returns the dma-buf's descriptor.
 */
int xenzcopy_share(xenzcopy_handle *handle, const struct xen_zcopyd_share *share, int fd,
                   struct xen_zcopyd_description *buffer);

/*
 * Gets a buffer that lives already, of this or of another connection, by its identifier. Returns the dma-buf's descriptor.
 *
 * Only the user that made a buffer, and root, may do anything with it but xenzcopy_describe(): to others it is unknown (ENOENT).
 */
int xenzcopy_open_buffer(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, struct xen_zcopyd_description *buffer);

/*
 * Gives a mapped buffer back. This begins its release, which is over once nobody holds the dma-buf: close its descriptors
 * and whatever they were imported into, then wait for XEN_ZCOPYD_EVENT_RELEASED, or with xenzcopy_wait(), before telling
 * the frontend. RELEASED comes in any case, and is the buffer's last event: with a code where nobody can tell any more.
 */
int xenzcopy_unmap(xenzcopy_handle *handle, const struct xen_zcopyd_id *id);

/* Ends the sharing of a buffer. Its pages are free once the peer has unmapped them: as for xenzcopy_unmap(). */
int xenzcopy_unshare(xenzcopy_handle *handle, const struct xen_zcopyd_id *id);

/*
 * Waits until a buffer is released: 0 then. ETIMEDOUT if it is still held after `timeout_ms` milliseconds, or
 * XENZCOPY_FOREVER; the text says by whom. xenzcopy_begin() does this without blocking.
 */
int xenzcopy_wait(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint32_t timeout_ms);

/*
 * Copies what the domain has drawn into a buffer of the mechanism COPY, or back with XEN_ZCOPYD_WRITE_BACK in `flags`: in
 * `count` ranges, or all of it if that is 0.
 */
int xenzcopy_refresh(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint32_t flags,
                     const struct xen_zcopyd_range *ranges, size_t count);

/*
 * A copy of `length` bytes that a mapped buffer holds now, from `offset` on; 0 stands for the rest. Returns the descriptor of
 * a memory file in which they have the same place, with zeros around. pread(2) of it is always safe; look at its size before
 * you map it.
 */
int xenzcopy_read(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint64_t offset, uint64_t length);

/* Describes a buffer, with who holds it. */
int xenzcopy_describe(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, struct xen_zcopyd_description *buffer);

/*
 * Of a mapped buffer: its `frame` was used, and the owner may draw there again. Of a shared one: a new frame begins at
 * `page`, with 0 for `frame`. `number`, if not NULL, gets the frame's number.
 */
int xenzcopy_frame(xenzcopy_handle *handle, const struct xen_zcopyd_id *id, uint32_t frame, uint32_t page,
                   uint32_t *number);

/*
 * The buffers that this client may see, of one domain or of XEN_ZCOPYD_ANY_DOMAIN. `*entries` is the caller's to free(3), and
 * NULL if there are none.
 */
int xenzcopy_list(xenzcopy_handle *handle, uint32_t domain, struct xen_zcopyd_list_entry **entries, size_t *count);

/* Counters and limits: `*stats` is the caller's to free(3); first those of all domains together, then of each. */
int xenzcopy_stats(xenzcopy_handle *handle, struct xen_zcopyd_stats **stats, size_t *count);

/* The identifier as 32 hexadecimal digits and a 0 byte, the first byte first: as in lists and logs. */
void xenzcopy_id_text(const struct xen_zcopyd_id *id, char text[33]);

/* The identifier that is written so; -1 with EINVAL if it is none. */
int xenzcopy_id_parse(const char *text, struct xen_zcopyd_id *id);

/* ---- Events, and requests that do not block ---- */

/*
 * From now on, these XEN_ZCOPYD_EVENT_* of the buffers that this client may see, or of its own only if `own` is not 0, of one
 * domain or of XEN_ZCOPYD_ANY_DOMAIN. Without it come RELEASED, LATE, CLOSING and DOMAIN_GONE of its own.
 */
int xenzcopy_subscribe(xenzcopy_handle *handle, uint32_t events, uint32_t domain, int own);

/* A request of xenzcopy_begin() has been answered. */
#define XENZCOPY_EVENT_DONE 0x80000000u

struct xenzcopy_event {
    uint32_t event;          /* one XEN_ZCOPYD_EVENT_*, or XENZCOPY_EVENT_DONE */
    uint32_t domain;         /* DONE: that an error concerns, or XEN_ZCOPYD_ANY_DOMAIN */
    struct xen_zcopyd_id id; /* all 0 for DOMAIN_GONE; DONE: of the request, or of the buffer that it made */
    uint32_t frame;          /* of FRAME and USED; DONE: of a request FRAME */
    uint32_t page;
    uint64_t request;        /* DONE: the number that xenzcopy_begin() gave; else 0, as what follows but `code` */
    uint32_t type;           /* DONE: the type of the request, XEN_ZCOPYD_MAP for instance */
    uint32_t code;           /* DONE: 0, or why it failed: XEN_ZCOPYD_E_*; xenzcopy_error() has the text.
                                RELEASED: 0, or XEN_ZCOPYD_E_FAILED where nobody can tell whether the buffer is held */
    int fd;                  /* DONE: the descriptor that this request gets, which is the caller's to close; else -1 */
};

/*
 * Sends a request without blocking; its answer will be an event of the kind DONE. `message` is a structure of xen-zcopyd.h
 * with what follows it, `length` bytes in all, in which header.type is set; the library sets the rest of the header. `fd` is
 * the dma-buf of a SHARE with XEN_ZCOPYD_MEMORY_DESCRIPTOR; else -1. LIST, STATS and HELLO are refused (EINVAL).
 *
 * Returns 0, with the request's number in `*request`. EAGAIN if the daemon has to be read first or has not read yet, or
 * XEN_ZCOPYD_REQUESTS_MAX - 1 requests are on their way: nothing was sent then. For instance, to wait for a release:
 *
 *     struct xen_zcopyd_wait wait = {.header.type = XEN_ZCOPYD_WAIT, .id = buffer.id, .timeout_ms = 5000};
 *     xenzcopy_begin(handle, &wait, sizeof wait, -1, &request);
 */
int xenzcopy_begin(xenzcopy_handle *handle, const void *message, size_t length, int fd, uint64_t *request);

/*
 * The next event, without blocking: 1, or 0 if there is none now, or -1 once the connection has ended and everything before
 * that was returned. `buffer`, if not NULL, gets the description where a request that is DONE has one; else it stays.
 *
 * Events that come while another call waits are kept, in their order, XENZCOPY_EVENTS_MAX at most. At that bound, of FRAME
 * and USED only the last of each buffer stays; if that is not enough, the connection ends with ENOBUFS, and no event before
 * that is lost.
 */
int xenzcopy_next_event(xenzcopy_handle *handle, struct xenzcopy_event *event, struct xen_zcopyd_description *buffer);

#define XENZCOPY_EVENTS_MAX 4096u

#ifdef __cplusplus
}
#endif

#endif
