// Closing that nobody waits for.
#ifndef CZCOPY_CLOSING_SHIMS_H
#define CZCOPY_CLOSING_SHIMS_H

#include <stdint.h>

// Closes a descriptor that a user has chosen on another thread, without waiting: close(2) waits for a TCP socket that lingers,
// and for the server of a file of FUSE. Users have threads of their own, as far as CZCOPY_CLOSERS_MAX go, so that none keeps
// waiting what is another's. They start when there is work for them, take no signals, and end with the process or with exec.
// Where no thread can be had, or as many descriptors wait as fit into a pipe, closes here.
void czcopy_close_aside(int descriptor, uint32_t user);

// So many threads at most; users whose numbers leave the same rest share one.
#define CZCOPY_CLOSERS_MAX 16

// How many descriptors of a user wait to be closed, or are being closed.
unsigned czcopy_closing_count(uint32_t user);

#endif
