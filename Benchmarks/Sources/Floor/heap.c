#include "floor.h"

#include <malloc.h>

void floor_keep_heap(void) {
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    mallopt(M_MMAP_THRESHOLD, 16 << 20);
}
