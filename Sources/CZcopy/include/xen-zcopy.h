/* SPDX-License-Identifier: MIT */
/*
 * xen-zcopy: the protocol between two domains of which one shares a buffer with the other.
 *
 * The owner is the domain whose memory is shared, the peer is the domain that maps the memory. All fields are
 * little-endian. Each side writes only its own half of the control page and keeps the values that it wrote in
 * private memory. It does not trust any part of the page, because the other side can write anything anywhere in
 * the page at any time. Each 32-bit field is read and written with one aligned access.
 *
 * A sequence. The arrow shows the side that gets an event on the event channel after the step:
 *
 *   owner  shares the buffer, the directory and this page; alive = 1, state = LIVE, frame = 1
 *   peer   maps this page; state = NONE, frame = 0, alive = 1;
 *          maps the buffer; state = MAPPED                                                -> owner
 *   owner  draws; frame += 1                                                              -> peer
 *   peer   has used the frame and does not access it any more; frame = the owner's frame  -> owner
 *   owner  asks for the buffer; state = CLOSING                                           -> peer
 *   peer   has closed the buffer and its kernel has released it; state = RELEASED         -> owner
 *   either process ends: its kernel sets its alive byte to 0 (unmap notify)               -> the other
 *
 * A buffer of more than one frame is a pool. Each frame begins at a whole page; frame_page is the page of the announced
 * frame. The owner draws a frame to a place that holds no unused frame, or overwrites the oldest one if the peer takes too
 * long.
 *
 * After a peer has written RELEASED or has died, another peer may use the same event channel.
 */
#ifndef XEN_ZCOPY_H
#define XEN_ZCOPY_H

#include <stdint.h>

#define XEN_ZCOPY_MAGIC 0x5950435au /* the bytes "ZCPY" */
#define XEN_ZCOPY_VERSION 1u

/* XenStore nodes below <owner's home>/data/zcopy/<name>/. Their values are decimal numbers and short words. */
#define XEN_ZCOPY_NODE_DIRECTORY "data/zcopy"
#define XEN_ZCOPY_NODE_VERSION "version"             /* XEN_ZCOPY_VERSION */
#define XEN_ZCOPY_NODE_GRANT_DIRECTORY "directory"   /* grant reference of the first directory page */
#define XEN_ZCOPY_NODE_SIZE "size"                   /* bytes of the buffer, offset included */
#define XEN_ZCOPY_NODE_OFFSET "offset"               /* bytes before the data */
#define XEN_ZCOPY_NODE_FRAME_SIZE "frame-size"       /* bytes of one frame, offset included; absent for one frame */
#define XEN_ZCOPY_NODE_WIDTH "width"                 /* pixels; this and the next three may be absent together */
#define XEN_ZCOPY_NODE_HEIGHT "height"               /* rows */
#define XEN_ZCOPY_NODE_STRIDE "stride"               /* bytes from row to row */
#define XEN_ZCOPY_NODE_FORMAT "format"               /* DRM four-character code, for instance XR24 */
#define XEN_ZCOPY_NODE_CONTROL "control-page"        /* grant reference of the control page */
#define XEN_ZCOPY_NODE_EVENT_CHANNEL "event-channel" /* the owner's unbound port */
#define XEN_ZCOPY_NODE_PROCESS "process"             /* the owner's process id, for use in its own domain only */

#define XEN_ZCOPY_OWNER_LIVE 1u
#define XEN_ZCOPY_OWNER_CLOSING 2u

#define XEN_ZCOPY_PEER_NONE 0u
#define XEN_ZCOPY_PEER_MAPPED 1u
#define XEN_ZCOPY_PEER_RELEASED 2u

/* Written by the owner only. */
struct xen_zcopy_owner {
    uint32_t magic;      /* XEN_ZCOPY_MAGIC, written last when the page is set up */
    uint32_t version;    /* XEN_ZCOPY_VERSION */
    uint8_t alive;       /* 1; 0 after the owner's kernel has unmapped this page from its process */
    uint8_t reserved0[3];
    uint32_t state;      /* XEN_ZCOPY_OWNER_* */
    uint32_t frame;      /* frames drawn; counts from 1, wraps, and skips 0 */
    uint32_t frame_page; /* page of the buffer at which that frame begins; written before `frame` */
    uint8_t reserved1[40];
};

/* Written by the peer only. */
struct xen_zcopy_peer {
    uint8_t alive;       /* 1; 0 after the peer's kernel has unmapped this page from its process */
    uint8_t reserved0[3];
    uint32_t state;      /* XEN_ZCOPY_PEER_* */
    uint32_t frame;      /* number of the last frame that the peer has used */
    uint8_t reserved1[52];
};

struct xen_zcopy_control_page {
    struct xen_zcopy_owner owner;
    struct xen_zcopy_peer peer;
    uint8_t reserved[3968];
};

/*
 * A page of the grant directory. displif, sndif and cameraif use the same structure
 * (struct xendispl_page_directory in Xen's public/io/displif.h).
 */
#define XEN_ZCOPY_DIRECTORY_REFERENCES 1023
struct xen_zcopy_directory_page {
    uint32_t next;       /* grant reference of the next directory page, 0 at the end */
    uint32_t references[XEN_ZCOPY_DIRECTORY_REFERENCES];
};

#ifdef __cplusplus
#define XEN_ZCOPY_ASSERT static_assert
#else
#define XEN_ZCOPY_ASSERT _Static_assert
#endif
XEN_ZCOPY_ASSERT(sizeof(struct xen_zcopy_owner) == 64, "the owner's half is 64 bytes");
XEN_ZCOPY_ASSERT(sizeof(struct xen_zcopy_peer) == 64, "the peer's half is 64 bytes");
XEN_ZCOPY_ASSERT(sizeof(struct xen_zcopy_control_page) == 4096, "the control page is one grant page");
XEN_ZCOPY_ASSERT(sizeof(struct xen_zcopy_directory_page) == 4096, "a directory page is one grant page");

#endif
