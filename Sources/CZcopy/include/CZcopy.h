// What the Swift modules import from C: the wire format, and shims for what Swift cannot import.
#ifndef CZCOPY_H
#define CZCOPY_H

#include "dma-buf-shims.h"
#include "linux-shims.h"
#include "shared-memory.h"
#include "xen-shims.h"
#include "xen-zcopy.h"

#endif
