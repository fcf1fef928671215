// gntdev-probe: reports whether this kernel's gntdev supports dma-bufs, without side
// effects. It calls the ioctls with arguments that none accepts and reads the
// errno: an unknown ioctl fails with ENOTTY. A PV domain is refused (EINVAL) before
// the argument is read (EFAULT). Prints "export WORD" and "import WORD".
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <xen/grant_table.h>
#include <xen/sys/gntdev.h>

int main(void)
{
    struct ioctl_gntdev_dmabuf_imp_release release = { .fd = (uint32_t)-1 };
    int fd = open("/dev/xen/gntdev", O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        perror("gntdev-probe: /dev/xen/gntdev");
        return 1;
    }
    ioctl(fd, IOCTL_GNTDEV_DMABUF_EXP_FROM_REFS, NULL);
    printf("export %s\n", errno == EFAULT ? "usable" : errno == EINVAL ? "refused" : "missing");
    ioctl(fd, IOCTL_GNTDEV_DMABUF_IMP_RELEASE, &release);
    printf("import %s\n", errno == ENOENT ? "usable" : "missing");
    return 0;
}
