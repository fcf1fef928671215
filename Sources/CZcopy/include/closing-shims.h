// Closing that nobody waits for.
#ifndef CZCOPY_CLOSING_SHIMS_H
#define CZCOPY_CLOSING_SHIMS_H

// Closes a descriptor on another thread, without waiting: close(2) waits for a TCP socket that lingers, and for the server of a
// file of FUSE. The threads, at most CZCOPY_CLOSERS_MAX, start when there is work for them, take no signals, and end with the
// process or with exec. Where no thread can be had, or as many descriptors wait as fit into a pipe, closes here.
void czcopy_close_aside(int descriptor);

// So many descriptors can keep their closing waiting before others have to wait for them.
#define CZCOPY_CLOSERS_MAX 4

// How many descriptors wait to be closed, or are being closed.
unsigned czcopy_closing_count(void);

#endif
