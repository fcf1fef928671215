// lab-import: reports the data that a device finds in a dma-buf, with /dev/lab-importer.
//
//   lab-import [OPTION...] [FD]             the dma-buf FD (default: $ZCOPY_FD)
//   lab-import [OPTION...] --heap FILE      a dma-buf of the system heap, filled with FILE
//   lab-import [OPTION...] --udmabuf FILE   a memfd, filled with FILE, as a dma-buf
//   lab-import --file FILE [BYTES]          the expected result for FILE, with zeroes up to BYTES
//
//   --direction both|to|from    of the DMA (default both)
//   --fill BYTE                 the device writes BYTE everywhere, then reads
//   --hold MS                   a child keeps the buffer attached for MS milliseconds, without a descriptor of it
//
// Prints one line: segments=17 bytes=8294400 shortest=4096 longest=1048576 crc32c=0x12345678,
// and foreign=N after bytes if the kernel knows that N pages belong to another domain.
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>

#include "importer/lab-importer.h"

static void fail(const char *what)
{
    fprintf(stderr, "lab-import: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void usage(void)
{
    fprintf(stderr, "usage: lab-import [--direction both|to|from] [--fill BYTE] [--hold MS]"
                    " [FD | --heap FILE | --udmabuf FILE]\n"
                    "       lab-import --file FILE [BYTES]\n");
    exit(64);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);

    if (end == text || *end)
        usage();
    return value;
}

// CRC32C (Castagnoli), as in iSCSI and ext4.
static uint32_t crc32c(uint32_t crc, const uint8_t *data, size_t length)
{
    static uint32_t table[256];

    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;

            for (int bit = 0; bit < 8; bit++)
                value = value >> 1 ^ (value & 1 ? 0x82f63b78 : 0);
            table[i] = value;
        }
    while (length--)
        crc = crc >> 8 ^ table[(crc ^ *data++) & 0xff];
    return crc;
}

// The contents of a file. The size is rounded up to whole pages, at least one.
static const uint8_t *contents(const char *path, size_t *file, size_t *rounded)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    uint8_t *memory;

    if (fd < 0 || fstat(fd, &status) < 0)
        fail(path);
    *file = status.st_size;
    *rounded = *file ? (*file + 4095) & ~(size_t)4095 : 4096;
    memory = mmap(NULL, *rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("memory");
    for (size_t done = 0; done < *file;) {
        ssize_t got = read(fd, memory + done, *file - done);

        if (got <= 0)
            fail(path);
        done += got;
    }
    close(fd);
    return memory;
}

static int of_file(const char *path, const char *bytes)
{
    static const uint8_t zeroes[4096];
    size_t file, rounded, length;
    const uint8_t *memory = contents(path, &file, &rounded);
    uint32_t crc;

    length = bytes ? number(bytes) : file;
    crc = crc32c(~0, memory, length < file ? length : file);
    for (size_t done = file; done < length; done += sizeof zeroes)
        crc = crc32c(crc, zeroes, length - done < sizeof zeroes ? length - done : sizeof zeroes);
    printf("bytes=%zu crc32c=0x%08x\n", length, ~crc);
    return 0;
}

static void copy_into(int fd, int dmabuf, const uint8_t *memory, size_t length)
{
    struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW };
    uint8_t *mapped = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (mapped == MAP_FAILED)
        fail("mmap");
    if (dmabuf >= 0 && ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync) < 0)
        fail("DMA_BUF_IOCTL_SYNC");
    memcpy(mapped, memory, length);
    sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW;
    if (dmabuf >= 0 && ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync) < 0)
        fail("DMA_BUF_IOCTL_SYNC");
    munmap(mapped, length);
}

static int from_heap(const char *path)
{
    int heap = open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC);
    struct dma_heap_allocation_data data = { .fd_flags = O_RDWR | O_CLOEXEC };
    size_t file, rounded;
    const uint8_t *memory = contents(path, &file, &rounded);

    data.len = rounded;
    if (heap < 0 || ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) < 0)
        fail("/dev/dma_heap/system");
    copy_into(data.fd, data.fd, memory, rounded);
    return data.fd;
}

static int from_memfd(const char *path)
{
    int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
    int memfd = memfd_create("lab-import", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    size_t file, rounded;
    const uint8_t *memory = contents(path, &file, &rounded);
    struct udmabuf_create create = { .memfd = memfd, .flags = UDMABUF_FLAGS_CLOEXEC, .size = rounded };
    int fd;

    if (memfd < 0 || ftruncate(memfd, rounded) < 0 || fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
        fail("memfd");
    copy_into(memfd, -1, memory, rounded);
    fd = device < 0 ? -1 : ioctl(device, UDMABUF_CREATE, &create);
    if (fd < 0)
        fail("/dev/udmabuf");
    return fd;
}

static int open_importer(void)
{
    int fd = open("/dev/lab-importer", O_RDWR | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT && system("modprobe lab-importer") == 0)
        fd = open("/dev/lab-importer", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        fail("/dev/lab-importer");
    return fd;
}

// A child keeps `importer` open. It closes all other descriptors, so that only the
// attachment holds the buffer.
static void hold(int importer, unsigned milliseconds)
{
    if (fork() != 0)
        return;
    setsid();
    dup2(importer, 3);
    close_range(4, ~0U, 0);
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    usleep(milliseconds * 1000);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct lab_import import = { .fd = -1 };
    const char *inherited = getenv("ZCOPY_FD");
    unsigned milliseconds = 0;
    int importer;

    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = argv[i + 1];

        if (*option != '-') {
            import.fd = number(option);
            continue;
        }
        if (!value)
            usage();
        i++;
        if (!strcmp(option, "--file")) {
            return of_file(value, argv[i + 1]);
        } else if (!strcmp(option, "--heap")) {
            import.fd = from_heap(value);
        } else if (!strcmp(option, "--udmabuf")) {
            import.fd = from_memfd(value);
        } else if (!strcmp(option, "--direction")) {
            import.direction = !strcmp(value, "both") ? 0 : !strcmp(value, "to") ? 1
                             : !strcmp(value, "from") ? 2 : (usage(), 0);
        } else if (!strcmp(option, "--fill")) {
            import.flags |= LAB_IMPORT_FILL;
            import.fill = number(value);
        } else if (!strcmp(option, "--hold")) {
            import.flags |= LAB_IMPORT_HOLD;
            milliseconds = number(value);
        } else {
            usage();
        }
    }
    if (import.fd < 0) {
        if (!inherited)
            usage();
        import.fd = number(inherited);
    }

    importer = open_importer();
    if (ioctl(importer, LAB_IMPORT, &import) < 0)
        fail("cannot import");
    printf("segments=%u bytes=%llu", import.segments, (unsigned long long)import.bytes);
    if (import.foreign)
        printf(" foreign=%u", import.foreign);
    printf(" shortest=%llu longest=%llu crc32c=0x%08x\n", (unsigned long long)import.shortest,
           (unsigned long long)import.longest, import.crc32c);
    fflush(stdout);
    if (import.flags & LAB_IMPORT_HOLD)
        hold(importer, milliseconds);
    return 0;
}
