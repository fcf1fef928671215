/* SPDX-License-Identifier: MIT */
/*
 * xen-zcopyd: the protocol between clients and the daemon.
 *
 * The transport is a Unix socket of type SOCK_SEQPACKET. Each packet is one message, a structure of this header. Integers are
 * little-endian, structures have no holes, reserved fields are 0, texts end with a 0 byte. File descriptors travel with the
 * message that needs them (SCM_RIGHTS). docs/protocol-daemon.md describes the protocol and the states of a buffer.
 *
 * The client begins with HELLO. After that it sends requests, and may send several without waiting for the replies. The
 * client chooses the number of each request, which is not 0. Each request gets one reply, in any order. The reply has the
 * number and the type of the request and the bit XEN_ZCOPYD_REPLY, or it is an XEN_ZCOPYD_ERROR with the number of the
 * request. LIST and STATS may get several replies; all but the last one have `more` set.
 *
 * Events come at any time, with request 0. A client gets the events that concern the end of its own buffers (RELEASED, LATE,
 * CLOSING, DOMAIN_GONE) without a request, and others if it subscribes to them.
 *
 * The daemon ends a connection after a message that is malformed, too long, or has unexpected descriptors, and if the client
 * does not read its messages. An ERROR with request 0 gives the reason. When a connection ends, its buffers are released,
 * except for the persistent ones.
 */
#ifndef XEN_ZCOPYD_H
#define XEN_ZCOPYD_H

#include <stdint.h>

#define XEN_ZCOPYD_SOCKET "/run/xen-zcopyd/socket"
/* The environment variable that names another socket for the clients of this project. */
#define XEN_ZCOPYD_SOCKET_VARIABLE "XEN_ZCOPYD_SOCKET"

#define XEN_ZCOPYD_MAGIC 0x6459435au /* the bytes "ZCYd" */
#define XEN_ZCOPYD_VERSION 1u

/* Size of the longest message in bytes. */
#define XEN_ZCOPYD_MESSAGE_MAX 65536u
/* Maximum number of references in one MAP; a longer buffer needs a directory. */
#define XEN_ZCOPYD_REFERENCES_MAX 16000u
/* Maximum number of ranges in one REFRESH. */
#define XEN_ZCOPYD_RANGES_MAX 1024u
/* Requests of one client that may be without reply at a time. */
#define XEN_ZCOPYD_REQUESTS_MAX 64u
/* Bytes in replies to READ that the clients of one user may leave unreceived; a single reply may have more. */
#define XEN_ZCOPYD_READ_MAX 67108864u
/* At most so many bytes in one WRITE. */
#define XEN_ZCOPYD_WRITE_MAX 65024u

/* Sizes of texts in bytes, the 0 byte included. */
#define XEN_ZCOPYD_NAME_SIZE 32u
#define XEN_ZCOPYD_PATH_SIZE 256u
#define XEN_ZCOPYD_TEXT_SIZE 480u

/* Types of messages. The reply to a request has the request's type and this bit. */
#define XEN_ZCOPYD_REPLY 0x8000u

#define XEN_ZCOPYD_HELLO 1u
#define XEN_ZCOPYD_MAP 2u
#define XEN_ZCOPYD_MAP_PUBLISHED 3u
#define XEN_ZCOPYD_UNMAP 4u
#define XEN_ZCOPYD_SHARE 5u
#define XEN_ZCOPYD_UNSHARE 6u
#define XEN_ZCOPYD_WAIT 7u
#define XEN_ZCOPYD_REFRESH 8u
#define XEN_ZCOPYD_READ 9u
#define XEN_ZCOPYD_DESCRIBE 10u
#define XEN_ZCOPYD_LIST 11u
#define XEN_ZCOPYD_SUBSCRIBE 12u
#define XEN_ZCOPYD_FRAME 13u
#define XEN_ZCOPYD_STATS 14u
#define XEN_ZCOPYD_OPEN 15u
#define XEN_ZCOPYD_WRITE 16u
#define XEN_ZCOPYD_PUBLISH 17u
#define XEN_ZCOPYD_EVENT 0x4001u
#define XEN_ZCOPYD_ERROR 0x4002u

/* Codes of errors. The code is for programs, the text of an ERROR is for people. */
#define XEN_ZCOPYD_E_MESSAGE 1u       /* malformed message; the connection ends */
#define XEN_ZCOPYD_E_VERSION 2u       /* version mismatch; the connection ends */
#define XEN_ZCOPYD_E_PERMISSION 3u    /* the configuration does not allow this user this operation on this domain */
#define XEN_ZCOPYD_E_UNKNOWN 4u       /* no such buffer, or this client may not see it */
#define XEN_ZCOPYD_E_INVALID 5u       /* inconsistent request: sizes, offsets, ranges, pictures */
#define XEN_ZCOPYD_E_LIMIT 6u         /* a limit of the configuration or of this protocol; the text names it */
#define XEN_ZCOPYD_E_REFUSED 7u       /* invalid directory, publication or references of the domain */
#define XEN_ZCOPYD_E_UNSUPPORTED 8u   /* not supported by this machine, kernel or kind of buffer */
#define XEN_ZCOPYD_E_RESOURCES 9u     /* out of memory, descriptors or grant table entries: try again later */
#define XEN_ZCOPYD_E_BUSY 10u         /* send it again: the daemon was restarted (REFRESH, READ), or a device works (SHARE) */
#define XEN_ZCOPYD_E_TIMEOUT 11u      /* WAIT has timed out, and the buffer is still held; the text names the holders */
#define XEN_ZCOPYD_E_GONE 12u         /* the domain or the buffer has ended */
#define XEN_ZCOPYD_E_UNAVAILABLE 13u  /* no Xen, or one of its devices cannot be opened */
#define XEN_ZCOPYD_E_SLOW 14u         /* the client does not read its messages; the connection ends */
#define XEN_ZCOPYD_E_STOPPING 15u     /* the daemon is stopping */
#define XEN_ZCOPYD_E_FAILED 16u       /* any other failure */

/* How a buffer was mapped. */
#define XEN_ZCOPYD_MECHANISM_DMABUF 1u /* no copy */
#define XEN_ZCOPYD_MECHANISM_COPY 2u   /* a copy, which REFRESH updates */
#define XEN_ZCOPYD_MECHANISM_CPU 3u    /* no dma-buf: only READ and WRITE access the contents; never chosen by the daemon */

/* The source of shared memory. */
#define XEN_ZCOPYD_MEMORY_AUTO 0u
#define XEN_ZCOPYD_MEMORY_UDMABUF 1u
#define XEN_ZCOPYD_MEMORY_HEAP 2u       /* named by `heap` */
#define XEN_ZCOPYD_MEMORY_DESCRIPTOR 3u /* a dma-buf, whose descriptor is sent with the message */
#define XEN_ZCOPYD_MEMORY_GNTALLOC 4u   /* no dma-buf: only READ and WRITE access the contents; never chosen by the daemon */

/* Flags of MAP, MAP_PUBLISHED and SHARE. */
#define XEN_ZCOPYD_PERSISTENT 1u /* the buffer outlives the connection, until UNMAP or UNSHARE */
#define XEN_ZCOPYD_PEERS_DIRECTORY 2u /* SHARE: list the references in the peer's `directory`, not in one of the daemon's */
#define XEN_ZCOPYD_FLAGS 3u           /* all flags */

/* Flags of REFRESH. */
#define XEN_ZCOPYD_WRITE_BACK 1u /* copy to the domain, not from it */

/* Kinds of buffers. */
#define XEN_ZCOPYD_KIND_MAPPED 1u /* another domain's memory */
#define XEN_ZCOPYD_KIND_SHARED 2u /* memory of this domain */

/* States of a buffer; docs/protocol-daemon.md has the diagram. */
#define XEN_ZCOPYD_STATE_LIVE 1u      /* in use */
#define XEN_ZCOPYD_STATE_RELEASING 2u /* ended, and still held: by a local process or device, or mapped by the peer */
#define XEN_ZCOPYD_STATE_LATE 3u      /* as RELEASING, for longer than `release-deadline` */
#define XEN_ZCOPYD_STATE_RELEASED 4u  /* without holders; only WAIT and DESCRIBE still know it, for a limited time */

/* Kinds of events, as bits of SUBSCRIBE's mask. */
#define XEN_ZCOPYD_EVENT_FRAME 1u       /* the owner has drawn `frame`, which begins at page `page` of the buffer */
#define XEN_ZCOPYD_EVENT_USED 2u        /* the peer has used `frame` of a shared buffer */
#define XEN_ZCOPYD_EVENT_RELEASED 4u    /* without holders: a backend may report "destroyed" now; the last event */
#define XEN_ZCOPYD_EVENT_LATE 8u        /* the buffer is still held after `release-deadline` */
#define XEN_ZCOPYD_EVENT_PEER_MAPPED 16u /* the peer has mapped a shared buffer */
#define XEN_ZCOPYD_EVENT_PEER_GONE 32u  /* the process on the other side has ended, or wrote invalid values */
#define XEN_ZCOPYD_EVENT_CLOSING 64u    /* the owner asks for its buffer: the client should UNMAP it */
#define XEN_ZCOPYD_EVENT_DOMAIN_GONE 128u /* the domain has ended: close what is left of it; the daemon ends its buffers */
#define XEN_ZCOPYD_EVENT_PEER_RELEASED 256u /* the peer has released a shared buffer */
#define XEN_ZCOPYD_EVENTS 511u          /* all events */

/* Stands for all domains. */
#define XEN_ZCOPYD_ANY_DOMAIN 0xffffffffu

/* Identifies a buffer in every connection that may see it; random, never used again. */
struct xen_zcopyd_id {
    uint8_t bytes[16];
};

/* The beginning of every message. */
struct xen_zcopyd_header {
    uint32_t type;
    uint32_t length;  /* bytes of the message, this included */
    uint64_t request; /* the client's number; 0 in events */
};

/* HELLO, and its reply. */
struct xen_zcopyd_hello {
    struct xen_zcopyd_header header;
    uint32_t magic;    /* XEN_ZCOPYD_MAGIC */
    uint32_t version;  /* XEN_ZCOPYD_VERSION: the client's, then the daemon's */
    uint32_t process;  /* 0 from the client; the daemon's process id */
    uint32_t reserved;
};

/* Requests that name only a buffer: UNMAP, UNSHARE, DESCRIBE, OPEN. Replies without contents have only a header. */
struct xen_zcopyd_buffer_request {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
};

/* The picture in each frame; all 0 for none. */
struct xen_zcopyd_picture {
    uint32_t width;  /* pixels */
    uint32_t height; /* rows */
    uint32_t stride; /* bytes from row to row; 0 for no gap */
    uint32_t format; /* DRM four-character code */
};

/* MAP: makes a dma-buf from references of another domain. The reply is a DESCRIPTION with the dma-buf's descriptor. */
struct xen_zcopyd_map {
    struct xen_zcopyd_header header;
    uint32_t domain;
    uint32_t directory;  /* the first page of the grant directory, or 0 for the references below */
    uint64_t size;       /* bytes of the buffer, offset included */
    uint64_t offset;     /* bytes before the data */
    uint32_t mechanism;  /* XEN_ZCOPYD_MECHANISM_*, or 0 for the first one that works */
    uint32_t flags;
    struct xen_zcopyd_picture picture;
    char name[XEN_ZCOPYD_NAME_SIZE]; /* in lists, and of the dma-buf in /proc; may be empty */
    uint32_t reference_count;        /* at most XEN_ZCOPYD_REFERENCES_MAX */
    uint32_t reserved;
    /* uint32_t references[reference_count] follow. */
};

/* MAP_PUBLISHED: the same, with all parameters from the owner's publication in XenStore; its frames are events. */
struct xen_zcopyd_map_published {
    struct xen_zcopyd_header header;
    uint32_t mechanism;
    uint32_t flags;
    char name[XEN_ZCOPYD_NAME_SIZE];
    char path[XEN_ZCOPYD_PATH_SIZE]; /* /local/domain/N/data/zcopy/NAME */
};

/* SHARE: grants a dma-buf to another domain. The reply is a DESCRIPTION with the dma-buf's descriptor. */
struct xen_zcopyd_share {
    struct xen_zcopyd_header header;
    uint32_t domain;     /* the peer */
    uint32_t directory;  /* the peer's directory, with XEN_ZCOPYD_PEERS_DIRECTORY; else 0 */
    uint64_t size;       /* bytes; 0 for all of a dma-buf that is sent with the message */
    uint64_t offset;     /* bytes before the data; part of the publication */
    uint64_t frame_size; /* bytes of one frame if the buffer is a pool of frames; else 0 */
    uint32_t memory;     /* XEN_ZCOPYD_MEMORY_* */
    uint32_t flags;
    struct xen_zcopyd_picture picture;
    char heap[XEN_ZCOPYD_NAME_SIZE];    /* with XEN_ZCOPYD_MEMORY_HEAP; else empty */
    char name[XEN_ZCOPYD_NAME_SIZE];
    char publish[XEN_ZCOPYD_NAME_SIZE]; /* the name of the publication in XenStore, with frames; empty for none */
};

/* A buffer: the reply to MAP, MAP_PUBLISHED, SHARE, OPEN (all four with the dma-buf's descriptor, if the buffer has one),
 * DESCRIBE and PUBLISH (without). */
struct xen_zcopyd_description {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
    uint32_t kind;      /* XEN_ZCOPYD_KIND_* */
    uint32_t state;     /* XEN_ZCOPYD_STATE_* */
    uint32_t domain;    /* the other domain */
    uint32_t directory; /* the grant directory's first page; 0 if there is none */
    uint64_t size;      /* bytes of the buffer, offset included */
    uint64_t offset;
    uint64_t frame_size; /* 0 if the buffer is one frame */
    uint64_t inode;     /* of the dma-buf, as in /proc/PID/fdinfo */
    uint64_t age_ms;    /* since the buffer was made */
    uint64_t state_ms;  /* since the buffer entered this state */
    uint32_t pages;     /* of 4096 bytes */
    uint32_t mechanism; /* MAPPED: XEN_ZCOPYD_MECHANISM_*; SHARED: XEN_ZCOPYD_MEMORY_* */
    uint32_t flags;
    uint32_t user;      /* user id of the client that made it */
    uint32_t process;   /* process id of that client; 0 after its connection has ended, and if the buffer is persistent */
    uint32_t frame;     /* the last frame that was reported or announced; 0 before the first */
    uint32_t directory_us; /* MAPPED: time that reading the directory took */
    uint32_t mapping_us;   /* MAPPED: time that making the dma-buf took */
    struct xen_zcopyd_picture picture;
    char name[XEN_ZCOPYD_NAME_SIZE];
    /* DESCRIBE: the holders; MAP and OPEN: the mechanisms that were skipped, and why; SHARE and PUBLISH: the path of the publication. */
    char text[XEN_ZCOPYD_TEXT_SIZE];
};

/* WAIT: replied to with a header when the buffer is released; with E_TIMEOUT if that takes too long; with E_FAILED if it can
 * no longer be determined whether the buffer is held. */
struct xen_zcopyd_wait {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
    uint32_t timeout_ms; /* 0xffffffff for no limit */
    uint32_t reserved;
};

struct xen_zcopyd_range {
    uint64_t offset; /* bytes of the buffer */
    uint64_t length; /* bytes */
};

/* REFRESH: copies the current contents from the domain, if the mechanism is COPY; replied to when the copy is done. */
struct xen_zcopyd_refresh {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
    uint32_t flags;
    uint32_t range_count; /* 0 for the whole buffer; at most XEN_ZCOPYD_RANGES_MAX */
    /* struct xen_zcopyd_range ranges[range_count] follow. */
};

/* READ: copies the current contents of a mapped buffer, or of a shared one that is no dma-buf, into a memory file. The reply
 * is a header with the file's descriptor. The file has the size of the buffer's pages. The bytes have the same offset in it,
 * and all others are 0. E_LIMIT if more than XEN_ZCOPYD_READ_MAX bytes would wait to be received. */
struct xen_zcopyd_read {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
    struct xen_zcopyd_range range; /* length 0 for the rest of the buffer */
};

/* WRITE: writes bytes into the pages of a mapped buffer, or of a shared one that is no dma-buf. E_REFUSED if the domain has
 * granted its pages for reading only. */
struct xen_zcopyd_write {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
    struct xen_zcopyd_range range; /* 1 to XEN_ZCOPYD_WRITE_MAX bytes */
    /* uint8_t bytes[range.length] follow. */
};

/* PUBLISH: publishes a shared buffer in XenStore, with frames, as SHARE does with a name. */
struct xen_zcopyd_publish {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
    char publish[XEN_ZCOPYD_NAME_SIZE];
};

/* LIST: lists the buffers that this client may see. */
struct xen_zcopyd_list {
    struct xen_zcopyd_header header;
    uint32_t domain; /* only buffers of this domain, or XEN_ZCOPYD_ANY_DOMAIN */
    uint32_t reserved;
};

/* One buffer in the reply to LIST. */
struct xen_zcopyd_list_entry {
    struct xen_zcopyd_id id;
    uint32_t kind;
    uint32_t state;
    uint32_t domain;
    uint32_t pages;
    uint64_t size;
    uint64_t age_ms;
    uint32_t mechanism; /* as in DESCRIPTION */
    uint32_t flags;
    uint32_t user;
    uint32_t process;
    uint32_t frame;
    uint32_t reserved;
    char name[XEN_ZCOPYD_NAME_SIZE];
};

/* The reply to LIST. */
struct xen_zcopyd_list_reply {
    struct xen_zcopyd_header header;
    uint32_t count;
    uint32_t more; /* 1 if another reply to the same request follows */
    /* struct xen_zcopyd_list_entry entries[count] follow. */
};

/* SUBSCRIBE: selects the events that the client gets from now on, of the buffers that it may see. Before that it gets the
 * events that concern the end of its own buffers: RELEASED, LATE, CLOSING, DOMAIN_GONE. */
struct xen_zcopyd_subscribe {
    struct xen_zcopyd_header header;
    uint32_t events; /* XEN_ZCOPYD_EVENT_* */
    uint32_t domain; /* only buffers of this domain, or XEN_ZCOPYD_ANY_DOMAIN */
    uint32_t own;    /* 1: only buffers of this connection */
    uint32_t reserved;
};

struct xen_zcopyd_event {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id; /* all 0 for DOMAIN_GONE */
    uint32_t event;          /* one XEN_ZCOPYD_EVENT_* */
    uint32_t domain;
    uint32_t frame; /* of FRAME and USED; of RELEASED 0, or XEN_ZCOPYD_E_FAILED if it is unknown whether the buffer is held */
    uint32_t page;  /* of FRAME */
};

/* FRAME: for a mapped buffer, frame `frame` was used, and its owner may draw again; the daemon reports this to the owner when
 * no device works with the buffer any more. For a shared buffer, it holds a new frame, which begins at page `page`. The reply
 * has the same form, with the number of the frame. */
struct xen_zcopyd_frame {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
    uint32_t frame; /* 0 for a shared buffer, because the daemon counts */
    uint32_t page;
};

/* Counters since the start of the daemon (an upgrade in place does not reset them), and current values. */
struct xen_zcopyd_counters {
    uint64_t requests;       /* requests that were answered */
    uint64_t refused;        /* requests that were answered with an error */
    uint64_t limited;        /* requests that were refused because of a limit */
    uint64_t maps;           /* buffers that were mapped */
    uint64_t shares;         /* buffers that were shared */
    uint64_t frames;         /* frames that were reported or announced */
    uint64_t refreshed_bytes; /* copied by REFRESH, READ and WRITE, and for the mechanism COPY */
    uint64_t late;           /* buffers whose release was late */
    uint64_t mapped_bytes;   /* current value: of live and releasing buffers of other domains */
    uint64_t shared_bytes;   /* current value: of buffers of this domain */
    uint64_t releasing_bytes; /* current value: the part of the previous two that has ended and is still held */
    uint32_t mapped_buffers; /* current value */
    uint32_t shared_buffers; /* current value */
    uint32_t directory_pages; /* current value: of mapped and shared buffers */
    uint32_t reserved;
};

/* Limits of one domain, or of all domains together; 0 for no limit. */
struct xen_zcopyd_limits {
    uint64_t bytes;
    uint32_t buffers;
    uint32_t directory_pages;
    uint32_t requests_per_second;
    uint32_t soft_percent; /* the daemon logs a warning above this share of a limit */
};

/* STATS has only a header. It gets one such reply for all domains together (XEN_ZCOPYD_ANY_DOMAIN), then one for each. */
struct xen_zcopyd_stats {
    struct xen_zcopyd_header header;
    uint32_t domain;
    uint32_t more;   /* 1 if another reply to the same request follows */
    struct xen_zcopyd_counters counters;
    struct xen_zcopyd_limits limits;
    uint64_t uptime_ms;      /* only for all domains together, like all fields that follow */
    uint32_t clients;
    uint32_t dropped_clients;  /* with E_MESSAGE or E_SLOW */
    uint32_t grant_frames_max;    /* frames of 512 pages that this domain may grant; 0 if unknown */
    uint32_t maptrack_frames_max; /* frames of 256 pages that it may map of other domains; 0 if unknown */
};

/* Why a request failed (the header has its number), or why the connection ends (the header has 0). */
struct xen_zcopyd_error {
    struct xen_zcopyd_header header;
    uint32_t code;   /* XEN_ZCOPYD_E_* */
    uint32_t domain; /* the domain concerned, or XEN_ZCOPYD_ANY_DOMAIN */
    char text[XEN_ZCOPYD_TEXT_SIZE]; /* one line of UTF-8 */
};

#ifdef __cplusplus
#define XEN_ZCOPYD_SIZE(name, size) static_assert(sizeof(struct name) == (size), "wire format")
#else
#define XEN_ZCOPYD_SIZE(name, size) _Static_assert(sizeof(struct name) == (size), "wire format")
#endif
XEN_ZCOPYD_SIZE(xen_zcopyd_id, 16);
XEN_ZCOPYD_SIZE(xen_zcopyd_header, 16);
XEN_ZCOPYD_SIZE(xen_zcopyd_hello, 32);
XEN_ZCOPYD_SIZE(xen_zcopyd_buffer_request, 32);
XEN_ZCOPYD_SIZE(xen_zcopyd_picture, 16);
XEN_ZCOPYD_SIZE(xen_zcopyd_map, 104);
XEN_ZCOPYD_SIZE(xen_zcopyd_map_published, 312);
XEN_ZCOPYD_SIZE(xen_zcopyd_share, 168);
XEN_ZCOPYD_SIZE(xen_zcopyd_description, 656);
XEN_ZCOPYD_SIZE(xen_zcopyd_wait, 40);
XEN_ZCOPYD_SIZE(xen_zcopyd_range, 16);
XEN_ZCOPYD_SIZE(xen_zcopyd_refresh, 40);
XEN_ZCOPYD_SIZE(xen_zcopyd_read, 48);
XEN_ZCOPYD_SIZE(xen_zcopyd_write, 48);
XEN_ZCOPYD_SIZE(xen_zcopyd_publish, 64);
XEN_ZCOPYD_SIZE(xen_zcopyd_list, 24);
XEN_ZCOPYD_SIZE(xen_zcopyd_list_entry, 104);
XEN_ZCOPYD_SIZE(xen_zcopyd_list_reply, 24);
XEN_ZCOPYD_SIZE(xen_zcopyd_subscribe, 32);
XEN_ZCOPYD_SIZE(xen_zcopyd_event, 48);
XEN_ZCOPYD_SIZE(xen_zcopyd_frame, 40);
XEN_ZCOPYD_SIZE(xen_zcopyd_counters, 104);
XEN_ZCOPYD_SIZE(xen_zcopyd_limits, 24);
XEN_ZCOPYD_SIZE(xen_zcopyd_stats, 176);
XEN_ZCOPYD_SIZE(xen_zcopyd_error, 504);
#undef XEN_ZCOPYD_SIZE

#endif
