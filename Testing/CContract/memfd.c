#define _GNU_SOURCE
#include "CContract.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int contract_memfd(uint64_t size, int seals) {
    int memfd = memfd_create("contract", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memfd < 0)
        return -errno;
    if (ftruncate(memfd, (off_t)size) < 0 || fcntl(memfd, F_ADD_SEALS, seals) < 0) {
        int error = errno;
        close(memfd);
        return -error;
    }
    return memfd;
}
