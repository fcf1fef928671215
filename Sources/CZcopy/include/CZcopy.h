// The C declarations that the Swift modules import: the wire format, and shims for calls that Swift cannot import.
#ifndef CZCOPY_H
#define CZCOPY_H

#include "dma-buf-shims.h"
#include "linux-shims.h"
#include "receiver-shims.h"
#include "shared-memory.h"
#include "socket-shims.h"
#include "xen-shims.h"
#include "xen-zcopy.h"
#include "xen-zcopyd.h"

#endif
