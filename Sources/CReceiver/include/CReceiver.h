// The receiver: the process that receives and closes the descriptors of the daemon's clients. A program that links this
// module becomes a receiver when it is started under the name CZCOPY_RECEIVER_NAME, before any other code of it runs. The
// module has no functions to call.
#ifndef CRECEIVER_H
#define CRECEIVER_H
#endif
