/* SPDX-License-Identifier: MIT */
/*
 * xen-zcopyd: what its clients and the daemon say to each other.
 *
 * A Unix socket of type SOCK_SEQPACKET: each packet is one message, a structure of this header. Integers are
 * little-endian, structures have no holes, reserved fields are 0, texts end with a 0 byte. File descriptors travel with the
 * message that names them (SCM_RIGHTS). docs/protocol-daemon.md describes it in words, with every state of a buffer.
 *
 * The client begins with HELLO. Then it sends requests, several at a time if it likes, each with a number of its own choice
 * but 0, which comes back in the reply. Every request gets one reply, in any order: the type of the request with the bit
 * XEN_ZCOPYD_REPLY, or XEN_ZCOPYD_ERROR. LIST and STATS may get several, of which all but the last have `more` set. Events
 * come at any time, with request 0: those that concern the end of the client's own buffers (RELEASED, LATE, CLOSING,
 * DOMAIN_GONE) unasked, others if it asked for them.
 *
 * A message that is none, or too long, or has descriptors that it should not have, ends the connection; an ERROR with request
 * 0 says why. So does a client that does not read what it is sent. When a connection ends, all that it made is released,
 * but for what it made persistent.
 */
#ifndef XEN_ZCOPYD_H
#define XEN_ZCOPYD_H

#include <stdint.h>

#define XEN_ZCOPYD_SOCKET "/run/xen-zcopyd/socket"
/* If set, the clients of this project connect there instead. */
#define XEN_ZCOPYD_SOCKET_VARIABLE "XEN_ZCOPYD_SOCKET"

#define XEN_ZCOPYD_MAGIC 0x6459435au /* the bytes "ZCYd" */
#define XEN_ZCOPYD_VERSION 1u

/* The longest message, in bytes. */
#define XEN_ZCOPYD_MESSAGE_MAX 65536u
/* The most references in one MAP; a longer buffer needs a directory. */
#define XEN_ZCOPYD_REFERENCES_MAX 16000u
/* The most ranges in one REFRESH. */
#define XEN_ZCOPYD_RANGES_MAX 1024u
/* Requests of one client that may wait for their replies. */
#define XEN_ZCOPYD_REQUESTS_MAX 64u
/* Bytes in replies to READ that the clients of one user may leave unreceived; a single one may have more. */
#define XEN_ZCOPYD_READ_MAX 67108864u

/* Sizes of texts, the 0 byte included. */
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
#define XEN_ZCOPYD_EVENT 0x4001u
#define XEN_ZCOPYD_ERROR 0x4002u

/* Codes of errors. The text of an ERROR says more, for people. */
#define XEN_ZCOPYD_E_MESSAGE 1u       /* no message of this protocol; the connection ends */
#define XEN_ZCOPYD_E_VERSION 2u       /* another version; the connection ends */
#define XEN_ZCOPYD_E_PERMISSION 3u    /* the configuration does not let this user do that to this domain */
#define XEN_ZCOPYD_E_UNKNOWN 4u       /* no such buffer, or not one that this client may see */
#define XEN_ZCOPYD_E_INVALID 5u       /* the request contradicts itself: sizes, offsets, ranges, pictures */
#define XEN_ZCOPYD_E_LIMIT 6u         /* a limit of the configuration or of this protocol; the text names it */
#define XEN_ZCOPYD_E_REFUSED 7u       /* what the domain offers is not in order: directory, publication, references */
#define XEN_ZCOPYD_E_UNSUPPORTED 8u   /* this machine, kernel or kind of buffer cannot do that */
#define XEN_ZCOPYD_E_RESOURCES 9u     /* no memory, descriptors or grant table entries left: try again later */
#define XEN_ZCOPYD_E_BUSY 10u         /* ask once more: the daemon was started anew (REFRESH, READ), a device is at work (SHARE) */
#define XEN_ZCOPYD_E_TIMEOUT 11u      /* WAIT is over, and the buffer is still held; the text names by whom */
#define XEN_ZCOPYD_E_GONE 12u         /* the domain has ended, or the buffer is over */
#define XEN_ZCOPYD_E_UNAVAILABLE 13u  /* no Xen, or a device of it that does not open */
#define XEN_ZCOPYD_E_SLOW 14u         /* the client does not read what it is sent; the connection ends */
#define XEN_ZCOPYD_E_STOPPING 15u     /* the daemon ends */
#define XEN_ZCOPYD_E_FAILED 16u       /* anything else */

/* How a buffer was mapped. */
#define XEN_ZCOPYD_MECHANISM_DMABUF 1u /* no copy */
#define XEN_ZCOPYD_MECHANISM_COPY 2u   /* a copy, which REFRESH makes anew */

/* Where memory that is shared comes from. */
#define XEN_ZCOPYD_MEMORY_AUTO 0u
#define XEN_ZCOPYD_MEMORY_UDMABUF 1u
#define XEN_ZCOPYD_MEMORY_HEAP 2u       /* named by `heap` */
#define XEN_ZCOPYD_MEMORY_DESCRIPTOR 3u /* a dma-buf, whose descriptor comes with the message */

/* Flags of MAP, MAP_PUBLISHED and SHARE. */
#define XEN_ZCOPYD_PERSISTENT 1u /* the buffer outlives the connection, until UNMAP or UNSHARE */
#define XEN_ZCOPYD_PEERS_DIRECTORY 2u /* SHARE: list the references in the peer's `directory`, not in one of our own */
#define XEN_ZCOPYD_FLAGS 3u           /* all of them */

/* Flags of REFRESH. */
#define XEN_ZCOPYD_WRITE_BACK 1u /* copy to the domain, not from it */

/* What a buffer is. */
#define XEN_ZCOPYD_KIND_MAPPED 1u /* another domain's memory */
#define XEN_ZCOPYD_KIND_SHARED 2u /* memory of this domain */

/* States of a buffer; docs/protocol-daemon.md has the diagram. */
#define XEN_ZCOPYD_STATE_LIVE 1u      /* in use */
#define XEN_ZCOPYD_STATE_RELEASING 2u /* over, and still held: by a process or device here, or mapped by the peer */
#define XEN_ZCOPYD_STATE_LATE 3u      /* the same, for longer than `release-deadline` */
#define XEN_ZCOPYD_STATE_RELEASED 4u  /* nobody holds it; only WAIT and DESCRIBE still know it, for a while */

/* Kinds of events, as bits of SUBSCRIBE's mask. */
#define XEN_ZCOPYD_EVENT_FRAME 1u       /* the owner has drawn `frame`, at page `page` of the buffer */
#define XEN_ZCOPYD_EVENT_USED 2u        /* the peer has used `frame` of a buffer that is shared here */
#define XEN_ZCOPYD_EVENT_RELEASED 4u    /* nobody holds the buffer any more: answer "destroyed" now; its last event */
#define XEN_ZCOPYD_EVENT_LATE 8u        /* it is still held, after `release-deadline` */
#define XEN_ZCOPYD_EVENT_PEER_MAPPED 16u /* the peer has mapped a buffer that is shared here */
#define XEN_ZCOPYD_EVENT_PEER_GONE 32u  /* the process on the other side has ended, or wrote nonsense */
#define XEN_ZCOPYD_EVENT_CLOSING 64u    /* the owner wants its buffer back: UNMAP it */
#define XEN_ZCOPYD_EVENT_DOMAIN_GONE 128u /* the domain has ended: close what is left of it; the daemon ends its buffers */
#define XEN_ZCOPYD_EVENT_PEER_RELEASED 256u /* the peer has let go of a buffer that is shared here */
#define XEN_ZCOPYD_EVENTS 511u          /* all of them */

/* Stands for all domains where a domain is asked for. */
#define XEN_ZCOPYD_ANY_DOMAIN 0xffffffffu

/* Identifies a buffer to everybody that may see it; random, never used again. */
struct xen_zcopyd_id {
    uint8_t bytes[16];
};

/* Every message begins with it. */
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

/* Requests that name a buffer and nothing else: UNMAP, UNSHARE, DESCRIBE, OPEN. Replies that tell nothing: header only. */
struct xen_zcopyd_buffer_request {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
};

/* A picture in each frame; all 0 for none. */
struct xen_zcopyd_picture {
    uint32_t width;  /* pixels */
    uint32_t height; /* rows */
    uint32_t stride; /* bytes from row to row; 0 for no gap */
    uint32_t format; /* DRM four-character code */
};

/* MAP: references of another domain become a dma-buf. The reply is a DESCRIPTION with the dma-buf's descriptor. */
struct xen_zcopyd_map {
    struct xen_zcopyd_header header;
    uint32_t domain;
    uint32_t directory;  /* the first page of the grant directory, or 0 for the references below */
    uint64_t size;       /* bytes of the buffer, offset included */
    uint64_t offset;     /* bytes before the data */
    uint32_t mechanism;  /* XEN_ZCOPYD_MECHANISM_*, or 0 for the first that works */
    uint32_t flags;
    struct xen_zcopyd_picture picture;
    char name[XEN_ZCOPYD_NAME_SIZE]; /* for lists, and of the dma-buf in /proc; may be empty */
    uint32_t reference_count;        /* at most XEN_ZCOPYD_REFERENCES_MAX */
    uint32_t reserved;
    /* uint32_t references[reference_count] follow. */
};

/* MAP_PUBLISHED: the same, with everything from what the owner published in XenStore; its frames are events. */
struct xen_zcopyd_map_published {
    struct xen_zcopyd_header header;
    uint32_t mechanism;
    uint32_t flags;
    char name[XEN_ZCOPYD_NAME_SIZE];
    char path[XEN_ZCOPYD_PATH_SIZE]; /* /local/domain/N/data/zcopy/NAME */
};

/* SHARE: a dma-buf becomes references for another domain. The reply is a DESCRIPTION with the dma-buf's descriptor. */
struct xen_zcopyd_share {
    struct xen_zcopyd_header header;
    uint32_t domain;     /* the peer */
    uint32_t directory;  /* the peer's directory, with XEN_ZCOPYD_PEERS_DIRECTORY; else 0 */
    uint64_t size;       /* bytes; 0 for all of a dma-buf that is sent along */
    uint64_t offset;     /* bytes before the data, told to the peer by what is published */
    uint64_t frame_size; /* bytes of one frame if the buffer is a pool of several; else 0 */
    uint32_t memory;     /* XEN_ZCOPYD_MEMORY_* */
    uint32_t flags;
    struct xen_zcopyd_picture picture;
    char heap[XEN_ZCOPYD_NAME_SIZE];    /* with XEN_ZCOPYD_MEMORY_HEAP; else empty */
    char name[XEN_ZCOPYD_NAME_SIZE];
    char publish[XEN_ZCOPYD_NAME_SIZE]; /* publish it in XenStore under this name, with frames; empty: do not */
};

/* A buffer: the reply to MAP, MAP_PUBLISHED, SHARE, OPEN (all four with the dma-buf's descriptor) and DESCRIBE (without). */
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
    uint64_t inode;     /* of the dma-buf, by which /proc/PID/fdinfo names it */
    uint64_t age_ms;    /* since it was made */
    uint64_t state_ms;  /* since it is in this state */
    uint32_t pages;     /* of 4096 bytes */
    uint32_t mechanism; /* MAPPED: XEN_ZCOPYD_MECHANISM_*; SHARED: XEN_ZCOPYD_MEMORY_* */
    uint32_t flags;
    uint32_t user;      /* the user id of who made it */
    uint32_t process;   /* and the process id; 0 once its connection has ended, and if it is persistent */
    uint32_t frame;     /* the last frame that was told or announced; 0 before the first */
    uint32_t directory_us; /* MAPPED: how long reading the directory took */
    uint32_t mapping_us;   /* and making the dma-buf */
    struct xen_zcopyd_picture picture;
    char name[XEN_ZCOPYD_NAME_SIZE];
    /* DESCRIBE: who holds it; MAP and OPEN: which mechanisms were passed over, and why; SHARE: where it is published. */
    char text[XEN_ZCOPYD_TEXT_SIZE];
};

/* WAIT: replied to, without more, once the buffer is released; by E_TIMEOUT if that takes too long, by E_FAILED if nobody can
 * tell any more. */
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

/* REFRESH: where the mechanism is COPY, copies what the domain has drawn since; replied to when it is done. */
struct xen_zcopyd_refresh {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
    uint32_t flags;
    uint32_t range_count; /* 0 for all of it; at most XEN_ZCOPYD_RANGES_MAX */
    /* struct xen_zcopyd_range ranges[range_count] follow. */
};

/* READ: a copy of what a mapped buffer holds now; the reply has no more than a header and a memory file's descriptor. The
 * file is as long as the buffer's pages, the bytes have the same place in it, and all others are 0. E_LIMIT if more than
 * XEN_ZCOPYD_READ_MAX bytes would wait to be received. */
struct xen_zcopyd_read {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
    struct xen_zcopyd_range range; /* length 0: to the end */
};

/* LIST: the buffers that this client may see. */
struct xen_zcopyd_list {
    struct xen_zcopyd_header header;
    uint32_t domain; /* of this domain only, or XEN_ZCOPYD_ANY_DOMAIN */
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

/* SUBSCRIBE: from now on, these events of the buffers that this client may see. Before, it gets those of its own
 * buffers that concern their end: RELEASED, LATE, CLOSING, DOMAIN_GONE. */
struct xen_zcopyd_subscribe {
    struct xen_zcopyd_header header;
    uint32_t events; /* XEN_ZCOPYD_EVENT_* */
    uint32_t domain; /* of this domain only, or XEN_ZCOPYD_ANY_DOMAIN */
    uint32_t own;    /* 1: of this connection's buffers only */
    uint32_t reserved;
};

struct xen_zcopyd_event {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id; /* all 0 for DOMAIN_GONE */
    uint32_t event;          /* one XEN_ZCOPYD_EVENT_* */
    uint32_t domain;
    uint32_t frame; /* of FRAME and USED; of RELEASED 0, or XEN_ZCOPYD_E_FAILED: nobody can tell if it is held */
    uint32_t page;  /* of FRAME */
};

/* FRAME: of a mapped buffer: frame `frame` was used, and its owner may draw again; it is told once no device is at work with
 * the buffer. Of a shared one: it holds a new frame at page `page`. The reply, of the same form, has the frame's number. */
struct xen_zcopyd_frame {
    struct xen_zcopyd_header header;
    struct xen_zcopyd_id id;
    uint32_t frame; /* of a shared buffer 0: the daemon counts */
    uint32_t page;
};

/* Counters since the daemon was started (an upgrade in place does not start them anew), and what there is now. */
struct xen_zcopyd_counters {
    uint64_t requests;       /* that were answered */
    uint64_t refused;        /* of these, with an error */
    uint64_t limited;        /* of these, because of a limit */
    uint64_t maps;           /* buffers that were mapped */
    uint64_t shares;         /* buffers that were shared */
    uint64_t frames;         /* frames that were told or announced */
    uint64_t refreshed_bytes; /* copied by REFRESH, READ and for the mechanism COPY */
    uint64_t late;           /* releases that were late */
    uint64_t mapped_bytes;   /* now: of live and releasing buffers of other domains */
    uint64_t shared_bytes;   /* now: of buffers of this domain */
    uint64_t releasing_bytes; /* now: of the two before, what is over and still held */
    uint32_t mapped_buffers; /* now */
    uint32_t shared_buffers; /* now */
    uint32_t directory_pages; /* now: in use by what is mapped and shared */
    uint32_t reserved;
};

/* Limits, 0 for none. Those of one domain, or of all together. */
struct xen_zcopyd_limits {
    uint64_t bytes;
    uint32_t buffers;
    uint32_t directory_pages;
    uint32_t requests_per_second;
    uint32_t soft_percent; /* warned of above this share of a limit */
};

/* STATS, header only, gets one such reply for all domains together (domain XEN_ZCOPYD_ANY_DOMAIN), then one for each. */
struct xen_zcopyd_stats {
    struct xen_zcopyd_header header;
    uint32_t domain;
    uint32_t more;   /* 1 if another reply to the same request follows */
    struct xen_zcopyd_counters counters;
    struct xen_zcopyd_limits limits;
    uint64_t uptime_ms;      /* only for all together, as what follows */
    uint32_t clients;
    uint32_t dropped_clients;  /* by E_MESSAGE or E_SLOW */
    uint32_t grant_frames_max;    /* what this domain may grant, in frames of 512 pages; 0 where Xen does not tell */
    uint32_t maptrack_frames_max; /* what it may map of others, in frames of 256 pages; 0 where Xen does not tell */
};

/* Why a request was not done (its number in the header), or why the connection ends (0 there). */
struct xen_zcopyd_error {
    struct xen_zcopyd_header header;
    uint32_t code;   /* XEN_ZCOPYD_E_* */
    uint32_t domain; /* that it concerns, or XEN_ZCOPYD_ANY_DOMAIN */
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
