// The process that receives and closes what clients of the daemon send along. A program that this is linked into is that process
// when it is started under the name CZCOPY_RECEIVER_NAME, before anything else of it runs; there is nothing to call.
#ifndef CRECEIVER_H
#define CRECEIVER_H
#endif
